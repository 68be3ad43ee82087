//! A new file full of zeros, all of its room taken: so that a full disk shows here and not later, and a write
//! into it changes nothing but data.
//!
//! The zeros go past the page cache where the system allows it: nobody reads them, and to copy a segment of
//! them into the cache and write it from there took six times as much of the processor
//! ([`throughput`](crate::manual::throughput)).
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, openat};

use super::direct::{DirectFile, Pages};

/// Bytes that are written at once: some 0.2 ms of a disk's time.
const PIECE_BYTES: usize = 256 * 1024;

/// Zeros in the page cache are synced each time this many bytes have been written: else a whole segment of
/// them goes to the disk at once, and the flusher's small writes wait behind it.
const CACHED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Makes a file of `bytes` zeros (a multiple of 4,096) by its name in a directory, for its owner alone, and
/// returns it open for writing. Not synced. `pace` is told after each piece how many bytes are written.
///
/// # Errors
/// `StorageFull` or `QuotaExceeded` when there is no room, else whatever the system answers. On failure the
/// part that exists of the file is left behind.
pub(crate) fn create(
    directory: impl AsFd,
    name: &str,
    bytes: u64,
    pace: &mut dyn FnMut(u64),
) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = File::from(openat(&directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    take_room(&file, bytes)?;
    let direct = DirectFile::open(directory, name)?;
    let zeros = Pages::new(PIECE_BYTES)?;
    let mut at = 0;
    while at < bytes {
        let piece = zeros.front(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        direct.write_all(at, piece)?;
        at += piece.len() as u64;
        if direct.is_cached() && at.is_multiple_of(CACHED_BYTES_MAX) {
            direct.sync()?;
        }
        if at < bytes {
            pace(at);
        }
    }
    Ok(file)
}

/// Has the file system find the room at once, in one piece if it can. One that can't will find it piece by
/// piece.
#[cfg(target_os = "linux")]
fn take_room(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn take_room(_file: &File, _bytes: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

    use std::os::unix::fs::MetadataExt;

    use super::super::direct::tests::directories;
    use super::*;

    #[test]
    fn all_of_it_is_zeros_and_its_room_is_taken() {
        for directory in directories() {
            for bytes in [4096, PIECE_BYTES as u64, 3 * PIECE_BYTES as u64 + 8192] {
                let path = directory.path().join(bytes.to_string());
                // The rest of an earlier attempt does not shine through.
                std::fs::write(&path, vec![0xff; 5000]).unwrap();
                let mut told = Vec::new();
                let file =
                    create(rustix::fs::CWD, path.to_str().unwrap(), bytes, &mut |made| told.push(made))
                        .unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), vec![0; usize::try_from(bytes).unwrap()]);
                assert!(file.metadata().unwrap().blocks() * 512 >= bytes, "no holes");
                let pieces = bytes.div_ceil(PIECE_BYTES as u64);
                assert_eq!(told, (1..pieces).map(|piece| piece * PIECE_BYTES as u64).collect::<Vec<_>>());
            }
        }
    }
}
