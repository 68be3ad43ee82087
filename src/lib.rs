//! **muster**: a device-fleet administration server.
//!
//! A program embeds the server with `Server` and `Config`, administers one with `Client`, and embeds the
//! agent with `Agent`; the handbook's chapter is [`manual::embedding`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let mut config = muster::Config::in_directory(directory.path());
//! config.listen = "127.0.0.1:0".parse()?;
//! let server = muster::Server::start(config)?;
//! assert!(server.is_first_start());
//!
//! let mut client = muster::Client::new(muster::Address::Socket(server.admin_socket()))?;
//! let created = client.create_token(&Default::default())?;
//! assert!(created.token.starts_with("muster1-"));
//! server.drain()?;
//! # Ok(())
//! # }
//! ```
//!
//! The handbook is [`manual`]. The layers, lowest first; a module names only layers below its own
//! (`tests/tidy.rs` enforces it):
//!
//! | layer | modules | what lives there |
//! |---|---|---|
//! | 0 | [`wire`] | bytes to values and back: no IO, no clock |
//! | 1 | [`fleet`], [`machine`], [`record_layer`], `sync` | pure rules and pure state machines; locks and atomics, which loom replaces in its tests |
//! | 2 | [`concurrency`], `logging`, `memory`, `file_locks`, `configuration`, `paths`, `service_manager` | what passes between threads; the log of a program; the process's memory; locks on files; configurations and the paths that they name; what the service manager is told |
//! | 3 | [`journal`], `store`, [`reactor`] | the disk and the sockets |
//! | 4 | `admin`, `agent`, `client` | the two ends of administration, and the device side |
//! | 5 | `server` | threads, start, drain: the embeddable server |
//! | 6 | `musterd` | the program around it |

// `pub` in a private module says what its neighbours use, and its front names what tests use: rustc can judge
// both with `internals` only, and dead code without it, in a build of all programs.
#![cfg_attr(
    not(feature = "internals"),
    allow(
        unreachable_pub,
        unused_imports,
        rustdoc::private_intra_doc_links,
        reason = "judged with `internals`"
    )
)]
#![cfg_attr(
    not(any(feature = "internals", feature = "demo")),
    allow(dead_code, reason = "a part does not use all that the parts share")
)]

#[cfg(all(feature = "server", not(feature = "internals")))]
mod admin;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod admin;
#[cfg(all(feature = "agent", not(feature = "internals")))]
mod agent;
#[cfg(all(feature = "agent", feature = "internals"))]
pub mod agent;
#[cfg(all(feature = "client", not(feature = "internals")))]
mod client;
#[cfg(all(feature = "client", feature = "internals"))]
pub mod client;
#[cfg(not(feature = "internals"))]
mod concurrency;
#[cfg(feature = "internals")]
pub mod concurrency;
#[cfg(all(any(feature = "server", feature = "agent"), not(feature = "internals")))]
mod configuration;
#[cfg(all(any(feature = "server", feature = "agent"), feature = "internals"))]
pub mod configuration;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod file_locks;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod file_locks;
#[cfg(not(feature = "internals"))]
mod fleet;
#[cfg(feature = "internals")]
pub mod fleet;
#[cfg(not(feature = "internals"))]
mod journal;
#[cfg(feature = "internals")]
pub mod journal;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod logging;
#[cfg(all(feature = "daemon", feature = "internals"))]
pub mod logging;
#[cfg(not(feature = "internals"))]
mod machine;
#[cfg(feature = "internals")]
pub mod machine;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod memory;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod memory;
#[cfg(all(feature = "musterd", not(feature = "internals")))]
mod musterd;
#[cfg(all(feature = "musterd", feature = "internals"))]
pub mod musterd;
#[cfg(all(any(feature = "server", feature = "agent", feature = "client"), not(feature = "internals")))]
mod paths;
#[cfg(all(any(feature = "server", feature = "agent", feature = "client"), feature = "internals"))]
pub mod paths;
#[cfg(not(feature = "internals"))]
mod reactor;
#[cfg(feature = "internals")]
pub mod reactor;
#[cfg(not(feature = "internals"))]
mod record_layer;
#[cfg(feature = "internals")]
pub mod record_layer;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod server;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod server;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod service_manager;
#[cfg(all(feature = "daemon", feature = "internals"))]
pub mod service_manager;
#[cfg(all(feature = "server", not(feature = "internals")))]
mod store;
#[cfg(all(feature = "server", feature = "internals"))]
pub mod store;
#[cfg(not(feature = "internals"))]
mod wire;
#[cfg(feature = "internals")]
pub mod wire;
// A build with parts of the crate has the whole handbook, and no links to what is not in it.
#[cfg_attr(
    not(all(feature = "server", feature = "muster-agent", feature = "ctl")),
    allow(rustdoc::broken_intra_doc_links, reason = "the handbook is about all parts")
)]
pub mod manual;
mod sync;

#[cfg(feature = "agent")]
pub use agent::application::embedded::Application;
#[cfg(feature = "agent")]
pub use agent::embedded::{Agent, AgentBuilder, AgentError, NewEvent, RunningAgent, StopReason};
#[cfg(feature = "agent")]
pub use agent::local::protocol::Status as AgentStatus;
#[cfg(feature = "agent")]
pub use agent::task::function::{Task, TaskEnd};
#[cfg(feature = "client")]
pub use client::{Address, AnswerPieces, Client, ClientError, Follow, Paged, Pages, Sync};
#[cfg(feature = "server")]
pub use server::config::{self, Config, ConfigError};
#[cfg(feature = "server")]
pub use server::{
    Devices, EventSubscription, FailureWatch, ReactorWatch, Server, ServerError, ServerFailure,
};
pub use wire::api;
#[cfg(feature = "agent")]
pub use wire::{artifact::ArtifactUse, event::Severity, section::Condition};

/// The programs of this package, for a program that is all of them: arguments in, exit code out.
pub mod programs {
    #[cfg(feature = "muster-agent")]
    pub use crate::agent::cli::main as muster_agent;
    #[cfg(feature = "ctl")]
    pub use crate::client::cli::main as musterctl;
    #[cfg(feature = "musterd")]
    pub use crate::musterd::main as musterd;

    /// The command lines of all programs, for what is written of them.
    #[cfg(all(feature = "demo", feature = "internals"))]
    #[must_use]
    pub fn command_lines() -> [clap::Command; 3] {
        [
            crate::musterd::command_line(),
            crate::agent::cli::command_line(),
            crate::client::cli::command_line(),
        ]
    }
}

#[cfg(test)]
#[path = "../tests/kit/skip.rs"]
mod skip;
