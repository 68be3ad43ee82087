//! Layer 2: paths that a configuration names, looked at before they are used, so that what is wrong is said
//! with the setting's name.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Longest path of a Unix socket: `sun_path` of unix(7), 108 bytes on Linux, without the zero byte at its
/// end.
pub const SOCKET_PATH_BYTES_MAX: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// The fault of a path, and the remedy. Names the setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathProblem(String);

impl fmt::Display for PathProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for PathProblem {}

fn problem(setting: &str, path: &Path, what: impl fmt::Display) -> PathProblem {
    PathProblem(format!("{setting}: {} {what}", path.display()))
}

/// Looks whether a Unix socket can be made at `path`, which is bound as `bound_as` first and then moved.
///
/// # Errors
/// When the path is too long, its directory is not there or not this user's to write, or something else lies
/// there.
pub fn check_socket(setting: &str, path: &Path, bound_as: &Path) -> Result<(), PathProblem> {
    check_socket_length(setting, path, bound_as)?;
    check_socket_directory(setting, path)
}

/// Variable in which systemd names the directory of a unit's credentials (systemd.exec(5)).
#[cfg(feature = "server")]
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Looks whether a file can be read.
///
/// # Errors
/// With the setting and the reason.
#[cfg(feature = "server")]
pub fn check_file(setting: &str, path: &Path) -> Result<(), PathProblem> {
    readable(setting, path, std::fs::File::open(path))
}

/// A unit's credentials are left to systemd, which starts no unit without them, and which lets `ExecStart`
/// read them but not `ExecReload` (252).
#[cfg(feature = "server")]
fn readable(setting: &str, path: &Path, read: io::Result<std::fs::File>) -> Result<(), PathProblem> {
    let credentials = std::env::var_os(CREDENTIALS_VARIABLE).filter(|directory| !directory.is_empty());
    let is_credential = credentials.is_some_and(|directory| path.starts_with(directory));
    match read {
        Err(error) if !is_credential => Err(problem(setting, path, format_args!("can't be read: {error}"))),
        _ => Ok(()),
    }
}

/// Opens a file that holds a secret and is its owner's alone. As PostgreSQL has it with its key, one that
/// belongs to root may be read by a group, too: so does a service that is not root. A pipe has no such bits.
///
/// # Errors
/// When the system refuses, or others can read or change the file: with the chmod(1) that helps.
#[cfg(feature = "server")]
pub fn open_private(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::File::open(path)?;
    let about = file.metadata()?;
    let (mode, allowed) = (about.mode() & 0o777, if about.uid() == 0 { 0o640 } else { 0o600 });
    if about.is_file() && mode & !allowed & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "it has mode {mode:03o}, so others can reach the secret in it: run 'chmod {:03o} {}'",
            mode & allowed,
            path.display()
        )));
    }
    Ok(file)
}

/// Looks whether a file can be read that holds a secret ([`open_private`]).
///
/// # Errors
/// With the setting and the reason.
#[cfg(feature = "server")]
pub fn check_private(setting: &str, path: &Path) -> Result<(), PathProblem> {
    readable(setting, path, open_private(path))
}

/// Looks whether a Unix socket's path is short enough, wherever it is.
///
/// # Errors
/// When it is too long.
pub fn check_socket_length(setting: &str, path: &Path, bound_as: &Path) -> Result<(), PathProblem> {
    let bytes = path.as_os_str().as_bytes().len();
    let allowed = (SOCKET_PATH_BYTES_MAX + bytes).saturating_sub(bound_as.as_os_str().as_bytes().len());
    let allowed = allowed.min(SOCKET_PATH_BYTES_MAX);
    if bytes > allowed {
        let what = format!(
            "is too long for a Unix socket: {bytes} bytes, {allowed} are allowed here; set a shorter path, such as one below /run"
        );
        return Err(problem(setting, path, what));
    }
    Ok(())
}

fn check_socket_directory(setting: &str, path: &Path) -> Result<(), PathProblem> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    match directory.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!(
                "can't be made: there is no directory {}; make it (RuntimeDirectory= of systemd.exec(5) does below /run)",
                directory.display()
            );
            return Err(problem(setting, path, what));
        }
        Err(error) => return Err(problem(setting, path, format!("can't be made: {error}"))),
        Ok(found) if !found.is_dir() => {
            let what = format!("can't be made: {} is no directory", directory.display());
            return Err(problem(setting, path, what));
        }
        Ok(_) => writable(setting, path, directory)?,
    }
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            Err(problem(setting, path, "is there and is no socket: move it away, or set another path"))
        }
        _ => Ok(()),
    }
}

/// Looks whether a directory is this user's to write, or can be made.
///
/// # Errors
/// When it is neither.
pub fn check_directory(setting: &str, path: &Path) -> Result<(), PathProblem> {
    let mut nearest = path;
    loop {
        match nearest.metadata() {
            Ok(found) if !found.is_dir() => {
                let what = if nearest == path {
                    "is no directory".to_owned()
                } else {
                    format!("can't be made: {} is no directory", nearest.display())
                };
                return Err(problem(setting, path, what));
            }
            Ok(_) => return writable(setting, path, nearest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(problem(setting, path, format!("can't be used: {error}"))),
        }
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
}

/// Looks whether a directory is there to be read.
///
/// # Errors
/// When it is not.
pub fn check_readable(setting: &str, path: &Path) -> Result<(), PathProblem> {
    match path.metadata() {
        Ok(found) if !found.is_dir() => Err(problem(setting, path, "is no directory")),
        Ok(_) => access(path, Access::READ_OK | Access::EXEC_OK)
            .map_err(|error| problem(setting, path, format!("can't be read: {}", io::Error::from(error)))),
        Err(error) => Err(problem(setting, path, format!("can't be read: {error}"))),
    }
}

/// Whether things can be made in `directory`, for the sake of `path`.
fn writable(setting: &str, path: &Path, directory: &Path) -> Result<(), PathProblem> {
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let error = io::Error::from(error);
        // No owner helps then: a file system is mounted so, or the sandbox of a unit makes it so.
        let advice = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => {
                "in a unit with ProtectSystem=, ReadWritePaths= must name it"
            }
            _ => "it must belong to the user that this runs as",
        };
        let what = match directory == path {
            true => format!("can't be written: {error}; {advice}"),
            false => format!("can't be made: {} can't be written: {error}; {advice}", directory.display()),
        };
        problem(setting, path, what)
    })
}

/// Faults that a check of paths by root can't see, as a line for people; `None`: it is made by a service
/// manager, within the bounds of the service, or by an ordinary user. (`$SYSTEMD_EXEC_PID` of
/// systemd.exec(5), since version 248, tells a command of a unit from what was started by hand.)
#[must_use]
pub fn unseen(unit: &str) -> Option<String> {
    let own = std::process::id().to_string();
    let is_of_unit = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|process| process == own);
    (rustix::process::geteuid().is_root() && !is_of_unit).then(|| {
        format!(
            "these paths were tried as root: whether the service may use them, with its user and sandbox (User=, \
             ProtectSystem=, ReadWritePaths=), shows when it is started, or by 'systemctl reload {unit}'"
        )
    })
}

/// Every problem, in one line.
#[must_use]
pub fn line(problems: &[PathProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The path at which a socket for `path` is bound before it is moved there: a name that nobody tries.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut other = path.as_os_str().to_owned();
    other.push(suffix);
    other.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(path: &Path) -> Result<(), String> {
        check_socket("admin.socket", path, &with_suffix(path, ".new")).map_err(|problem| problem.to_string())
    }

    #[test]
    fn what_is_wrong_with_the_path_of_a_socket_is_said_with_the_setting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        assert_eq!(socket(&path), Ok(()));
        let long = |bytes: usize| {
            let room = bytes - directory.path().as_os_str().len() - 1;
            directory.path().join("s".repeat(room))
        };
        let most = SOCKET_PATH_BYTES_MAX - ".new".len();
        assert_eq!(socket(&long(most)), Ok(()));
        std::os::unix::net::UnixListener::bind(with_suffix(&long(most), ".new")).unwrap();
        let said = socket(&long(most + 1)).unwrap_err();
        assert!(said.starts_with("admin.socket: /") && said.contains("is too long"), "{said}");
        assert!(said.contains(&format!("{} bytes, {most} are allowed", most + 1)), "{said}");
        let said = socket(&directory.path().join("no/a.sock")).unwrap_err();
        assert!(said.contains("there is no directory") && said.contains("/no;"), "{said}");
        std::fs::write(&path, "").unwrap();
        assert!(socket(&path).unwrap_err().contains("is there and is no socket"));
        assert!(socket(&path.join("b.sock")).unwrap_err().contains("can't be made"), "{path:?}");
    }

    #[test]
    fn a_directory_is_there_or_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let check = |path: &Path| {
            check_directory("server.data_directory", path).map_err(|problem| problem.to_string())
        };
        assert_eq!(check(directory.path()), Ok(()));
        assert_eq!(check(&directory.path().join("a/b/c")), Ok(()));
        assert_eq!(check(Path::new("not-there/yet")), Ok(()), "below the working directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let said = check(&file).unwrap_err();
        assert!(said.starts_with("server.data_directory: /") && said.ends_with("is no directory"), "{said}");
        assert!(check(&file.join("a")).is_err());
    }
}
