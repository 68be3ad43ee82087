//! Looking through full segments again, bit by bit, so that damage is found before somebody needs what is
//! damaged.
//!
//! It reads with `pread(2)`, not through a map: a place that the medium can't read is then an error and not a
//! signal.
#![forbid(unsafe_code)]

use std::io;

use super::catalog::{Damage, Entry, SegmentState};
use super::core::Core;
use super::layout::{
    HEADER_BYTES, PAYLOAD_BYTES_MAX, Position, SegmentHeader, Trailer, record_bytes, trailer_room,
};
use super::scan::{Step, Walk};
use super::storage::Storage;

/// Read at once.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

const RECORD_BYTES_MAX: usize = record_bytes(PAYLOAD_BYTES_MAX);

const _: () = assert!(RECORD_BYTES_MAX.is_multiple_of(8) && PIECE_BYTES > 2 * RECORD_BYTES_MAX);

/// Findings of a check of one segment.
#[derive(Default)]
struct Findings {
    damages: Vec<Damage>,
    /// Some of it can't be read from the medium.
    is_unreadable: bool,
}

impl Findings {
    fn note(&mut self, from: u64, to: u64, what: &'static str) {
        self.damages.push(Damage { from: Position(from), to: Position(to), what });
    }
}

impl<S: Storage> Core<S> {
    /// Looks through every segment that is full or was set aside, those that were set aside first, and tells
    /// what was not known before. A segment with damage is set aside. `pace` is told after each piece how
    /// many bytes were read; `false` ends the check.
    pub(crate) fn check(
        &self,
        pace: &mut dyn FnMut(usize) -> bool,
        tell: &mut dyn FnMut(Vec<Damage>),
    ) -> bool {
        let mut infos = self.catalog.infos();
        infos.retain(|info| info.state != SegmentState::Open);
        infos.sort_by_key(|info| (info.state != SegmentState::SetAside, info.base));
        let mut buffer = vec![0; PIECE_BYTES];
        for info in infos {
            let Some(entry) = self.catalog.with_entry(info.base.0, |entry| entry.clone()) else { continue };
            let Some(findings) = self.check_segment(&entry, &mut buffer, pace) else { return false };
            if !findings.damages.is_empty() {
                let new = self.set_aside(&entry, findings);
                if !new.is_empty() {
                    tell(new);
                }
            }
        }
        true
    }

    /// `None`: it was told to end.
    fn check_segment(
        &self,
        entry: &Entry,
        buffer: &mut [u8],
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> Option<Findings> {
        let mut findings = Findings::default();
        let Some(header) = entry.header else { return Some(findings) };
        if entry.state == SegmentState::Sealed {
            self.check_frame(entry, &header, buffer, &mut findings);
        }
        let read =
            |at: u64, window: &mut [u8]| self.catalog.storage.read(entry.file, at - header.base, window);
        // Begin of the hole in which the place to read next lies.
        let mut hole = None;
        let mut at = header.first();
        while at < entry.end {
            let length = usize::try_from(entry.end - at).unwrap_or(usize::MAX).min(buffer.len());
            let window = &mut buffer[..length];
            let window_end = at + length as u64;
            match read(at, window) {
                Ok(()) => {
                    let mut walk = Walk::window(&header, window, at);
                    while let Some(step) = walk.next() {
                        match step {
                            Step::Record(view) => {
                                if let Some(from) = hole.take() {
                                    findings.note(from, view.position.0, "records are damaged");
                                }
                            }
                            Step::Hole(found) => hole = hole.or(Some(found.from)),
                        }
                    }
                    at = walk.at();
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    findings.note(entry.file.base, entry.next_base, "what was there is missing");
                    return Some(findings);
                }
                Err(_) => {
                    findings.is_unreadable = true;
                    hole = hole.or(Some(at));
                    at = window_end;
                }
            }
            let left = usize::try_from(window_end - at).unwrap_or_default();
            if window_end == entry.end {
                if left > 0 {
                    hole = hole.or(Some(at));
                }
                at = window_end;
            } else if left >= RECORD_BYTES_MAX {
                // Any record that began here would have ended in the window.
                hole = hole.or(Some(at));
                at = window_end - RECORD_BYTES_MAX as u64;
            }
            if !pace(length) {
                return None;
            }
        }
        if let Some(from) = hole {
            findings.note(from, entry.end, "records are damaged");
        }
        Some(findings)
    }

    /// Header and trailer.
    fn check_frame(&self, entry: &Entry, header: &SegmentHeader, buffer: &mut [u8], findings: &mut Findings) {
        let storage = &self.catalog.storage;
        let head = &mut buffer[..HEADER_BYTES];
        let is_read = storage.read(entry.file, 0, head);
        if is_read.is_err() || SegmentHeader::decode(head) != Ok(*header) {
            findings.note(header.base, header.first(), "the header is damaged");
        }
        let room = trailer_room(header.bytes);
        let tail = &mut buffer[..usize::try_from(room).unwrap_or(HEADER_BYTES)];
        let is_read = storage.read(entry.file, header.bytes - room, tail);
        let trailer = is_read.ok().and_then(|()| Trailer::decode(header, tail));
        if !trailer.is_some_and(|trailer| trailer.end == entry.end && trailer.summary == entry.summary) {
            findings.note(entry.end, header.next_base(), "the trailer is damaged");
        }
    }

    /// Sets a segment aside for what was found in it. Answers what was not known yet.
    fn set_aside(&self, entry: &Entry, findings: Findings) -> Vec<Damage> {
        let _housekeeping = self.housekeeping.lock();
        let base = entry.file.base;
        // Deleted while it was looked through: nobody misses it.
        let Some(state) = self.catalog.with_entry(base, |entry| entry.state) else { return Vec::new() };
        if state == SegmentState::Sealed {
            match self.catalog.storage.set_aside(base) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // The file is gone. If that can't be noted, the next opening finds the gap.
                    let _ = self.catalog.storage.note_missing(base, entry.next_base);
                }
                // Told of all the same, and tried again with the next check.
                Err(_) => {}
                Ok(()) => {
                    self.catalog.with_entry(base, |entry| {
                        entry.state = SegmentState::SetAside;
                        entry.file.set_aside = true;
                    });
                }
            }
        }
        if findings.is_unreadable {
            // Readers map their segments, and a place that can't be read ends a process that touches it.
            self.catalog.with_entry(base, |entry| entry.header = None);
        }
        self.catalog.add_damages(findings.damages)
    }
}
