//! Holder of the data directory: a running agent, or this command.

use std::io;
use std::time::{Duration, Instant};

use super::CommandError;
use super::context::Context;
use crate::agent::directory::{DirectoryError, Lock};
use crate::agent::local::client::{LocalClient, LocalError};

/// Time to wait for a process that holds the data directory without listening: an agent that starts, or an
/// `emit`; and for an agent that is started anew, when its socket is all that this user may use.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Interval of looking again meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Holder of the data directory.
pub(super) enum Holder {
    /// This command, as long as it keeps the lock.
    Here(Lock),
    /// A running agent.
    Agent(LocalClient),
}

impl Holder {
    /// Finds out; waits for one that only passes by. `holder` is what others are told of this command; a
    /// running agent may take `timeout` for each answer. A program that only may speak to the agent needs no
    /// access to the data directory.
    pub(super) fn find(context: &Context, holder: &str, timeout: Duration) -> Result<Self, CommandError> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match LocalClient::connect(&context.socket(), timeout) {
                Ok(client) => return Ok(Self::Agent(client)),
                Err(LocalError::NotRunning(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let is_over = Instant::now() >= deadline;
            match context.directory().and_then(|directory| directory.lock(holder)) {
                Ok(lock) => return Ok(Self::Here(lock)),
                Err(DirectoryError::InUse { .. }) if !is_over => {}
                Err(DirectoryError::Io { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    if is_over {
                        return Err(CommandError::refused(format_args!(
                            "no agent has listened at {} for {} s, and without it only root and the agent's own user can do this: \
                             start the agent",
                            context.socket().display(),
                            TIMEOUT.as_secs()
                        )));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}
