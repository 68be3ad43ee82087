//! Devices whose events wait on them, because they had more than their rate.

use std::collections::BTreeMap;

use crate::wire::id::DeviceId;
use crate::wire::time::{Moment, Now, WallTime};

/// Devices that are remembered. Devices beyond it wait as well, and nothing tells of them.
const DEVICES_MAX: usize = 8_192;

/// Time that a device counts as held beyond twice the time that it was told: it is late, or had less to send
/// this time.
const GRACE_SECONDS: u64 = 10;

/// Remembers which devices were told to keep their events for a while.
#[derive(Debug, Default)]
pub struct HeldWatch {
    devices: BTreeMap<DeviceId, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    since: WallTime,
    until: Moment,
}

impl HeldWatch {
    /// The device was told to keep its events for `seconds` seconds. `true`: it was not held before.
    pub fn held(&mut self, device: DeviceId, now: &Now, seconds: u32) -> bool {
        let since = self.since(device, now.moment);
        if !self.devices.contains_key(&device) && self.devices.len() >= DEVICES_MAX {
            self.devices.retain(|_, held| held.until > now.moment);
            if self.devices.len() >= DEVICES_MAX {
                return false;
            }
        }
        let until = now.moment.plus_seconds(2 * u64::from(seconds) + GRACE_SECONDS);
        self.devices.insert(device, Held { since: since.unwrap_or(now.wall), until });
        since.is_none()
    }

    /// Since when the device's events wait; `None` when they do not.
    pub fn since(&mut self, device: DeviceId, now: Moment) -> Option<WallTime> {
        let held = *self.devices.get(&device)?;
        if held.until > now {
            return Some(held.since);
        }
        self.devices.remove(&device);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId(7);

    fn at(seconds: u64) -> Now {
        Now { moment: Moment(seconds * 1_000_000), wall: WallTime(1_000_000 + seconds * 1_000) }
    }

    #[test]
    fn a_device_is_held_until_it_was_not_told_so_for_a_while() {
        let mut watch = HeldWatch::default();
        assert!(watch.held(DEVICE, &at(0), 32), "it is new");
        assert!(!watch.held(DEVICE, &at(32), 32));
        assert_eq!(watch.since(DEVICE, at(105).moment), Some(at(0).wall));
        assert_eq!(watch.since(DEVICE, at(106).moment), None);
        assert!(watch.held(DEVICE, &at(200), 5), "it is new again");
        assert_eq!(watch.since(DEVICE, at(201).moment), Some(at(200).wall));
    }

    #[test]
    fn a_fleet_that_floods_takes_no_more_memory_than_there_is() {
        let mut watch = HeldWatch::default();
        (0..20_000).for_each(|id| assert_eq!(watch.held(DeviceId(id), &at(0), 5), id < 8_192));
        assert_eq!(watch.devices.len(), DEVICES_MAX);
        assert!(watch.held(DeviceId(50_000), &at(60), 5), "those of before are forgotten");
        assert_eq!(watch.devices.len(), 1);
    }
}
