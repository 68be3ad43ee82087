//! A traffic secret, what is derived from it (RFC 8446 sections 7.1 to 7.3), and one direction of a link: its
//! secret, and the number of its next record.

use std::fmt;

use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::{constant_time, hkdf};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::CryptoFailed;
use super::suite::Suite;

/// Longest traffic secret: SHA-384 gives it.
pub(super) const SECRET_BYTES_MAX: usize = 48;

/// Longest key of a suite.
pub(super) const KEY_BYTES_MAX: usize = 32;

// `HkdfLabel` (RFC 8446 section 7.1) between its length and its empty context: how long the label is, and the
// label.
const KEY: &[u8] = b"\x09tls13 key";
const IV: &[u8] = b"\x08tls13 iv";
const NEXT: &[u8] = b"\x11tls13 traffic upd";

/// A traffic secret. It is not copied, not shown, and wiped when it is dropped; who moves it leaves a copy
/// behind on the stack, which nothing in safe code can help.
///
/// Room for the longest is kept in place. The suite that both ends prefer leaves 16 bytes of it unused, as
/// many as its key has: the key stands there with its initialization vector, so that a burst need not derive
/// them, which is most of what a burst of one record takes. The others derive theirs each time, since room
/// for their keys would cost every link as much.
pub(super) struct Secret {
    /// The secret, and behind it the key, where there is one.
    bytes: [u8; SECRET_BYTES_MAX],
    /// That of the key behind the secret.
    iv: [u8; NONCE_LEN],
}

/// The suite whose key stands behind its secret.
const KEPT: Suite = Suite::Aes128Gcm;

impl Secret {
    /// From its bytes. `None` when there are not as many as the suite's secrets have, or when its key can't
    /// be derived.
    #[must_use]
    pub(super) fn new(suite: Suite, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != suite.secret_bytes() {
            return None;
        }
        let mut secret = Self { bytes: [0; SECRET_BYTES_MAX], iv: [0; NONCE_LEN] };
        secret.bytes[..bytes.len()].copy_from_slice(bytes);
        secret.keep_key(suite).ok()?;
        Some(secret)
    }

    /// Becomes the secret of the next generation (`application_traffic_secret_N+1`, RFC 8446 section 7.2).
    /// There is no way back.
    pub(super) fn advance(&mut self, suite: Suite) -> Result<(), CryptoFailed> {
        let mut next = Zeroizing::new([0; SECRET_BYTES_MAX]);
        let next = &mut next[..suite.secret_bytes()];
        expand(&self.expander(suite), NEXT, next)?;
        self.bytes[..next.len()].copy_from_slice(next);
        self.keep_key(suite)
    }

    /// The key and the initialization vector of records (RFC 8446 section 7.3).
    pub(super) fn traffic_key(&self, suite: Suite) -> Result<TrafficKey, CryptoFailed> {
        if suite != KEPT {
            return self.derive(suite);
        }
        let mut kept = TrafficKey { key: [0; KEY_BYTES_MAX], key_bytes: suite.aead().key_len(), iv: self.iv };
        kept.key[..kept.key_bytes].copy_from_slice(&self.bytes[suite.secret_bytes()..]);
        Ok(kept)
    }

    /// Derives the key of the present generation and keeps it, where there is room.
    fn keep_key(&mut self, suite: Suite) -> Result<(), CryptoFailed> {
        if suite == KEPT {
            let derived = self.derive(suite)?;
            self.bytes[suite.secret_bytes()..].copy_from_slice(derived.key());
            self.iv = derived.iv;
        }
        Ok(())
    }

    fn derive(&self, suite: Suite) -> Result<TrafficKey, CryptoFailed> {
        let mut derived =
            TrafficKey { key: [0; KEY_BYTES_MAX], key_bytes: suite.aead().key_len(), iv: [0; NONCE_LEN] };
        let expander = self.expander(suite);
        expand(&expander, KEY, &mut derived.key[..derived.key_bytes])?;
        expand(&expander, IV, &mut derived.iv)?;
        Ok(derived)
    }

    fn expander(&self, suite: Suite) -> hkdf::Prk {
        hkdf::Prk::new_less_safe(suite.hkdf(), &self.bytes[..suite.secret_bytes()])
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.bytes.zeroize();
        self.iv.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A key and its initialization vector, for as long as it takes to set a cipher up. Wiped when it is dropped.
pub(super) struct TrafficKey {
    key: [u8; KEY_BYTES_MAX],
    key_bytes: usize,
    iv: [u8; NONCE_LEN],
}

impl TrafficKey {
    pub(super) fn key(&self) -> &[u8] {
        &self.key[..self.key_bytes]
    }

    pub(super) fn iv(&self) -> &[u8; NONCE_LEN] {
        &self.iv
    }

    /// Whether it is this one, compared in constant time.
    pub(super) fn is(&self, key: &[u8], iv: &[u8]) -> bool {
        // Both are compared whatever comes of the first.
        constant_time::verify_slices_are_equal(self.key(), key).is_ok()
            & constant_time::verify_slices_are_equal(&self.iv, iv).is_ok()
    }
}

impl Drop for TrafficKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
    }
}

/// `HKDF-Expand-Label` with an empty context; as many bytes as `out` has.
fn expand(secret: &hkdf::Prk, label: &[u8], out: &mut [u8]) -> Result<(), CryptoFailed> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let length = u16::try_from(out.len()).map_err(|_| CryptoFailed)?.to_be_bytes();
    let info = [&length[..], label, &[0]];
    let expanded = secret.expand(&info, Length(out.len())).map_err(|_| CryptoFailed)?;
    expanded.fill(out).map_err(|_| CryptoFailed)
}

/// One direction of a link. Numbers are only ever taken from it, so that none is used twice (RFC 8446 section
/// 5.3).
#[derive(Debug)]
pub(super) struct Half {
    secret: Secret,
    sequence: Sequence,
}

/// A number of 64 bits, upper half first, that does not ask for eight bytes' alignment: between a secret and
/// the next one it would cost four bytes for each half of each link.
#[derive(Clone, Copy)]
struct Sequence([u32; 2]);

impl Sequence {
    fn new(number: u64) -> Self {
        // Each is the half that it says, whole.
        Self([number >> 32, number & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap_or(u32::MAX)))
    }

    fn number(self) -> u64 {
        let [upper, lower] = self.0.map(u64::from);
        upper << 32 | lower
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl Half {
    /// With the number that its next record has.
    #[must_use]
    pub(super) fn new(secret: Secret, sequence: u64) -> Self {
        Self { secret, sequence: Sequence::new(sequence) }
    }

    /// Takes the next number. `None` when there is none left below `limit`.
    pub(super) fn take_number(&mut self, limit: u64) -> Option<u64> {
        let number = self.sequence();
        // Below a limit there is always a next number.
        if number >= limit {
            return None;
        }
        self.sequence = Sequence::new(number + 1);
        Some(number)
    }

    /// Goes on with the next generation's secret, at number zero.
    pub(super) fn advance(&mut self, suite: Suite) -> Result<(), CryptoFailed> {
        self.secret.advance(suite)?;
        self.sequence = Sequence::new(0);
        Ok(())
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The number of its next record.
    #[must_use]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.number()
    }

    /// Whether these are the key and the initialization vector of its present generation. Compared in
    /// constant time.
    #[must_use]
    pub(super) fn has_key(&self, suite: Suite, key: &[u8], iv: &[u8]) -> bool {
        self.secret.traffic_key(suite).is_ok_and(|derived| derived.is(key, iv))
    }
}
