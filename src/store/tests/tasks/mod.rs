//! Tasks and their runs, on a clock of the test's own.

mod artifacts;
mod ending;
mod making;
mod spreading;
mod wrong_clock;

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::json;

use crate::machine::command::{DesiredState, DesiredStateOutcome, RunsOutcome};
use crate::store::query::{self, RunFilter, TaskFilter};
use crate::store::testing::{self, Fleet, all, wait};
use crate::store::{Among, DeviceChange, GroupChange, Moment, StoreError, TaskTime, TimeChange};
use crate::wire::api::{CreatedTask, NewTask, Task, TaskDefinition, TaskRun, TaskTargets};
use crate::wire::artifact::ArtifactUse;
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, RunId, TaskId};
use crate::wire::run_state::RunState;
use crate::wire::section::HostFacts;
use crate::wire::settings::{Declaration, TaskKind};
use crate::wire::task::{RunStage, RunUpdate, RunUpdates, digest_of};
use crate::wire::time::WallTime;

/// A Tuesday, 10:00 UTC.
const START: WallTime = WallTime(1_795_514_400_000);

/// A fleet whose devices offer the task `clean` of the kiosk, and a clock.
struct Fixture {
    fleet: Fleet,
    seconds: Cell<u64>,
    may_expire: Cell<bool>,
    /// In seconds, as `seconds`.
    holds_before: Cell<u64>,
}

/// As devices declare it.
fn kinds() -> Vec<Declaration> {
    vec![Declaration {
        application: "kiosk".into(),
        takes_settings: false,
        settings_schema: String::new(),
        kinds: vec![TaskKind {
            kind: "clean".into(),
            timeout_seconds: 600,
            is_repeatable: true,
            artifact: ArtifactUse::None,
            schema: r#"{"properties": {"deep": {"type": "boolean"}}, "additionalProperties": false}"#.into(),
        }],
    }]
}

fn all_devices() -> TaskDefinition {
    TaskDefinition::new(TaskTargets::All)
}

impl Fixture {
    fn new(devices: u32) -> Self {
        let fixture = Self {
            fleet: Fleet::new(devices),
            seconds: Cell::new(0),
            may_expire: Cell::new(true),
            holds_before: Cell::new(0),
        };
        for device in &fixture.fleet.devices {
            fixture.declare(*device, kinds());
        }
        fixture
    }

    fn now(&self) -> WallTime {
        WallTime(START.0 + self.seconds.get() * 1_000)
    }

    fn time(&self) -> TaskTime {
        let held = self.holds_before.get();
        let holds_before = if held == 0 { WallTime(0) } else { WallTime(START.0 + held * 1_000) };
        TaskTime { may_expire: self.may_expire.get(), holds_before, ..TaskTime::certain(self.now()) }
    }

    /// Lets time pass, and does what is due then.
    fn pass(&self, seconds: u64) -> Vec<DeviceId> {
        self.seconds.set(self.seconds.get() + seconds);
        self.work()
    }

    /// Does all that is due; the devices that are to be called.
    fn work(&self) -> Vec<DeviceId> {
        let mut devices = Vec::new();
        for _ in 0..1_000 {
            let step = self.fleet.tasks().step(self.time()).unwrap();
            devices.extend(step.devices);
            if !step.has_more {
                devices.sort_unstable();
                devices.dedup();
                return devices;
            }
        }
        panic!("it has no end");
    }

    fn declare(&self, device: DeviceId, declarations: Vec<Declaration>) {
        self.fleet.store(testing::host(device, HostFacts { declarations, ..HostFacts::default() }));
    }

    fn try_create(
        &self,
        definition: TaskDefinition,
        settings: serde_json::Value,
    ) -> Result<CreatedTask, StoreError> {
        let serde_json::Value::Object(settings) = settings else { panic!("an object") };
        let new = NewTask { application: "kiosk".into(), kind: "clean".into(), settings, definition };
        self.fleet.tasks().create(new, Vec::new(), self.now())
    }

    /// Makes a task and does what is due then.
    fn create(&self, definition: TaskDefinition) -> TaskId {
        let created = self.try_create(definition, json!({"deep": true})).unwrap();
        self.work();
        created.id
    }

    fn task(&self, id: TaskId) -> Task {
        query::task(&self.fleet.reader().unwrap(), id).unwrap().task
    }

    /// State of a task, and number of its runs that were due last, by state.
    fn state_of(&self, id: TaskId) -> (&'static str, Vec<(RunState, u64)>) {
        let task = self.task(id);
        (task.state.name(), task.runs.iter().map(|count| (count.state, count.runs)).collect())
    }

    fn runs(&self, id: TaskId) -> Vec<TaskRun> {
        let filter = RunFilter { task: Some(id), ..RunFilter::default() };
        query::runs(&self.fleet.reader().unwrap(), &filter, &all(), self.now()).unwrap().items
    }

    fn desired_state(&self, device: DeviceId) -> DesiredState {
        let outcome = self.fleet.desired_state(device, None, self.now());
        let DesiredStateOutcome::All(desired_state) = outcome else { panic!("{outcome:?}") };
        let digest = desired_state.list.iter().fold(Digest::EMPTY, |sum, run| sum.with(digest_of(*run)));
        let said = self.fleet.table().with(device, |record| record.desired_digest).unwrap();
        assert_eq!(said, digest, "the table knows what a sync is compared with");
        *desired_state
    }

    /// The one run that the device is to begin.
    fn order(&self, device: DeviceId) -> RunId {
        let desired_state = self.desired_state(device);
        assert_eq!(desired_state.runs.len(), 1, "{desired_state:?}");
        desired_state.runs[0].run
    }

    fn say(&self, device: DeviceId, update: RunUpdate) {
        let updates = RunUpdates { updates: vec![update] };
        let done = wait(|done| self.fleet.tasks().take_runs(device, updates, self.now(), done));
        assert!(matches!(done, RunsOutcome::Stored(stored) if stored.acks.len() == 1));
    }

    /// The device takes its one run and ends it so.
    fn finish(&self, device: DeviceId, stage: RunStage) -> RunId {
        let run = self.order(device);
        self.say(device, RunUpdate::new(run, 1, RunStage::Accepted));
        let exit_code = (stage == RunStage::Failed).then_some(3);
        self.say(device, RunUpdate { exit_code, ..RunUpdate::new(run, 2, stage) });
        run
    }

    fn states(&self, id: TaskId) -> BTreeMap<DeviceId, Vec<RunState>> {
        let mut states: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in self.runs(id) {
            states.entry(row.device_id).or_default().push(row.state);
        }
        states
    }

    fn move_to(&self, device: DeviceId, group: &str) {
        let change = DeviceChange { group: Some(group.into()), ..DeviceChange::default() };
        self.fleet.devices().change(device, change).unwrap();
    }
}
