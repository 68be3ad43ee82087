//! A start's walk through the journal: up to where the events of each device are known.
//!
//! First every event behind what the store has goes to [`note`]; then, when a part of the journal is lost,
//! [`distrust`] goes through all records and tells of which devices the whole journal goes to [`note`] again.

use std::collections::{BTreeMap, HashSet};

use super::device_state::DeviceState;
use super::record;
use crate::wire::id::{DeviceId, Epoch};

/// The records of all devices, to be brought up to date.
pub trait DeviceRecords {
    /// Works on the record of one device, if there is one.
    fn with_record(&mut self, device: DeviceId, work: impl FnOnce(&mut DeviceState));
    /// Works on every record.
    fn for_each_record(&mut self, work: impl FnMut(&mut DeviceState));
}

impl DeviceRecords for BTreeMap<DeviceId, DeviceState> {
    fn with_record(&mut self, device: DeviceId, work: impl FnOnce(&mut DeviceState)) {
        self.get_mut(&device).map(work);
    }

    fn for_each_record(&mut self, work: impl FnMut(&mut DeviceState)) {
        self.values_mut().for_each(work);
    }
}

/// A device's event, as a record of the journal holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundEvent {
    /// The device it is of.
    pub device: DeviceId,
    /// The history that its number counts in.
    pub spool_epoch: Epoch,
    /// Its number.
    pub sequence: u64,
    /// CRC-32C of its bytes.
    pub crc: u32,
    /// The journal's position behind it.
    pub end: u64,
}

impl FoundEvent {
    /// Reads a record's payload. `None` for an event of the server's own about the device, which stands in no
    /// history of the device's, and for what is no event at all.
    #[must_use]
    pub fn decode(device: u64, sequence: u64, payload: &[u8], end: u64) -> Option<Self> {
        let (spool_epoch, event) = record::decode(payload)?;
        let crc = crc32c::crc32c(event);
        let found = Self { device: DeviceId(device), spool_epoch, sequence, crc, end };
        (spool_epoch != Epoch(0)).then_some(found)
    }
}

/// Notes an event that is in the journal, by the rule for events that arrive. One that is known already, or
/// is of a device that was removed, changes nothing.
pub fn note(records: &mut impl DeviceRecords, found: FoundEvent) {
    let FoundEvent { device, spool_epoch, sequence, crc, end } = found;
    records.with_record(device, |record| record.note_found(spool_epoch, sequence, crc, end));
}

/// Lets go of what the store says of devices whose last event is lost, as `is_lost` says of the position
/// behind it: a part of the journal is damaged or gone, or it is an older copy than the store. The answer is
/// which devices; of these everything that the journal still has is [noted](note) next, from its beginning.
pub fn distrust(records: &mut impl DeviceRecords, is_lost: impl Fn(u64) -> bool) -> HashSet<DeviceId> {
    let mut distrusted = HashSet::new();
    records.for_each_record(|record| {
        if is_lost(record.last_position()) {
            record.distrust_events();
            distrusted.insert(record.device);
        }
    });
    distrusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::device_state::EventVerdict;

    const DEVICE: DeviceId = DeviceId(7);

    fn records() -> BTreeMap<DeviceId, DeviceState> {
        BTreeMap::from([(DEVICE, DeviceState::new(DEVICE, 900))])
    }

    fn payload(epoch: u64, event: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        record::encode(Epoch(epoch), event, &mut payload);
        payload
    }

    fn found(sequence: u64, event: &[u8], end: u64) -> FoundEvent {
        FoundEvent::decode(DEVICE.0, sequence, &payload(3, event), end).unwrap()
    }

    #[test]
    fn a_replayed_journal_leads_to_the_record_that_was_lost() {
        let mut records = records();
        note(&mut records, found(1, b"one", 100));
        note(&mut records, found(4, b"four", 200));
        note(&mut records, found(4, b"four", 300));
        note(&mut records, FoundEvent { device: DeviceId(8), ..found(9, b"of one that is gone", 400) });
        let record = records[&DEVICE];
        assert_eq!((record.spool_epoch, record.last_sequence, record.last_position()), (Epoch(3), 4, 200));
        assert_eq!(record.judge(Epoch(3), 4, crc32c::crc32c(b"four")), EventVerdict::Repeated);
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn the_servers_own_events_and_what_is_none_are_no_devices_events() {
        for sequence in [0, 1, u64::MAX] {
            assert_eq!(FoundEvent::decode(7, sequence, &payload(0, b"presence"), 100), None);
        }
        assert_eq!(FoundEvent::decode(7, 5, b"short", 100), None);
    }

    #[test]
    fn a_last_event_that_the_journal_does_not_have_is_known_no_more() {
        let mut records = records();
        note(&mut records, found(4, b"four", 200));
        assert!(distrust(&mut records, |position| position > 200).is_empty());
        assert_eq!(distrust(&mut records, |position| position > 150), HashSet::from([DEVICE]));
        note(&mut records, found(2, b"two", 100));
        let record = records[&DEVICE];
        assert_eq!((record.known_through(Epoch(3)), record.last_position()), (2, 100));
        assert_eq!(record.judge(Epoch(3), 4, crc32c::crc32c(b"four")), EventVerdict::Append);
        assert!(record.has_news, "the store has to know it before its positions are used again");
    }
}
