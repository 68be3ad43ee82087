//! The real disk: a directory with one file per segment, and a lock.
#![forbid(unsafe_code)]

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::direct::DirectFile;
use super::layout::SegmentHeader;
use super::region::FileMap;
use super::storage::{SegmentFile, Storage};
use super::zeros;

const LIVE: &str = "journal";
const SET_ASIDE: &str = "damaged";
const UNFINISHED: &str = "new";

/// Why a journal's directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error("journal {0} is in use by another process: stop that one first")]
    InUse(PathBuf),
    /// It is not there, or not to be read or written.
    #[error("journal {0}: {1}: check that the directory exists and belongs to this user")]
    Io(PathBuf, #[source] io::Error),
}

/// Segments as files in a directory, locked while this value lives.
pub struct FileStorage {
    directory: PathBuf,
    /// The file written last, kept open; segments are written one after the other.
    writing: Mutex<Option<(u64, Arc<DirectFile>)>>,
    /// The directory itself, which carries the lock: a copy of the files can be read without one.
    _lock: File,
}

impl FileStorage {
    /// Opens a journal's directory for writing, makes it if needed, and clears what a cut left half made.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`] when another process has it open, for reading or writing.
    pub fn open(directory: &Path) -> Result<Self, DirectoryError> {
        let wrong = |error| DirectoryError::Io(directory.to_owned(), error);
        if !directory.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong)?;
            if let Some(parent) = directory.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                sync_directory(parent).map_err(wrong)?;
            }
        }
        let lock = File::open(directory).map_err(wrong)?;
        held(lock.try_lock(), directory)?;
        for entry in fs::read_dir(directory).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            if parse_name(&path).is_some_and(|(_, kind)| kind == UNFINISHED) {
                fs::remove_file(&path).map_err(wrong)?;
            }
        }
        Ok(Self { directory: directory.to_owned(), writing: Mutex::new(None), _lock: lock })
    }

    /// Opens the directory of a stopped server or agent for reading alone.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`] when another process has it open for writing.
    pub fn open_read_only(directory: &Path) -> Result<Self, DirectoryError> {
        let lock = File::open(directory).map_err(|error| DirectoryError::Io(directory.to_owned(), error))?;
        held(lock.try_lock_shared(), directory)?;
        Ok(Self { directory: directory.to_owned(), writing: Mutex::new(None), _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, base: u64, kind: &str) -> PathBuf {
        self.directory.join(format!("{base:020}.{kind}"))
    }

    fn file_path(&self, file: SegmentFile) -> PathBuf {
        self.path(file.base, if file.set_aside { SET_ASIDE } else { LIVE })
    }

    fn writer(&self, base: u64) -> io::Result<Arc<DirectFile>> {
        let mut writing = self.writing.lock();
        if let Some((open, file)) = &*writing
            && *open == base
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(DirectFile::open(&self.path(base, LIVE))?);
        *writing = Some((base, Arc::clone(&file)));
        Ok(file)
    }

    fn make(&self, header: &SegmentHeader, path: &Path, pace: &mut dyn FnMut(u64)) -> io::Result<()> {
        let file = zeros::create(path, header.bytes, pace)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        fs::rename(path, self.path(header.base, LIVE))?;
        sync_directory(&self.directory)
    }
}

impl Storage for FileStorage {
    type View = FileMap;

    /// A shared map shows the page cache, and a write past that drops what it holds of the place, before and after: `filemap_invalidate_pages` of
    /// Linux, which file systems on disks use. Readers stay before the durable position, so that nothing they look at is being written.
    const VIEWS_FOLLOW_WRITES: bool = true;

    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Some((base, kind)) = parse_name(&entry.path()) else { continue };
            if kind != UNFINISHED {
                let set_aside = kind == SET_ASIDE;
                files.push(SegmentFile { base, bytes: entry.metadata()?.len(), set_aside });
            }
        }
        files.sort_unstable_by_key(|file| (file.base, file.set_aside));
        Ok(files)
    }

    fn create(&self, header: &SegmentHeader, pace: &mut dyn FnMut(u64)) -> io::Result<()> {
        let path = self.path(header.base, UNFINISHED);
        let result = self.make(header, &path, pace);
        if result.is_err() {
            // Give the room back; if even that fails, the next opening clears it.
            let _ = fs::remove_file(&path);
        }
        result
    }

    fn write_durable(&self, base: u64, offset: u64, pages: &[u8]) -> io::Result<usize> {
        self.writer(base)?.write_durable(offset, pages)
    }

    fn view(&self, file: SegmentFile) -> io::Result<FileMap> {
        FileMap::open(&File::open(self.file_path(file))?)
    }

    fn set_aside(&self, base: u64) -> io::Result<()> {
        *self.writing.lock() = None;
        fs::rename(self.path(base, LIVE), self.path(base, SET_ASIDE))?;
        sync_directory(&self.directory)
    }

    fn delete(&self, file: SegmentFile) -> io::Result<()> {
        let mut writing = self.writing.lock();
        if writing.as_ref().is_some_and(|(base, _)| *base == file.base) {
            *writing = None;
        }
        drop(writing);
        fs::remove_file(self.file_path(file))?;
        sync_directory(&self.directory)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let room = rustix::fs::statvfs(&self.directory)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Name of a segment's file.
pub(super) fn name(file: SegmentFile) -> String {
    format!("{:020}.{}", file.base, if file.set_aside { SET_ASIDE } else { LIVE })
}

fn held(lock: Result<(), TryLockError>, directory: &Path) -> Result<(), DirectoryError> {
    lock.map_err(|error| match error {
        TryLockError::WouldBlock => DirectoryError::InUse(directory.to_owned()),
        TryLockError::Error(error) => DirectoryError::Io(directory.to_owned(), error),
    })
}

/// Makes creations, renames and deletions in a directory durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Base and kind, when a file is a segment's.
fn parse_name(path: &Path) -> Option<(u64, &'static str)> {
    let (stem, extension) = path.file_name()?.to_str()?.split_once('.')?;
    let kind = [LIVE, SET_ASIDE, UNFINISHED].into_iter().find(|kind| *kind == extension)?;
    (stem.len() == 20).then_some(())?;
    Some((stem.parse().ok()?, kind))
}
