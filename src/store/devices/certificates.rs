//! Certificates of devices: one each, and another beside it while a renewal is not proved, or when a device
//! comes with one that the server does not know and has issued: one of the two was restored from a copy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::table::DeviceTable;
use super::{Devices, membership, number_of, rows};
use crate::fleet::renewal::{Life, lowest_beside};
use crate::machine::device_state::CertificateStatus;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::writer::Origin;
use crate::wire::certificate::KeyType;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::WallTime;

/// Most certificates of one device that are known at a time: the one in use, the renewed one, and two with
/// which copies of it may come.
const CERTIFICATES_PER_DEVICE_MAX: usize = 4;

/// A certificate of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceCertificate {
    /// Its SHA-256.
    pub hash: CertificateHash,
    /// Counts the certificates of the device, from 1.
    pub counter: u32,
    /// Kind of its key.
    pub key_type: KeyType,
    /// Its dates; `None`: not known.
    pub life: Option<Life>,
}

#[cfg(any(test, feature = "internals"))]
impl DeviceCertificate {
    /// The first of a device, of which nothing else is known.
    #[must_use]
    pub fn first(hash: CertificateHash) -> Self {
        Self { hash, counter: 1, key_type: KeyType::default(), life: None }
    }
}

/// A certificate of a device that has several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    counter: u32,
    hash: CertificateHash,
}

/// The devices that have several certificates: few, so that the others cost nothing.
#[derive(Default)]
pub(super) struct Several {
    held: Mutex<BTreeMap<DeviceId, Vec<Held>>>,
    /// Number of the devices in `held`, so that a handshake need not lock it.
    count: AtomicUsize,
}

/// The lowest number of a device that was removed.
pub(super) const NONE_ALIVE: u32 = u32::MAX;

impl Several {
    pub(super) fn set(&self, device: DeviceId, held: Vec<Held>) {
        let mut several = self.held.lock();
        if held.len() > 1 {
            several.insert(device, held);
        } else {
            several.remove(&device);
        }
        self.count.store(several.len(), Ordering::Release);
    }

    /// Whether this is the newest of several certificates of the device.
    fn is_newest(&self, device: DeviceId, hash: &CertificateHash) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self.held.lock().get(&device).is_some_and(|held| {
                held.iter().max_by_key(|one| one.counter).is_some_and(|newest| newest.hash == *hash)
            })
    }
}

impl DeviceTable {
    /// Status of a certificate that this server has issued to the device under this number, and that nobody
    /// here has seen: the server or the device was restored from a copy. [`CertificateStatus::Unknown`]: the
    /// device itself is not known.
    #[must_use]
    pub fn by_number(&self, device: DeviceId, counter: u32) -> CertificateStatus {
        let floor = self.certificate_floor(device);
        match self.with(device, |record| record.is_waiting()) {
            Some(_) if counter < floor => CertificateStatus::Superseded(device),
            Some(true) => CertificateStatus::Waiting(device),
            Some(false) => CertificateStatus::Known(device),
            None if floor == NONE_ALIVE => CertificateStatus::Removed(device),
            None => CertificateStatus::Unknown,
        }
    }

    /// Whether a certificate with this number is that of a machine which has taken the device's record over
    /// since the copy that this server was restored from.
    #[must_use]
    pub fn has_taken_over(&self, device: DeviceId, counter: u32) -> bool {
        lowest_beside(counter) > self.certificate_floor(device)
    }

    /// Takes over the certificates of a device as they are in the file.
    fn certificates_changed(&self, device: DeviceId, change: &Change) {
        self.note_floor(device, change.floor);
        if change.floor > 0 {
            self.mark(device);
        }
        change.gone.iter().for_each(|hash| self.forget_certificate(hash));
        change.held.iter().for_each(|held| self.note_certificate(device, &held.hash));
        self.several.set(device, change.held.clone());
    }
}

/// Change of a device's certificates.
struct Change {
    held: Vec<Held>,
    gone: Vec<CertificateHash>,
    /// Lower ones are dead from now on.
    floor: u32,
}

impl Devices {
    /// The certificate that was issued to the device last, `None` when none is known; and the number of the
    /// next one.
    ///
    /// # Errors
    /// When there is no such device, or the file cannot be read.
    pub fn newest_certificate(
        &self,
        device: DeviceId,
    ) -> Result<(Option<DeviceCertificate>, u32), StoreError> {
        let reader = self.database.reader()?;
        let number = number_of(&reader, device)?;
        let next = rows::highest_counter(&reader, number)?.saturating_add(1);
        Ok((of(&reader, number)?.pop(), next))
    }

    /// Stores a renewed certificate beside the one in use. `done` is called when it is durable and known.
    pub fn renew_certificate(
        &self,
        device: DeviceId,
        renewed: DeviceCertificate,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let table = Arc::clone(self.table());
        self.database.writer.submit(
            Origin::Device,
            0,
            move |connection| renew(connection, device, &renewed),
            move |result| done(result.map(|change| table.certificates_changed(device, &change))),
        );
    }

    /// Notes a certificate of the device that this server has issued and does not know. It is known from now
    /// on, and stored behind it, unless the device's record is taken over at this moment. `done` is told the
    /// number of the one that was in use; 0: none was.
    pub fn admit_certificate(
        &self,
        device: DeviceId,
        admitted: DeviceCertificate,
        done: impl FnOnce(u32) + Send + 'static,
    ) {
        self.table().note_certificate(device, &admitted.hash);
        if admitted.counter < self.table().certificate_floor(device) {
            return self.table().forget_certificate(&admitted.hash);
        }
        let table = Arc::clone(self.table());
        self.database.writer.submit(
            Origin::Device,
            0,
            move |connection| admit(connection, device, &admitted),
            move |result| match result {
                Ok((change, in_use)) => {
                    table.certificates_changed(device, &change);
                    done(in_use);
                }
                // It is let in by the same rule the next time.
                Err(error) => log::warn!("device {device}: its certificate was not stored: {error}"),
            },
        );
    }

    /// The device has shown this certificate and has proved that it holds the key. When it is the newest of
    /// several, the others are forgotten; `done` is told the number of the newest then. Costs next to nothing
    /// for a device that has one.
    pub fn certificate_shown(
        &self,
        device: DeviceId,
        hash: CertificateHash,
        done: impl FnOnce(u32) + Send + 'static,
    ) {
        if !self.table().several.is_newest(device, &hash) {
            return;
        }
        self.table().with(device, |record| record.set_to_renew(false));
        let table = Arc::clone(self.table());
        self.database.writer.submit(
            Origin::Device,
            0,
            move |connection| prove(connection, device, hash),
            move |result| match result {
                Ok(change) => {
                    let newest = change.held.first().map(|held| held.counter);
                    let has_changed = !change.gone.is_empty();
                    table.certificates_changed(device, &change);
                    if let Some(newest) = newest.filter(|_| has_changed) {
                        done(newest);
                    }
                }
                // It is tried again with the next handshake.
                Err(error) => log::warn!("device {device}: its old certificate was not forgotten: {error}"),
            },
        );
    }
}

/// The certificates of a device, by their numbers.
pub(super) fn of(connection: &Connection, number: i64) -> Result<Vec<DeviceCertificate>, StoreError> {
    let sql = "SELECT hash, counter, key_type, issued_at, expires_at
        FROM certificates WHERE device = ?1 ORDER BY counter, hash";
    connection.all(sql, [number], |row| {
        let dates: (Option<WallTime>, Option<WallTime>) = (row.get(3)?, row.get(4)?);
        Ok(DeviceCertificate {
            hash: row.get(0)?,
            counter: row.get(1)?,
            // A kind that a newer muster knows.
            key_type: row.get::<_, String>(2)?.parse().unwrap_or_default(),
            life: life_of(dates),
        })
    })
}

/// The dates of a certificate, from two columns.
pub(super) fn life_of((issued_at, expires_at): (Option<WallTime>, Option<WallTime>)) -> Option<Life> {
    Some(Life { issued_at: issued_at?, expires_at: expires_at? })
}

/// Enters a certificate of the device.
pub(super) fn insert(
    connection: &Connection,
    number: i64,
    certificate: &DeviceCertificate,
) -> Result<usize, StoreError> {
    let sql = "INSERT INTO certificates (hash, device, counter, key_type, issued_at, expires_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
    let DeviceCertificate { hash, counter, key_type, life } = certificate;
    let (issued_at, expires_at) = (life.map(|life| life.issued_at), life.map(|life| life.expires_at));
    connection.run(sql, params![hash, number, counter, key_type.name(), issued_at, expires_at])
}

fn delete(connection: &Connection, gone: &[CertificateHash]) -> Result<(), StoreError> {
    gone.iter()
        .try_for_each(|hash| connection.run("DELETE FROM certificates WHERE hash = ?1", [hash]).map(drop))
}

/// Deletes those that are gone; what is left.
fn change(connection: &Connection, number: i64, gone: Vec<CertificateHash>) -> Result<Change, StoreError> {
    delete(connection, &gone)?;
    let held = of(connection, number)?;
    let held = held.iter().map(|one| Held { counter: one.counter, hash: one.hash }).collect();
    Ok(Change { held, gone, floor: 0 })
}

/// Enters a renewed certificate. One in use stays, and of too many renewed ones that were never shown the
/// oldest goes.
fn renew(
    connection: &Connection,
    device: DeviceId,
    renewed: &DeviceCertificate,
) -> Result<Change, StoreError> {
    let number = number_of(connection, device)?;
    let held = of(connection, number)?;
    if held.last().is_some_and(|newest| newest.counter >= renewed.counter) {
        // Another link of the device was quicker.
        return Err(StoreError::IdTaken);
    }
    insert(connection, number, renewed)?;
    let surplus = (held.len() + 1).saturating_sub(CERTIFICATES_PER_DEVICE_MAX);
    change(connection, number, held.iter().skip(1).take(surplus).map(|unproved| unproved.hash).collect())
}

/// Enters a certificate that was not known and that the device has shown. As the newest it takes the place of
/// the others; otherwise of too many the oldest goes. When its number says that the record was taken over
/// since the copy that this server was restored from, what died with that dies again, and what is known of
/// the former machine goes. Returns the number of the one that was in use, too: of a renewed one beside it
/// nothing is known.
fn admit(
    connection: &Connection,
    device: DeviceId,
    admitted: &DeviceCertificate,
) -> Result<(Change, u32), StoreError> {
    let number = number_of(connection, device)?;
    let sql = "SELECT certificate_floor FROM devices WHERE number = ?1";
    let floor: u32 = connection.one(sql, [number], |row| row.get(0))?;
    if admitted.counter < floor {
        // The device's record was taken over since it was noted.
        return Ok((change(connection, number, vec![admitted.hash])?, 0));
    }
    let in_use = of(connection, number)?.first().map_or(0, |first| first.counter);
    let known = rows::highest_counter(connection, number)?;
    insert(connection, number, admitted)?;
    let held = of(connection, number)?;
    let surplus = match admitted.counter > known {
        true => held.len(),
        false => held.len().saturating_sub(CERTIFICATES_PER_DEVICE_MAX),
    };
    let others = held.iter().map(|one| one.hash).filter(|hash| *hash != admitted.hash);
    let changed = change(connection, number, others.take(surplus).collect())?;
    let lowest = lowest_beside(admitted.counter);
    if lowest <= known {
        return Ok((changed, in_use));
    }
    membership::forget_former(connection, number, lowest)?;
    Ok((Change { floor: lowest, ..changed }, in_use))
}

/// Forgets the others.
fn prove(connection: &Connection, device: DeviceId, shown: CertificateHash) -> Result<Change, StoreError> {
    let number = number_of(connection, device)?;
    let held = of(connection, number)?;
    let newest = held.last().map(|newest| newest.hash);
    // A newer one may have been issued since.
    let gone = held.iter().map(|one| one.hash).filter(|hash| newest == Some(shown) && *hash != shown);
    change(connection, number, gone.collect())
}

/// Fills the table with what few devices have.
pub(super) fn load(connection: &Connection, table: &DeviceTable) -> Result<(), StoreError> {
    let sql = "SELECT id FROM devices WHERE removed_at IS NOT NULL";
    connection.each(sql, [], |row| {
        table.note_floor(row.get(0)?, NONE_ALIVE);
        Ok(())
    })?;
    let sql = "SELECT d.id, d.number FROM devices d JOIN certificates c ON c.device = d.number
        WHERE d.removed_at IS NULL GROUP BY d.number HAVING count(*) > 1";
    let several: Vec<(DeviceId, i64)> = connection.all(sql, [], |row| row.try_into())?;
    for (device, number) in several {
        let held = of(connection, number)?;
        let held = held.iter().map(|one| Held { counter: one.counter, hash: one.hash }).collect();
        table.several.set(device, held);
    }
    Ok(())
}
