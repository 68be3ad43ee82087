//! A small file that is replaced as a whole and has a checksum, so that a reader sees when it is torn or was
//! changed.
//!
//! The content is CBOR (RFC 8949) in the layout of one of the [`ab_slots`]. A new content is written beside
//! the file and then renamed over it (rename(2)): a reader finds the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use minicbor::{Decode, Encode};

use super::ab_slots::{self, sync_directory};
use super::open;
use crate::paths::with_suffix;

/// Content of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content<T> {
    /// There is none.
    Absent,
    /// It is torn or was changed.
    Torn,
    /// This.
    Whole(T),
}

impl<T> Content<T> {
    /// Returns the content, when it is whole.
    #[must_use]
    pub fn whole(self) -> Option<T> {
        match self {
            Self::Whole(content) => Some(content),
            Self::Absent | Self::Torn => None,
        }
    }
}

/// Replaces a file. When this returns without an error it is on the medium.
///
/// # Errors
/// When the system refuses.
pub fn write(path: &Path, content: &impl Encode<()>) -> io::Result<()> {
    write_bytes(path, &encoded(content)?)
}

/// Replaces a file with these bytes, without a checksum; durable when this returns.
///
/// # Errors
/// When the system refuses.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, true)?;
    sync_of(path)
}

/// Replaces a file without waiting for the medium: for what may be lost.
///
/// # Errors
/// When the system refuses.
pub fn write_loosely(path: &Path, content: &impl Encode<()>) -> io::Result<()> {
    replace(path, &encoded(content)?, false)
}

/// Reads a file; of a longer one than `bytes_max` only the beginning, so that it counts as torn.
///
/// # Errors
/// When the system refuses for another reason than that it is not there.
pub fn read<T: for<'a> Decode<'a, ()>>(path: &Path, bytes_max: u64) -> io::Result<Content<T>> {
    let bytes = open::if_there(open::beginning(path, bytes_max))?;
    let Some(bytes) = bytes else { return Ok(Content::Absent) };
    let content = ab_slots::decode(&bytes).and_then(|slot| minicbor::decode(&slot.content).ok());
    Ok(content.map_or(Content::Torn, Content::Whole))
}

/// Removes a file, there or not; durable when this returns.
///
/// # Errors
/// When the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    open::if_there(fs::remove_file(path))?.map_or(Ok(()), |()| sync_of(path))
}

fn encoded(content: &impl Encode<()>) -> io::Result<Vec<u8>> {
    Ok(ab_slots::encode(1, &minicbor::to_vec(content).map_err(io::Error::other)?))
}

/// Replaces a file with these bytes, without a checksum.
///
/// # Errors
/// When the system refuses.
pub fn replace(path: &Path, bytes: &[u8], is_durable: bool) -> io::Result<()> {
    let new = with_suffix(path, ".new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    if is_durable {
        file.sync_all()?;
    }
    fs::rename(&new, path)
}

/// Replaces a file with what is read, without a checksum: a program that runs keeps the old one. Durable when
/// this returns; a failure leaves the old one, and nothing else.
///
/// # Errors
/// When the system refuses.
#[cfg(feature = "muster-agent")]
pub fn place(path: &Path, content: &mut dyn io::Read, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let new = with_suffix(path, ".new");
    let mut write = || {
        // Left behind by an attempt that was cut off.
        open::if_there(fs::remove_file(&new))?;
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
        io::copy(content, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        // One that is open for writing can't be executed.
        drop(file);
        fs::rename(&new, path)?;
        sync_of(path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

fn sync_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_torn_or_too_long_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("thing");
        assert_eq!(read::<u64>(&path, 100).unwrap(), Content::Absent);
        write(&path, &7_u64).unwrap();
        assert_eq!(read::<u64>(&path, 100).unwrap(), Content::Whole(7));
        write_loosely(&path, &8_u64).unwrap();
        assert_eq!(read::<u64>(&path, 100).unwrap().whole(), Some(8));
        assert_eq!(read::<u64>(&path, 30).unwrap(), Content::Torn);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        write_bytes(&path, &bytes).unwrap();
        assert_eq!(read::<u64>(&path, 100).unwrap(), Content::Torn);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read::<u64>(&path, 100).unwrap(), Content::Absent);
    }
}
