//! Policies of groups and devices' own settings, as they were set.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};

use crate::fleet::schema::Schema;
use crate::fleet::settings::{KeyPath, Level};
use crate::fleet::status::Rules;
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::{inventory, meta};
use crate::wire::event::SERVER_NAME;
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::printable::is_hidden;
use crate::wire::settings::Drift;
use crate::wire::time::WallTime;

/// The server's own application: its settings are the rules that devices are judged by. They are never sent
/// to a device.
pub const OWN_APPLICATION: &str = SERVER_NAME;

/// Most applications that a refusal names, in applications.
const NAMED_MAX: usize = 12;

/// Settings, as an administrator sets them for a group or a device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewSettings {
    /// The settings.
    pub settings: Map<String, Value>,
    /// Which of its keys levels below may not change; a device's own settings have none.
    pub locks: Vec<KeyPath>,
    /// Reaction of devices when somebody else changes them; `None`: as the level above says.
    pub drift: Option<Drift>,
}

/// Settings that were set for a group or a device.
#[derive(Debug, Clone, PartialEq)]
pub struct SetSettings {
    /// The group's path; for a device its name.
    pub from: String,
    /// The application.
    pub application: String,
    /// The settings.
    pub set: NewSettings,
    /// The revision in which that was.
    pub revision: u64,
    /// When that was.
    pub changed_at: WallTime,
}

impl SetSettings {
    /// As one level of a merge.
    #[must_use]
    pub fn level(&self) -> Level<'_> {
        let NewSettings { settings, locks, drift } = &self.set;
        Level { from: &self.from, settings, locks, drift: *drift }
    }
}

pub(super) fn drift_name(drift: Drift) -> &'static str {
    match drift {
        Drift::Repair => "repair",
        Drift::Report => "report",
    }
}

pub(super) fn drift_from(name: Option<&str>) -> Option<Drift> {
    match name {
        Some("report") => Some(Drift::Report),
        Some("repair") => Some(Drift::Repair),
        _ => None,
    }
}

/// A row of: where it comes from, application, settings, locks, drift, revision, changed_at. A row that was
/// broken by hand is empty.
fn from_row(row: &Row<'_>) -> rusqlite::Result<SetSettings> {
    let settings = serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default();
    let locks: Vec<String> = serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default();
    Ok(SetSettings {
        from: row.get(0)?,
        application: row.get(1)?,
        set: NewSettings {
            settings,
            locks: locks.iter().filter_map(|lock| lock.parse().ok()).collect(),
            drift: drift_from(row.get::<_, Option<String>>(4)?.as_deref()),
        },
        revision: row.number(5)?,
        changed_at: row.get(6)?,
    })
}

const REVISION_KEY: &str = "settings_revision";

/// The newest revision; 0 before the first change.
pub(super) fn newest_revision(connection: &Connection) -> Result<u64, StoreError> {
    let bytes = meta::get(connection, REVISION_KEY)?;
    Ok(bytes.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?))).unwrap_or(0))
}

/// The next revision: each change of anything that settings come of is one.
pub(in crate::store) fn next_revision(connection: &Connection) -> Result<u64, StoreError> {
    let next = newest_revision(connection)? + 1;
    meta::set(connection, REVISION_KEY, &next.to_be_bytes())?;
    Ok(next)
}

/// Whether some device takes settings for the application, and whether these could be some of them.
fn check(connection: &Connection, application: &str, new: &NewSettings) -> Result<(), StoreError> {
    let value = Value::Object(new.settings.clone());
    if application == OWN_APPLICATION {
        return Rules::parse(&value)
            .map(drop)
            .map_err(|reason| StoreError::BadSettings { application: application.to_owned(), reason });
    }
    let mut names = Vec::new();
    let mut violation = None;
    for declaration in
        inventory::all_declarations(connection)?.into_iter().filter(inventory::may_take_settings)
    {
        if declaration.application != application {
            names.push(declaration.application);
            continue;
        }
        // A schema that this version can't read is left to the device.
        let checked = Schema::parse(&declaration.settings_schema).map(|schema| schema.check_partial(&value));
        match checked {
            Ok(Err(found)) => violation = Some(found),
            Ok(Ok(())) | Err(_) => return Ok(()),
        }
    }
    if let Some(violation) = violation {
        let reason = violation.to_string();
        return Err(StoreError::BadSettings { application: application.to_owned(), reason });
    }
    names.push(OWN_APPLICATION.to_owned());
    names.sort();
    names.dedup();
    names.truncate(NAMED_MAX);
    Err(StoreError::UnknownApplication { application: application.to_owned(), known: names.join(", ") })
}

/// Holder of settings, by its number.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    Group(i64),
    Device(i64),
}

pub(super) fn set(
    connection: &Connection,
    holder: Holder,
    application: &str,
    new: &NewSettings,
    revision: u64,
    now: WallTime,
) -> Result<(), StoreError> {
    check(connection, application, new)?;
    let (settings, locks) = (json(&new.settings), new.locks.iter().map(ToString::to_string));
    let (drift, revision) = (new.drift.map(drift_name), revision.cast_signed());
    let changed = match holder {
        Holder::Group(group) => {
            let sql = "INSERT OR REPLACE INTO policies (group_id, application, settings, locks, drift, revision, changed_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let locks = json(&locks.collect::<Vec<_>>());
            connection.run(sql, params![group, application, settings, locks, drift, revision, now])
        }
        Holder::Device(number) => {
            let sql =
                "INSERT OR REPLACE INTO own_settings (device, application, settings, drift, revision, changed_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            connection.run(sql, (number, application, settings, drift, revision, now))
        }
    };
    changed.map(drop)
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    // JSON values and texts can always be written.
    serde_json::to_string(value).unwrap_or_default()
}

/// Removes a group's policy; fails when there is none.
pub(super) fn remove(
    connection: &Connection,
    group: i64,
    path: &str,
    application: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM policies WHERE group_id = ?1 AND application = ?2";
    match connection.run(sql, (group, application))? {
        0 => Err(StoreError::NoPolicy { from: path.to_owned(), application: application.to_owned() }),
        _ => Ok(()),
    }
}

pub(in crate::store) fn group_removed(connection: &Connection, group: i64) -> Result<(), StoreError> {
    for table in ["policies", "policy_versions"] {
        connection.run(&format!("DELETE FROM {table} WHERE group_id = ?1"), [group])?;
    }
    Ok(())
}

/// Removes a device's own settings; fails when there are none.
pub(super) fn remove_own(
    connection: &Connection,
    number: i64,
    name: &str,
    application: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM own_settings WHERE device = ?1 AND application = ?2";
    match connection.run(sql, (number, application))? {
        0 => Err(StoreError::NoPolicy { from: name.to_owned(), application: application.to_owned() }),
        _ => Ok(()),
    }
}

const POLICIES: &str = "SELECT g.path, p.application, p.settings, p.locks, p.drift, p.revision, p.changed_at
    FROM policies p JOIN groups g ON g.id = p.group_id";

/// Policies, by group and application: all, or those of one application.
pub(super) fn list(
    connection: &Connection,
    application: Option<&str>,
) -> Result<Vec<SetSettings>, StoreError> {
    let sql = format!("{POLICIES} WHERE ?1 IS NULL OR p.application = ?1 ORDER BY g.path, p.application");
    connection.all(&sql, [application], from_row)
}

pub(super) fn own(
    connection: &Connection,
    number: i64,
    application: &str,
) -> Result<Option<SetSettings>, StoreError> {
    let sql = "SELECT d.name, o.application, o.settings, '[]', o.drift, o.revision, o.changed_at
        FROM own_settings o JOIN devices d ON d.number = o.device WHERE o.device = ?1 AND o.application = ?2";
    connection.perhaps(sql, (number, application), from_row)
}

pub(in crate::store) fn is_name(application: &str) -> bool {
    !application.is_empty() && application.len() <= NAME_BYTES_MAX && !application.contains(is_hidden)
}
