//! The device table: one device state for each device, in memory, and which certificate is whose.
//!
//! Sharded, so that reactors do not meet: a shard's lock is held for one record's work, or for a walk over
//! one shard.
//!
//! Two rules for those who use it: an event is appended to the journal and noted in its record under one
//! [`DeviceTable::with`], so that what [`DeviceTable::unrecorded_in`] sees is never behind a durable position
//! that was read before; and no lock is taken inside another.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::certificates::{NONE_ALIVE, Several};
use super::indexed::{Indexed, Keyed};
use super::membership::Former;
use crate::fleet::presence::Signs;
use crate::machine::device_state::{CertificateStatus, DeviceState};
use crate::machine::replay::DeviceRecords;
use crate::machine::slab::place_bytes;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::WallTime;

/// Shards of the table: with a hundred thousand devices a walk holds one lock for 400 records.
pub const SHARDS: usize = 256;

/// Most devices that are remembered as changed, in devices. Devices beyond it are judged with all others,
/// within a minute.
const MARKED_MAX: usize = 16_384;

/// Signs by which a device's presence is judged.
#[must_use]
pub fn signs_of(record: &DeviceState, server_started: WallTime) -> Signs {
    Signs {
        is_waiting: record.is_waiting(),
        is_connected: record.link.is_some(),
        is_persistent: record.keep_connected,
        departure: record.departure,
        last_seen: record.last_seen,
        last_sync: record.last_sync,
        due_seconds: record.due_seconds(),
        interval_seconds: record.interval_seconds(),
        server_started,
    }
}

/// Bytes that a device's record takes of the table, without the index.
pub const RECORD_BYTES: usize = place_bytes::<DeviceState>();

/// Bytes that a certificate's owner takes there, without the index.
pub const CERTIFICATE_BYTES: usize = place_bytes::<Owned>();

impl Keyed for DeviceState {
    type Key = u64;

    fn key(&self) -> u64 {
        self.device.0
    }

    fn spread(key: u64) -> u64 {
        key
    }
}

// A place that is free takes no byte more than one that is not.
const _: () = assert!(RECORD_BYTES == size_of::<DeviceState>() && CERTIFICATE_BYTES == size_of::<Owned>());

/// Whose a certificate is. It is known by the first half of its SHA-256, less a bit: 127 bits are never met
/// by chance, and no device chooses what its certificate hashes to (the server's signature is in it).
struct Owned {
    prefix: Prefix,
    device: DeviceId,
}

/// The second half is never zero, which says of a place that it is free.
type Prefix = (u64, NonZeroU64);

impl Keyed for Owned {
    type Key = Prefix;

    fn key(&self) -> Prefix {
        self.prefix
    }

    fn spread((first, _): Prefix) -> u64 {
        first
    }
}

/// The table. Shared behind an [`Arc`](std::sync::Arc).
pub struct DeviceTable {
    records: Vec<Mutex<Indexed<DeviceState>>>,
    certificates: Vec<Mutex<Indexed<Owned>>>,
    pub(super) several: Several,
    devices: AtomicUsize,
    /// Of these something that their status hangs on has changed.
    marked: Mutex<BTreeSet<DeviceId>>,
    /// Those whose record says that they are kept connected.
    persistent: AtomicU64,
    /// Of devices whose records were taken over: certificates with a lower counter are dead.
    lowest_counters: Mutex<BTreeMap<DeviceId, u32>>,
    /// Names what devices are to trust; 0: nothing does.
    trust_label: AtomicU64,
    /// Since when they are to know a next pin, in milliseconds; 0: there is none.
    pin_prepared_at: AtomicU64,
}

/// One device's record, and its shard's lock. Those that are kept connected are counted whatever is done to
/// it.
pub struct RecordGuard<'a> {
    record: MappedMutexGuard<'a, DeviceState>,
    was_persistent: bool,
    table: &'a DeviceTable,
}

impl Deref for RecordGuard<'_> {
    type Target = DeviceState;

    fn deref(&self) -> &DeviceState {
        &self.record
    }
}

impl DerefMut for RecordGuard<'_> {
    fn deref_mut(&mut self) -> &mut DeviceState {
        &mut self.record
    }
}

impl Drop for RecordGuard<'_> {
    fn drop(&mut self) {
        self.table.count_persistent(self.was_persistent, self.record.keep_connected);
    }
}

fn prefix(certificate: &CertificateHash) -> Prefix {
    let half =
        |at: usize| certificate.0[at..at + 8].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    (half(0), NonZeroU64::MIN | half(8))
}

impl Default for DeviceTable {
    fn default() -> Self {
        Self {
            records: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            certificates: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            several: Several::default(),
            devices: AtomicUsize::new(0),
            marked: Mutex::default(),
            persistent: AtomicU64::new(0),
            lowest_counters: Mutex::default(),
            trust_label: AtomicU64::new(0),
            pin_prepared_at: AtomicU64::new(0),
        }
    }
}

impl DeviceTable {
    /// The index of a shard uses the lowest and the highest bits, so shards are told by bits between.
    pub(in crate::store) fn shard_of(key: u64) -> usize {
        (key >> 32) as usize % SHARDS
    }

    fn records_of(&self, device: DeviceId) -> &Mutex<Indexed<DeviceState>> {
        &self.records[Self::shard_of(device.0)]
    }

    fn certificates_of(&self, (first, _): Prefix) -> &Mutex<Indexed<Owned>> {
        &self.certificates[Self::shard_of(first)]
    }

    /// Whose certificate this is.
    #[must_use]
    pub fn by_certificate(&self, certificate: &CertificateHash) -> CertificateStatus {
        let prefix = prefix(certificate);
        let device = self.certificates_of(prefix).lock().get(prefix).map(|owned| owned.device);
        match device {
            Some(device) => match self.records_of(device).lock().get(device.0) {
                Some(record) if record.is_waiting() => CertificateStatus::Waiting(device),
                Some(_) => CertificateStatus::Known(device),
                None => CertificateStatus::Removed(device),
            },
            None => CertificateStatus::Unknown,
        }
    }

    /// Certificates of the device with a lower counter are dead: its record was taken over. 0: it was not.
    #[must_use]
    pub fn certificate_floor(&self, device: DeviceId) -> u32 {
        self.lowest_counters.lock().get(&device).copied().unwrap_or_default()
    }

    /// Notes that; 0 says nothing.
    pub(super) fn note_floor(&self, device: DeviceId, floor: u32) {
        if floor > 0 {
            self.lowest_counters.lock().insert(device, floor);
        }
    }

    /// Nothing of the device's certificates is known any more.
    pub(super) fn forget_floor(&self, device: DeviceId) {
        self.lowest_counters.lock().remove(&device);
    }

    /// Another machine is the device from now on: the certificates that it had are nobody's any more, and
    /// this one is its own.
    pub(super) fn replace_certificates(
        &self,
        device: DeviceId,
        former: &Former,
        certificate: &CertificateHash,
    ) {
        // In this order, so that one that is noted meanwhile is either found here or finds itself dead.
        self.note_floor(device, former.floor);
        for shard in &self.certificates {
            let (mut shard, mut dead) = (shard.lock(), Vec::new());
            shard.for_each(|owned| dead.extend((owned.device == device).then_some(owned.prefix)));
            for prefix in dead {
                shard.remove(prefix);
            }
        }
        self.several.set(device, Vec::new());
        self.note_certificate(device, certificate);
        self.mark(device);
    }

    /// Works on one device's record under its shard's lock; `None` when there is no such device (any more).
    /// Short work only.
    pub fn with<R>(&self, device: DeviceId, work: impl FnOnce(&mut DeviceState) -> R) -> Option<R> {
        self.lock(device).map(|mut record| work(&mut record))
    }

    /// One device's record, with its shard's lock; `None` when there is no such device (any more). For short
    /// work only.
    pub fn lock(&self, device: DeviceId) -> Option<RecordGuard<'_>> {
        let shard = self.records_of(device).lock();
        let record = MutexGuard::try_map(shard, |records| records.get_mut(device.0)).ok()?;
        Some(RecordGuard { was_persistent: record.keep_connected, record, table: self })
    }

    fn count_persistent(&self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.persistent.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.persistent.fetch_sub(1, Ordering::Relaxed),
            (false, false) | (true, true) => return,
        };
    }

    /// A copy of one device's record.
    #[must_use]
    pub fn get(&self, device: DeviceId) -> Option<DeviceState> {
        self.with(device, |record| *record)
    }

    /// Enters a device, the record before the certificate, so that its certificate is never taken for a
    /// removed device's.
    pub fn insert(&self, record: DeviceState, certificate: &CertificateHash) {
        {
            let mut records = self.records_of(record.device).lock();
            let before = records.insert(record);
            if before.is_none() {
                self.devices.fetch_add(1, Ordering::Relaxed);
            }
            self.count_persistent(before.is_some_and(|before| before.keep_connected), record.keep_connected);
        }
        self.note_certificate(record.device, certificate);
    }

    /// Notes whose certificate this is, without a record: a removed device's.
    pub(super) fn note_certificate(&self, device: DeviceId, certificate: &CertificateHash) {
        let prefix = prefix(certificate);
        self.certificates_of(prefix).lock().insert(Owned { prefix, device });
    }

    /// A certificate is nobody's any more.
    pub(super) fn forget_certificate(&self, certificate: &CertificateHash) {
        let prefix = prefix(certificate);
        self.certificates_of(prefix).lock().remove(prefix);
    }

    /// Takes a device out; its certificate stays known as that of a removed device. The record says which
    /// link it had.
    pub fn remove(&self, device: DeviceId) -> Option<DeviceState> {
        self.lowest_counters.lock().remove(&device);
        let mut records = self.records_of(device).lock();
        let record = records.remove(device.0)?;
        self.devices.fetch_sub(1, Ordering::Relaxed);
        self.count_persistent(record.keep_connected, false);
        self.note_floor(device, NONE_ALIVE);
        Some(record)
    }

    /// Something that the device's status hangs on has changed. Not from within [`DeviceTable::with`].
    pub fn mark(&self, device: DeviceId) {
        let mut marked = self.marked.lock();
        if marked.len() < MARKED_MAX {
            marked.insert(device);
        }
    }

    /// Takes out those that are marked, at most `most`.
    pub(super) fn take_marked(&self, most: usize) -> Vec<DeviceId> {
        let mut marked = self.marked.lock();
        std::iter::from_fn(|| marked.pop_first()).take(most).collect()
    }

    /// Names what devices are to trust; 0: nothing does.
    #[must_use]
    pub fn trust_label(&self) -> u64 {
        self.trust_label.load(Ordering::Relaxed)
    }

    /// Since when devices are to know a next pin; `None`: there is none.
    #[must_use]
    pub fn pin_prepared_at(&self) -> Option<WallTime> {
        Some(WallTime(self.pin_prepared_at.load(Ordering::Relaxed))).filter(|at| *at > WallTime(0))
    }

    /// Devices have to trust something else: all that they named before does not count any more.
    pub(super) fn set_trust(&self, label: u64, pin_prepared_at: Option<WallTime>) {
        self.pin_prepared_at.store(pin_prepared_at.map_or(0, |at| at.0), Ordering::Relaxed);
        // First: those who note that a device has it look at the label with the device's lock.
        if self.trust_label.swap(label, Ordering::Relaxed) != label {
            (0..SHARDS).for_each(|shard| self.for_each_in(shard, |record| record.set_trust(false)));
        }
    }

    /// The device has stored what has this label. Returns whether that is what it is to trust now.
    pub(super) fn note_trust(&self, device: DeviceId, label: u64) -> bool {
        let note = |record: &mut DeviceState| {
            let is_current = self.trust_label() == label;
            record.set_trust(record.has_trust() || is_current);
            is_current
        };
        self.with(device, note).unwrap_or(false)
    }

    /// Number of devices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.load(Ordering::Relaxed)
    }

    /// Number of devices that are kept connected.
    #[must_use]
    pub fn persistent(&self) -> u64 {
        self.persistent.load(Ordering::Relaxed)
    }

    /// Walks over one slice of the table: shard `shard`, below [`SHARDS`]. No other record may be asked for
    /// meanwhile.
    pub fn for_each_in(&self, shard: usize, mut work: impl FnMut(&mut DeviceState)) {
        if let Some(records) = self.records.get(shard) {
            records.lock().for_each(|record| {
                let was_persistent = record.keep_connected;
                work(record);
                self.count_persistent(was_persistent, record.keep_connected);
            });
        }
    }

    /// Records of one slice that have to be written back: with events beyond the journal position `recorded`,
    /// seen at or after `since`, or with other news. Their news counts as told.
    #[must_use]
    pub fn unrecorded_in(&self, shard: usize, recorded: u64, since: WallTime) -> Vec<DeviceState> {
        let mut found = Vec::new();
        self.for_each_in(shard, |record| {
            let was_seen = record.last_seen >= since && record.last_seen.0 > 0;
            let has_news = std::mem::take(&mut record.has_news);
            if record.last_position() > recorded || was_seen || has_news {
                found.push(*record);
            }
        });
        found
    }
}

impl DeviceRecords for &DeviceTable {
    fn with_record(&mut self, device: DeviceId, work: impl FnOnce(&mut DeviceState)) {
        self.with(device, work);
    }

    fn for_each_record(&mut self, mut work: impl FnMut(&mut DeviceState)) {
        (0..SHARDS).for_each(|shard| self.for_each_in(shard, &mut work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_a_devices_a_removed_ones_or_nobodys() {
        let table = DeviceTable::default();
        let (device, certificate) = (DeviceId(5 << 40), CertificateHash::of(b"certificate"));
        assert_eq!(table.by_certificate(&certificate), CertificateStatus::Unknown);
        table.insert(DeviceState::new(device, 900), &certificate);
        assert_eq!((table.by_certificate(&certificate), table.len()), (CertificateStatus::Known(device), 1));
        assert_eq!(table.remove(device).unwrap().device, device);
        assert_eq!(
            (table.by_certificate(&certificate), table.len()),
            (CertificateStatus::Removed(device), 0)
        );
        assert_eq!(table.with(device, |_| ()), None);
    }

    #[test]
    fn persistent_links_are_counted_whatever_is_done_to_them() {
        let table = DeviceTable::default();
        let certificate = CertificateHash::of(b"certificate");
        let record = |id: u64, keep_connected| {
            let mut record = DeviceState::new(DeviceId(id << 32), 900);
            record.keep_connected = keep_connected;
            record
        };
        for (record, persistent) in
            [(record(1, true), 1), (record(2, false), 1), (record(1, true), 1), (record(1, false), 0)]
        {
            table.insert(record, &certificate);
            assert_eq!(table.persistent(), persistent);
        }
        table.with(DeviceId(2 << 32), |record| record.keep_connected = true);
        assert_eq!(table.persistent(), 1);
        (0..SHARDS).for_each(|shard| table.for_each_in(shard, |record| record.keep_connected = true));
        assert_eq!(table.persistent(), 2);
        for _ in 0..2 {
            table.remove(DeviceId(1 << 32));
            assert_eq!(table.persistent(), 1);
        }
    }

    #[test]
    fn what_has_news_is_found_slice_by_slice() {
        let table = DeviceTable::default();
        for id in 0..1_000_u64 {
            let mut record = DeviceState::new(DeviceId(id << 32), 900);
            record.set_last_position(if id % 10 == 0 { 640 } else { 64 });
            table.insert(record, &CertificateHash::of(&id.to_be_bytes()));
        }
        let found: usize =
            (0..SHARDS).map(|shard| table.unrecorded_in(shard, 64, WallTime(u64::MAX)).len()).sum();
        assert_eq!(found, 100);
    }
}
