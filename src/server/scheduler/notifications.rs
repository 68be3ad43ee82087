//! Devices that have another desired state now, on their way to be told: a thousand a second, so that a
//! change for the whole fleet is no storm.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::admin::Calls;
use crate::store::table::DeviceTable;
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

/// Devices that are told at once: with ten rounds a second, as many a second as the caller begins calls.
const DEVICES_PER_ROUND: usize = 100;

/// A device to notify, and the reason for a wake when it is not connected, if it is woken.
type Waiting = (DeviceId, Option<WakeReason>);

/// The devices to notify. At most every device once.
#[derive(Default)]
pub(super) struct Notifications {
    waiting: Mutex<BTreeMap<DeviceId, Option<WakeReason>>>,
}

impl Notifications {
    /// These have another desired state now. `wake`: those that are not connected are woken for it; else they
    /// hear of it when they come.
    pub(super) fn add(&self, devices: &[DeviceId], wake: Option<WakeReason>) {
        let mut waiting = self.waiting.lock();
        for device in devices {
            let entry = waiting.entry(*device).or_default();
            *entry = entry.or(wake);
        }
    }

    /// Tells as many as one round may; whether more wait.
    pub(super) fn send(&self, table: &DeviceTable, calls: &dyn Calls) -> bool {
        let mut by_reason: Vec<(WakeReason, Vec<Waiting>)> = Vec::new();
        for (device, wake) in self.next_round() {
            let is_connected = || table.with(device, |record| record.link.is_some()).unwrap_or(false);
            // On a link the reason is not said.
            let Some(reason) = wake.or_else(|| is_connected().then_some(WakeReason::Sync)) else { continue };
            match by_reason.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, devices)) => devices.push((device, wake)),
                None => by_reason.push((reason, vec![(device, wake)])),
            }
        }
        for (reason, round) in by_reason {
            let devices: Vec<_> = round.iter().map(|(device, _)| *device).collect();
            if calls.call(&devices, reason, None).is_err() {
                // Too many are called already: in the next round.
                round.into_iter().for_each(|(device, wake)| self.add(&[device], wake));
            }
        }
        !self.waiting.lock().is_empty()
    }

    /// Takes out all that wait.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> Vec<DeviceId> {
        std::mem::take(&mut *self.waiting.lock()).into_keys().collect()
    }

    fn next_round(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        std::iter::from_fn(|| waiting.pop_first()).take(DEVICES_PER_ROUND).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::admin::{CallsBusy, OutcomeSink};
    use crate::machine::device_state::{DeviceState, LinkRef};
    use crate::wire::id::CertificateHash;

    /// The devices that were called; none while it is busy.
    #[derive(Default)]
    struct Called(Mutex<Vec<(DeviceId, WakeReason)>>, AtomicBool);

    impl Calls for Called {
        fn call(
            &self,
            devices: &[DeviceId],
            reason: WakeReason,
            _: Option<OutcomeSink>,
        ) -> Result<u64, CallsBusy> {
            if self.1.load(Ordering::Relaxed) {
                return Err(CallsBusy);
            }
            self.0.lock().extend(devices.iter().map(|device| (*device, reason)));
            Ok(0)
        }

        fn cancel(&self, _: u64) {}
    }

    fn table(connected: u64, absent: u64) -> DeviceTable {
        let table = DeviceTable::default();
        for id in 1..=connected + absent {
            let mut record = DeviceState::new(DeviceId(id), 900);
            record.link = LinkRef::new(0, 1, 1).filter(|_| id <= connected);
            table.insert(record, &CertificateHash::of(&id.to_be_bytes()));
        }
        table
    }

    #[test]
    fn who_is_connected_is_asked_and_who_is_not_is_woken_only_when_that_was_wanted() {
        let (notifications, called, table) = (Notifications::default(), Called::default(), table(1, 2));
        notifications.add(&[DeviceId(1), DeviceId(2), DeviceId(3)], None);
        notifications.add(&[DeviceId(3)], Some(WakeReason::Task));
        notifications.add(&[DeviceId(3)], None);
        assert!(!notifications.send(&table, &called));
        assert_eq!(*called.0.lock(), [(DeviceId(1), WakeReason::Sync), (DeviceId(3), WakeReason::Task)]);
    }

    #[test]
    fn a_whole_fleet_is_notified_in_rounds_and_nobody_is_forgotten_while_too_many_are_called() {
        let (notifications, called, table) = (Notifications::default(), Called::default(), table(250, 0));
        let all: Vec<_> = (1..=250).map(DeviceId).collect();
        notifications.add(&all, None);
        called.1.store(true, Ordering::Relaxed);
        assert!(notifications.send(&table, &called));
        called.1.store(false, Ordering::Relaxed);
        let mut rounds = 1;
        while notifications.send(&table, &called) {
            rounds += 1;
        }
        let mut told: Vec<_> = called.0.lock().iter().map(|(device, _)| *device).collect();
        told.sort_unstable();
        assert_eq!((rounds, told), (3, all));
    }
}
