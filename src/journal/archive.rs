//! An archive: a second, small journal of records that outlive the segments they were written to.
//!
//! Before retention deletes a segment, an [`Archiver`](super::Archiver) appends those of its records that are
//! wanted for longer to the archive, in order, and makes them durable. After a kill the last position in the
//! archive tells how far it got: nothing is lost, and nothing is there twice. A record of the archive is that
//! of the journal with its position (u64, little-endian) before the payload. The archive is made with the
//! first record that it takes, and costs nothing before.
#![forbid(unsafe_code)]

use std::sync::Arc;

use parking_lot::Mutex;

use super::core::Retention;
use super::files::FileStorage;
use super::handle::Journal;
use super::layout::{Position, Record, RecordView};
use super::reader::{Backward, Forward, Item, ReadError, Reader};
use super::status::{Health, Stats};
use super::storage::Storage;

/// Bytes of the position before a payload.
const POSITION_BYTES: usize = 8;

/// Why records are not copied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Trouble {
    /// Why the last attempt failed. `None`: it worked.
    pub(super) failure: Option<String>,
    pub(super) is_failure_told: bool,
    pub(super) segments_lost: u64,
    pub(super) is_loss_told: bool,
}

/// An archive, as `status` shows it.
#[derive(Clone, Debug)]
pub struct ArchiveStats {
    /// That of its journal. `None`: there is none yet.
    pub journal: Option<Stats>,
    /// Segments that were deleted before their records were copied, count, since the start.
    pub segments_lost: u64,
    /// Why records can't be copied now. `None`: they can.
    pub failure: Option<String>,
}

pub(super) struct Shared<S: Storage> {
    pub(super) journal: Mutex<Option<Journal<S>>>,
    pub(super) retention: Mutex<Retention>,
    pub(super) trouble: Mutex<Trouble>,
}

/// An archive to be read and asked. Cheap to clone; every clone is the same archive.
pub struct Archive<S: Storage = FileStorage> {
    pub(super) shared: Arc<Shared<S>>,
}

impl<S: Storage> Clone for Archive<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Storage> Archive<S> {
    /// A reader of its journal, whose positions are the archive's own. `None`: there is none yet.
    #[must_use]
    pub fn reader(&self) -> Option<Reader<S>> {
        self.journal().map(|journal| journal.reader())
    }

    /// Its journal, if there is one.
    pub(super) fn journal(&self) -> Option<Journal<S>> {
        self.shared.journal.lock().clone()
    }

    /// Goes backwards from the last record that began before `before` in the journal it was copied from;
    /// segments in which nothing has a wall time of `since_ms` or later are passed over.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when a segment can't be opened.
    pub fn backward(&self, before: Position, since_ms: u64) -> Result<ArchiveBackward<S>, ReadError> {
        let records = self.reader().map(|reader| backward(&reader, before, since_ms)).transpose()?;
        Ok(ArchiveBackward { records, before, found: None, payload: Vec::new() })
    }

    /// The end, in its own positions, of what was copied from before `until`.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when a segment can't be opened.
    pub fn end_of(reader: &Reader<S>, until: Position) -> Result<Position, ReadError> {
        let mut records = backward(reader, until, 0)?;
        while let Some(item) = records.next()? {
            if let Item::Record(view) = item
                && original(&view).is_some_and(|copied| copied.position < until)
            {
                return Ok(view.end());
            }
        }
        Ok(Position(0))
    }

    /// Changes what is deleted from it, from the next look at retention on.
    pub fn set_retention(&self, retention: Retention) {
        *self.shared.retention.lock() = retention;
    }

    /// The figures for `status`.
    #[must_use]
    pub fn stats(&self) -> ArchiveStats {
        let journal = self.reader().map(|reader| Stats::of(&reader.catalog, Health::default()));
        let trouble = self.shared.trouble.lock();
        ArchiveStats { journal, segments_lost: trouble.segments_lost, failure: trouble.failure.clone() }
    }
}

/// The record as it was in the journal. `None`: it is no copy.
#[must_use]
pub fn original<'a>(view: &RecordView<'a>) -> Option<RecordView<'a>> {
    let (position, payload) = view.record.payload.split_first_chunk::<POSITION_BYTES>()?;
    let record = Record { payload, ..view.record };
    Some(RecordView { position: Position(u64::from_le_bytes(*position)), record, ..*view })
}

/// The journal's position of the first record of a walk.
fn first_position<S: Storage>(mut records: Forward<S>) -> Result<Option<Position>, ReadError> {
    while let Some(item) = records.next()? {
        if let Item::Record(view) = item
            && let Some(copied) = original(&view)
        {
            return Ok(Some(copied.position));
        }
    }
    Ok(None)
}

/// From behind the last segment that begins with a record from before `before`: copies are in order.
fn backward<S: Storage>(
    reader: &Reader<S>,
    before: Position,
    since_ms: u64,
) -> Result<Backward<S>, ReadError> {
    let segments = reader.segments();
    let (mut low, mut high) = (0, segments.len());
    while low < high {
        let middle = low.midpoint(high);
        let first = segments.get(middle).map(|segment| first_position(reader.forward(segment.base)));
        if first.transpose()?.flatten().is_some_and(|first| first < before) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let end = segments.get(low).map_or(Position(u64::MAX), |segment| segment.base);
    Ok(reader.backward(end).since(since_ms))
}

/// Goes through an archive backwards, newest first, in the positions of the journal it was copied from.
pub struct ArchiveBackward<S: Storage = FileStorage> {
    records: Option<Backward<S>>,
    before: Position,
    /// The next record, but for its payload.
    found: Option<RecordView<'static>>,
    payload: Vec<u8>,
}

impl<S: Storage> ArchiveBackward<S> {
    /// The next older record, if it is from behind `position`; one at `position` itself is passed over.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when a segment can't be opened.
    pub fn next_behind(&mut self, position: Position) -> Result<Option<RecordView<'_>>, ReadError> {
        if self.next_position()? == Some(position) {
            self.found = None;
        }
        match self.next_position()? {
            Some(next) if next > position => self.next(),
            _ => Ok(None),
        }
    }

    /// The next older record. `None`: there is nothing older left.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when a segment can't be opened.
    #[allow(clippy::should_implement_trait, reason = "what it lends lives in it, which Iterator can't say")]
    pub fn next(&mut self) -> Result<Option<RecordView<'_>>, ReadError> {
        self.next_position()?;
        let payload = self.payload.as_slice();
        Ok(self.found.take().map(|view| RecordView { record: Record { payload, ..view.record }, ..view }))
    }

    fn next_position(&mut self) -> Result<Option<Position>, ReadError> {
        let Some(records) = &mut self.records else { return Ok(None) };
        while self.found.is_none()
            && let Some(item) = records.next()?
        {
            if let Item::Record(view) = item
                && let Some(copied) = original(&view).filter(|copied| copied.position < self.before)
            {
                self.payload.clear();
                self.payload.extend_from_slice(copied.record.payload);
                let record = Record { payload: &[], ..copied.record };
                self.found =
                    Some(RecordView { position: copied.position, watermark: copied.watermark, record });
            }
        }
        Ok(self.found.map(|view| view.position))
    }
}
