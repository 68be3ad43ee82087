//! The highest sequence number of each device, across restarts.
//!
//! In memory it stands in the device's record, which is what makes an event stored once. At times the records
//! are written back to the store with a journal position; at start the table is as it was written, and the
//! journal is replayed from that position. So a heartbeat or an event never writes a row, and a start does
//! not read the whole journal.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::machine::device_state::DeviceState;
use crate::store::table::{DeviceTable, SHARDS};
use crate::store::{Store, StoreError};
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// The durable position of the journal when something that rests on it was written to the store.
///
/// # Errors
/// When the store can't be read.
pub fn remembered(store: &Store) -> Result<u64, StoreError> {
    let mut end = store.devices().journal_position()?;
    for shard in 0..SHARDS {
        store.table().for_each_in(shard, |record| end = end.max(record.last_position()));
    }
    Ok(end)
}

/// A round of writing back that has begun: the rows to write, and the position that must be durable before.
pub struct Round {
    records: Vec<DeviceState>,
    /// Everything below this position of the journal is in the store then; `None`: as much as before.
    recorded: Option<u64>,
    /// The journal must be durable up to here before [`WriteBack::write`]: a sequence number must not outlive
    /// its event.
    pub needs_durable: u64,
}

impl Round {
    fn new(records: Vec<DeviceState>, recorded: Option<u64>) -> Self {
        let needs_durable = records.iter().map(DeviceState::last_position).max().unwrap_or(0);
        Self { records, recorded, needs_durable }
    }
}

/// The part of the table that is in the store.
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

    /// Begins a round: collects, slice by slice, what is new. `durable` is the journal's durable position
    /// now, read before the table is: everything below it is in the table by then.
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

    /// Ends a round, once the journal is durable far enough. When the store refuses, the next round brings
    /// the same again.
    pub fn write(&self, store: &Store, round: Round) {
        let is_known = round.recorded.is_none_or(|position| position == *self.recorded.lock());
        if round.records.is_empty() && is_known {
            return;
        }
        let (recorded, position) = (self.recorded.clone(), round.recorded);
        store.devices().record_sequences(round.records, position, move |result: Result<(), StoreError>| {
            match result {
                Ok(()) => {
                    if let Some(position) = position {
                        *recorded.lock() = position;
                    }
                }
                Err(error) => {
                    log::warn!("sequence numbers were not written back, the next round will: {error}");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::{CertificateHash, Epoch};

    fn table() -> DeviceTable {
        let table = DeviceTable::default();
        table.insert(DeviceState::new(DeviceId(7), 900), &CertificateHash([1; 32]));
        table
    }

    #[test]
    fn a_round_waits_for_the_disk_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut write_back = WriteBack::new(0, WallTime(1));
        let table = table();
        table.with(DeviceId(7), |record| record.note_found(Epoch(3), 4, 0xabc, 200));
        let round = write_back.begin(&table, 150, WallTime(2));
        assert_eq!(round.needs_durable, 200, "the event behind the sequence number must be durable first");
        write_back.write(&store, round);
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        assert_eq!((store.devices().journal_position().unwrap(), remembered(&store).unwrap()), (150, 150));
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
