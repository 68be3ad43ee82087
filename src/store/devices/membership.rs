//! Membership beyond a first enrolment: a record that is taken over by another machine, a device that waits
//! for an administrator to approve it.

use rusqlite::Connection;

use super::rows::{self, EnrolledDevice, Enrolment};
use super::{DeviceChange, DeviceChanged, Devices, InForce};
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::wire::id::{CertificateHash, DeviceId};

/// Most devices that wait for approval at a time, in devices: more than anybody looks through.
pub const WAITING_MAX: u64 = 10_000;

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
    if enrolment.counter <= rows::highest_counter(connection, number)? {
        return Err(StoreError::CounterTaken(device));
    }
    let sql = "SELECT hash FROM certificates WHERE device = ?1";
    let certificates = connection.all(sql, [number], |row| row.get(0))?;
    connection.run("DELETE FROM certificates WHERE device = ?1", [number])?;
    rows::insert_certificate(connection, number, enrolment)?;
    let floor = enrolment.counter;
    let sql = "UPDATE devices SET certificate_floor = ?2 WHERE number = ?1";
    connection.run(sql, (number, floor))?;
    Ok(EnrolledDevice { former: Some(Former { certificates, floor }), ..rows::enrolled(connection, number)? })
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

impl Devices {
    /// Lets a device in that waits for approval, perhaps under another name or into another group; waits
    /// until that is durable.
    ///
    /// # Errors
    /// As [`Devices::change`], and when the device does not wait.
    pub fn approve(&self, device: DeviceId, change: DeviceChange) -> Result<DeviceChanged, StoreError> {
        let (_, persistent, settings) = self.put(false, move |connection| {
            let number = rows::number_of(connection, device)?;
            if !rows::is_waiting(connection, number)? {
                return Err(StoreError::NotWaiting(rows::name_of(connection, number)?));
            }
            connection.run("UPDATE devices SET waiting_since = NULL WHERE number = ?1", [number])?;
            let settings = rows::change(connection, device, &change)?;
            // It has declared nothing yet, so that it has no desired state.
            Ok((InForce { settings: vec![settings], desired_changes: Vec::new() }, settings))
        })?;
        self.table().with(device, |record| record.set_waiting(false));
        self.table().mark(device);
        Ok(DeviceChanged { settings, persistent, has_other_desired_state: false })
    }
}
