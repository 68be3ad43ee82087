//! Begins occurrences of tasks that are due, and makes a run of each for every device, some hundred at a
//! time.

use super::end::end_task;
use super::run::insert;
use super::{ROWS_PER_STEP_MAX, Step, bad, targets};
use crate::fleet::task::run::{RunProgress, RunState};
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::zone;
use crate::wire::api::{TaskDefinition, TaskState};
use crate::wire::time::WallTime;

/// Occurrences that one step begins at most.
const TASKS_PER_STEP_MAX: u32 = 50;

/// Occurrences of a task that are kept of each device: those before them go when the next one is made.
const OCCURRENCES_KEPT: usize = 10;

/// Begins what is due. An occurrence whose runs are not all made yet is not overtaken by the next.
pub(super) fn begin(step: &mut Step<'_>) -> Result<(), StoreError> {
    let sql = "SELECT number, definition, next_at FROM tasks WHERE next_at <= ?1 AND created_at >= ?3 AND is_making = 0
        ORDER BY next_at LIMIT ?2";
    let values = (step.now, TASKS_PER_STEP_MAX, step.time.holds_before);
    let due: Vec<(i64, TaskDefinition, WallTime)> = step.connection.all(sql, values, |row| row.try_into())?;
    step.has_more |= due.len() >= TASKS_PER_STEP_MAX as usize;
    for (task, definition, due_at) in due {
        let schedule = definition.schedule().map_err(bad)?;
        if definition.continuous {
            targets::renew(step.connection, task, &definition.targets)?;
        }
        let zone = match zone::find(definition.time_zone()) {
            Ok(zone) => zone,
            Err(why) => {
                let why = format!("nobody knows when it is due: {why}");
                end_task(step.connection, task, TaskState::Aborted, &why, step.now)?;
                continue;
            }
        };
        let next_at = schedule.next(due_at, step.now, &zone);
        let sql = "UPDATE tasks SET due_at = ?2, next_at = ?3, is_making = 1 WHERE number = ?1";
        step.connection.run(sql, (task, due_at, next_at))?;
    }
    Ok(())
}

/// Makes runs for devices that have none for the occurrence.
pub(super) fn make(step: &mut Step<'_>) -> Result<(), StoreError> {
    let sql =
        "SELECT number, definition, due_at, next_at FROM tasks WHERE is_making <> 0 ORDER BY number LIMIT ?1";
    type Making = (i64, TaskDefinition, WallTime, Option<WallTime>);
    let making: Vec<Making> = step.connection.all(sql, [TASKS_PER_STEP_MAX], |row| row.try_into())?;
    step.has_more |= making.len() >= TASKS_PER_STEP_MAX as usize;
    let mut room = ROWS_PER_STEP_MAX;
    for (task, definition, due_at, next_at) in making {
        let made = make_for(step, task, &definition, due_at, next_at, room)?;
        if made >= room {
            step.has_more = true;
            return Ok(());
        }
        room -= made;
        let sql = "UPDATE tasks SET is_making = 0 WHERE number = ?1";
        step.connection.run(sql, [task])?;
    }
    Ok(())
}

/// Makes at most `most` runs of a task; returns how many it made.
fn make_for(
    step: &Step<'_>,
    task: i64,
    definition: &TaskDefinition,
    due_at: WallTime,
    next_at: Option<WallTime>,
    most: usize,
) -> Result<usize, StoreError> {
    let sql = "SELECT device FROM task_targets WHERE task = ?1 AND made_at <> ?2 ORDER BY device LIMIT ?3";
    let devices: Vec<i64> = step.connection.all(sql, (task, due_at, most), |row| row.get(0))?;
    let expires_at = WallTime(step.now.0.saturating_add(u64::from(definition.expires_seconds) * 1_000));
    // A run that nobody took by the next time gives way to that: they would pile up on a device that is away.
    let expires_at = next_at.map_or(expires_at, |next_at| expires_at.min(next_at.max(step.now)));
    let is_recurring = definition.schedule().map_err(bad)?.is_recurring();
    for device in &devices {
        let mut run = RunProgress::new(1, due_at, expires_at);
        if is_recurring {
            forget_old(step, task, *device)?;
            if has_open_run(step, task, *device)? {
                run.state = RunState::Expired;
                run.message = "left out: the run before it had not ended".into();
            }
        }
        insert(step.connection, task, *device, due_at, &run, step.now)?;
        let sql = "UPDATE task_targets SET made_at = ?3 WHERE task = ?1 AND device = ?2";
        step.connection.run(sql, (task, device, due_at))?;
    }
    Ok(devices.len())
}

/// Whether the device has the run before this one, and has not ended it.
fn has_open_run(step: &Step<'_>, task: i64, device: i64) -> Result<bool, StoreError> {
    // The pluses have it look at the few runs of the device instead of the many of the task.
    let sql =
        "SELECT 1 FROM runs WHERE device = ?2 AND state IN ('pending', 'delivered', 'running') AND +task = ?1
        AND (state <> 'pending' OR begin_by > ?3)";
    step.connection.has_row(sql, (task, device, step.now))
}

/// Removes what is left of occurrences that nobody asks for any more.
fn forget_old(step: &Step<'_>, task: i64, device: i64) -> Result<(), StoreError> {
    let sql = "SELECT DISTINCT due_at FROM runs WHERE device = ?2 AND +task = ?1 ORDER BY due_at DESC LIMIT 1 OFFSET ?3";
    let newest: Option<i64> =
        step.connection.perhaps(sql, (task, device, OCCURRENCES_KEPT - 1), |row| row.get(0))?;
    let Some(newest) = newest else { return Ok(()) };
    let old = "FROM runs WHERE device = ?2 AND +task = ?1 AND +due_at <= ?3 AND +wake_at IS NULL";
    for sql in [format!("DELETE FROM run_outputs WHERE run IN (SELECT id {old})"), format!("DELETE {old}")] {
        step.connection.run(&sql, (task, device, newest))?;
    }
    Ok(())
}
