//! Opening: what of the bytes found counts, what was torn, what is damaged.
//!
//! The rules stand in [`layout`](super::layout), under "What can be torn, and what is made of it".
#![forbid(unsafe_code)]

use std::io;

use super::catalog::{Damage, Entry, SegmentState};
use super::direct::PAGE_BYTES;
use super::layout::{
    HEADER_BLOCK_BYTES, IndexBuilder, Position, RecordView, SegmentHeader, Trailer, trailer_room,
};
use super::pages::Pages;
use super::scan::{Hole, Step, Survey, Walk, nonzero_end, survey};
use super::storage::{SegmentFile, Storage};

/// What is written in one piece when a tail is written again or wiped, in bytes.
const REPAIR_PIECE_BYTES: usize = 256 * 1024;

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
    /// What stands before the end in its page, which the next write begins with again.
    pub(crate) head: Vec<u8>,
    pub(crate) builder: IndexBuilder,
}

/// What was found, and made good.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) entries: Vec<Entry>,
    pub(crate) open: Option<OpenSegment>,
    pub(crate) next: Option<SegmentHeader>,
    pub(crate) durable: u64,
    pub(crate) damages: Vec<Damage>,
    /// Bytes of torn batches that were wiped.
    pub(crate) wiped_bytes: u64,
}

struct Found<V> {
    file: SegmentFile,
    view: V,
    header: Result<SegmentHeader, &'static str>,
    trailer: Option<Trailer>,
    /// Anything was ever written behind the header, as far as the bytes tell.
    used: bool,
}

impl<V: std::ops::Deref<Target = [u8]>> Found<V> {
    fn read(file: SegmentFile, view: V) -> Self {
        let header = SegmentHeader::decode(&view).and_then(|header| {
            let fits = header.base == file.base && header.bytes == view.len() as u64;
            fits.then_some(header).ok_or("header is another segment's")
        });
        let trailer = header.as_ref().ok().and_then(|header| Trailer::decode(header, &view));
        let body = usize::try_from(HEADER_BLOCK_BYTES).ok().and_then(|at| view.get(at..)).unwrap_or_default();
        // A segment whose header is damaged had one once; whether it was used is unknown, so assume it.
        let used = trailer.is_some() || header.is_err() || nonzero_end(body) > 0;
        Self { file, view, header, trailer, used }
    }
}

/// Reads all segments, makes the tail good (unless `read_only`) and tells of every record from `from` on.
pub(crate) fn recover<S: Storage>(
    storage: &S,
    from: Position,
    read_only: bool,
    on_record: &mut dyn FnMut(RecordView<'_>),
) -> Result<Recovered, RecoveryError> {
    let files = storage.list().map_err(|error| RecoveryError { base: 0, doing: "listing", error })?;
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        let view =
            storage.view(file).map_err(|error| RecoveryError { base: file.base, doing: "opening", error })?;
        found.push(Found::read(file, view));
    }
    let last_used = found.iter().rposition(|segment| segment.used);
    let mut recovery = Recovery { storage, from: from.0, read_only, on_record, result: Recovered::default() };
    for (place, segment) in found.iter().enumerate() {
        if recovery.continues(segment) {
            let all_durable = last_used.is_some_and(|last| place < last);
            recovery.take(segment, last_used.is_some_and(|last| place <= last), all_durable)?;
        } else {
            recovery.set_aside(segment)?;
        }
    }
    Ok(recovery.result)
}

struct Recovery<'a, S> {
    storage: &'a S,
    from: u64,
    read_only: bool,
    on_record: &'a mut dyn FnMut(RecordView<'_>),
    result: Recovered,
}

impl<S: Storage> Recovery<'_, S> {
    /// Compares where a segment begins with where the one before it ended. `false`: it overlaps and can't be used.
    fn continues(&mut self, segment: &Found<S::View>) -> bool {
        let base = segment.file.base;
        let Some(expected) = self.result.entries.last().map(Entry::next_base) else { return true };
        if base > expected {
            self.damage(Hole { from: expected, to: base }, "a segment is missing");
        } else if base < expected {
            let hole = Hole { from: base, to: expected };
            self.damage(hole, "a segment begins inside the one before it");
        }
        base >= expected
    }

    fn take(&mut self, segment: &Found<S::View>, used: bool, all_durable: bool) -> Result<(), RecoveryError> {
        let header = match &segment.header {
            Ok(header) => *header,
            Err(what) => {
                let file = segment.file;
                self.damage(Hole { from: file.base, to: file.base.saturating_add(file.bytes) }, what);
                let set_aside = SegmentFile { set_aside: true, ..file };
                self.result.entries.push(Entry {
                    file: set_aside,
                    header: None,
                    state: SegmentState::SetAside,
                    end: file.base,
                    summary: super::layout::Summary::default(),
                    index: Vec::new(),
                });
                return self.set_aside(segment);
            }
        };
        match &segment.trailer {
            _ if !used => self.take_empty(segment, &header),
            Some(trailer) => self.take_sealed(segment, &header, trailer, all_durable),
            None => self.take_unsealed(segment, &header, all_durable),
        }
    }

    /// Made ahead and never used: the first one goes on being the next, what is more is deleted.
    fn take_empty(&mut self, segment: &Found<S::View>, header: &SegmentHeader) -> Result<(), RecoveryError> {
        if self.result.next.is_none() {
            self.result.next = Some(*header);
            self.result.entries.push(Entry::empty(header));
            if self.result.open.is_none() {
                self.result.durable = self.result.durable.max(header.base);
            }
            return Ok(());
        }
        if self.read_only {
            return Ok(());
        }
        self.storage.delete(segment.file).map_err(|error| failed(header, "deleting", error))
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
        if header.next_base() > self.from {
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
        if state == SegmentState::SetAside || segment.file.set_aside {
            state = SegmentState::SetAside;
            self.set_aside(segment)?;
        }
        self.result.durable = trailer.end;
        self.result.entries.push(Entry {
            file: SegmentFile { set_aside: state == SegmentState::SetAside, ..segment.file },
            header: Some(*header),
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
        let Survey { end, proven, holes, summary, index, builder } =
            survey(header, &segment.view, all_durable || segment.file.set_aside);
        for hole in &holes {
            self.damage(*hole, "records are damaged");
        }
        if segment.file.set_aside {
            // Judged and wiped when it was set aside: nothing is written to it again.
        } else if all_durable {
            let hole = Hole { from: end, to: header.next_base() };
            self.damage(hole, "the end of the segment is damaged");
        } else {
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
        let set_aside = segment.file.set_aside || all_durable || !holes.is_empty();
        if set_aside {
            self.set_aside(segment)?;
        } else {
            let offset = usize::try_from(end - header.base).unwrap_or(usize::MAX);
            let head =
                segment.view.get(offset / PAGE_BYTES * PAGE_BYTES..offset).unwrap_or_default().to_vec();
            self.result.open = Some(OpenSegment { header: *header, end, head, builder });
        }
        self.result.durable = end;
        self.result.entries.push(Entry {
            file: SegmentFile { set_aside, ..segment.file },
            header: Some(*header),
            state: if set_aside { SegmentState::SetAside } else { SegmentState::Open },
            end,
            summary,
            index,
        });
        Ok(())
    }

    fn tell(&mut self, view: RecordView<'_>) {
        if view.position.0 >= self.from {
            (self.on_record)(view);
        }
    }

    fn damage(&mut self, hole: Hole, what: &'static str) {
        self.result.damages.push(Damage { from: Position(hole.from), to: Position(hole.to), what });
    }

    fn set_aside(&mut self, segment: &Found<S::View>) -> Result<(), RecoveryError> {
        if self.read_only || segment.file.set_aside {
            return Ok(());
        }
        let base = segment.file.base;
        self.storage.set_aside(base).map_err(|error| RecoveryError { base, doing: "setting it aside", error })
    }

    /// Writes the pages of `from .. to` again: as they were read before `end`, and zeros from there on. A process that was killed, or ended by a failed
    /// write, may have left pages that look written and are not on the medium; a sync alone would answer ok for those.
    fn write_again(
        &mut self,
        segment: &Found<S::View>,
        header: &SegmentHeader,
        from: u64,
        end: u64,
        to: u64,
    ) -> Result<(), RecoveryError> {
        if self.read_only || from >= to {
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
