//! Fixtures of tests, here, of fuzzing and of the simulation.

use super::{LATER_SECONDS, SyncPolicy};
use crate::machine::rate::EventRate;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::time::{Moment, Now, WallTime};

/// The device of these tests.
pub const DEVICE: DeviceId = DeviceId(7);

/// This long after the server's start, in microseconds.
pub fn at(microseconds: u64) -> Now {
    Now { moment: Moment(microseconds), wall: WallTime(1_000_000 + microseconds / 1_000) }
}

/// This long after the server's start, in seconds.
pub fn now(seconds: u64) -> Now {
    at(seconds * 1_000_000)
}

/// The answer to a sync of a device that comes again and again.
pub fn policy() -> SyncPolicy {
    SyncPolicy {
        trust_label: 0,
        server_epoch: Epoch(3),
        next_seconds: 800,
        interval_seconds: 900,
        keep_seconds: None,
        has_room: true,
        has_fetch_room: true,
        reconnect_seconds: 0,
        later_seconds: LATER_SECONDS,
        peer: None,
        notice_port: None,
        event_rate: EventRate::default(),
    }
}
