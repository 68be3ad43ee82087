//! A file that is written past the page cache, where its file system lets it be: zeros that nobody reads, and
//! the journal's tail, which is read from memory or later. A durable write so takes half as much of the
//! processor, and one command of the disk less where that knows a write that is durable by itself.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapMut;
use rustix::fs::{Mode, OFlags, openat};

/// Alignment of a write's begin, end and address in memory: a page of the page cache, and at least the block
/// of any disk.
pub const PAGE_BYTES: usize = 4096;

/// A file for writing. Whatever is written must begin and end with a page, in the file and in memory
/// ([`Pages`]).
pub(crate) struct DirectFile {
    file: File,
    is_cached: AtomicBool,
}

impl DirectFile {
    /// Opens a file that is there, by its name in a directory.
    ///
    /// # Errors
    /// Whatever `open(2)` answers, but that the file system has no such writes.
    pub(crate) fn open(directory: impl AsFd, name: &str) -> io::Result<Self> {
        match open_direct(&directory, name) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                let file = open(directory, name, OFlags::empty())?;
                Ok(Self { file, is_cached: AtomicBool::new(true) })
            }
            opened => Ok(Self { file: opened?, is_cached: AtomicBool::new(false) }),
        }
    }

    /// Whether it is written through the page cache after all.
    pub(crate) fn is_cached(&self) -> bool {
        self.is_cached.load(Ordering::Relaxed)
    }

    /// Writes pages at `offset` and makes them durable, in one call to the kernel where it has one. Returns
    /// the bytes written; fewer than given means that the rest was not. Never tried again here, not even
    /// after EINTR: after a failed sync the next one answers ok though pages are lost.
    ///
    /// # Errors
    /// Whatever `pwritev2(2)`, or `pwrite(2)` and `fdatasync(2)`, answer.
    pub(crate) fn write_durable(&self, offset: u64, pages: &[u8]) -> io::Result<usize> {
        self.write(pages, |file| write_durable(file, offset, pages))
    }

    /// Writes pages at `offset`, all of them, and does not sync.
    ///
    /// # Errors
    /// Whatever `pwrite(2)` answers.
    pub(crate) fn write_all(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        self.write(pages, |file| file.write_all_at(pages, offset))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// Whatever `fdatasync(2)` answers.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write<T>(&self, pages: &[u8], write: impl Fn(&File) -> io::Result<T>) -> io::Result<T> {
        debug_assert!(pages.as_ptr().addr().is_multiple_of(PAGE_BYTES), "pages begin with one in memory");
        debug_assert!(pages.len().is_multiple_of(PAGE_BYTES), "pages are whole");
        match write(&self.file) {
            // A file system that lets a file be opened so need not let it be written so. It refuses before it
            // writes anything.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && !self.is_cached() => {
                use_cache(&self.file)?;
                self.is_cached.store(true, Ordering::Relaxed);
                write(&self.file)
            }
            written => written,
        }
    }
}

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

fn open(directory: impl AsFd, name: &str, flags: OFlags) -> io::Result<File> {
    Ok(File::from(openat(directory, name, OFlags::WRONLY | OFlags::CLOEXEC | flags, Mode::empty())?))
}

#[cfg(target_os = "linux")]
fn open_direct(directory: impl AsFd, name: &str) -> io::Result<File> {
    open(directory, name, OFlags::DIRECT)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_directory: impl AsFd, _name: &str) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// From here on through the page cache.
#[cfg(target_os = "linux")]
fn use_cache(file: &File) -> io::Result<()> {
    use rustix::fs::{fcntl_getfl, fcntl_setfl};
    Ok(fcntl_setfl(file, fcntl_getfl(file)? - OFlags::DIRECT)?)
}

#[cfg(not(target_os = "linux"))]
fn use_cache(_file: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn write_durable(file: &File, offset: u64, pages: &[u8]) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    let written = pwritev2(file, &[io::IoSlice::new(pages)], offset, ReadWriteFlags::DSYNC);
    unless_unknown(written, || write_and_sync(file, offset, pages))
}

#[cfg(not(target_os = "linux"))]
fn write_durable(file: &File, offset: u64, pages: &[u8]) -> io::Result<usize> {
    write_and_sync(file, offset, pages)
}

/// The answer of a call, or `otherwise` where the kernel does not know it or its flag and so has written
/// nothing: one before Linux 4.7, or one that something stands in for, such as a sandbox.
#[cfg(target_os = "linux")]
fn unless_unknown(
    answer: rustix::io::Result<usize>,
    otherwise: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    match answer {
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => otherwise(),
        answer => Ok(answer?),
    }
}

fn write_and_sync(file: &File, offset: u64, pages: &[u8]) -> io::Result<usize> {
    let written = file.write_at(pages, offset)?;
    file.sync_data()?;
    Ok(written)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

    use std::cell::Cell;

    use rustix::fs::CWD;

    use super::super::region::FileMap;
    use super::*;

    /// A file system on a disk, and one that is memory where there is one.
    pub(in super::super) fn directories() -> Vec<tempfile::TempDir> {
        let mut directories = vec![tempfile::tempdir().unwrap()];
        match tempfile::tempdir_in("/dev/shm") {
            Ok(memory) => directories.push(memory),
            Err(error) => crate::skip::skipped(format_args!("in memory: /dev/shm can't be written: {error}")),
        }
        directories
    }

    #[test]
    fn a_map_that_was_looked_at_shows_what_is_written_after() {
        for directory in directories() {
            let path = directory.path().join("pages");
            std::fs::write(&path, vec![0; 4 * PAGE_BYTES]).unwrap();
            let file = DirectFile::open(CWD, path.to_str().unwrap()).unwrap();
            let map = FileMap::open(&File::open(&path).unwrap()).unwrap();
            let mut pages = Pages::new(2 * PAGE_BYTES).unwrap();
            for round in 1..200_u8 {
                let offset = usize::from(round % 3) * PAGE_BYTES;
                let written = pages.fill(0, [&[round; 5000], &[]]);
                assert_eq!(file.write_durable(offset as u64, written).unwrap(), 2 * PAGE_BYTES);
                assert!(map[offset..offset + 5000].iter().all(|byte| *byte == round), "{round}");
                assert!(map[offset + 5000..offset + 2 * PAGE_BYTES].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_file_system_that_refuses_is_written_through_its_cache() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pages");
        std::fs::write(&path, vec![0; PAGE_BYTES]).unwrap();
        let file = DirectFile::open(CWD, path.to_str().unwrap()).unwrap();
        let was_direct = !file.is_cached();
        let mut pages = Pages::new(PAGE_BYTES).unwrap();
        let page = pages.fill(0, [&[7; PAGE_BYTES], &[]]);
        let attempts = Cell::new(0);
        let written = file.write(page, |open| {
            attempts.set(attempts.get() + 1);
            let is_refused = was_direct && attempts.get() == 1;
            if is_refused { Err(io::ErrorKind::InvalidInput.into()) } else { write_durable(open, 0, page) }
        });
        assert_eq!(written.unwrap(), PAGE_BYTES);
        assert_eq!(attempts.get(), if was_direct { 2 } else { 1 });
        assert!(file.is_cached());
        assert_eq!(std::fs::read(&path).unwrap(), page);
        // Now any length and place will do, which a direct write would be refused.
        file.file.write_all_at(b"seven", 3).unwrap();
        let refused = file.write(page, |_| Err::<(), _>(io::ErrorKind::InvalidInput.into()));
        assert!(refused.is_err(), "it is asked once");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_kernel_that_does_not_know_durable_writes_gets_a_write_and_a_sync() {
        use rustix::io::Errno;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pages");
        std::fs::write(&path, vec![0; 2 * PAGE_BYTES]).unwrap();
        let file = DirectFile::open(CWD, path.to_str().unwrap()).unwrap();
        let mut pages = Pages::new(PAGE_BYTES).unwrap();
        for (number, unknown) in [(1, Errno::NOSYS), (2, Errno::OPNOTSUPP)] {
            let page = pages.fill(0, [&[number; PAGE_BYTES], &[]]);
            let otherwise = || write_and_sync(&file.file, PAGE_BYTES as u64, page);
            assert_eq!(unless_unknown(Err(unknown), otherwise).unwrap(), PAGE_BYTES);
            assert_eq!(std::fs::read(&path).unwrap()[PAGE_BYTES..], *page);
        }
        // After any other failure something may have been written, and the next sync would answer ok.
        assert!(unless_unknown(Err(Errno::IO), || Ok(PAGE_BYTES)).is_err());
        assert_eq!(unless_unknown(Ok(7), || Ok(PAGE_BYTES)).unwrap(), 7);
    }

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
