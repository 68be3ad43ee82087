//! Devices that have other orders now, on their way to be told: a few hundred at a time, so that a change for the whole fleet is no
//! storm.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::admin::Calls;
use crate::store::table::DeviceTable;
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;

/// Devices that are told at once, in devices: with ten rounds a second, as many a second as the caller begins calls.
const DEVICES_PER_ROUND: usize = 100;

/// Who is to be told. At most every device once.
#[derive(Default)]
pub(super) struct Nudges {
    waiting: Mutex<BTreeMap<DeviceId, Option<WakeReason>>>,
    is_stopped: AtomicBool,
}

impl Nudges {
    /// These have other orders now. `wake`: those that are not connected are woken for it; else they hear of it when they come.
    pub(super) fn add(&self, devices: &[DeviceId], wake: Option<WakeReason>) {
        let mut waiting = self.waiting.lock();
        for device in devices {
            let entry = waiting.entry(*device).or_default();
            *entry = entry.or(wake);
        }
    }

    /// Tells as many as one round may; whether more wait.
    pub(super) fn send(&self, table: &DeviceTable, calls: &dyn Calls) -> bool {
        let mut by_reason: [(WakeReason, Vec<DeviceId>); 2] =
            [(WakeReason::Sync, Vec::new()), (WakeReason::Task, Vec::new())];
        let mut round = BTreeMap::new();
        {
            let mut waiting = self.waiting.lock();
            while round.len() < DEVICES_PER_ROUND
                && let Some((device, wake)) = waiting.pop_first()
            {
                round.insert(device, wake);
            }
        }
        for (device, wake) in &round {
            let is_connected = table.with(*device, |record| record.link.is_some()).unwrap_or(false);
            let reason = if is_connected { wake.or(Some(WakeReason::Sync)) } else { *wake };
            let slot = match reason {
                Some(WakeReason::Task) => 1,
                Some(_) => 0,
                None => continue,
            };
            by_reason[slot].1.push(*device);
        }
        for (reason, devices) in by_reason {
            if !devices.is_empty() && calls.call(&devices, reason, None).is_err() {
                let again: Vec<_> =
                    devices.iter().map(|device| (*device, round.get(device).copied())).collect();
                let mut waiting = self.waiting.lock();
                for (device, wake) in again {
                    let entry = waiting.entry(device).or_default();
                    *entry = entry.or(wake.flatten());
                }
            }
        }
        !self.waiting.lock().is_empty()
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}
