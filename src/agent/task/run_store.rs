//! The runs that this device has: accepted, waiting, being executed, or over and not yet stored at the
//! server.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::execution::Execution;
use super::files::{self, Accepted, ORDER, Outcome, PLAN, Progress, RESULT};
use super::plan::{Plan, plan};
use super::report::{Serials, final_report, last_serial, news};
use super::tombstones::{Tombstone, Tombstones};
use crate::agent::ab_slots::{SlotError, sync_directory};
use crate::agent::artifact::Artifacts;
use crate::agent::checksummed::Content;
use crate::agent::directory::Directory;
use crate::agent::local::protocol::RunStatus;
use crate::agent::settings::Settings;
use crate::wire::digest::Digest;
use crate::wire::id::RunId;
use crate::wire::limits::RUNS_PER_DEVICE_MAX;
use crate::wire::task::{RunAck, RunOrder, RunStage, RunUpdate, digest_of};
use crate::wire::time::{Moment, Now, WallTime};

/// The least that counts as the system's sleep.
const SLEPT_MILLISECONDS_MIN: u64 = 1_000;

/// Message of a run of which nobody knows the end.
pub(super) const INTERRUPTED: &str = "interrupted: the device or its agent was stopped while it ran";

/// The runs of this device. The one owner of `runs/`.
#[derive(Debug)]
pub struct Runs {
    directory: PathBuf,
    /// Which boot of the system this is; empty where it does not tell.
    boot: String,
    /// Distance by which the system's uptime is ahead of the moments that this is told, in milliseconds: more
    /// after each sleep.
    uptime_ahead: u64,
    tombstones: Tombstones,
    pub(super) runs: BTreeMap<RunId, DeviceRun>,
    /// The files that they need.
    pub(super) artifacts: Artifacts,
    /// The run whose artifact is being checked.
    pub(super) checking: Option<RunId>,
    /// To be reported.
    pub(super) news: Vec<RunUpdate>,
}

/// A run that the device has accepted.
#[derive(Debug)]
pub(super) struct DeviceRun {
    pub(super) order: RunOrder,
    pub(super) at: WallTime,
    /// In which order they came; by no clock.
    pub(super) number: u64,
    pub(super) directory: PathBuf,
    pub(super) serials: Serials,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    Waiting(Wait),
    Running(Execution),
    /// Its final report waits to be stored at the server.
    Over {
        stage: RunStage,
        from: u32,
    },
}

/// A run's wait for its turn, and for its artifact if it has one.
#[derive(Debug)]
pub(super) struct Wait {
    /// Until when it must have begun.
    pub(super) begin_by: Moment,
    /// Its artifact is whole and right, with the comment of its signature if that was to be checked.
    pub(super) checked: Option<Option<String>>,
    /// Times that the artifact's content was wrong.
    pub(super) faults: u32,
    /// Progress of the artifact; empty: nothing is known of it yet.
    pub(super) message: String,
    /// When that was last said.
    pub(super) said_at: Option<Moment>,
}

impl Wait {
    pub(super) fn until(begin_by: Moment) -> Self {
        Self { begin_by, checked: None, faults: 0, message: String::new(), said_at: None }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { percent: None, message: self.message.clone() }
    }
}

impl DeviceRun {
    /// Its place among those that came before and after it.
    pub(super) fn came(&self) -> (u64, WallTime, RunId) {
        (self.number, self.at, self.order.run)
    }

    /// Says that it is accepted or running.
    pub(super) fn say(&mut self, stage: RunStage, progress: &Progress) -> RunUpdate {
        let serial = self.serials.next(&self.directory);
        news(self.order.run, serial, stage, progress)
    }

    /// Its final report is on the disk: says it.
    pub(super) fn close(&mut self, outcome: Outcome) -> Vec<RunUpdate> {
        let from = self.serials.last_from(&self.directory);
        self.stage = Stage::Over { stage: outcome.stage, from };
        final_report(self.order.run, from, outcome)
    }

    /// Ends it with a final report that is not on the disk yet.
    pub(super) fn end(&mut self, mut outcome: Outcome) -> Vec<RunUpdate> {
        if let Stage::Running(execution) = &self.stage {
            outcome.progress_percent = execution.progress.percent;
        }
        if let Err(error) = files::write(&self.directory, RESULT, &outcome) {
            log::error!("{}: {RESULT} can't be written: {error}", self.directory.display());
        }
        self.close(outcome)
    }
}

impl Runs {
    /// Finds what an earlier agent left behind. `boot` and `uptime_milliseconds` are as in [`Accepted`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(data: &Directory, now: &Now, boot: String, uptime_milliseconds: u64) -> io::Result<Self> {
        let directory = data.runs();
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let directory = directory.canonicalize()?;
        let tombstones = match Tombstones::open(&directory) {
            Ok(tombstones) => tombstones,
            Err(SlotError::Io(_, source)) => return Err(source),
            Err(error) => {
                log::error!(
                    "{error}: runs that are over are forgotten; none of them is ordered again unless the server was restored"
                );
                Tombstones::empty(&directory)
            }
        };
        let mut runs = Self {
            directory: directory.clone(),
            boot,
            uptime_ahead: ahead(uptime_milliseconds, now),
            tombstones,
            runs: BTreeMap::new(),
            artifacts: Artifacts::open(data.artifacts())?,
            checking: None,
            news: Vec::new(),
        };
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                runs.find(run, &entry.path(), now)?;
            }
        }
        Ok(runs)
    }

    fn find(&mut self, run: RunId, directory: &Path, now: &Now) -> io::Result<()> {
        let stone = self.tombstones.find(run);
        if stone.is_some_and(|stone| stone.stage != RunStage::NotNow) {
            return fs::remove_dir_all(directory);
        }
        let serials = Serials::resume(directory, stone.map_or(0, |stone| stone.serial));
        let (accepted, is_damaged) = match files::read::<Accepted>(directory, ORDER)? {
            // It was never accepted: the server orders it again.
            Content::Absent => return fs::remove_dir_all(directory),
            Content::Whole(accepted) => (accepted, false),
            Content::Torn => (unreadable(run), true),
        };
        let age = accepted.age_milliseconds(now.wall, &self.boot, self.uptime(now));
        let number = accepted.number.unwrap_or(0);
        let Accepted { order, at, .. } = accepted;
        let left = (u64::from(order.start_within_seconds) * 1_000).saturating_sub(age);
        let begin_by = now.moment.plus_milliseconds(left);
        let mut kept = DeviceRun {
            order,
            at,
            number,
            directory: directory.to_owned(),
            serials,
            stage: Stage::Waiting(Wait::until(begin_by)),
        };
        let was_begun = directory.join(PLAN).exists() || directory.join(RESULT).exists();
        if is_damaged {
            super::program::end_orphans(directory);
            kept.end(Outcome::without_output(
                RunStage::Failed,
                format!("{INTERRUPTED} (its order is damaged)"),
            ));
        } else if was_begun {
            kept.stage = Stage::Running(Execution::left_behind());
        }
        self.runs.insert(run, kept);
        if was_begun && !is_damaged {
            self.look(run, now)?;
        }
        // Runs that are over are reported with everything else by `final_reports`.
        self.news.clear();
        Ok(())
    }

    fn uptime(&self, now: &Now) -> u64 {
        (now.moment.0 / 1_000).saturating_add(self.uptime_ahead)
    }

    /// Counts the time that the system has slept: it is over for runs that wait. To be told before
    /// [`Runs::work`].
    pub fn note_uptime(&mut self, uptime_milliseconds: u64, now: &Now) {
        let ahead = ahead(uptime_milliseconds, now);
        let slept = ahead.saturating_sub(self.uptime_ahead);
        // Two clocks that are read one after the other differ by a little each time.
        if slept < SLEPT_MILLISECONDS_MIN {
            return;
        }
        self.uptime_ahead = ahead;
        for run in self.runs.values_mut() {
            if let Stage::Waiting(Wait { begin_by, .. }) = &mut run.stage {
                *begin_by = Moment(begin_by.0.saturating_sub(slept.saturating_mul(1_000)));
            }
        }
    }

    /// Reports of all runs that are over, for a server that may not have heard them.
    pub fn final_reports(&mut self) -> Vec<RunUpdate> {
        let over = self.runs.iter().filter(|(_, run)| matches!(run.stage, Stage::Over { .. }));
        let over: Vec<RunId> = over.map(|(id, _)| *id).collect();
        over.into_iter().flat_map(|run| self.said(run)).collect()
    }

    /// Whether this run is here.
    #[must_use]
    pub fn has(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// An order has come. It is accepted when it is on the disk, and only once.
    ///
    /// # Errors
    /// When it can't be kept: it is not accepted, and the server orders it again.
    pub fn accept(&mut self, order: &RunOrder, now: &Now, rejection: Option<String>) -> io::Result<()> {
        let stone = self.tombstones.find(order.run);
        let is_over = stone.is_some_and(|stone| stone.stage != RunStage::NotNow);
        if is_over || self.runs.contains_key(&order.run) {
            let said = self.said(order.run);
            self.news.extend(said);
            return Ok(());
        }
        if self.runs.len() >= RUNS_PER_DEVICE_MAX {
            return Err(io::Error::other(format!("{RUNS_PER_DEVICE_MAX} runs are here already")));
        }
        let directory = self.directory.join(order.run.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let number = self.runs.values().map(|run| run.number).max().unwrap_or(0).saturating_add(1);
        let accepted = Accepted {
            order: order.clone(),
            at: now.wall,
            boot: Some(self.boot.clone()),
            uptime_milliseconds: Some(self.uptime(now)),
            number: Some(number),
        };
        let serials = Serials::above(stone.map_or(0, |stone| stone.serial));
        files::write(&directory, ORDER, &accepted)?;
        sync_directory(&self.directory)?;
        let begin_by = now.moment.plus_seconds(u64::from(order.start_within_seconds));
        let stage = Stage::Waiting(Wait::until(begin_by));
        let mut run = DeviceRun { order: accepted.order, at: accepted.at, number, directory, serials, stage };
        match rejection {
            Some(why) => self.news.extend(run.end(Outcome::without_output(RunStage::Rejected, why))),
            None => self.news.push(run.say(RunStage::Accepted, &Progress::default())),
        }
        self.runs.insert(order.run, run);
        Ok(())
    }

    /// Works out what an order comes to ([`plan()`]).
    ///
    /// # Errors
    /// Why the device does not do this.
    pub fn plan(&self, settings: &Settings, order: &RunOrder) -> Result<Plan, String> {
        plan(settings, order, &self.artifacts).map(|(plan, _)| plan)
    }

    /// Reports of a run that the server asks about.
    fn said(&mut self, id: RunId) -> Vec<RunUpdate> {
        let Some(run) = self.runs.get_mut(&id) else {
            let (serial, stage) = match self.tombstones.find(id) {
                Some(stone) if stone.stage != RunStage::NotNow => (stone.serial, stone.stage),
                Some(stone) => (stone.serial.saturating_add(1), RunStage::Unknown),
                None => (1, RunStage::Unknown),
            };
            let message = match stage {
                RunStage::Unknown => "the device does not know this run: its state was lost or rolled back",
                _ => "it was over, and reported, before",
            };
            let message = Progress { percent: None, message: message.to_owned() };
            return vec![news(id, serial, stage, &message)];
        };
        match &run.stage {
            Stage::Waiting(wait) => {
                let progress = wait.progress();
                vec![run.say(RunStage::Accepted, &progress)]
            }
            Stage::Running(execution) => {
                let progress = execution.progress.clone();
                vec![run.say(RunStage::Running, &progress)]
            }
            Stage::Over { stage, .. } => {
                let read = files::read::<Outcome>(&run.directory, RESULT).map(Content::whole);
                let outcome = read.ok().flatten();
                let stage = *stage;
                let outcome =
                    outcome.unwrap_or_else(|| Outcome::without_output(stage, "its result was lost"));
                run.close(outcome)
            }
        }
    }

    /// All runs that the server wants: others are ended, and those that nobody knows here are named.
    pub fn keep_only(&mut self, wanted: &[RunId], now: &Now) {
        let unwanted: Vec<RunId> = self.runs.keys().filter(|run| !wanted.contains(run)).copied().collect();
        for id in unwanted {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            match &mut run.stage {
                Stage::Waiting(_) => {
                    let outcome = Outcome {
                        message: "never begun, because the server does not want it any more".to_owned(),
                        ..Outcome::cancelled()
                    };
                    self.news.extend(run.end(outcome));
                }
                Stage::Running(_) => self.cancel(id, now),
                Stage::Over { .. } => {}
            }
        }
        for id in wanted {
            if !self.runs.contains_key(id) {
                let said = self.said(*id);
                self.news.extend(said);
            }
        }
    }

    /// The server has stored these: runs whose final report is among them are forgotten, but for their
    /// tombstones.
    ///
    /// # Errors
    /// When the system refuses; they stay, and are reported again.
    pub fn stored(&mut self, acks: &[RunAck]) -> Result<(), SlotError> {
        let mut over = Vec::new();
        for ack in acks {
            if let Some(DeviceRun { stage: Stage::Over { stage, from }, .. }) = self.runs.get(&ack.run)
                && ack.serial >= last_serial(*from)
            {
                over.push(Tombstone { run: ack.run, stage: *stage, serial: last_serial(*from) });
            }
        }
        if over.is_empty() {
            return Ok(());
        }
        self.tombstones.add(&over)?;
        for stone in over {
            if let Some(run) = self.runs.remove(&stone.run)
                && let Err(error) = fs::remove_dir_all(&run.directory)
            {
                // At the next start it is tried again.
                log::warn!("{}: {error}", run.directory.display());
            }
        }
        Ok(())
    }

    /// The sum of the digests of the runs that are here.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.runs.keys().fold(Digest::EMPTY, |sum, run| sum.with(digest_of(*run)))
    }

    /// Reports since the last call.
    pub fn take_news(&mut self) -> Vec<RunUpdate> {
        std::mem::take(&mut self.news)
    }

    /// Every run, oldest first, for `muster-agent status`.
    #[must_use]
    pub fn list(&self) -> Vec<RunStatus> {
        let mut runs: Vec<_> = self.runs.values().collect();
        runs.sort_by_key(|run| run.came());
        let status = |run: &DeviceRun| {
            let (stage, progress) = match &run.stage {
                Stage::Waiting(wait) => (RunStage::Accepted, wait.progress()),
                Stage::Running(execution) => (RunStage::Running, execution.progress.clone()),
                Stage::Over { stage, .. } => (*stage, Progress::default()),
            };
            RunStatus {
                run: run.order.run,
                application: run.order.application.clone(),
                kind: run.order.kind.clone(),
                stage,
                accepted_at: run.at,
                progress_percent: progress.percent,
                message: progress.message,
            }
        };
        runs.into_iter().map(status).collect()
    }
}

fn ahead(uptime_milliseconds: u64, now: &Now) -> u64 {
    uptime_milliseconds.saturating_sub(now.moment.0 / 1_000)
}

/// Stands for an order that is damaged.
fn unreadable(run: RunId) -> Accepted {
    let order = RunOrder { run, ..RunOrder::default() };
    Accepted { order, ..Accepted::default() }
}
