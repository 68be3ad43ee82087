//! Statuses: whether devices are well.
//!
//! A device is judged soon after something changed that its status hangs on, and with all others once a
//! minute, because time changes things too. Both read from the store, for many devices with a few questions,
//! only what speaks against one.

use std::collections::BTreeSet;

use super::renewals::Renewals;
use crate::fleet::presence::{Presence, lost_at, presence};
use crate::fleet::status::{Cause, SharedIdentity, judge};
use crate::machine::device_state::DeviceState;
use crate::machine::wall_clock::AgeTime;
use crate::reactor::Clock;
use crate::server::presence::{Announcer, StatusChange};
use crate::store::table::signs_of;
use crate::store::{DeviceStatus, Judged, Store, StoreError, Verdict, WAITING_MILLISECONDS};
use crate::wire::id::DeviceId;
use crate::wire::time::{Now, WallTime};

/// Devices of which something is new that one step judges, in devices.
const CHANGED_PER_STEP_MAX: usize = 500;

/// Most devices of which something is new that wait to be judged, in devices: as many as are judged in two or
/// three steps. Devices beyond it are judged with all others.
const CHANGED_MAX: usize = 1_024;

/// In how many slices all devices are judged: one a second.
const SLICES: usize = 60;

/// Most devices in a slice, in devices: with more than sixty times as many, a round takes longer than a
/// minute.
const SLICE_MAX: usize = 5_000;

/// Pause between slices.
const SLICE_MILLISECONDS: u64 = 1_000;

/// Judges devices.
pub(super) struct Statuses {
    store: Store,
    announcer: Announcer,
    clock: Clock,
    renewals: Renewals,
    /// Of these something is new.
    changed: BTreeSet<DeviceId>,
    /// Behind which device of the file the next slice begins.
    after: Option<i64>,
    last_slice: WallTime,
}

impl Statuses {
    pub(super) fn new(store: Store, announcer: Announcer, clock: Clock, renewals: Renewals) -> Self {
        Self {
            store,
            announcer,
            clock,
            renewals,
            changed: BTreeSet::new(),
            after: None,
            last_slice: WallTime(0),
        }
    }

    /// Judges those devices of which something is new, and a slice of the others.
    ///
    /// Ages are judged by `ages`, so that a step of the clock makes nobody lost or late.
    pub(super) fn step(&mut self, now: WallTime, ages: AgeTime) {
        let room = CHANGED_MAX.saturating_sub(self.changed.len());
        self.changed.extend(self.announcer.take_moved().into_iter().take(room));
        let room = CHANGED_PER_STEP_MAX.saturating_sub(self.changed.len());
        self.changed.extend(self.store.devices().take_changed(room));
        if let Err(error) = self.judge_changed(now, ages).and_then(|()| self.judge_slice(now, ages)) {
            log::warn!("devices were not judged, they will be in a minute: {error}");
        }
    }

    fn judge_changed(&mut self, now: WallTime, ages: AgeTime) -> Result<(), StoreError> {
        let changed: Vec<_> =
            std::iter::from_fn(|| self.changed.pop_first()).take(CHANGED_PER_STEP_MAX).collect();
        if !changed.is_empty() {
            self.settle(self.store.devices().facts_of(&changed, ages.wall)?, now, ages);
        }
        Ok(())
    }

    fn judge_slice(&mut self, now: WallTime, ages: AgeTime) -> Result<(), StoreError> {
        // Also when the clock was set back.
        if now.0.abs_diff(self.last_slice.0) < SLICE_MILLISECONDS {
            return Ok(());
        }
        self.last_slice = now;
        let most = self.store.table().len().div_ceil(SLICES).clamp(1, SLICE_MAX);
        let slice = self.store.devices().facts_behind(self.after, most, ages.wall)?;
        self.after = slice.next;
        self.settle(slice.devices, now, ages);
        Ok(())
    }

    /// Judges devices, says what has changed, and has it stored.
    fn settle(&self, devices: Vec<Judged>, now: WallTime, ages: AgeTime) {
        let (mut verdicts, mut given_up) = (Vec::new(), Vec::new());
        let mut has_said = false;
        for mut judged in devices {
            // Removed this very moment.
            let Some(record) = self.store.table().get(judged.device) else { continue };
            if let Some((since, was_unknown)) = judged.facts.waits
                && ages.may_expire
                && ages.wall.0.saturating_sub(since.0) >= WAITING_MILLISECONDS
            {
                given_up.push((judged.device, was_unknown));
                continue;
            }
            judged.facts.has_synced_since_due = judged
                .facts
                .certificate
                .is_some_and(|life| self.renewals.judge(self.store.table(), &record, life, now, ages.wall));
            judged.facts.lost_since = self.lost_since(&record, &judged.device_status, now, ages.wall);
            judged.facts.shared_identity = self.shared_identity(judged.device, now);
            judged.facts.events_held_since =
                self.announcer.held_since(judged.device, self.clock.now().moment);
            if ages.may_expire {
                judged.facts.clock_ahead_minutes = self.clock_of(&record, &judged.device_status);
            }
            let (status, reasons) = judge(&judged.facts, &judged.rules, ages.wall);
            if status != record.status {
                let texts = reasons.iter().map(|reason| reason.text(ages.wall)).collect();
                let change = StatusChange { device: judged.device, to: status, reasons: texts };
                if !self.announcer.say_status(now, self.store.table(), &change) {
                    // The status that administration shows changes when the log of events says so.
                    continue;
                }
                has_said = true;
            }
            if status != judged.device_status.status || reasons != judged.device_status.reasons {
                verdicts.push(Verdict { device: judged.device, status, reasons });
            }
        }
        if has_said {
            self.announcer.flush();
        }
        for (device, was_unknown) in given_up {
            if let Err(error) = self.store.devices().give_up_waiting(device, was_unknown, now) {
                log::warn!("device {device}, which waits for approval, was not removed: {error}");
                continue;
            }
            log::info!("device {device} waited for approval for 30 days, and is removed");
        }
        if !verdicts.is_empty() {
            self.store.devices().set_statuses(verdicts, now, |result| {
                if let Err(error) = result {
                    log::warn!("statuses were not stored, they will be in a minute: {error}");
                }
            });
        }
    }

    /// Since when the device counts as lost. One that was lost before the server started still is, until it
    /// comes: that others have time to come back says nothing of it.
    fn lost_since(
        &self,
        record: &DeviceState,
        device_status: &DeviceStatus,
        now: WallTime,
        ages: WallTime,
    ) -> Option<WallTime> {
        // Times of devices follow a step of the clock at once, what is stored of their statuses does not.
        let ahead = now.0.saturating_sub(ages.0);
        let in_ages = |time: WallTime| WallTime(time.0.saturating_sub(ahead));
        let signs = signs_of(record, self.clock.present_since());
        let before = device_status.reasons.iter().find_map(|reason| match &reason.cause {
            Cause::Lost { since } => Some(*since),
            _ => None,
        });
        let was_lost = before.filter(|since| in_ages(record.last_seen) <= *since);
        match (presence(&signs, now), was_lost) {
            (Presence::Lost, since) => Some(since.unwrap_or_else(|| in_ages(lost_at(&signs)))),
            (Presence::Idle, since) => since,
            _ => None,
        }
    }

    /// Whether another device seems to use its identity.
    fn shared_identity(&self, device: DeviceId, now: WallTime) -> Option<SharedIdentity> {
        let now = Now { wall: now, moment: self.clock.now().moment };
        let suspicion = self.announcer.clones.lock().suspicion(device, &now)?;
        let addresses = suspicion.addresses.iter().map(ToString::to_string).collect();
        Some(SharedIdentity { since: suspicion.since, addresses, policy: self.announcer.clone_policy() })
    }

    /// Distance by which the device's clock is ahead: as it said since the server started, or as was found
    /// before.
    fn clock_of(&self, record: &DeviceState, device_status: &DeviceStatus) -> i16 {
        if record.last_sync >= self.clock.started_at() {
            return record.clock_ahead_minutes;
        }
        let before = device_status.reasons.iter().find_map(|reason| match &reason.cause {
            Cause::Clock { ahead_minutes } => Some(*ahead_minutes),
            _ => None,
        });
        before.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
