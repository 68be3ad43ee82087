//! Reading a whole journal through, for an administrator.
#![forbid(unsafe_code)]

use std::path::Path;

use super::catalog::Damage;
use super::layout::{Position, Summary};
use super::reader::{Item, ReadError, Reader};
use super::storage::Storage;

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
