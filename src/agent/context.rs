//! The base of an agent: its settings, and where they and its data are.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::local::server::bound_as;
use super::settings::Settings;
use crate::paths::{PathProblem, check_socket, check_socket_length};
use crate::wire::time::WallTime;

/// The configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The settings.
    pub settings: Settings,
    /// The file it came from, when there was one or one was asked for.
    pub config: Option<PathBuf>,
    /// Data directory.
    pub data: PathBuf,
    /// The file as it was read; `None` when it is not what counts.
    pub text: Option<String>,
    /// The fault of the file, so that the last good one counts.
    pub problem: Option<String>,
}

impl Context {
    /// Path at which the running agent listens for local programs.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.settings.socket.path.clone().unwrap_or_else(|| Path::new(&self.data).join("agent.sock"))
    }

    /// Looks whether a socket can be there.
    ///
    /// # Errors
    /// With the fault of its path.
    pub(crate) fn check_socket(&self) -> Result<(), PathProblem> {
        let path = self.socket();
        let left_out = "[socket] path (left out: in the data directory)";
        match &self.settings.socket.path {
            Some(_) => check_socket("[socket] path", &path, &bound_as(&path)),
            // The directory need not be there yet.
            None if !self.data.exists() => check_socket_length(left_out, &path, &bound_as(&path)),
            None => check_socket(left_out, &path, &bound_as(&path)),
        }
    }
}

/// The device's clock.
#[must_use]
pub fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
