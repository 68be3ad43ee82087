//! Orders runs of their devices: within the task's window, not faster than it allows, and not more of them
//! than a device holds.

use jiff::tz::TimeZone;
use serde_json::Value;

use super::run::{self, StoredRun, save};
use super::targets::{Answer, Asked, Offers};
use super::{ROWS_PER_STEP_MAX, Step};
use crate::fleet::task::definition::rollout;
use crate::fleet::task::period::zoned_text;
use crate::fleet::task::window::Window;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::zone;
use crate::wire::api::TaskDefinition;
use crate::wire::limits::RUNS_PER_DEVICE_MAX;
use crate::wire::time::WallTime;

/// Delay of a run whose device has as many as it holds, or has not said yet what it offers.
const PUT_OFF_MILLISECONDS: u64 = 10_000;

/// After how long a task is looked at again whose time zone is not known.
const ZONE_MILLISECONDS: u64 = 3_600_000;

const MINUTE_MILLISECONDS: u64 = 60_000;

/// A task of which runs may be due.
struct Due {
    task: i64,
    application: String,
    kind: String,
    settings: Value,
    definition: TaskDefinition,
    /// Whether the artifact has a signature; `None`: there is no artifact.
    artifact: Option<bool>,
}

/// Releases runs of tasks that have some to release, as many as one step may.
pub(super) fn release(step: &mut Step<'_>) -> Result<(), StoreError> {
    let sql = "SELECT number, application, kind, settings, definition,
            (SELECT signature IS NOT NULL FROM artifacts WHERE hash = artifact) FROM tasks
        WHERE release_at <= ?1 AND state = 'active' ORDER BY release_at LIMIT ?2";
    let due = step.connection.all(sql, (step.now, ROWS_PER_STEP_MAX), |row| {
        Ok(Due {
            task: row.get(0)?,
            application: row.get(1)?,
            kind: row.get(2)?,
            settings: serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default(),
            definition: row.get(4)?,
            artifact: row.get(5)?,
        })
    })?;
    step.found(due.len());
    let mut offers = Offers::default();
    let mut room = ROWS_PER_STEP_MAX;
    for due in due {
        room -= release_of(step, &due, &mut offers, room)?.min(room);
        if room == 0 {
            step.has_more = true;
            break;
        }
    }
    Ok(())
}

/// Releases at most `most` runs of a task; returns how many it looked at.
fn release_of(step: &mut Step<'_>, due: &Due, offers: &mut Offers, most: usize) -> Result<usize, StoreError> {
    let now = step.now;
    let hours = match hours(&due.definition) {
        Ok(hours) => hours,
        Err(why) => {
            let again = WallTime(now.0.saturating_add(ZONE_MILLISECONDS));
            wait(step, due.task, Some(again), &format!("nobody knows when its window opens: {why}"))?;
            return Ok(0);
        }
    };
    if let Some((window, zone)) = hours.as_ref().filter(|(window, zone)| !window.is_open(now, zone)) {
        let opens_at = window.opens_at(now, zone);
        let why = format!("its window {window} opens at {}", zoned_text(opens_at, zone));
        wait(step, due.task, Some(opens_at), &why)?;
        return Ok(0);
    }
    let closes_at = hours.map(|(window, zone)| window.closes_at(now, &zone));
    let room = rollout(due.definition.rate_per_minute, released_lately(step, due)?);
    let most = most.min(usize::try_from(room).unwrap_or(usize::MAX));
    let which = "r.task = ?1 AND r.state = 'scheduled' AND r.not_before <= ?2 ORDER BY r.not_before LIMIT ?3";
    let found = run::all(step.connection, which, (due.task, now, most))?;
    let looked_at = found.len();
    for mut stored in found {
        release_one(step, due, offers, &mut stored, closes_at)?;
        save(step, &stored, false)?;
    }
    let sql = "SELECT min(not_before) FROM runs WHERE task = ?1 AND state = 'scheduled'";
    let next: Option<WallTime> = step.connection.one(sql, [due.task], |row| row.get(0))?;
    match next.filter(|next| *next <= now).and(has_room_at(step, due)?) {
        // More are due, and have to wait for their turn.
        Some(turn) => {
            let rate = due.definition.rate_per_minute.unwrap_or_default();
            wait(step, due.task, Some(turn), &format!("it begins on at most {rate} devices a minute"))?;
        }
        None => wait(step, due.task, next, "")?,
    }
    Ok(looked_at)
}

/// In which hours runs of a task may begin, by which clocks; `None`: in all.
fn hours(definition: &TaskDefinition) -> Result<Option<(Window, TimeZone)>, String> {
    let window = definition.window()?;
    let zone = || zone::find(definition.time_zone()).map_err(|error| error.to_string());
    window.map(|window| Ok((window, zone()?))).transpose()
}

fn release_one(
    step: &Step<'_>,
    due: &Due,
    offers: &mut Offers,
    stored: &mut StoredRun,
    closes_at: Option<WallTime>,
) -> Result<(), StoreError> {
    let now = step.now;
    let later = WallTime(now.0.saturating_add(PUT_OFF_MILLISECONDS));
    let Due { application, kind, settings, artifact, .. } = due;
    let asked = Asked { application, kind, settings, artifact: *artifact };
    match offers.of(step.connection, stored.number, due.task, asked)? {
        Answer::NotOffered(why) | Answer::WrongSettings(why) => stored.run.reject(&why),
        Answer::Unknown => {
            stored.run.put_off(later, "the device has not said yet what it offers".into());
        }
        Answer::Offered if run::count_at(step.connection, stored.number)? >= RUNS_PER_DEVICE_MAX => {
            let why = format!("the device has {RUNS_PER_DEVICE_MAX} runs already, as many as it may");
            stored.run.put_off(later, why);
        }
        Answer::Offered => {
            stored.run.release(closes_at, now);
        }
    }
    Ok(())
}

/// Number of runs of a task that were released within the last minute.
fn released_lately(step: &Step<'_>, due: &Due) -> Result<u32, StoreError> {
    if due.definition.rate_per_minute.is_none() {
        return Ok(0);
    }
    let sql = "SELECT count(*) FROM runs WHERE task = ?1 AND released_at > ?2";
    let since = WallTime(step.now.0.saturating_sub(MINUTE_MILLISECONDS));
    step.connection.one(sql, (due.task, since), |row| row.get(0))
}

/// When the task may begin on one more device; `None`: now.
fn has_room_at(step: &Step<'_>, due: &Due) -> Result<Option<WallTime>, StoreError> {
    if rollout(due.definition.rate_per_minute, released_lately(step, due)?) > 0 {
        return Ok(None);
    }
    let sql = "SELECT min(released_at) FROM runs WHERE task = ?1 AND released_at > ?2";
    let since = WallTime(step.now.0.saturating_sub(MINUTE_MILLISECONDS));
    let first: Option<WallTime> = step.connection.one(sql, (due.task, since), |row| row.get(0))?;
    Ok(first.map(|first| WallTime(first.0.saturating_add(MINUTE_MILLISECONDS))))
}

/// Notes when the task has runs to release next, and what those wait for that are due.
fn wait(step: &Step<'_>, task: i64, until: Option<WallTime>, why: &str) -> Result<(), StoreError> {
    let sql = "UPDATE tasks SET release_at = ?2, why = ?3 WHERE number = ?1";
    step.connection.run(sql, (task, until, why)).map(drop)
}
