//! Membership beyond a first enrolment: a record that is taken over by another machine, a device that waits
//! for an administrator to approve it, one that this server has enrolled and does not know any more.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::rows::{self, EnrolledDevice, Enrolment};
use super::{
    DeviceCertificate, DeviceChange, DeviceChanged, DeviceSettings, Devices, InForce, PersistentLinkChanges,
    certificates, clones, group,
};
use crate::fleet::renewal::lowest_beside;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::writer::Origin;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::WallTime;

/// Most devices that wait for approval at a time, in devices: more than anybody looks through.
pub const WAITING_MAX: u64 = 10_000;

/// Most of them that this server did not know any more, in devices: the others come again each hour.
pub const UNKNOWN_MAX: u64 = 1_000;

/// Longest wait of a device for approval: 30 days.
pub const WAITING_MILLISECONDS: u64 = 30 * 24 * 3_600 * 1_000;

/// Remains of a device whose record was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Its certificates, which are dead.
    pub certificates: Vec<CertificateHash>,
    /// Certificates of the device with a lower counter are dead, too, wherever they come from.
    pub floor: u32,
}

/// Gives the record to the machine that enrols: from now on it alone is the device. All that the record holds
/// stays.
pub(super) fn take_over(
    connection: &Connection,
    number: i64,
    enrolment: &Enrolment,
) -> Result<EnrolledDevice, StoreError> {
    let device = rows::id_of(connection, number)?;
    if device != enrolment.device || rows::number_of(connection, device)? != number {
        return Err(StoreError::IdTaken);
    }
    if enrolment.certificate.counter <= rows::highest_counter(connection, number)? {
        return Err(StoreError::CounterTaken(device));
    }
    let sql = "SELECT hash FROM certificates WHERE device = ?1";
    let certificates = connection.all(sql, [number], |row| row.get(0))?;
    connection.run("DELETE FROM certificates WHERE device = ?1", [number])?;
    certificates::insert(connection, number, &enrolment.certificate)?;
    let floor = enrolment.certificate.counter;
    forget_former(connection, number, floor)?;
    Ok(EnrolledDevice { former: Some(Former { certificates, floor }), ..rows::enrolled(connection, number)? })
}

/// Another machine is the device from now on, with certificates from this number on: what is stored of the
/// one that it was says nothing of this one, which is judged anew.
pub(super) fn forget_former(connection: &Connection, number: i64, floor: u32) -> Result<(), StoreError> {
    clones::forget_device(connection, number)?;
    connection.run("DELETE FROM status_reasons WHERE device = ?1", [number])?;
    connection.run("UPDATE devices SET certificate_floor = ?2 WHERE number = ?1", (number, floor)).map(drop)
}

/// Whether one more device may wait for approval.
pub(super) fn check_room_to_wait(connection: &Connection) -> Result<(), StoreError> {
    let sql = "SELECT count(*) FROM devices WHERE waiting_since IS NOT NULL";
    let waiting: i64 = connection.one(sql, [], |row| row.get(0))?;
    if waiting.unsigned_abs() >= WAITING_MAX {
        return Err(StoreError::TooManyWaiting(waiting.unsigned_abs()));
    }
    Ok(())
}

/// A device with a certificate of this server that is not known here: the server was restored from a copy
/// that is older than the device's enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownDevice {
    /// Its id, as its certificate says.
    pub device: DeviceId,
    /// The certificate.
    pub certificate: DeviceCertificate,
    /// The time.
    pub now: WallTime,
}

/// Outcome of an offer.
enum Offered {
    /// It waits for approval.
    New(EnrolledDevice),
    /// It is there already, or was removed; its certificate is known from now on.
    Known,
}

/// Enters a device that is not known, to wait for approval.
fn offer(connection: &Connection, unknown: &UnknownDevice) -> Result<Offered, StoreError> {
    let UnknownDevice { device, certificate, now } = *unknown;
    let insert = |number: i64| certificates::insert(connection, number, &certificate);
    let sql = "SELECT number FROM devices WHERE id = ?1";
    if let Some(number) = connection.perhaps(sql, [device], |row| row.get(0))? {
        insert(number)?;
        return Ok(Offered::Known);
    }
    check_room_to_wait(connection)?;
    let sql = "SELECT count(*) FROM devices WHERE waiting_since IS NOT NULL AND was_unknown = 1";
    let waiting: i64 = connection.one(sql, [], |row| row.get(0))?;
    if waiting.unsigned_abs() >= UNKNOWN_MAX {
        return Err(StoreError::TooManyWaiting(waiting.unsigned_abs()));
    }
    let name = rows::free_name(connection, &device.to_string())?;
    let root = group::find(connection, "/")?;
    let sql =
        "INSERT INTO devices (id, name, group_id, enrolled_at, waiting_since, was_unknown, certificate_floor)
        VALUES (?1, ?2, ?3, ?4, ?4, 1, ?5)";
    connection.run(sql, params![device, name, root, now, lowest_beside(certificate.counter)])?;
    let number = connection.last_insert_rowid();
    insert(number)?;
    connection.run("INSERT INTO device_states (device) VALUES (?1)", [number])?;
    rows::enrolled(connection, number).map(Offered::New)
}

impl Devices {
    /// Has a device that is not known here wait for approval. `done` is called when that is durable, with
    /// whether it is new; [`StoreError::TooManyWaiting`] when there is no room.
    pub fn offer(
        &self,
        unknown: UnknownDevice,
        done: impl FnOnce(Result<bool, StoreError>) + Send + 'static,
    ) {
        let memory = Arc::clone(self.memory());
        self.database().writer.submit(
            Origin::Device,
            0,
            move |connection| offer(connection, &unknown),
            move |offered| {
                let is_new = offered.map(|offered| match offered {
                    Offered::New(enrolled) => {
                        // The machine of before a take-over that is not known here either stays out.
                        memory.table.note_floor(unknown.device, lowest_beside(unknown.certificate.counter));
                        memory.enter(&enrolled, &unknown.certificate.hash);
                        true
                    }
                    Offered::Known => {
                        memory.table.note_certificate(unknown.device, &unknown.certificate.hash);
                        false
                    }
                });
                done(is_new);
            },
        );
    }

    /// Ends a wait that was too long. A device that enrolled is removed; one that was not known is forgotten,
    /// so that it is offered once more when it comes again. Waits until that is durable.
    ///
    /// # Errors
    /// When there is no such device, or it could not be stored.
    pub fn give_up_waiting(
        &self,
        device: DeviceId,
        was_unknown: bool,
        now: WallTime,
    ) -> Result<(), StoreError> {
        self.remove(device, now)?;
        if !was_unknown {
            return Ok(());
        }
        let certificates: Vec<CertificateHash> = self.database().call(move |connection| {
            let sql = "SELECT number FROM devices WHERE id = ?1";
            let number: i64 = connection.one(sql, [device], |row| row.get(0))?;
            let sql = "SELECT hash FROM certificates WHERE device = ?1";
            let certificates = connection.all(sql, [number], |row| row.get(0))?;
            for table in ["certificates", "tokens"] {
                connection.run(&format!("DELETE FROM {table} WHERE device = ?1"), [number])?;
            }
            connection.run("DELETE FROM devices WHERE number = ?1", [number])?;
            Ok(certificates)
        })?;
        certificates.iter().for_each(|certificate| self.table().forget_certificate(certificate));
        self.table().forget_floor(device);
        Ok(())
    }

    /// Lets a device in that waits for approval, perhaps under another name or into another group; waits
    /// until that is durable.
    ///
    /// # Errors
    /// As [`Devices::change`], and when the device does not wait.
    pub fn approve(&self, device: DeviceId, change: DeviceChange) -> Result<DeviceChanged, StoreError> {
        let (_, persistent, settings) = self.put(false, move |connection| {
            let settings = approve(connection, device, &change)?;
            // It has declared nothing yet, so that it has no desired state.
            Ok((InForce { settings: vec![settings], desired_changes: Vec::new() }, settings))
        })?;
        self.let_in(device);
        Ok(DeviceChanged { settings, persistent, has_other_desired_state: false })
    }

    /// Lets all of these devices in, all or none, perhaps into another group; waits until that is durable.
    /// Those that don't wait any more are passed over. The devices, and whose links are to stay since.
    ///
    /// # Errors
    /// When the group's path is none, too many devices would be kept connected, or it could not be stored.
    /// Then nothing is changed.
    pub fn approve_all(
        &self,
        devices: Vec<DeviceId>,
        group: Option<String>,
    ) -> Result<(Vec<DeviceId>, PersistentLinkChanges), StoreError> {
        let change = DeviceChange { group, ..DeviceChange::default() };
        let (in_force, persistent, ()) = self.put(false, move |connection| {
            let mut settings = Vec::new();
            for device in devices {
                match approve(connection, device, &change) {
                    Ok(one) => settings.push(one),
                    Err(
                        StoreError::NoDevice(_) | StoreError::DeviceRemoved(_) | StoreError::NotWaiting(_),
                    ) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((InForce { settings, desired_changes: Vec::new() }, ()))
        })?;
        let approved: Vec<_> = in_force.settings.iter().map(|settings| settings.device).collect();
        approved.iter().for_each(|device| self.let_in(*device));
        Ok((approved, persistent))
    }

    fn let_in(&self, device: DeviceId) {
        self.table().with(device, |record| record.set_waiting(false));
        self.table().mark(device);
        self.memory().listed.note(device);
    }
}

fn approve(
    connection: &Connection,
    device: DeviceId,
    change: &DeviceChange,
) -> Result<DeviceSettings, StoreError> {
    let number = rows::number_of(connection, device)?;
    if !rows::is_waiting(connection, number)? {
        return Err(StoreError::NotWaiting(rows::name_of(connection, number)?));
    }
    let sql = "UPDATE devices SET waiting_since = NULL, was_unknown = 0 WHERE number = ?1";
    connection.run(sql, [number])?;
    rows::change(connection, device, change)
}
