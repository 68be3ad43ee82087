//! Ends: of runs whose time has passed or whose device is silent, of tasks that are done or of which too much
//! failed, and of old ones.

use rusqlite::{Connection, named_params};

use super::run::{self, save};
use super::{ROWS_PER_STEP_MAX, Step, TaskTime};
use crate::fleet::task::definition::is_to_abort;
use crate::fleet::task::run::RunState;
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{TaskDefinition, TaskState};
use crate::wire::time::WallTime;

/// For how long a task that has ended is kept: 30 days.
const KEPT_MILLISECONDS: u64 = 30 * 86_400_000;

/// Most of them that are kept: the oldest go.
const ENDED_TASKS_KEPT: usize = 1_000;

/// Tasks that have ended and have runs that are to end with them.
pub(super) const ENDED_WITH_OPEN_RUNS: &str = "SELECT t.number FROM tasks t
    WHERE t.state IN ('cancelled', 'aborted') AND EXISTS (SELECT 1 FROM runs r WHERE r.task = t.number AND r.wake_at IS NOT NULL
        AND (t.state = 'cancelled' OR r.state <> 'running'))";

/// Active tasks that have nothing left to do.
pub(super) const DONE_TASKS: &str = "SELECT number FROM tasks t
    WHERE state = 'active' AND next_at IS NULL AND is_making = 0 AND continuous = 0
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.task = t.number AND r.wake_at IS NOT NULL)";

/// Tasks that ended before `:old`, or of which there are too many.
pub(super) const OLD_TASKS: &str = "SELECT number FROM tasks WHERE state <> 'active' AND ended_at < :old
    UNION ALL SELECT number FROM (SELECT number FROM tasks WHERE state <> 'active' ORDER BY number DESC LIMIT -1 OFFSET 1000)";

const _: () = assert!(ENDED_TASKS_KEPT == 1_000, "as OLD_TASKS says");

/// Whether time may do with a run, `r`, what it does: what is final waits for a time without doubt.
/// `:may_expire` says whether it is that.
pub(super) const MAY_TICK: &str = "(:may_expire OR (r.state = 'pending' AND r.begin_by < r.expires_at))";

/// Tasks that ended before this are old.
pub(super) fn old(time: TaskTime) -> WallTime {
    if time.may_expire { WallTime(time.now.0.saturating_sub(KEPT_MILLISECONDS)) } else { WallTime(0) }
}

/// Ends runs that time ends, and those of tasks that have ended.
pub(super) fn tick(step: &mut Step<'_>) -> Result<(), StoreError> {
    let of_ended = format!(
        "r.task IN ({ENDED_WITH_OPEN_RUNS}) AND r.wake_at IS NOT NULL
        AND (t.state = 'cancelled' OR r.state <> 'running') LIMIT ?1"
    );
    let mut found = run::all(step.connection, &of_ended, [ROWS_PER_STEP_MAX])?;
    step.found(found.len());
    for stored in &mut found {
        stored.follow_task(step.now);
        save(step, stored, false)?;
    }
    let silent = format!("r.wake_at <= :now AND {MAY_TICK} ORDER BY r.wake_at LIMIT :limit");
    let may_expire = step.time.may_expire;
    let values = named_params! { ":now": step.now, ":limit": ROWS_PER_STEP_MAX, ":may_expire": may_expire };
    let mut found = run::all(step.connection, &silent, values)?;
    step.found(found.len());
    for stored in &mut found {
        stored.follow_task(step.now);
        let rules = stored.rules(step);
        stored.run.tick(&rules, may_expire, step.now);
        save(step, stored, false)?;
    }
    Ok(())
}

/// Ends tasks of which too much failed, and those that have nothing left to do.
pub(super) fn settle(step: &mut Step<'_>) -> Result<(), StoreError> {
    let connection = step.connection;
    let sql = "SELECT number, definition, due_at FROM tasks WHERE has_news <> 0";
    let with_news: Vec<(i64, TaskDefinition, i64)> = connection.all(sql, [], |row| row.try_into())?;
    for (task, definition, due_at) in with_news {
        connection.run("UPDATE tasks SET has_news = 0 WHERE number = ?1", [task])?;
        let Some(percent) = definition.abort_percent else { continue };
        let counts = counts(connection, task, due_at)?;
        if is_to_abort(counts.finished, counts.failed, counts.total, percent) {
            let why = format!("{} of {} failed, more than {percent} %", counts.failed, counts.finished);
            end_task(connection, task, TaskState::Aborted, &why, step.now)?;
            step.has_more = true;
        }
    }
    for task in connection.all(DONE_TASKS, [], |row| row.get(0))? {
        end_task(connection, task, TaskState::Done, "", step.now)?;
    }
    Ok(())
}

/// Results so far of the runs of an occurrence.
#[derive(Default)]
struct Counts {
    total: u64,
    finished: u64,
    failed: u64,
}

/// Of several attempts the last one counts.
fn counts(connection: &Connection, task: i64, due_at: i64) -> Result<Counts, StoreError> {
    let sql =
        "SELECT state, count(*) FROM runs WHERE task = ?1 AND due_at = ?2 AND is_retried = 0 GROUP BY state";
    let mut counts = Counts::default();
    for (state, runs) in
        connection.all(sql, [task, due_at], |row| Ok((row.get::<_, String>(0)?, row.number(1)?)))?
    {
        counts.total += runs;
        match state.parse::<RunState>() {
            Ok(RunState::Failed | RunState::TimedOut | RunState::Rejected) => {
                counts.finished += runs;
                counts.failed += runs;
            }
            Ok(RunState::Succeeded) => counts.finished += runs,
            _ => {}
        }
    }
    Ok(counts)
}

/// Ends a task, unless it has ended. Its runs follow; see
/// [`follow_task`](super::run::StoredRun::follow_task).
pub(super) fn end_task(
    connection: &Connection,
    task: i64,
    state: TaskState,
    why: &str,
    now: WallTime,
) -> Result<(), StoreError> {
    let sql = "UPDATE tasks SET state = ?2, why = ?3, ended_at = ?4, next_at = NULL, is_making = 0, release_at = NULL
        WHERE number = ?1 AND state = 'active'";
    if connection.run(sql, (task, state.name(), why, now))? > 0 {
        connection.run("DELETE FROM task_targets WHERE task = ?1", [task])?;
    }
    Ok(())
}

/// Removes tasks that ended long ago, some hundred runs at a time.
pub(super) fn clear_away(step: &mut Step<'_>) -> Result<(), StoreError> {
    let sql = format!("SELECT min(number) FROM ({OLD_TASKS})");
    let old = old(step.time);
    let task: Option<i64> = step.connection.one(&sql, named_params! { ":old": old }, |row| row.get(0))?;
    let Some(task) = task else { return Ok(()) };
    let some = format!("SELECT id FROM runs WHERE task = ?1 LIMIT {ROWS_PER_STEP_MAX}");
    let sql = format!("DELETE FROM run_outputs WHERE run IN ({some})");
    step.connection.run(&sql, [task])?;
    let sql = format!("DELETE FROM runs WHERE id IN ({some})");
    if step.connection.run(&sql, [task])? < ROWS_PER_STEP_MAX {
        step.connection.run("DELETE FROM tasks WHERE number = ?1", [task])?;
    }
    step.has_more = true;
    Ok(())
}
