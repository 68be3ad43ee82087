//! Whether two devices use one identity, as those do that were made from one copied disk.
//!
//! No message says so; the device's own history does. A boot that was followed by another never comes back,
//! nor does an agent epoch that was given up; a section has one content in each revision; and a link is
//! seldom taken over by another one. A single contradiction may be a virtual machine that was set back; again
//! and again it is two.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::wire::id::{DeviceId, Epoch};
use crate::wire::time::WallTime;

/// Contradictions from which on two devices are suspected, in contradictions.
const SIGNS_MIN: u32 = 2;

/// Links that are taken over within [`TAKEN_OVER_MILLISECONDS`] from which on the same is suspected, in
/// links: an agent stays away for a minute when that happens to it.
const TAKEN_OVER_MIN: usize = 6;

/// See [`TAKEN_OVER_MIN`]; in milliseconds: an hour.
const TAKEN_OVER_MILLISECONDS: u64 = 3_600_000;

/// Time that a suspicion lasts without another sign: a day.
pub const LASTS_MILLISECONDS: u64 = 86_400_000;

/// Incarnations that are remembered of one device, in incarnations.
const REMEMBERED_MAX: usize = 4;

/// Addresses that are named of one device.
const ADDRESSES_MAX: usize = 4;

/// Devices that are watched: those that changed lately. Devices beyond it are not noticed until others have
/// been forgotten.
const DEVICES_MAX: usize = 8_192;

/// Marks of one life of a device that no other has: its boot, and the history in which its revisions count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incarnation {
    /// The boot ([`boot_of`](crate::wire::datagram::boot_of)); 0: not known.
    pub boot: u32,
    /// The agent epoch.
    pub agent_epoch: Epoch,
}

/// Two devices, as far as that can be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suspicion {
    /// Since when there are signs of it.
    pub since: WallTime,
    /// Addresses that the signs came from, sorted.
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Those that were followed by another one, the last one last.
    left: VecDeque<Incarnation>,
    taken_over_at: VecDeque<WallTime>,
    signs: u32,
    first_sign_at: WallTime,
    last_at: WallTime,
    addresses: BTreeSet<IpAddr>,
    is_suspected: bool,
}

/// Remembers what devices were, as far as that speaks of two.
#[derive(Debug, Default)]
pub struct CloneWatch {
    devices: BTreeMap<DeviceId, Seen>,
}

impl CloneWatch {
    /// The device was `left` before and is `came` now, which is another. `true`: two devices are suspected
    /// from now on.
    pub fn changed(
        &mut self,
        device: DeviceId,
        left: Incarnation,
        came: Incarnation,
        peer: Option<IpAddr>,
        now: WallTime,
    ) -> bool {
        let Some(seen) = self.seen(device, now) else { return false };
        let has_returned = seen.left.contains(&came);
        seen.left.retain(|known| *known != left);
        seen.left.push_back(left);
        if seen.left.len() > REMEMBERED_MAX {
            seen.left.pop_front();
        }
        seen.hear_from(peer);
        has_returned && seen.sign(now)
    }

    /// The device has another content in a revision that is known. `true`: two devices are suspected from now
    /// on.
    pub fn contradicted(&mut self, device: DeviceId, peer: Option<IpAddr>, now: WallTime) -> bool {
        let Some(seen) = self.seen(device, now) else { return false };
        seen.hear_from(peer);
        seen.sign(now)
    }

    /// A link of the device was taken over by another one. `true`: two devices are suspected from now on.
    pub fn taken_over(&mut self, device: DeviceId, peer: Option<IpAddr>, now: WallTime) -> bool {
        let Some(seen) = self.seen(device, now) else { return false };
        seen.hear_from(peer);
        seen.taken_over_at.push_back(now);
        if seen.taken_over_at.len() > TAKEN_OVER_MIN {
            seen.taken_over_at.pop_front();
        }
        let first = seen.taken_over_at.front().copied().unwrap_or(now);
        let is_often =
            seen.taken_over_at.len() == TAKEN_OVER_MIN && now.0.abs_diff(first.0) <= TAKEN_OVER_MILLISECONDS;
        if is_often {
            seen.signs = seen.signs.max(SIGNS_MIN - 1);
        }
        is_often && seen.sign(now)
    }

    /// The suspicion of a device.
    #[must_use]
    pub fn suspicion(&self, device: DeviceId, now: WallTime) -> Option<Suspicion> {
        let seen = self.devices.get(&device)?;
        (seen.is_suspected && !seen.is_over(now)).then(|| Suspicion {
            since: seen.first_sign_at,
            addresses: seen.addresses.iter().copied().collect(),
        })
    }

    fn seen(&mut self, device: DeviceId, now: WallTime) -> Option<&mut Seen> {
        if !self.devices.contains_key(&device) && self.devices.len() >= DEVICES_MAX {
            self.devices.retain(|_, seen| seen.is_suspected && !seen.is_over(now));
            if self.devices.len() >= DEVICES_MAX {
                return None;
            }
        }
        let seen = self.devices.entry(device).or_default();
        if seen.is_over(now) {
            *seen = Seen::default();
        }
        seen.last_at = now;
        Some(seen)
    }
}

impl Seen {
    /// Also when the clock was set back.
    fn is_over(&self, now: WallTime) -> bool {
        now.0.abs_diff(self.last_at.0) > LASTS_MILLISECONDS
    }

    fn hear_from(&mut self, peer: Option<IpAddr>) {
        if self.addresses.len() < ADDRESSES_MAX {
            self.addresses.extend(peer);
        }
    }

    fn sign(&mut self, now: WallTime) -> bool {
        if self.signs == 0 {
            self.first_sign_at = now;
        }
        self.signs = self.signs.saturating_add(1);
        self.signs >= SIGNS_MIN && !std::mem::replace(&mut self.is_suspected, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId(7);

    fn at(seconds: u64) -> WallTime {
        WallTime(1_795_514_400_000 + seconds * 1_000)
    }

    fn life(boot: u32, epoch: u64) -> Incarnation {
        Incarnation { boot, agent_epoch: Epoch(epoch) }
    }

    fn peer(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn a_device_that_reboots_all_the_time_is_one() {
        let mut watch = CloneWatch::default();
        for boot in 1..1_000 {
            assert!(!watch.changed(DEVICE, life(boot, 1), life(boot + 1, 1), peer(1), at(u64::from(boot))));
        }
        assert_eq!(watch.suspicion(DEVICE, at(1_000)), None);
    }

    #[test]
    fn boots_that_take_turns_are_two_devices() {
        let mut watch = CloneWatch::default();
        assert!(!watch.changed(DEVICE, life(1, 1), life(2, 1), peer(2), at(0)));
        assert!(
            !watch.changed(DEVICE, life(2, 1), life(1, 1), peer(1), at(10)),
            "a machine may be set back once"
        );
        assert!(watch.changed(DEVICE, life(1, 1), life(2, 1), peer(2), at(20)));
        assert!(!watch.changed(DEVICE, life(2, 1), life(1, 1), peer(1), at(30)), "said once");
        let suspicion = watch.suspicion(DEVICE, at(40)).unwrap();
        assert_eq!(suspicion.since, at(10));
        assert_eq!(suspicion.addresses, [peer(1).unwrap(), peer(2).unwrap()]);
        assert_eq!(watch.suspicion(DEVICE, at(30 + LASTS_MILLISECONDS / 1_000 + 1)), None);
        assert_eq!(watch.suspicion(DeviceId(8), at(40)), None);
    }

    #[test]
    fn two_containers_of_one_machine_are_told_apart_by_their_epochs_or_their_content() {
        let mut watch = CloneWatch::default();
        let (a, b) = (life(1, 10), life(1, 20));
        assert!(!watch.changed(DEVICE, a, b, None, at(0)));
        assert!(!watch.changed(DEVICE, b, a, None, at(1)));
        assert!(watch.changed(DEVICE, a, b, None, at(2)));
        let mut watch = CloneWatch::default();
        assert!(!watch.contradicted(DEVICE, None, at(0)));
        assert!(watch.contradicted(DEVICE, None, at(1)));
    }

    #[test]
    fn a_link_that_is_taken_over_each_minute_is_one_of_two() {
        let mut watch = CloneWatch::default();
        for minute in 0..5 {
            assert!(!watch.taken_over(DEVICE, peer(1), at(minute * 60)));
        }
        assert!(watch.taken_over(DEVICE, peer(2), at(300)));
        let mut watch = CloneWatch::default();
        for quarter in 0..100 {
            assert!(!watch.taken_over(DEVICE, peer(1), at(quarter * 900)), "a bad network does that");
        }
    }

    #[test]
    fn a_fleet_that_reboots_leaves_a_bounded_memory_with_the_suspected_in_it() {
        let mut watch = CloneWatch::default();
        watch.contradicted(DeviceId(0), None, at(0));
        assert!(watch.contradicted(DeviceId(0), None, at(0)));
        for device in 1..3 * DEVICES_MAX as u64 {
            watch.changed(DeviceId(device), life(1, 1), life(2, 1), None, at(0));
            assert!(watch.devices.len() <= DEVICES_MAX);
        }
        assert!(watch.suspicion(DeviceId(0), at(1)).is_some());
    }
}
