//! Speed of the disk: the time of one durable write, made the way most programs make it, through the page
//! cache. (The journal's own go past it, and are shorter; the same reference for all servers and all versions
//! is worth more.)

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::io::Errno;

/// One write: the block that a drive writes at least.
const WRITE_BYTES: usize = 4_096;

/// The file that is written to. Filled and synced before, as the journal's segments are, so that a write
/// allocates nothing.
const FILE_BYTES: usize = 4 << 20;

/// Longest write that is told from a longer one: a minute.
const WRITE_MICROSECONDS_MAX: u64 = 60_000_000;

/// A file to time durable writes with. Removed when dropped.
pub(crate) struct DiskReference {
    file: File,
    path: PathBuf,
    next_offset: u64,
    /// Older kernels, some file systems and other systems have no `RWF_DSYNC`.
    has_dsync: bool,
    /// All writes so far, in microseconds.
    pub(crate) histogram: Histogram<u64>,
}

impl DiskReference {
    /// Makes the file in a folder: the server's data directory, or one on the same disk.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        // A name of this process, and nobody's file is written over.
        let path = folder.join(format!("disk-reference-{}.tmp", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let histogram = Histogram::new_with_bounds(1, WRITE_MICROSECONDS_MAX, 3).map_err(io::Error::other);
        let filled = fill(&file);
        // From here on dropping it removes the file.
        let histogram = histogram.inspect_err(|_| drop(fs::remove_file(&path)))?;
        let reference = Self { file, path, next_offset: 0, has_dsync: true, histogram };
        filled.map(|()| reference)
    }

    /// One durable write of 4 KiB, timed. A caller interleaves these with what it measures: a disk is not the
    /// same all day.
    pub(crate) fn write(&mut self) -> io::Result<Duration> {
        let block = [0x5a; WRITE_BYTES];
        let started = Instant::now();
        self.write_durable(&block)?;
        let took = started.elapsed();
        self.next_offset = (self.next_offset + WRITE_BYTES as u64) % FILE_BYTES as u64;
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(microseconds.max(1));
        Ok(took)
    }

    /// Way in which the writes were made durable.
    pub(crate) fn method(&self) -> &'static str {
        if self.has_dsync { "pwritev2 with RWF_DSYNC" } else { "pwrite and fdatasync" }
    }

    fn write_durable(&mut self, block: &[u8]) -> io::Result<()> {
        if self.has_dsync {
            match write_with_dsync(&self.file, block, self.next_offset) {
                Ok(written) => return whole(written, block.len()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.has_dsync = false,
                Err(error) => return Err(error.into()),
            }
        }
        whole(rustix::io::pwrite(&self.file, block, self.next_offset)?, block.len())?;
        self.file.sync_data()
    }
}

impl Drop for DiskReference {
    fn drop(&mut self) {
        // Nothing depends on it: a file that stays is named for what it is.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(target_os = "linux")]
fn write_with_dsync(file: &File, block: &[u8], offset: u64) -> rustix::io::Result<usize> {
    use rustix::io::{ReadWriteFlags, pwritev2};
    pwritev2(file, &[io::IoSlice::new(block)], offset, ReadWriteFlags::DSYNC)
}

#[cfg(not(target_os = "linux"))]
fn write_with_dsync(_: &File, _: &[u8], _: u64) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

fn fill(file: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let zeros = vec![0_u8; FILE_BYTES];
    file.write_all_at(&zeros, 0)?;
    file.sync_all()
}

fn whole(written: usize, wanted: usize) -> io::Result<()> {
    if written == wanted {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("only {written} of {wanted} bytes were written")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_writes_are_timed_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut reference = DiskReference::create(folder.path()).unwrap();
        let longest = (0..20).map(|_| reference.write().unwrap()).max().unwrap();
        assert_eq!(reference.histogram.len(), 20);
        assert!(u128::from(reference.histogram.max()) >= longest.as_micros());
        assert!(longest > Duration::ZERO);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names.len(), 1);
        assert_eq!(
            fs::metadata(&names[0]).unwrap().len(),
            FILE_BYTES as u64,
            "writes stay in the filled part"
        );
        drop(reference);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_writes_go_round() {
        let folder = tempfile::tempdir().unwrap();
        let mut reference = DiskReference::create(folder.path()).unwrap();
        reference.next_offset = (FILE_BYTES - WRITE_BYTES) as u64;
        reference.write().unwrap();
        assert_eq!(reference.next_offset, 0);
    }

    #[test]
    fn without_dsync_a_write_is_synced_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let mut reference = DiskReference::create(folder.path()).unwrap();
        reference.has_dsync = false;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {
            reference.write().unwrap();
        }
        assert!(!reference.histogram.is_empty());
        assert_eq!(reference.method(), "pwrite and fdatasync");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(DiskReference::create(Path::new("/nowhere/at/all")).is_err());
    }
}
