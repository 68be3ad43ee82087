//! The server's store of desired state: policies, runs, and the state that each device lacks, by the real
//! rules.

use std::collections::BTreeMap;

use muster::fleet::settings::{self, KeyPath, merge};
use muster::fleet::task::run::{Latest, RunProgress, RunRules, RunState};
use muster::machine::command::DesiredState;
use muster::machine::random::Random;
use muster::machine::task_clock::{TaskTime, TimeChange};
use muster::wire::digest::Digest;
use muster::wire::id::{DeviceId, RunId};
use muster::wire::settings::{Drift, SettingsOrder, SettingsReport, digest_of};
use muster::wire::task::{RunAck, RunOrder, RunUpdates, RunsStored, digest_of as digest_of_run};
use muster::wire::time::WallTime;
use serde_json::{Map, Value};

use super::clock::{BookedTask, BookedToken, Made};
use super::{APPLICATION, Level};

/// Longest wait of a run for its device.
pub(super) const EXPIRY_MILLISECONDS: u64 = 1_200_000;

/// Most runs of one device that have not ended.
const OPEN_RUNS_MAX: usize = 8;

/// Longest execution.
pub(super) const TIMEOUT_SECONDS: u32 = 600;

/// Longest silence of a device that has it.
pub(super) const LEASE_SECONDS: u32 = 420;

#[derive(Clone)]
pub(super) struct BookedRun {
    device: DeviceId,
    pub(super) run: RunProgress,
    may_repeat: bool,
    /// When its state changed last, by the server's clock.
    changed_at: WallTime,
    /// When it was made.
    pub(super) made: Made,
    /// When its device was last heard of it, in truth.
    pub(super) heard: u64,
}

impl BookedRun {
    fn rules(&self, serving_since: WallTime) -> RunRules {
        RunRules {
            timeout_seconds: TIMEOUT_SECONDS,
            lease_seconds: LEASE_SECONDS,
            may_repeat: self.may_repeat,
            deaf_until: WallTime(serving_since.0 + u64::from(LEASE_SECONDS) * 1_000),
        }
    }
}

/// Commits are atomic and durable.
#[derive(Clone, Default)]
pub(crate) struct OrderBook {
    root: Level,
    groups: [Level; 2],
    own: BTreeMap<DeviceId, Level>,
    revision: u64,
    pub(super) runs: BTreeMap<RunId, BookedRun>,
    pub(super) tasks: Vec<BookedTask>,
    pub(super) tokens: Vec<BookedToken>,
}

impl OrderBook {
    fn group_of(device: DeviceId) -> usize {
        usize::try_from(device.0 % 2).unwrap_or(0)
    }

    /// The outermost first.
    pub(crate) fn levels_of(&self, device: DeviceId) -> Vec<&Level> {
        let mut levels = vec![&self.root, &self.groups[Self::group_of(device)]];
        levels.extend(self.own.get(&device));
        levels
    }

    /// Somebody edits a policy or a device's own settings.
    pub(crate) fn edit(&mut self, random: &mut Random, devices: u64) {
        self.revision += 1;
        let level = match random.up_to(3) {
            0 => &mut self.root,
            1 | 2 => &mut self.groups[usize::try_from(random.up_to(1)).unwrap_or(0)],
            _ => self.own.entry(DeviceId(1 + random.up_to(devices - 1))).or_default(),
        };
        let key = ["a", "b", "c", "d"][usize::try_from(random.up_to(3)).unwrap_or(0)].to_owned();
        match random.up_to(5) {
            0 => {
                level.values.remove(&key);
                level.locks.remove(&key);
            }
            1 if level.values.contains_key(&key) => {
                level.locks.insert(key);
            }
            2 => {
                level.locks.remove(&key);
            }
            _ => {
                level.values.insert(key, random.up_to(9));
            }
        }
    }

    /// The levels, merged by the real rules; `None` when nobody has set anything.
    fn desired(&self, device: DeviceId) -> Option<String> {
        let owned = |level: &&Level| -> (Map<String, Value>, Vec<KeyPath>) {
            let settings = level.values.iter().map(|(key, value)| (key.clone(), Value::from(*value)));
            (settings.collect(), level.locks.iter().filter_map(|lock| lock.parse().ok()).collect())
        };
        let levels: Vec<_> = self.levels_of(device).iter().map(owned).collect();
        if levels.iter().all(|(settings, _)| settings.is_empty()) {
            return None;
        }
        let levels: Vec<_> = levels
            .iter()
            .map(|(settings, locks)| settings::Level { from: "", settings, locks, drift: None })
            .collect();
        Some(merge(&levels).text())
    }

    fn open_runs(&self, device: DeviceId) -> impl Iterator<Item = (RunId, &BookedRun)> {
        let is_open = move |booked: &&BookedRun| booked.device == device && booked.run.state.is_at_device();
        self.runs.iter().filter(move |(_, booked)| is_open(booked)).map(|(run, booked)| (*run, booked))
    }

    /// The digest of all that the device is to have.
    pub(crate) fn digest(&self, device: DeviceId) -> Digest {
        let settings =
            self.desired(device).map_or(Digest::EMPTY, |text| digest_of(APPLICATION, &text, Drift::Repair));
        self.open_runs(device).fold(settings, |sum, (run, _)| sum.with(digest_of_run(run)))
    }

    /// The messages that the device lacks, given its report of its settings.
    pub(crate) fn desired_state(
        &self,
        device: DeviceId,
        reported: Option<&SettingsReport>,
        now: WallTime,
    ) -> DesiredState {
        let reported = reported.map_or(Digest::EMPTY, |report| report.digest);
        let order = SettingsOrder {
            application: APPLICATION.into(),
            revision: self.revision,
            settings: self.desired(device),
            drift: Drift::Repair,
        };
        let order_for = |(run, booked): (RunId, &BookedRun)| RunOrder {
            run,
            application: APPLICATION.into(),
            kind: "count".into(),
            settings: "{}".into(),
            timeout_seconds: 600,
            start_within_seconds: 600,
            may_repeat: booked.may_repeat,
            artifact: None,
        };
        let is_ordered = |run: &RunProgress| run.state == RunState::Pending && run.begin_by > now;
        let pending = self.open_runs(device).filter(|(_, booked)| is_ordered(&booked.run));
        DesiredState {
            settings: (order.digest() != reported).then_some(order).into_iter().collect(),
            runs: pending.map(order_for).collect(),
            list: self.open_runs(device).map(|(run, _)| run).collect(),
        }
    }

    /// Somebody makes a task for a device.
    pub(crate) fn add_run(&mut self, random: &mut Random, device: DeviceId, now: WallTime, made: Made) {
        if self.open_runs(device).count() < OPEN_RUNS_MAX {
            let run = RunProgress::new(1, now, WallTime(now.0 + EXPIRY_MILLISECONDS));
            let may_repeat = random.up_to(3) == 0;
            let booked = BookedRun { device, run, may_repeat, changed_at: now, made, heard: made.at };
            self.runs.insert(RunId(random.next_u64()), booked);
        }
    }

    /// Somebody cancels one run.
    pub(crate) fn cancel_run(&mut self, random: &mut Random, now: WallTime) -> Option<DeviceId> {
        let open: Vec<_> = self
            .runs
            .iter()
            .filter(|(_, booked)| !booked.run.state.is_final())
            .map(|(run, _)| *run)
            .collect();
        let at = usize::try_from(random.up_to(open.len() as u64)).ok()?;
        let booked = self.runs.get_mut(open.get(at)?)?;
        booked.run.cancel(now).then_some(booked.device)
    }

    /// Effects of time on runs; the devices whose desired state is another then, and the runs that it has
    /// ended.
    pub(crate) fn step(&mut self, time: TaskTime, serving_since: WallTime) -> (Vec<DeviceId>, Vec<RunId>) {
        let (mut changed, mut ended) = (Vec::new(), Vec::new());
        for (id, booked) in &mut self.runs {
            let rules = booked.rules(serving_since);
            let was = booked.run.state;
            if booked.run.release(None, time.now) | booked.run.tick(&rules, time.may_expire, time.now) {
                changed.push(booked.device);
            }
            if booked.run.state != was {
                booked.changed_at = time.now;
                ended.extend(booked.run.state.is_final().then_some(*id));
            }
        }
        changed.dedup();
        (changed, ended)
    }

    /// Puts the times of runs right after a change of the clock.
    pub(crate) fn correct_runs(&mut self, now: WallTime, change: TimeChange) {
        let latest = Latest {
            now,
            expires_at: WallTime(now.0 + EXPIRY_MILLISECONDS),
            closes_at: None,
            lease_seconds: LEASE_SECONDS,
        };
        for booked in self.runs.values_mut().filter(|booked| !booked.run.state.is_final()) {
            booked.run.go_along(change.forward_milliseconds);
            booked.run.bring_near(booked.changed_at, &latest);
            booked.changed_at = booked.changed_at.min(now);
        }
    }

    /// A device says what has become of runs.
    pub(crate) fn take(
        &mut self,
        device: DeviceId,
        updates: &RunUpdates,
        now: WallTime,
        serving_since: WallTime,
        heard: u64,
    ) -> RunsStored {
        let mut acks = Vec::new();
        for update in &updates.updates {
            acks.push(RunAck { run: update.run, serial: update.serial });
            if let Some(booked) = self.runs.get_mut(&update.run).filter(|booked| booked.device == device) {
                let rules = booked.rules(serving_since);
                let was = booked.run.state;
                if booked.run.report(update, &rules, now) {
                    booked.heard = heard;
                }
                if booked.run.state != was {
                    booked.changed_at = now;
                }
                debug_assert!(!was.is_final() || was == booked.run.state);
            }
        }
        RunsStored { acks }
    }

    /// A run that has not ended.
    pub(crate) fn open_run(&self) -> Option<String> {
        let (run, booked) = self.runs.iter().find(|(_, booked)| !booked.run.state.is_final())?;
        Some(format!("run {run} of {}: {:?}", booked.device, booked.run))
    }

    /// A few runs, whosever they are.
    pub(crate) fn some_runs(&self) -> Vec<RunId> {
        self.runs.keys().take(4).copied().collect()
    }

    /// States of the runs of all devices but one.
    pub(crate) fn states_of_others(&self, device: DeviceId) -> Vec<RunState> {
        self.runs.values().filter(|booked| booked.device != device).map(|booked| booked.run.state).collect()
    }

    /// Of a run that is not known (any more) too: its server was restored.
    pub(crate) fn may_repeat(&self, run: RunId) -> bool {
        self.runs.get(&run).is_none_or(|booked| booked.may_repeat)
    }
}
