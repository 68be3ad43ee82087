//! Devices by name, page by page, and one whole; groups, tokens.

use rusqlite::{Connection, Row, params};

use super::certificates::{self, DeviceCertificate};
use super::group;
use super::rows::{self, number_by_name, number_of};
use super::status::{self, DeviceStatus};
use super::token;
use crate::store::error::StoreError;
use crate::store::inventory::{self, ApplicationStatistics};
use crate::store::page::{Page, PageRequest};
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{Group, Token};
use crate::wire::id::{DeviceId, Epoch, TokenId};
use crate::wire::section::{ApplicationCondition, HostFacts, SectionState};
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
    /// Only those that trust what has this label, or those that don't.
    pub trust: Option<(u64, bool)>,
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
    /// Since when it waits for approval, and whether it is one that this server did not know any more;
    /// `None`: it does not wait.
    pub waits: Option<(WallTime, bool)>,
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
    /// The certificate that it uses: a renewed one once it has shown it.
    pub certificate: Option<DeviceCertificate>,
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
    coalesce(h.hostname, ''), coalesce(h.os_name, ''), r.status, r.since, r.reasons, d.waiting_since, d.was_unknown";

const TABLES: &str =
    "devices d JOIN groups g ON g.id = d.group_id LEFT JOIN host_facts h ON h.device = d.number
    LEFT JOIN status_reasons r ON r.device = d.number";

fn from_row(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    let (waiting_since, was_unknown): (Option<WallTime>, bool) = (row.get(11)?, row.get(12)?);
    Ok(DeviceRow {
        device: row.get(0)?,
        name: row.get(1)?,
        group: row.get(2)?,
        own_keep_connected: row.get(3)?,
        own_interval_seconds: row.get(4)?,
        enrolled_at: row.get(5)?,
        hostname: row.get(6)?,
        os_name: row.get(7)?,
        device_status: status::device_status(row, 8)?,
        waits: waiting_since.map(|since| (since, was_unknown)),
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
    // No name is empty, so every name is behind the empty one.
    let [after] = page.after('d')?.unwrap_or_default();
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
    let (label, has_trust) = filter.trust.unzip();
    if let Some(has_trust) = has_trust {
        let compared = if has_trust { "=" } else { "<>" };
        sql.push_str(&format!(
            " AND +d.number IN (SELECT device FROM device_states WHERE trust_label {compared} ?8)"
        ));
    }
    let status = filter.status.map(Status::name);
    // Every parameter must be named, whatever the filter.
    sql.push_str(
        " AND ?2 IS ?2 AND ?3 IS ?3 AND ?4 IS ?4 AND ?5 IS ?5 AND ?7 IS ?7 AND ?8 IS ?8 ORDER BY d.name LIMIT ?6",
    );
    let values = params![after, path, from, to, search, page.limit(), status, label.map(u64::cast_signed)];
    Ok(page.page('d', connection.all(&sql, values, from_row)?, |row| [row.name.clone()]))
}

/// The ids of the devices of a group and the groups below it; of all devices, when there is none. In order of
/// enrolment, without those that wait for approval. Ids are short: a hundred thousand of them take less than
/// a megabyte, and a call of a whole group needs them at once.
///
/// # Errors
/// When there is no such group, or the file cannot be read.
pub fn device_ids(connection: &Connection, group: Option<&str>) -> Result<Vec<DeviceId>, StoreError> {
    let Some(group) = group else {
        let sql = "SELECT id FROM devices WHERE removed_at IS NULL AND waiting_since IS NULL ORDER BY number";
        return connection.all(sql, [], |row| row.get(0));
    };
    let path = group::normal_path(group)?;
    group::find(connection, &path)?;
    let (from, to) = group::range_below(&path);
    let sql = "SELECT d.id FROM groups g JOIN devices d ON d.group_id = g.id
        WHERE (g.path = ?1 OR (g.path >= ?2 AND g.path < ?3)) AND d.removed_at IS NULL AND d.waiting_since IS NULL
        ORDER BY d.number";
    connection.all(sql, [path, from, to], |row| row.get(0))
}

/// The id of the device that is meant.
///
/// # Errors
/// When there is no such device, or the file cannot be read.
pub fn device_id(connection: &Connection, name_or_id: &str) -> Result<DeviceId, StoreError> {
    rows::id_of(connection, number_by_key(connection, &DeviceKey::NameOrId(name_or_id.to_owned()))?)
}

/// Name of a device, or its name when it was removed; `None`: there was never such a device.
///
/// # Errors
/// When the file cannot be read.
pub fn name_of(connection: &Connection, device: DeviceId) -> Result<Option<String>, StoreError> {
    connection.perhaps("SELECT name FROM devices WHERE id = ?1", [device], |row| row.get(0))
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
pub(in crate::store) fn number_by_key(connection: &Connection, key: &DeviceKey) -> Result<i64, StoreError> {
    match key {
        DeviceKey::Id(id) => match number_of(connection, *id) {
            Err(StoreError::DeviceRemoved(_)) => Err(StoreError::NoDevice(id.to_string())),
            other => other,
        },
        DeviceKey::NameOrId(text) => {
            // An id comes first, that of a removed device as well: a device that was given it as its name by
            // an earlier version must not take what is meant for another one. Two devices never have one
            // name.
            if let Ok(id) = text.parse() {
                match number_of(connection, id) {
                    Err(StoreError::NoDevice(_)) => {}
                    found => return found,
                }
            }
            number_by_name(connection, text)?.ok_or_else(|| StoreError::NoDevice(text.clone()))
        }
    }
}

fn load_detail(connection: &Connection, number: i64) -> Result<DeviceDetail, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, s.agent_epoch, s.inventory_digest, s.inventory_revision, s.host_digest,
            s.host_revision, s.conditions_digest, s.conditions_revision, coalesce(i.entries, 0)
         FROM {TABLES} JOIN device_states s ON s.device = d.number
         LEFT JOIN device_inventories i ON i.device = d.number WHERE d.number = ?1"
    );
    let section = |row: &Row<'_>, at: usize| -> rusqlite::Result<SectionState> {
        Ok(SectionState { digest: row.get(at)?, revision: row.number(at + 1)? })
    };
    let mut detail = connection.one(&sql, [number], |row| {
        Ok(DeviceDetail {
            row: from_row(row)?,
            agent_epoch: row.get(13)?,
            sections: [section(row, 14)?, section(row, 16)?, section(row, 18)?],
            host: None,
            conditions: Vec::new(),
            statistics: Vec::new(),
            applications: row.number(20)?,
            certificate: None,
        })
    })?;
    detail.host = inventory::host(connection, number)?;
    detail.conditions = inventory::conditions(connection, number)?;
    detail.statistics = inventory::statistics(connection, number)?;
    detail.certificate = certificates::of(connection, number)?.into_iter().next();
    Ok(detail)
}

/// The groups, by path.
///
/// # Errors
/// When the cursor is none, or the file cannot be read.
pub fn groups(connection: &Connection, page: &PageRequest) -> Result<Page<Group>, StoreError> {
    let [after] = page.after('g')?.unwrap_or_default();
    let sql = "SELECT g.path, g.interval_seconds, g.keep_connected,
            (SELECT count(*) FROM devices d WHERE d.group_id = g.id AND d.removed_at IS NULL)
        FROM groups g WHERE g.path > ?1 ORDER BY g.path LIMIT ?2";
    let groups = connection.all(sql, params![after, page.limit()], |row| {
        Ok(Group {
            path: row.get(0)?,
            interval_seconds: row.get(1)?,
            keep_connected: row.get(2)?,
            devices: row.number(3)?,
        })
    })?;
    Ok(page.page('g', groups, |group| [group.path.clone()]))
}

/// The join tokens, by id, as they are `now`.
///
/// # Errors
/// When the cursor is none, or the file cannot be read.
pub fn tokens(connection: &Connection, page: &PageRequest, now: WallTime) -> Result<Page<Token>, StoreError> {
    let after = page.after('t')?.map(|[id]| id.parse::<TokenId>()).transpose();
    let after = after.map_err(|_| page.bad_cursor())?;
    let sql = format!(
        "SELECT {} FROM {} WHERE ?1 IS NULL OR t.id > ?1 ORDER BY t.id LIMIT ?2",
        token::COLUMNS,
        token::TABLES
    );
    let tokens = connection.all(&sql, params![after, page.limit()], |row| token::from_row(row, now))?;
    Ok(page.page('t', tokens, |token| [token.id.to_string()]))
}
