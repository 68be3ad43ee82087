//! Puts right what was computed while the clock was wrong: moments further away than their rules give them
//! from now on.
//!
//! A run waits for its device, and is executed, for a length of time. Its stored times go along when a step
//! forward of the clock is believed, so that the length stays; after a step back, and at a start, none is
//! further away than it could be had it been made now.

use rusqlite::{Connection, named_params, params};

use super::run::{LEASE_SECONDS, lease_seconds};
use super::{TimeChange, bad};
use crate::fleet::task::period::zoned_text;
use crate::fleet::task::run::{Latest, RunProgress};
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::table::DeviceTable;
use crate::store::zone;
use crate::wire::api::TaskDefinition;
use crate::wire::id::TaskId;
use crate::wire::time::WallTime;

/// Age that runs are given whose release lies ahead: no rate counts them any more.
const LONG_AGO_MILLISECONDS: u64 = 60_000;

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
    type WithOpen = (i64, TaskDefinition, Option<WallTime>);
    let with_open: Vec<WithOpen> = connection.all(sql, [], |row| row.try_into())?;
    for (task, definition, next_at) in with_open {
        let latest = latest(now, &definition, next_at)?;
        correct_runs(connection, table, task, latest, change.forward_milliseconds)?;
    }
    for sql in [
        "UPDATE tasks SET release_at = ?1 WHERE release_at > ?1",
        "UPDATE tasks SET created_at = ?1 WHERE created_at > ?1",
        "UPDATE tasks SET ended_at = ?1 WHERE ended_at > ?1",
    ] {
        connection.run(sql, [now])?;
    }
    Ok(sooner)
}

fn bring_tasks_near(connection: &Connection, now: WallTime, was_right: bool) -> Result<usize, StoreError> {
    let sql =
        "SELECT number, id, definition, due_at, next_at FROM tasks WHERE state = 'active' AND next_at > ?1";
    type Waiting = (i64, TaskId, TaskDefinition, WallTime, WallTime);
    let waiting: Vec<Waiting> = connection.all(sql, [now], |row| row.try_into())?;
    let mut sooner = 0;
    for (number, id, definition, due_at, stored) in waiting {
        // Without its zone nobody can say: it is ended when it is due.
        let Ok(zone) = zone::find(definition.time_zone()) else { continue };
        let last = (due_at > WallTime(0)).then_some(due_at);
        let schedule = definition.schedule().map_err(bad)?;
        let near = schedule.bring_near(stored, last, was_right, now, &zone);
        if near >= stored {
            continue;
        }
        sooner += 1;
        let (far, soon) = (zoned_text(stored, &zone), zoned_text(near, &zone));
        log::warn!(
            "task {id}: due {soon}, not {far}, which is further away than its schedule gives from now on"
        );
        let sql = "UPDATE tasks SET next_at = ?2 WHERE number = ?1";
        connection.run(sql, (number, near))?;
        // An occurrence that was begun before its time is begun again at it.
        let sql = "UPDATE task_targets SET made_at = 0 WHERE task = ?1 AND made_at >= ?2";
        connection.run(sql, (number, near))?;
    }
    Ok(sooner)
}

fn latest(
    now: WallTime,
    definition: &TaskDefinition,
    next_at: Option<WallTime>,
) -> Result<Latest, StoreError> {
    let expires_at = in_seconds(now, definition.expires_seconds);
    let hours = definition.window().map_err(bad)?.zip(zone::find(definition.time_zone()).ok());
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
    let now = latest.now;
    let sql = "SELECT r.id, d.id, r.changed_at, r.state, r.not_before, r.expires_at, r.begin_by, r.began_at, r.lease_until
        FROM runs r JOIN devices d ON d.number = r.device
        WHERE r.task = :task AND r.wake_at IS NOT NULL
            AND (:goes_along OR max(r.expires_at, r.begin_by) > :expires OR r.changed_at > :now OR r.began_at > :now
                OR r.lease_until > :lease OR (:closes < r.begin_by AND r.state = 'pending'))";
    let values = named_params! {
        ":task": task,
        ":goes_along": forward_milliseconds > 0,
        ":now": now,
        ":expires": latest.expires_at,
        ":closes": latest.closes_at,
        ":lease": in_seconds(latest.now, latest.lease_seconds),
    };
    let mut corrected: Vec<(i64, RunProgress)> = Vec::new();
    connection.each(sql, values, |row| {
        let mut run = RunProgress::new(1, row.get(4)?, row.get(5)?);
        (run.state, run.begin_by) = (row.get(3)?, row.get(6)?);
        (run.began_at, run.lease_until) = (row.get(7)?, row.get(8)?);
        let latest = Latest { lease_seconds: lease_seconds(table, row.get(1)?), ..latest };
        run.go_along(forward_milliseconds);
        if run.bring_near(row.get(2)?, &latest) || forward_milliseconds > 0 {
            corrected.push((row.get(0)?, run));
        }
        Ok(())
    })?;
    let sql =
        "UPDATE runs SET not_before = ?2, expires_at = ?3, begin_by = ?4, began_at = ?5, lease_until = ?6,
        changed_at = min(changed_at, ?7), wake_at = ?7 WHERE id = ?1";
    for (id, run) in corrected {
        let times =
            params![id, run.not_before, run.expires_at, run.begin_by, run.began_at, run.lease_until, now];
        connection.run(sql, times)?;
    }
    let long_ago = WallTime(latest.now.0.saturating_sub(LONG_AGO_MILLISECONDS));
    let sql = "UPDATE runs SET released_at = ?3 WHERE task = ?1 AND released_at > ?2";
    connection.run(sql, (task, now, long_ago)).map(drop)
}

fn in_seconds(now: WallTime, seconds: u32) -> WallTime {
    WallTime(now.0.saturating_add(u64::from(seconds) * 1_000))
}
