//! Looks ahead: makes the next segment before it is needed, and deletes what retention lets go.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::age::old_segments;
use super::archive::Archive;
use super::archiver::{ArchiveTrouble, Archiver, Copied};
use super::catalog::{Entry, SegmentInfo, SegmentState};
use super::core::{Core, Deletable};
use super::layout::SegmentHeader;
use super::reader::Reader;
use super::status::WithoutRoom;
use super::storage::Storage;
use crate::machine::wall_clock::AgeTime;
use crate::wire::time::WallTime;

/// Longest time for which records are copied into an archive before the next segment is made, or segments are
/// deleted uncopied: a segment of 64 MiB full of what is wanted takes a disk of 13 MiB/s as long.
const COPY_TIME_MAX: Duration = Duration::from_secs(5);

/// Outcome of [`Preallocator::preallocate_once`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Preallocated {
    /// The next segment was there already.
    Ready,
    /// It made the next segment.
    Made,
    /// There is no room for it, or the medium refused; why. Try again later.
    NoRoom(String),
}

/// The one that makes segments ahead. There is one for each journal.
pub struct Preallocator<S: Storage> {
    core: Arc<Core<S>>,
    clock: Box<dyn Fn() -> AgeTime + Send>,
    archiver: Option<Box<Archiver<S>>>,
}

/// Outcome of a turn of the preallocator.
pub(crate) struct Turn {
    pub(crate) deleted: io::Result<Vec<SegmentInfo>>,
    pub(crate) preallocated: Preallocated,
    pub(crate) trouble: Option<ArchiveTrouble>,
    /// A segment that retention lets go waits for the archive.
    pub(crate) is_waiting: bool,
}

impl<S: Storage> Preallocator<S> {
    pub(crate) fn new(core: Arc<Core<S>>) -> Self {
        Self { core, clock: Box::new(system_time), archiver: None }
    }

    /// Goes by this clock instead of the system's when it works on a [thread](super::Threads::spawn).
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> AgeTime + Send + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// Copies what the archiver wants of a segment into its archive before the segment is deleted. While that
    /// does not work, the segment waits as long as [`Retention::bytes`](super::Retention::bytes) allows; then
    /// it is deleted all the same, one for each that is made: new records go first.
    #[must_use]
    pub fn with_archiver(self, archiver: Archiver<S>) -> Self {
        Self { archiver: Some(Box::new(archiver)), ..self }
    }

    /// The archive that it copies into.
    pub(super) fn archive(&self) -> Option<Archive<S>> {
        self.archiver.as_ref().map(|archiver| archiver.archive())
    }

    /// Makes the next segment, if it is not there: zero-filled and synced, so that a full disk shows here and
    /// not in an append. `now_ms` (wall time, milliseconds since 1970) is what `status` shows as the
    /// beginning of a full disk.
    pub fn preallocate_once(&mut self, now_ms: u64) -> Preallocated {
        self.preallocate(now_ms, &mut |_| {})
    }

    fn preallocate(&mut self, now_ms: u64, pace: &mut dyn FnMut(u64)) -> Preallocated {
        if !self.core.tail.lock().wants_next() {
            return Preallocated::Ready;
        }
        let _housekeeping = self.core.housekeeping.lock();
        match self.make_next(pace) {
            Ok(header) => {
                self.core.catalog.add(Entry::empty(&header));
                self.core.tail.lock().give_next(header);
                self.core.health.lock().no_room = None;
                Preallocated::Made
            }
            Err(why) => {
                self.core.tail.lock().set_full();
                let mut health = self.core.health.lock();
                let since_ms = health.no_room.as_ref().map_or(now_ms, |no_room| no_room.since_ms);
                health.no_room = Some(WithoutRoom { since_ms, why: why.clone() });
                Preallocated::NoRoom(why)
            }
        }
    }

    fn make_next(&self, pace: &mut dyn FnMut(u64)) -> Result<SegmentHeader, String> {
        let options = &self.core.options;
        let catalog = &self.core.catalog;
        let infos = catalog.infos();
        let bytes = options.segment_bytes;
        let counts = |info: &&SegmentInfo| info.state != SegmentState::SetAside;
        let used: u64 = infos.iter().filter(counts).map(|info| info.bytes).sum();
        let limit = *self.core.limit_bytes.lock();
        if let Some(limit) = limit
            && used + bytes > limit
        {
            return Err(format!("the journal's limit of {limit} bytes is used up: {used} bytes in segments"));
        }
        let medium = |error: io::Error| format!("the next segment can't be made: {error}");
        let free = catalog.storage.free_bytes().map_err(medium)?;
        if free < bytes.saturating_add(options.keep_free_bytes) {
            let aside = match catalog.set_aside() {
                (0, _) => String::new(),
                (count, bytes) => format!(
                    " ({count} damaged segments that were set aside hold {bytes} bytes: move them away)"
                ),
            };
            return Err(format!(
                "the disk is full: {free} bytes free, a segment takes {bytes} and {} are kept free: make room{aside}",
                options.keep_free_bytes
            ));
        }
        // Rounded up, because a damaged file may have any length.
        let lowest = catalog.next_base().max(self.core.lowest_next);
        let base = lowest
            .checked_next_multiple_of(4096)
            .filter(|base| base.checked_add(bytes).is_some())
            .ok_or("no positions are left: a segment file has an impossible name; move it away")?;
        let epoch = catalog.storage.random().map_err(medium)?;
        let header = SegmentHeader { epoch, base, bytes };
        catalog.storage.create(&header, pace).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("the disk is full: {error}: make room")
            }
            _ => medium(error),
        })?;
        Ok(header)
    }

    /// Deletes the segments that [`Retention`](super::Retention) lets go at a wall time that is believed, and
    /// returns them. Nothing without a retention.
    ///
    /// # Errors
    /// Whatever the medium answers; what was deleted before stays deleted.
    #[cfg(any(test, feature = "internals"))]
    pub fn retain_once(&mut self, now_ms: u64) -> io::Result<Vec<SegmentInfo>> {
        self.retain(AgeTime { wall: WallTime(now_ms), may_expire: true })
    }

    /// The same, and nothing for its age when the clock is not to be believed.
    ///
    /// # Errors
    /// As [`retain_once`](Self::retain_once).
    pub fn retain(&mut self, now: AgeTime) -> io::Result<Vec<SegmentInfo>> {
        self.retain_unless(now, &|| false).0
    }

    /// The same until it is told to stop. Whether segments wait to be copied, too.
    fn retain_unless(
        &mut self,
        now: AgeTime,
        is_stopping: &dyn Fn() -> bool,
    ) -> (io::Result<Vec<SegmentInfo>>, bool) {
        let mut deleted = Vec::new();
        if let Some(archiver) = &mut self.archiver {
            archiver.retain(now);
        }
        let retention = *self.core.retention.lock();
        let Some(retention) = retention else { return (Ok(deleted), false) };
        let wants_next = self.core.tail.lock().wants_next();
        let next = if wants_next { self.core.options.segment_bytes } else { 0 };
        let age_ms = retention.age_ms.filter(|_| now.may_expire);
        let old =
            age_ms.map_or(Vec::new(), |age_ms| old_segments(&self.core.catalog.infos(), age_ms, now.wall.0));
        let since = Instant::now();
        let may_go_on = || since.elapsed() < COPY_TIME_MAX && !is_stopping();
        while let Some(Deletable { segment, bytes, .. }) = self.core.deletable() {
            let is_over = bytes + next > retention.bytes;
            if !is_over && old.binary_search(&segment.base.0).is_err() {
                break;
            }
            let is_copied = self.copy(&segment, now, &may_go_on);
            if !is_copied && (!is_over || !wants_next || is_stopping()) {
                return (Ok(deleted), true);
            }
            match self.core.delete_while(|info, _| info.base == segment.base) {
                Ok(gone) if gone.is_empty() => break,
                Ok(gone) => deleted.extend(gone),
                Err(error) => return (Err(error), false),
            }
            if !is_copied {
                self.archiver.iter_mut().for_each(|archiver| archiver.note_lost());
                return (Ok(deleted), true);
            }
        }
        (Ok(deleted), false)
    }

    /// Whether everything that is wanted of a segment is in the archive.
    fn copy(&mut self, segment: &SegmentInfo, now: AgeTime, may_go_on: &dyn Fn() -> bool) -> bool {
        let Some(archiver) = &mut self.archiver else { return true };
        let reader = Reader::new(Arc::clone(&self.core.catalog));
        matches!(archiver.copy(&reader, segment, now, may_go_on), Ok(Copied::All))
    }

    /// Copies what will be deleted when the next segment is begun, so that nothing waits for it then.
    fn copy_ahead(&mut self, now: AgeTime, is_stopping: &dyn Fn() -> bool) {
        let retention = *self.core.retention.lock();
        let (Some(retention), Some(_)) = (retention, &self.archiver) else { return };
        let mut segments = self.core.catalog.infos();
        segments.retain(|segment| segment.state != SegmentState::SetAside);
        let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let core = Arc::clone(&self.core);
        let may_go_on = || !core.tail.lock().wants_next() && !is_stopping();
        for segment in segments.iter().filter(|segment| segment.state == SegmentState::Sealed) {
            let is_next = bytes + self.core.options.segment_bytes > retention.bytes;
            if !is_next || !may_go_on() || !self.copy(segment, now, &may_go_on) {
                return;
            }
            bytes -= segment.bytes;
        }
    }

    /// Does both, room first; `pace` is told of each piece of the next segment ([`Storage::create`]).
    pub(crate) fn turn(&mut self, pace: &mut dyn FnMut(u64), is_stopping: &dyn Fn() -> bool) -> Turn {
        let now = (self.clock)();
        let (deleted, is_waiting) = self.retain_unless(now, is_stopping);
        let preallocated = self.preallocate(now.wall.0, pace);
        self.copy_ahead(now, is_stopping);
        let trouble = self.archiver.as_mut().and_then(|archiver| archiver.trouble());
        Turn { deleted, preallocated, trouble, is_waiting }
    }
}

/// The system's wall clock, believed.
pub(crate) fn system_time() -> AgeTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    AgeTime { wall: WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)), may_expire: true }
}
