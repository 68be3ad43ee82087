//! The data directory: one process at a time, from before anything in it is opened until everything is
//! closed.
//!
//! The lock is that of flock(2) on the directory itself. There is no file that could be left behind, copied
//! or deleted, and it ends with the process, however that ends. On a disk that several machines share it may
//! reach no further than one of them: a server holds a lease there too.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::lease::{self, Lease, Times};
use crate::file_locks::{self, Kind};

/// Lies in a directory while a backup is restored into it.
pub(super) const UNFINISHED: &str = "restore.unfinished";

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirectoryError {
    /// Another process uses it.
    #[error(
        "the data directory {} is in use by another musterd{}: stop that one first, wait for its end as a standby (musterd run --wait), or \
         name another directory with --data",
        directory.display(), holder.as_ref().map_or(String::new(), |holder| format!(", {holder}"))
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process, as far as the system tells: `process 4711 (musterd)`.
        holder: Option<String>,
    },
    /// A restore into it did not end.
    #[error("{} is only half restored: delete it and restore again", .0.display())]
    HalfRestored(PathBuf),
    /// It is not there, or not to be read.
    #[error("can't open the data directory {}: {error}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// The reason.
        error: io::Error,
    },
}

/// A data directory, locked while this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    /// Let go of before the lock.
    _lease: Option<Lease>,
    _lock: File,
}

impl DataDirectory {
    /// Locks a directory that is there for this process alone: to run a server on it, or to change it.
    ///
    /// # Errors
    /// [`DataDirectoryError`].
    pub fn lock(directory: &Path) -> Result<Self, DataDirectoryError> {
        let locked = Self::held(directory, File::try_lock)?;
        if directory.join(UNFINISHED).exists() {
            return Err(DataDirectoryError::HalfRestored(directory.to_owned()));
        }
        Ok(locked)
    }

    /// Locks a directory that is there to run a server on it. Holds a lease in it as well, when that
    /// `is_leased`; when nothing says so, on disks that several machines may have mounted. `lost` is told
    /// when it is lost: nothing may be written from then on.
    pub(super) fn lock_to_serve(
        directory: &Path,
        is_leased: Option<bool>,
        lost: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, DataDirectoryError> {
        let locked = Self::lock(directory)?;
        if !is_leased.unwrap_or_else(|| lease::is_shared(directory)) {
            return Ok(locked);
        }
        let wrong = |error| DataDirectoryError::Io { directory: directory.to_owned(), error };
        Ok(Self { _lease: Some(Lease::take(directory, Times::SERVER, lost).map_err(wrong)?), ..locked })
    }

    /// Locks a directory into which a backup is restored.
    pub(super) fn lock_to_restore(directory: &Path) -> Result<Self, DataDirectoryError> {
        Self::held(directory, File::try_lock)
    }

    /// Locks a directory that is there against those who change it: to read what a stopped server left.
    /// Others may read at the same time.
    ///
    /// # Errors
    /// [`DataDirectoryError`].
    pub fn lock_shared(directory: &Path) -> Result<Self, DataDirectoryError> {
        Self::held(directory, File::try_lock_shared)
    }

    fn held(
        directory: &Path,
        lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, DataDirectoryError> {
        let wrong = |error| DataDirectoryError::Io { directory: directory.to_owned(), error };
        let in_use = |holder| DataDirectoryError::InUse { directory: directory.to_owned(), holder };
        let file = File::open(directory).map_err(wrong)?;
        match lock(&file) {
            // Whatever is said of leases: another machine holds one.
            Ok(()) => match lease::held_by_another(directory, &Times::SERVER).map_err(wrong)? {
                None => Ok(Self { _lease: None, _lock: file }),
                holder => Err(in_use(holder)),
            },
            Err(TryLockError::Error(error)) => Err(wrong(error)),
            Err(TryLockError::WouldBlock) => {
                let of_file = file.metadata().map_err(wrong)?;
                let holders = file_locks::holders(&of_file, Kind::Whole, &(0..=u64::MAX));
                Err(in_use(holders.first().map(|process| file_locks::process_name(*process))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Config;
    use crate::server::{Server, ServerError};

    #[test]
    fn a_server_touches_nothing_in_a_directory_that_another_has() {
        let directory = tempfile::tempdir().unwrap();
        let held = DataDirectory::lock(directory.path()).unwrap();
        let refused = Server::start(Config::in_directory(directory.path())).err().unwrap();
        assert!(matches!(refused, ServerError::DataDirectory(DataDirectoryError::InUse { .. })), "{refused}");
        let said = refused.to_string();
        assert!(said.contains(&directory.path().display().to_string()), "{said}");
        assert!(said.contains("stop that one first"), "{said}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
        drop(held);
        DataDirectory::lock(directory.path()).unwrap();
    }

    #[test]
    fn those_who_read_keep_out_only_those_who_write() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) =
            (DataDirectory::lock_shared(directory.path()), DataDirectory::lock_shared(directory.path()));
        assert!(one.is_ok() && two.is_ok());
        assert!(matches!(DataDirectory::lock(directory.path()), Err(DataDirectoryError::InUse { .. })));
        drop((one, two));
        let _held = DataDirectory::lock(directory.path()).unwrap();
        assert!(DataDirectory::lock_shared(directory.path()).is_err());
        let nowhere = DataDirectory::lock(&directory.path().join("nowhere")).err().unwrap().to_string();
        assert!(nowhere.contains("can't open the data directory"), "{nowhere}");
    }
}
