//! The administrator's side: devices are called, and what is reported is held against what was asked.

use std::collections::{BTreeMap, BTreeSet};

use muster::machine::reach::UdpReach;
use muster::machine::wake_scheduler::{Ask, DeviceLocation, WakeAction};
use muster::wire::api::{CallOutcome, CallVia};
use muster::wire::datagram::{Wake, WakeReason};
use muster::wire::id::DeviceId;
use muster::wire::time::{Moment, WallTime};

use crate::world::{Step, World};

/// Longest call: each stage's longest time, twice, as one that asks during a sync waits for the next.
const CALL_SECONDS_MAX: u64 = 400;

/// Calls that were asked for and not yet reported in full.
#[derive(Default)]
pub(crate) struct CallLog {
    operations: BTreeMap<u64, Operation>,
    last: u64,
    wake_scheduler_at: Option<u64>,
}

struct Operation {
    /// The life of the server that was asked.
    life: u32,
    waiting: BTreeSet<DeviceId>,
    outcomes: BTreeMap<DeviceId, CallOutcome>,
}

impl World {
    /// One device, or all of them.
    pub(crate) fn call_somebody(&mut self) -> Result<(), String> {
        let reason = match self.random.up_to(4) {
            0 => WakeReason::Retrieve,
            1 => WakeReason::Task,
            2 => WakeReason::Stay,
            _ => WakeReason::Sync,
        };
        let numbers = if self.chance(100) {
            0..self.devices.len()
        } else {
            let number = usize::try_from(self.random.up_to(self.devices.len() as u64 - 1)).unwrap();
            number..number + 1
        };
        self.call(numbers, reason).map(drop)
    }

    /// Begins an operation; its number.
    pub(crate) fn call(
        &mut self,
        numbers: std::ops::Range<usize>,
        reason: WakeReason,
    ) -> Result<u64, String> {
        self.call_log.last += 1;
        let operation = self.call_log.last;
        if self.server.opened.is_none() {
            return Ok(operation);
        }
        let waiting: BTreeSet<DeviceId> = self.devices[numbers].iter().map(|device| device.id).collect();
        for device in &waiting {
            self.counts.calls += 1;
            let ask = Ask { operation, device: *device, reason };
            if !self.server.wake_scheduler.ask(Moment(self.now), ask) {
                return Err("a question was not taken".into());
            }
        }
        let life = self.server.life;
        self.call_log.operations.insert(operation, Operation { life, waiting, outcomes: BTreeMap::new() });
        self.after(CALL_SECONDS_MAX * 1_000_000, Step::OperationDue(operation));
        self.drain_wake_scheduler()?;
        Ok(operation)
    }

    /// Does what the wake scheduler wants done, until there is nothing.
    pub(crate) fn drain_wake_scheduler(&mut self) -> Result<(), String> {
        let now = Moment(self.now);
        if self.server.opened.is_none() {
            return Ok(());
        }
        while let Some(action) = self.server.wake_scheduler.poll(now) {
            match action {
                WakeAction::Look(device) => {
                    let place = self.location_of(device);
                    self.server.wake_scheduler.found(now, device, place);
                }
                WakeAction::OnLink { link, is_fresh } => {
                    self.sync_on(link, is_fresh)?;
                }
                WakeAction::Wake { device, address, reason, counter } => {
                    let wall = self.server_now().wall;
                    let records = &mut self.server.records;
                    let drawn = counter.or_else(|| Some(records.get_mut(&device)?.next_wake_counter(wall)));
                    let Some(counter) = drawn else { continue };
                    self.server.wake_scheduler.drawn(device, counter);
                    self.send_wake(Wake { device, reason, counter }, address);
                }
                WakeAction::Learned { device, address, has_come } => {
                    if let Some(record) = self.server.records.get_mut(&device) {
                        record.note_called(address, has_come);
                    }
                }
                WakeAction::Report { operation, device, outcome } => {
                    self.reported(operation, device, outcome)?;
                }
                WakeAction::Ended(device) => {
                    if let Some(record) = self.server.records.get_mut(&device) {
                        record.set_called(false);
                    }
                }
            }
        }
        if let Some(next) = self.server.wake_scheduler.next_timeout() {
            let next = next.0.max(self.now + 1);
            if self.call_log.wake_scheduler_at.is_none_or(|at| next < at || at <= self.now) {
                self.call_log.wake_scheduler_at = Some(next);
                self.at(next, Step::WakeScheduler);
            }
        }
        Ok(())
    }

    fn location_of(&mut self, device: DeviceId) -> Option<DeviceLocation> {
        let presence = self.presence_of(device)?;
        let record = self.server.records.get_mut(&device)?;
        record.set_called(true);
        let next_slot_at = WallTime(record.last_sync.0 + u64::from(record.due_seconds()) * 1_000);
        Some(DeviceLocation {
            link: record.link,
            address: record.wake_address(),
            is_unreached: record.udp_reach == UdpReach::Unreached,
            presence,
            next_slot_at: (record.last_sync != WallTime(0)).then_some(next_slot_at),
        })
    }

    fn reported(&mut self, number: u64, device: DeviceId, outcome: CallOutcome) -> Result<(), String> {
        self.counts.reports += 1;
        match &outcome {
            CallOutcome::Synced { by: CallVia::Link, .. } => self.counts.synced_on_link += 1,
            CallOutcome::Synced { by: CallVia::Wake, .. } => self.counts.synced_by_wake += 1,
            CallOutcome::Synced { by: CallVia::Itself, .. } => self.counts.synced_by_itself += 1,
            CallOutcome::Unreachable { .. } => self.counts.unreachable += 1,
            _ => {}
        }
        self.show(&format!("call {number} of {device}: {outcome:?}"));
        let life = self.server.life;
        let operation = self.call_log.operations.get_mut(&number).filter(|operation| operation.life == life);
        let operation = operation.ok_or(format!("operation {number} was reported on in another life"))?;
        if !operation.waiting.remove(&device) {
            return Err(format!("operation {number} was told of {device} twice, or did not ask for it"));
        }
        operation.outcomes.insert(device, outcome);
        Ok(())
    }

    /// A server that died takes its operations with it; any other has reported by now.
    pub(crate) fn operation_due(&mut self, number: u64) -> Result<(), String> {
        let Some(operation) = self.call_log.operations.remove(&number) else { return Ok(()) };
        match operation.waiting.first() {
            Some(device) if operation.life == self.server.life && self.server.opened.is_some() => {
                Err(format!("operation {number} was not told of {device} in {CALL_SECONDS_MAX} s"))
            }
            _ => Ok(()),
        }
    }

    /// Outcomes of an operation that has ended by now.
    pub(crate) fn outcomes(&mut self, number: u64) -> Result<BTreeMap<DeviceId, CallOutcome>, String> {
        let operation = self.call_log.operations.remove(&number).ok_or("the operation is not known")?;
        match operation.waiting.first() {
            Some(device) => Err(format!("nothing was reported of {device} in time")),
            None => Ok(operation.outcomes),
        }
    }
}
