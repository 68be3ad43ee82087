//! Where a command works: the configuration and the data directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::arguments::{Common, DATA_DEFAULT};
use crate::agent::directory::{Directory, DirectoryError};
use crate::agent::local::server::bound_as;
use crate::agent::settings::{FILE_NAME, Settings};
use crate::agent::toml_file::TomlError;
use crate::paths::{PathProblem, check_directory, check_readable, check_socket, check_socket_length};
use crate::wire::time::WallTime;

/// The configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Context {
    /// What is set.
    pub settings: Settings,
    /// The file it came from, when there was one or one was asked for.
    pub config: Option<PathBuf>,
    /// Data directory.
    pub data: PathBuf,
}

impl Context {
    /// Finds the configuration: the file that was named, otherwise `muster-agent.toml` in the data directory when there is one.
    ///
    /// # Errors
    /// When the configuration is wrong, or the named file is not there.
    pub fn new(common: &Common) -> Result<Self, TomlError> {
        let guess = common.data.clone().unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
        let (settings, config) = match &common.config {
            Some(file) => (Settings::read(file)?, Some(file.clone())),
            None => {
                let file = guess.join(FILE_NAME);
                match Settings::read(&file) {
                    Ok(settings) => (settings, Some(file)),
                    Err(TomlError::Io { source, .. }) if is_absent(&source) => (Settings::default(), None),
                    Err(error) => return Err(error),
                }
            }
        };
        let data = common.data.clone().or_else(|| settings.data.clone()).unwrap_or(guess);
        Ok(Self { settings, config, data })
    }

    /// The data directory, made when it is not there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn directory(&self) -> Result<Directory, DirectoryError> {
        Directory::open_or_create(&self.data)
    }

    /// Where the running agent listens for local programs.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.settings.socket.path.clone().unwrap_or_else(|| Path::new(&self.data).join("agent.sock"))
    }
}

impl Context {
    /// Looks whether the paths that are named can be used by this user. Changes nothing.
    ///
    /// # Errors
    /// What is wrong, with the settings' names.
    pub fn check_paths(&self) -> Result<(), Vec<PathProblem>> {
        let mut problems = Vec::new();
        problems.extend(check_directory("data (or --data)", &self.data).err());
        problems.extend(self.check_socket().err());
        problems.extend(check_readable("[collect] root", &self.settings.collect.root).err());
        // Without one no application is managed.
        if self.settings.applications.exists() {
            problems.extend(check_readable("applications", &self.settings.applications).err());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The same for the socket of local programs alone.
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

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The device's clock.
#[must_use]
pub fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
