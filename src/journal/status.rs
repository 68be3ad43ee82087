//! The figures of a journal, as `status` shows them, and its news.
#![forbid(unsafe_code)]

use std::io;

use super::archiver::ArchiveTrouble;
use super::catalog::{Catalog, Damage, SegmentInfo, SegmentState};
use super::layout::Position;
use super::tail_writer::FlushError;

/// Since when, and why, the next segment can't be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WithoutRoom {
    /// Wall time of the first attempt that failed, in milliseconds since 1970.
    pub since_ms: u64,
    /// The full disk or limit, and the remedy.
    pub why: String,
}

/// Whether all is well with a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Yes.
    Ok,
    /// The next segment can't be made. Appends go on while the current one has room, then they are refused,
    /// until there is room again.
    NoRoom(WithoutRoom),
    /// A write failed; nothing is appended any more, and the process must end.
    Failed(String),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    pub(crate) failed: Option<String>,
    pub(crate) no_room: Option<WithoutRoom>,
}

impl Health {
    pub(crate) fn state(&self) -> State {
        match (&self.failed, &self.no_room) {
            (Some(why), _) => State::Failed(why.clone()),
            (None, Some(no_room)) => State::NoRoom(no_room.clone()),
            (None, None) => State::Ok,
        }
    }
}

/// A journal at a glance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Whether all is well.
    pub state: State,
    /// Bytes on disk, segments made ahead included, those that were set aside not.
    pub bytes: u64,
    /// Segments, count, the ones made ahead and set aside included.
    pub segments: usize,
    /// Segments that were set aside, count.
    pub set_aside: usize,
    /// Size of those. No rule deletes them, and no limit counts them.
    pub set_aside_bytes: u64,
    /// Durable records, count.
    pub records: u64,
    /// Begin of the oldest segment.
    pub oldest: Position,
    /// Wall time of the earliest record, in milliseconds since 1970. `None`: there are no records.
    pub oldest_ms: Option<u64>,
    /// Everything before it is durable.
    pub durable: Position,
    /// Wall time of the latest record, in milliseconds since 1970. `None`: there are no records.
    pub newest_ms: Option<u64>,
    /// Acknowledged data found damaged at the opening or since.
    pub damages: Vec<Damage>,
    /// When all full segments were last looked through, in milliseconds since 1970. `None`: not since the
    /// start.
    pub checked_ms: Option<u64>,
}

impl Stats {
    #[expect(clippy::needless_pass_by_value, reason = "a copy made for this call, taken out of its lock")]
    pub(crate) fn of<S>(catalog: &Catalog<S>, health: Health) -> Self {
        let infos = catalog.infos();
        let (set_aside, set_aside_bytes) = catalog.set_aside();
        let filled = || infos.iter().filter(|info| info.summary.records > 0);
        let counted = infos.iter().filter(|info| info.state != SegmentState::SetAside);
        Self {
            state: health.state(),
            bytes: counted.map(|info| info.bytes).sum(),
            segments: infos.len(),
            set_aside,
            set_aside_bytes,
            records: infos.iter().map(|info| info.summary.records).sum(),
            oldest: infos.first().map_or(Position(0), |info| info.base),
            oldest_ms: filled().map(|info| info.summary.earliest_ms).min(),
            durable: Position(catalog.durable()),
            newest_ms: filled().map(|info| info.summary.latest_ms).max(),
            damages: catalog.damages(),
            checked_ms: Some(catalog.checked_ms()).filter(|ms| *ms > 0),
        }
    }
}

/// News from a journal's threads, and from those that flush for them, each from its own thread. The receiver
/// must not wait there.
#[derive(Debug)]
pub enum Notice {
    /// Everything before it is durable now: release the acknowledgements. Of two who flush one after the
    /// other the second may be the first to tell.
    Durable(Position),
    /// A write failed, or a thread panicked. Nothing is made durable any more: end the process.
    Failed(FlushError),
    /// There is no room for the next segment; why. Told once, until there is room again.
    NoRoom(String),
    /// There is room again: what was refused may be tried again.
    RoomAgain,
    /// Retention deleted these segments.
    Deleted(Vec<SegmentInfo>),
    /// Retention could not delete; tried again later.
    NotDeleted(io::Error),
    /// The archive does not take records. Told once, until it does again.
    Archive(ArchiveTrouble),
    /// Segments that were full and whole are damaged, and were set aside.
    Damaged(Vec<Damage>),
}
