//! Tasks, newest first, and runs, those that were due last first.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::{Map, Value};

use super::{Page, PageRequest, cursor};
use crate::fleet::task::definition::Definition;
use crate::fleet::task::run::Run;
use crate::store::device;
use crate::store::error::StoreError;
use crate::store::task::{self, COLUMNS, TABLES};
use crate::store::values::time_from_sql;
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
    let time = |at: usize| -> rusqlite::Result<Option<WallTime>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(time_from_sql))
    };
    let state = TaskState::from_name(&row.get::<_, String>(5)?)
        .ok_or_else(|| StoreError::Database("a task's state is damaged".into()))?;
    let (due_at, number): (Option<WallTime>, i64) = (time(8)?, row.get(10)?);
    Ok(TaskRow {
        id: TaskId(row.get::<_, i64>(0)?.cast_unsigned()),
        application: row.get(1)?,
        kind: row.get(2)?,
        settings: serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default(),
        definition: task::parse(&row.get::<_, String>(4)?)?,
        state,
        why: row.get(6)?,
        created_at: time_from_sql(row.get(7)?),
        due_at,
        next_at: time(9)?,
        counts: counts(connection, number)?,
    })
}

fn counts(connection: &Connection, task: i64) -> Result<Vec<(RunState, u64)>, StoreError> {
    let sql = format!(
        "SELECT {STATE} s, count(*) FROM tasks t JOIN runs r ON r.task = t.number AND r.due_at = t.due_at
        WHERE t.number = ?1 AND r.is_retried = 0 GROUP BY s"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([task])?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(state) = RunState::from_name(&row.get::<_, String>(0)?) {
            counts.push((state, row.get::<_, i64>(1)?.cast_unsigned()));
        }
    }
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
    let after = page.cursor.as_deref().map(|text| cursor::read::<1>('t', text)).transpose()?;
    let before = match &after {
        Some([number]) => number.parse().map_err(|_| StoreError::BadCursor(number.clone()))?,
        None => i64::MAX,
    };
    let sql = format!(
        "SELECT {TASK_COLUMNS} FROM tasks t WHERE t.number < ?1 AND (?2 IS NULL OR t.state = ?2)
        AND (?3 IS NULL OR t.application = ?3) ORDER BY t.number DESC LIMIT ?4"
    );
    let limit = i64::try_from(page.items() + 1).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows =
        statement.query(params![before, filter.state.map(TaskState::name), filter.application, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get::<_, i64>(10)?, task_from_row(connection, row)?));
    }
    let page = page.page(found, |(number, _)| cursor::write('t', &[&number.to_string()]));
    Ok(Page { items: page.items.into_iter().map(|(_, task)| task).collect(), next: page.next })
}

/// One task.
///
/// # Errors
/// When there is no such task, or the file cannot be read.
pub fn task(connection: &Connection, id: TaskId) -> Result<TaskRow, StoreError> {
    let sql = format!("SELECT {TASK_COLUMNS} FROM tasks t WHERE t.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.0.cast_signed()])?;
    let row = rows.next()?.ok_or(StoreError::NoTask(id))?;
    task_from_row(connection, row)
}

const RUN_COLUMNS: &str =
    "t.id, d.name, r.changed_at, t.why, EXISTS (SELECT 1 FROM run_outputs o WHERE o.run = r.id)";

/// Reads [`COLUMNS`] and then [`RUN_COLUMNS`].
fn run_from_row(row: &Row<'_>, now: WallTime) -> Result<RunRow, StoreError> {
    let mut stored = task::from_row(row)?;
    stored.follow_task(now);
    let at = COLUMNS.matches(',').count() + 1;
    Ok(RunRow {
        key: [row.get(6)?, stored.task, stored.number, i64::from(stored.run.attempt)],
        id: stored.id,
        task: TaskId(row.get::<_, i64>(at)?.cast_unsigned()),
        device: stored.device,
        device_name: row.get(at + 1)?,
        due_at: stored.due_at,
        run: stored.run,
        changed_at: time_from_sql(row.get(at + 2)?),
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
    let after = match page.cursor.as_deref() {
        Some(text) => cursor::read::<4>('r', text)?.map(|number| number.parse::<i64>().ok()),
        None => [Some(i64::MAX); 4],
    };
    let [Some(due_at), Some(task), Some(device), Some(attempt)] = after else {
        return Err(StoreError::BadCursor(page.cursor.clone().unwrap_or_default()));
    };
    let sql = "SELECT number FROM tasks WHERE id = ?1";
    let of_task: Option<i64> = match filter.task {
        Some(id) => {
            let number = connection.prepare_cached(sql)?.query_row([id.0.cast_signed()], |row| row.get(0));
            Some(number.optional()?.ok_or(StoreError::NoTask(id))?)
        }
        None => None,
    };
    let of_device = filter.device.map(|device| device::number_of(connection, device)).transpose()?;
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
    let limit = i64::try_from(page.items() + 1).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![
        of_task,
        of_device,
        due_at,
        task,
        device,
        attempt,
        filter.state.map(RunState::name),
        limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(run_from_row(row, now)?);
    }
    Ok(page.page(found, |run| {
        let key = run.key.map(|part| part.to_string());
        cursor::write('r', &key.each_ref().map(String::as_str))
    }))
}

/// Number of runs that wait for a device to take them, and of those that it has and has not ended.
///
/// # Errors
/// When there is no such device, or the file cannot be read.
pub fn open_runs(connection: &Connection, device: DeviceId) -> Result<(u64, u64), StoreError> {
    let number = device::number_of(connection, device)?;
    let sql = "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FROM runs
        WHERE device = ?1 AND state IN ('pending', 'delivered', 'running')";
    let (waiting, all): (i64, i64) =
        connection.prepare_cached(sql)?.query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((waiting.cast_unsigned(), (all - waiting).cast_unsigned()))
}

/// One run.
///
/// # Errors
/// When there is no such run, or the file cannot be read.
pub fn run(connection: &Connection, id: RunId, now: WallTime) -> Result<RunDetail, StoreError> {
    let sql = format!("SELECT {COLUMNS}, {RUN_COLUMNS} FROM {TABLES} WHERE r.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.0.cast_signed()])?;
    let row = run_from_row(rows.next()?.ok_or(StoreError::NoRun(id))?, now)?;
    let sql = "SELECT head, tail, omitted_bytes FROM run_outputs WHERE run = ?1";
    let output = connection
        .prepare_cached(sql)?
        .query_row([id.0.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)));
    let (head, tail, omitted) = output.optional()?.unwrap_or_default();
    Ok(RunDetail { row, head, tail, omitted_bytes: omitted.cast_unsigned() })
}
