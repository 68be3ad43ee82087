//! Settings files: what is there, and replacing it.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use rustix::fs::{Mode, OFlags, mkdirat, openat, renameat};

use super::attributes::{self, Attribute};
use super::place::{Held, open_directory, remove_all};
use crate::agent::open;
use crate::wire::digest::Digest;

/// Largest settings file that is replaced: the old content is kept until the new one is applied.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Permission bits of a file that was not there before, unless its definition says otherwise.
const MODE_DEFAULT: u32 = 0o644;

/// The bits that are ever set: no settings file runs as somebody else.
const MODE_MASK: u32 = 0o777;

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Before {
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "minicbor::bytes::decode")]
    pub(super) bytes: Vec<u8>,
    #[n(1)]
    mode: u32,
    #[n(2)]
    user: u32,
    #[n(3)]
    group: u32,
    #[cbor(n(4), default)]
    attributes: Vec<Attribute>,
}

/// The file as it is, and how many names it has (hard links, link(2)); `None` when it is not there.
pub(super) fn read(held: &Held) -> io::Result<Option<(Before, u64)>> {
    let file = open::file_at(held.directory(), held.name(), OFlags::RDONLY | OFlags::NOFOLLOW);
    let Some(file) = open::if_there(file)? else { return Ok(None) };
    let (data, attributes) = (file.metadata()?, attributes::read(&file)?);
    let before = Before {
        bytes: open::rest(file, FILE_BYTES_MAX)?,
        mode: data.mode() & MODE_MASK,
        user: data.uid(),
        group: data.gid(),
        attributes,
    };
    Ok(Some((before, data.nlink())))
}

/// The digest of the content; `None` when the file is not there.
pub(super) fn digest(path: &Path) -> io::Result<Option<Digest>> {
    Ok(read(&Held::find(path)?)?.map(|(before, _)| Digest::of_bytes(&before.bytes)))
}

/// Puts back what was there.
pub(super) fn restore(held: &Held, before: Option<&Before>, is_in_place: bool) -> io::Result<()> {
    match before {
        Some(before) if is_in_place => overwrite(held, &before.bytes, Some(before.mode)),
        Some(before) => Staged::new(held, &before.bytes, Some(before.mode), Some(before))?.commit(),
        None => {
            drop(remove_all(held.directory(), &scratch(held)));
            held.remove()
        }
    }
}

/// Writes over the content of a file that can't be replaced: a mount point, as a container's single file is.
/// Durable when this returns; a crash on the way leaves a mixture.
pub(super) fn overwrite(held: &Held, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    let file = open::file_at(held.directory(), held.name(), OFlags::WRONLY | OFlags::NOFOLLOW)?;
    let data = file.metadata()?;
    if data.nlink() > 1 {
        return Err(io::Error::other(format!(
            "it can't be replaced, and is not written to because it has {} names (hard links)",
            data.nlink()
        )));
    }
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    if let Some(mode) = mode.map(|mode| mode & MODE_MASK).filter(|mode| *mode != data.mode() & MODE_MASK) {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    file.sync_all()
}

/// Whether `now` is what a crash may have left of writing `candidate` over `before`.
pub(super) fn is_mixture(now: &[u8], before: &[u8], candidate: &[u8]) -> bool {
    let lengths = before.len().min(candidate.len())..=before.len().max(candidate.len());
    let is_of_either = |(index, byte): (usize, &u8)| {
        before.get(index) == Some(byte)
            || candidate.get(index) == Some(byte)
            // A file may have grown by bytes that were not written yet.
            || (*byte == 0 && index >= before.len())
    };
    lengths.contains(&now.len()) && now.iter().enumerate().all(is_of_either)
}

/// Name of the directory where a file waits that is to replace another one: beside that, and for its owner
/// alone.
fn scratch(held: &Held) -> PathBuf {
    PathBuf::from(format!(".{}.muster", held.name().display()))
}

/// A file that is complete, durable, and not yet in its place. Goes with this value unless it was put there.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    held: &'a Held,
    scratch: OwnedFd,
    /// Its path.
    pub(super) path: PathBuf,
}

impl<'a> Staged<'a> {
    /// Writes `bytes` beside the file, with the owner and the attributes of the file before.
    pub(super) fn new(
        held: &'a Held,
        bytes: &[u8],
        mode: Option<u32>,
        before: Option<&Before>,
    ) -> io::Result<Self> {
        let name = scratch(held);
        remove_all(held.directory(), &name)?;
        mkdirat(held.directory(), &name, Mode::RWXU)?;
        let directory = File::from(open_directory(held.directory(), &name)?);
        let path = held.path().with_file_name(&name).join(held.name());
        let data = directory.metadata()?;
        if data.uid() != rustix::process::geteuid().as_raw() || data.mode() & 0o077 != 0 {
            return Err(io::Error::other("somebody else changes its directory at the same time"));
        }
        let staged = Self { held, scratch: directory.into(), path };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&staged.scratch, held.name(), flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(bytes)?;
        if let Some(before) = before {
            let data = file.metadata()?;
            if (data.uid(), data.gid()) != (before.user, before.group) {
                fchown(&file, Some(before.user), Some(before.group))?;
            }
            attributes::give(&file, &before.attributes)?;
        }
        let mode = mode.or(before.map(|before| before.mode)).unwrap_or(MODE_DEFAULT);
        file.set_permissions(Permissions::from_mode(mode & MODE_MASK))?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Puts it in its place; durable when this returns. An error of the kind [`io::ErrorKind::ResourceBusy`]
    /// says that nothing can be put there: it is a mount point.
    pub(super) fn commit(self) -> io::Result<()> {
        renameat(&self.scratch, self.held.name(), self.held.directory(), self.held.name())?;
        self.held.sync()
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        drop(remove_all(self.held.directory(), &scratch(self.held)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_is_told_from_what_somebody_wrote() {
        let is = |now: &str, before: &str, new: &str| {
            is_mixture(now.as_bytes(), before.as_bytes(), new.as_bytes())
        };
        assert!(is("a=new\nb=old\n", "a=old\nb=old\n", "a=new\nb=new\n"));
        assert!(is("b\nlong old", "a\nlong old", "b\n"), "not cut yet");
        assert!(is("newer", "old", "newer") && is("old\0\0", "old", "newer"));
        assert!(!is("mine", "old", "newer") && !is("", "old", "newer") && !is("olderer", "old", "newer"));
    }
}
