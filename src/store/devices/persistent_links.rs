//! Kept connections: how many devices there may be whose links are to stay, and who waits for room among
//! them.
//!
//! An administrator decides whether a device should be kept connected, and the file says so. Whether it *is*
//! kept connected stands in its record
//! ([`DeviceState::keep_connected`](crate::machine::device_state::DeviceState::keep_connected)), and never
//! are more kept connected than the limit allows. A change that would keep too many is refused before it is
//! stored: on the writer's thread room is reserved for it, which its application to the table uses up and its
//! failure gives back. An enrolment is not refused for that; its device waits, and so do those for which a
//! lowered limit left no room. A device that waits is let in, first come first, as soon as there is room.
//!
//! Locks: this one first, then a shard's of the table; never the other way round.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::rows::DeviceSettings;
use super::table::DeviceTable;
use crate::store::error::StoreError;
use crate::wire::id::DeviceId;

/// Whose links are to stay from now on, and whose are not any more: they should be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PersistentLinkChanges {
    /// These are kept connected now.
    pub on: Vec<DeviceId>,
    /// These are not any more.
    pub off: Vec<DeviceId>,
}

/// The devices that are kept connected.
pub(super) struct PersistentLinks {
    table: Arc<DeviceTable>,
    state: Mutex<State>,
}

struct State {
    max: u64,
    /// Promised to changes that are being stored, in devices.
    reserved: u64,
    /// They are to be kept connected, and there was no room.
    waiting: VecDeque<DeviceId>,
}

/// Room for a change that is being stored. Given back when the change is not.
pub(super) struct Reservation {
    home: Arc<PersistentLinks>,
    devices: u64,
    /// Room is for those as well who wait: an administrator has asked for this one by name.
    lets_waiting_in: bool,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.devices > 0 {
            self.home.state.lock().reserved -= self.devices;
        }
    }
}

impl PersistentLinks {
    /// Without a limit, until [`PersistentLinks::set_max`].
    pub(super) fn new(table: Arc<DeviceTable>) -> Arc<Self> {
        let state = State { max: u64::MAX, reserved: 0, waiting: VecDeque::new() };
        Arc::new(Self { table, state: Mutex::new(state) })
    }

    pub(super) fn is_waiting(&self, device: DeviceId) -> bool {
        self.state.lock().waiting.contains(&device)
    }

    /// Room for what these settings would newly keep.
    ///
    /// # Errors
    /// [`StoreError::TooManyPersistent`].
    pub(super) fn reserve(
        self: &Arc<Self>,
        settings: &[DeviceSettings],
        lets_waiting_in: bool,
    ) -> Result<Reservation, StoreError> {
        let mut state = self.state.lock();
        let waiting: HashSet<DeviceId> = state.waiting.iter().copied().collect();
        let (mut on, mut off) = (0_u64, 0_u64);
        for setting in settings {
            let is_persistent = self.is_persistent(setting.device);
            let may_enter = lets_waiting_in || !waiting.contains(&setting.device);
            on += u64::from(setting.keep_connected && !is_persistent && may_enter);
            off += u64::from(!setting.keep_connected && is_persistent);
        }
        let devices = on.saturating_sub(off);
        let persistent = self.table.persistent() + state.reserved;
        if devices > 0 && persistent + devices > state.max {
            return Err(StoreError::TooManyPersistent { persistent, more: devices, max: state.max });
        }
        state.reserved += devices;
        Ok(Reservation { home: Arc::clone(self), devices, lets_waiting_in })
    }

    /// The settings are stored: they are in force from now on. Those first that make room.
    pub(super) fn apply(
        &self,
        settings: &[DeviceSettings],
        mut reservation: Reservation,
    ) -> PersistentLinkChanges {
        let mut changes = PersistentLinkChanges::default();
        let mut state = self.state.lock();
        state.reserved -= std::mem::take(&mut reservation.devices);
        let waiting: HashSet<DeviceId> = state.waiting.iter().copied().collect();
        let mut leave = HashSet::new();
        for setting in settings.iter().filter(|setting| !setting.keep_connected) {
            leave.insert(setting.device);
            if self.set(setting.device, false) {
                changes.off.push(setting.device);
            }
        }
        let mut enter = VecDeque::new();
        for setting in settings.iter().filter(|setting| setting.keep_connected) {
            if reservation.lets_waiting_in || !waiting.contains(&setting.device) {
                leave.insert(setting.device);
                if !self.is_persistent(setting.device) {
                    enter.push_back(setting.device);
                }
            }
        }
        if !waiting.is_empty() {
            state.waiting.retain(|device| !leave.contains(device));
        }
        // Room was reserved for them; behind them come those who waited.
        for device in enter.into_iter().rev() {
            state.waiting.push_front(device);
        }
        self.let_in(&mut state, &mut changes);
        changes
    }

    /// A device that has just enrolled into a group whose devices are kept connected: whether there is room
    /// for it. If not, it waits.
    pub(super) fn admit(&self, device: DeviceId, insert: impl FnOnce(bool)) {
        let mut state = self.state.lock();
        let has_room = self.table.persistent() + state.reserved < state.max;
        if !has_room {
            log::warn!(
                "device {device} has enrolled into a group whose devices are kept connected, but max_persistent_connections is {}: \
                 it is not kept until there is room (raise [links] max_persistent_connections, or turn it off for others)",
                state.max
            );
            state.waiting.push_back(device);
        }
        insert(has_room);
    }

    /// A device was removed, which may have made room.
    pub(super) fn removed(&self, device: DeviceId) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| *waiting != device);
        self.let_in(&mut state, &mut PersistentLinkChanges::default());
    }

    /// Another limit. When more are kept connected than it allows, those stay that enrolled first (`by_age`,
    /// asked only then), and the others wait.
    ///
    /// # Errors
    /// When `by_age` fails; the limit is the old one then.
    pub(super) fn set_max(
        &self,
        max: u64,
        by_age: impl FnOnce() -> Result<Vec<DeviceId>, StoreError>,
    ) -> Result<PersistentLinkChanges, StoreError> {
        let mut changes = PersistentLinkChanges::default();
        let mut state = self.state.lock();
        if self.table.persistent() > max {
            let mut room = max;
            for device in by_age()? {
                if !self.is_persistent(device) {
                    continue;
                }
                match room.checked_sub(1) {
                    Some(left) => room = left,
                    None if self.set(device, false) => changes.off.push(device),
                    None => {}
                }
            }
            log::warn!(
                "max_persistent_connections is {max}: {} devices that should be kept connected are not until there is room",
                changes.off.len()
            );
            // They were kept connected before anybody else who waits asked.
            for device in changes.off.iter().rev() {
                state.waiting.push_front(*device);
            }
        }
        state.max = max;
        self.let_in(&mut state, &mut changes);
        Ok(changes)
    }

    /// As many of those who wait as there is room for.
    fn let_in(&self, state: &mut State, changes: &mut PersistentLinkChanges) {
        while !state.waiting.is_empty() && self.table.persistent() + state.reserved < state.max {
            let Some(device) = state.waiting.pop_front() else { return };
            if self.set(device, true) {
                changes.on.push(device);
            }
        }
    }

    fn is_persistent(&self, device: DeviceId) -> bool {
        self.table.with(device, |record| record.keep_connected).unwrap_or(false)
    }

    /// Whether that changed anything.
    fn set(&self, device: DeviceId, is_persistent: bool) -> bool {
        let before =
            self.table.with(device, |record| std::mem::replace(&mut record.keep_connected, is_persistent));
        before.is_some_and(|before| before != is_persistent)
    }
}
