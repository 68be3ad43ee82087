//! The journal without its threads: what appenders touch, the segments, and the rule by which they are
//! deleted.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::catalog::{Catalog, SegmentInfo, SegmentState};
use super::layout::{Position, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use super::recovery::RecoveryError;
use super::status::Health;
use super::storage::Storage;
use super::tail::Tail;
use crate::sync::Mutex;

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
    /// [`Journal::delete_before`](super::Journal::delete_before).
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

    pub(crate) fn check(&self) -> Result<(), OpenError> {
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

/// State of an open journal. It knows nothing of those who flush it, or of any thread.
pub(crate) struct Core<S: Storage> {
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
    /// Held while files are made or deleted, so that only one of those who may is at it.
    pub(crate) housekeeping: Mutex<()>,
}

/// A segment that may be deleted.
pub(crate) struct Deletable {
    pub(crate) segment: SegmentInfo,
    /// Begin of the one behind it.
    pub(crate) next: Position,
    /// Size of all segments.
    pub(crate) bytes: u64,
}

impl<S: Storage> Core<S> {
    /// The position just past the last record taken, durable or not.
    pub(crate) fn end(&self) -> Position {
        let end = self.tail.lock().end();
        Position(end.unwrap_or(0).max(self.catalog.durable()))
    }

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
