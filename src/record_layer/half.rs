//! One direction of a link: its secret, and the number of its next record.

use std::fmt;

use super::error::CryptoFailed;
use super::secret::Secret;
use super::suite::Suite;

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
