//! Which server a device accepts: one whose certificate equals a pin, byte for byte, or one whose public key
//! a pinned key vouches for.
//!
//! A voucher is a certificate behind the server's own, signed with Ed25519 by a key that is trusted already,
//! for the key that shall be trusted. So the key of `[tls]` files is accepted that the pinned key has signed,
//! and after a rotation that a device slept through the new key, which the recovery key has signed. Vouchers
//! are numbered; a device that was told of a higher number takes no lower one any more, so that a key of the
//! server that was stolen long ago is of no use with the voucher that it had then. No date is looked at.

use crate::wire::certificate::{ed25519_key, is_signed_by, public_key_info, voucher_number};
use crate::wire::id::CertificateHash;

/// Most certificates behind the server's own that are looked at.
pub const CHAIN_MAX: usize = 8;

/// Most vouchers from a pinned key to the server's.
pub const VOUCHERS_MAX: usize = 4;

/// The only servers that are accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExpectedServer {
    /// Those whose certificate equals one of these copies, and those for whose key one of their keys vouches.
    Pins {
        /// The certificates, DER.
        pins: Vec<Vec<u8>>,
        /// The lowest number of a voucher that counts.
        voucher_floor: u32,
    },
    /// While enrolling: the server whose certificate has the SHA-256 that the join token names, or that shows
    /// this certificate behind its own, with its voucher.
    Hash(CertificateHash),
}

/// Why a server is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Untrusted {
    /// Neither its certificate nor a voucher is of a key that is trusted.
    #[error("nothing that is trusted here vouches for it")]
    Foreign,
    /// Its voucher was replaced by a later one.
    #[error(
        "its voucher has number {number}, and this device takes {least} and above: the server's key was replaced since"
    )]
    Replaced {
        /// The voucher's number.
        number: u32,
        /// The lowest that counts.
        least: u32,
    },
}

impl ExpectedServer {
    /// The servers with these certificates (DER), and those for which any voucher of theirs speaks.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn of_pins(pins: Vec<Vec<u8>>) -> Self {
        Self::Pins { pins, voucher_floor: 0 }
    }

    /// Checks the server that shows these certificates, DER, its own first.
    ///
    /// # Errors
    /// [`Untrusted`] when it is not to be spoken to.
    pub fn check(&self, own: &[u8], behind: &[&[u8]]) -> Result<(), Untrusted> {
        let behind = &behind[..behind.len().min(CHAIN_MAX)];
        match self {
            Self::Pins { pins, .. } if pins.iter().any(|pin| pin == own) => Ok(()),
            Self::Pins { pins, voucher_floor } => {
                let pinned = pins.iter().filter_map(|pin| ed25519_key(pin)).collect();
                vouched(own, behind, pinned, *voucher_floor)
            }
            Self::Hash(hash) if CertificateHash::of(own) == *hash => Ok(()),
            Self::Hash(hash) => {
                let named = behind.iter().filter(|certificate| CertificateHash::of(certificate) == *hash);
                vouched(own, behind, named.filter_map(|certificate| ed25519_key(certificate)).collect(), 0)
            }
        }
    }
}

/// Follows vouchers from these keys, nearest first. Each voucher is checked against each key once, so that a
/// chain of garbage costs [`CHAIN_MAX`] checks for each key, and a circle ends.
fn vouched<'c>(
    own: &[u8],
    behind: &[&'c [u8]],
    mut keys: Vec<&'c [u8]>,
    least: u32,
) -> Result<(), Untrusted> {
    let Some(wanted) = public_key_info(own) else { return Err(Untrusted::Foreign) };
    let mut refusal = Untrusted::Foreign;
    let mut vouchers: Vec<(u32, &[u8])> =
        behind.iter().filter_map(|certificate| Some((voucher_number(certificate)?, *certificate))).collect();
    for _ in 0..VOUCHERS_MAX {
        let mut found = Vec::new();
        vouchers.retain(|(number, voucher)| {
            if !keys.iter().any(|key| is_signed_by(voucher, key)) {
                return true;
            }
            if *number < least {
                refusal = Untrusted::Replaced { number: *number, least };
            } else {
                found.push(*voucher);
            }
            false
        });
        if found.iter().any(|voucher| public_key_info(voucher) == Some(wanted)) {
            return Ok(());
        }
        keys = found.into_iter().filter_map(ed25519_key).collect();
    }
    Err(refusal)
}

// Certificates are made by what the server and the agent have for that.
#[cfg(test)]
#[cfg(any(feature = "server", feature = "agent"))]
mod tests {
    use proptest::prelude::*;
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
        SerialNumber,
    };

    use super::*;
    use crate::wire::certificate::{SERIAL_BYTES, SERIAL_MARK, VOUCHER_MARK};

    fn key() -> KeyPair {
        KeyPair::generate_for(&PKCS_ED25519).unwrap()
    }

    fn parameters(mark: u8, number: u32) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, "muster");
        let mut serial = [7; SERIAL_BYTES];
        serial[0] = mark;
        serial[1..5].copy_from_slice(&number.to_be_bytes());
        parameters.serial_number = Some(SerialNumber::from_slice(&serial));
        parameters
    }

    fn certificate(of: &KeyPair) -> Vec<u8> {
        parameters(SERIAL_MARK, 0).self_signed(of).unwrap().der().to_vec()
    }

    fn signed(mark: u8, number: u32, of: &KeyPair, by: &KeyPair) -> Vec<u8> {
        let issuer = Issuer::new(parameters(SERIAL_MARK, 0), by);
        parameters(mark, number).signed_by(of, &issuer).unwrap().der().to_vec()
    }

    fn voucher(number: u32, of: &KeyPair, by: &KeyPair) -> Vec<u8> {
        signed(VOUCHER_MARK, number, of, by)
    }

    fn trusting(pins: &[&KeyPair], voucher_floor: u32) -> ExpectedServer {
        ExpectedServer::Pins { pins: pins.iter().map(|key| certificate(key)).collect(), voucher_floor }
    }

    fn check(trusted: &ExpectedServer, own: &[u8], behind: &[Vec<u8>]) -> Result<(), Untrusted> {
        trusted.check(own, &behind.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn a_pin_is_enough_and_without_one_a_voucher_is_needed() {
        let (server, recovery, foreign) = (key(), key(), key());
        let trusted = trusting(&[&server, &recovery], 3);
        assert_eq!(check(&trusted, &certificate(&server), &[]), Ok(()));
        assert_eq!(check(&trusted, &certificate(&foreign), &[]), Err(Untrusted::Foreign));
        // The same key in another certificate is no pin, and nobody vouches for it.
        assert_eq!(check(&trusted, &signed(SERIAL_MARK, 0, &server, &foreign), &[]), Err(Untrusted::Foreign));
        assert_eq!(
            check(&trusting(&[], 0), &certificate(&server), &[certificate(&server)]),
            Err(Untrusted::Foreign)
        );
    }

    #[test]
    fn the_recovery_key_vouches_from_its_number_on() {
        let (old, new, recovery) = (key(), key(), key());
        let trusted = trusting(&[&old, &recovery], 3);
        for (number, expected) in
            [(2, Err(Untrusted::Replaced { number: 2, least: 3 })), (3, Ok(())), (u32::MAX, Ok(()))]
        {
            assert_eq!(check(&trusted, &certificate(&new), &[voucher(number, &new, &recovery)]), expected);
        }
        // The device has synced with the new key, and somebody shows it the old one.
        let synced = trusting(&[&new, &recovery], 3);
        let stolen = check(&synced, &certificate(&old), &[voucher(2, &old, &recovery)]);
        assert_eq!(stolen, Err(Untrusted::Replaced { number: 2, least: 3 }));
    }

    #[test]
    fn a_voucher_is_for_a_key_of_any_kind_whatever_certificate_shows_it() {
        let (server, authority) = (key(), key());
        let files = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let shown = signed(SERIAL_MARK, 1, &files, &authority);
        let vouched = voucher(9, &files, &server);
        assert_eq!(check(&trusting(&[&server], 0), &shown, std::slice::from_ref(&vouched)), Ok(()));
        assert_eq!(check(&trusting(&[&authority], 0), &shown, &[vouched]), Err(Untrusted::Foreign));
        // Renewed with the same key: the voucher stays good.
        let renewed = signed(SERIAL_MARK, 2, &files, &key());
        assert_eq!(check(&trusting(&[&server], 0), &renewed, &[voucher(9, &files, &server)]), Ok(()));
    }

    #[test]
    fn vouchers_lead_on_in_any_order_four_deep_and_no_further() {
        let keys: Vec<KeyPair> = std::iter::repeat_with(key).take(6).collect();
        let link = |at: usize| voucher(1, &keys[at + 1], &keys[at]);
        let trusted = trusting(&[&keys[0]], 0);
        assert_eq!(check(&trusted, &certificate(&keys[4]), &[link(3), link(1), link(0), link(2)]), Ok(()));
        let five = [link(4), link(3), link(2), link(1), link(0)];
        assert_eq!(check(&trusted, &certificate(&keys[5]), &five), Err(Untrusted::Foreign));
        let gap = [link(0), link(2), link(3)];
        assert_eq!(check(&trusted, &certificate(&keys[4]), &gap), Err(Untrusted::Foreign));
    }

    #[test]
    fn what_is_no_voucher_vouches_for_nothing() {
        let (server, thief) = (key(), key());
        let trusted = trusting(&[&server], 0);
        // Signed by the pinned key, but as another kind of certificate.
        let other = signed(SERIAL_MARK, 9, &thief, &server);
        assert_eq!(check(&trusted, &certificate(&thief), &[other]), Err(Untrusted::Foreign));
        // A voucher for another key, one by itself, two for each other.
        let circle = [voucher(9, &thief, &thief), voucher(9, &server, &thief), voucher(9, &thief, &key())];
        assert_eq!(check(&trusted, &certificate(&thief), &circle), Err(Untrusted::Foreign));
        // Beyond as many as are looked at.
        let good = voucher(9, &thief, &server);
        let mut many = vec![certificate(&server); CHAIN_MAX];
        many.push(good.clone());
        assert_eq!(check(&trusted, &certificate(&thief), &many), Err(Untrusted::Foreign));
        assert_eq!(check(&trusted, &certificate(&thief), &many[1..]), Ok(()));
        assert_eq!(check(&trusted, b"no certificate", &[good]), Err(Untrusted::Foreign));
    }

    #[test]
    fn no_changed_byte_of_a_voucher_passes() {
        let (server, files) = (key(), key());
        let (trusted, shown, whole) =
            (trusting(&[&server], 5), certificate(&files), voucher(5, &files, &server));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(check(&trusted, &shown, &[changed]).is_err(), "byte {at}");
            assert!(check(&trusted, &shown, &[whole[..at].to_vec()]).is_err(), "{at} bytes");
        }
        assert_eq!(check(&trusted, &shown, &[whole]), Ok(()));
    }

    #[test]
    fn a_token_names_the_certificate_at_the_front_or_behind_it() {
        let (server, files, other) = (key(), key(), key());
        let trusted = ExpectedServer::Hash(CertificateHash::of(&certificate(&server)));
        assert_eq!(check(&trusted, &certificate(&server), &[]), Ok(()));
        let behind = [voucher(0, &files, &server), certificate(&server)];
        assert_eq!(check(&trusted, &certificate(&files), &behind), Ok(()));
        // To show the certificate is no art: its key must have signed.
        let behind = [voucher(0, &files, &other), certificate(&server)];
        assert_eq!(check(&trusted, &certificate(&files), &behind), Err(Untrusted::Foreign));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_panic(
            own in prop::collection::vec(any::<u8>(), 0..80),
            behind in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..12),
        ) {
            let trusted = trusting(&[&key()], 0);
            prop_assert_eq!(check(&trusted, &own, &behind), Err(Untrusted::Foreign));
        }
    }
}
