//! Identity of this device: its key and certificate, the server it belongs to and the copies of that server's
//! certificates.
//!
//! Kept in two slots ([`AbSlots`]), mode 0600, so that a power cut while it is written can't cost the device
//! its place in the fleet.

use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

use zeroize::{Zeroize as _, Zeroizing};

use super::ab_slots::{AbSlots, SLOT_CONTENT_BYTES_MAX, SlotError};
use crate::machine::credentials::Credential as Shown;
use crate::wire::bounded;
pub use crate::wire::certificate::KeyType;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::limits::DATAGRAM_KEY_BYTES;
use crate::wire::message::{Enrolled, Trust, decode_pins, encode_pins};
use crate::wire::time::WallTime;

fn algorithm(key_type: KeyType) -> &'static SignatureAlgorithm {
    match key_type {
        KeyType::Ed25519 => &rcgen::PKCS_ED25519,
        KeyType::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
    }
}

/// Key of a renewed certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RenewalKey {
    /// A new one with each certificate: a copy of the old one is of no more use.
    #[default]
    New,
    /// The one in use, for as long as it is of the right kind.
    Same,
}

/// Identity of this device.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Identity {
    /// The server's address: a host and a port.
    #[cbor(n(0), decode_with = "bounded::message")]
    pub server: String,
    /// The device's id.
    #[n(1)]
    pub device: DeviceId,
    /// The device's name in the fleet.
    #[cbor(n(2), decode_with = "bounded::name")]
    pub name: String,
    /// The private key, PKCS #8 (RFC 5958), DER.
    #[cbor(n(3), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub private_key: Vec<u8>,
    /// The device's certificate, DER.
    #[cbor(n(4), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub certificate: Vec<u8>,
    /// Copies of the server's certificates, DER: no other server is spoken to.
    #[cbor(n(5), encode_with = "encode_pins", decode_with = "decode_pins")]
    pub pins: Vec<Vec<u8>>,
    /// Key of the datagrams that wake this device.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub wake_key: [u8; DATAGRAM_KEY_BYTES],
    /// Key of the datagrams in which it says that it shuts down.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub notice_key: [u8; DATAGRAM_KEY_BYTES],
    /// When it enrolled, by the device's clock.
    #[n(8)]
    pub enrolled_at: WallTime,
    /// Names what it trusts ([`Trust`]); 0: nothing does.
    #[cbor(n(9), default)]
    pub trust_label: u64,
    /// The lowest number of a voucher of the recovery key that it accepts.
    #[cbor(n(10), default)]
    pub voucher_floor: u32,
    /// Key and certificate before the renewal that has not proved itself yet.
    #[n(11)]
    pub previous: Option<Credential>,
}

/// A key, and the certificate for it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Credential {
    /// The private key, PKCS #8 (RFC 5958), DER.
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub private_key: Vec<u8>,
    /// The certificate, DER.
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    pub certificate: Vec<u8>,
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl Identity {
    /// The same device showing this one of its certificates; `None`: it is not there.
    #[must_use]
    pub fn showing(mut self, shown: Shown) -> Option<Self> {
        if shown == Shown::Previous {
            let Credential { private_key, certificate } = &mut *self.previous.as_mut()?;
            std::mem::swap(private_key, &mut self.private_key);
            std::mem::swap(certificate, &mut self.certificate);
        }
        Some(self)
    }

    /// The same device without this one of its certificates; the other one is the only one then.
    #[must_use]
    pub fn without(self, forgotten: Shown) -> Option<Self> {
        let kept = if forgotten == Shown::Previous { Shown::Newest } else { Shown::Previous };
        let mut identity = self.showing(kept)?;
        identity.previous = None;
        Some(identity)
    }

    /// The same device with a renewed certificate, beside which the one in use is kept.
    #[must_use]
    pub fn renewed(mut self, candidate: Candidate, certificate: Vec<u8>) -> Self {
        let Candidate { mut private_key, .. } = candidate;
        self.previous = Some(Credential {
            private_key: std::mem::replace(&mut self.private_key, std::mem::take(&mut *private_key)),
            certificate: std::mem::replace(&mut self.certificate, certificate),
        });
        self
    }

    /// The same device trusting this, and nothing else.
    #[must_use]
    pub fn trusting(mut self, trust: &Trust) -> Self {
        self.pins.clone_from(&trust.pins);
        (self.trust_label, self.voucher_floor) = (trust.label, trust.voucher_floor);
        (self.wake_key, self.notice_key) = (trust.wake_key, trust.notice_key);
        self
    }

    /// The kind of its key, by its certificate.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        KeyType::of(&self.certificate)
    }

    /// Wipes the private key, once it is where TLS needs it.
    pub fn forget_private_key(&mut self) {
        self.private_key.zeroize();
        self.previous = None;
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.private_key.zeroize();
        self.wake_key.zeroize();
        self.notice_key.zeroize();
    }
}

impl std::fmt::Debug for Identity {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("device", &self.device)
            .field("name", &self.name)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Why there is no identity to use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Both slots are damaged, or what they hold is no identity.
    /// Names their directory, and the fault.
    #[error(
        "the device's identity in {} is damaged ({}): enrol again with 'muster-agent enroll --force' and a new token, and remove the old device on the server",
        .0.display(), .1
    )]
    Damaged(PathBuf, String),
    /// There is none in this directory.
    #[error("this device has not enrolled (no identity in {}): muster-agent enroll --server HOST --token-file FILE", .0.display())]
    NotEnrolled(PathBuf),
    /// The system refused.
    #[error("the device's identity can't be read or written: {0}")]
    AbSlots(SlotError),
    /// No key or request could be made.
    #[error("no key could be made: {0}")]
    Key(#[from] rcgen::Error),
}

const SLOT_NAME: &str = "identity";

impl Identity {
    /// Reads the identity in `directory`; `None` when the device was never enrolled.
    ///
    /// # Errors
    /// When it is damaged or the system refuses.
    pub fn read(directory: &Path) -> Result<Option<Self>, IdentityError> {
        Self::read_slots(directory, SLOT_NAME)
    }

    /// Reads the identity in `directory`, which must be there.
    ///
    /// # Errors
    /// When the device was never enrolled, it is damaged or the system refuses.
    pub fn read_enrolled(directory: &Path) -> Result<Self, IdentityError> {
        Self::read(directory)?.ok_or_else(|| IdentityError::NotEnrolled(directory.to_owned()))
    }

    /// Reads the identity that is kept under another name than the one that counts.
    pub(super) fn read_slots(directory: &Path, name: &'static str) -> Result<Option<Self>, IdentityError> {
        let damaged = |what: String| IdentityError::Damaged(directory.to_owned(), what);
        match AbSlots::new(directory, name).read() {
            Ok(None) => Ok(None),
            Ok(Some(content)) => {
                minicbor::decode(&content).map(Some).map_err(|error| damaged(error.to_string()))
            }
            Err(SlotError::Damaged(_)) => Err(damaged("neither copy is valid".to_owned())),
            Err(error) => Err(IdentityError::AbSlots(error)),
        }
    }

    /// Stores the identity in `directory`; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, directory: &Path) -> Result<(), IdentityError> {
        self.write_slots(directory, SLOT_NAME)
    }

    /// Removes the identity in `directory`, when there is one; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(directory: &Path) -> Result<(), SlotError> {
        AbSlots::new(directory, SLOT_NAME).remove()
    }

    /// Stores it under another name than the one that counts.
    pub(super) fn write_slots(&self, directory: &Path, name: &'static str) -> Result<(), IdentityError> {
        // Large enough at once: a buffer that grows leaves copies behind.
        let mut content = Zeroizing::new(Vec::with_capacity(SLOT_CONTENT_BYTES_MAX));
        // Writing to a vector can't fail.
        let _ = minicbor::encode(self, &mut *content);
        AbSlots::new(directory, name).write(&content).map_err(IdentityError::AbSlots)
    }

    /// The SHA-256 of each stored copy of the server's certificates.
    #[must_use]
    pub fn pin_hashes(&self) -> Vec<CertificateHash> {
        self.pins.iter().map(|pin| CertificateHash::of(pin)).collect()
    }
}

const CANDIDATE_SLOT: &str = "identity-candidate";

/// A key with which a server was asked to enrol the device, until the device is enrolled.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Asking {
    /// The server's address.
    #[cbor(n(0), decode_with = "bounded::message")]
    server: String,
    /// The private key, PKCS #8, DER.
    #[cbor(n(1), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    private_key: Vec<u8>,
    /// PKCS #10 request, DER.
    #[cbor(n(2), encode_with = "minicbor::bytes::encode", decode_with = "bounded::certificate")]
    request: Vec<u8>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// A key that has no certificate yet, and the request for one.
pub struct Candidate {
    /// The private key, PKCS #8, DER.
    private_key: Zeroizing<Vec<u8>>,
    /// PKCS #10 request (RFC 2986), DER.
    pub request: Vec<u8>,
}

impl Candidate {
    /// Makes a key and a request for it.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn new(key_type: KeyType, name: &str) -> Result<Self, IdentityError> {
        Self::of(&KeyPair::generate_for(algorithm(key_type))?, name)
    }

    /// The key with which this server was asked before, and true; or a new one, which is durable in
    /// `directory` when this returns: when the answer is lost, the server knows the key, and the device is
    /// the same.
    ///
    /// # Errors
    /// When the cryptographic library or the system refuses.
    pub fn to_ask(
        directory: &Path,
        server: &str,
        key_type: KeyType,
        name: &str,
    ) -> Result<(Self, bool), IdentityError> {
        let slots = AbSlots::new(directory, CANDIDATE_SLOT);
        // A torn one has asked nobody.
        let before = slots.read().ok().flatten();
        let before = before.and_then(|content| minicbor::decode::<Asking>(&content).ok());
        let is_of_kind = |asking: &Asking| {
            let key = KeyPair::try_from(asking.private_key.as_slice());
            key.is_ok_and(|key| key.is_compatible(algorithm(key_type)))
        };
        if let Some(mut asking) = before.filter(|asking| asking.server == server && is_of_kind(asking)) {
            let private_key = Zeroizing::new(std::mem::take(&mut asking.private_key));
            return Ok((Self { private_key, request: std::mem::take(&mut asking.request) }, true));
        }
        let candidate = Self::new(key_type, name)?;
        let (private_key, request) = (candidate.private_key.to_vec(), candidate.request.clone());
        let asking = Asking { server: server.to_owned(), private_key, request };
        let mut content = Zeroizing::new(Vec::with_capacity(SLOT_CONTENT_BYTES_MAX));
        let _ = minicbor::encode(&asking, &mut *content);
        slots.write(&content).map_err(IdentityError::AbSlots)?;
        Ok((candidate, false))
    }

    /// Forgets the key [with which a server was asked](Candidate::to_ask).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forget(directory: &Path) -> Result<(), SlotError> {
        AbSlots::new(directory, CANDIDATE_SLOT).remove()
    }

    /// Makes a request for a key that is there: PKCS #8, DER.
    ///
    /// # Errors
    /// When that is no key, or the cryptographic library refuses.
    pub fn again(private_key: &[u8], name: &str) -> Result<Self, IdentityError> {
        Self::of(&KeyPair::try_from(private_key)?, name)
    }

    fn of(key: &KeyPair, name: &str) -> Result<Self, IdentityError> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let request = parameters.serialize_request(key)?;
        Ok(Self { private_key: Zeroizing::new(key.serialize_der()), request: request.der().to_vec() })
    }

    /// The identity that the server's answer makes of it.
    #[must_use]
    pub fn into_identity(mut self, enrolled: Enrolled, server: String, now: WallTime) -> Identity {
        Identity {
            server,
            device: enrolled.device,
            name: enrolled.name,
            private_key: std::mem::take(&mut *self.private_key),
            certificate: enrolled.certificate,
            pins: enrolled.pins,
            wake_key: enrolled.wake_key,
            notice_key: enrolled.notice_key,
            enrolled_at: now,
            trust_label: enrolled.trust_label,
            voucher_floor: enrolled.voucher_floor,
            previous: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Identity {
        Identity {
            server: "localhost:13000".into(),
            device: DeviceId(7),
            name: "kiosk-17".into(),
            private_key: vec![1; 48],
            certificate: vec![2; 500],
            pins: vec![vec![3; 400], vec![4; 400]],
            wake_key: [5; 32],
            notice_key: [6; 32],
            enrolled_at: WallTime(1_795_514_400_000),
            trust_label: 8,
            voucher_floor: 9,
            previous: Some(Credential { private_key: vec![7; 48], certificate: vec![8; 500] }),
        }
    }

    #[test]
    fn an_identity_survives_its_slots_and_shows_no_key() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(directory.path()).unwrap(), None);
        example().write(directory.path()).unwrap();
        assert_eq!(Identity::read(directory.path()).unwrap(), Some(example()));
        assert!(!format!("{:?}", example()).contains("key"));
    }

    /// Every byte of either slot may be damaged and the identity is still there; with both damaged the error
    /// says what to do.
    #[test]
    fn a_damaged_slot_costs_nothing_and_two_are_named() {
        let directory = tempfile::tempdir().unwrap();
        example().write(directory.path()).unwrap();
        example().write(directory.path()).unwrap();
        for slot in ["identity.a", "identity.b"] {
            let path = directory.path().join(slot);
            let good = std::fs::read(&path).unwrap();
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x40;
                std::fs::write(&path, &bad).unwrap();
                assert_eq!(Identity::read(directory.path()).unwrap(), Some(example()), "{slot} byte {at}");
            }
            std::fs::write(&path, good).unwrap();
        }
        for slot in ["identity.a", "identity.b"] {
            std::fs::write(directory.path().join(slot), "").unwrap();
        }
        let error = Identity::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("enroll --force"), "{error}");
    }

    #[test]
    fn a_renewal_keeps_the_certificate_in_use_and_either_can_be_forgotten() {
        let pair = |identity: &Identity| (identity.private_key.clone(), identity.certificate.clone());
        let mut settled = example();
        settled.previous = None;
        let old = pair(&settled);
        let candidate = Candidate::new(KeyType::P256, "kiosk-17").unwrap();
        let new = (candidate.private_key.to_vec(), vec![9; 450]);
        let renewed = settled.clone().renewed(candidate, vec![9; 450]);
        assert_eq!(pair(&renewed), new);
        assert_eq!(pair(&renewed.clone().showing(Shown::Previous).unwrap()), old);
        assert_eq!(pair(&renewed.clone().without(Shown::Newest).unwrap()), old);
        let proved = renewed.clone().without(Shown::Previous).unwrap();
        assert_eq!((pair(&proved), proved.previous.is_none()), (new, true));
        assert!(settled.clone().showing(Shown::Previous).is_none());
    }

    /// Whatever part of a write reached the medium, at each step of a renewal the device has a certificate
    /// that the server knows: the one in use until the new one is proved, and the new one after that.
    #[test]
    fn a_renewal_that_is_cut_off_at_any_byte_leaves_one_that_works() {
        let mut settled = example();
        settled.previous = None;
        let candidate = Candidate::new(KeyType::Ed25519, "kiosk-17").unwrap();
        let renewed = settled.clone().renewed(candidate, vec![9; 450]);
        let proved = renewed.clone().without(Shown::Previous).unwrap();
        for (before, after, known) in
            [(&settled, &renewed, &settled.certificate), (&renewed, &proved, &renewed.certificate)]
        {
            let directory = tempfile::tempdir().unwrap();
            before.write(directory.path()).unwrap();
            let slots = ["identity.a", "identity.b"].map(|slot| directory.path().join(slot));
            let was_there = slots.clone().map(|path| std::fs::read(path).ok());
            after.write(directory.path()).unwrap();
            let (path, whole) = slots
                .iter()
                .zip(was_there)
                .map(|(path, before)| (path, before, std::fs::read(path).ok()))
                .find_map(|(path, before, now)| (before != now).then_some((path, now?)))
                .unwrap();
            for cut in 0..=whole.len() {
                std::fs::write(path, &whole[..cut]).unwrap();
                let found = Identity::read(directory.path()).unwrap().unwrap();
                assert!(found == *before || found == *after, "cut at {cut}");
                let previous = found.previous.as_ref().map(|previous| &previous.certificate);
                assert!(found.certificate == *known || previous == Some(known), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_key_asks_the_same_server_again_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let ask = |server, key_type| {
            let (candidate, _) = Candidate::to_ask(directory.path(), server, key_type, "kiosk-17").unwrap();
            (candidate.private_key.to_vec(), candidate.request)
        };
        let first = ask("one:13000", KeyType::P256);
        assert_eq!(ask("one:13000", KeyType::P256), first);
        let of_other_kind = ask("one:13000", KeyType::Ed25519);
        assert_ne!(of_other_kind, first);
        let of_other = ask("two:13000", KeyType::Ed25519);
        assert_ne!(of_other, of_other_kind);
        assert_eq!(ask("two:13000", KeyType::Ed25519), of_other);
        Candidate::forget(directory.path()).unwrap();
        assert_ne!(ask("two:13000", KeyType::Ed25519), of_other);
    }

    #[test]
    fn both_kinds_of_key_make_a_request() {
        for key_type in [KeyType::Ed25519, KeyType::P256] {
            let candidate = Candidate::new(key_type, "kiosk-17").unwrap();
            assert!(candidate.request.len() < crate::wire::limits::CERTIFICATE_BYTES_MAX);
            assert!(!candidate.private_key.is_empty());
        }
    }
}
