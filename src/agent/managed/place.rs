//! Place of a settings file: a directory that is held open, and a name in it.
//!
//! The directory may belong to a less privileged user, who can put a symbolic link in place of anything in it
//! at any moment. So a path is walked once, and only links are followed that root or the agent's own user
//! made; everything after that is done relative to the directory that was found.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Most links of one path, as in the kernel (path_resolution(7)).
#[cfg(target_os = "linux")]
const LINKS_MAX: usize = 40;

/// Deepest directory in what is removed.
const DEPTH_MAX: usize = 16;

/// For an open directory that can also be read and made durable.
const READING: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file's place.
#[derive(Debug)]
pub(super) struct Held {
    directory: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Held {
    /// Finds the place of a file, there or not, behind all links.
    ///
    /// # Errors
    /// When the directory is not there, a link belongs to somebody else, or the system refuses.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let mut walk = Walk {
            directory: root()?,
            path: PathBuf::from("/"),
            left: Vec::new(),
            #[cfg(target_os = "linux")]
            links: 0,
        };
        #[cfg(target_os = "linux")]
        if let Some(found) = walk.at_once(path)? {
            return Ok(found);
        }
        walk.add(path);
        walk.finish()
    }

    /// The path without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(super) fn name(&self) -> &Path {
        Path::new(&self.name)
    }

    /// Makes created, renamed and removed entries of the directory durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let directory = openat(&self.directory, ".", READING, Mode::empty())?;
        File::from(directory).sync_all()
    }

    /// Removes the file, there or not; durable when this returns.
    pub(super) fn remove(&self) -> io::Result<()> {
        match unlinkat(&self.directory, &self.name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => self.sync(),
        }
    }
}

/// Opens a directory in another one for reading, without following a link.
pub(super) fn open_directory(directory: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, READING, Mode::empty())?)
}

/// Removes a file, or a directory with all that is in it, there or not; follows no link.
pub(super) fn remove_all(directory: impl AsFd, name: &Path) -> io::Result<()> {
    remove_to_depth(directory.as_fd(), name, DEPTH_MAX)
}

fn remove_to_depth(directory: BorrowedFd<'_>, name: &Path, depth: usize) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Elsewhere than on Linux PERM says that it is a directory.
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {}
        Err(error) => return Err(error.into()),
    }
    let within = open_directory(directory, name)?;
    for entry in Dir::read_from(&within)? {
        let entry = entry?;
        let entry = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        if entry != Path::new(".") && entry != Path::new("..") {
            remove_to_depth(within.as_fd(), entry, depth - 1)?;
        }
    }
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Flags with which a directory is held that is only a step on the way: with O_PATH, no right to read it is
/// needed.
#[cfg(target_os = "linux")]
const HOLDING: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const HOLDING: OFlags = READING;

fn root() -> io::Result<OwnedFd> {
    Ok(openat(CWD, "/", HOLDING | OFlags::DIRECTORY, Mode::empty())?)
}

/// A path on its way.
struct Walk {
    directory: OwnedFd,
    path: PathBuf,
    /// The last one comes next.
    left: Vec<OsString>,
    #[cfg(target_os = "linux")]
    links: usize,
}

impl Walk {
    /// The rest of the way begins with this path.
    fn add(&mut self, path: &Path) {
        self.left.extend(path.components().rev().map(|component| component.as_os_str().to_owned()));
    }

    /// The place, when there is no link on the way. `None`: there is one, or the kernel can't tell
    /// (openat2(2) is of Linux 5.6, and some sandboxes forbid it).
    #[cfg(target_os = "linux")]
    fn at_once(&self, path: &Path) -> io::Result<Option<Held>> {
        use rustix::fs::{FileType, ResolveFlags, openat2, statat};
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let flags = HOLDING | OFlags::DIRECTORY;
        let found = openat2(CWD, parent, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let Ok(directory) = found else { return Ok(None) };
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => return Ok(None),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Held { directory, name: name.to_owned(), path: path.to_owned() }))
    }

    fn finish(mut self) -> io::Result<Held> {
        while let Some(step) = self.left.pop() {
            match Path::new(&step).components().next() {
                None | Some(Component::CurDir | Component::Prefix(_)) => {}
                Some(Component::RootDir) => {
                    (self.directory, self.path) = (root()?, PathBuf::from("/"));
                }
                Some(Component::ParentDir) => {
                    self.directory = openat(&self.directory, "..", HOLDING, Mode::empty())?;
                    self.path.pop();
                }
                Some(Component::Normal(name)) => {
                    if let Some(found) = self.step(name)? {
                        return Ok(found);
                    }
                }
            }
        }
        Err(io::Error::other(format!("{} is a directory", self.path.display())))
    }

    /// Goes one name further. The place, when it was the last one.
    fn step(&mut self, name: &OsStr) -> io::Result<Option<Held>> {
        let is_last = self.left.is_empty();
        #[cfg(not(target_os = "linux"))]
        if is_last {
            // A link in its place is met by O_NOFOLLOW later.
            return self.end(name).map(Some);
        }
        let entry = match openat(&self.directory, name, HOLDING, Mode::empty()) {
            Ok(entry) => entry,
            Err(Errno::NOENT) if is_last => return self.end(name).map(Some),
            Err(error) => {
                let path = self.path.join(name);
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("{}: {error}", path.display()),
                ));
            }
        };
        #[cfg(target_os = "linux")]
        if self.follow(&entry, name)? {
            return Ok(None);
        }
        if is_last {
            return self.end(name).map(Some);
        }
        self.directory = entry;
        self.path.push(name);
        Ok(None)
    }

    /// Whether it is a link, which is followed from here on.
    #[cfg(target_os = "linux")]
    fn follow(&mut self, entry: &OwnedFd, name: &OsStr) -> io::Result<bool> {
        use std::os::unix::ffi::OsStringExt as _;

        use rustix::fs::{FileType, fstat, readlinkat};
        let stat = fstat(entry)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(false);
        }
        let path = self.path.join(name);
        if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "{} is a link of user {}: only links of root and of the agent's own user are followed",
                path.display(),
                stat.st_uid
            )));
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(io::Error::other(format!("{}: more than {LINKS_MAX} links", path.display())));
        }
        let target = readlinkat(entry, "", Vec::new())?;
        self.add(&PathBuf::from(OsString::from_vec(target.into_bytes())));
        Ok(true)
    }

    fn end(&mut self, name: &OsStr) -> io::Result<Held> {
        let directory = openat(&self.directory, ".", HOLDING | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Held { directory, name: name.to_owned(), path: self.path.join(name) })
    }
}
