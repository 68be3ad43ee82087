//! The agent's data directory, for its owner alone, and the lock that keeps a second agent out.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time to wait for a command that holds the lock for a moment, such as an `emit`.
const PASSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of tries meanwhile: shorter than that of commands that wait for the same.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

/// A running agent, as it describes itself to the others.
pub(super) const RUNNING_AGENT: &str = "a running agent";

/// The lock of the whole directory.
const LOCK_FILE: &str = "agent.lock";

/// Name of the slots that hold the machine's state.
pub(super) const STATE_SLOT: &str = "agent-state";

/// Name of the file that holds the inventory that the server has.
pub(super) const BASE_FILE: &str = "inventory.base";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refused.
    #[error("{}: {} (give another data directory with --data, or make it accessible)", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
    /// It is not there.
    #[error("there is no data directory {}: name the device's with --data, or enrol it with 'muster-agent enroll'", .0.display())]
    NotThere(PathBuf),
    /// Somebody else, as it describes itself, holds the lock.
    #[error("the data directory {} is in use by {}: a data directory serves one agent", .0.display(), .1)]
    InUse(PathBuf, String),
}

/// The data directory. Exists, mode 0700 when it was made here.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// While it lives, no other agent and no other `emit` uses the spool of this directory. The kernel takes it
/// back when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Directory {
    /// The data directory at `path`, which must be there.
    ///
    /// # Errors
    /// When it is not, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        match path.metadata() {
            Ok(found) if found.is_dir() => Ok(Self { path: path.to_owned() }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DirectoryError::Io(path.to_owned(), error))
            }
            _ => Err(DirectoryError::NotThere(path.to_owned())),
        }
    }

    /// One that is not there, for those who look what would be in it.
    #[must_use]
    pub(super) fn not_there(path: PathBuf) -> Self {
        Self { path }
    }

    /// The data directory at `path`, made when it is not there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open_or_create(path: &Path) -> Result<Self, DirectoryError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DirectoryError::Io(path.to_owned(), source))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes the lock for this process, described as `holder` to others that find it taken.
    ///
    /// # Errors
    /// When another process holds it, or the system refuses.
    pub fn lock(&self, holder: &str) -> Result<Lock, DirectoryError> {
        self.lock_file(LOCK_FILE, holder)
    }

    /// The same, and waits for commands that hold it for a moment; a running agent holds it for long.
    ///
    /// # Errors
    /// When a running agent holds it, another process does not let go of it in ten seconds, or the system
    /// refuses.
    pub fn lock_patiently(&self, holder: &str) -> Result<Lock, DirectoryError> {
        let deadline = Instant::now() + PASSING_TIMEOUT;
        loop {
            match self.lock(holder) {
                Err(DirectoryError::InUse(_, other))
                    if !other.starts_with(RUNNING_AGENT) && Instant::now() < deadline =>
                {
                    std::thread::sleep(RETRY_INTERVAL);
                }
                result => return result,
            }
        }
    }

    /// Keeps a second move to another server out; the agent may run meanwhile.
    ///
    /// # Errors
    /// When one is under way, or the system refuses.
    pub fn lock_move(&self) -> Result<Lock, DirectoryError> {
        self.lock_file("move.lock", "a move to another server")
    }

    /// Keeps a second agent out that would enrol the device by itself; commands find it unlocked.
    ///
    /// # Errors
    /// When another one does so, or the system refuses.
    pub fn lock_join(&self) -> Result<Lock, DirectoryError> {
        self.lock_file("join.lock", RUNNING_AGENT)
    }

    fn lock_file(&self, name: &str, holder: &str) -> Result<Lock, DirectoryError> {
        let path = self.path.join(name);
        let wrap = |source| DirectoryError::Io(path.clone(), source);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(wrap)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(wrap)?;
                file.rewind().map_err(wrap)?;
                write!(file, "{holder}, process {}", std::process::id()).map_err(wrap)?;
                Ok(Lock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&mut file).take(200).read_to_string(&mut holder);
                if holder.is_empty() {
                    holder.push_str("another process");
                }
                Err(DirectoryError::InUse(self.path.clone(), holder))
            }
            Err(TryLockError::Error(source)) => Err(wrap(source)),
        }
    }

    /// Removes it, when nothing is in it but locks that nobody needs any more.
    pub fn remove_empty(&self) {
        let _ = std::fs::remove_file(self.path.join(LOCK_FILE));
        let _ = std::fs::remove_dir(&self.path);
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directory of the spool.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// Directory of runs of tasks.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Directory of the files that runs need.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// Directory of ordered settings.
    #[must_use]
    pub fn ordered(&self) -> PathBuf {
        self.path.join("orders")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn who_only_passes_by_is_waited_for_and_a_running_agent_is_not() {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(outer.path()).unwrap();
        for _ in 0..20 {
            let lock = directory.lock("an emit").unwrap();
            let passing = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                drop(lock);
            });
            drop(directory.lock_patiently(RUNNING_AGENT).unwrap());
            passing.join().unwrap();
        }
        let _lock = directory.lock(RUNNING_AGENT).unwrap();
        let begun = Instant::now();
        let error = directory.lock_patiently(RUNNING_AGENT).unwrap_err();
        assert!(matches!(error, DirectoryError::InUse(..)), "{error}");
        assert!(begun.elapsed() < PASSING_TIMEOUT, "nobody waits for an agent");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_and_not_made() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("a");
        let error = Directory::open(&path).unwrap_err().to_string();
        assert!(error.contains("there is no data directory") && error.contains("--data"), "{error}");
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Directory::open(&path), Err(DirectoryError::NotThere(_))));
    }

    #[test]
    fn a_second_holder_is_refused_and_told_who_is_first() {
        let outer = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(&outer.path().join("a/b")).unwrap();
        assert_eq!(std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let lock = directory.lock("a running agent").unwrap();
        let error = directory.lock("another").unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by a running agent, process {}", std::process::id())),
            "{error}"
        );
        drop(lock);
        drop(directory.lock("another").unwrap());
    }
}
