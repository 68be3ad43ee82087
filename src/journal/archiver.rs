//! Copies records into an [archive](super::archive), before the segments that they are in are deleted.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::archive::{Archive, Shared, Trouble, original};
use super::catalog::{Damage, SegmentInfo};
use super::core::{OpenError, Options, Retention};
use super::files::{DirectoryError, FileStorage};
use super::handle::{Journal, Opened};
use super::layout::{Position, Record, RecordView, record_bytes};
use super::leader::Flusher;
use super::preallocator::{Preallocated, Preallocator};
use super::reader::{Item, ReadError, Reader};
use super::storage::Storage;
use super::tail::{AppendError, NoRoom};
use super::tail_writer::FlushError;
use crate::machine::wall_clock::AgeTime;

/// Memory for records that wait to be written; the longest payload is half of it.
const WINDOW_BYTES: u64 = 32 * 1024;

/// Records that are looked at between two questions whether to go on.
const RECORDS_BETWEEN: u32 = 64;

/// Layout of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArchiveOptions {
    /// Length of a segment's file; a multiple of 4,096.
    pub segment_bytes: u64,
    /// Rule by which its segments are deleted; at least two stay. 0 bytes: nothing is added.
    pub retention: Retention,
    /// Bytes of the disk that are left free for others.
    pub keep_free_bytes: u64,
}

/// Outcome of copying a segment's records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Copied {
    /// All that are wanted are durable in the archive.
    All,
    /// It was told to stop before the last; it goes on there.
    Part,
}

/// Why records can't be copied into an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its directory can't be opened or made.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Its journal can't be opened, or takes no other retention.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A segment can't be read, there or in the journal.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An old segment of it can't be deleted.
    #[error(transparent)]
    Delete(#[from] io::Error),
    /// There is no room for its next segment; why.
    #[error("{0}")]
    NoRoom(String),
    /// It does not take a record.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A write failed: it is read again from the disk before the next attempt.
    #[error("{}", .0.0)]
    Flush(#[from] FlushError),
}

/// The report of an archive that does not take records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArchiveTrouble {
    /// Records could not be copied; tried again.
    NotCopied(String),
    /// A segment had to be deleted before they were.
    Lost(String),
    /// Full segments of the archive are damaged, at positions of its own, and were set aside.
    Damaged(Vec<Damage>),
}

/// Its journal, open for appending.
struct Writer<S: Storage> {
    journal: Journal<S>,
    flusher: Flusher<S>,
    preallocator: Preallocator<S>,
}

impl<S: Storage> Writer<S> {
    fn append(&mut self, record: &Record<'_>, now: AgeTime) -> Result<(), ArchiveError> {
        while let Err(error) = self.journal.append(record) {
            let AppendError::NoRoom(missing) = error else { return Err(error.into()) };
            self.flusher.flush_once()?;
            if missing != NoRoom::FlushBehind {
                self.preallocator.retain(now)?;
                if let Preallocated::NoRoom(why) = self.preallocator.preallocate_once(now.wall.0) {
                    return Err(ArchiveError::NoRoom(why));
                }
            }
        }
        Ok(())
    }
}

/// Opens the place of an archive, and makes it if need be.
type OpenStorage<S> = Box<dyn FnMut() -> Result<S, DirectoryError> + Send>;

/// Copies records into an archive, for the one who deletes segments
/// ([`Preallocator::with_archiver`](super::Preallocator::with_archiver)). There is one for each archive.
pub struct Archiver<S: Storage = FileStorage> {
    archive: Archive<S>,
    options: ArchiveOptions,
    open: OpenStorage<S>,
    is_wanted: Box<dyn Fn(&Record<'_>) -> bool + Send>,
    writer: Option<Writer<S>>,
    /// Just past the last record in the archive.
    copied_to: Position,
    /// Everything before it was looked at, and what is wanted of it is durable.
    seen_to: Position,
    payload: Vec<u8>,
    /// It is there and could not be opened, or has to be read again.
    is_to_open: bool,
}

impl<S: Storage> Archiver<S> {
    /// `open` gives the place, and makes it; `is_wanted` says of a record whether it belongs into the
    /// archive.
    #[must_use]
    pub fn new(
        options: ArchiveOptions,
        open: impl FnMut() -> Result<S, DirectoryError> + Send + 'static,
        is_wanted: impl Fn(&Record<'_>) -> bool + Send + 'static,
    ) -> Self {
        let shared = Shared {
            journal: Mutex::new(None),
            retention: Mutex::new(options.retention),
            trouble: Mutex::default(),
        };
        Self {
            archive: Archive { shared: Arc::new(shared) },
            options,
            open: Box::new(open),
            is_wanted: Box::new(is_wanted),
            writer: None,
            copied_to: Position(0),
            seen_to: Position(0),
            payload: Vec::new(),
            is_to_open: false,
        }
    }

    /// To be read and asked.
    #[must_use]
    pub fn archive(&self) -> Archive<S> {
        self.archive.clone()
    }

    /// Just past the last record in the archive, in the positions of the journal: that was durable there.
    #[must_use]
    pub fn copied_to(&self) -> Position {
        self.copied_to
    }

    /// Opens the archive now, instead of with the first record, and answers what is damaged in it. `now_ms`
    /// is wall time, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`ArchiveError`]; it is tried again with each look at retention.
    pub fn open(&mut self, now_ms: u64) -> Result<Vec<Damage>, ArchiveError> {
        let opened = self.try_open(now_ms);
        self.is_to_open = opened.is_err();
        self.archive.shared.trouble.lock().failure = opened.as_ref().err().map(ToString::to_string);
        opened
    }

    fn try_open(&mut self, now_ms: u64) -> Result<Vec<Damage>, ArchiveError> {
        let storage = (self.open)()?;
        let options = Options {
            segment_bytes: self.options.segment_bytes,
            window_bytes: WINDOW_BYTES,
            retention: Some(self.retention()),
            limit_bytes: None,
            keep_free_bytes: self.options.keep_free_bytes,
            remembered: Position(0),
        };
        let Opened { journal, flusher, preallocator, recovery } =
            Journal::open(storage, options, Position(u64::MAX), now_ms, |_| {})?;
        let reader = journal.reader();
        let mut records = reader.backward(Position(u64::MAX));
        self.copied_to = loop {
            match records.next()? {
                Some(Item::Record(view)) => {
                    if let Some(copied) = original(&view) {
                        break copied.end();
                    }
                }
                Some(Item::Damage(_)) => {}
                None => break Position(0),
            }
        };
        *self.archive.shared.journal.lock() = Some(journal.clone());
        self.writer = Some(Writer { journal, flusher, preallocator });
        Ok(recovery.damages)
    }

    /// Two segments at least: one is written, and one holds what is before.
    fn retention(&self) -> Retention {
        let retention = *self.archive.shared.retention.lock();
        Retention { bytes: retention.bytes.max(2 * self.options.segment_bytes), ..retention }
    }

    /// Deletes from it what its own retention lets go.
    pub(crate) fn retain(&mut self, now: AgeTime) {
        if self.is_to_open && self.open(now.wall.0).is_err() {
            return;
        }
        let retention = self.retention();
        let Some(writer) = &mut self.writer else { return };
        let done = writer.journal.set_retention(Some(retention)).map_err(ArchiveError::from);
        if let Err(why) = done.and_then(|()| Ok(writer.preallocator.retain(now)?)) {
            self.archive.shared.trouble.lock().failure = Some(why.to_string());
        }
    }

    /// Copies what is wanted of a segment, from where it was before, until `may_go_on` says no.
    ///
    /// # Errors
    /// [`ArchiveError`]; it may be tried again.
    pub(crate) fn copy(
        &mut self,
        reader: &Reader<S>,
        segment: &SegmentInfo,
        now: AgeTime,
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<Copied, ArchiveError> {
        let is_off = self.archive.shared.retention.lock().bytes == 0;
        if is_off || segment.end <= self.seen_to {
            return Ok(Copied::All);
        }
        let copied = self.copy_records(reader, segment, now, may_go_on);
        if copied.is_err() && self.writer.as_ref().is_some_and(|writer| writer.flusher.has_failed()) {
            // Read again from the disk before the next attempt.
            self.writer = None;
            self.is_to_open = true;
            *self.archive.shared.journal.lock() = None;
        }
        let mut trouble = self.archive.shared.trouble.lock();
        match &copied {
            Ok(Copied::All) => {
                *trouble = Trouble { segments_lost: trouble.segments_lost, ..Trouble::default() };
            }
            Ok(Copied::Part) => {}
            Err(why) => trouble.failure = Some(why.to_string()),
        }
        copied
    }

    fn copy_records(
        &mut self,
        reader: &Reader<S>,
        segment: &SegmentInfo,
        now: AgeTime,
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<Copied, ArchiveError> {
        let mut records = reader.forward(segment.base.max(self.seen_to));
        let mut since_asked = 0;
        let mut reached = segment.end;
        let mut copied = Copied::All;
        // Damaged records can't be copied; readers of the journal are told of them there.
        while let Some(item) = records.next()? {
            let Item::Record(view) = item else { continue };
            if view.position >= segment.end {
                break;
            }
            since_asked += 1;
            if since_asked > RECORDS_BETWEEN {
                since_asked = 0;
                if !may_go_on() {
                    (reached, copied) = (view.position, Copied::Part);
                    break;
                }
            }
            if (self.is_wanted)(&view.record) {
                self.append(&view, now)?;
            }
        }
        if let Some(writer) = &mut self.writer {
            writer.flusher.flush_once()?;
        }
        self.seen_to = self.seen_to.max(reached);
        Ok(copied)
    }

    fn append(&mut self, view: &RecordView<'_>, now: AgeTime) -> Result<(), ArchiveError> {
        if self.writer.is_none() {
            self.open(now.wall.0)?;
        }
        if view.position < self.copied_to {
            return Ok(());
        }
        self.payload.clear();
        self.payload.extend_from_slice(&view.position.0.to_le_bytes());
        self.payload.extend_from_slice(view.record.payload);
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.append(&Record { payload: &self.payload, ..view.record }, now)?;
        self.copied_to = Position(view.position.0 + record_bytes(view.record.payload.len()) as u64);
        Ok(())
    }

    /// A segment was deleted before its records were copied.
    pub(crate) fn note_lost(&mut self) {
        self.archive.shared.trouble.lock().segments_lost += 1;
    }

    /// The trouble to report now, once until records are copied again.
    pub(crate) fn trouble(&mut self) -> Option<ArchiveTrouble> {
        let mut trouble = self.archive.shared.trouble.lock();
        let why = || trouble.failure.clone();
        if trouble.segments_lost > 0 && !trouble.is_loss_told {
            let why = why().unwrap_or_else(|| "the disk is too slow".to_owned());
            (trouble.is_loss_told, trouble.is_failure_told) = (true, true);
            return Some(ArchiveTrouble::Lost(why));
        }
        let why = why().filter(|_| !trouble.is_failure_told)?;
        trouble.is_failure_told = true;
        Some(ArchiveTrouble::NotCopied(why))
    }
}
