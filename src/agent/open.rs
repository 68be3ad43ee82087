//! Files that another user may have put there: opened without waiting, regular files alone, read up to a
//! limit.
//!
//! open(2) of a FIFO waits for a writer, and of some devices it has effects. Both are found out before
//! anything is opened for reading.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// Flags with which everything here is opened.
const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens a regular file for reading.
///
/// # Errors
/// When it is something else, or the system refuses.
pub fn file(path: &Path) -> io::Result<File> {
    file_at(CWD, path, OFlags::RDONLY)
}

/// Opens a regular file in a directory that is open already. `flags`: [`OFlags::RDONLY`] or
/// [`OFlags::WRONLY`], and [`OFlags::NOFOLLOW`] where a link is not followed.
///
/// # Errors
/// When it is something else, or the system refuses.
pub fn file_at(directory: impl AsFd + Copy, name: &Path, flags: OFlags) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;
        // Held by name alone (O_PATH, open(2)), so that what is judged is what is opened.
        let holding = OFlags::PATH | OFlags::CLOEXEC | (flags & OFlags::NOFOLLOW);
        let held = openat(directory, name, holding, Mode::empty())?;
        check_regular(&held)?;
        let again = format!("/proc/self/fd/{}", held.as_raw_fd());
        match openat(CWD, again, FLAGS | flags.difference(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(file) => return Ok(file.into()),
            // No proc(5) here.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let file = openat(directory, name, FLAGS | flags, Mode::empty())?;
    check_regular(&file)?;
    Ok(file.into())
}

/// Opens a directory.
///
/// # Errors
/// When it is something else, or the system refuses.
pub fn directory(path: &Path) -> io::Result<File> {
    Ok(openat(CWD, path, FLAGS | OFlags::DIRECTORY, Mode::empty())?.into())
}

/// The result of asking for a file; `None` when it is not there.
///
/// # Errors
/// All but [`io::ErrorKind::NotFound`].
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// The files of a directory with this ending, sorted.
///
/// # Errors
/// When the system refuses.
pub fn list(directory: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    files.sort_unstable();
    Ok(files)
}

/// The whole content of a regular file.
///
/// # Errors
/// When it is something else, has more than `bytes_max` bytes, or the system refuses.
pub fn bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    rest(file(path)?, bytes_max)
}

/// The first bytes of a regular file, `bytes_max` at most.
///
/// # Errors
/// When it is something else, or the system refuses.
pub fn beginning(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = file(path)?;
    let mut bytes = room_for(&file, bytes_max)?;
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The whole content of a regular file, as text.
///
/// # Errors
/// As [`bytes`], and when it is not UTF-8.
pub fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(bytes(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The content of an open file from its position on.
///
/// # Errors
/// When it has more than `bytes_max` bytes, or the system refuses.
pub fn rest(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = room_for(&file, bytes_max)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("it has more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// A buffer that need not move while the file is read: what it holds stays in one place, to be wiped there.
fn room_for(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let bytes = file.metadata()?.len().min(bytes_max);
    // One more tells the end, and read_to_end(…) wants some to look for it.
    Ok(Vec::with_capacity(usize::try_from(bytes).unwrap_or_default() + 64))
}

/// Looks whether something open is a regular file.
///
/// # Errors
/// When it is not: says what it is.
pub fn check_regular(file: &impl AsFd) -> io::Result<()> {
    let what = match FileType::from_raw_mode(fstat(file)?.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Fifo => "a FIFO",
        FileType::Directory => "a directory",
        FileType::Socket => "a socket",
        FileType::Symlink => "a symbolic link",
        _ => "a device",
    };
    Err(io::Error::other(format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_a_regular_file_is_read_and_nothing_waits() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::from_raw_mode(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink(at("fifo"), at("to-fifo")).unwrap();
        symlink("/dev/zero", at("to-device")).unwrap();
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("to-fifo", "a FIFO"),
            ("socket", "a socket"),
            ("to-device", "a device"),
            ("", "a directory"),
        ] {
            let error = bytes(&at(name), 10).unwrap_err().to_string();
            assert_eq!(error, format!("it is {what}, not a regular file"));
        }
        assert_eq!(file(&at("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(at("file"), "0123456789").unwrap();
        symlink(at("file"), at("to-file")).unwrap();
        assert_eq!(text(&at("to-file"), 10).unwrap(), "0123456789");
        assert_eq!(beginning(&at("file"), 3).unwrap(), b"012");
        assert_eq!(bytes(&at("file"), 9).unwrap_err().to_string(), "it has more than 9 bytes");
        assert!(text(Path::new("/proc/self/stat"), 4096).is_ok());
        assert!(super::directory(&at("file")).is_err());
        // No program that is started inherits it.
        let flags = rustix::io::fcntl_getfd(file(&at("file")).unwrap()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{flags:?}");
    }
}
