//! Puts right what was computed while the clock was wrong: moments further away than their rules give them
//! from now on.
//!
//! A run waits for its device, and is executed, for a length of time. Its stored times go along when a step
//! forward of the clock is believed, so that the length stays; after a step back, and at a start, none is
//! further away than it could be had it been made now.

use jiff::tz::TimeZone;
use rusqlite::{Connection, named_params, params};

use super::run::{LEASE_SECONDS, lease_seconds};
use super::{bad, parse};
use crate::fleet::task::definition::Definition;
use crate::fleet::task::period::zoned_text;
use crate::store::error::StoreError;
use crate::store::table::DeviceTable;
use crate::store::values::{time_from_sql, time_to_sql};
use crate::store::zone;
use crate::wire::id::{DeviceId, TaskId};
use crate::wire::time::WallTime;

/// How long ago runs are put whose release lies ahead, in milliseconds: no rate counts them any more.
const LONG_AGO_MILLISECONDS: u64 = 60_000;

/// How the time that tasks go by has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimeChange {
    /// How far it has gone forward beyond what passed, in milliseconds: stored times of runs go along.
    pub forward_milliseconds: u64,
    /// Whether it was set back although it had been right.
    pub was_right: bool,
}

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
    if change.forward_milliseconds > 0 {
        go_along(connection, change.forward_milliseconds)?;
    }
    let sooner = bring_tasks_near(connection, now, change.was_right)?;
    let sql = "SELECT number, definition, next_at FROM tasks t WHERE EXISTS
        (SELECT 1 FROM runs r WHERE r.task = t.number AND r.wake_at IS NOT NULL)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let with_open: Vec<(i64, String, Option<i64>)> = rows.collect::<Result<_, _>>()?;
    for (task, definition, next_at) in with_open {
        bring_runs_near(connection, now, task, &parse(&definition)?, next_at)?;
    }
    bring_leases_near(connection, table, now)?;
    for sql in [
        "UPDATE tasks SET release_at = ?1 WHERE release_at > ?1",
        "UPDATE tasks SET created_at = ?1 WHERE created_at > ?1",
        "UPDATE tasks SET ended_at = ?1 WHERE ended_at > ?1",
    ] {
        connection.prepare_cached(sql)?.execute([time_to_sql(now)])?;
    }
    Ok(sooner)
}

/// Lengths of time that have begun stay as long as they are.
fn go_along(connection: &Connection, milliseconds: u64) -> Result<(), StoreError> {
    let sql =
        "UPDATE runs SET expires_at = expires_at + ?1, begin_by = begin_by + ?1, began_at = began_at + ?1,
        lease_until = lease_until + ?1, wake_at = wake_at + ?1 WHERE wake_at IS NOT NULL";
    // Within what SQLite's integers hold: both are times since 1970, or within the server's life.
    let by = i64::try_from(milliseconds).unwrap_or(i64::MAX).min(i64::MAX / 4);
    connection.prepare_cached(sql)?.execute([by])?;
    Ok(())
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

/// Runs that have not ended. What is changed is looked at anew in the next steps, which say when each is to
/// be looked at after that.
fn bring_runs_near(
    connection: &Connection,
    now: WallTime,
    task: i64,
    definition: &Definition,
    next_at: Option<i64>,
) -> Result<(), StoreError> {
    let now_sql = time_to_sql(now);
    let expires = in_seconds(now, definition.expires_seconds).min(next_at.unwrap_or(i64::MAX).max(now_sql));
    let hours = definition.window().map_err(bad)?.zip(zone::find(&definition.time_zone).ok());
    // A closed window closes at once.
    let begin =
        hours.map_or(expires, |(window, zone)| time_to_sql(window.closes_at(now, &zone)).min(expires));
    let sql = "UPDATE runs SET expires_at = min(expires_at, :expires), begin_by = min(begin_by, iif(state = 'pending', :begin, :expires)),
            not_before = iif(changed_at > :now, max(not_before - (changed_at - :now), 0), not_before),
            began_at = min(began_at, :now), changed_at = min(changed_at, :now), wake_at = :now
        WHERE task = :task AND wake_at IS NOT NULL AND (expires_at > :expires OR (state = 'pending' AND begin_by > :begin)
            OR changed_at > :now OR began_at > :now)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":task": task,
        ":now": now_sql,
        ":expires": expires,
        ":begin": begin,
    })?;
    let long_ago = time_to_sql(WallTime(now.0.saturating_sub(LONG_AGO_MILLISECONDS)));
    let sql = "UPDATE runs SET released_at = ?3 WHERE task = ?1 AND released_at > ?2";
    connection.prepare_cached(sql)?.execute(params![task, now_sql, long_ago])?;
    Ok(())
}

/// Devices that have runs are to be heard of as soon as if they had been heard of now.
fn bring_leases_near(connection: &Connection, table: &DeviceTable, now: WallTime) -> Result<(), StoreError> {
    let sql = "SELECT r.id, d.id, r.lease_until FROM runs r JOIN devices d ON d.number = r.device
        WHERE r.wake_at IS NOT NULL AND r.lease_until > ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([in_seconds(now, LEASE_SECONDS)])?;
    let mut near = Vec::new();
    while let Some(row) = rows.next()? {
        let device = DeviceId(row.get::<_, i64>(1)?.cast_unsigned());
        let until = in_seconds(now, lease_seconds(table, device));
        if row.get::<_, i64>(2)? > until {
            near.push((row.get::<_, i64>(0)?, until));
        }
    }
    let sql = "UPDATE runs SET lease_until = ?2, wake_at = ?3 WHERE id = ?1";
    for (run, until) in near {
        connection.prepare_cached(sql)?.execute([run, until, time_to_sql(now)])?;
    }
    Ok(())
}

fn in_seconds(now: WallTime, seconds: u32) -> i64 {
    time_to_sql(WallTime(now.0.saturating_add(u64::from(seconds) * 1_000)))
}
