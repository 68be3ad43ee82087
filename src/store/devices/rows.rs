//! Rows of devices: enrolment, changes by an administrator, removal.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::group::{self, Inherited};
use super::token;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::{inventory, policies, tasks};
use crate::wire::id::{CertificateHash, DeviceId, TokenId};
use crate::wire::limits::{NAME_BYTES_MAX, TOKEN_SECRET_BYTES};
use crate::wire::printable::{is_device_name, is_hidden, is_reserved};
use crate::wire::time::WallTime;

/// Facts by which a device enters the fleet.
#[derive(Clone)]
pub struct Enrolment {
    /// Which token invites it.
    pub token: TokenId,
    /// The token's secret.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// Its id, drawn at random by the caller, who has named it in the certificate.
    pub device: DeviceId,
    /// The name that it would like.
    pub name: String,
    /// Its certificate.
    pub certificate: CertificateHash,
    /// Until when that is good; `None`: not known.
    pub expires_at: Option<WallTime>,
    /// The time.
    pub now: WallTime,
}

impl std::fmt::Debug for Enrolment {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment")
            .field("token", &self.token)
            .field("device", &self.device)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A device that has entered the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledDevice {
    /// Its id.
    pub device: DeviceId,
    /// Its name: the one it asked for, mended when that can be no name, with a number behind it when that was
    /// taken.
    pub name: String,
    /// Path of its group.
    pub group: String,
    /// The interval that its group gives it; `None`: that of the server.
    pub interval_seconds: Option<u32>,
    /// Whether its group wants its link to stay open between syncs.
    pub keep_connected: bool,
}

/// An administrator's change of a device. `None` leaves things as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceChange {
    /// Its name.
    pub name: Option<String>,
    /// Path of its group; made when it isn't there.
    pub group: Option<String>,
    /// Whether its link stays open between syncs; `Some(None)`: as its group says.
    pub keep_connected: Option<Option<bool>>,
    /// Its own sync interval; `Some(None)`: that of its group.
    pub interval_seconds: Option<Option<u32>>,
}

/// Settings in force for a device after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Which device.
    pub device: DeviceId,
    /// Whether its link is to stay open between syncs: its own setting or its group's. Whether it does says
    /// its record: there may be no room ([`Devices::waits_for_room`](super::Devices::waits_for_room)).
    pub keep_connected: bool,
    /// Its sync interval: its own or its group's; `None`: that of the server.
    pub interval_seconds: Option<u32>,
}

/// The number that a device has in this file.
pub(in crate::store) fn number_of(connection: &Connection, device: DeviceId) -> Result<i64, StoreError> {
    let sql = "SELECT number, removed_at IS NOT NULL FROM devices WHERE id = ?1";
    match connection.perhaps(sql, [device], |row| row.try_into())? {
        Some((number, false)) => Ok(number),
        Some((_, true)) => Err(StoreError::DeviceRemoved(device)),
        None => Err(StoreError::NoDevice(device.to_string())),
    }
}

/// The device with this number.
pub(in crate::store) fn id_of(connection: &Connection, number: i64) -> Result<DeviceId, StoreError> {
    connection.one("SELECT id FROM devices WHERE number = ?1", [number], |row| row.get(0))
}

/// The number of the device that has this name.
pub(super) fn number_by_name(connection: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT number FROM devices WHERE name = ?1 AND removed_at IS NULL";
    connection.perhaps(sql, [name], |row| row.get(0))
}

fn is_taken(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    Ok(number_by_name(connection, name)?.is_some())
}

/// Name that a device that asks for one gets: that name without what can't be seen, as no id, and with a
/// number when it is taken. Mended and not refused: the name is usually the host name, which a serial number
/// in hexadecimal may be, and nobody stands beside the device to choose another one.
fn free_name(connection: &Connection, wanted: &str) -> Result<String, StoreError> {
    let shown: String = wanted.chars().filter(|character| !is_hidden(*character)).collect();
    let mut stem = shown.trim();
    let marked;
    if !stem.is_empty() && (stem.parse::<DeviceId>().is_ok() || is_reserved(stem)) {
        marked = format!("device-{stem}");
        stem = &marked;
    }
    // Room for "-" and a number.
    while stem.len() > NAME_BYTES_MAX - 12 {
        let mut characters = stem.chars();
        characters.next_back();
        stem = characters.as_str().trim_end();
    }
    let stem = if stem.is_empty() { "device" } else { stem };
    if !is_taken(connection, stem)? {
        return Ok(stem.to_owned());
    }
    // Ten thousand devices of one image all ask for the same name: double until a number is free, then halve
    // the gap between a taken and a free one. Any free number will do.
    let numbered = |number: u32| format!("{stem}-{number}");
    let (mut taken, mut free) = (1_u32, 2_u32);
    while is_taken(connection, &numbered(free))? {
        taken = free;
        free = free.checked_mul(2).ok_or_else(|| StoreError::NameTaken(stem.to_owned()))?;
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(connection, &numbered(middle))? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(numbered(free))
}

/// Uses the token and enters the device, all or nothing.
pub(super) fn enrol(connection: &Connection, enrolment: &Enrolment) -> Result<EnrolledDevice, StoreError> {
    let group = token::take(connection, enrolment.token, &enrolment.secret, enrolment.now)?;
    let name = free_name(connection, &enrolment.name)?;
    let sql = "INSERT INTO devices (id, name, group_id, enrolled_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (id) DO NOTHING";
    if connection.run(sql, params![enrolment.device, name, group, enrolment.now])? == 0 {
        return Err(StoreError::IdTaken);
    }
    let number = connection.last_insert_rowid();
    let sql = "INSERT INTO certificates (hash, device, expires_at) VALUES (?1, ?2, ?3)";
    connection.run(sql, (enrolment.certificate, number, enrolment.expires_at))?;
    connection.run("INSERT INTO device_states (device) VALUES (?1)", [number])?;
    let path = group::path_of(connection, group)?;
    let Inherited { interval_seconds, keep_connected } = group::inherited(connection, group)?;
    let keep_connected = keep_connected.unwrap_or(false);
    Ok(EnrolledDevice { device: enrolment.device, name, group: path, interval_seconds, keep_connected })
}

/// Changes a device; what is in force afterwards.
pub(super) fn change(
    connection: &Connection,
    device: DeviceId,
    change: &DeviceChange,
) -> Result<DeviceSettings, StoreError> {
    let number = number_of(connection, device)?;
    if let Some(name) = &change.name {
        if !is_device_name(name) {
            return Err(StoreError::BadName(name.clone()));
        }
        if number_by_name(connection, name)?.is_some_and(|other| other != number) {
            return Err(StoreError::NameTaken(name.clone()));
        }
        connection.run("UPDATE devices SET name = ?2 WHERE number = ?1", (number, name))?;
    }
    if let Some(path) = &change.group {
        let group = group::find_or_create(connection, path)?;
        connection.run("UPDATE devices SET group_id = ?2 WHERE number = ?1", [number, group])?;
    }
    if let Some(keep) = change.keep_connected {
        connection.run("UPDATE devices SET keep_connected = ?2 WHERE number = ?1", (number, keep))?;
    }
    if let Some(interval) = change.interval_seconds {
        connection.run("UPDATE devices SET interval_seconds = ?2 WHERE number = ?1", (number, interval))?;
    }
    settings(connection, number)
}

/// Settings in force for a device.
pub(super) fn settings(connection: &Connection, number: i64) -> Result<DeviceSettings, StoreError> {
    let own = connection.one(&format!("{SETTINGS} WHERE d.number = ?1"), [number], own_settings)?;
    Ok(effective(&own, group::inherited(connection, own.group)?))
}

const SETTINGS: &str = "SELECT d.id, d.keep_connected, d.interval_seconds, d.group_id FROM devices d";

/// Settings of a device itself.
struct OwnSettings {
    device: DeviceId,
    keep_connected: Option<bool>,
    interval_seconds: Option<u32>,
    group: i64,
}

fn own_settings(row: &Row<'_>) -> rusqlite::Result<OwnSettings> {
    Ok(OwnSettings {
        device: row.get(0)?,
        keep_connected: row.get(1)?,
        interval_seconds: row.get(2)?,
        group: row.get(3)?,
    })
}

fn effective(own: &OwnSettings, inherited: Inherited) -> DeviceSettings {
    DeviceSettings {
        device: own.device,
        keep_connected: own.keep_connected.or(inherited.keep_connected).unwrap_or(false),
        interval_seconds: own.interval_seconds.or(inherited.interval_seconds),
    }
}

/// Settings in force for every device of a group and the groups below it, those first that enrolled first.
pub(super) fn settings_below(connection: &Connection, path: &str) -> Result<Vec<DeviceSettings>, StoreError> {
    let (from, to) = group::range_below(path);
    let sql = format!(
        "{SETTINGS} JOIN groups g ON g.id = d.group_id
         WHERE (g.path = ?1 OR (g.path >= ?2 AND g.path < ?3)) AND d.removed_at IS NULL ORDER BY d.number"
    );
    let mut groups = HashMap::new();
    let mut settings = Vec::new();
    connection.each(&sql, [path, &from, &to], |row| {
        let own = own_settings(row)?;
        let inherited = match groups.get(&own.group) {
            Some(inherited) => *inherited,
            None => *groups.entry(own.group).or_insert(group::inherited(connection, own.group)?),
        };
        settings.push(effective(&own, inherited));
        Ok(())
    })?;
    Ok(settings)
}

/// Removes a device: what is known of it goes, its name is free, its certificate stays known as that of a
/// removed device.
pub(super) fn remove(
    connection: &Connection,
    device: DeviceId,
    now: WallTime,
    orphans: &inventory::Orphans,
) -> Result<(), StoreError> {
    let number = number_of(connection, device)?;
    inventory::forget_device(connection, number, orphans)?;
    policies::forget_device(connection, number)?;
    tasks::forget_device(connection, number)?;
    connection.run("DELETE FROM device_states WHERE device = ?1", [number])?;
    connection.run("DELETE FROM status_reasons WHERE device = ?1", [number])?;
    connection.run("UPDATE devices SET removed_at = ?2 WHERE number = ?1", (number, now))?;
    Ok(())
}
