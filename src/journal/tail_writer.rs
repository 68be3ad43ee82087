//! Makes durable what waits: everything, with one write.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::catalog::SegmentState;
use super::core::Core;
use super::direct::{PAGE_BYTES, Pages};
use super::layout::{FOOTER_BYTES, INDEX_ENTRIES_MAX, INDEX_ENTRY_BYTES, Position, SegmentHeader, Trailer};
use super::region::Consumer;
use super::storage::Storage;
use super::tail::Extent;

/// Written with one durable write at most. More than that waits only behind a slow disk.
const WRITE_BYTES_MAX: usize = 256 * 1024;

/// Room for one durable write at least: the longest trailer, and the page it begins in.
const WRITE_BYTES_MIN: usize = 32 * 1024;

const _: () = assert!(
    FOOTER_BYTES as u64 + INDEX_ENTRIES_MAX * INDEX_ENTRY_BYTES as u64 + PAGE_BYTES as u64
        <= WRITE_BYTES_MIN as u64
);

static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// A write failed. The journal is over: what the medium holds is unknown until it is read again at the next
/// start.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "journal: {0}: stopping, for a failed write must not be tried again; restart to read what is on the disk"
)]
pub struct FlushError(pub String);

/// Writes the tail to its segments. There is one for each journal.
pub(crate) struct TailWriter<S: Storage> {
    core: Arc<Core<S>>,
    consumer: Consumer,
    /// The buffer in which a write is put together. Its front holds what is on the disk already of the page
    /// that the next write begins in.
    pages: Pages,
    /// Swapped with what waits, so that a flush allocates nothing.
    taken: Vec<Extent>,
    failed: Option<FlushError>,
}

impl<S: Storage> TailWriter<S> {
    /// `head` is what stands in the last page of what is on the disk.
    ///
    /// # Errors
    /// When there is no memory for what is written.
    pub(crate) fn new(core: Arc<Core<S>>, consumer: Consumer, head: &[u8]) -> io::Result<Self> {
        let window = usize::try_from(core.options.window_bytes).unwrap_or(usize::MAX);
        let mut pages = Pages::new(window.clamp(WRITE_BYTES_MIN, WRITE_BYTES_MAX))?;
        pages.fill(0, [head, &[]]);
        Ok(Self { core, consumer, pages, taken: Vec::new(), failed: None })
    }

    /// Whether a write has failed, and the journal is over.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Writes everything that waits, makes it durable, and publishes the durable position, which it returns.
    /// One durable write, as long as the disk keeps up; when a segment got full meanwhile, two more: its
    /// trailer, and what the next one holds.
    ///
    /// # Errors
    /// [`FlushError`] when a write fails or is short; from then on always, and nothing is appended any more.
    pub(crate) fn flush_once(&mut self) -> Result<Position, FlushError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut taken = std::mem::take(&mut self.taken);
        self.core.tail.lock().take_extents(&mut taken);
        let result = taken.drain(..).try_for_each(|extent| self.flush(&extent));
        self.taken = taken;
        match result {
            Ok(()) => Ok(Position(self.core.catalog.durable())),
            Err(error) => {
                self.core.tail.lock().fail();
                self.core.health.lock().failed = Some(error.0.clone());
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    fn flush(&mut self, extent: &Extent) -> Result<(), FlushError> {
        let Extent { header, from, to, .. } = *extent;
        let mut at = from;
        while at < to {
            let offset = at - header.base;
            let kept = in_page(offset);
            let length = (to - at).min((self.pages.capacity() - kept) as u64);
            let Some((first, second)) = self.consumer.front(length) else {
                return Err(FlushError("the window holds less than was appended".to_owned()));
            };
            let pages = self.pages.fill(kept, [first, second]);
            let written = self.core.catalog.storage.write_durable(header.base, offset - kept as u64, pages);
            check(&header, at, pages.len(), written)?;
            self.pages.keep_last(kept + first.len() + second.len());
            self.consumer.consume(length);
            at += length;
        }
        if from < to {
            self.core.catalog.publish(header.base, to, &extent.summary, &extent.index);
        }
        if extent.seal { self.seal(&header) } else { Ok(()) }
    }

    fn seal(&mut self, header: &SegmentHeader) -> Result<(), FlushError> {
        let catalog = &self.core.catalog;
        let trailer = catalog.with_entry(header.base, |entry| Trailer {
            end: entry.end,
            summary: entry.summary,
            index: entry.index.clone(),
        });
        let Some(trailer) = trailer else {
            return Err(FlushError(format!("segment at position {} went while it was written", header.base)));
        };
        let bytes = trailer.encode(header);
        let offset = header.bytes - bytes.len() as u64;
        let begun = in_page(offset);
        // The last records may reach into the page in which the trailer begins: those stand at the front
        // already.
        let end = trailer.end - header.base;
        let kept = if end > offset - begun as u64 { in_page(end) } else { 0 };
        let pages = self.pages.fill(kept, [&ZERO_PAGE[kept..begun], &bytes]);
        let written = catalog.storage.write_durable(header.base, offset - begun as u64, pages);
        check(header, header.base + offset, pages.len(), written)?;
        catalog.with_entry(header.base, |entry| {
            entry.state = SegmentState::Sealed;
            entry.index = Vec::new();
        });
        Ok(())
    }
}

/// Offset of a place in a segment within its page, in bytes.
fn in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE_BYTES as u64).unwrap_or_default()
}

fn check(
    header: &SegmentHeader,
    position: u64,
    length: usize,
    written: io::Result<usize>,
) -> Result<(), FlushError> {
    let base = header.base;
    match written {
        Ok(written) if written == length => Ok(()),
        Ok(written) => Err(FlushError(format!(
            "short write at position {position} in segment {base}: {written} of {length} bytes"
        ))),
        Err(error) => {
            Err(FlushError(format!("write at position {position} in segment {base} failed: {error}")))
        }
    }
}
