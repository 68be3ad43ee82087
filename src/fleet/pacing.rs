//! When a device is to come: the server decides, so that a fleet is spread and never comes in a wave.

use crate::wire::digest::mix;
use crate::wire::id::DeviceId;
use crate::wire::limits::RECONNECT_SECONDS_MAX;
use crate::wire::time::WallTime;

/// The shortest sync interval that may be set. A device that must be quicker than that keeps its link.
pub const INTERVAL_SECONDS_MIN: u32 = 10;

/// The longest sync interval that may be set: a week.
pub const INTERVAL_SECONDS_MAX: u32 = 7 * 24 * 3_600;

/// The sync interval of a device for which nobody said otherwise.
pub const INTERVAL_SECONDS_DEFAULT: u32 = 15 * 60;

const _: () = assert!(INTERVAL_SECONDS_MIN <= INTERVAL_SECONDS_DEFAULT);
const _: () = assert!(INTERVAL_SECONDS_DEFAULT <= INTERVAL_SECONDS_MAX);

/// When a device that is in sync now is to come again, in seconds from now.
///
/// Each device has a slot of its own in the interval, taken from its id, and comes at that slot whatever
/// brought it here now. So a fleet that came all at once, after an outage, is spread again with its next
/// sync. Never sooner than half an interval and never later than one and a half, so that nobody comes twice
/// in a row or stays away.
#[must_use]
pub fn next_seconds(device: DeviceId, interval_seconds: u32, now: WallTime) -> u32 {
    let interval = u64::from(interval_seconds.clamp(INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX));
    // Mixed, so that ids given out one after the other do not get neighbouring slots.
    let slot = mix(device.0) % interval;
    let into_interval = (now.0 / 1_000) % interval;
    let until_slot = (slot + interval - into_interval) % interval;
    let next = if until_slot * 2 < interval { until_slot + interval } else { until_slot };
    u32::try_from(next).unwrap_or(interval_seconds)
}

/// Cost of a handshake to a server that has seen none: a full one, on a small machine of today.
const HANDSHAKE_MICROSECONDS_GUESSED: u64 = 200;

/// Connections that the guess counts for: after some hundreds what was measured counts.
const CONNECTIONS_GUESSED: u64 = 100;

/// Least and greatest cost of a connection, whatever was measured: connections on which nothing was said and
/// a clock that stood still say nothing of the fleet.
const HANDSHAKE_MICROSECONDS: std::ops::RangeInclusive<u64> = 50..=20_000;

/// Number of devices that a server can take in a second, on this many cores, when `connections` cost it
/// `microseconds` altogether.
#[must_use]
pub fn devices_per_second(connections: u64, microseconds: u64, cores: u64) -> u64 {
    let all = microseconds.saturating_add(CONNECTIONS_GUESSED * HANDSHAKE_MICROSECONDS_GUESSED);
    let each = all / connections.saturating_add(CONNECTIONS_GUESSED);
    cores.max(1) * 1_000_000 / each.clamp(*HANDSHAKE_MICROSECONDS.start(), *HANDSHAKE_MICROSECONDS.end())
}

/// Seconds over which `devices` devices should spread when they come back together; 0: they may come at once.
/// A fifth more than the server needs for them, so that none has to wait long for its turn, and no more, so
/// that all are back soon.
#[must_use]
pub fn reconnect_seconds(devices: u64, devices_per_second: u64) -> u32 {
    let seconds = devices.saturating_mul(6) / devices_per_second.max(1).saturating_mul(5);
    u32::try_from(seconds.min(RECONNECT_SECONDS_MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fleet_that_came_at_once_is_spread_with_its_next_sync() {
        let now = WallTime(1_795_514_400_000);
        let mut minutes = [0u32; 15];
        for device in 0..9_000 {
            let next = next_seconds(DeviceId(device), 900, now);
            minutes[(next as usize % 900) / 60] += 1;
        }
        assert!(minutes.iter().all(|devices| (450..750).contains(devices)), "{minutes:?}");
    }

    #[test]
    fn a_small_fleet_comes_back_at_once_and_a_large_one_as_fast_as_it_can_be_taken() {
        let capacity = devices_per_second(10_000, 2_000_000, 2);
        assert_eq!(capacity, 10_000);
        assert_eq!(reconnect_seconds(5_000, capacity), 0);
        assert_eq!(reconnect_seconds(100_000, capacity), 12);
        assert_eq!(reconnect_seconds(1_000_000, capacity), 120);
        assert_eq!(u64::from(reconnect_seconds(u64::MAX, capacity)), RECONNECT_SECONDS_MAX);
        assert_eq!(devices_per_second(0, 0, 2), 10_000, "a guess, until something was measured");
        assert_eq!(devices_per_second(1_000_000, 0, 1), 20_000, "silence is no measurement");
    }

    proptest! {
        #[test]
        fn a_device_comes_at_its_slot_and_neither_too_soon_nor_too_late(id: u64, interval in 10u32..100_000, now in 0u64..1u64 << 42) {
            let next = next_seconds(DeviceId(id), interval, WallTime(now));
            prop_assert!(u64::from(next) * 2 >= u64::from(interval) && u64::from(next) * 2 < u64::from(interval) * 3, "{}", next);
            let arrival = WallTime(now + u64::from(next) * 1_000);
            prop_assert_eq!(next_seconds(DeviceId(id), interval, arrival), interval, "on its slot it comes after one interval");
        }
    }
}
