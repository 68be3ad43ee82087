//! Devices: by name, page by page, and one whole.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Page, PageRequest, cursor};
use crate::store::error::StoreError;
use crate::store::values::time_from_sql;
use crate::store::{ApplicationStatistics, DeviceStatus, declaration, device, group, statistics, status};
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::section::{ApplicationCondition, Condition, HostFacts, SectionState};
use crate::wire::settings::{SettingsReport, SettingsState};
use crate::wire::status::Status;
use crate::wire::time::WallTime;

/// Which devices are wanted. Removed ones never are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFilter {
    /// Only those of this group and the groups below it.
    pub group: Option<String>,
    /// Only those whose name or host name contains this text, in any case (of ASCII letters).
    pub search: Option<String>,
    /// Only those whose status, as it was judged last, is this.
    pub status: Option<Status>,
}

/// One device, in a list. Values that change with every sync are in the device table.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceRow {
    /// Its id.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Path of its group.
    pub group: String,
    /// Its own setting of whether its link stays open between syncs; `None`: as its group says.
    pub own_keep_connected: Option<bool>,
    /// Its own sync interval; `None`: that of its group or of the server.
    pub own_interval_seconds: Option<u32>,
    /// When it enrolled.
    pub enrolled_at: WallTime,
    /// The host's name; empty when it has not said.
    pub hostname: String,
    /// Name of the host's system; empty when it has not said.
    pub os_name: String,
    /// Its status, and the reasons.
    pub device_status: DeviceStatus,
}

/// One device, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceDetail {
    /// Its row of the list.
    pub row: DeviceRow,
    /// The history that its revisions count in.
    pub agent_epoch: Epoch,
    /// Its sections, in the order of [`Section::ALL`](crate::wire::section::Section::ALL).
    pub sections: [SectionState; 3],
    /// The host's facts; `None`: nothing yet.
    pub host: Option<HostFacts>,
    /// The conditions of its managed applications, by name.
    pub conditions: Vec<ApplicationCondition>,
    /// The numbers of its applications, by name.
    pub statistics: Vec<ApplicationStatistics>,
    /// Number of applications that are installed.
    pub applications: u64,
}

/// A person's name for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKey {
    /// By its id.
    Id(DeviceId),
    /// By its name or, if no device has that name, by the text of its id.
    NameOrId(String),
}

const COLUMNS: &str = "d.id, d.name, g.path, d.keep_connected, d.interval_seconds, d.enrolled_at,
    coalesce(h.hostname, ''), coalesce(h.os_name, ''), r.status, r.since, r.reasons";

const TABLES: &str =
    "devices d JOIN groups g ON g.id = d.group_id LEFT JOIN host_facts h ON h.device = d.number
    LEFT JOIN status_reasons r ON r.device = d.number";

fn from_row(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    Ok(DeviceRow {
        device: DeviceId(row.get::<_, i64>(0)?.cast_unsigned()),
        name: row.get(1)?,
        group: row.get(2)?,
        own_keep_connected: row.get(3)?,
        own_interval_seconds: row.get(4)?,
        enrolled_at: time_from_sql(row.get(5)?),
        hostname: row.get(6)?,
        os_name: row.get(7)?,
        device_status: status::device_status(row, 8)?,
    })
}

/// The devices that the filter lets through, by name.
///
/// # Errors
/// When there is no such group, the cursor is none, or the file cannot be read.
pub fn devices(
    connection: &Connection,
    filter: &DeviceFilter,
    page: &PageRequest,
) -> Result<Page<DeviceRow>, StoreError> {
    let after = page.cursor.as_deref().map(|text| cursor::read::<1>('d', text)).transpose()?;
    // No name is empty, so every name is behind the empty one.
    let after = after.map_or(String::new(), |[name]| name);
    let mut sql = format!("SELECT {COLUMNS} FROM {TABLES} WHERE d.removed_at IS NULL AND d.name > ?1");
    let (mut path, mut from, mut to) = (None, None, None);
    if let Some(group) = &filter.group {
        let normal = group::normal_path(group)?;
        group::find(connection, &normal)?;
        if normal != "/" {
            let (below, end) = group::range_below(&normal);
            (path, from, to) = (Some(normal), Some(below), Some(end));
            // '+' keeps SQLite to the index by name, so that the first page does not sort the whole group.
            sql.push_str(
                " AND +d.group_id IN (SELECT id FROM groups WHERE path = ?2 OR (path >= ?3 AND path < ?4))",
            );
        }
    }
    let search = filter.search.as_deref().filter(|text| !text.is_empty()).map(like_pattern);
    if search.is_some() {
        sql.push_str(" AND (d.name LIKE ?5 ESCAPE '\\' OR h.hostname LIKE ?5 ESCAPE '\\')");
    }
    match filter.status {
        None => {}
        Some(Status::Ok) => sql.push_str(" AND coalesce(r.status, 'ok') = ?7"),
        // Few have it: the set of them is made once, and the index by name is walked along it.
        Some(_) => sql.push_str(" AND +d.number IN (SELECT device FROM status_reasons WHERE status = ?7)"),
    }
    let status = filter.status.map(Status::name);
    // Every parameter must be named, whatever the filter.
    sql.push_str(
        " AND ?2 IS ?2 AND ?3 IS ?3 AND ?4 IS ?4 AND ?5 IS ?5 AND ?7 IS ?7 ORDER BY d.name LIMIT ?6",
    );
    let limit = i64::try_from(page.items() + 1).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after, path, from, to, search, limit, status], from_row)?;
    let items = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(items, |row| cursor::write('d', &[&row.name])))
}

/// Every device, those first that enrolled first.
///
/// # Errors
/// When the file cannot be read.
pub(in crate::store) fn devices_by_age(connection: &Connection) -> Result<Vec<DeviceId>, StoreError> {
    let sql = "SELECT id FROM devices WHERE removed_at IS NULL ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map([], |row| Ok(DeviceId(row.get::<_, i64>(0)?.cast_unsigned())))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The ids of the devices of a group and the groups below it; of all devices, when there is none. In order of
/// enrolment. Ids are short: a hundred thousand of them take less than a megabyte, and a call of a whole
/// group needs them at once.
///
/// # Errors
/// When there is no such group, or the file cannot be read.
pub fn device_ids(connection: &Connection, group: Option<&str>) -> Result<Vec<DeviceId>, StoreError> {
    let Some(group) = group else { return devices_by_age(connection) };
    let path = group::normal_path(group)?;
    group::find(connection, &path)?;
    let (from, to) = group::range_below(&path);
    let sql = "SELECT d.id FROM groups g JOIN devices d ON d.group_id = g.id
        WHERE (g.path = ?1 OR (g.path >= ?2 AND g.path < ?3)) AND d.removed_at IS NULL ORDER BY d.number";
    let mut statement = connection.prepare_cached(sql)?;
    let ids =
        statement.query_map([path, from, to], |row| Ok(DeviceId(row.get::<_, i64>(0)?.cast_unsigned())))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The id of the device that is meant.
///
/// # Errors
/// When there is no such device, or the file cannot be read.
pub fn device_id(connection: &Connection, name_or_id: &str) -> Result<DeviceId, StoreError> {
    let number = number_by_key(connection, &DeviceKey::NameOrId(name_or_id.to_owned()))?;
    let mut statement = connection.prepare_cached("SELECT id FROM devices WHERE number = ?1")?;
    Ok(statement.query_row([number], |row| Ok(DeviceId(row.get::<_, i64>(0)?.cast_unsigned())))?)
}

/// Name of a device, or its name when it was removed; `None`: there was never such a device.
///
/// # Errors
/// When the file cannot be read.
pub fn name_of(connection: &Connection, device: DeviceId) -> Result<Option<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT name FROM devices WHERE id = ?1")?;
    Ok(statement.query_row([device.0.cast_signed()], |row| row.get(0)).optional()?)
}

/// A pattern for LIKE that finds the text anywhere.
fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// One device, whole.
///
/// # Errors
/// When there is no such device, it was removed, or the file cannot be read.
pub fn device(connection: &Connection, key: &DeviceKey) -> Result<DeviceDetail, StoreError> {
    load_detail(connection, number_by_key(connection, key)?)
}

/// The number of the device that is meant.
pub(super) fn number_by_key(connection: &Connection, key: &DeviceKey) -> Result<i64, StoreError> {
    let by_id = |id: DeviceId| -> Result<Option<i64>, StoreError> {
        let sql = "SELECT number FROM devices WHERE id = ?1 AND removed_at IS NULL";
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row([id.0.cast_signed()], |row| row.get(0)).optional()?)
    };
    let (number, shown) = match key {
        DeviceKey::Id(id) => (by_id(*id)?, id.to_string()),
        DeviceKey::NameOrId(text) => {
            // An id comes first, that of a removed device as well: a device that was given it as its name by
            // an earlier version must not take what is meant for another one. Two devices never have one
            // name.
            if let Ok(id) = text.parse() {
                match device::number_of(connection, id) {
                    Err(StoreError::NoDevice(_)) => {}
                    found => return found,
                }
            }
            let sql = "SELECT number FROM devices WHERE name = ?1 AND removed_at IS NULL";
            let by_name = connection.prepare_cached(sql)?.query_row([text], |row| row.get(0)).optional()?;
            (by_name, text.clone())
        }
    };
    number.ok_or(StoreError::NoDevice(shown))
}

fn load_detail(connection: &Connection, number: i64) -> Result<DeviceDetail, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, s.agent_epoch, s.inventory_digest, s.inventory_revision, s.host_digest,
            s.host_revision, s.conditions_digest, s.conditions_revision, coalesce(i.entries, 0)
         FROM {TABLES} JOIN device_states s ON s.device = d.number
         LEFT JOIN device_inventories i ON i.device = d.number WHERE d.number = ?1"
    );
    let section = |row: &Row<'_>, at: usize| -> rusqlite::Result<SectionState> {
        let (digest, revision): (i64, i64) = (row.get(at)?, row.get(at + 1)?);
        Ok(SectionState { digest: Digest(digest.cast_unsigned()), revision: revision.cast_unsigned() })
    };
    let mut detail = connection.prepare_cached(&sql)?.query_row([number], |row| {
        Ok(DeviceDetail {
            row: from_row(row)?,
            agent_epoch: Epoch(row.get::<_, i64>(11)?.cast_unsigned()),
            sections: [section(row, 12)?, section(row, 14)?, section(row, 16)?],
            host: None,
            conditions: Vec::new(),
            statistics: Vec::new(),
            applications: row.get::<_, i64>(18)?.cast_unsigned(),
        })
    })?;
    detail.host = host(connection, number)?;
    conditions_in(connection, [number, number], false, |_, condition| detail.conditions.push(condition))?;
    detail.statistics = statistics::of(connection, number)?;
    Ok(detail)
}

fn host(connection: &Connection, number: i64) -> Result<Option<HostFacts>, StoreError> {
    let sql =
        "SELECT os_id, os_name, os_version, kernel, architecture, hostname, addresses, boot_id, agent_version,
            declarations.content
        FROM host_facts LEFT JOIN declarations ON declarations.id = host_facts.declarations WHERE device = ?1";
    let read = |row: &Row<'_>| {
        let addresses: String = row.get(6)?;
        Ok(HostFacts {
            os_id: row.get(0)?,
            os_name: row.get(1)?,
            os_version: row.get(2)?,
            kernel: row.get(3)?,
            architecture: row.get(4)?,
            hostname: row.get(5)?,
            // Only this store writes it; after an edit by hand it shows no addresses until the next change.
            addresses: serde_json::from_str(&addresses).unwrap_or_default(),
            boot_id: row.get(7)?,
            agent_version: row.get(8)?,
            declarations: row
                .get::<_, Option<String>>(9)?
                .map(|content| declaration::parse(&content))
                .unwrap_or_default(),
        })
    };
    Ok(connection.prepare_cached(sql)?.query_row([number], read).optional()?)
}

/// The conditions of the devices whose numbers lie between these two, by device and application. `only_bad`:
/// without those in which nothing is wrong.
pub(in crate::store) fn conditions_in(
    connection: &Connection,
    [first, last]: [i64; 2],
    only_bad: bool,
    mut each: impl FnMut(i64, ApplicationCondition),
) -> Result<(), StoreError> {
    let sql = "SELECT application, condition, since, version, detail, settings_state, settings_revision, settings_digest,
            settings_applied_revision, settings_since, settings_detail, device
        FROM conditions WHERE device BETWEEN ?1 AND ?2
            AND (NOT ?3 OR condition <> 'running' OR coalesce(settings_state, 'applied') <> 'applied')
        ORDER BY device, application";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![first, last, only_bad])?;
    while let Some(row) = rows.next()? {
        let condition = ApplicationCondition {
            application: row.get(0)?,
            condition: condition_from_sql(&row.get::<_, String>(1)?),
            since: time_from_sql(row.get(2)?),
            version: row.get(3)?,
            detail: row.get(4)?,
            settings: settings_report(row, 5)?,
        };
        each(row.get(11)?, condition);
    }
    Ok(())
}

/// The device's report of its settings, in the six columns from `at` on.
fn settings_report(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<SettingsReport>> {
    let Some(state) = row.get::<_, Option<String>>(at)? else { return Ok(None) };
    Ok(Some(SettingsReport {
        state: SettingsState::from_name(&state).unwrap_or(SettingsState::Pending),
        revision: row.get::<_, i64>(at + 1)?.cast_unsigned(),
        digest: Digest(row.get::<_, i64>(at + 2)?.cast_unsigned()),
        applied_revision: row.get::<_, i64>(at + 3)?.cast_unsigned(),
        since: time_from_sql(row.get(at + 4)?),
        detail: row.get(at + 5)?,
    }))
}

fn condition_from_sql(text: &str) -> Condition {
    [Condition::Running, Condition::Stopped, Condition::Failed, Condition::NotInstalled]
        .into_iter()
        .find(|condition| condition.to_string() == text)
        .unwrap_or(Condition::Unknown)
}
