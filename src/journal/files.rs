//! The real disk: a directory with one file per segment, and a lock.
#![forbid(unsafe_code)]

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstatvfs, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::direct::DirectFile;
use super::layout::SegmentHeader;
use super::region::FileMap;
use super::storage::{SegmentFile, Storage};
use super::zeros;

const LIVE: &str = "journal";
const SET_ASIDE: &str = "damaged";
const UNFINISHED: &str = "new";
const MISSING: &str = "missing";
const OLDEST: &str = "oldest";

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
///
/// The directory is opened once, and every file by that: a directory that is moved away, with another one in
/// its place, is still the one that is written to. So two journals never mix.
pub struct FileStorage {
    /// The directory, which carries the lock: a copy of the files can be read without one.
    directory: File,
    /// The file written last, kept open; segments are written one after the other.
    writing: Mutex<Option<(u64, Arc<DirectFile>)>>,
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
        let storage = Self::over(directory)?;
        held(storage.directory.try_lock(), directory)?;
        for name in storage.names().map_err(wrong)? {
            if matches!(name, Name::Segment(_, UNFINISHED)) {
                storage.unlink(&name).map_err(wrong)?;
            }
        }
        Ok(storage)
    }

    /// Opens the directory of a stopped server or agent for reading alone.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`] when another process has it open for writing.
    pub fn open_read_only(directory: &Path) -> Result<Self, DirectoryError> {
        let storage = Self::over(directory)?;
        held(storage.directory.try_lock_shared(), directory)?;
        Ok(storage)
    }

    fn over(path: &Path) -> Result<Self, DirectoryError> {
        let wrong = |error| DirectoryError::Io(path.to_owned(), error);
        let directory = File::open(path).map_err(wrong)?;
        Ok(Self { directory, writing: Mutex::new(None) })
    }

    /// The files in the directory that belong to a journal.
    fn names(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            names.extend(entry?.file_name().to_str().ok().and_then(Name::parse));
        }
        Ok(names)
    }

    fn unlink(&self, name: &Name) -> io::Result<()> {
        Ok(unlinkat(&self.directory, name.to_string(), AtFlags::empty())?)
    }

    fn writer(&self, base: u64) -> io::Result<Arc<DirectFile>> {
        let mut writing = self.writing.lock();
        if let Some((open, file)) = &*writing
            && *open == base
        {
            return Ok(Arc::clone(file));
        }
        let name = Name::Segment(base, LIVE).to_string();
        let file = Arc::new(DirectFile::open(&self.directory, &name)?);
        *writing = Some((base, Arc::clone(&file)));
        Ok(file)
    }

    fn forget_writer(&self, base: u64) {
        self.writing.lock().take_if(|(open, _)| *open == base);
    }

    fn make(&self, header: &SegmentHeader, name: &str, pace: &mut dyn FnMut(u64)) -> io::Result<()> {
        let file = zeros::create(&self.directory, name, header.bytes, pace)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        self.rename(name, &Name::Segment(header.base, LIVE).to_string())
    }

    /// Durable when it returns.
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        renameat(&self.directory, from, &self.directory, to)?;
        self.directory.sync_all()
    }

    fn is_there(&self, name: &str) -> io::Result<bool> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn open_segment(&self, file: SegmentFile) -> io::Result<File> {
        match self.open_file(&Name::of(file), OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !file.set_aside => {
                // Set aside since it was listed.
                self.open_file(&Name::Segment(file.base, SET_ASIDE), OFlags::RDONLY)
            }
            opened => opened,
        }
    }

    fn open_file(&self, name: &Name, flags: OFlags) -> io::Result<File> {
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(openat(&self.directory, name.to_string(), flags | OFlags::CLOEXEC, mode)?))
    }
}

impl Storage for FileStorage {
    type View = FileMap;

    /// A shared map shows the page cache, and a write past that drops what it holds of the place, before and
    /// after: `filemap_invalidate_pages` of Linux, which file systems on disks use. Readers stay before the
    /// durable position, so that nothing they look at is being written.
    const VIEWS_FOLLOW_WRITES: bool = true;

    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        let mut files = Vec::new();
        for name in self.names()? {
            let Name::Segment(base, kind) = name else { continue };
            if kind != UNFINISHED {
                let status = statat(&self.directory, name.to_string(), AtFlags::empty())?;
                let bytes = u64::try_from(status.st_size).unwrap_or_default();
                files.push(SegmentFile { base, bytes, set_aside: kind == SET_ASIDE });
            }
        }
        files.sort_unstable_by_key(|file| (file.base, file.set_aside));
        Ok(files)
    }

    fn create(&self, header: &SegmentHeader, pace: &mut dyn FnMut(u64)) -> io::Result<()> {
        let name = Name::Segment(header.base, UNFINISHED);
        let result = self.make(header, &name.to_string(), pace);
        if result.is_err() {
            // Give the room back; if even that fails, the next opening clears it.
            let _ = self.unlink(&name);
        }
        result
    }

    fn write_durable(&self, base: u64, offset: u64, pages: &[u8]) -> io::Result<usize> {
        self.writer(base)?.write_durable(offset, pages)
    }

    fn view(&self, file: SegmentFile) -> io::Result<FileMap> {
        FileMap::open(&self.open_segment(file)?)
    }

    fn read(&self, file: SegmentFile, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.open_segment(file)?.read_exact_at(bytes, offset)
    }

    fn set_aside(&self, base: u64) -> io::Result<()> {
        self.forget_writer(base);
        let (live, aside) =
            (Name::Segment(base, LIVE).to_string(), Name::Segment(base, SET_ASIDE).to_string());
        if self.is_there(&aside)? {
            // An earlier one of this name, in whose place a copy was put since. It stays, under a name of no
            // meaning.
            let numbered = |number: u32| format!("{aside}.{number}");
            let mut number = 1;
            while self.is_there(&numbered(number))? {
                number += 1;
            }
            self.rename(&aside, &numbered(number))?;
        }
        self.rename(&live, &aside)
    }

    fn missing(&self) -> io::Result<Vec<(u64, u64)>> {
        let range = |name| if let Name::Missing(from, to) = name { Some((from, to)) } else { None };
        let mut ranges: Vec<_> = self.names()?.into_iter().filter_map(range).collect();
        ranges.sort_unstable();
        Ok(ranges)
    }

    fn note_missing(&self, from: u64, to: u64) -> io::Result<()> {
        self.open_file(&Name::Missing(from, to), OFlags::WRONLY | OFlags::CREATE)?;
        self.directory.sync_all()
    }

    fn oldest(&self) -> io::Result<Option<u64>> {
        let position = |name| if let Name::Oldest(position) = name { Some(position) } else { None };
        Ok(self.names()?.into_iter().filter_map(position).max())
    }

    fn set_oldest(&self, oldest: u64) -> io::Result<()> {
        let name = Name::Oldest(oldest);
        let before = self.oldest()?.map(Name::Oldest);
        let noted = match &before {
            Some(before) => self.rename(&before.to_string(), &name.to_string()),
            None => {
                let made = self.open_file(&name, OFlags::WRONLY | OFlags::CREATE);
                made.and_then(|_| self.directory.sync_all())
            }
        };
        match (noted, before) {
            (Err(error), before) if is_without_room(&error) => {
                before.map_or(Ok(()), |name| self.unlink(&name))
            }
            (noted, _) => noted,
        }
    }

    fn delete(&self, file: SegmentFile) -> io::Result<()> {
        self.forget_writer(file.base);
        self.unlink(&Name::of(file))?;
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let room = fstatvfs(&self.directory)?;
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
    Name::of(file).to_string()
}

fn is_without_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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

/// A name that means something in a journal's directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Name {
    /// A segment's file: base, and what kind it is.
    Segment(u64, &'static str),
    /// An empty file: nothing is there of what stood at these positions.
    Missing(u64, u64),
    /// An empty file: segments up to this position may have been deleted as old.
    Oldest(u64),
}

impl Name {
    fn of(file: SegmentFile) -> Self {
        Self::Segment(file.base, if file.set_aside { SET_ASIDE } else { LIVE })
    }

    fn parse(name: &str) -> Option<Self> {
        let position = |text: &str| if text.len() == 20 { text.parse().ok() } else { None };
        let (stem, extension) = name.split_once('.')?;
        if extension == MISSING {
            let (from, to) = stem.split_once('-')?;
            return Some(Self::Missing(position(from)?, position(to)?));
        }
        if extension == OLDEST {
            return position(stem).map(Self::Oldest);
        }
        let kind = [LIVE, SET_ASIDE, UNFINISHED].into_iter().find(|kind| *kind == extension)?;
        Some(Self::Segment(position(stem)?, kind))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(base, kind) => write!(f, "{base:020}.{kind}"),
            Self::Oldest(position) => write!(f, "{position:020}.{OLDEST}"),
            Self::Missing(from, to) => write!(f, "{from:020}-{to:020}.{MISSING}"),
        }
    }
}
