//! Places that a configuration leads to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use crate::paths::{PathProblem, check_directory, check_private};

/// Name of the data directory in messages about it.
const DATA_SETTING: &str = "server.data_directory (or --data)";

impl Config {
    /// The UDP address of notices and wakes.
    #[must_use]
    pub fn udp_address(&self) -> SocketAddr {
        self.udp.unwrap_or(self.listen)
    }

    /// The directory of the certificates and keys.
    #[must_use]
    pub fn identity_directory(&self) -> PathBuf {
        self.data_directory.join("identity")
    }

    /// The directory of the event log.
    #[must_use]
    pub fn journal_directory(&self) -> PathBuf {
        self.data_directory.join("journal")
    }

    /// The directory of the warnings that outlive the event log.
    #[must_use]
    pub fn warnings_directory(&self) -> PathBuf {
        self.data_directory.join("warnings")
    }

    /// The directory of the artifacts.
    #[must_use]
    pub fn artifacts_directory(&self) -> PathBuf {
        self.data_directory.join("artifacts")
    }

    /// The directory of the database.
    #[must_use]
    pub fn store_directory(&self) -> PathBuf {
        self.data_directory.join("store")
    }

    /// The administrators' Unix socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.data_directory.join("admin.sock"))
    }

    /// Looks whether the paths that are named can be used by this user. Changes nothing.
    ///
    /// # Errors
    /// With the faults, and the settings' names.
    pub fn check_paths(&self) -> Result<(), Vec<PathProblem>> {
        let directories = [
            self.data_directory.clone(),
            self.identity_directory(),
            self.store_directory(),
            self.journal_directory(),
            self.warnings_directory(),
            self.artifacts_directory(),
        ];
        let mut problems: Vec<_> =
            directories.iter().filter_map(|path| check_directory(DATA_SETTING, path).err()).collect();
        // A fault of a directory is a fault of everything in it.
        problems.truncate(1);
        problems.extend(self.check_admin_socket().err());
        problems.extend(self.tls.problems("tls"));
        problems.extend(self.admin.problems());
        if let Some(path) = self.identity.passphrase_path() {
            problems.extend(check_private("identity.passphrase_file", path).err());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Faults of paths that a server starts without, and does without until they can be used.
    #[must_use]
    pub fn doubtful_paths(&self) -> Vec<PathProblem> {
        let directory = self.backup.directory.as_deref();
        directory.and_then(|path| check_directory("backup.directory", path).err()).into_iter().collect()
    }
}
