//! Why the agent does not run, or ends.

use std::io;
use std::path::PathBuf;

use crate::agent::ab_slots::SlotError;
use crate::agent::address::AddressError;
use crate::agent::directory::DirectoryError;
use crate::agent::identity::IdentityError;
use crate::agent::spool::SpoolError;
use crate::paths::PathProblem;
use crate::reactor::channel::ChannelError;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The identity can't be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address that is set is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Key or certificate can't be used.
    #[error(
        "the device's key or certificate can't be used: {0}: enrol again with 'muster-agent enroll --force'"
    )]
    Tls(ChannelError),
    /// The spool can't be used, or failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The state can't be read.
    #[error("the agent's state: {0}")]
    State(#[from] SlotError),
    /// The path of the socket for local programs can't be used.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// A thread that does the slow work has panicked: what it was asked for would be waited for without end.
    #[error("the helper '{0}' has panicked; the log says where")]
    Helper(&'static str),
    /// The socket for local programs can't be opened.
    #[error("the socket {}: {} (set another with [socket] path)", .0.display(), .1)]
    Socket(PathBuf, #[source] io::Error),
    /// The runs of tasks can't be read.
    #[error("the runs of tasks in 'runs' of the data directory can't be read: {0}")]
    Runs(io::Error),
    /// The system refused something that every agent needs.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

/// Why an agent has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was to end.
    Asked,
    /// It is to begin anew, as another program perhaps.
    Restart,
}
