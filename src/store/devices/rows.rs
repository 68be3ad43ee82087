//! Rows of devices: enrolment, changes by an administrator, removal.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::certificates::{self, DeviceCertificate};
use super::clones;
use super::group::{self, Inherited};
use super::membership::{self, Former};
use super::token::{self, TokenRefusal};

use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::{inventory, policies, tasks};
use crate::wire::id::{DeviceId, TokenId};
use crate::wire::limits::{NAME_BYTES_MAX, TOKEN_SECRET_BYTES};
use crate::wire::pattern::fits;
use crate::wire::printable::{is_device_name, is_hidden, is_reserved};
use crate::wire::time::WallTime;

/// Facts by which a device enters the fleet.
#[derive(Clone)]
pub struct Enrolment {
    /// Which token invites it.
    pub token: TokenId,
    /// The token's secret.
    pub secret: [u8; TOKEN_SECRET_BYTES],
    /// Its id, which the certificate names: drawn at random, or that of the device whose record it takes over
    /// ([`Devices::check_token`](super::Devices::check_token)).
    pub device: DeviceId,
    /// The name that it would like.
    pub name: String,
    /// Its certificate.
    pub certificate: DeviceCertificate,
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
    /// Whether it waits for an administrator to approve it.
    pub is_waiting: bool,
    /// Remains of the machine that it was before, when its record was taken over; `None`: it is a new device.
    pub former: Option<Former>,
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

/// The group of a device.
pub(super) fn group_of(connection: &Connection, number: i64) -> Result<i64, StoreError> {
    connection.one("SELECT group_id FROM devices WHERE number = ?1", [number], |row| row.get(0))
}

/// The name of a device.
pub(super) fn name_of(connection: &Connection, number: i64) -> Result<String, StoreError> {
    connection.one("SELECT name FROM devices WHERE number = ?1", [number], |row| row.get(0))
}

/// The highest counter among the certificates of a device, and of those that died with a take-over.
pub(super) fn highest_counter(connection: &Connection, number: i64) -> Result<u32, StoreError> {
    let sql = "SELECT max(certificate_floor, coalesce(
            (SELECT max(counter) FROM certificates WHERE device = ?1), 0)) FROM devices WHERE number = ?1";
    connection.one(sql, [number], |row| row.get(0))
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
pub(super) fn free_name(connection: &Connection, wanted: &str) -> Result<String, StoreError> {
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

/// Uses the token and enters the device, or has it take a record over, all or nothing.
pub(super) fn enrol(connection: &Connection, enrolment: &Enrolment) -> Result<EnrolledDevice, StoreError> {
    let Enrolment { device, now, .. } = *enrolment;
    let invitation = token::take(connection, enrolment.token, &enrolment.secret, &enrolment.name, now)?;
    if let Some(number) = invitation.device {
        return membership::take_over(connection, number, enrolment);
    }
    let name = free_name(connection, &enrolment.name)?;
    if let Some(names) = invitation.names.filter(|names| !fits(names, &name)) {
        return Err(TokenRefusal::NameTaken { names, name: enrolment.name.clone() }.into());
    }
    let waiting_since = invitation.approval.then_some(now);
    if waiting_since.is_some() {
        membership::check_room_to_wait(connection)?;
    }
    let sql =
        "INSERT INTO devices (id, name, group_id, enrolled_at, waiting_since) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (id) DO NOTHING";
    if connection.run(sql, params![device, name, invitation.group, now, waiting_since])? == 0 {
        return Err(StoreError::IdTaken);
    }
    let number = connection.last_insert_rowid();
    certificates::insert(connection, number, &enrolment.certificate)?;
    connection.run("INSERT INTO device_states (device) VALUES (?1)", [number])?;
    enrolled(connection, number)
}

/// The device as it is right after it has enrolled.
pub(super) fn enrolled(connection: &Connection, number: i64) -> Result<EnrolledDevice, StoreError> {
    let sql = "SELECT name, group_id, waiting_since IS NOT NULL FROM devices WHERE number = ?1";
    let (name, group, is_waiting): (String, i64, bool) =
        connection.one(sql, [number], |row| row.try_into())?;
    let settings = settings(connection, number)?;
    Ok(EnrolledDevice {
        device: settings.device,
        name,
        group: group::path_of(connection, group)?,
        interval_seconds: settings.interval_seconds,
        keep_connected: settings.keep_connected,
        is_waiting,
        former: None,
    })
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

/// Whether the device waits for approval: nothing that is set for it is in force before.
pub(super) fn is_waiting(connection: &Connection, number: i64) -> Result<bool, StoreError> {
    let sql = "SELECT waiting_since IS NOT NULL FROM devices WHERE number = ?1";
    connection.one(sql, [number], |row| row.get(0))
}

/// Settings in force for every device of a group and the groups below it, those first that enrolled first;
/// without those that wait for approval.
pub(super) fn settings_below(connection: &Connection, path: &str) -> Result<Vec<DeviceSettings>, StoreError> {
    let (from, to) = group::range_below(path);
    let sql = format!(
        "{SETTINGS} JOIN groups g ON g.id = d.group_id
         WHERE (g.path = ?1 OR (g.path >= ?2 AND g.path < ?3)) AND d.removed_at IS NULL
            AND d.waiting_since IS NULL ORDER BY d.number"
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
    token::device_removed(connection, number, now)?;
    clones::forget_device(connection, number)?;
    for table in ["device_states", "status_reasons", "device_tags"] {
        connection.run(&format!("DELETE FROM {table} WHERE device = ?1"), [number])?;
    }
    let sql = "UPDATE devices SET removed_at = ?2, waiting_since = NULL WHERE number = ?1";
    connection.run(sql, (number, now))?;
    Ok(())
}
