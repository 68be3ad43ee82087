//! The highest sequence number of each device, across restarts.
//!
//! In memory it stands in the device's record, which is what makes an event stored once. At times the records are written back to
//! the store with a journal position; at start the table is as it was written, and the journal is replayed from that position.
//! So a heartbeat or an event never writes a row, and a start does not read the whole journal.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::machine::hot::HotRecord;
use crate::machine::record;
use crate::store::table::{DeviceTable, SHARDS};
use crate::store::{Store, StoreError};
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::time::WallTime;

/// Tells the table of one record of the journal, found at start. `end` is the position behind it. By the rule for events that
/// arrive; what is there already, or belongs to a device that was removed, changes nothing.
pub fn replay(table: &DeviceTable, device: u64, sequence: u64, payload: &[u8], end: u64) {
    let Some((spool_epoch, event)) = record::decode(payload) else { return };
    if spool_epoch == Epoch(0) {
        // An event of the server's own about the device: it stands in no history of the device's.
        return;
    }
    let crc = crc32c::crc32c(event);
    table.with(DeviceId(device), |hot| hot.note_found(spool_epoch, sequence, crc, end));
}

/// Lets go of what the store says of devices whose last event is not in the journal, as `is_gone` says of the
/// position behind it: a part of the journal is lost, or was restored from an older copy than the store.
/// Answers which devices: what the whole journal has of them is to be [replayed](replay).
pub fn distrust(table: &DeviceTable, is_gone: impl Fn(u64) -> bool) -> HashSet<DeviceId> {
    let mut gone = HashSet::new();
    for shard in 0..SHARDS {
        table.for_each_in(shard, |record| {
            if is_gone(record.last_position) {
                record.distrust_events();
                gone.insert(record.device);
            }
        });
    }
    gone
}

/// How far the journal was durable when something that rests on it was written to the store.
///
/// # Errors
/// When the store can't be read.
pub fn remembered(store: &Store) -> Result<u64, StoreError> {
    let mut end = store.journal_position()?;
    for shard in 0..SHARDS {
        store.table().for_each_in(shard, |record| end = end.max(record.last_position));
    }
    Ok(end)
}

/// A round of writing back that has begun: what is to be written, and what must be durable before.
pub struct Round {
    records: Vec<HotRecord>,
    /// Everything below this position of the journal is in the store then; `None`: as much as before.
    recorded: Option<u64>,
    /// The journal must be durable up to here before [`WriteBack::write`]: a sequence number must not outlive its event.
    pub needs_durable: u64,
}

impl Round {
    fn new(records: Vec<HotRecord>, recorded: Option<u64>) -> Self {
        let needs_durable = records.iter().map(|record| record.last_position).max().unwrap_or(0);
        Self { records, recorded, needs_durable }
    }
}

/// What of the table is in the store.
pub struct WriteBack {
    recorded: Arc<Mutex<u64>>,
    last_round: WallTime,
}

impl WriteBack {
    /// After a start: what is in the table was read from the store, up to `recorded`.
    #[must_use]
    pub fn new(recorded: u64, now: WallTime) -> Self {
        Self { recorded: Arc::new(Mutex::new(recorded)), last_round: now }
    }

    /// With the next round the times of all devices are written: the clock has changed, and they with it.
    pub fn write_all(&mut self) {
        self.last_round = WallTime(0);
    }

    /// Begins a round: collects, slice by slice, what is new. `durable` is the journal's durable position now, read before the
    /// table is: everything below it is in the table by then.
    pub fn begin(&mut self, table: &DeviceTable, durable: u64, now: WallTime) -> Round {
        let recorded = *self.recorded.lock();
        let mut records = Vec::new();
        for shard in 0..SHARDS {
            records.extend(table.unrecorded_in(shard, recorded, self.last_round));
        }
        self.last_round = now;
        Round::new(records, Some(durable))
    }

    /// A round for these devices alone, which have news that are worth more than a time.
    #[must_use]
    pub fn begin_news(table: &DeviceTable, devices: impl IntoIterator<Item = DeviceId>) -> Round {
        let take = |device| {
            table.with(device, |record| {
                record.has_news = false;
                *record
            })
        };
        Round::new(devices.into_iter().filter_map(take).collect(), None)
    }

    /// Ends a round, once the journal is durable far enough. When the store refuses, the next round brings the same again.
    pub fn write(&self, store: &Store, round: Round) {
        let is_known = round.recorded.is_none_or(|position| position == *self.recorded.lock());
        if round.records.is_empty() && is_known {
            return;
        }
        let (recorded, position) = (self.recorded.clone(), round.recorded);
        store.record_sequences(round.records, position, move |result: Result<(), StoreError>| match result {
            Ok(()) => {
                if let Some(position) = position {
                    *recorded.lock() = position;
                }
            }
            Err(error) => {
                log::warn!("sequence numbers were not written back, the next round will: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::hot::EventVerdict;
    use crate::wire::id::CertificateHash;

    fn payload(epoch: u64, event: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        record::encode(Epoch(epoch), event, &mut payload);
        payload
    }

    fn table() -> DeviceTable {
        let table = DeviceTable::new();
        table.insert(HotRecord::new(DeviceId(7), 900), &CertificateHash([1; 32]));
        table
    }

    #[test]
    fn a_replayed_journal_leads_to_the_record_that_was_lost() {
        let table = table();
        replay(&table, 7, 1, &payload(3, b"one"), 100);
        replay(&table, 7, 4, &payload(3, b"four"), 200);
        replay(&table, 7, 4, &payload(3, b"four"), 200);
        replay(&table, 8, 9, &payload(3, b"of a device that is gone"), 300);
        replay(&table, 7, 5, b"short", 400);
        let record = table.get(DeviceId(7)).unwrap();
        assert_eq!((record.spool_epoch, record.last_sequence, record.last_position), (Epoch(3), 4, 200));
        assert_eq!(record.judge(Epoch(3), 4, crc32c::crc32c(b"four")), EventVerdict::Repeated);
    }

    #[test]
    fn the_servers_own_events_never_change_a_record() {
        let table = table();
        for sequence in [0, 1, u64::MAX] {
            let before = table.get(DeviceId(7));
            replay(&table, 7, sequence, &payload(0, b"presence"), 100);
            assert_eq!(table.get(DeviceId(7)), before);
            replay(&table, 7, 4, &payload(3, b"four"), 200);
        }
    }

    #[test]
    fn a_last_event_that_the_journal_does_not_have_is_known_no_more() {
        let table = table();
        replay(&table, 7, 4, &payload(3, b"four"), 200);
        assert_eq!(distrust(&table, |position| position > 200).len(), 0);
        assert_eq!(distrust(&table, |position| position > 150).len(), 1);
        replay(&table, 7, 2, &payload(3, b"two"), 100);
        let record = table.get(DeviceId(7)).unwrap();
        assert_eq!((record.known_through(Epoch(3)), record.last_position), (2, 100));
        assert_eq!(record.judge(Epoch(3), 4, crc32c::crc32c(b"four")), EventVerdict::Append);
        assert!(record.has_news, "the store has to know it before its positions are used again");
    }

    #[test]
    fn a_round_waits_for_the_disk_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut write_back = WriteBack::new(0, WallTime(1));
        let table = table();
        replay(&table, 7, 4, &payload(3, b"four"), 200);
        let round = write_back.begin(&table, 150, WallTime(2));
        assert_eq!(round.needs_durable, 200, "the event behind the sequence number must be durable first");
        write_back.write(&store, round);
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        assert_eq!((store.journal_position().unwrap(), remembered(&store).unwrap()), (150, 150));
    }

    #[test]
    fn news_alone_are_written_and_leave_the_position_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let write_back = WriteBack::new(40, WallTime(1));
        let table = table();
        table.with(DeviceId(7), |record| record.has_news = true);
        let round = WriteBack::begin_news(&table, [DeviceId(7), DeviceId(8)]);
        assert_eq!(
            (round.records.len(), round.recorded),
            (1, None),
            "of a device that is gone there is no news"
        );
        assert!(!table.get(DeviceId(7)).unwrap().has_news);
        write_back.write(&store, round);
        // A writer that waits for itself would never end.
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(store);
            ended.send(()).unwrap();
        });
        end.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert_eq!(*write_back.recorded.lock(), 40);
    }
}
