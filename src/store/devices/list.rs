//! One device, whole; groups and tokens, page by page.

use rusqlite::{Connection, Row, params};

use super::certificates::{self, DeviceCertificate};
use super::group::{in_force, normal_path};
use super::rows::{self, number_by_name, number_of};
use super::status::{self, DeviceStatus};
use super::token;
use crate::store::error::StoreError;
use crate::store::inventory::{self, ApplicationStatistics};
use crate::store::page::{Page, PageRequest};
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{Group, GroupInForce, Token};
use crate::wire::id::{DeviceId, Epoch, TokenId};
use crate::wire::section::{ApplicationCondition, HostFacts, SectionState};
use crate::wire::time::WallTime;

/// One device, as lists have it. Values that change with every sync are in the device table.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceRow {
    /// Its id.
    pub device: DeviceId,
    /// Its name.
    pub name: String,
    /// Path of its group.
    pub group: String,
    /// When it enrolled.
    pub enrolled_at: WallTime,
    /// Its status, and the reasons.
    pub device_status: DeviceStatus,
}

/// One device, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceDetail {
    /// Its row of the list.
    pub row: DeviceRow,
    /// Its own setting of whether its link stays open between syncs; `None`: as its group says.
    pub own_keep_connected: Option<bool>,
    /// Its own sync interval; `None`: that of its group or of the server.
    pub own_interval_seconds: Option<u32>,
    /// Since when it waits for approval, and whether it is one that this server did not know any more;
    /// `None`: it does not wait.
    pub waits: Option<(WallTime, bool)>,
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

/// The ids of all devices, in order of enrolment, without those that wait for approval.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn device_ids(connection: &Connection) -> Result<Vec<DeviceId>, StoreError> {
    let sql = "SELECT id FROM devices WHERE removed_at IS NULL AND waiting_since IS NULL ORDER BY number";
    connection.all(sql, [], |row| row.get(0))
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

/// Name of a device; `None`: it was removed, or there was never such a device.
///
/// # Errors
/// When the file cannot be read.
pub fn name_if_enrolled(connection: &Connection, device: DeviceId) -> Result<Option<String>, StoreError> {
    let sql = "SELECT name FROM devices WHERE id = ?1 AND removed_at IS NULL";
    connection.perhaps(sql, [device], |row| row.get(0))
}

/// Path of a device's group; `None`: there was never such a device.
///
/// # Errors
/// When the file cannot be read.
pub fn group_of(connection: &Connection, device: DeviceId) -> Result<Option<String>, StoreError> {
    let sql = "SELECT g.path FROM devices d JOIN groups g ON g.id = d.group_id WHERE d.id = ?1";
    connection.perhaps(sql, [device], |row| row.get(0))
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
    let sql = "SELECT d.id, d.name, g.path, d.enrolled_at, r.status, r.since, r.reasons, d.keep_connected,
            d.interval_seconds, d.waiting_since, d.was_unknown, s.agent_epoch, s.inventory_digest,
            s.inventory_revision, s.host_digest, s.host_revision, s.conditions_digest, s.conditions_revision,
            coalesce(i.entries, 0)
        FROM devices d JOIN groups g ON g.id = d.group_id JOIN device_states s ON s.device = d.number
        LEFT JOIN status_reasons r ON r.device = d.number
        LEFT JOIN device_inventories i ON i.device = d.number WHERE d.number = ?1";
    let section = |row: &Row<'_>, at: usize| -> rusqlite::Result<SectionState> {
        Ok(SectionState { digest: row.get(at)?, revision: row.number(at + 1)? })
    };
    let mut detail = connection.one(sql, [number], |row| {
        let (waiting_since, was_unknown): (Option<WallTime>, bool) = (row.get(9)?, row.get(10)?);
        Ok(DeviceDetail {
            row: DeviceRow {
                device: row.get(0)?,
                name: row.get(1)?,
                group: row.get(2)?,
                enrolled_at: row.get(3)?,
                device_status: status::device_status(row, 4)?,
            },
            own_keep_connected: row.get(7)?,
            own_interval_seconds: row.get(8)?,
            waits: waiting_since.map(|since| (since, was_unknown)),
            agent_epoch: row.get(11)?,
            sections: [section(row, 12)?, section(row, 14)?, section(row, 16)?],
            host: None,
            conditions: Vec::new(),
            statistics: Vec::new(),
            applications: row.number(18)?,
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
    let sql = format!("{GROUPS} WHERE g.path > ?1 ORDER BY g.path LIMIT ?2");
    let mut groups = connection.all(&sql, params![after, page.limit()], group_from_row)?;
    for group in &mut groups {
        group.in_force = in_force(connection, &group.path)?;
    }
    Ok(page.page('g', groups, |group| [group.path.clone()]))
}

/// One group.
///
/// # Errors
/// When there is no such group, or the file cannot be read.
pub fn group(connection: &Connection, path: &str) -> Result<Group, StoreError> {
    let path = normal_path(path)?;
    let found = connection.perhaps(&format!("{GROUPS} WHERE g.path = ?1"), [&path], group_from_row)?;
    let mut group = found.ok_or(StoreError::NoGroup(path))?;
    group.in_force = in_force(connection, &group.path)?;
    Ok(group)
}

const GROUPS: &str = "SELECT g.path, g.interval_seconds, g.keep_connected,
        (SELECT count(*) FROM devices d WHERE d.group_id = g.id AND d.removed_at IS NULL)
    FROM groups g";

/// Without what is in force for it.
fn group_from_row(row: &Row<'_>) -> rusqlite::Result<Group> {
    Ok(Group {
        path: row.get(0)?,
        interval_seconds: row.get(1)?,
        keep_connected: row.get(2)?,
        devices: row.number(3)?,
        in_force: GroupInForce::default(),
    })
}

/// One join token, as it is `now`.
///
/// # Errors
/// When there is no such token, or the file cannot be read.
pub fn token(connection: &Connection, id: TokenId, now: WallTime) -> Result<Token, StoreError> {
    token::get(connection, id, now)
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
