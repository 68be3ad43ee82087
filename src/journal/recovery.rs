//! Opening: what of the bytes found counts, what was torn, what is damaged.
//!
//! The rules stand in [`layout`](super::layout), under "What can be torn, and what is made of it".
#![forbid(unsafe_code)]

use std::io;

use super::catalog::{Damage, Entry, SegmentState};
use super::direct::{PAGE_BYTES, Pages};
use super::layout::{
    HEADER_BLOCK_BYTES, IndexBuilder, IndexEntry, Position, RecordView, SegmentHeader, Summary, Trailer,
    trailer_room,
};
use super::rescue::{Identity, identify};
use super::scan::{Hole, Step, Survey, Walk, nonzero_end, survey};
use super::storage::{SegmentFile, Storage};

/// Size of one write when a tail is written again or wiped.
const REPAIR_PIECE_BYTES: usize = 256 * 1024;

const MISSING: &str = "what was there is missing";
const UNREADABLE: &str = "nothing in it can be read";
const SHORT: &str = "records before a missing part are damaged";

/// Why a segment could not be made good at the opening.
#[derive(Debug, thiserror::Error)]
#[error("journal segment at position {base}: {doing} failed: {error}")]
pub struct RecoveryError {
    base: u64,
    doing: &'static str,
    error: io::Error,
}

/// The segment that appends go on in.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) end: u64,
    /// The bytes before the end in its page, with which the next write begins.
    pub(crate) head: Vec<u8>,
    pub(crate) builder: IndexBuilder,
}

/// Recovered state of a journal.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) entries: Vec<Entry>,
    /// Set aside and of no use to readers: they overlap with others.
    pub(crate) beside: Vec<SegmentFile>,
    pub(crate) open: Option<OpenSegment>,
    pub(crate) next: Option<SegmentHeader>,
    pub(crate) durable: u64,
    /// End of what was found: less than `durable` when more is remembered.
    pub(crate) end: u64,
    /// No position before it may be given out.
    pub(crate) lowest_next: u64,
    pub(crate) damages: Vec<Damage>,
    /// Bytes of torn batches that were wiped.
    pub(crate) wiped_bytes: u64,
}

/// Facts about the journal that are known before it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Records before it need not be told of.
    pub(crate) from: u64,
    /// Somebody remembers that everything before it was durable.
    pub(crate) remembered: u64,
    /// Length of a segment whose file was cut short, when nothing else tells it.
    pub(crate) segment_bytes: u64,
    /// Nothing may be changed.
    pub(crate) read_only: bool,
}

impl Known {
    /// To read what is there, and be told of no record.
    pub(crate) const READ_ONLY: Self =
        Self { from: u64::MAX, remembered: 0, segment_bytes: 0, read_only: true };
}

struct Found<V> {
    file: SegmentFile,
    view: V,
    /// `None`: nothing in it can be read.
    header: Option<SegmentHeader>,
    /// The flaw in the header, or in the file's length.
    flaw: Option<&'static str>,
    trailer: Option<Trailer>,
    /// Anything was ever written behind the header, as far as the bytes tell.
    used: bool,
    /// Bytes that the segment takes. `None`: only the file's length tells.
    segment_bytes: Option<u64>,
    next_base: u64,
}

impl<V: std::ops::Deref<Target = [u8]>> Found<V> {
    fn read(file: SegmentFile, view: V) -> Self {
        let Identity { header, flaw, bytes: segment_bytes } = identify(file, &view);
        let trailer = header.as_ref().and_then(|header| Trailer::decode(header, &view));
        let body = usize::try_from(HEADER_BLOCK_BYTES).ok().and_then(|at| view.get(at..)).unwrap_or_default();
        let used = trailer.is_some() || nonzero_end(body) > 0;
        Self { file, view, header, flaw, trailer, used, segment_bytes, next_base: file.base }
    }

    /// Whether the file holds less than the segment took.
    fn is_cut(&self) -> bool {
        self.file.base.saturating_add(self.file.bytes) < self.next_base
    }

    /// Position of its first record.
    fn first(&self) -> u64 {
        self.file.base.saturating_add(HEADER_BLOCK_BYTES)
    }
}

/// Sets where each segment ends and the next one begins. A segment of which only the file's length could tell
/// may have been cut short: it is taken to be as long as others are, and ends at the latest at the begin of
/// the next one.
fn set_ends<V>(found: &mut [Found<V>], segment_bytes: u64) {
    let whole = found.iter().filter(|segment| segment.flaw.is_none());
    let usual = whole.filter_map(|segment| segment.segment_bytes).max().unwrap_or(0).max(segment_bytes);
    let (mut next, mut limit) = (u64::MAX, u64::MAX);
    for segment in found.iter_mut().rev() {
        let SegmentFile { base, bytes, .. } = segment.file;
        if base < next {
            limit = std::mem::replace(&mut next, base);
        }
        let end = base.saturating_add(segment.segment_bytes.unwrap_or(bytes.max(usual)));
        let is_sure = segment.segment_bytes.is_some_and(|length| length <= bytes);
        segment.next_base = if is_sure { end } else { end.min(limit) };
    }
}

/// Reads all segments, makes the tail good (unless it may only read) and tells of every record from
/// `known.from` on.
pub(crate) fn recover<S: Storage>(
    storage: &S,
    known: Known,
    on_record: &mut dyn FnMut(RecordView<'_>),
) -> Result<Recovered, RecoveryError> {
    let listing = |error| RecoveryError { base: 0, doing: "listing", error };
    let files = storage.list().map_err(listing)?;
    let noted = storage.missing().map_err(listing)?;
    let oldest = storage.oldest().map_err(listing)?;
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        let view =
            storage.view(file).map_err(|error| RecoveryError { base: file.base, doing: "opening", error })?;
        found.push(Found::read(file, view));
    }
    set_ends(&mut found, known.segment_bytes);
    for segment in &mut found {
        segment.used |= known.remembered > segment.first();
    }
    let last_used = found.iter().rposition(|segment| segment.used);
    let mut recovery = Recovery { storage, known, noted, oldest, on_record, result: Recovered::default() };
    recovery.tell_of_noted();
    let mut has_live = false;
    for (place, segment) in found.iter().enumerate() {
        if recovery.continues(segment, has_live)? {
            let is_followed = last_used.is_some_and(|last| place < last);
            let all_durable = is_followed || known.remembered >= segment.next_base;
            recovery.take(segment, last_used.is_some_and(|last| place <= last), all_durable)?;
        } else {
            let set_aside = segment.file.set_aside || !known.read_only;
            recovery.result.beside.push(SegmentFile { set_aside, ..segment.file });
            recovery.set_aside(segment)?;
        }
        has_live |= !segment.file.set_aside;
    }
    recovery.finish()?;
    Ok(recovery.result)
}

struct Recovery<'a, S> {
    storage: &'a S,
    known: Known,
    /// Ranges that were noted as missing.
    noted: Vec<(u64, u64)>,
    /// Up to where segments may have been deleted as old, if that is known.
    oldest: Option<u64>,
    on_record: &'a mut dyn FnMut(RecordView<'_>),
    result: Recovered,
}

impl<S: Storage> Recovery<'_, S> {
    fn tell_of_noted(&mut self) {
        for (from, to) in self.noted.clone() {
            self.damage(Hole { from, to }, MISSING);
        }
    }

    /// Compares where a segment begins with where the one before it ended. `false`: it overlaps and can't be
    /// used.
    fn continues(&mut self, segment: &Found<S::View>, has_live: bool) -> Result<bool, RecoveryError> {
        let base = segment.file.base;
        let last = self.result.entries.last().map(|last| (last.file.base, last.next_base));
        if let Some((_, expected)) = last.filter(|(before, expected)| base < *expected || base == *before) {
            let hole = Hole { from: base, to: expected };
            self.damage(hole, "a segment begins inside the one before it");
            return Ok(false);
        }
        // Retention deletes the oldest and passes over what was set aside. While it is not known how far that
        // went, only a gap behind a segment that it would have deleted first is surely a loss.
        let from = match (last, self.oldest) {
            (last, Some(oldest)) => last.map_or(oldest, |(_, expected)| expected.max(oldest)),
            (Some((_, expected)), None) if has_live => expected,
            (_, None) => base,
        };
        if base > from {
            self.miss(Hole { from, to: base })?;
        }
        Ok(true)
    }

    /// Tells of positions of which nothing is there, and notes them for later openings.
    fn miss(&mut self, hole: Hole) -> Result<(), RecoveryError> {
        if self.noted.iter().any(|(from, to)| *from <= hole.from && *to >= hole.to) {
            return Ok(());
        }
        self.damage(hole, MISSING);
        if self.known.read_only {
            return Ok(());
        }
        let noting = |error| RecoveryError { base: hole.from, doing: "noting that it is missing", error };
        self.storage.note_missing(hole.from, hole.to).map_err(noting)
    }

    /// Tells of records that lay between the last whole one of a segment and where its rest was noted as
    /// missing: they were whole then. By itself, a segment without a trailer can't be told to be short of
    /// them.
    fn tell_of_short(&mut self) {
        for (from, _) in self.noted.clone() {
            let inside = |entry: &&Entry| (entry.file.base..entry.next_base).contains(&from);
            let Some(end) = self.result.entries.iter().find(inside).map(|entry| entry.end) else { continue };
            let is_told = |damage: &Damage| damage.from.0 <= end && from <= damage.to.0;
            if end < from && !self.result.damages.iter().any(is_told) {
                self.damage(Hole { from: end, to: from }, SHORT);
            }
        }
    }

    /// Once all segments are seen: whether they reach as far as is remembered.
    fn finish(&mut self) -> Result<(), RecoveryError> {
        self.tell_of_short();
        let Known { remembered, .. } = self.known;
        let reach = self.result.entries.last().map_or(0, |entry| entry.next_base);
        let reach = reach.max(self.oldest.unwrap_or(0));
        if remembered > reach {
            self.miss(Hole { from: reach, to: remembered })?;
        }
        let beside = self.result.beside.iter().map(|file| file.base.saturating_add(file.bytes));
        let noted = self.noted.iter().map(|(_, to)| *to);
        self.result.lowest_next = beside.chain(noted).chain([reach, remembered]).max().unwrap_or(0);
        self.result.durable = self.result.durable.max(remembered);
        // The segment that is next holds nothing, but where it begins may be what is remembered.
        let next = self.result.next;
        let is_next = |entry: &&Entry| next.is_some_and(|next| next.base == entry.file.base);
        let filled = self.result.entries.iter().filter(|entry| !is_next(entry));
        let end = filled.map(|entry| entry.end).max().unwrap_or(0);
        let begins_next = next.is_some_and(|next| (next.base..=next.first()).contains(&remembered));
        self.result.end = if remembered > end && !begins_next { end } else { self.result.durable };
        if self.oldest.is_some() || self.known.read_only {
            return Ok(());
        }
        let first = self.result.entries.iter().find(|entry| entry.state != SegmentState::SetAside);
        let oldest = first.map_or(self.result.lowest_next, |entry| entry.file.base);
        let noting = |error| RecoveryError { base: oldest, doing: "noting where the journal begins", error };
        self.storage.set_oldest(oldest).map_err(noting)
    }

    fn take(&mut self, segment: &Found<S::View>, used: bool, all_durable: bool) -> Result<(), RecoveryError> {
        let file = segment.file;
        let Some(header) = segment.header else {
            self.damage(Hole { from: file.base, to: segment.next_base }, segment.flaw.unwrap_or(UNREADABLE));
            let nothing = (file.base, Summary::default(), Vec::new());
            return self.add_set_aside(segment, nothing);
        };
        if let Some(flaw) = segment.flaw
            && !segment.is_cut()
        {
            self.damage(Hole { from: file.base, to: header.first() }, flaw);
        }
        match &segment.trailer {
            _ if !used => self.take_empty(segment, &header),
            Some(trailer) => self.take_sealed(segment, &header, trailer, all_durable),
            None => self.take_unsealed(segment, &header, all_durable),
        }
    }

    /// Adds a segment that is set aside, now or before: where its records end, what they are and their index.
    fn add_set_aside(
        &mut self,
        segment: &Found<S::View>,
        (end, summary, index): (u64, Summary, Vec<IndexEntry>),
    ) -> Result<(), RecoveryError> {
        self.set_aside(segment)?;
        self.result.entries.push(Entry {
            // Its name is what it was when nothing may be changed.
            file: SegmentFile { set_aside: segment.file.set_aside || !self.known.read_only, ..segment.file },
            header: segment.header,
            next_base: segment.next_base,
            state: SegmentState::SetAside,
            end,
            summary,
            index,
        });
        Ok(())
    }

    /// Made ahead and never used: the first one goes on being the next, what is more is deleted.
    fn take_empty(&mut self, segment: &Found<S::View>, header: &SegmentHeader) -> Result<(), RecoveryError> {
        if segment.flaw.is_some() || segment.file.set_aside {
            self.tell_of_cut(segment, header.first());
            return self.add_set_aside(segment, (header.first(), Summary::default(), Vec::new()));
        }
        if self.result.next.is_none() {
            self.result.next = Some(*header);
            self.result.entries.push(Entry::empty(header));
            if self.result.open.is_none() {
                self.result.durable = self.result.durable.max(header.base);
            }
            return Ok(());
        }
        if self.known.read_only {
            return Ok(());
        }
        self.storage.delete(segment.file).map_err(|error| failed(header, "deleting", error))
    }

    /// Tells of what a file that was cut short has lost: everything behind its last record, for all that is
    /// known.
    fn tell_of_cut(&mut self, segment: &Found<S::View>, end: u64) {
        if segment.is_cut() {
            let from = end.min(segment.next_base);
            self.damage(Hole { from, to: segment.next_base }, segment.flaw.unwrap_or(UNREADABLE));
        }
    }

    fn take_sealed(
        &mut self,
        segment: &Found<S::View>,
        header: &SegmentHeader,
        trailer: &Trailer,
        all_durable: bool,
    ) -> Result<(), RecoveryError> {
        if !all_durable && !segment.file.set_aside {
            // Perhaps written by a process that was killed before the sync: make sure of it before going on.
            let from = header.next_base() - (trailer.encode(header).len() as u64);
            self.write_again(segment, header, from, header.next_base(), header.next_base())?;
        }
        let mut state = SegmentState::Sealed;
        if header.next_base() > self.known.from {
            let mut walk = Walk::sealed(header, &segment.view, header.first(), trailer.end);
            while let Some(step) = walk.next() {
                match step {
                    Step::Record(view) => self.tell(view),
                    Step::Hole(hole) => {
                        self.damage(hole, "records are damaged");
                        state = SegmentState::SetAside;
                    }
                }
            }
        }
        self.result.durable = trailer.end;
        if state == SegmentState::SetAside || segment.file.set_aside || segment.flaw.is_some() {
            return self.add_set_aside(segment, (trailer.end, trailer.summary, Vec::new()));
        }
        self.result.entries.push(Entry {
            file: segment.file,
            header: Some(*header),
            next_base: segment.next_base,
            state,
            end: trailer.end,
            summary: trailer.summary,
            index: Vec::new(),
        });
        Ok(())
    }

    fn take_unsealed(
        &mut self,
        segment: &Found<S::View>,
        header: &SegmentHeader,
        all_durable: bool,
    ) -> Result<(), RecoveryError> {
        let is_judged = all_durable || segment.file.set_aside;
        let durable = if is_judged { u64::MAX } else { self.known.remembered };
        let Survey { end, proven, holes, summary, index, builder } = survey(header, &segment.view, durable);
        for hole in &holes {
            self.damage(*hole, "records are damaged");
        }
        // The part that is known to have been there, and is missing.
        let expected = if all_durable { segment.next_base } else { self.known.remembered };
        if segment.is_cut() {
            self.tell_of_cut(segment, end);
        } else if end < expected && !segment.file.set_aside {
            self.miss(Hole { from: end, to: expected })?;
        }
        if !is_judged {
            // One that was set aside was judged and wiped then: nothing is written to it again.
            let torn = usize::try_from(end - header.base).unwrap_or(usize::MAX);
            let torn_bytes = nonzero_end(segment.view.get(torn..).unwrap_or_default()) as u64;
            self.result.wiped_bytes += torn_bytes;
            self.write_again(segment, header, proven, end, end + torn_bytes)?;
        }
        let mut walk = Walk::new(header, &segment.view, header.first(), end);
        while let Some(step) = walk.next() {
            if let Step::Record(view) = step {
                self.tell(view);
            }
        }
        self.result.durable = end;
        let is_whole = holes.is_empty() && segment.flaw.is_none() && end >= self.known.remembered;
        if is_judged || !is_whole {
            return self.add_set_aside(segment, (end, summary, index));
        }
        let offset = usize::try_from(end - header.base).unwrap_or(usize::MAX);
        let head = segment.view.get(offset / PAGE_BYTES * PAGE_BYTES..offset).unwrap_or_default().to_vec();
        self.result.open = Some(OpenSegment { header: *header, end, head, builder });
        self.result.entries.push(Entry {
            file: segment.file,
            header: Some(*header),
            next_base: segment.next_base,
            state: SegmentState::Open,
            end,
            summary,
            index,
        });
        Ok(())
    }

    fn tell(&mut self, view: RecordView<'_>) {
        if view.position.0 >= self.known.from {
            (self.on_record)(view);
        }
    }

    fn damage(&mut self, hole: Hole, what: &'static str) {
        self.result.damages.push(Damage { from: Position(hole.from), to: Position(hole.to), what });
    }

    fn set_aside(&mut self, segment: &Found<S::View>) -> Result<(), RecoveryError> {
        if self.known.read_only || segment.file.set_aside {
            return Ok(());
        }
        let base = segment.file.base;
        self.storage.set_aside(base).map_err(|error| RecoveryError { base, doing: "setting it aside", error })
    }

    /// Writes the pages of `from .. to` again: as they were read before `end`, and zeros from there on. A
    /// process that was killed, or ended by a failed write, may have left pages that look written and are not
    /// on the medium; a sync alone would answer ok for those.
    fn write_again(
        &mut self,
        segment: &Found<S::View>,
        header: &SegmentHeader,
        from: u64,
        end: u64,
        to: u64,
    ) -> Result<(), RecoveryError> {
        if self.known.read_only || from >= to {
            return Ok(());
        }
        let offset = |position: u64| usize::try_from(position - header.base).unwrap_or(usize::MAX);
        let (mut at, end, to) = (offset(from) / PAGE_BYTES * PAGE_BYTES, offset(end), offset(to));
        let repairing = |error| failed(header, "repairing the tail", error);
        let mut pages = Pages::new(REPAIR_PIECE_BYTES).map_err(repairing)?;
        let zeros = vec![0; REPAIR_PIECE_BYTES];
        while at < to {
            let length = (to - at).min(REPAIR_PIECE_BYTES);
            let valid = segment.view.get(at..end.clamp(at, at + length)).unwrap_or_default();
            let piece = pages.fill(0, [valid, &zeros[valid.len()..length]]);
            match self.storage.write_durable(header.base, at as u64, piece) {
                Ok(written) if written == piece.len() => at += written,
                Ok(_) => return Err(repairing(io::ErrorKind::WriteZero.into())),
                Err(error) => return Err(repairing(error)),
            }
        }
        Ok(())
    }
}

fn failed(header: &SegmentHeader, doing: &'static str, error: io::Error) -> RecoveryError {
    RecoveryError { base: header.base, doing, error }
}

const _: () = assert!(super::layout::SEGMENT_BYTES_MIN > 2 * HEADER_BLOCK_BYTES);

/// Bytes of a segment that records can use.
pub(crate) fn records_room(segment_bytes: u64) -> u64 {
    segment_bytes - HEADER_BLOCK_BYTES - trailer_room(segment_bytes)
}
