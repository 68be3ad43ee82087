//! Whole pages of memory for writes past the page cache: what goes to the disk is put together here.
#![forbid(unsafe_code)]

use std::io;

use memmap2::MmapMut;

use super::direct::PAGE_BYTES;

/// A buffer that begins with a page, as direct writes want it (open(2), O_DIRECT). It takes memory only as
/// far as it was ever filled.
pub(crate) struct Pages {
    map: MmapMut,
}

impl Pages {
    /// A buffer of at least `bytes` bytes.
    ///
    /// # Errors
    /// Whatever `mmap(2)` answers, most likely that there is no memory.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(bytes.next_multiple_of(PAGE_BYTES))? })
    }

    /// Bytes it holds: whole pages.
    pub(crate) fn capacity(&self) -> usize {
        self.map.len()
    }

    /// The first `bytes` of it, a multiple of a page, or all that there is.
    pub(crate) fn front(&self, bytes: usize) -> &[u8] {
        &self.map[..bytes.min(self.map.len())]
    }

    /// Puts the parts behind the first `kept` bytes, zeros behind them up to the end of the page, and lends
    /// it all. The caller sees to it that there is room.
    pub(crate) fn fill(&mut self, kept: usize, parts: [&[u8]; 2]) -> &[u8] {
        let mut at = kept;
        for part in parts {
            self.map[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let end = at.next_multiple_of(PAGE_BYTES);
        self.map[at..end].fill(0);
        &self.map[..end]
    }

    /// Moves what stands in the last page of the first `length` bytes to the front: the next write begins
    /// with that page again.
    pub(crate) fn keep_last(&mut self, length: usize) {
        self.map.copy_within(length / PAGE_BYTES * PAGE_BYTES..length, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

    use super::*;

    #[test]
    fn a_page_that_is_not_full_is_begun_with_again() {
        let mut pages = Pages::new(3 * PAGE_BYTES - 1).unwrap();
        assert_eq!(pages.capacity(), 3 * PAGE_BYTES);
        let first = pages.fill(0, [&[1; 5000], &[2; 100]]);
        assert_eq!(first.len(), 2 * PAGE_BYTES);
        assert!(first[..5000].iter().all(|byte| *byte == 1) && first[5000..5100] == [2; 100]);
        assert!(first[5100..].iter().all(|byte| *byte == 0));
        pages.keep_last(5100);
        let kept = 5100 - PAGE_BYTES;
        let second = pages.fill(kept, [&[3; 10], &[]]);
        assert_eq!(second.len(), PAGE_BYTES);
        assert_eq!(second[..kept - 100], [1; 904]);
        assert_eq!(second[kept - 100..kept], [2; 100]);
        assert_eq!(second[kept..kept + 10], [3; 10]);
        assert!(second[kept + 10..].iter().all(|byte| *byte == 0), "what was there before is gone");
    }

    #[test]
    fn a_page_that_is_full_is_not() {
        let mut pages = Pages::new(2 * PAGE_BYTES).unwrap();
        assert_eq!(pages.fill(96, [&[1; PAGE_BYTES - 96], &[]]).len(), PAGE_BYTES);
        pages.keep_last(PAGE_BYTES);
        assert_eq!(pages.fill(0, [&[], &[]]).len(), 0);
    }
}
