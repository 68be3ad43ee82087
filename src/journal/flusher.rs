//! The duty to make durable: everything that waits, with one write.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::catalog::SegmentState;
use super::handle::Shared;
use super::layout::{Position, SegmentHeader, Trailer};
use super::region::Consumer;
use super::storage::Storage;
use super::tail::Extent;

/// What a disk and the page cache read and write at once, in bytes.
const PAGE_BYTES: usize = 4096;

static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// A write failed. The journal is over: what the medium holds is unknown until it is read again at the next start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "journal: {0}: stopping, for a failed write must not be tried again; restart to read what is on the disk"
)]
pub struct FlushError(pub String);

/// The one that flushes. There is one for each journal.
pub struct Flusher<S: Storage> {
    pub(crate) shared: Arc<Shared<S>>,
    consumer: Consumer,
    /// Swapped with what waits, so that a flush allocates nothing.
    taken: Vec<Extent>,
    failed: Option<FlushError>,
}

impl<S: Storage> Flusher<S> {
    pub(crate) fn new(shared: Arc<Shared<S>>, consumer: Consumer) -> Self {
        Self { shared, consumer, taken: Vec::new(), failed: None }
    }

    /// Writes everything that waits, makes it durable, and publishes the durable position, which it returns.
    /// One durable write; when a segment got full meanwhile, two more: its trailer, and what the next one holds.
    ///
    /// # Errors
    /// [`FlushError`] when a write fails or is short; from then on always, and nothing is appended any more.
    pub fn flush_once(&mut self) -> Result<Position, FlushError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.shared.tail.lock().take_extents(&mut taken);
        let result = taken.drain(..).try_for_each(|extent| self.flush(&extent));
        self.taken = taken;
        match result {
            Ok(()) => Ok(Position(self.shared.catalog.durable())),
            Err(error) => {
                self.shared.tail.lock().fail();
                self.shared.health.lock().failed = Some(error.0.clone());
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn flush(&mut self, extent: &Extent) -> Result<(), FlushError> {
        let Extent { header, from, to, .. } = *extent;
        let length = to - from;
        if length > 0 {
            let Some((first, second)) = self.consumer.front(length) else {
                return Err(FlushError("the window holds less than was appended".to_owned()));
            };
            // Zeros over zeros up to the end of the page: one that is written whole is not read before, and those of a segment are in no
            // cache, as they were made past it.
            let end = to - header.base;
            let rest = usize::try_from(end.next_multiple_of(PAGE_BYTES as u64) - end).unwrap_or_default();
            let rest = &ZERO_PAGE[..rest];
            let storage = &self.shared.catalog.storage;
            let written = storage.write_durable(header.base, from - header.base, [first, second, rest]);
            check(&header, from, length + rest.len() as u64, written)?;
            self.consumer.consume(length);
            self.shared.catalog.publish(header.base, to, &extent.summary, &extent.index);
        }
        if extent.seal { self.seal(&header) } else { Ok(()) }
    }

    fn seal(&mut self, header: &SegmentHeader) -> Result<(), FlushError> {
        let catalog = &self.shared.catalog;
        let trailer = catalog.with_entry(header.base, |entry| Trailer {
            end: entry.end,
            summary: entry.summary,
            index: entry.index.clone(),
        });
        let Some(trailer) = trailer else {
            return Err(FlushError(format!("segment at position {} went while it was written", header.base)));
        };
        let bytes = trailer.encode(header);
        let length = bytes.len() as u64;
        let offset = header.bytes - length;
        let written = catalog.storage.write_durable(header.base, offset, [&bytes, &[], &[]]);
        check(header, header.base + offset, length, written)?;
        catalog.with_entry(header.base, |entry| {
            entry.state = SegmentState::Sealed;
            entry.index = Vec::new();
        });
        Ok(())
    }
}

fn check(
    header: &SegmentHeader,
    position: u64,
    length: u64,
    written: io::Result<usize>,
) -> Result<(), FlushError> {
    let base = header.base;
    match written {
        Ok(written) if written as u64 == length => Ok(()),
        Ok(written) => Err(FlushError(format!(
            "short write at position {position} in segment {base}: {written} of {length} bytes"
        ))),
        Err(error) => {
            Err(FlushError(format!("write at position {position} in segment {base} failed: {error}")))
        }
    }
}
