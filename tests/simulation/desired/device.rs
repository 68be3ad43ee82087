//! A device that is given a desired state: settings that it puts in place after a while, runs that it
//! executes, and what it remembers of both.

use std::collections::BTreeMap;

use muster::machine::agent::SectionContent;
use muster::wire::digest::Digest;
use muster::wire::id::RunId;
use muster::wire::section::{ApplicationCondition, Condition};
use muster::wire::settings::{SettingsOrder, SettingsReport, SettingsState};
use muster::wire::task::{RunAck, RunOrder, RunStage, RunUpdate, digest_of};
use muster::wire::time::WallTime;

use super::APPLICATION;
use crate::bug::Bug;
use crate::device::Device;
use crate::world::{Step, World};

/// A device's copy of its desired state, durable before it says so.
#[derive(Clone, Default)]
pub(crate) struct Stored {
    settings: Option<SettingsOrder>,
    /// The settings that are in place, with the revision that they came with.
    pub(crate) applied: Option<(u64, String)>,
    runs: BTreeMap<RunId, StoredRun>,
    /// Runs whose final report is stored: never executed again.
    finished: BTreeMap<RunId, RunUpdate>,
}

#[derive(Clone)]
struct StoredRun {
    may_repeat: bool,
    has_begun: bool,
    last: RunUpdate,
}

impl Stored {
    fn settings_digest(&self) -> Digest {
        self.settings.as_ref().map_or(Digest::EMPTY, SettingsOrder::digest)
    }

    fn runs_digest(&self) -> Digest {
        self.runs.keys().fold(Digest::EMPTY, |sum, run| sum.with(digest_of(*run)))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// The device's report of its settings.
    fn condition(&self) -> ApplicationCondition {
        let settings = self.settings.as_ref().map(|order| {
            let is_applied = self.applied.as_ref().map(|(_, text)| text) == order.settings.as_ref();
            SettingsReport {
                revision: order.revision,
                digest: order.digest(),
                state: if is_applied { SettingsState::Applied } else { SettingsState::Pending },
                applied_revision: self.applied.as_ref().map_or(0, |(revision, _)| *revision),
                since: WallTime(0),
                detail: String::new(),
            }
        });
        ApplicationCondition {
            application: APPLICATION.into(),
            condition: Condition::Running,
            since: WallTime(0),
            version: String::new(),
            detail: String::new(),
            settings,
        }
    }
}

fn first_word(run: RunId, stage: RunStage) -> RunUpdate {
    RunUpdate::new(run, 1, stage)
}

impl Device {
    /// A run that has not ended. A program goes on while the device's agent is away, and not through its
    /// crash: a supervisor would have to be modelled.
    fn open_run(&mut self, life: u32, run: RunId) -> Option<&mut StoredRun> {
        let is_open = |stored: &&mut StoredRun| !stored.last.stage.is_last();
        self.disk.stored.runs.get_mut(&run).filter(is_open).filter(|_| self.life == life)
    }
}

impl World {
    /// The agent has just started: what its disk holds is told to the machine, and what was interrupted is
    /// decided.
    pub(crate) fn report_stored(&mut self, number: usize) {
        self.name_desired_digests(number);
        let device = &mut self.devices[number];
        let mut begin = Vec::new();
        for (run, stored) in &mut device.disk.stored.runs {
            match (stored.has_begun && !stored.last.stage.is_last(), stored.may_repeat) {
                (true, false) => {
                    stored.last.serial += 1;
                    stored.last.stage = RunStage::Failed;
                }
                (true, true) | (false, _) if !stored.last.stage.is_last() => begin.push(*run),
                _ => {}
            }
            if let Some(machine) = &mut device.machine {
                machine.report_run(stored.last.clone());
            }
        }
        let life = device.life;
        for run in begin {
            let delay = self.random.up_to(2_000_000);
            self.after(delay, Step::RunBegins(number, life, run));
        }
        let delay = self.random.up_to(5_000_000);
        self.after(delay, Step::SettingsApplied(number, life));
    }

    pub(crate) fn take_settings(&mut self, number: usize, order: SettingsOrder) {
        self.counts.settings_taken += 1;
        let device = &mut self.devices[number];
        device.disk.stored.settings = order.settings.is_some().then_some(order);
        self.name_desired_digests(number);
        let (delay, life) = (self.random.up_to(5_000_000), self.devices[number].life);
        self.after(delay, Step::SettingsApplied(number, life));
    }

    fn name_desired_digests(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let stored = &device.disk.stored;
        if let Some(machine) = &mut device.machine {
            machine.set_desired_digests(stored.settings_digest(), stored.runs_digest());
            machine.section_changed(SectionContent::Conditions(vec![stored.condition()].into()));
        }
    }

    /// The application has taken over what was ordered last.
    pub(crate) fn settings_applied(&mut self, number: usize, life: u32) -> Result<(), String> {
        let device = &mut self.devices[number];
        if device.life != life {
            return Ok(());
        }
        if device.awake().is_none() {
            // A device that sleeps goes on where it was.
            self.after(5_000_000, Step::SettingsApplied(number, life));
            return Ok(());
        }
        let stored = &mut device.disk.stored;
        if let Some(SettingsOrder { revision, settings: Some(settings), .. }) = &stored.settings {
            stored.applied = Some((*revision, settings.clone()));
        }
        self.name_desired_digests(number);
        self.pump(number)
    }

    pub(crate) fn take_run(&mut self, number: usize, order: &RunOrder) {
        let (delay, life) = (self.random.up_to(4_000_000), self.devices[number].life);
        let stored = &mut self.devices[number].disk.stored;
        let known =
            stored.runs.get(&order.run).map(|stored| &stored.last).or(stored.finished.get(&order.run));
        let known = known.filter(|_| self.bug != Bug::RunTakenTwice).cloned();
        let word = match known {
            Some(last) => last,
            None => {
                let last = first_word(order.run, RunStage::Accepted);
                let run = StoredRun { may_repeat: order.may_repeat, has_begun: false, last: last.clone() };
                stored.finished.remove(&order.run);
                stored.runs.insert(order.run, run);
                self.after(delay, Step::RunBegins(number, life, order.run));
                last
            }
        };
        if let Some(machine) = &mut self.devices[number].machine {
            machine.report_run(word);
        }
        self.name_desired_digests(number);
    }

    pub(crate) fn run_begins(&mut self, number: usize, life: u32, run: RunId) -> Result<(), String> {
        let not_now = self.has_faults && self.chance(100);
        let takes = self.random.up_to(60_000_000);
        let device = &mut self.devices[number];
        let Some(stored) = device.open_run(life, run) else { return Ok(()) };
        stored.last.serial += 1;
        if not_now && !stored.has_begun {
            self.counts.not_now += 1;
            stored.last.stage = RunStage::NotNow;
            stored.last.again_seconds = Some(20);
        } else {
            stored.last.stage = RunStage::Running;
            stored.has_begun = true;
            self.counts.runs_begun += 1;
            *self.run_log.begun.entry((device.id, run)).or_default() += 1;
            self.after(takes, Step::RunEnds(number, life, run));
        }
        self.say_of_run(number, run)
    }

    pub(crate) fn run_ends(&mut self, number: usize, life: u32, run: RunId) -> Result<(), String> {
        let has_failed = self.chance(200);
        let Some(stored) = self.devices[number].open_run(life, run) else { return Ok(()) };
        stored.last.serial += 1;
        stored.last.stage = if has_failed { RunStage::Failed } else { RunStage::Succeeded };
        stored.last.exit_code = Some(i32::from(has_failed));
        self.say_of_run(number, run)
    }

    fn say_of_run(&mut self, number: usize, run: RunId) -> Result<(), String> {
        let device = &mut self.devices[number];
        let word = device.disk.stored.runs.get(&run).map(|stored| stored.last.clone());
        if let (Some(machine), Some(word)) = (&mut device.machine, word) {
            machine.report_run(word);
        }
        self.pump(number)
    }

    pub(crate) fn take_run_list(&mut self, number: usize, runs: &[RunId]) {
        let device = &mut self.devices[number];
        let stored = &mut device.disk.stored;
        let mut words = Vec::new();
        for (_, stored) in stored.runs.iter_mut().filter(|(run, _)| !runs.contains(run)) {
            if !stored.last.stage.is_last() {
                stored.last.serial += 1;
                stored.last.stage = RunStage::Cancelled;
                words.push(stored.last.clone());
            }
        }
        for run in runs.iter().filter(|run| !stored.runs.contains_key(run)) {
            let known = stored.finished.get(run).cloned();
            words.push(known.unwrap_or_else(|| first_word(*run, RunStage::Unknown)));
        }
        if let Some(machine) = &mut device.machine {
            words.into_iter().for_each(|word| machine.report_run(word));
        }
    }

    pub(crate) fn runs_stored(&mut self, number: usize, acks: &[RunAck]) {
        let stored = &mut self.devices[number].disk.stored;
        for ack in acks {
            let is_over = |run: &StoredRun| run.last.stage.is_last() && run.last.serial <= ack.serial;
            if stored.runs.get(&ack.run).is_some_and(is_over)
                && let Some(run) = stored.runs.remove(&ack.run)
                && run.last.stage != RunStage::NotNow
            {
                stored.finished.insert(ack.run, run.last);
            }
        }
        self.name_desired_digests(number);
    }
}
