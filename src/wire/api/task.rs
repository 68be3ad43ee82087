//! Tasks and their runs.

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Timestamp;
use crate::wire::id::{ArtifactHash, DeviceId, RunId, TaskId};
use crate::wire::named::named;
pub use crate::wire::run_state::RunState;
use crate::wire::task::RunStage;

/// On which devices a task runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskTargets {
    /// These, by name or id; stored by id.
    Devices(Vec<String>),
    /// Those of the group with this path, and of the groups below it.
    Group(String),
    /// Those that this filter lets through when the task is made; they stay the same.
    #[serde(rename = "where")]
    Filter(String),
    /// Every device.
    All,
}

/// For how long a run waits for its device when the task says nothing: a day.
pub const TASK_EXPIRES_SECONDS_DEFAULT: u32 = 86_400;

/// Longest execution when the task says nothing.
pub const TASK_TIMEOUT_SECONDS_DEFAULT: u32 = 600;

/// Definition of a task: the devices on which it runs, its times, its rate, and its end. Its rules are those
/// of [`fleet::task::definition`](crate::fleet::task::definition).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskDefinition {
    /// For people; null: it has none.
    #[serde(default)]
    pub name: Option<String>,
    /// On which devices.
    pub targets: TaskTargets,
    /// Whether devices that become one of the targets later run it too.
    #[serde(default)]
    pub continuous: bool,
    /// When: `now`, `at` and a time, `every` and a duration, or `cron` and five fields. A time without an
    /// offset is one of `time_zone`.
    #[serde(default = "now")]
    pub schedule: String,
    /// In which hours of a day runs may begin, such as `22:00-05:00`; null: in all.
    #[serde(default)]
    pub window: Option<String>,
    /// By which zone's clocks schedule and window go: its IANA name, such as `Europe/Berlin`; null in a
    /// request: the server's, as it is now.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// For how long a run waits for its device.
    #[serde(default = "expires_seconds")]
    pub expires_seconds: u32,
    /// Longest execution.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// Number of retries of a run that failed.
    #[serde(default)]
    pub retries: u32,
    /// On how many devices it begins within a minute at most; null: on as many as there are.
    #[serde(default)]
    pub rate_per_minute: Option<u32>,
    /// Above which share of failed runs the task ends: 0 ends it with the first that counts, and with 99 all
    /// have to fail; null: it never ends for that.
    #[serde(default)]
    pub abort_percent: Option<u32>,
    /// Whether a run may be executed again when nobody can tell whether it was executed to its end.
    #[serde(default)]
    pub may_repeat: bool,
    /// The artifact that its runs come with, by the SHA-256 of its content; null: none.
    #[serde(default)]
    pub artifact: Option<ArtifactHash>,
}

fn now() -> String {
    "now".into()
}

fn expires_seconds() -> u32 {
    TASK_EXPIRES_SECONDS_DEFAULT
}

fn timeout_seconds() -> u32 {
    TASK_TIMEOUT_SECONDS_DEFAULT
}

impl TaskDefinition {
    /// A task that runs now, once, on these.
    #[must_use]
    pub fn new(targets: TaskTargets) -> Self {
        Self {
            name: None,
            targets,
            continuous: false,
            schedule: now(),
            window: None,
            time_zone: None,
            expires_seconds: TASK_EXPIRES_SECONDS_DEFAULT,
            timeout_seconds: TASK_TIMEOUT_SECONDS_DEFAULT,
            retries: 0,
            rate_per_minute: None,
            abort_percent: None,
            may_repeat: false,
            artifact: None,
        }
    }

    /// By which zone's clocks it goes; UTC when it was stored without one.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        self.time_zone.as_deref().unwrap_or("UTC")
    }
}

/// Makes a task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NewTask {
    /// The application whose task it is.
    pub application: String,
    /// The kind of task, as devices declare it.
    pub kind: String,
    /// The task's settings.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// Its devices, times and limits.
    #[serde(flatten, deserialize_with = "definition")]
    pub definition: TaskDefinition,
}

/// Reads what the keys of [`NewTask`] itself leave. An unknown key is refused here, with all that are
/// allowed: serde names none where it flattens.
fn definition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TaskDefinition, D::Error> {
    let rest = Map::deserialize(deserializer)?;
    TaskDefinition::deserialize(Value::Object(rest)).map_err(|error| {
        let message = error.to_string();
        match message.split_once("expected one of ") {
            Some((unknown, keys)) if message.starts_with("unknown field") => de::Error::custom(format_args!(
                "{unknown}expected one of `application`, `kind`, `settings`, {keys}"
            )),
            _ => de::Error::custom(message),
        }
    })
}

/// A task that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CreatedTask {
    /// Its id.
    pub id: TaskId,
    /// Number of devices that it is for, as things stand.
    pub devices: u64,
    /// Number of them that offer it, and take its settings, as things stand.
    pub offered: u64,
    /// When it is due first.
    pub due_at: Timestamp,
    /// The same by the clocks of its time zone (RFC 9557), such as
    /// `2026-11-24T03:00:00+01:00[Europe/Berlin]`.
    pub due_local: String,
    /// By which zone's clocks it goes: the IANA name.
    pub time_zone: String,
}

named! {
    /// State of a task.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    TaskState, else "a state of a task (active, done, cancelled or aborted)" {
        /// It has runs that have not ended, or will have some.
        Active = "active",
        /// All that it was for has ended, well or not.
        Done = "done",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
        /// Too many of its runs failed.
        Aborted = "aborted",
    }
}

/// Which tasks are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TaskQuery {
    /// Only those that stand so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// Only those for this application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The last page's `next_cursor`; left out: the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most items of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A task, in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The application.
    pub application: String,
    /// The kind of task.
    pub kind: String,
    /// Its devices, times and limits.
    #[serde(flatten)]
    pub definition: TaskDefinition,
    /// Its state.
    pub state: TaskState,
    /// Why; for people. Empty when there is nothing to say.
    pub why: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is due next; null: never again.
    pub next_at: Option<Timestamp>,
    /// The same by the clocks of its time zone (RFC 9557), such as
    /// `2026-11-24T03:00:00+01:00[Europe/Berlin]`.
    pub next_local: Option<String>,
    /// When it was due last: the counts are of these runs; null: not yet.
    pub due_at: Option<Timestamp>,
    /// Number of runs by state, of those that were due last; of several attempts on a device the last one
    /// counts.
    pub runs: Vec<RunCount>,
}

/// Number of runs in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RunCount {
    /// The state.
    pub state: RunState,
    /// Their number.
    pub runs: u64,
}

/// One task, whole but for its runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TaskDetail {
    /// Its row of the list.
    #[serde(flatten)]
    pub task: Task,
    /// Its settings.
    pub settings: Map<String, Value>,
}

/// Which runs are asked for; a task or a device has to be named.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RunQuery {
    /// Only those of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Only those on this device; its name or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// The last page's `next_cursor`; left out: the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most items of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A run, in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TaskRun {
    /// Its id.
    pub id: RunId,
    /// The task.
    pub task: TaskId,
    /// The device's name.
    pub device: String,
    /// The device.
    pub device_id: DeviceId,
    /// Its state.
    pub state: RunState,
    /// Why it is there, and what it waits for; for people.
    pub why: String,
    /// End of the time for which it waits, or in which it must be heard of; null: it has ended.
    pub until: Option<Timestamp>,
    /// When the task was due for which it was made.
    pub due_at: Timestamp,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// When it came into its state.
    pub changed_at: Timestamp,
    /// When the server first heard that it is being executed; null: it did not.
    pub began_at: Option<Timestamp>,
    /// Its progress; null: not known.
    pub progress_percent: Option<u8>,
    /// The program's exit code; null: there is none.
    pub exit_code: Option<i32>,
    /// The last message of the device, or of the server. May be empty.
    pub message: String,
    /// The device's report after the run had ended for the server; null: none.
    pub late: Option<LateReport>,
    /// Whether the program wrote anything.
    pub has_output: bool,
}

/// A device's report of a run that had ended for the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LateReport {
    /// Its stage, as the device said.
    pub stage: RunStage,
    /// The device's message. May be empty.
    pub message: String,
    /// When the server heard it.
    pub at: Timestamp,
}

/// One run, with what its program wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RunDetail {
    /// Its row of the list.
    #[serde(flatten)]
    pub run: TaskRun,
    /// Its program's output; null: none that came here.
    pub output: Option<WrittenOutput>,
}

/// Output of a run's program: the first part and the last. Bytes that are not UTF-8 (RFC 3629) are shown as
/// U+FFFD.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WrittenOutput {
    /// The first part.
    pub head: String,
    /// The last part; empty when the first one is all.
    pub tail: String,
    /// Bytes that were left out between them.
    pub omitted_bytes: u64,
}
