//! One direction of a link: its secret, and the number of its next record.

use super::error::CryptoFailed;
use super::secret::Secret;
use super::suite::Suite;

/// One direction of a link. Numbers are only ever taken from it, so that none is used twice (RFC 8446 section 5.3).
#[derive(Debug)]
pub(super) struct Half {
    secret: Secret,
    sequence: u64,
}

impl Half {
    /// With the number that its next record has.
    #[must_use]
    pub(super) fn new(secret: Secret, sequence: u64) -> Self {
        Self { secret, sequence }
    }

    /// Takes the next number. `None` when there is none left below `limit`.
    pub(super) fn take_number(&mut self, limit: u64) -> Option<u64> {
        let number = self.sequence;
        // Below a limit there is always a next number.
        if number >= limit {
            return None;
        }
        self.sequence = number + 1;
        Some(number)
    }

    /// Goes on with the next generation's secret, at number zero.
    pub(super) fn advance(&mut self, suite: Suite) -> Result<(), CryptoFailed> {
        self.secret.advance(suite)?;
        self.sequence = 0;
        Ok(())
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The number of its next record.
    #[must_use]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether these are the key and the initialization vector of its present generation. Compared in constant time.
    #[must_use]
    pub(super) fn has_key(&self, suite: Suite, key: &[u8], iv: &[u8]) -> bool {
        self.secret.traffic_key(suite).is_ok_and(|derived| derived.is(key, iv))
    }
}
