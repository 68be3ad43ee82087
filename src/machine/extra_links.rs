//! Links of a device beside the one that is its own: its word has not made them the device's yet, or they are
//! on their way out.
//!
//! A device needs one, and for a moment another: while it changes networks, or looks whether everything
//! works. More than that are of a device that is broken or hostile, and each may hold what waits to be sent
//! on it. So the oldest goes when one more comes.

use std::collections::BTreeMap;

use crate::wire::id::DeviceId;

/// Most links of one device beside its own: one on its way in, and one on its way out.
pub const EXTRA_LINKS_MAX: usize = 2;

/// The extra links of all devices. `K` names a link. A device without one takes nothing.
#[derive(Debug)]
pub struct ExtraLinks<K> {
    by_device: BTreeMap<DeviceId, Vec<K>>,
}

impl<K> Default for ExtraLinks<K> {
    fn default() -> Self {
        Self { by_device: BTreeMap::new() }
    }
}

impl<K: Copy + Eq> ExtraLinks<K> {
    /// A device has this link beside its own from now on. The one that the caller closes for it, if any; it
    /// counts no more.
    #[must_use]
    pub fn enter(&mut self, device: DeviceId, link: K) -> Option<K> {
        let links = self.by_device.entry(device).or_default();
        if links.contains(&link) {
            return None;
        }
        links.push(link);
        (links.len() > EXTRA_LINKS_MAX).then(|| links.remove(0))
    }

    /// A link has ended, or has become the device's own.
    pub fn leave(&mut self, device: DeviceId, link: K) {
        if let Some(links) = self.by_device.get_mut(&device) {
            links.retain(|other| *other != link);
            if links.is_empty() {
                self.by_device.remove(&device);
            }
        }
    }

    /// The links that a device has beside its own.
    #[must_use]
    pub fn of(&self, device: DeviceId) -> Vec<K> {
        self.by_device.get(&device).cloned().unwrap_or_default()
    }

    /// Number of devices that have some.
    #[must_use]
    #[cfg(test)]
    pub fn devices(&self) -> usize {
        self.by_device.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_device_goes_when_there_are_too_many_and_other_devices_keep_theirs() {
        let (one, two) = (DeviceId(1), DeviceId(2));
        let mut extra = ExtraLinks::default();
        assert_eq!(extra.enter(two, 'x'), None);
        assert_eq!([extra.enter(one, 'a'), extra.enter(one, 'b'), extra.enter(one, 'b')], [None; 3]);
        assert_eq!(extra.enter(one, 'c'), Some('a'));
        assert_eq!((extra.of(one), extra.of(DeviceId(3))), (vec!['b', 'c'], vec![]));
        extra.leave(one, 'a');
        extra.leave(one, 'b');
        assert_eq!(extra.enter(one, 'd'), None, "one has become the device's own");
        assert_eq!(extra.enter(one, 'e'), Some('c'));
        extra.leave(two, 'x');
        extra.leave(one, 'd');
        extra.leave(one, 'e');
        assert_eq!(extra.devices(), 0);
    }

    #[test]
    fn sixty_links_of_one_device_leave_the_last_two() {
        let mut extra = ExtraLinks::default();
        let closed: Vec<_> = (0..60).filter_map(|link| extra.enter(DeviceId(7), link)).collect();
        assert_eq!(closed, (0..58).collect::<Vec<_>>());
    }
}
