//! One rate for everything that a device may ask of the server.
//!
//! Each message takes from the device's allowance about what it costs the server, in microseconds of one
//! core; what an honest device says seldom takes more, so that saying it all the time is no load. A second of
//! the allowance comes back in a second. The allowance stands in the device's record
//! ([`DeviceState`](super::device_state::DeviceState)), so that all links of one identity share it, and
//! another link is no way around it.
//!
//! A link whose device has used up its allowance is not read until some has come back: nothing is lost,
//! nothing grows, and the device waits as it does for a slow network. Wakes that a device asks for are
//! refused with a word instead: each is a datagram to a port of its choosing, somebody waits for the answer,
//! and events on the same link should not wait behind it.
//!
//! The events' share of the log has a rate of its own ([`EventRate`]), as they stay there.
//!
//! It is a [`Bucket`] with three heights: wakes that a sync brings with it
//! may fill the lowest part, those that are asked for the part above it, messages all of it. So wakes never
//! keep a device from delivering events.

mod events;
mod held;

pub use events::{BURST_BYTES_DEFAULT, BYTES_PER_SECOND_DEFAULT, EVENT_OVERHEAD_BYTES, EventRate};
pub use held::HeldWatch;

use super::bucket::Bucket;
use crate::wire::message::ToServer;
use crate::wire::time::{CoarseMoment, Moment};

/// Unit of the allowance: one step of [`CoarseMoment`].
const STEP_MICROSECONDS: u64 = 100_000;

/// Messages may use up the allowance of this much time ahead.
pub const WORK_AHEAD_MICROSECONDS: u64 = 75_000_000;

/// Wakes that the device asks for may use up the allowance of this much time ahead.
pub const WAKES_AHEAD_MICROSECONDS: u64 = 60_000_000;

/// Wakes that go behind a sync may use up the allowance of this much time ahead.
const SYNC_WAKES_AHEAD_MICROSECONDS: u64 = 30_000_000;

/// A datagram to a port of the device's choosing: six a minute.
pub const WAKE_MICROSECONDS: u64 = 10_000_000;

/// A notice, which may change the device's presence and the log with it: one a second.
const NOTICE_MICROSECONDS: u64 = 1_000_000;

/// An answer that an honest device asks for now and then: a hundred a second.
const ANSWER_MICROSECONDS: u64 = 10_000;

/// A message that is cheap and seldom: a thousand a second.
const MESSAGE_MICROSECONDS: u64 = 1_000;

/// A ping and its answer: ten thousand a second.
const PING_MICROSECONDS: u64 = 100;

/// Work for a thread that goes to the disk: fifty a second.
const JOB_MICROSECONDS: u64 = 20_000;

/// A part of an artifact: five hundred a second, 24 MB.
const FETCH_MICROSECONDS: u64 = 2_000;

/// Events may come at the full speed of the server, in microseconds for a message and for each event in it.
const EVENTS_MICROSECONDS: u64 = 10;
const EVENT_MICROSECONDS: u64 = 5;

/// Bytes of a message that take a microsecond to decode.
const BYTES_PER_MICROSECOND: u64 = 64;

/// Cost of a message, without the work for the disk that it brings. `None` stands for one that could not be
/// decoded.
#[must_use]
pub fn cost_microseconds(message: Option<&ToServer<'_>>, bytes: usize) -> u64 {
    let fixed = match message {
        Some(ToServer::Events(events)) if !events.items.is_empty() => {
            EVENTS_MICROSECONDS + EVENT_MICROSECONDS * events.items.len() as u64
        }
        None | Some(ToServer::Probe(_)) => ANSWER_MICROSECONDS,
        Some(ToServer::Ping(_)) => PING_MICROSECONDS,
        Some(ToServer::Goodbye(_)) => NOTICE_MICROSECONDS / 10,
        Some(ToServer::Fetch(_)) => FETCH_MICROSECONDS,
        Some(ToServer::Sync(_)) => 2 * MESSAGE_MICROSECONDS,
        Some(
            ToServer::Enrol(_)
            | ToServer::Part(_)
            | ToServer::Events(_)
            | ToServer::Runs(_)
            | ToServer::Statistics(_)
            | ToServer::Renew(_),
        ) => MESSAGE_MICROSECONDS,
    };
    fixed + bytes as u64 / BYTES_PER_MICROSECOND
}

/// Cost of jobs.
#[must_use]
pub(super) fn jobs_microseconds(jobs: usize) -> u64 {
    JOB_MICROSECONDS * jobs as u64
}

/// Allowance of a device: kept as the moment until which its costs pay for themselves, in four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    paid_until: CoarseMoment,
}

impl Default for Allowance {
    /// All of it is there.
    fn default() -> Self {
        Self { paid_until: CoarseMoment::not_before(Moment(0)) }
    }
}

impl Allowance {
    fn bucket(self) -> Bucket {
        Bucket(self.paid_until.moment())
    }

    /// From when on the next message is read; in the past: now.
    #[must_use]
    pub fn opens_at(self) -> Moment {
        self.bucket().opens_at(WORK_AHEAD_MICROSECONDS)
    }

    /// Takes a wake that the device asks for.
    ///
    /// # Errors
    /// When it has none left: in how many seconds it has, at least 1.
    pub fn take_wake(&mut self, now: Moment) -> Result<(), u64> {
        self.take_wake_of(now, WAKES_AHEAD_MICROSECONDS)
    }

    /// Takes a wake that goes behind a sync. `false`: none goes this time.
    pub fn take_sync_wake(&mut self, now: Moment) -> bool {
        self.take_wake_of(now, SYNC_WAKES_AHEAD_MICROSECONDS).is_ok()
    }

    /// Takes a notice that came as a datagram, which can't be held. `false`: the allowance is used up.
    pub fn take_notice(&mut self, now: Moment) -> bool {
        let is_open = self.opens_at() <= now;
        if is_open {
            self.take_steps(now, NOTICE_MICROSECONDS / STEP_MICROSECONDS);
        }
        is_open
    }

    fn take_wake_of(&mut self, now: Moment, ahead_microseconds: u64) -> Result<(), u64> {
        let opens_at = self.bucket().opens_at(ahead_microseconds - WAKE_MICROSECONDS);
        let missing_microseconds = opens_at.0.saturating_sub(now.0);
        if missing_microseconds > 0 {
            return Err(missing_microseconds.div_ceil(1_000_000));
        }
        self.take_steps(now, WAKE_MICROSECONDS / STEP_MICROSECONDS);
        Ok(())
    }

    /// Takes whole steps. It may be more than there is: then the allowance is used up for longer.
    fn take_steps(&mut self, now: Moment, steps: u64) {
        if steps > 0 {
            let now = Moment(now.0 / STEP_MICROSECONDS * STEP_MICROSECONDS);
            let mut bucket = self.bucket();
            bucket.take(now, steps.saturating_mul(STEP_MICROSECONDS));
            self.paid_until = CoarseMoment::not_before(bucket.0);
        }
    }
}

/// Less than a step, in units of [`Owed`]: always fits.
fn units(microseconds: u64) -> u16 {
    u16::try_from(microseconds / OWED_UNIT_MICROSECONDS).unwrap_or(u16::MAX)
}

/// Cost of one link that its device's allowance has not been told yet, as that counts in steps. A link begins
/// with nearly a step, so that short ones do not go uncounted. Two microseconds a unit, in two bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owed(u16);

const OWED_UNIT_MICROSECONDS: u64 = 2;

impl Default for Owed {
    fn default() -> Self {
        Self(units(STEP_MICROSECONDS - OWED_UNIT_MICROSECONDS))
    }
}

impl Owed {
    /// The link has cost this much more.
    pub(super) fn take(&mut self, allowance: &mut Allowance, now: Moment, microseconds: u64) {
        let owed_microseconds = u64::from(self.0) * OWED_UNIT_MICROSECONDS;
        let sum_microseconds =
            owed_microseconds.saturating_add(microseconds.next_multiple_of(OWED_UNIT_MICROSECONDS));
        allowance.take_steps(now, sum_microseconds / STEP_MICROSECONDS);
        self.0 = units(sum_microseconds % STEP_MICROSECONDS);
    }
}

#[cfg(test)]
mod tests;
