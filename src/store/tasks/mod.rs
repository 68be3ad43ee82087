//! Tasks and their runs: what was asked for, and what time and devices make of it. The rules are those of
//! [`fleet::task`](crate::fleet::task); here their facts are looked up and their decisions written down.
//!
//! | module | what it does |
//! |---|---|
//! | `correct` | puts right what was computed while the clock was wrong |
//! | `create` | judges a task and makes it |
//! | `targets` | which devices a task is for |
//! | `due` | begins occurrences, makes their runs |
//! | `release` | orders runs of their devices: windows, rates, full devices |
//! | `end` | expires runs, gives devices up, ends tasks, clears away what is old |
//! | `run` | reads and writes one run; takes what devices say |
//! | `list` | pages of tasks and runs |

mod correct;
mod create;
mod due;
mod end;
pub(super) mod list;
mod release;
mod run;
mod targets;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, named_params};

use super::desired_state::DesiredChange;
use super::devices::{self, Devices};
use super::error::StoreError;
use super::sql::Sql as _;
use super::table::DeviceTable;
use super::writer::Origin;
use crate::machine::command::RunsOutcome;
pub use crate::machine::task_clock::{TaskTime, TimeChange};
use crate::wire::api::{CreatedTask, NewTask, TaskState};
use crate::wire::id::{DeviceId, TaskId};
use crate::wire::task::{RunAck, RunUpdate, RunUpdates, RunsStored};
use crate::wire::time::WallTime;
pub(super) use run::{IS_AT_DEVICE, desired_of, digest_of, failed_runs, forget_device, ids_at};
pub(super) use targets::{group_moved, group_removed};

/// Rows that one step works on at most, of each kind of work: together some tens of milliseconds of the
/// writer, which syncs wait for.
const ROWS_PER_STEP_MAX: usize = 250;

/// The tasks and their runs.
pub struct Tasks {
    devices: Devices,
    /// Up to which change of memberships newcomers have been looked for.
    memberships_seen: AtomicU64,
    /// Since when devices can be heard, in milliseconds since 1970.
    serving_since: AtomicU64,
}

/// Result of a step.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskStep {
    /// Devices that have something to execute now, or are to end something.
    pub devices: Vec<DeviceId>,
    /// Whether more is due at once.
    pub has_more: bool,
}

/// Tools of a step, and its results so far.
struct Step<'a> {
    connection: &'a Connection,
    table: &'a DeviceTable,
    now: WallTime,
    time: TaskTime,
    /// Since when devices can be heard.
    serving_since: WallTime,
    changes: Vec<DesiredChange>,
    has_more: bool,
}

impl<'a> Step<'a> {
    fn new(
        connection: &'a Connection,
        table: &'a DeviceTable,
        time: TaskTime,
        serving_since: WallTime,
    ) -> Self {
        Self { connection, table, now: time.now, time, serving_since, changes: Vec::new(), has_more: false }
    }

    /// Notes that `rows` rows were found; whether there may be more than a step works on.
    fn found(&mut self, rows: usize) {
        self.has_more |= rows >= ROWS_PER_STEP_MAX;
    }
}

impl Tasks {
    pub(super) fn new(devices: Devices) -> Self {
        Self { devices, memberships_seen: AtomicU64::new(0), serving_since: AtomicU64::new(0) }
    }

    /// Devices can be heard from now on: those that have runs are not given up before they could have said
    /// something.
    pub fn serve_from(&self, now: WallTime) {
        self.serving_since.store(now.0, Ordering::Relaxed);
    }

    fn serving_since(&self) -> WallTime {
        WallTime(self.serving_since.load(Ordering::Relaxed))
    }

    /// Makes a task; waits until that is durable. Its runs are made by [`Tasks::step`]. `selected`: the
    /// devices that its filter lets through now, when it has one.
    ///
    /// # Errors
    /// When a part of it is not allowed, no device that it is for offers it, too many tasks are active, or it
    /// could not be stored.
    pub fn create(
        &self,
        new: NewTask,
        selected: Vec<DeviceId>,
        now: WallTime,
    ) -> Result<CreatedTask, StoreError> {
        self.devices.database().call(move |connection| create::create(connection, &new, &selected, now))
    }

    /// Cancels a task; waits until that is durable. It is final for every run of it from then on; devices are
    /// told by [`Tasks::step`]. One that has ended stays as it ended.
    ///
    /// # Errors
    /// When there is no such task, or it could not be stored.
    pub fn cancel(&self, task: TaskId, now: WallTime) -> Result<(), StoreError> {
        self.devices.database().call(move |connection| {
            let number = number_of(connection, task)?;
            end::end_task(connection, number, TaskState::Cancelled, &format!("cancelled at {now}"), now)
        })
    }

    /// Does what is due, as much as one step may; waits until that is durable. The table knows then.
    ///
    /// # Errors
    /// When the file cannot be read, or it could not be stored.
    pub fn step(&self, time: TaskTime) -> Result<TaskStep, StoreError> {
        let memory = self.devices.memory();
        let members = memory.memberships();
        let are_members_new = self.memberships_seen.load(Ordering::Acquire) != members;
        if !are_members_new && !is_anything_due(&*self.devices.database().reader()?, time)? {
            return Ok(TaskStep::default());
        }
        let (table, told) = (Arc::clone(&memory.table), Arc::clone(memory));
        let serving_since = self.serving_since();
        let work = move |connection: &Connection| {
            let mut step = Step::new(connection, &table, time, serving_since);
            if are_members_new {
                targets::find_newcomers(&mut step)?;
            }
            due::begin(&mut step)?;
            due::make(&mut step)?;
            release::release(&mut step)?;
            end::tick(&mut step)?;
            end::settle(&mut step)?;
            end::clear_away(&mut step)?;
            Ok((step.changes, step.has_more))
        };
        let (changes, has_more) = self.devices.database().call_then(work, move |(changes, has_more)| {
            told.tell(&changes);
            (changes, has_more)
        })?;
        if !has_more {
            self.memberships_seen.store(members, Ordering::Release);
        }
        Ok(TaskStep { devices: changes.into_iter().map(|change| change.device).collect(), has_more })
    }

    /// Puts stored times of tasks and runs right after the time that they go by has changed, and at a start;
    /// waits until that is durable. Number of tasks that are due sooner than was stored.
    ///
    /// # Errors
    /// When the file cannot be read, or it could not be stored.
    pub fn correct_times(&self, time: TaskTime, change: TimeChange) -> Result<usize, StoreError> {
        // Devices can be heard by now, whatever the clock said when the server began to listen.
        self.serving_since.fetch_min(time.now.0, Ordering::Relaxed);
        let table = Arc::clone(self.devices.table());
        self.devices.database().call(move |connection| correct::correct(connection, &table, time.now, change))
    }

    /// Stores what a device says of runs. `done` is called when it is durable.
    pub fn take_runs(
        &self,
        device: DeviceId,
        updates: RunUpdates,
        now: WallTime,
        done: impl FnOnce(RunsOutcome) + Send + 'static,
    ) {
        let (table, told) = (Arc::clone(self.devices.table()), Arc::clone(self.devices.memory()));
        let serving_since = self.serving_since();
        let output = |update: &RunUpdate| update.output.as_ref().map_or(0, |output| output.bytes.len());
        let bytes = updates.updates.iter().map(|update| 128 + update.message.len() + output(update)).sum();
        let ack = |update: &RunUpdate| RunAck { run: update.run, serial: update.serial };
        let acks = updates.updates.iter().map(ack).collect();
        let work = move |connection: &Connection| {
            let mut step = Step::new(connection, &table, TaskTime::certain(now), serving_since);
            let number = devices::number_of(connection, device)?;
            for update in &updates.updates {
                run::take(&mut step, number, update)?;
            }
            Ok(step.changes)
        };
        self.devices.database().writer.submit(Origin::Device, bytes, work, move |result| match result {
            Ok(changes) => {
                told.tell(&changes);
                told.table.mark(device);
                done(RunsOutcome::Stored(RunsStored { acks }));
            }
            Err(error) => {
                log::warn!("device {device}: what it said of runs was not stored: {error}");
                done(RunsOutcome::Lost);
            }
        });
    }
}

fn number_of(connection: &Connection, task: TaskId) -> Result<i64, StoreError> {
    let number = connection.perhaps("SELECT number FROM tasks WHERE id = ?1", [task], |row| row.get(0))?;
    number.ok_or(StoreError::NoTask(task))
}

fn is_anything_due(connection: &Connection, time: TaskTime) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE next_at <= :now AND created_at >= :held)
            OR EXISTS (SELECT 1 FROM tasks WHERE is_making <> 0)
            OR EXISTS (SELECT 1 FROM tasks WHERE has_news <> 0)
            OR EXISTS (SELECT 1 FROM tasks WHERE release_at <= :now)
            OR EXISTS (SELECT 1 FROM runs r WHERE wake_at <= :now AND {})
            OR EXISTS ({}) OR EXISTS ({}) OR EXISTS ({})",
        end::MAY_TICK,
        end::ENDED_WITH_OPEN_RUNS,
        end::DONE_TASKS,
        end::OLD_TASKS,
    );
    let values = named_params! {
        ":now": time.now,
        ":old": end::old(time),
        ":held": time.holds_before,
        ":may_expire": time.may_expire,
    };
    connection.one(&sql, values, |row| row.get(0))
}

fn bad(text: impl Into<String>) -> StoreError {
    StoreError::BadTask(text.into())
}
