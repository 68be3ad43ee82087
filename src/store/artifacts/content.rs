//! Contents of files, by their hash: read once, and again when the file has changed.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use aws_lc_rs::digest::{Context, SHA256};

use crate::wire::id::ArtifactHash;

/// Bytes that are read or written at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Tells one content of a file from the next: device, inode, length, times of its change in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u64, u64, u64, i64, i64);

impl Stamp {
    /// That of the file that was found.
    #[must_use]
    pub fn of(found: &Metadata) -> Self {
        let of_content = found.mtime().wrapping_mul(1_000_000_000).wrapping_add(found.mtime_nsec());
        let of_inode = found.ctime().wrapping_mul(1_000_000_000).wrapping_add(found.ctime_nsec());
        Self(found.dev(), found.ino(), found.len(), of_content, of_inode)
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.2
    }
}

/// The bytes of a file from a place on, at most `bytes_max`; none at its end.
///
/// # Errors
/// When they can't be read.
pub fn read_piece(file: &File, at: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; bytes_max];
    let mut length = 0;
    while length < bytes_max {
        match file.read_at(&mut bytes[length..], at + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// The SHA-256 of a file's content.
///
/// # Errors
/// When it can't be read.
pub fn hash_of(file: &File) -> io::Result<ArtifactHash> {
    let (mut hash, mut at) = (Context::new(&SHA256), 0);
    loop {
        let piece = read_piece(file, at, PIECE_BYTES)?;
        if piece.is_empty() {
            return Ok(hash.finish().into());
        }
        hash.update(&piece);
        at += piece.len() as u64;
    }
}

/// Knowledge of the files' contents.
#[derive(Default)]
pub(super) struct Checks {
    known: HashMap<ArtifactHash, (Stamp, bool)>,
    /// Whether one is being read.
    pub(super) is_reading: bool,
}

impl Checks {
    /// A file was read, and has the content that it is named after, or has not.
    pub(super) fn note(&mut self, hash: ArtifactHash, stamp: Stamp, is_good: bool) {
        self.known.insert(hash, (stamp, is_good));
    }

    pub(super) fn forget(&mut self, hash: ArtifactHash) {
        self.known.remove(&hash);
    }

    /// Whether the file has the content that it is named after; `None`: it was not read since it changed.
    pub(super) fn is_good(&self, hash: ArtifactHash, stamp: Stamp) -> Option<bool> {
        self.known.get(&hash).filter(|(known, _)| *known == stamp).map(|(_, is_good)| *is_good)
    }
}
