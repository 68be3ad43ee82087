//! The journal as its users hold it: append, ask, read.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::catalog::{Catalog, Damage, SegmentInfo};
use super::core::{Core, OpenError, Options, Retention};
use super::files::FileStorage;
use super::layout::{Position, Record, RecordView};
use super::leader::{Flusher, Leader};
use super::preallocator::Preallocator;
use super::reader::Reader;
use super::recovery::{Known, records_room, recover};
use super::region;
use super::status::{Health, State, Stats};
use super::storage::Storage;
use super::tail::{AppendError, Tail};
use super::tail_writer::TailWriter;
use crate::machine::commit_delay::Flushed;
use crate::sync::Mutex;

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

/// A journal that is open for appending. Cheap to clone; every clone is the same journal.
pub struct Journal<S: Storage = FileStorage> {
    core: Arc<Core<S>>,
    pub(super) leader: Arc<Leader<S>>,
}

impl<S: Storage> Clone for Journal<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), leader: Arc::clone(&self.leader) }
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
        let core = Arc::new(Core {
            tail: Mutex::new(Tail::new(producer, open, next, room)),
            catalog,
            health: Mutex::new(Health::default()),
            options,
            lowest_next,
            retention: Mutex::new(options.retention),
            limit_bytes: Mutex::new(options.limit_bytes),
            housekeeping: Mutex::new(()),
        });
        let writer = TailWriter::new(Arc::clone(&core), consumer, &head).map_err(OpenError::Window)?;
        let leader = Arc::new(Leader::new(Arc::clone(&core), writer));
        let mut preallocator = Preallocator::new(Arc::clone(&core));
        if !has_segment {
            preallocator.preallocate_once(now_ms);
        }
        let flusher = Flusher { leader: Arc::clone(&leader) };
        Ok(Opened { journal: Self { core, leader }, flusher, preallocator, recovery })
    }

    /// Takes a record: copies it into the mapped tail, with its CRC, and never touches the disk. Returns the
    /// position just past it: it is durable, and may be acknowledged, once [`durable`](Self::durable) has
    /// reached that. The caller notifies ([`notify`](Self::notify)) when it has appended all it had.
    ///
    /// # Errors
    /// [`AppendError`]; the record was not taken.
    pub fn append(&self, record: &Record<'_>) -> Result<Position, AppendError> {
        let durable = self.core.catalog.durable();
        let result = self.core.tail.lock().append(record, durable);
        match result {
            Ok((end, began_segment)) => {
                if began_segment {
                    self.leader.preallocate.notify();
                }
                Ok(Position(end))
            }
            Err(error) => {
                if matches!(error, AppendError::NoRoom(_)) {
                    self.leader.flush.notify();
                }
                Err(error)
            }
        }
    }

    /// Wakes the flusher. Costs one atomic exchange while the flusher is awake already.
    pub fn notify(&self) {
        self.leader.flush.notify();
    }

    /// Flushes on this thread, for one that has appended and would only wait. Never waits for others: see
    /// [`Flushed`]. When it is not done here, call [`notify`](Self::notify).
    pub fn flush_here(&self) -> Flushed {
        self.leader.flush_here()
    }

    /// Whether somebody is at it now.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        self.leader.is_flushing()
    }

    /// Everything before it is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.core.catalog.durable())
    }

    /// The position just past the last record taken, durable or not.
    #[must_use]
    pub fn end(&self) -> Position {
        self.core.end()
    }

    /// Longest payload that is taken.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn payload_bytes_max(&self) -> usize {
        self.core.tail.lock().payload_bytes_max()
    }

    /// A reader of what is durable, now and from now on.
    #[must_use]
    pub fn reader(&self) -> Reader<S> {
        Reader::new(Arc::clone(&self.core.catalog))
    }

    /// All segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.core.catalog.infos()
    }

    /// Deletes whole segments of which nothing at or past `position` is left, oldest first, never the ones
    /// being written or set aside. Returns what it deleted. Touches the disk.
    ///
    /// # Errors
    /// Whatever the medium answers; what was deleted before stays deleted.
    pub fn delete_before(&self, position: Position) -> io::Result<Vec<SegmentInfo>> {
        let deleted = self.core.delete_while(|segment, _| segment.end <= position)?;
        if !deleted.is_empty() {
            self.leader.preallocate.notify();
        }
        Ok(deleted)
    }

    /// Changes what is deleted on its own, from now on.
    ///
    /// # Errors
    /// [`OpenError::Options`] when it could not hold two segments; nothing changes then.
    pub fn set_retention(&self, retention: Option<Retention>) -> Result<(), OpenError> {
        Options { retention, ..self.core.options }.check()?;
        *self.core.retention.lock() = retention;
        self.leader.preallocate.notify();
        Ok(())
    }

    /// Changes how much there may be on the disk, from now on. Segments that are there already stay until
    /// they are deleted.
    ///
    /// # Errors
    /// [`OpenError::Options`] when it could not hold two segments; nothing changes then.
    pub fn set_limit(&self, limit_bytes: Option<u64>) -> Result<(), OpenError> {
        Options { limit_bytes, ..self.core.options }.check()?;
        *self.core.limit_bytes.lock() = limit_bytes;
        self.leader.preallocate.notify();
        Ok(())
    }

    /// Looks through every full segment at once, as [`Threads`](super::Threads) do in the background, sets
    /// aside those that are damaged, and answers what was not known before. `now_ms` is wall time, in
    /// milliseconds since 1970.
    #[cfg(any(test, feature = "internals"))]
    pub fn check(&self, now_ms: u64) -> Vec<Damage> {
        let mut damages = Vec::new();
        self.core.check(&mut |_| true, &mut |found| damages.extend(found));
        self.core.catalog.set_checked(now_ms);
        damages
    }

    /// The same bit by bit: `pace` is told of each piece and says whether to go on, `tell` of what is found.
    pub(super) fn check_paced(
        &self,
        pace: &mut dyn FnMut(usize) -> bool,
        tell: &mut dyn FnMut(Vec<Damage>),
    ) -> bool {
        self.core.check(pace, tell)
    }

    /// The figures for `status`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let health = self.core.health.lock().clone();
        Stats::of(&self.core.catalog, health)
    }

    /// Whether all is well.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn state(&self) -> State {
        self.core.health.lock().state()
    }
}
