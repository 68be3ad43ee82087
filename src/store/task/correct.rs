//! Puts right what was computed while the clock was wrong: moments further away than their rules give them
//! from now on.
//!
//! A run waits for its device, and is executed, for a length of time. Its stored times go along when a step
//! forward of the clock is believed, so that the length stays; after a step back, and at a start, none is
//! further away than it could be had it been made now.

use jiff::tz::TimeZone;
use rusqlite::{Connection, named_params, params};

use super::run::{LEASE_SECONDS, lease_seconds};
use super::{TimeChange, bad, parse};
use crate::fleet::task::definition::Definition;
use crate::fleet::task::period::zoned_text;
use crate::fleet::task::run::{Latest, Run, RunState};
use crate::store::error::StoreError;
use crate::store::table::DeviceTable;
use crate::store::values::{time_from_sql, time_to_sql};
use crate::store::zone;
use crate::wire::id::{DeviceId, TaskId};
use crate::wire::time::WallTime;

/// Age that runs are given whose release lies ahead: no rate counts them any more.
const LONG_AGO_MILLISECONDS: u64 = 60_000;

/// A task with a next time.
struct Waiting {
    number: i64,
    id: TaskId,
    definition: Definition,
    due_at: i64,
    next_at: i64,
}

/// Puts all stored times right; how many tasks are due sooner than was stored.
pub(super) fn correct(
    connection: &Connection,
    table: &DeviceTable,
    now: WallTime,
    change: TimeChange,
) -> Result<usize, StoreError> {
    let sooner = bring_tasks_near(connection, now, change.was_right)?;
    let sql = "SELECT number, definition, next_at FROM tasks t WHERE EXISTS
        (SELECT 1 FROM runs r WHERE r.task = t.number AND r.wake_at IS NOT NULL)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let with_open: Vec<(i64, String, Option<i64>)> = rows.collect::<Result<_, _>>()?;
    for (task, definition, next_at) in with_open {
        let latest = latest(now, &parse(&definition)?, next_at.map(time_from_sql))?;
        correct_runs(connection, table, task, latest, change.forward_milliseconds)?;
    }
    for sql in [
        "UPDATE tasks SET release_at = ?1 WHERE release_at > ?1",
        "UPDATE tasks SET created_at = ?1 WHERE created_at > ?1",
        "UPDATE tasks SET ended_at = ?1 WHERE ended_at > ?1",
    ] {
        connection.prepare_cached(sql)?.execute([time_to_sql(now)])?;
    }
    Ok(sooner)
}

fn bring_tasks_near(connection: &Connection, now: WallTime, was_right: bool) -> Result<usize, StoreError> {
    let sql =
        "SELECT number, id, definition, due_at, next_at FROM tasks WHERE state = 'active' AND next_at > ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([time_to_sql(now)])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        waiting.push(Waiting {
            number: row.get(0)?,
            id: TaskId(row.get::<_, i64>(1)?.cast_unsigned()),
            definition: parse(&row.get::<_, String>(2)?)?,
            due_at: row.get(3)?,
            next_at: row.get(4)?,
        });
    }
    let mut sooner = 0;
    for task in waiting {
        // Without its zone nobody can say: it is ended when it is due.
        let Ok(zone) = zone::find(&task.definition.time_zone) else { continue };
        let stored = time_from_sql(task.next_at);
        let near = near(&task, stored, was_right, now, &zone)?;
        if near >= stored {
            continue;
        }
        sooner += 1;
        let (far, soon) = (zoned_text(stored, &zone), zoned_text(near, &zone));
        log::warn!(
            "task {}: due {soon}, not {far}, which is further away than its schedule gives from now on",
            task.id
        );
        let sql = "UPDATE tasks SET next_at = ?2 WHERE number = ?1";
        connection.prepare_cached(sql)?.execute(params![task.number, time_to_sql(near)])?;
        // An occurrence that was begun before its time is begun again at it.
        let sql = "UPDATE task_targets SET made_at = 0 WHERE task = ?1 AND made_at >= ?2";
        connection.prepare_cached(sql)?.execute(params![task.number, time_to_sql(near)])?;
    }
    Ok(sooner)
}

fn near(
    task: &Waiting,
    stored: WallTime,
    was_right: bool,
    now: WallTime,
    zone: &TimeZone,
) -> Result<WallTime, StoreError> {
    let last = (task.due_at > 0).then(|| time_from_sql(task.due_at));
    Ok(task.definition.schedule().map_err(bad)?.bring_near(stored, last, was_right, now, zone))
}

/// Latest time of the runs of a task.
fn latest(now: WallTime, definition: &Definition, next_at: Option<WallTime>) -> Result<Latest, StoreError> {
    let expires_at = in_seconds(now, definition.expires_seconds);
    let hours = definition.window().map_err(bad)?.zip(zone::find(&definition.time_zone).ok());
    Ok(Latest {
        now,
        expires_at: next_at.map_or(expires_at, |next_at| expires_at.min(next_at.max(now))),
        closes_at: hours.map(|(window, zone)| window.closes_at(now, &zone)),
        lease_seconds: LEASE_SECONDS,
    })
}

/// Runs that have not ended. Changed runs are looked at anew in the next steps, which say when each is due
/// after that.
fn correct_runs(
    connection: &Connection,
    table: &DeviceTable,
    task: i64,
    latest: Latest,
    forward_milliseconds: u64,
) -> Result<(), StoreError> {
    let now = time_to_sql(latest.now);
    let sql = "SELECT r.id, d.id, r.changed_at, r.state, r.not_before, r.expires_at, r.begin_by, r.began_at, r.lease_until
        FROM runs r JOIN devices d ON d.number = r.device
        WHERE r.task = :task AND r.wake_at IS NOT NULL
            AND (:goes_along OR max(r.expires_at, r.begin_by) > :expires OR r.changed_at > :now OR r.began_at > :now
                OR r.lease_until > :lease OR (:closes < r.begin_by AND r.state = 'pending'))";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! {
        ":task": task,
        ":goes_along": forward_milliseconds > 0,
        ":now": now,
        ":expires": time_to_sql(latest.expires_at),
        ":closes": latest.closes_at.map(time_to_sql),
        ":lease": time_to_sql(in_seconds(latest.now, latest.lease_seconds)),
    })?;
    let mut corrected = Vec::new();
    while let Some(row) = rows.next()? {
        let time = |at: usize| row.get::<_, i64>(at).map(time_from_sql);
        let perhaps = |at: usize| Ok::<_, StoreError>(row.get::<_, Option<i64>>(at)?.map(time_from_sql));
        let state = RunState::from_name(&row.get::<_, String>(3)?);
        let state = state.ok_or_else(|| StoreError::Database("a run's state is damaged".into()))?;
        let mut run = Run::new(1, time(4)?, time(5)?);
        (run.state, run.begin_by) = (state, time(6)?);
        (run.began_at, run.lease_until) = (perhaps(7)?, perhaps(8)?);
        let device = DeviceId(row.get::<_, i64>(1)?.cast_unsigned());
        let latest = Latest { lease_seconds: lease_seconds(table, device), ..latest };
        run.go_along(forward_milliseconds);
        if run.bring_near(time(2)?, &latest) || forward_milliseconds > 0 {
            corrected.push((row.get::<_, i64>(0)?, run));
        }
    }
    let sql =
        "UPDATE runs SET not_before = ?2, expires_at = ?3, begin_by = ?4, began_at = ?5, lease_until = ?6,
        changed_at = min(changed_at, ?7), wake_at = ?7 WHERE id = ?1";
    for (id, run) in corrected {
        connection.prepare_cached(sql)?.execute(params![
            id,
            time_to_sql(run.not_before),
            time_to_sql(run.expires_at),
            time_to_sql(run.begin_by),
            run.began_at.map(time_to_sql),
            run.lease_until.map(time_to_sql),
            now,
        ])?;
    }
    let long_ago = time_to_sql(WallTime(latest.now.0.saturating_sub(LONG_AGO_MILLISECONDS)));
    let sql = "UPDATE runs SET released_at = ?3 WHERE task = ?1 AND released_at > ?2";
    connection.prepare_cached(sql)?.execute(params![task, now, long_ago])?;
    Ok(())
}

fn in_seconds(now: WallTime, seconds: u32) -> WallTime {
    WallTime(now.0.saturating_add(u64::from(seconds) * 1_000))
}
