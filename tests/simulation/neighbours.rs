//! Whether hostile devices have cost the honest ones anything: their records, their links, their service; and
//! whether any queue has grown beyond its bound.

use muster::machine::close::CloseReason;
use muster::machine::command::Job;
use muster::machine::device_state::DeviceState;
use muster::machine::rate::WORK_AHEAD_MICROSECONDS;
use muster::machine::restored::{Claim, WITNESSES};
use muster::wire::id::DeviceId;

use crate::bug::Bug;
use crate::device::Device;
use crate::endpoint::ENDPOINTS;
use crate::server::ACKS_MERGED_ABOVE;
use crate::world::World;

/// Share of its device's allowance that a job takes: `machine::rate` has the figure.
const JOB_MICROSECONDS: u64 = 20_000;

/// Amount that may come beyond the allowance: the last message, which may be a notice, and steps.
const OVERSHOOT_MICROSECONDS: u64 = 2_000_000;

/// Jobs of one link that are with workers at most: four reports, three sections.
const JOBS_PER_LINK_MAX: u32 = 7;

/// In which time an event is durable and acknowledged, and forgotten by its device: a link, a write, a few
/// ways.
const EVENT_SECONDS_MAX: u64 = 5;

/// Fields of a record that a neighbour must not change. A device that is called while a message is acted on
/// is called for reasons of its own.
fn comparable(record: &DeviceState) -> DeviceState {
    let mut record = *record;
    record.set_called(false);
    (record.wake_counter, record.has_news) = (0, false);
    record
}

impl World {
    /// The records of all honest devices.
    pub(crate) fn honest_records(&self) -> Vec<DeviceState> {
        self.devices.iter().filter_map(|device| self.server.records.get(&device.id)).map(comparable).collect()
    }

    /// After a message of a hostile device: nothing of the others has changed, and no queue is too long.
    pub(crate) fn check_neighbours(&self, hostile: DeviceId, before: &[DeviceState]) -> Result<(), String> {
        let after = self.honest_records();
        if let Some((was, is)) = before.iter().zip(&after).find(|(was, is)| was != is) {
            return Err(format!("{hostile} has changed the record of another: {was:?} became {is:?}"));
        }
        let (acks, links) = (self.server.acks(), self.server.names.len() + self.server.links_gone);
        if acks > usize::from(ENDPOINTS) * ACKS_MERGED_ABOVE.max(2 * links) {
            return Err(format!("{acks} acknowledgements of {links} links wait"));
        }
        let paid_until = self.server.paid_until.get(&hostile).copied().unwrap_or(0);
        let ahead = paid_until.saturating_sub(self.now);
        if ahead > WORK_AHEAD_MICROSECONDS + OVERSHOOT_MICROSECONDS {
            return Err(format!("{hostile} has cost {ahead} µs more than its allowance has come back since"));
        }
        let (calls, questions) = self.server.wake_scheduler.load();
        if calls > self.devices.len() + self.hostiles.len() {
            return Err(format!("{calls} calls are under way, and {questions} questions wait"));
        }
        Ok(())
    }

    /// A session has work for a worker: for its own device, and no more than a link may have under way.
    pub(crate) fn begin_job(&mut self, link: u32, id: DeviceId, job: &Job) -> Result<(), String> {
        let whose = match job {
            Job::Section(update) => update.device,
            Job::DesiredState(device) | Job::MoreDesiredState(device, _) | Job::Fork(device) => *device,
            Job::Runs(device, _) | Job::Statistics(device, _) | Job::Renew(device, _) => *device,
            Job::Trust(device) | Job::NoteTrust(device, _) | Job::Fetch(device, _) => *device,
            Job::Enrol(_) => return Err(format!("{id} is enrolled already")),
        };
        if whose != id {
            return Err(format!("work for {whose} came of a link of {id}"));
        }
        self.counts.hostile_jobs += u64::from(self.device_of(link).is_none());
        self.server.spend(self.now, id, JOB_MICROSECONDS);
        let jobs = self.server.jobs.entry(link).or_default();
        *jobs += 1;
        if *jobs > JOBS_PER_LINK_MAX {
            return Err(format!("{jobs} jobs of one link of {id} are with workers"));
        }
        Ok(())
    }

    /// A device knows more of the server than itself: the epoch changes once a start at most, and not for one
    /// or two.
    pub(crate) fn server_restored(&mut self, id: DeviceId) -> Result<(), String> {
        self.server.claimants.insert(id);
        let claim = self.server.restored.claimed(id);
        if claim != Claim::Enough && self.bug != Bug::EpochAtEachClaim {
            return Ok(());
        }
        if self.has_faults && self.chance(100) {
            // The store could not take it.
            self.server.restored.failed();
            return Ok(());
        }
        self.counts.server_epochs += 1;
        self.server.epochs_drawn += 1;
        self.server.draw_epoch(&mut self.random);
        let (drawn, claimants) = (self.server.epochs_drawn, self.server.claimants.len());
        if drawn > 1 || claimants < WITNESSES {
            return Err(format!(
                "{drawn} epochs were drawn since the start, by the word of {claimants} devices"
            ));
        }
        Ok(())
    }

    /// The server closes a link: that of an honest device, while nothing but hostile ones troubles it, only
    /// when it has nothing to say.
    pub(crate) fn check_close(&mut self, link: u32, reason: CloseReason) -> Result<(), String> {
        if reason == CloseReason::Stopping && self.server.busy.contains(&link) {
            return Err("a link was told that the server stops before the outcome of its job".into());
        }
        let Some((number, id)) = self.device_of(link) else {
            self.counts.links_closed_on_hostile += 1;
            return Ok(());
        };
        let is_usual =
            !self.devices[number].persistent && matches!(reason, CloseReason::Idle | CloseReason::PeerClosed);
        // It has another one, and came over it.
        let is_its_own = reason == CloseReason::Superseded && self.devices[number].link != Some(link);
        if self.is_beside && !is_usual && !is_its_own {
            return Err(format!(
                "a link of {id}, which is honest, was closed beside hostile devices: {reason:?}"
            ));
        }
        Ok(())
    }

    /// A device that runs and has events that were not acknowledged.
    fn first_with_events(&self) -> Option<DeviceId> {
        let has_events = |device: &&Device| {
            device.runs() && (device.disk.highest > device.forgotten_unsynced || !device.unsynced.is_empty())
        };
        self.devices.iter().find(has_events).map(|device| device.id)
    }

    fn emit_everywhere(&mut self) {
        for number in 0..self.devices.len() {
            if self.devices[number].runs() {
                self.emit(number);
            }
        }
    }

    /// Hostile devices do what they can; an event of each honest one is safe soon all the same, calls are
    /// answered, no link ends.
    pub(crate) fn serve_beside_hostile(&mut self) -> Result<(), String> {
        if self.hostiles.is_empty() || self.server.opened.is_none() {
            return Ok(());
        }
        // A device that was rolled back may find out with its next event alone, and begins other epochs until
        // one is new: that is over before.
        self.emit_everywhere();
        let end = self.now + 600_000_000;
        self.rest(30)?;
        while self.now < end && self.first_with_events().is_some() {
            self.rest(10)?;
        }
        self.rest(60)?;
        self.show("hostile devices do what they can");
        self.counts.beside += 1;
        self.is_beside = true;
        self.hostiles_begin();
        self.rest(1)?;
        for round in 0..3 {
            self.emit_everywhere();
            self.rest(EVENT_SECONDS_MAX)?;
            if let Some(device) = self.first_with_events() {
                return Err(format!("{device}: events are not safe in round {round}"));
            }
        }
        self.call_all()?;
        self.check_presence(true)?;
        self.is_beside = false;
        Ok(())
    }
}
