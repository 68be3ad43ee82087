//! What the server keeps in memory of each device that it knows, and the rule that makes an event stored once.

use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::section::{Section, SectionState};
use crate::wire::time::WallTime;

/// Names a link: which reactor, which slot of its slab, and the generation that tells it from an earlier link there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkRef {
    /// Number of the reactor.
    pub reactor: u8,
    /// Slot of its slab.
    pub slot: u32,
    /// Counts the links that had the slot.
    pub generation: u32,
}

/// One device, as hot as it gets: a sync in which nothing changed and an event need nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HotRecord {
    /// Who it is.
    pub device: DeviceId,
    /// The history in which the sections' revisions count.
    pub agent_epoch: Epoch,
    /// What is stored of each section, by [`Section::index`].
    pub sections: [SectionState; 3],
    /// The history in which the sequence numbers count.
    pub spool_epoch: Epoch,
    /// The highest sequence number that was appended; 0 when there was none.
    pub last_sequence: u64,
    /// The journal position that must be durable before that event may be acknowledged.
    pub last_position: u64,
    /// When the last sync ended; zero when there was none.
    pub last_sync: WallTime,
    /// When anything was last heard; zero when nothing was.
    pub last_seen: WallTime,
    /// CRC-32C of the last appended event's bytes.
    pub last_crc: u32,
    /// How often it syncs, in seconds: the effective value.
    pub interval_seconds: u32,
    /// Its link, when it is connected.
    pub link: Option<LinkRef>,
    /// Whether its link stays after a sync.
    pub keep_connected: bool,
    /// Whether an administrator removed it.
    pub removed: bool,
}

/// Largest hot record, in bytes: a hundred thousand devices in 16 MB.
const HOT_RECORD_BYTES_MAX: usize = 160;
const _: () = assert!(size_of::<HotRecord>() <= HOT_RECORD_BYTES_MAX);

/// What is to be done with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventVerdict {
    /// It is new: append it.
    Append,
    /// It is the last one again: acknowledge it, as soon as it is durable.
    Repeated,
    /// It lies before the last one. Not acknowledged until the last one has come again and proves the same history.
    Before,
    /// It has the last one's number and is another event: the device was rolled back.
    Conflict,
}

impl HotRecord {
    /// A device of which nothing is known but that it exists.
    #[must_use]
    pub fn new(device: DeviceId, interval_seconds: u32) -> Self {
        Self {
            device,
            agent_epoch: Epoch(0),
            sections: [SectionState::default(); 3],
            spool_epoch: Epoch(0),
            last_sequence: 0,
            last_position: 0,
            last_sync: WallTime(0),
            last_seen: WallTime(0),
            last_crc: 0,
            interval_seconds,
            link: None,
            keep_connected: false,
            removed: false,
        }
    }

    /// What is stored of a section.
    #[must_use]
    pub fn section(&self, section: Section) -> SectionState {
        self.sections[section.index()]
    }

    /// The digest that a difference may start from; `None` when nothing is stored.
    #[must_use]
    pub fn base(&self, section: Section) -> Option<Digest> {
        let state = self.section(section);
        (state.revision > 0).then_some(state.digest)
    }

    /// Whether the device's epoch or highest number contradicts what is stored: it was rolled back to an older image.
    ///
    /// Spool epochs rise: a lower one was left for the one that is known here. Were it taken for a new one, its events would be
    /// stored a second time under the same key.
    #[must_use]
    pub fn is_rolled_back(&self, spool_epoch: Epoch, highest: u64) -> bool {
        spool_epoch < self.spool_epoch || (spool_epoch == self.spool_epoch && highest < self.last_sequence)
    }

    /// What is to be done with an event. See the handbook's chapter on delivery.
    #[must_use]
    pub fn judge(&self, spool_epoch: Epoch, sequence: u64, crc: u32) -> EventVerdict {
        if spool_epoch < self.spool_epoch {
            return EventVerdict::Conflict;
        }
        if spool_epoch > self.spool_epoch || sequence > self.last_sequence {
            return EventVerdict::Append;
        }
        match (sequence == self.last_sequence, crc == self.last_crc) {
            (false, _) => EventVerdict::Before,
            (true, true) => EventVerdict::Repeated,
            (true, false) => EventVerdict::Conflict,
        }
    }

    /// An event was appended and is durable once the journal's durable position reaches `position`.
    pub fn note_appended(&mut self, spool_epoch: Epoch, sequence: u64, crc: u32, position: u64) {
        self.spool_epoch = spool_epoch;
        self.last_sequence = sequence;
        self.last_crc = crc;
        self.last_position = position;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> HotRecord {
        let mut record = HotRecord::new(DeviceId(1), 900);
        record.note_appended(Epoch(7), 10, 0xabc, 640);
        record
    }

    #[test]
    fn an_event_is_appended_once() {
        let record = record();
        assert_eq!(record.judge(Epoch(7), 11, 0), EventVerdict::Append);
        assert_eq!(record.judge(Epoch(7), 10, 0xabc), EventVerdict::Repeated);
        assert_eq!(record.judge(Epoch(7), 9, 0xabc), EventVerdict::Before);
        assert_eq!(record.judge(Epoch(8), 1, 0), EventVerdict::Append, "another history counts anew");
    }

    #[test]
    fn a_device_that_was_rolled_back_is_noticed() {
        let record = record();
        assert_eq!(record.judge(Epoch(7), 10, 0xdef), EventVerdict::Conflict);
        assert!(record.is_rolled_back(Epoch(7), 9));
        assert!(!record.is_rolled_back(Epoch(7), 10));
        assert!(!record.is_rolled_back(Epoch(8), 1));
    }

    #[test]
    fn an_epoch_that_was_left_is_not_taken_for_a_new_one() {
        let record = record();
        assert!(record.is_rolled_back(Epoch(6), 100));
        assert_eq!(record.judge(Epoch(6), 100, 0), EventVerdict::Conflict);
    }
}
