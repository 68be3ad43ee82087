//! Settings files: what is there, and replacing it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use crate::agent::slots::sync_directory;
use crate::wire::digest::Digest;

/// Largest settings file that is replaced, in bytes: the old content is kept until the new one is applied.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Permission bits of a file that was not there before, unless its definition says otherwise.
const MODE_DEFAULT: u32 = 0o644;

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Before {
    #[cbor(n(0), encode_with = "minicbor::bytes::encode", decode_with = "minicbor::bytes::decode")]
    bytes: Vec<u8>,
    #[n(1)]
    mode: u32,
    #[n(2)]
    user: u32,
    #[n(3)]
    group: u32,
}

/// The file itself, when `path` is a link to it.
pub(super) fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// The file as it is; `None` when it is not there.
pub(super) fn read(path: &Path) -> io::Result<Option<Before>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Some(Before { bytes, mode: data.mode() & 0o7777, user: data.uid(), group: data.gid() }))
}

/// The digest of the content; `None` when the file is not there.
pub(super) fn digest(path: &Path) -> io::Result<Option<Digest>> {
    Ok(read(path)?.map(|before| Digest::of_bytes(&before.bytes)))
}

/// Puts back what was there.
pub(super) fn restore(path: &Path, before: Option<&Before>) -> io::Result<()> {
    match before {
        Some(before) => Staged::new(path, &before.bytes, Some(before.mode), Some(before))?.commit(),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                drop(fs::remove_dir_all(scratch(path)));
                path.parent().map_or(Ok(()), sync_directory)
            }
        },
    }
}

/// Where a file waits that is to replace `path`: a directory beside it that only its owner can look into.
fn scratch(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.muster"))
}

/// A file that is complete, durable, and not yet in its place. Goes with this value unless it was put there.
#[derive(Debug)]
pub(super) struct Staged {
    target: PathBuf,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Staged {
    /// Writes `bytes` beside `target`, with the owner of the file before.
    pub(super) fn new(
        target: &Path,
        bytes: &[u8],
        mode: Option<u32>,
        before: Option<&Before>,
    ) -> io::Result<Self> {
        let scratch = scratch(target);
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => DirBuilder::new().mode(0o700).create(&scratch)?,
        }
        let staged =
            Self { path: scratch.join(target.file_name().unwrap_or_default()), target: target.to_owned() };
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&staged.path)?;
        file.write_all(bytes)?;
        if let Some(before) = before {
            let data = file.metadata()?;
            if (data.uid(), data.gid()) != (before.user, before.group) {
                fchown(&file, Some(before.user), Some(before.group))?;
            }
        }
        let mode = mode.or(before.map(|before| before.mode)).unwrap_or(MODE_DEFAULT);
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Puts it in its place; durable when this returns.
    pub(super) fn commit(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        self.target.parent().map_or(Ok(()), sync_directory)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(scratch(&self.target)));
    }
}
