//! A standby: a server that starts when another one has let go of the data directory.

use std::time::Duration;

use super::config::Config;
use super::data_directory::DataDirectoryError;
use super::{Server, ServerError};

/// An attempt of a standby to start.
pub enum StandbyStart {
    /// It was free, and this is its server now.
    Started(Box<Server>),
    /// The reason to wait, as a text.
    Waits(String),
}

impl Server {
    /// Pause between two attempts of a standby.
    pub const STANDBY_PAUSE: Duration = Duration::from_millis(250);

    /// As a standby: starts the server when its data directory has the data of a server and no process holds
    /// it. The directory is looked for by its path each time, as a disk may come to be mounted there. It
    /// makes no new server: an empty directory may be the place where a disk is missing.
    ///
    /// # Errors
    /// As [`Server::start`], except that another holds the directory.
    pub fn start_when_free(config: &Config) -> Result<StandbyStart, ServerError> {
        if !config.identity_directory().exists() {
            let directory = config.data_directory.display();
            return Ok(StandbyStart::Waits(format!(
                "there is no server's data in {directory}: it waits for a disk that comes to be mounted there; the first server \
                 is started without --wait"
            )));
        }
        match Self::start(config.clone()) {
            Ok(server) => Ok(StandbyStart::Started(Box::new(server))),
            Err(ServerError::DataDirectory(DataDirectoryError::InUse { directory, holder })) => {
                let holder = holder.unwrap_or_else(|| "another musterd".to_owned());
                Ok(StandbyStart::Waits(format!("{} is held by {holder}", directory.display())))
            }
            Err(error) => Err(error),
        }
    }
}
