//! Tasks, newest first, and runs, those that were due last first.

use jiff::tz::TimeZone;
use rusqlite::{Connection, Row, params};

use super::number_of;
use super::run::{COLUMNS, TABLES, from_row};
use crate::fleet::task::period::zoned_text;
use crate::store::devices::list::name_of;
use crate::store::error::StoreError;
use crate::store::page::{Page, PageRequest};
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::{devices, zone};
use crate::wire::api::{
    LateReport, RunCount, RunDetail, RunState, Task, TaskDefinition, TaskDetail, TaskRun, TaskState,
    TaskTargets, WrittenOutput,
};
use crate::wire::id::{DeviceId, RunId, TaskId};
use crate::wire::time::WallTime;

/// Which tasks are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskFilter {
    /// Only those that stand so.
    pub state: Option<TaskState>,
    /// Only those for this application.
    pub application: Option<String>,
}

/// Which runs are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// Only those of this task.
    pub task: Option<TaskId>,
    /// Only those on this device.
    pub device: Option<DeviceId>,
    /// Only those in this state.
    pub state: Option<RunState>,
}

const TASK_COLUMNS: &str =
    "t.id, t.application, t.kind, t.settings, t.definition, t.state, t.why, t.created_at,
    nullif(t.due_at, 0), t.next_at, t.number";

/// A run's state: when its task has ended and takes it along that counts before it is written down. Made of
/// columns that the index by task has, so that runs are counted without being looked at.
const STATE: &str = "CASE WHEN t.state = 'cancelled' AND r.state IN ('scheduled', 'pending', 'delivered', 'running') THEN 'cancelled'
    WHEN t.state = 'aborted' AND r.state IN ('scheduled', 'pending', 'delivered') THEN 'cancelled' ELSE r.state END";

fn task_from_row(connection: &Connection, row: &Row<'_>) -> Result<Task, StoreError> {
    let mut definition: TaskDefinition = row.get(4)?;
    // Shown by name; those that are gone by their ids.
    if let TaskTargets::Devices(devices) = &mut definition.targets {
        for device in devices {
            let id = device.parse().ok();
            if let Some(name) = id.map(|id| name_of(connection, id)).transpose()?.flatten() {
                *device = name;
            }
        }
    }
    // UTC when nobody knows the zone any more.
    let zone = zone::find(definition.time_zone()).unwrap_or(TimeZone::UTC);
    let next_at: Option<WallTime> = row.get(9)?;
    Ok(Task {
        id: row.get(0)?,
        application: row.get(1)?,
        kind: row.get(2)?,
        definition,
        state: row.get(5)?,
        why: row.get(6)?,
        created_at: row.get::<_, WallTime>(7)?.into(),
        next_at: next_at.map(Into::into),
        next_local: next_at.map(|at| zoned_text(at, &zone)),
        due_at: row.get::<_, Option<WallTime>>(8)?.map(Into::into),
        runs: counts(connection, row.get(10)?)?,
    })
}

/// Number of the runs that were due last, by state; of several attempts on a device the last one counts.
fn counts(connection: &Connection, task: i64) -> Result<Vec<RunCount>, StoreError> {
    let sql = format!(
        "SELECT {STATE} s, count(*) FROM tasks t JOIN runs r ON r.task = t.number AND r.due_at = t.due_at
        WHERE t.number = ?1 AND r.is_retried = 0 GROUP BY s"
    );
    let counts = connection.all(&sql, [task], |row| Ok((row.get::<_, String>(0)?, row.number(1)?)))?;
    let known = |(state, runs): (String, u64)| Some(RunCount { state: state.parse().ok()?, runs });
    let mut counts: Vec<_> = counts.into_iter().filter_map(known).collect();
    counts.sort_by_key(|count| RunState::ALL.iter().position(|known| *known == count.state));
    Ok(counts)
}

/// The tasks that the filter lets through, newest first.
///
/// # Errors
/// When the cursor is none, or the file cannot be read.
pub fn tasks(
    connection: &Connection,
    filter: &TaskFilter,
    page: &PageRequest,
) -> Result<Page<Task>, StoreError> {
    let before = match page.after('t')? {
        Some([number]) => number.parse().map_err(|_| page.bad_cursor())?,
        None => i64::MAX,
    };
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM tasks t WHERE t.number < ?1 AND (?2 IS NULL OR t.state = ?2)
        AND (?3 IS NULL OR t.application = ?3) ORDER BY t.number DESC LIMIT ?4"
    );
    let values = params![before, filter.state.map(TaskState::name), filter.application, page.limit()];
    let mut found: Vec<(i64, Task)> = Vec::new();
    connection.each(&sql, values, |row| {
        found.push((row.get(10)?, task_from_row(connection, row)?));
        Ok(())
    })?;
    Ok(page.page('t', found, |(number, _)| [number.to_string()]).map(|(_, task)| task))
}

/// One task.
///
/// # Errors
/// When there is no such task, or the file cannot be read.
pub fn task(connection: &Connection, id: TaskId) -> Result<TaskDetail, StoreError> {
    let sql = format!("SELECT {TASK_COLUMNS} FROM tasks t WHERE t.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(StoreError::NoTask(id))?;
    let settings = serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default();
    Ok(TaskDetail { task: task_from_row(connection, row)?, settings })
}

const RUN_COLUMNS: &str =
    "t.id, d.name, r.changed_at, t.why, EXISTS (SELECT 1 FROM run_outputs o WHERE o.run = r.id)";

/// Reads [`COLUMNS`] and then [`RUN_COLUMNS`]; the run, with its place in the list.
fn run_from_row(row: &Row<'_>, now: WallTime) -> rusqlite::Result<([i64; 4], TaskRun)> {
    let mut stored = from_row(row)?;
    stored.follow_task(now);
    let at = COLUMNS.matches(',').count() + 1;
    let run = stored.run;
    let key = [row.get(6)?, stored.task, stored.number, i64::from(run.attempt)];
    let until = match run.state {
        RunState::Scheduled => Some(run.expires_at),
        RunState::Pending => Some(run.begin_by),
        RunState::Delivered | RunState::Running => run.lease_until,
        _ => None,
    };
    let mut why = run.why(now);
    let task_why: String = row.get(at + 3)?;
    // The reason for which runs of the task that are due wait.
    if run.state == RunState::Scheduled && run.not_before <= now && !task_why.is_empty() {
        why = format!("{why}: {task_why}");
    }
    let run = TaskRun {
        id: stored.id,
        task: row.get(at)?,
        device: row.get(at + 1)?,
        device_id: stored.device,
        state: run.state,
        why,
        until: until.map(Into::into),
        due_at: stored.due_at.into(),
        attempt: run.attempt,
        changed_at: row.get::<_, WallTime>(at + 2)?.into(),
        began_at: run.began_at.map(Into::into),
        progress_percent: run.progress_percent,
        exit_code: run.exit_code,
        message: run.message,
        late: run.late.map(|late| LateReport {
            stage: late.stage,
            message: late.message,
            at: late.at.into(),
        }),
        has_output: row.get(at + 4)?,
    };
    Ok((key, run))
}

/// The runs that the filter lets through: those that were due last first, then by task, device and attempt.
///
/// # Errors
/// When there is no such task or device, the cursor is none, or the file cannot be read.
pub fn runs(
    connection: &Connection,
    filter: &RunFilter,
    page: &PageRequest,
    now: WallTime,
) -> Result<Page<TaskRun>, StoreError> {
    let after = page.after('r')?.map(|key| key.map(|number| number.parse::<i64>().ok()));
    let after = after.unwrap_or([Some(i64::MAX); 4]);
    let [Some(due_at), Some(task), Some(device), Some(attempt)] = after else {
        return Err(page.bad_cursor());
    };
    let of_task = filter.task.map(|task| number_of(connection, task)).transpose()?;
    let of_device = filter.device.map(|device| devices::number_of(connection, device)).transpose()?;
    // Which index is walked: that of a device's few runs, or that of a task's many.
    let from = match (of_task, of_device) {
        (_, Some(_)) => "r.device = ?2 AND (?1 IS NULL OR +r.task = ?1)",
        (Some(_), None) => "r.task = ?1 AND ?2 IS NULL",
        (None, None) => "?1 IS NULL AND ?2 IS NULL",
    };
    // The few of the page are found and put in order by the index alone, then looked at.
    let order = "ORDER BY r.due_at DESC, r.task, r.device, r.attempt";
    let sql = format!(
        "SELECT {COLUMNS}, {RUN_COLUMNS} FROM {TABLES} WHERE r.id IN
            (SELECT r.id FROM runs r JOIN tasks t ON t.number = r.task WHERE {from} AND (r.due_at < ?3 OR (r.due_at = ?3
             AND (r.task, r.device, r.attempt) > (?4, ?5, ?6))) AND (?7 IS NULL OR {STATE} = ?7) {order} LIMIT ?8)
        {order}"
    );
    let state = filter.state.map(RunState::name);
    let values = params![of_task, of_device, due_at, task, device, attempt, state, page.limit()];
    let found = connection.all(&sql, values, |row| run_from_row(row, now))?;
    Ok(page.page('r', found, |(key, _)| key.map(|part| part.to_string())).map(|(_, run)| run))
}

/// Number of runs that wait for a device to take them, and of those that it has and has not ended.
///
/// # Errors
/// When there is no such device, or the file cannot be read.
pub fn open_runs(connection: &Connection, device: DeviceId) -> Result<(u64, u64), StoreError> {
    let number = devices::number_of(connection, device)?;
    let sql = "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FROM runs
        WHERE device = ?1 AND state IN ('pending', 'delivered', 'running')";
    connection.one(sql, [number], |row| Ok((row.number(0)?, row.number(1)? - row.number(0)?)))
}

/// One run.
///
/// # Errors
/// When there is no such run, or the file cannot be read.
pub fn run(connection: &Connection, id: RunId, now: WallTime) -> Result<RunDetail, StoreError> {
    let sql = format!("SELECT {COLUMNS}, {RUN_COLUMNS} FROM {TABLES} WHERE r.id = ?1");
    let found = connection.perhaps(&sql, [id], |row| run_from_row(row, now))?;
    let (_, run) = found.ok_or(StoreError::NoRun(id))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let sql = "SELECT head, tail, omitted_bytes FROM run_outputs WHERE run = ?1";
    let output = connection.perhaps(sql, [id], |row| {
        let omitted_bytes = row.number(2)?;
        Ok(WrittenOutput { head: text(row.get(0)?), tail: text(row.get(1)?), omitted_bytes })
    })?;
    Ok(RunDetail { run, output })
}
