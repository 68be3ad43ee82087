//! Orders: policies with locks and the settings that come of them, tasks and their runs; at the server by the
//! real rules, on devices as simply as can be, and beside both a reference that knows nothing of either.

mod clock;
mod device;
mod server;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use muster::wire::id::{DeviceId, RunId};

use crate::world::{Step, World};

pub(crate) use device::Stored;
pub(crate) use server::OrderBook;

/// The one application that devices offer.
pub(crate) const APPLICATION: &str = "shop";

/// Interval at which the server looks at what is due of its tasks.
pub(crate) const SCHEDULER_SECONDS: u64 = 5;

/// Settings of one level: the root group, a group below it, or a device.
#[derive(Clone, Default, Debug)]
pub(crate) struct Level {
    pub(crate) values: BTreeMap<String, u64>,
    /// Keys of `values`.
    pub(crate) locks: BTreeSet<String>,
}

/// Facts that nobody in the simulation sees but its judge.
#[derive(Default)]
pub(crate) struct RunLog {
    /// Number of times that each run was begun.
    pub(crate) begun: BTreeMap<(DeviceId, RunId), u32>,
}

impl World {
    /// By chance, a policy is edited, a task is made or cancelled.
    pub(crate) fn change_desired_state(&mut self) -> Result<(), String> {
        let (rates, now, devices) = (self.rates.clone(), self.book_now(), self.devices.len() as u64);
        if self.chance(rates.edit) {
            self.counts.edits += 1;
            self.server.book.edit(&mut self.random, devices);
            for number in 0..self.devices.len() {
                self.desired_state_changed(self.devices[number].id);
                self.notify_device(self.devices[number].id)?;
            }
        }
        if self.chance(rates.task) {
            self.counts.runs_made += 1;
            let device = DeviceId(1 + self.random.up_to(devices - 1));
            let made = self.made();
            self.server.book.add_run(&mut self.random, device, now, made);
        }
        if self.chance(rates.task / 4)
            && let Some(device) = self.server.book.cancel_run(&mut self.random, now)
        {
            self.counts.runs_cancelled += 1;
            self.desired_state_changed(device);
            self.notify_device(device)?;
        }
        self.change_what_goes_by_the_clock()
    }

    pub(crate) fn desired_state_changed(&mut self, device: DeviceId) {
        let digest = self.server.book.digest(device);
        if let Some(record) = self.server.records.get_mut(&device) {
            record.desired_digest = digest;
        }
    }

    /// A device that is connected is asked to sync; the others come by themselves.
    fn notify_device(&mut self, device: DeviceId) -> Result<(), String> {
        match self.server.records.get(&device).and_then(|record| record.link) {
            Some(link) => self.sync_on(link, false),
            None => Ok(()),
        }
    }

    /// Only in the life of the server in which it was due.
    pub(crate) fn scheduler(&mut self, life: u32) -> Result<(), String> {
        if self.server.opened.is_none() || life != self.server.life {
            return Ok(());
        }
        self.after(SCHEDULER_SECONDS * 1_000_000, Step::Scheduler(life));
        self.watch_clock()?;
        for device in self.step_book()? {
            self.desired_state_changed(device);
            self.notify_device(device)?;
        }
        Ok(())
    }
}
