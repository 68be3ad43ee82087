//! When a device is to come: the server decides, so that a fleet is spread and never comes in a wave.

use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// The shortest sync interval that may be set, in seconds. A device that must be quicker than that keeps its link.
pub const INTERVAL_SECONDS_MIN: u32 = 10;

/// The longest sync interval that may be set, in seconds: a week.
pub const INTERVAL_SECONDS_MAX: u32 = 7 * 24 * 3_600;

/// The sync interval of a device for which nobody said otherwise, in seconds.
pub const INTERVAL_SECONDS_DEFAULT: u32 = 15 * 60;

const _: () = assert!(INTERVAL_SECONDS_MIN <= INTERVAL_SECONDS_DEFAULT);
const _: () = assert!(INTERVAL_SECONDS_DEFAULT <= INTERVAL_SECONDS_MAX);

/// When a device that is in sync now is to come again, in seconds from now.
///
/// Each device has a slot of its own in the interval, taken from its id, and comes at that slot whatever brought it here now.
/// So a fleet that came all at once, after an outage, is spread again with its next sync. Never sooner than half an
/// interval and never later than one and a half, so that nobody comes twice in a row or stays away.
#[must_use]
pub fn next_seconds(device: DeviceId, interval_seconds: u32, now: WallTime) -> u32 {
    let interval = u64::from(interval_seconds.clamp(INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX));
    let slot = spread(device.0) % interval;
    let into_interval = (now.0 / 1_000) % interval;
    let until_slot = (slot + interval - into_interval) % interval;
    let next = if until_slot * 2 < interval { until_slot + interval } else { until_slot };
    u32::try_from(next).unwrap_or(interval_seconds)
}

/// When a device is to come again that was sent away, in seconds: `at_least`, and up to as much again, so that those who
/// were sent away together do not come back together. `random` is any 64 bits.
#[must_use]
pub fn later_seconds(at_least: u32, random: u64) -> u32 {
    let at_least = at_least.max(1);
    at_least.saturating_add(u32::try_from(random % u64::from(at_least)).unwrap_or(0))
}

/// Mixes an id so that ids given out one after the other, in a test or by another server, do not get neighbouring slots
/// (the finaliser of SplitMix64; Steele, Lea and Flood, 2014).
fn spread(id: u64) -> u64 {
    let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
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

    proptest! {
        #[test]
        fn a_device_comes_at_its_slot_and_neither_too_soon_nor_too_late(id: u64, interval in 10u32..100_000, now in 0u64..1u64 << 42) {
            let next = next_seconds(DeviceId(id), interval, WallTime(now));
            prop_assert!(u64::from(next) * 2 >= u64::from(interval) && u64::from(next) * 2 < u64::from(interval) * 3, "{}", next);
            let arrival = WallTime(now + u64::from(next) * 1_000);
            prop_assert_eq!(next_seconds(DeviceId(id), interval, arrival), interval, "on its slot it comes after one interval");
        }

        #[test]
        fn nobody_who_was_sent_away_comes_too_soon(at_least in 0u32..1_000, random: u64) {
            let seconds = later_seconds(at_least, random);
            prop_assert!(seconds >= at_least.max(1) && seconds < 2 * at_least.max(1));
        }
    }
}
