//! Who has the say over the data directory: a running agent, or this command.

use std::time::{Duration, Instant};

use super::CommandError;
use super::context::Context;
use crate::agent::directory::{DirectoryError, Lock};
use crate::agent::local::client::{LocalClient, LocalError};

/// How long to wait for whoever holds the data directory without listening: an agent that starts, or an `emit`.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look again meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Who has the say over the data directory.
pub(super) enum Holder {
    /// This command, as long as it keeps the lock.
    Here(Lock),
    /// A running agent.
    Agent(LocalClient),
}

impl Holder {
    /// Finds out; waits for whoever only passes by. `holder` is what others are told of this command; a running agent may take
    /// `timeout` for each answer. A program that only may speak to the agent needs no access to the data directory.
    pub(super) fn find(context: &Context, holder: &str, timeout: Duration) -> Result<Self, CommandError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match LocalClient::connect(&context.socket(), timeout) {
                Ok(client) => return Ok(Self::Agent(client)),
                Err(LocalError::NotRunning(_)) => {}
                Err(error) => return Err(error.into()),
            }
            match context.directory()?.lock(holder) {
                Ok(lock) => return Ok(Self::Here(lock)),
                Err(DirectoryError::InUse { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(LOOK_INTERVAL);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
