//! 64-bit digests of sections.
//!
//! A digest only has to tell two states of *one* device's section apart; a device that forges one deceives
//! nobody but itself. So 64 bits of SHA-256 are enough, and a set may be digested as a sum, which lets both
//! sides apply a difference without hashing the whole set again. Somebody who wants two entries with one
//! digest finds them in minutes, and two sets with one sum in seconds: between devices a digest may lead to
//! what to compare, and prove nothing.

use std::fmt;

use minicbor::{Decode, Encode};

/// A 64-bit digest of a section's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Digest(#[n(0)] pub u64);

impl Digest {
    /// The digest of the empty set, and of a section that was never reported.
    pub const EMPTY: Self = Self(0);

    /// The digest of some bytes: the first eight bytes of their SHA-256, big-endian.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.bytes(bytes);
        hasher.finish()
    }

    /// The digest of the set with `entry` in it as well. Order does not matter.
    #[must_use]
    pub fn with(self, entry: Digest) -> Self {
        Self(self.0.wrapping_add(entry.0))
    }

    /// The digest of the set without `entry`, which was in it.
    #[must_use]
    pub fn without(self, entry: Digest) -> Self {
        Self(self.0.wrapping_sub(entry.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Digests several fields, each with its length before it, so that ("ab", "c") and ("a", "bc") differ.
pub struct Hasher(aws_lc_rs::digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// A hasher of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }

    /// Adds one field: its length (u64, big-endian), then its bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    /// The digest of what was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        let hash = self.0.finish();
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_ref()[..8]);
        Digest(u64::from_be_bytes(first))
    }
}

/// Mixes the bits of a number so that neighbours are far apart: the finaliser of `SplitMix64` (Steele, Lea,
/// Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
#[must_use]
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_together() {
        let digest = |fields: &[&str]| {
            let mut hasher = Hasher::new();
            for field in fields {
                hasher.bytes(field.as_bytes());
            }
            hasher.finish()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }

    #[test]
    fn a_set_is_digested_in_any_order_and_undone() {
        let (a, b) = (Digest::of_bytes(b"a"), Digest::of_bytes(b"b"));
        assert_eq!(Digest::EMPTY.with(a).with(b), Digest::EMPTY.with(b).with(a));
        assert_eq!(Digest::EMPTY.with(a).with(b).without(a), Digest::EMPTY.with(b));
    }
}
