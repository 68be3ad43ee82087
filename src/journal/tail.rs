//! The append cursor: where the next record goes, and what waits for the flusher. Guarded by one mutex, under
//! which bytes are copied and summed, and nothing else.
#![forbid(unsafe_code)]

use super::layout::{
    IndexBuilder, IndexEntry, PAYLOAD_BYTES_MAX, Record, SegmentHeader, Summary, encode_record_header,
    padding, record_bytes,
};
use super::recovery::OpenSegment;
use super::region::Producer;

/// Why a record was not taken. Nothing of it was kept, so it must not be acknowledged; only the first kind
/// passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room now; try again when there is.
    #[error("no room in the journal: {0}")]
    NoRoom(NoRoom),
    /// The record can never be taken.
    #[error("record of {bytes} bytes, the journal takes at most {max}")]
    TooLarge {
        /// Length of the payload.
        bytes: usize,
        /// Longest payload that is taken, in bytes.
        max: usize,
    },
    /// A write failed, and with it the journal: the process must end and read again what is on the disk.
    #[error("the journal has failed: the process must restart")]
    Failed,
}

/// The lack of room, and hence the thing that has to happen first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    /// In memory: the flusher has not yet written what waits. Passes with the next durable position.
    #[error("the disk is slower than what arrives")]
    FlushBehind,
    /// On disk: the next segment is still being made.
    #[error("the next segment is not ready yet")]
    NotReady,
    /// On disk: the next segment can't be made, because the disk or the journal's limit is full.
    #[error("the disk, or the journal's limit, is full")]
    Full,
}

/// A run of bytes in the ring that belongs behind each other in one segment.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) header: SegmentHeader,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) summary: Summary,
    pub(crate) index: Vec<IndexEntry>,
    /// The segment is full: once this is durable, its trailer follows.
    pub(crate) seal: bool,
}

impl Extent {
    fn at(header: SegmentHeader, position: u64) -> Self {
        let (summary, index) = (Summary::default(), Vec::new());
        Self { header, from: position, to: position, summary, index, seal: false }
    }
}

struct Current {
    header: SegmentHeader,
    seed: u32,
    at: u64,
    builder: IndexBuilder,
}

pub(crate) struct Tail {
    producer: Producer,
    current: Option<Current>,
    next: Option<SegmentHeader>,
    extents: Vec<Extent>,
    payload_bytes_max: usize,
    /// The next segment could not be made: tells [`NoRoom::Full`] from [`NoRoom::NotReady`].
    full: bool,
    failed: bool,
}

impl Tail {
    pub(crate) fn new(
        producer: Producer,
        open: Option<OpenSegment>,
        next: Option<SegmentHeader>,
        records_room: u64,
    ) -> Self {
        // Half of the ring and of a segment, so that there is always room for one more once the flusher is
        // through.
        let half = usize::try_from(producer.capacity().min(records_room) / 2).unwrap_or(usize::MAX);
        let payload_bytes_max = PAYLOAD_BYTES_MAX.min(half.saturating_sub(record_bytes(8)));
        let current = open.map(|open| Current {
            seed: open.header.seed(),
            header: open.header,
            at: open.end,
            builder: open.builder,
        });
        Self { producer, current, next, extents: Vec::new(), payload_bytes_max, full: false, failed: false }
    }

    /// Longest payload that is taken.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// The position just past the last record taken; `durable` when there is none yet.
    pub(crate) fn end(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.at)
    }

    /// Bytes of the current segment that are used up.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.at - current.header.base)
    }

    /// Whether the next segment has to be made.
    pub(crate) fn wants_next(&self) -> bool {
        self.next.is_none() && !self.failed
    }

    /// Gives the next segment.
    pub(crate) fn give_next(&mut self, header: SegmentHeader) {
        self.full = false;
        self.next = Some(header);
    }

    /// The next segment can't be made now.
    pub(crate) fn set_full(&mut self) {
        self.full = true;
    }

    /// Nothing is taken any more.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Base of the oldest segment that must stay: the one being written, or the next.
    pub(crate) fn oldest_needed(&self) -> Option<u64> {
        let waiting = self.extents.first().map(|extent| extent.header.base);
        let current = self.current.as_ref().map(|current| current.header.base);
        waiting.or(current).or(self.next.map(|next| next.base))
    }

    /// Takes the records that wait for the flusher, oldest first; `spare` takes their place, so that nothing
    /// is allocated.
    pub(crate) fn take_extents(&mut self, spare: &mut Vec<Extent>) {
        std::mem::swap(&mut self.extents, spare);
    }

    /// Takes a record. Returns the position just past it, and whether the next segment was begun.
    pub(crate) fn append(&mut self, record: &Record<'_>, durable: u64) -> Result<(u64, bool), AppendError> {
        let payload_bytes = record.payload.len();
        if payload_bytes > self.payload_bytes_max {
            return Err(AppendError::TooLarge { bytes: payload_bytes, max: self.payload_bytes_max });
        }
        if self.failed {
            return Err(AppendError::Failed);
        }
        let length = record_bytes(payload_bytes) as u64;
        if self.producer.room() < length {
            return Err(AppendError::NoRoom(NoRoom::FlushBehind));
        }
        let fits = self
            .current
            .as_ref()
            .is_some_and(|current| current.at + length <= current.header.records_limit());
        if !fits {
            self.begin_next()?;
        }
        let Some(current) = self.current.as_mut() else {
            return Err(AppendError::NoRoom(NoRoom::NotReady));
        };
        let position = current.at;
        let header = encode_record_header(current.seed, position, durable, record);
        if !self.producer.push(&[&header, record.payload, padding(payload_bytes)]) {
            return Err(AppendError::NoRoom(NoRoom::FlushBehind));
        }
        current.at += length;
        let entry = current.builder.note(&current.header, position, record.wall_ms);
        let extend = self
            .extents
            .last_mut()
            .filter(|extent| !extent.seal && extent.header.base == current.header.base);
        let extent = match extend {
            Some(extent) => extent,
            None => self.extents.push_mut(Extent::at(current.header, position)),
        };
        extent.to = current.at;
        extent.summary.note(record.wall_ms);
        extent.index.extend(entry);
        Ok((current.at, !fits))
    }

    /// Goes on in the next segment, and has the current one sealed.
    fn begin_next(&mut self) -> Result<(), AppendError> {
        let no_room = if self.full { NoRoom::Full } else { NoRoom::NotReady };
        let next = self.next.take().ok_or(AppendError::NoRoom(no_room))?;
        let begun =
            Current { header: next, seed: next.seed(), at: next.first(), builder: IndexBuilder::default() };
        let Some(full) = self.current.replace(begun) else { return Ok(()) };
        match self.extents.last_mut().filter(|extent| extent.header.base == full.header.base) {
            Some(extent) => extent.seal = true,
            None => self.extents.push(Extent { seal: true, ..Extent::at(full.header, full.at) }),
        }
        Ok(())
    }
}
