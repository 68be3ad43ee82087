//! The agent's data directory, for its owner alone, and the lock that keeps a second agent out.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the slots that hold the machine's state.
pub(super) const STATE_SLOT: &str = "agent-state";

/// Name of the file that holds the inventory that the server has.
pub(super) const BASE_FILE: &str = "inventory.base";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refused.
    #[error("{}: {source} (give another data directory with --data, or make it accessible)", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Somebody else holds the lock.
    #[error("the data directory {} is in use by {holder}: a data directory serves one agent", path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// Who says to hold it.
        holder: String,
    },
}

/// The data directory. Exists, mode 0700 when it was made here.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// While it lives, no other agent and no other `emit` uses the spool of this directory. The kernel takes it back when the
/// process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Directory {
    /// The data directory at `path`, made when it is not there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open_or_create(path: &Path) -> Result<Self, DirectoryError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DirectoryError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes the lock for this process, described as `holder` to whoever finds it taken.
    ///
    /// # Errors
    /// When another process holds it, or the system refuses.
    pub fn lock(&self, holder: &str) -> Result<Lock, DirectoryError> {
        self.lock_file("agent.lock", holder)
    }

    /// Keeps a second move to another server out; the agent may run meanwhile.
    ///
    /// # Errors
    /// When one is under way, or the system refuses.
    pub fn lock_move(&self) -> Result<Lock, DirectoryError> {
        self.lock_file("move.lock", "a move to another server")
    }

    fn lock_file(&self, name: &str, holder: &str) -> Result<Lock, DirectoryError> {
        let path = self.path.join(name);
        let wrap = |source| DirectoryError::Io { path: path.clone(), source };
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
                Err(DirectoryError::InUse { path: self.path.clone(), holder })
            }
            Err(TryLockError::Error(source)) => Err(wrap(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the spool is.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// Where ordered settings are kept.
    #[must_use]
    pub fn orders(&self) -> PathBuf {
        self.path.join("orders")
    }

    /// Where the running agent listens for local programs, unless the configuration names another place.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

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
