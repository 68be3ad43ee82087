//! Readers: forwards from a position, backwards from one, from a time; up to the durable position, never
//! beyond.
#![forbid(unsafe_code)]

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::catalog::{Catalog, Damage, Entry, SegmentInfo, SegmentState};
use super::files::{DirectoryError, FileStorage};
use super::layout::{IndexEntry, Position, RecordView, SegmentHeader, Trailer, decode_record};
use super::recovery::{Known, RecoveryError, recover};
use super::scan::{Step, Walk};
use super::storage::Storage;

/// Why a journal can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The directory can't be opened.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The segments can't be read.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A segment can't be opened.
    #[error("journal segment at position {0}: {1}")]
    Segment(Position, #[source] io::Error),
}

/// One item of a reader's walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A record.
    Record(RecordView<'a>),
    /// Acknowledged data that is not there any more; the reader goes on behind it.
    Damage(Damage),
}

/// Reads a journal that is being written by this process, or that of a stopped one. Cheap to clone; holds no
/// file open.
pub struct Reader<S: Storage = FileStorage> {
    pub(super) catalog: Arc<Catalog<S>>,
}

impl<S: Storage> Clone for Reader<S> {
    fn clone(&self) -> Self {
        Self { catalog: Arc::clone(&self.catalog) }
    }
}

impl Reader<FileStorage> {
    /// Opens the journal of a stopped server or agent, changing nothing.
    ///
    /// # Errors
    /// [`ReadError`]; above all that it is in use.
    pub fn open(directory: &Path) -> Result<Self, ReadError> {
        Ok(Self::over(FileStorage::open_read_only(directory)?)?)
    }
}

impl<S: Storage> Reader<S> {
    pub(crate) fn new(catalog: Arc<Catalog<S>>) -> Self {
        Self { catalog }
    }

    /// Reads what is on `storage`, changing nothing. Nobody else may be writing to it.
    ///
    /// # Errors
    /// [`RecoveryError`] when the segments can't be read. Damage is not an error: see
    /// [`damages`](Self::damages).
    pub fn over(storage: S) -> Result<Self, RecoveryError> {
        let found = recover(&storage, Known::READ_ONLY, &mut |_| {})?;
        Ok(Self::new(Arc::new(Catalog::new(Arc::new(storage), found))))
    }

    /// All segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.catalog.infos()
    }

    /// Begin of the oldest segment: before it, nothing is left.
    #[must_use]
    pub fn oldest(&self) -> Position {
        Position(self.catalog.oldest().map_or(0, |entry| entry.file.base))
    }

    /// Everything before it can be read.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.catalog.durable())
    }

    /// Damage found at the opening. Sealed segments are looked through as they are read, or by
    /// [`verify`](super::verify()).
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        self.catalog.damages()
    }

    /// Segments that were set aside because of damage: count, and bytes.
    #[must_use]
    pub fn set_aside(&self) -> (usize, u64) {
        self.catalog.set_aside()
    }

    /// Goes forwards from the first record at or after `from`, which may be any number.
    #[must_use]
    pub fn forward(&self, from: Position) -> Forward<S> {
        Forward { reader: self.clone(), at: from.0, open: None }
    }

    /// Goes backwards from the last record that begins before `from`, which may be any number.
    #[must_use]
    pub fn backward(&self, from: Position) -> Backward<S> {
        let before = from.0.min(self.catalog.durable());
        Backward { reader: self.clone(), before, since_ms: 0, open: None, waiting: Vec::new() }
    }

    /// Opens a segment for reading; `None` when it is gone, or its header is damaged.
    fn source(&self, entry: Entry) -> Result<Option<Source<S::View>>, ReadError> {
        let Some(header) = entry.header else { return Ok(None) };
        let view = match self.catalog.storage.view(entry.file) {
            Ok(view) => view,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ReadError::Segment(Position(entry.file.base), error)),
        };
        let sealed = entry.state != SegmentState::Open;
        let trailer = if sealed { Trailer::decode(&header, &view) } else { None };
        let index = trailer.map_or(entry.index, |trailer| trailer.index);
        Ok(Some(Source { view, header, end: entry.end, next_base: entry.next_base, sealed, index }))
    }
}

/// A segment opened for reading.
struct Source<V> {
    view: V,
    header: SegmentHeader,
    /// End of its records when it was opened.
    end: u64,
    next_base: u64,
    sealed: bool,
    index: Vec<IndexEntry>,
}

impl<V: std::ops::Deref<Target = [u8]>> Source<V> {
    /// A place at or before `position` where a record begins.
    fn record_before(&self, position: u64) -> u64 {
        let after = self.index.partition_point(|entry| entry.position <= position);
        after.checked_sub(1).map_or(self.header.first(), |at| self.index[at].position)
    }

    fn damage(hole: super::scan::Hole) -> Damage {
        Damage { from: Position(hole.from), to: Position(hole.to), what: "records are damaged" }
    }

    fn record(&self, position: u64) -> Option<RecordView<'_>> {
        let offset = usize::try_from(position.checked_sub(self.header.base)?).ok()?;
        decode_record(self.header.seed(), position, self.view.get(offset..)?)
    }
}

/// Goes through a journal forwards. At the end it can be asked again later, and goes on with what became
/// durable.
pub struct Forward<S: Storage = FileStorage> {
    reader: Reader<S>,
    at: u64,
    open: Option<Source<S::View>>,
}

impl<S: Storage> Forward<S> {
    /// The next item. `None`: nothing more is durable yet. A segment that retention deleted is skipped
    /// ([`Reader::oldest`] tells), one that is being read is read to its end.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when a segment can't be opened.
    #[allow(clippy::should_implement_trait, reason = "what it lends lives in it, which Iterator can't say")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        let step = loop {
            let durable = self.reader.catalog.durable();
            if self.at >= durable {
                return Ok(None);
            }
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(source) = &mut self.open else { return Ok(None) };
            if !source.sealed {
                // It grows while it is read, and may have been sealed meanwhile.
                let now =
                    self.reader.catalog.with_entry(source.header.base, |entry| (entry.end, entry.state));
                if let Some((end, state)) = now {
                    if end > source.end && !S::VIEWS_FOLLOW_WRITES {
                        self.open = None;
                        continue;
                    }
                    source.end = end;
                    source.sealed = state != SegmentState::Open;
                } else {
                    source.sealed = true; // deleted: it gets no more
                }
            }
            // Everything up to the end was durable: what is missing there is damage.
            let mut walk = Walk::sealed(&source.header, &source.view, self.at, source.end);
            match walk.next() {
                Some(Step::Record(view)) => {
                    self.at = walk.at();
                    break Some(view.position.0);
                }
                Some(Step::Hole(hole)) => {
                    self.at = walk.at();
                    return Ok(Some(Item::Damage(Source::<S::View>::damage(hole))));
                }
                None if source.sealed => {
                    self.at = self.at.max(source.next_base);
                    self.open = None;
                }
                None => return Ok(None),
            }
        };
        let view = step.zip(self.open.as_ref()).and_then(|(position, source)| source.record(position));
        Ok(view.map(Item::Record))
    }

    /// Opens the segment that holds the current place, or the first one after it. `false`: there is none yet.
    fn open_next(&mut self) -> Result<bool, ReadError> {
        while let Some(entry) = self.reader.catalog.at_or_after(self.at) {
            let next_base = entry.next_base;
            if let Some(source) = self.reader.source(entry)? {
                self.at = self.at.max(source.header.first());
                let mut walk =
                    Walk::sealed(&source.header, &source.view, source.record_before(self.at), source.end);
                while walk.at() < self.at && walk.next().is_some() {}
                self.at = self.at.max(walk.at());
                self.open = Some(source);
                return Ok(true);
            }
            self.at = next_base;
        }
        Ok(false)
    }
}

/// Goes through a journal backwards, newest first. Records that become durable after it began are not in it.
pub struct Backward<S: Storage = FileStorage> {
    reader: Reader<S>,
    /// Everything from here on was seen.
    before: u64,
    since_ms: u64,
    open: Option<Source<S::View>>,
    /// Steps of one stretch of the index, in order; taken from the back.
    waiting: Vec<Waiting>,
}

enum Waiting {
    Record(u64),
    Damage(Damage),
}

impl<S: Storage> Backward<S> {
    /// Passes over segments in which nothing has a wall time of `wall_ms` or later, by their summary alone:
    /// the clock may have been wrong at any of their records. One without records is not passed over.
    #[must_use]
    pub fn since(self, wall_ms: u64) -> Self {
        Self { since_ms: wall_ms, ..self }
    }

    /// The next older item. `None`: there is nothing older left.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when a segment can't be opened.
    #[allow(clippy::should_implement_trait, reason = "what it lends lives in it, which Iterator can't say")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        while self.waiting.is_empty() {
            if !self.gather()? {
                return Ok(None);
            }
        }
        match self.waiting.pop() {
            Some(Waiting::Damage(damage)) => {
                self.before = self.before.min(damage.from.0);
                Ok(Some(Item::Damage(damage)))
            }
            Some(Waiting::Record(position)) => {
                self.before = self.before.min(position);
                let view = self.open.as_ref().and_then(|source| source.record(position));
                Ok(view.map(Item::Record))
            }
            None => Ok(None),
        }
    }

    /// Walks through the stretch before the current place. `false`: there is nothing left.
    fn gather(&mut self) -> Result<bool, ReadError> {
        let inside = self.open.as_ref().is_some_and(|source| self.before > source.header.first());
        if !inside {
            let base = self.open.take().map_or(self.before, |source| source.header.base);
            self.before = self.before.min(base);
            let Some(entry) = self.reader.catalog.before(self.before) else { return Ok(false) };
            let (base, end) = (entry.file.base, entry.end);
            if entry.summary.records > 0 && entry.summary.latest_ms < self.since_ms {
                self.before = base;
                return Ok(true);
            }
            self.open = self.reader.source(entry)?;
            if self.open.is_none() {
                self.before = base;
                return Ok(true);
            }
            self.before = self.before.min(end);
        }
        let Some(source) = &self.open else { return Ok(true) };
        let from = source.record_before(self.before.saturating_sub(1));
        let mut walk = Walk::sealed(&source.header, &source.view, from, source.end);
        while walk.at() < self.before
            && let Some(step) = walk.next()
        {
            self.waiting.push(match step {
                Step::Record(view) => Waiting::Record(view.position.0),
                Step::Hole(hole) => Waiting::Damage(Source::<S::View>::damage(hole)),
            });
        }
        self.before = from;
        Ok(true)
    }
}
