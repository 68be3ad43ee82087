//! A journal read through, and the bytes of its segments as a copy holds them: up to a position that was
//! durable.
#![forbid(unsafe_code)]

use std::io;
use std::ops::Deref;
use std::path::Path;

use super::catalog::Damage;
use super::files;
use super::layout::{HEADER_BLOCK_BYTES, Position, SegmentHeader, Summary, Trailer};
use super::reader::{Item, ReadError, Reader};
use super::scan::{Step, Walk, survey};
use super::storage::{SegmentFile, Storage};

/// The bytes of a segment's file, to be copied.
pub struct Image<V> {
    /// Name of the file in the journal's directory.
    pub name: String,
    view: V,
    /// Less than the view has where the segment was not durable further.
    length: usize,
}

impl<V: Deref<Target = [u8]>> Deref for Image<V> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.view.get(..self.length).unwrap_or(&self.view)
    }
}

impl<S: Storage> Reader<S> {
    /// All files, set aside ones too, that hold anything before `until`, the newest first: as retention
    /// deletes the oldest first, one that is deleted before it is copied leaves no gap.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when they can't be listed.
    pub fn files_up_to(&self, until: Position) -> Result<Vec<SegmentFile>, ReadError> {
        let listed = self.catalog.storage.list();
        let mut files = listed.map_err(|error| ReadError::Segment(until, error))?;
        files.retain(|file| file.base <= until.0);
        files.reverse();
        Ok(files)
    }

    /// A file's bytes, which may not be valid; the one that `until` is in ends there. `None`: it was deleted
    /// meanwhile.
    ///
    /// # Errors
    /// [`ReadError::Segment`] when it can't be opened.
    pub fn image(&self, file: SegmentFile, until: Position) -> Result<Option<Image<S::View>>, ReadError> {
        // It may have been set aside since it was listed.
        for file in [file, SegmentFile { set_aside: true, ..file }] {
            match self.catalog.storage.view(file) {
                Ok(view) => {
                    let whole = view.len();
                    let cut = until.0.saturating_sub(file.base).max(HEADER_BLOCK_BYTES);
                    let length =
                        if file.set_aside { whole } else { usize::try_from(cut).unwrap_or(whole).min(whole) };
                    return Ok(Some(Image { name: files::name(file), view, length }));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ReadError::Segment(Position(file.base), error)),
            }
        }
        Ok(None)
    }
}

/// The contents of a segment's bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImageReport {
    /// Valid records, count.
    pub records: u64,
    /// Damaged places.
    pub damages: Vec<Damage>,
}

/// Reads the bytes of a segment that begins at `base`, whole or cut where it was durable, from end to end.
#[must_use]
pub fn verify_image(base: u64, bytes: &[u8]) -> ImageReport {
    let mut report = ImageReport::default();
    let mut damage = |from: u64, to: u64, what| {
        report.damages.push(Damage { from: Position(from), to: Position(to), what });
    };
    let header = match SegmentHeader::decode(bytes) {
        Ok(header) if header.base == base => header,
        Ok(_) => {
            damage(base, base + bytes.len() as u64, "header is another segment's");
            return report;
        }
        Err(what) => {
            damage(base, base + bytes.len() as u64, what);
            return report;
        }
    };
    let is_whole = bytes.len() as u64 == header.bytes;
    let trailer = if is_whole { Trailer::decode(&header, bytes) } else { None };
    match trailer {
        Some(trailer) => {
            let mut walk = Walk::sealed(&header, bytes, header.first(), trailer.end);
            while let Some(step) = walk.next() {
                match step {
                    Step::Record(_) => report.records += 1,
                    Step::Hole(hole) => report.damages.push(Damage {
                        from: Position(hole.from),
                        to: Position(hole.to),
                        what: "records are damaged",
                    }),
                }
            }
        }
        None => {
            let found = survey(&header, bytes, u64::MAX);
            report.records = found.summary.records;
            for hole in found.holes {
                damage(hole.from, hole.to, "records are damaged");
            }
            let end = base + bytes.len() as u64;
            if !is_whole && found.end < end {
                damage(found.end, end, "the end of the segment is damaged");
            }
        }
    }
    report
}

/// Result of `musterd journal verify`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Segments, count.
    pub segments: usize,
    /// Those that were set aside, count, because of damage that was found before.
    pub set_aside: usize,
    /// Size of those.
    pub set_aside_bytes: u64,
    /// Valid records and their times.
    pub summary: Summary,
    /// Begin of the oldest segment.
    pub oldest: Position,
    /// End of the records.
    pub durable: Position,
    /// Acknowledged data that is not there any more, in order.
    pub damages: Vec<Damage>,
}

impl Report {
    /// Whether nothing is damaged and nothing was set aside.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.damages.is_empty() && self.set_aside == 0
    }
}

/// Reads every record of a stopped server's or agent's journal, changing nothing.
///
/// # Errors
/// [`ReadError`] when it can't be read. Damage is not an error: it is in the report.
pub fn verify(directory: &Path) -> Result<Report, ReadError> {
    verify_reader(&Reader::open(directory)?)
}

/// Reads every record that a reader can reach.
///
/// # Errors
/// [`ReadError`] when a segment can't be opened.
pub fn verify_reader<S: Storage>(reader: &Reader<S>) -> Result<Report, ReadError> {
    let mut damages = reader.damages();
    let mut summary = Summary::default();
    let mut forward = reader.forward(Position(0));
    while let Some(item) = forward.next()? {
        match item {
            Item::Record(view) => summary.note(view.record.wall_ms),
            Item::Damage(damage) if damages.contains(&damage) => {}
            Item::Damage(damage) => damages.push(damage),
        }
    }
    damages.sort_by_key(|damage| damage.from);
    let (set_aside, set_aside_bytes) = reader.set_aside();
    Ok(Report {
        segments: reader.segments().len(),
        set_aside,
        set_aside_bytes,
        summary,
        oldest: reader.oldest(),
        durable: reader.durable(),
        damages,
    })
}
