//! Tasks, newest first, and runs, those that were due last first.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};

use super::run::{COLUMNS, TABLES, from_row};
use super::{number_of, parse};
use crate::fleet::task::definition::Definition;
use crate::fleet::task::run::Run;
use crate::store::devices;
use crate::store::error::StoreError;
use crate::store::page::{Page, PageRequest};
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::TaskState;
use crate::wire::id::{DeviceId, RunId, TaskId};
use crate::wire::run_state::RunState;
use crate::wire::time::WallTime;

/// Which tasks are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskFilter {
    /// Only those that stand so.
    pub state: Option<TaskState>,
    /// Only those for this application.
    pub application: Option<String>,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// Its id.
    pub id: TaskId,
    /// The application.
    pub application: String,
    /// The kind of task.
    pub kind: String,
    /// Its settings.
    pub settings: Map<String, Value>,
    /// Its definition.
    pub definition: Definition,
    /// Its state.
    pub state: TaskState,
    /// Why, or what its runs wait for.
    pub why: String,
    /// When it was made.
    pub created_at: WallTime,
    /// When it was due last; `None`: not yet.
    pub due_at: Option<WallTime>,
    /// When it is due next; `None`: never again.
    pub next_at: Option<WallTime>,
    /// Number of the runs that were due last, by state; of several attempts on a device the last one counts.
    pub counts: Vec<(RunState, u64)>,
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

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// The task.
    pub task: TaskId,
    /// The device.
    pub device: DeviceId,
    /// Its name.
    pub device_name: String,
    /// When the task was due.
    pub due_at: WallTime,
    /// Its progress.
    pub run: Run,
    /// When it came into its state.
    pub changed_at: WallTime,
    /// Reason for which runs of the task that are due wait; may be empty.
    pub task_why: String,
    /// Whether its program wrote anything.
    pub has_output: bool,
    key: [i64; 4],
}

/// One run with what its program wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct RunDetail {
    /// Its row of the list.
    pub row: RunRow,
    /// The first part.
    pub head: Vec<u8>,
    /// The last part.
    pub tail: Vec<u8>,
    /// Bytes that were left out between them.
    pub omitted_bytes: u64,
}

const TASK_COLUMNS: &str =
    "t.id, t.application, t.kind, t.settings, t.definition, t.state, t.why, t.created_at,
    nullif(t.due_at, 0), t.next_at, t.number";

/// A run's state: when its task has ended and takes it along that counts before it is written down. Made of
/// columns that the index by task has, so that runs are counted without being looked at.
const STATE: &str = "CASE WHEN t.state = 'cancelled' AND r.state IN ('scheduled', 'pending', 'delivered', 'running') THEN 'cancelled'
    WHEN t.state = 'aborted' AND r.state IN ('scheduled', 'pending', 'delivered') THEN 'cancelled' ELSE r.state END";

fn task_from_row(connection: &Connection, row: &Row<'_>) -> Result<TaskRow, StoreError> {
    let state = TaskState::from_name(&row.get::<_, String>(5)?)
        .ok_or_else(|| StoreError::Database("a task's state is damaged".into()))?;
    Ok(TaskRow {
        id: row.get(0)?,
        application: row.get(1)?,
        kind: row.get(2)?,
        settings: serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default(),
        definition: parse(&row.get::<_, String>(4)?)?,
        state,
        why: row.get(6)?,
        created_at: row.get(7)?,
        due_at: row.get(8)?,
        next_at: row.get(9)?,
        counts: counts(connection, row.get(10)?)?,
    })
}

fn counts(connection: &Connection, task: i64) -> Result<Vec<(RunState, u64)>, StoreError> {
    let sql = format!(
        "SELECT {STATE} s, count(*) FROM tasks t JOIN runs r ON r.task = t.number AND r.due_at = t.due_at
        WHERE t.number = ?1 AND r.is_retried = 0 GROUP BY s"
    );
    let counts = connection.all(&sql, [task], |row| Ok((row.get::<_, String>(0)?, row.number(1)?)))?;
    let known = counts.into_iter().filter_map(|(state, runs)| Some((RunState::from_name(&state)?, runs)));
    let mut counts: Vec<_> = known.collect();
    counts.sort_by_key(|(state, _)| RunState::ALL.iter().position(|known| known == state));
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
) -> Result<Page<TaskRow>, StoreError> {
    let before = match page.after('t')? {
        Some([number]) => number.parse().map_err(|_| page.bad_cursor())?,
        None => i64::MAX,
    };
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM tasks t WHERE t.number < ?1 AND (?2 IS NULL OR t.state = ?2)
        AND (?3 IS NULL OR t.application = ?3) ORDER BY t.number DESC LIMIT ?4"
    );
    let values = params![before, filter.state.map(TaskState::name), filter.application, page.limit()];
    let mut found: Vec<(i64, TaskRow)> = Vec::new();
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
pub fn task(connection: &Connection, id: TaskId) -> Result<TaskRow, StoreError> {
    let sql = format!("SELECT {TASK_COLUMNS} FROM tasks t WHERE t.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let row = rows.next()?.ok_or(StoreError::NoTask(id))?;
    task_from_row(connection, row)
}

const RUN_COLUMNS: &str =
    "t.id, d.name, r.changed_at, t.why, EXISTS (SELECT 1 FROM run_outputs o WHERE o.run = r.id)";

/// Reads [`COLUMNS`] and then [`RUN_COLUMNS`].
fn run_from_row(row: &Row<'_>, now: WallTime) -> Result<RunRow, StoreError> {
    let mut stored = from_row(row)?;
    stored.follow_task(now);
    let at = COLUMNS.matches(',').count() + 1;
    Ok(RunRow {
        key: [row.get(6)?, stored.task, stored.number, i64::from(stored.run.attempt)],
        id: stored.id,
        task: row.get(at)?,
        device: stored.device,
        device_name: row.get(at + 1)?,
        due_at: stored.due_at,
        run: stored.run,
        changed_at: row.get(at + 2)?,
        task_why: row.get(at + 3)?,
        has_output: row.get(at + 4)?,
    })
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
) -> Result<Page<RunRow>, StoreError> {
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
    let mut found = Vec::new();
    connection.each(&sql, values, |row| {
        found.push(run_from_row(row, now)?);
        Ok(())
    })?;
    Ok(page.page('r', found, |run: &RunRow| run.key.map(|part| part.to_string())))
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
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let row = run_from_row(rows.next()?.ok_or(StoreError::NoRun(id))?, now)?;
    let sql = "SELECT head, tail, omitted_bytes FROM run_outputs WHERE run = ?1";
    let output = connection.perhaps(sql, [id], |row| Ok((row.get(0)?, row.get(1)?, row.number(2)?)))?;
    let (head, tail, omitted_bytes) = output.unwrap_or_default();
    Ok(RunDetail { row, head, tail, omitted_bytes })
}
