//! One run: read, written, told of by its device.

use rusqlite::{Connection, Row, params};

use super::Step;
use crate::fleet::status::{FailedRun, TASK_WITHIN_MS_MAX};
use crate::fleet::task::retry::next_attempt;
use crate::fleet::task::run::{RunProgress, RunRules, RunState};
use crate::store::desired_state::Room;
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::table::DeviceTable;
use crate::store::{DEFAULT_INTERVAL_SECONDS, desired_state, meta};
use crate::wire::api::{TaskDefinition, TaskState};
use crate::wire::artifact::Artifact;
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, RunId, TaskId};
use crate::wire::limits::{RUNS_PER_DEVICE_MAX, SIGNATURE_BYTES_MAX};
use crate::wire::task::{RunOrder, RunOutput, RunStage, RunUpdate, digest_of as digest_of_run};
use crate::wire::time::WallTime;

/// For how long a device that has a run may say nothing of it beyond its sync interval.
pub(super) const LEASE_SECONDS: u32 = 300;

/// For how long this device may say nothing of a run that it has.
pub(super) fn lease_seconds(table: &DeviceTable, device: DeviceId) -> u32 {
    let interval = table.with(device, |record| record.interval_seconds());
    LEASE_SECONDS.saturating_add(interval.unwrap_or(DEFAULT_INTERVAL_SECONDS))
}

/// The columns that [`from_row`] reads, of [`TABLES`].
pub(in crate::store) const COLUMNS: &str = "r.id, r.task, r.device, d.id, t.definition, t.state, r.due_at, r.state, r.attempt,
    r.not_before, r.expires_at, r.begin_by, r.began_at, r.lease_until, r.serial, r.progress_percent, r.exit_code, r.message, r.late";

pub(in crate::store) const TABLES: &str =
    "runs r JOIN tasks t ON t.number = r.task JOIN devices d ON d.number = r.device";

/// A run with what it hangs on.
pub(in crate::store) struct StoredRun {
    pub(in crate::store) id: RunId,
    pub(in crate::store) task: i64,
    /// The device's number in the file.
    pub(in crate::store) number: i64,
    pub(in crate::store) device: DeviceId,
    pub(super) definition: TaskDefinition,
    pub(in crate::store) task_state: TaskState,
    pub(in crate::store) due_at: WallTime,
    pub(in crate::store) run: RunProgress,
    /// Its state as it is in the file.
    pub(super) before: RunState,
}

impl StoredRun {
    pub(super) fn rules(&self, step: &Step<'_>) -> RunRules {
        let lease_seconds = lease_seconds(step.table, self.device);
        RunRules {
            timeout_seconds: self.definition.timeout_seconds,
            lease_seconds,
            may_repeat: self.definition.may_repeat,
            deaf_until: WallTime(step.serving_since.0.saturating_add(u64::from(lease_seconds) * 1_000)),
        }
    }

    /// Ends it when its task has ended and takes it along: that is final from the moment at which the task
    /// ended, though it is written down for one run after the other.
    pub(in crate::store) fn follow_task(&mut self, now: WallTime) {
        let is_taken_along = match self.task_state {
            TaskState::Active | TaskState::Done => false,
            TaskState::Cancelled => true,
            TaskState::Aborted => self.run.state != RunState::Running,
        };
        if is_taken_along {
            self.run.cancel(now);
        }
    }
}

/// Reads [`COLUMNS`].
pub(in crate::store) fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredRun> {
    let state = row.get(7)?;
    Ok(StoredRun {
        id: row.get(0)?,
        task: row.get(1)?,
        number: row.get(2)?,
        device: row.get(3)?,
        definition: row.get(4)?,
        task_state: row.get(5)?,
        due_at: row.get(6)?,
        before: state,
        run: RunProgress {
            state,
            attempt: row.get(8)?,
            not_before: row.get(9)?,
            expires_at: row.get(10)?,
            begin_by: row.get(11)?,
            began_at: row.get(12)?,
            lease_until: row.get(13)?,
            serial: row.get(14)?,
            progress_percent: row.get(15)?,
            exit_code: row.get(16)?,
            message: row.get(17)?,
            late: row.get::<_, Option<String>>(18)?.and_then(|late| serde_json::from_str(&late).ok()),
        },
    })
}

/// Reads all of which the condition holds.
pub(super) fn all(
    connection: &Connection,
    which: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<StoredRun>, StoreError> {
    connection.all(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE {which}"), values, from_row)
}

/// Makes a run, which waits for its time or has ended already.
pub(super) fn insert(
    connection: &Connection,
    task: i64,
    number: i64,
    due_at: WallTime,
    run: &RunProgress,
    now: WallTime,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO runs (id, task, device, due_at, attempt, state, changed_at, not_before, expires_at, begin_by, wake_at, message)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let values = params![
        RunId(meta::random_number()?),
        task,
        number,
        due_at,
        run.attempt,
        run.state.name(),
        now,
        run.not_before,
        run.expires_at,
        run.begin_by,
        (!run.state.is_final()).then_some(run.expires_at),
        run.message,
    ];
    connection.run(sql, values)?;
    if run.state == RunState::Scheduled { wait_for_release(connection, task, run.not_before) } else { Ok(()) }
}

/// Has a task look for runs to release at that time, if not before.
fn wait_for_release(connection: &Connection, task: i64, at: WallTime) -> Result<(), StoreError> {
    let sql = "UPDATE tasks SET release_at = ?2 WHERE number = ?1 AND coalesce(release_at, ?3) > ?2";
    connection.run(sql, (task, at, i64::MAX)).map(drop)
}

/// Writes down what became of a run. `is_told`: its device said so. One that failed may have a successor.
pub(super) fn save(step: &mut Step<'_>, stored: &StoredRun, is_told: bool) -> Result<(), StoreError> {
    let (run, now) = (&stored.run, step.now);
    let has_ended = !stored.before.is_final() && run.state.is_final();
    let next = if has_ended && stored.task_state == TaskState::Active {
        next_attempt(&stored.definition, run, is_told, meta::random_number()?, now)
    } else {
        None
    };
    let late = run.late.as_ref().and_then(|late| serde_json::to_string(late).ok());
    // All that waits is looked at when it is released; by itself it only expires.
    let wake_at = run.wake_at(&stored.rules(step));
    let wake_at = if run.state == RunState::Scheduled { Some(run.expires_at) } else { wake_at };
    let is_released = stored.before == RunState::Scheduled && run.state == RunState::Pending;
    let sql = "UPDATE runs SET state = ?2, changed_at = iif(state = ?2, changed_at, ?3), not_before = ?4, expires_at = ?5,
        begin_by = ?6, began_at = ?7, lease_until = ?8, wake_at = ?9, serial = ?10, progress_percent = ?11, exit_code = ?12,
        message = ?13, late = ?14, released_at = iif(?15, ?3, released_at), is_retried = ?16 WHERE id = ?1";
    let values = params![
        stored.id,
        run.state.name(),
        now,
        run.not_before,
        run.expires_at,
        run.begin_by,
        run.began_at,
        run.lease_until,
        wake_at,
        run.serial,
        run.progress_percent,
        run.exit_code,
        run.message,
        late,
        is_released,
        next.is_some(),
    ];
    step.connection.run(sql, values)?;
    if let Some(next) = next {
        insert(step.connection, stored.task, stored.number, stored.due_at, &next, now)?;
    } else if run.state == RunState::Scheduled {
        wait_for_release(step.connection, stored.task, run.not_before)?;
    }
    if has_ended && stored.definition.abort_percent.is_some() {
        let sql = "UPDATE tasks SET has_news = 1 WHERE number = ?1 AND has_news = 0";
        step.connection.run(sql, [stored.task])?;
    }
    if stored.before.is_at_device() != run.state.is_at_device() {
        step.changes.extend(desired_state::refresh(step.connection, stored.number)?);
    }
    Ok(())
}

/// Takes what a device says of a run. A report of a run that is none of its is passed over: it was removed
/// here, or made up there.
pub(super) fn take(step: &mut Step<'_>, number: i64, update: &RunUpdate) -> Result<(), StoreError> {
    let mut found = all(step.connection, "r.id = ?1 AND r.device = ?2", (update.run, number))?;
    let Some(mut stored) = found.pop() else { return Ok(()) };
    stored.follow_task(step.now);
    let rules = stored.rules(step);
    if stored.run.report(update, &rules, step.now) {
        if let Some(output) = &update.output {
            keep_output(step.connection, stored.id, output)?;
        }
        let is_told = update.stage != RunStage::Unknown;
        save(step, &stored, is_told)?;
    }
    Ok(())
}

fn keep_output(connection: &Connection, run: RunId, output: &RunOutput) -> Result<(), StoreError> {
    let part = if output.is_tail { "tail" } else { "head" };
    let sql = format!(
        "INSERT INTO run_outputs (run, {part}, omitted_bytes) VALUES (?1, ?2, ?3) ON CONFLICT (run) DO UPDATE
        SET {part} = excluded.{part}, omitted_bytes = max(omitted_bytes, excluded.omitted_bytes)"
    );
    let omitted = i64::try_from(output.omitted_bytes).unwrap_or(i64::MAX);
    connection.run(&sql, (run, &output.bytes, omitted)).map(drop)
}

/// Number of runs that the device has, or should have.
pub(super) fn count_at(connection: &Connection, number: i64) -> Result<usize, StoreError> {
    Ok(ids_at(connection, number)?.len())
}

/// The digest of all runs that the device is to have.
pub(in crate::store) fn digest_of(connection: &Connection, number: i64) -> Result<Digest, StoreError> {
    Ok(ids_at(connection, number)?.into_iter().fold(Digest::EMPTY, |sum, id| sum.with(digest_of_run(id))))
}

/// Whether a device has, or should have, a run `r` of a task `t`: one that ended takes its runs along.
pub(in crate::store) const IS_AT_DEVICE: &str = "r.state IN ('pending', 'delivered', 'running')
    AND t.state <> 'cancelled' AND (t.state <> 'aborted' OR r.state = 'running')";

/// All runs that the device is to have. No more are released to it than fit into the list.
pub(in crate::store) fn ids_at(connection: &Connection, number: i64) -> Result<Vec<RunId>, StoreError> {
    let sql = "SELECT id FROM runs WHERE device = ?1 AND state IN ('pending', 'delivered', 'running')";
    connection.all(sql, [number], |row| row.get(0))
}

/// When a run was released, and its id: its place among those of its device.
type Place = (WallTime, RunId);

/// Orders for the runs that the device has not accepted yet, in the order of their release, behind `after`,
/// as far as there is room; and the place of the last one.
pub(in crate::store) fn desired_of(
    connection: &Connection,
    number: i64,
    after: Option<Place>,
    now: WallTime,
    room: &mut Room,
) -> Result<(Vec<RunOrder>, Option<Place>), StoreError> {
    let sql = "SELECT r.id, t.application, t.kind, t.settings, t.definition, r.begin_by, r.released_at,
            a.hash, a.bytes, a.name, a.signature
        FROM runs r JOIN tasks t ON t.number = r.task LEFT JOIN artifacts a ON a.hash = t.artifact
        WHERE r.device = ?1 AND r.state = 'pending' AND r.begin_by > ?2 AND t.state = 'active'
        AND (?4 IS NULL OR (r.released_at, r.id) > (?4, ?5))
        ORDER BY r.released_at, r.id LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let (after_time, after_id) = after.unzip();
    let mut rows = statement.query(params![number, now, RUNS_PER_DEVICE_MAX, after_time, after_id])?;
    let (mut runs, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        if room.is_used_up() {
            break;
        }
        let definition: TaskDefinition = row.get(4)?;
        let left_milliseconds = row.get::<_, WallTime>(5)?.0.saturating_sub(now.0);
        let run = RunOrder {
            run: row.get(0)?,
            application: row.get(1)?,
            kind: row.get(2)?,
            settings: row.get(3)?,
            timeout_seconds: definition.timeout_seconds,
            start_within_seconds: u32::try_from(left_milliseconds / 1_000).unwrap_or(u32::MAX),
            may_repeat: definition.may_repeat,
            artifact: artifact_of(row)?,
        };
        let artifact_bytes =
            run.artifact.as_ref().map_or(0, |artifact| artifact.name.len() + SIGNATURE_BYTES_MAX);
        room.take(run.settings.len() + run.application.len() + run.kind.len() + artifact_bytes);
        last = Some((row.get(6)?, run.run));
        runs.push(run);
    }
    Ok((runs, last))
}

/// The artifact of a run's task, in four columns behind the seventh.
fn artifact_of(row: &Row<'_>) -> rusqlite::Result<Option<Artifact>> {
    let Some(hash) = row.get(7)? else { return Ok(None) };
    let (bytes, name, signature) = (row.number(8)?, row.get(9)?, row.get(10)?);
    Ok(Some(Artifact { hash, bytes, name, signature }))
}

pub(in crate::store) fn forget_device(connection: &Connection, number: i64) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM run_outputs WHERE run IN (SELECT id FROM runs WHERE device = ?1)",
        "DELETE FROM runs WHERE device = ?1",
        "DELETE FROM task_targets WHERE device = ?1",
    ] {
        connection.run(sql, [number])?;
    }
    Ok(())
}

/// Runs that did not end well, unless a later run of the same task ended otherwise. Of the devices whose
/// numbers lie between these two, each with the device's number.
pub(in crate::store) fn failed_runs(
    connection: &Connection,
    [first, last]: [i64; 2],
    now: WallTime,
) -> Result<Vec<(i64, FailedRun)>, StoreError> {
    let since = WallTime(now.0.saturating_sub(TASK_WITHIN_MS_MAX));
    let sql = "SELECT r.device, t.id, t.application, t.kind, r.changed_at, r.message, r.exit_code
        FROM runs r JOIN tasks t ON t.number = r.task
        WHERE r.device BETWEEN ?1 AND ?2 AND r.state IN ('failed', 'timed_out') AND r.changed_at > ?3 AND NOT EXISTS
            (SELECT 1 FROM runs l WHERE +l.task = r.task AND l.device = r.device AND l.id <> r.id
             AND (l.due_at, l.changed_at) > (r.due_at, r.changed_at)
             AND l.state IN ('succeeded', 'failed', 'timed_out'))";
    connection.all(sql, (first, last, since), |row| {
        let message: String = row.get(5)?;
        let message = match row.get::<_, Option<i32>>(6)? {
            Some(code) if message.is_empty() => format!("exit code {code}"),
            _ => message,
        };
        let run = FailedRun {
            task: row.get::<_, TaskId>(1)?.to_string(),
            application: row.get(2)?,
            kind: row.get(3)?,
            at: row.get(4)?,
            message,
        };
        Ok((row.get(0)?, run))
    })
}
