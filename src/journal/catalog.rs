//! The segments as readers, `status` and retention know them: shared by all who hold the journal.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::layout::{IndexEntry, Position, SegmentHeader, Summary};
use super::recovery::Recovered;
use super::storage::SegmentFile;
use crate::sync::{AtomicU64, Mutex};

/// Most damages that are remembered of what is found while the journal runs, in places. The segments are set
/// aside all the same.
const DAMAGES_MAX: usize = 4096;

/// State of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// Records are being appended to it, or will be.
    Open,
    /// Full, with its trailer.
    Sealed,
    /// Acknowledged data in it is damaged; nothing is written to it again.
    SetAside,
}

/// A segment, as `status` and retention see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Position of its first byte.
    pub base: Position,
    /// The position just past its last durable record.
    pub end: Position,
    /// Length of its file.
    pub bytes: u64,
    /// Its state.
    pub state: SegmentState,
    /// Count and times of its durable records.
    pub summary: Summary,
}

/// Acknowledged data that is not there any more, or stands in a place that can't be trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The first position without a valid record.
    pub from: Position,
    /// Position at which valid records begin again, or had to reach.
    pub to: Position,
    /// The kind of damage.
    pub what: &'static str,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "damage from position {} to {}: {}", self.from, self.to, self.what)
    }
}

/// A segment that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) file: SegmentFile,
    /// `None`: the header is damaged and could not be found again, so nothing in it can be read.
    pub(crate) header: Option<SegmentHeader>,
    /// The earliest position at which the next segment can begin: the file may have been cut short.
    pub(crate) next_base: u64,
    pub(crate) state: SegmentState,
    /// The position just past the last durable record.
    pub(crate) end: u64,
    pub(crate) summary: Summary,
    /// The sparse index, kept in memory only while there is no trailer to read it from.
    pub(crate) index: Vec<IndexEntry>,
}

impl Entry {
    pub(crate) fn empty(header: &SegmentHeader) -> Self {
        Self {
            file: SegmentFile { base: header.base, bytes: header.bytes, set_aside: false },
            header: Some(*header),
            next_base: header.next_base(),
            state: SegmentState::Open,
            end: header.first(),
            summary: Summary::default(),
            index: Vec::new(),
        }
    }

    pub(crate) fn info(&self) -> SegmentInfo {
        SegmentInfo {
            base: Position(self.file.base),
            end: Position(self.end),
            bytes: self.file.bytes,
            state: self.state,
            summary: self.summary,
        }
    }
}

/// The segments, in order, and how far they are durable.
pub(crate) struct Catalog<S> {
    pub(crate) storage: Arc<S>,
    /// Everything before it is durable. Written by the flusher alone, after the catalog's entry.
    durable: AtomicU64,
    entries: Mutex<Vec<Entry>>,
    /// Set aside and not to be read.
    beside: Vec<SegmentFile>,
    damages: Mutex<Vec<Damage>>,
    checked_ms: AtomicU64,
}

impl<S> Catalog<S> {
    pub(crate) fn new(storage: Arc<S>, found: Recovered) -> Self {
        let Recovered { durable, entries, beside, damages, .. } = found;
        let durable = AtomicU64::new(durable);
        let (entries, damages) = (Mutex::new(entries), Mutex::new(damages));
        Self { storage, durable, entries, beside, damages, checked_ms: AtomicU64::new(0) }
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Tells readers of records that became durable in the segment at `base`, then of the new durable
    /// position.
    pub(crate) fn publish(&self, base: u64, end: u64, summary: &Summary, index: &[IndexEntry]) {
        self.with_entry(base, |entry| {
            entry.end = end;
            entry.summary.merge(summary);
            entry.index.extend_from_slice(index);
        });
        self.durable.store(end, Ordering::Release);
    }

    /// Changes the entry at `base`, if it is still there.
    pub(crate) fn with_entry<R>(&self, base: u64, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let mut entries = self.entries.lock();
        let place = entries.binary_search_by_key(&base, |entry| entry.file.base).ok()?;
        entries.get_mut(place).map(change)
    }

    pub(crate) fn add(&self, entry: Entry) {
        self.entries.lock().push(entry);
    }

    pub(crate) fn remove(&self, base: u64) {
        self.entries.lock().retain(|entry| entry.file.base != base);
    }

    pub(crate) fn infos(&self) -> Vec<SegmentInfo> {
        self.entries.lock().iter().map(Entry::info).collect()
    }

    pub(crate) fn damages(&self) -> Vec<Damage> {
        self.damages.lock().clone()
    }

    /// The files that were set aside: their number, and their bytes.
    pub(crate) fn set_aside(&self) -> (usize, u64) {
        let entries = self.entries.lock();
        let files = entries.iter().map(|entry| &entry.file).chain(&self.beside).filter(|file| file.set_aside);
        files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.bytes))
    }

    /// Adds what is not known yet, and answers that.
    pub(crate) fn add_damages(&self, found: Vec<Damage>) -> Vec<Damage> {
        let mut damages = self.damages.lock();
        let is_new = |damage: &Damage| {
            let lies_in = |known: &Damage| known.from <= damage.from && damage.to <= known.to;
            !damages.iter().any(lies_in)
        };
        let new: Vec<Damage> = found.into_iter().filter(is_new).collect();
        let room = DAMAGES_MAX.saturating_sub(damages.len());
        damages.extend(new.iter().take(room).cloned());
        damages.sort_by_key(|damage| damage.from);
        new
    }

    /// When all segments were last looked through, in milliseconds since 1970; 0: not since the start.
    pub(crate) fn checked_ms(&self) -> u64 {
        self.checked_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_checked(&self, now_ms: u64) {
        self.checked_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The first segment that reaches beyond `position`.
    pub(crate) fn at_or_after(&self, position: u64) -> Option<Entry> {
        self.entries.lock().iter().find(|entry| entry.next_base > position).cloned()
    }

    /// The last segment that begins before `position`.
    pub(crate) fn before(&self, position: u64) -> Option<Entry> {
        self.entries.lock().iter().rev().find(|entry| entry.file.base < position).cloned()
    }

    /// End of the last segment; 0 when there is none.
    pub(crate) fn next_base(&self) -> u64 {
        self.entries.lock().last().map_or(0, |last| last.next_base)
    }

    /// The oldest segment.
    pub(crate) fn oldest(&self) -> Option<Entry> {
        self.entries.lock().first().cloned()
    }
}
