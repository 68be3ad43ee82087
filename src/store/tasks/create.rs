//! Judges a task and makes it.

use rusqlite::{Connection, params};
use serde_json::Value;

use super::bad;
use super::targets::{Answer, Asked, Offers, enter, enter_devices};
use crate::fleet::task::period::zoned_text;
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::{artifacts, devices, meta, policies, zone};
use crate::wire::api::{CreatedTask, NewTask, TaskTargets};
use crate::wire::id::{DeviceId, TaskId};
use crate::wire::limits::TASK_SETTINGS_BYTES_MAX;
use crate::wire::time::WallTime;

/// Most tasks that are active at a time.
const ACTIVE_TASKS_MAX: u64 = 1_000;

/// Most kinds that a refusal names.
const KINDS_NAMED_MAX: usize = 10;

pub(super) fn create(
    connection: &Connection,
    new: &NewTask,
    selected: &[DeviceId],
    now: WallTime,
) -> Result<CreatedTask, StoreError> {
    let mut definition = new.definition.clone();
    definition.validate().map_err(bad)?;
    match &mut definition.targets {
        TaskTargets::Group(path) => {
            *path = devices::normal_path(path)?;
            devices::find_group(connection, path)?;
        }
        TaskTargets::Devices(named) => {
            named.sort_unstable();
            named.dedup();
            for device in named {
                let id = device.parse().map_err(|error| bad(format!("'targets': {error}")))?;
                devices::number_of(connection, id)?;
            }
        }
        TaskTargets::Filter(_) | TaskTargets::All => {}
    }
    for (part, name) in [("application", &new.application), ("kind", &new.kind)] {
        if !policies::is_name(name) {
            return Err(bad(format!(
                "'{part}' is not a name: 1 to 255 bytes, no control or invisible characters"
            )));
        }
    }
    let settings = Value::Object(new.settings.clone());
    let settings_text = settings.to_string();
    if settings_text.len() > TASK_SETTINGS_BYTES_MAX {
        let bytes = settings_text.len();
        return Err(bad(format!("the settings have {bytes} bytes, and may have {TASK_SETTINGS_BYTES_MAX}")));
    }
    let zone = zone::find(definition.time_zone()).map_err(|error| bad(format!("'time_zone': {error}")))?;
    let time_zone = zone.iana_name().unwrap_or(definition.time_zone()).to_owned();
    definition.time_zone = Some(time_zone.clone());
    let due_at = definition.schedule().map_err(bad)?.first(now, &zone);
    let due_at = due_at.ok_or_else(|| bad(format!("'{}' is never due", definition.schedule)))?;
    let artifact = match definition.artifact {
        Some(hash) => Some(artifacts::row_of(connection, hash)?.ok_or(StoreError::NoArtifact(hash))?),
        None => None,
    };
    let sql = "SELECT count(*) FROM tasks WHERE state = 'active'";
    let active = connection.one(sql, [], |row| row.number(0))?;
    if active >= ACTIVE_TASKS_MAX {
        return Err(StoreError::TooManyTasks { active });
    }
    let id = TaskId(meta::random_number()?);
    let definition_text = serde_json::to_string(&definition).map_err(|error| bad(error.to_string()))?;
    let sql = "INSERT INTO tasks (id, application, kind, settings, definition, continuous, state, created_at, next_at, artifact)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'active', ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    let values = params![
        id,
        new.application,
        new.kind,
        settings_text,
        definition_text,
        definition.continuous,
        now,
        due_at,
        definition.artifact,
    ];
    if connection.run(sql, values)? == 0 {
        return Err(StoreError::IdTaken);
    }
    let task = connection.last_insert_rowid();
    let entered = enter(connection, task, &definition.targets)? + enter_devices(connection, task, selected)?;
    let asked = Asked {
        application: &new.application,
        kind: &new.kind,
        settings: &settings,
        artifact: artifact.map(|artifact| artifact.signature.is_some()),
    };
    let offered = offered(connection, task, asked, new.definition.continuous)?;
    let due_local = zoned_text(due_at, &zone);
    Ok(CreatedTask { id, devices: entered as u64, offered, due_at: due_at.into(), due_local, time_zone })
}

/// Number of devices that offer the task. Refused when none does, for a mistake is likelier than a fleet that
/// is about to learn it; unless some have not said what they offer yet, or others are to come.
fn offered(
    connection: &Connection,
    task: i64,
    asked: Asked<'_>,
    mut may_come: bool,
) -> Result<u64, StoreError> {
    let mut offers = Offers::default();
    let (mut offered, mut wrong_settings, mut not_offered) = (0, None, None);
    connection.each("SELECT device FROM task_targets WHERE task = ?1", [task], |row| {
        match offers.of(connection, row.get(0)?, task, asked)? {
            Answer::Offered => offered += 1,
            Answer::Unknown => may_come = true,
            Answer::WrongSettings(why) => wrong_settings = wrong_settings.take().or(Some(why)),
            Answer::NotOffered(why) => not_offered = not_offered.take().or(Some(why)),
        }
        Ok(())
    })?;
    // Settings that every device refuses that offers the kind say more than that others do not offer it.
    match (offered, wrong_settings, not_offered) {
        (0, Some(wrong), _) => Err(bad(format!("no device would do it: {wrong}"))),
        (0, None, _) if may_come => Ok(0),
        (0, None, Some(why)) => {
            let mut kinds = offers.kinds();
            let more = if kinds.len() > KINDS_NAMED_MAX { ", …" } else { "" };
            kinds.truncate(KINDS_NAMED_MAX);
            let known = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
            Err(bad(format!("no device would do it: {why}; tasks that are offered: {known}{more}")))
        }
        (0, None, None) => Err(bad("there is no such device: nobody would do it")),
        _ => Ok(offered),
    }
}
