//! The journal as its users hold it: append, ask, read.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::catalog::{Catalog, Damage, SegmentInfo, SegmentState};
use super::files::FileStorage;
use super::flusher::Flusher;
use super::layout::{Position, Record, RecordView, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use super::leadership::{Flushed, Leadership, Pace};
use super::notifier::Notifier;
use super::preallocator::Preallocator;
use super::reader::Reader;
use super::recovery::{Known, RecoveryError, records_room, recover};
use super::region;
use super::status::{Health, State, Stats};
use super::storage::Storage;
use super::tail::{AppendError, Tail};

/// Smallest window: a record of a few KiB must fit twice.
const WINDOW_BYTES_MIN: u64 = 16 * 1024;

/// Which whole segments are deleted by the preallocator, oldest first. The segments being written are never
/// deleted, nor those that were set aside, which don't count either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Most bytes on disk, all segments together.
    pub bytes: u64,
    /// Oldest record that must be kept, in milliseconds before now. `None`: whatever fits.
    pub age_ms: Option<u64>,
}

/// Layout and limits of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Length of a segment's file; a multiple of 4,096.
    pub segment_bytes: u64,
    /// Memory for records that wait for the flusher. It is resident all the time.
    pub window_bytes: u64,
    /// The rule by which segments are deleted without being asked for. `None`: nothing; see
    /// [`Journal::delete_before`].
    pub retention: Option<Retention>,
    /// Most bytes on disk: beyond it there is no room. `None`: whatever the disk has. Segments that were set
    /// aside do not count.
    pub limit_bytes: Option<u64>,
    /// Bytes of the disk that are left free for others, such as the database beside it.
    pub keep_free_bytes: u64,
    /// Somebody else, such as the database beside it, remembers that everything before this position was
    /// durable. Missing bytes before it are damage, and new positions begin at it or beyond.
    pub remembered: Position,
}

impl Options {
    /// For a server: segments of 64 MiB, a window that holds 10 ms of 100,000 events of 1 KiB a second, 64
    /// MiB left free.
    #[must_use]
    pub fn server() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            window_bytes: 1024 * 1024,
            retention: None,
            limit_bytes: None,
            keep_free_bytes: 64 * 1024 * 1024,
            remembered: Position(0),
        }
    }

    /// For a device's spool: segments of 256 KiB, a window of 32 KiB, at most `limit_bytes` on disk.
    #[must_use]
    pub fn spool(limit_bytes: u64) -> Self {
        Self {
            segment_bytes: 256 * 1024,
            window_bytes: 32 * 1024,
            retention: None,
            limit_bytes: Some(limit_bytes),
            keep_free_bytes: 0,
            remembered: Position(0),
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        let wrong = |what| Err(OpenError::Options(what));
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(4096)
        {
            return wrong("segment_bytes must be a multiple of 4096 from 64 KiB to 1 GiB");
        }
        if !(WINDOW_BYTES_MIN..=self.segment_bytes).contains(&self.window_bytes) {
            return wrong("window_bytes must be from 16 KiB to segment_bytes");
        }
        let two = 2 * self.segment_bytes;
        if self.limit_bytes.is_some_and(|limit| limit < two) {
            return wrong("limit_bytes must hold two segments");
        }
        if self.retention.is_some_and(|retention| retention.bytes < two) {
            return wrong("retention must hold two segments");
        }
        Ok(())
    }
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of range.
    #[error("journal: {0}")]
    Options(&'static str),
    /// The segments could not be read or made good.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// No memory for the window.
    #[error("journal: no memory for the window: {0}")]
    Window(io::Error),
}

/// Findings of the opening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Everything before it was durable, now or once: what is missing of it is in `damages`. New positions
    /// begin at it or beyond.
    pub durable: Position,
    /// End of the records that were found. Less than `durable` when the journal does not reach as far as
    /// [`Options::remembered`] says.
    pub end: Position,
    /// Bytes of torn batches, never acknowledged, that were wiped.
    pub wiped_bytes: u64,
    /// Acknowledged data that is damaged or missing, as far as the opening reads: sealed segments before
    /// where it was told to begin are looked through later. An administrator must hear of it.
    pub damages: Vec<Damage>,
}

impl Recovery {
    /// Whether anything that was durable once is not there any more.
    #[must_use]
    pub fn has_losses(&self) -> bool {
        self.end < self.durable || !self.damages.is_empty()
    }

    /// Whether the record that ends at this position was durable once and is not there any more.
    #[must_use]
    pub fn is_lost(&self, end: Position) -> bool {
        end > self.end || self.damages.iter().any(|hole| hole.from < end && end <= hole.to)
    }
}

/// An open journal: the handle, and the two jobs that some thread has to do.
///
/// [`Threads::spawn`](super::Threads::spawn) does them on threads of their own; a simulation calls
/// [`Flusher::flush_once`] and [`Preallocator::preallocate_once`] when it pleases.
pub struct Opened<S: Storage = FileStorage> {
    /// For appending and asking.
    pub journal: Journal<S>,
    /// Makes durable what was appended.
    pub flusher: Flusher<S>,
    /// Makes segments ahead and deletes old ones.
    pub preallocator: Preallocator<S>,
    /// The findings.
    pub recovery: Recovery,
}

/// State that all parts of an open journal share.
pub(crate) struct Shared<S: Storage> {
    pub(crate) tail: Mutex<Tail>,
    pub(crate) catalog: Arc<Catalog<S>>,
    pub(crate) health: Mutex<Health>,
    pub(crate) options: Options,
    /// No position before it is given out: it was used once, though nothing of it is there.
    pub(crate) lowest_next: u64,
    /// The rule of the options, or the one that was set since.
    pub(crate) retention: Mutex<Option<Retention>>,
    /// The same of the limit.
    pub(crate) limit_bytes: Mutex<Option<u64>>,
    /// Here while threads do the jobs.
    pub(crate) leadership: Mutex<Option<Leadership<S>>>,
    /// Somebody has found the leadership taken.
    pub(crate) is_leadership_wanted: AtomicBool,
    pub(crate) pace: Pace,
    pub(crate) flush_notifier: Notifier,
    pub(crate) preallocate_notifier: Notifier,
    pub(crate) check_notifier: Notifier,
    /// Held while files are made or deleted, so that only one of those who may is at it.
    pub(crate) housekeeping: Mutex<()>,
}

/// A journal that is open for appending. Cheap to clone; every clone is the same journal.
pub struct Journal<S: Storage = FileStorage> {
    shared: Arc<Shared<S>>,
}

impl<S: Storage> Clone for Journal<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Storage> Journal<S> {
    /// Opens a journal: makes its tail good, tells of every record from `from` on, in order, and makes the
    /// first segment if there is none. A disk without room is no error: the journal opens and has no room. A
    /// journal that ends before [`Options::remembered`] goes on behind that.
    ///
    /// # Errors
    /// [`OpenError`]. Damage is not one: it is in [`Opened::recovery`].
    pub fn open(
        storage: S,
        options: Options,
        from: Position,
        now_ms: u64,
        mut on_record: impl FnMut(RecordView<'_>),
    ) -> Result<Opened<S>, OpenError> {
        options.check()?;
        let window = usize::try_from(options.window_bytes).unwrap_or(usize::MAX);
        let (producer, consumer) = region::ring(window).map_err(OpenError::Window)?;
        let known = Known {
            from: from.0,
            remembered: options.remembered.0,
            segment_bytes: options.segment_bytes,
            read_only: false,
        };
        let mut found = recover(&storage, known, &mut on_record)?;
        let recovery = Recovery {
            durable: Position(found.durable),
            end: Position(found.end),
            wiped_bytes: found.wiped_bytes,
            damages: found.damages.clone(),
        };
        let room = records_room(options.segment_bytes);
        let (mut open, next, lowest_next) = (found.open.take(), found.next, found.lowest_next);
        let catalog = Arc::new(Catalog::new(Arc::new(storage), found));
        let head = open.as_mut().map(|open| std::mem::take(&mut open.head)).unwrap_or_default();
        let has_segment = open.is_some() || next.is_some();
        let shared = Arc::new(Shared {
            tail: Mutex::new(Tail::new(producer, open, next, room)),
            catalog,
            health: Mutex::new(Health::default()),
            options,
            lowest_next,
            retention: Mutex::new(options.retention),
            limit_bytes: Mutex::new(options.limit_bytes),
            leadership: Mutex::new(None),
            is_leadership_wanted: AtomicBool::new(false),
            pace: Pace::default(),
            flush_notifier: Notifier::default(),
            preallocate_notifier: Notifier::default(),
            check_notifier: Notifier::default(),
            housekeeping: Mutex::new(()),
        });
        let flusher = Flusher::new(Arc::clone(&shared), consumer, &head).map_err(OpenError::Window)?;
        let mut preallocator = Preallocator::new(Arc::clone(&shared));
        if !has_segment {
            preallocator.preallocate_once(now_ms);
        }
        Ok(Opened { journal: Self { shared }, flusher, preallocator, recovery })
    }

    /// Takes a record: copies it into the mapped tail, with its CRC, and never touches the disk. Returns the
    /// position just past it: it is durable, and may be acknowledged, once [`durable`](Self::durable) has
    /// reached that. The caller notifies ([`notify`](Self::notify)) when it has appended all it had.
    ///
    /// # Errors
    /// [`AppendError`]; the record was not taken.
    pub fn append(&self, record: &Record<'_>) -> Result<Position, AppendError> {
        let durable = self.shared.catalog.durable();
        let result = self.shared.tail.lock().append(record, durable);
        match result {
            Ok((end, began_segment)) => {
                if began_segment {
                    self.shared.preallocate_notifier.notify();
                }
                Ok(Position(end))
            }
            Err(error) => {
                if matches!(error, AppendError::NoRoom(_)) {
                    self.shared.flush_notifier.notify();
                }
                Err(error)
            }
        }
    }

    /// Wakes the flusher. Costs one atomic exchange while the flusher is awake already.
    pub fn notify(&self) {
        self.shared.flush_notifier.notify();
    }

    /// Flushes on this thread, for one that has appended and would only wait. Never waits for others: see
    /// [`Flushed`]. When it is not done here, call [`notify`](Self::notify).
    pub fn flush_here(&self) -> Flushed {
        if !self.shared.pace.is_fast() {
            return Flushed::NotHere;
        }
        let wanted = self.end();
        let Some(held) = self.shared.try_lead() else { return Flushed::ByOthers };
        if held.is_none() {
            return Flushed::NotHere;
        }
        // The holder before may have written this too. A failure is told of, once, and ends the process.
        let _ = self.shared.flush(held, wanted);
        Flushed::Done
    }

    /// Whether somebody is at it now.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        self.shared.leadership.is_locked()
    }

    /// Everything before it is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.shared.catalog.durable())
    }

    /// The position just past the last record taken, durable or not.
    #[must_use]
    pub fn end(&self) -> Position {
        let end = self.shared.tail.lock().end();
        Position(end.unwrap_or(0).max(self.shared.catalog.durable()))
    }

    /// Longest payload that is taken.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn payload_bytes_max(&self) -> usize {
        self.shared.tail.lock().payload_bytes_max()
    }

    /// A reader of what is durable, now and from now on.
    #[must_use]
    pub fn reader(&self) -> Reader<S> {
        Reader::new(Arc::clone(&self.shared.catalog))
    }

    /// All segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.catalog.infos()
    }

    /// Deletes whole segments of which nothing at or past `position` is left, oldest first, never the ones
    /// being written or set aside. Returns what it deleted. Touches the disk.
    ///
    /// # Errors
    /// Whatever the medium answers; what was deleted before stays deleted.
    pub fn delete_before(&self, position: Position) -> io::Result<Vec<SegmentInfo>> {
        let deleted = self.shared.delete_while(|segment, _| segment.end <= position)?;
        if !deleted.is_empty() {
            self.shared.preallocate_notifier.notify();
        }
        Ok(deleted)
    }

    /// Changes what is deleted on its own, from now on.
    ///
    /// # Errors
    /// [`OpenError::Options`] when it could not hold two segments; nothing changes then.
    pub fn set_retention(&self, retention: Option<Retention>) -> Result<(), OpenError> {
        Options { retention, ..self.shared.options }.check()?;
        *self.shared.retention.lock() = retention;
        self.shared.preallocate_notifier.notify();
        Ok(())
    }

    /// Changes how much there may be on the disk, from now on. Segments that are there already stay until
    /// they are deleted.
    ///
    /// # Errors
    /// [`OpenError::Options`] when it could not hold two segments; nothing changes then.
    pub fn set_limit(&self, limit_bytes: Option<u64>) -> Result<(), OpenError> {
        Options { limit_bytes, ..self.shared.options }.check()?;
        *self.shared.limit_bytes.lock() = limit_bytes;
        self.shared.preallocate_notifier.notify();
        Ok(())
    }

    /// Looks through every full segment at once, as [`Threads`](super::Threads) do in the background, sets
    /// aside those that are damaged, and answers what was not known before. `now_ms` is wall time, in
    /// milliseconds since 1970.
    #[cfg(any(test, feature = "internals"))]
    pub fn check(&self, now_ms: u64) -> Vec<Damage> {
        let mut damages = Vec::new();
        self.shared.check(&mut |_| true, &mut |found| damages.extend(found));
        self.shared.catalog.set_checked(now_ms);
        damages
    }

    /// The same bit by bit: `pace` is told of each piece and says whether to go on, `tell` of what is found.
    pub(super) fn check_paced(
        &self,
        pace: &mut dyn FnMut(usize) -> bool,
        tell: &mut dyn FnMut(Vec<Damage>),
    ) -> bool {
        self.shared.check(pace, tell)
    }

    /// The figures for `status`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let health = self.shared.health.lock().clone();
        Stats::of(&self.shared.catalog, health)
    }

    /// Whether all is well.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn state(&self) -> State {
        self.shared.health.lock().state()
    }
}

/// A segment that may be deleted.
pub(crate) struct Deletable {
    pub(crate) segment: SegmentInfo,
    /// Begin of the one behind it.
    pub(crate) next: Position,
    /// Size of all segments.
    pub(crate) bytes: u64,
}

impl<S: Storage> Shared<S> {
    /// Deletes segments from the oldest on, while `is_old` says so of a segment and the bytes of all that are
    /// left. None that was set aside.
    pub(crate) fn delete_while(
        &self,
        is_old: impl Fn(&SegmentInfo, u64) -> bool,
    ) -> io::Result<Vec<SegmentInfo>> {
        let _housekeeping = self.housekeeping.lock();
        let mut deleted = Vec::new();
        while let Some(Deletable { segment, next, bytes }) = self.deletable() {
            if !is_old(&segment, bytes) {
                break;
            }
            let Some(file) = self.catalog.with_entry(segment.base.0, |entry| entry.file) else { break };
            // Gaps up to there were told of, and what was set aside may be moved away.
            self.catalog.storage.set_oldest(next.0)?;
            self.catalog.storage.delete(file)?;
            self.catalog.remove(file.base);
            deleted.push(segment);
        }
        Ok(deleted)
    }

    /// The oldest segment that may be deleted. The last one always stays: the next segment's position comes
    /// from it. Segments that were set aside stay and do not count: they are all that is left of acknowledged
    /// data.
    pub(crate) fn deletable(&self) -> Option<Deletable> {
        let needed = self.tail.lock().oldest_needed().unwrap_or(u64::MAX);
        let mut infos = self.catalog.infos();
        infos.retain(|info| info.state != SegmentState::SetAside);
        let bytes = infos.iter().map(|info| info.bytes).sum();
        let [segment, next, ..] = infos.as_slice() else { return None };
        let is_needed = segment.base.0 >= needed || segment.end.0 > self.catalog.durable();
        (!is_needed).then_some(Deletable { segment: *segment, next: next.base, bytes })
    }
}
