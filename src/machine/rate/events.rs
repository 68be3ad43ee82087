//! One rate for what the events of a device may take of the log.
//!
//! The log keeps a number of bytes for the whole fleet. Without a rate, one device that says the same thing
//! again and again washes away what all others have said.
//!
//! The allowance is a bucket as the one for messages is, in bytes: a burst, as large as the spools of several
//! devices, so that one that was away for long brings all that it has at once; then a rate. It has two
//! heights. Events of all kinds may use the burst; a message with a warning or worse in it is taken, up to
//! the last of those, from a reserve above it, which flows back at the same rate. So a flood of info does not
//! keep a warning out, and a flood of warnings is bounded as well: what an event is said to be is the
//! device's word. A warning that stands far behind info in the device's spool waits until that was taken, as
//! events of one device are stored in their order.
//!
//! Events above the rate stay in the spool: the device is told when to send them again.

use super::{Allowance, Owed};
use crate::wire::event::Severity;
use crate::wire::message::EventItem;
use crate::wire::time::Moment;

/// Rate of a device's events, in bytes of the log in a second: forty events of 200 bytes, without end. One
/// device alone takes 24 days to fill a log of 16 GiB.
pub const BYTES_PER_SECOND_DEFAULT: u64 = 8 << 10;

/// Events that a device may bring at once, in bytes of the log: four times what its spool holds by default.
pub const BURST_BYTES_DEFAULT: u64 = 64 << 20;

/// Bytes that an event takes of the log beside its own: the record's head, the spool epoch, and zeros up to
/// the next multiple of eight.
pub const EVENT_OVERHEAD_BYTES: u64 = 64;

/// The reserve of warnings and worse: this part of the burst.
const RESERVE_DIVISOR: u64 = 4;

/// Bytes that must have come back before a device sends again: as much as an agent has under way, so that it
/// does not send in vain.
const AGAIN_BYTES: u64 = 256 << 10;

/// Time that a device is told to keep its events: not so short that it asks all the time, not so long that it
/// looks as if they were lost.
const HELD_SECONDS: std::ops::RangeInclusive<u64> = 5..=300;

/// Bytes of events that a device may have stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRate {
    /// For as long as it likes, in bytes in a second; at least 1.
    pub bytes_per_second: u64,
    /// At once.
    pub burst_bytes: u64,
}

impl Default for EventRate {
    fn default() -> Self {
        Self { bytes_per_second: BYTES_PER_SECOND_DEFAULT, burst_bytes: BURST_BYTES_DEFAULT }
    }
}

impl EventRate {
    fn microseconds(self, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000) / self.bytes_per_second.max(1)
    }

    fn is_open(self, allowance: Allowance, now: Moment, burst_bytes: u64) -> bool {
        allowance.bucket().opens_at(self.microseconds(burst_bytes)) <= now
    }

    /// Number of the events of a message, from the first on, that may be stored now.
    pub(in crate::machine) fn admits(
        self,
        allowance: Allowance,
        now: Moment,
        items: &[EventItem<'_>],
    ) -> usize {
        if self.is_open(allowance, now, self.burst_bytes) {
            return items.len();
        }
        if !self.is_open(allowance, now, self.burst_bytes + self.burst_bytes / RESERVE_DIVISOR) {
            return 0;
        }
        let is_bad =
            |item: &EventItem<'_>| Severity::of_encoded(item.body).is_some_and(|it| it >= Severity::Warning);
        items.iter().rposition(is_bad).map_or(0, |last| last + 1)
    }

    /// In how many seconds a device is to send again that may store nothing now.
    pub(in crate::machine) fn held_seconds(self, allowance: Allowance, now: Moment) -> u32 {
        let level_microseconds = self.microseconds(self.burst_bytes.saturating_sub(AGAIN_BYTES));
        let opens_at = allowance.bucket().opens_at(level_microseconds);
        let seconds = opens_at.0.saturating_sub(now.0).div_ceil(1_000_000);
        u32::try_from(seconds.clamp(*HELD_SECONDS.start(), *HELD_SECONDS.end())).unwrap_or(u32::MAX)
    }

    /// `events` events, with `bytes` bytes together, were stored.
    pub(in crate::machine) fn take(
        self,
        owed: &mut Owed,
        allowance: &mut Allowance,
        now: Moment,
        (events, bytes): (u64, u64),
    ) {
        let bytes = bytes.saturating_add(events.saturating_mul(EVENT_OVERHEAD_BYTES));
        owed.take(allowance, now, self.microseconds(bytes));
    }
}

#[cfg(test)]
mod tests;
