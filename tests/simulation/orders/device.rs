//! A device that is given orders: settings that it puts in place after a while, runs that it executes, and what it remembers of both.

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
use crate::world::{Step, World};

/// What a device keeps of its orders, durably before it says so.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    settings: Option<SettingsOrder>,
    /// The settings that are in place, with the revision that they came with.
    pub(crate) applied: Option<(u64, String)>,
    runs: BTreeMap<RunId, KeptRun>,
    /// Runs whose last word is stored: never executed again.
    finished: BTreeMap<RunId, RunUpdate>,
}

#[derive(Clone)]
struct KeptRun {
    may_repeat: bool,
    has_begun: bool,
    last: RunUpdate,
}

impl Kept {
    fn settings_digest(&self) -> Digest {
        self.settings.as_ref().map_or(Digest::EMPTY, SettingsOrder::digest)
    }

    fn runs_digest(&self) -> Digest {
        self.runs.keys().fold(Digest::EMPTY, |sum, run| sum.with(digest_of(*run)))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// What the device says of its settings.
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

impl World {
    /// The agent has just started: what its disk holds is told to the machine, and what was interrupted is decided.
    pub(crate) fn tell_kept(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let mut begin = Vec::new();
        for (run, kept) in &mut device.disk.kept.runs {
            match (kept.has_begun && !kept.last.stage.is_last(), kept.may_repeat) {
                (true, false) => {
                    kept.last.serial += 1;
                    kept.last.stage = RunStage::Failed;
                }
                (true, true) | (false, _) if !kept.last.stage.is_last() => begin.push(*run),
                _ => {}
            }
        }
        let kept = device.disk.kept.clone();
        let life = device.life;
        if let Some(machine) = &mut device.machine {
            machine.set_orders(kept.settings_digest(), kept.runs_digest());
            machine.section_changed(SectionContent::Conditions(vec![kept.condition()].into()));
            for kept in kept.runs.values() {
                machine.report_run(kept.last.clone());
            }
        }
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
        device.disk.kept.settings = order.settings.is_some().then_some(order);
        self.name_orders(number);
        let (delay, life) = (self.random.up_to(5_000_000), self.devices[number].life);
        self.after(delay, Step::SettingsApplied(number, life));
    }

    fn name_orders(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let kept = &device.disk.kept;
        if let Some(machine) = &mut device.machine {
            machine.set_orders(kept.settings_digest(), kept.runs_digest());
            machine.section_changed(SectionContent::Conditions(vec![kept.condition()].into()));
        }
    }

    /// The application has taken over what was ordered last.
    pub(crate) fn settings_applied(&mut self, number: usize, life: u32) -> Result<(), String> {
        let device = &mut self.devices[number];
        if device.life != life {
            return Ok(());
        }
        if device.awake().is_none() {
            // Who sleeps goes on where it was.
            self.after(5_000_000, Step::SettingsApplied(number, life));
            return Ok(());
        }
        let kept = &mut device.disk.kept;
        if let Some(SettingsOrder { revision, settings: Some(settings), .. }) = &kept.settings {
            kept.applied = Some((*revision, settings.clone()));
        }
        self.name_orders(number);
        self.pump(number)
    }

    pub(crate) fn take_run(&mut self, number: usize, order: &RunOrder) {
        let (delay, life) = (self.random.up_to(4_000_000), self.devices[number].life);
        let kept = &mut self.devices[number].disk.kept;
        let known = kept.runs.get(&order.run).map(|kept| &kept.last).or(kept.finished.get(&order.run));
        let known = known.filter(|_| self.bug != Bug::RunTakenTwice).cloned();
        let word = match known {
            Some(last) => last,
            None => {
                let last = first_word(order.run, RunStage::Accepted);
                let run = KeptRun { may_repeat: order.may_repeat, has_begun: false, last: last.clone() };
                kept.finished.remove(&order.run);
                kept.runs.insert(order.run, run);
                self.after(delay, Step::RunBegins(number, life, order.run));
                last
            }
        };
        if let Some(machine) = &mut self.devices[number].machine {
            machine.report_run(word);
        }
        self.name_orders(number);
    }

    pub(crate) fn run_begins(&mut self, number: usize, life: u32, run: RunId) -> Result<(), String> {
        let not_now = self.has_faults && self.chance(100);
        let takes = self.random.up_to(60_000_000);
        let device = &mut self.devices[number];
        if device.life != life {
            return Ok(());
        }
        let Some(kept) = device.disk.kept.runs.get_mut(&run).filter(|kept| !kept.last.stage.is_last()) else {
            return Ok(());
        };
        kept.last.serial += 1;
        if not_now && !kept.has_begun {
            self.counts.not_now += 1;
            kept.last.stage = RunStage::NotNow;
            kept.last.again_seconds = Some(20);
        } else {
            kept.last.stage = RunStage::Running;
            kept.has_begun = true;
            self.counts.runs_begun += 1;
            *self.desk_of_runs.begun.entry((device.id, run)).or_default() += 1;
            self.after(takes, Step::RunEnds(number, life, run));
        }
        self.say_of_run(number, run)
    }

    pub(crate) fn run_ends(&mut self, number: usize, life: u32, run: RunId) -> Result<(), String> {
        let has_failed = self.chance(200);
        let device = &mut self.devices[number];
        // A program goes on while the device's agent is away, and not through its crash: a supervisor would have to be modelled.
        if device.life != life {
            return Ok(());
        }
        let Some(kept) = device.disk.kept.runs.get_mut(&run).filter(|kept| !kept.last.stage.is_last()) else {
            return Ok(());
        };
        kept.last.serial += 1;
        kept.last.stage = if has_failed { RunStage::Failed } else { RunStage::Succeeded };
        kept.last.exit_code = Some(i32::from(has_failed));
        self.say_of_run(number, run)
    }

    fn say_of_run(&mut self, number: usize, run: RunId) -> Result<(), String> {
        let device = &mut self.devices[number];
        let word = device.disk.kept.runs.get(&run).map(|kept| kept.last.clone());
        if let (Some(machine), Some(word)) = (&mut device.machine, word) {
            machine.report_run(word);
        }
        self.pump(number)
    }

    pub(crate) fn take_run_list(&mut self, number: usize, runs: &[RunId]) {
        let device = &mut self.devices[number];
        let kept = &mut device.disk.kept;
        let mut words = Vec::new();
        for (_, kept) in kept.runs.iter_mut().filter(|(run, _)| !runs.contains(run)) {
            if !kept.last.stage.is_last() {
                kept.last.serial += 1;
                kept.last.stage = RunStage::Cancelled;
                words.push(kept.last.clone());
            }
        }
        for run in runs.iter().filter(|run| !kept.runs.contains_key(run)) {
            let known = kept.finished.get(run).cloned();
            words.push(known.unwrap_or_else(|| first_word(*run, RunStage::Unknown)));
        }
        if let Some(machine) = &mut device.machine {
            words.into_iter().for_each(|word| machine.report_run(word));
        }
    }

    pub(crate) fn runs_stored(&mut self, number: usize, acks: &[RunAck]) {
        let kept = &mut self.devices[number].disk.kept;
        for ack in acks {
            let is_over = |run: &KeptRun| run.last.stage.is_last() && run.last.serial <= ack.serial;
            if kept.runs.get(&ack.run).is_some_and(is_over)
                && let Some(run) = kept.runs.remove(&ack.run)
                && run.last.stage != RunStage::NotNow
            {
                kept.finished.insert(ack.run, run.last);
            }
        }
        self.name_orders(number);
    }
}
