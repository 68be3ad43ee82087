//! **muster**: a device-fleet administration server.
//!
//! A program embeds the server with `Server` and `Config`, and administers one with `Client`:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let mut config = muster::Config::in_directory(directory.path());
//! config.listen = "127.0.0.1:0".parse()?;
//! let server = muster::Server::start(config)?;
//! assert!(server.is_first_start());
//!
//! let mut client = muster::Client::new(muster::client::Address { socket: server.admin_socket() })?;
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
//! | 1 | [`fleet`], [`machine`], [`record_layer`] | pure rules and pure state machines |
//! | 2 | [`concurrency`], `logging`, `memory`, `file_locks`, `paths`, `service_manager` | what passes between threads; the log of a program; the process's memory; locks on files; paths of a configuration; what the service manager is told |
//! | 3 | [`journal`], `store`, [`reactor`] | the disk and the sockets |
//! | 4 | `admin`, `agent`, `client` | the two ends of administration, and the device side |
//! | 5 | `server` | threads, start, drain: the embeddable server |

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "client")]
pub mod client;
pub mod concurrency;
#[cfg(feature = "server")]
pub mod file_locks;
pub mod fleet;
pub mod journal;
#[cfg(feature = "daemon")]
pub mod logging;
pub mod machine;
// A build with parts of the crate has the whole handbook, and no links to what is not in it.
#[cfg_attr(
    not(all(feature = "server", feature = "agent", feature = "ctl")),
    allow(rustdoc::broken_intra_doc_links, reason = "the handbook is about all parts")
)]
pub mod manual;
#[cfg(feature = "server")]
pub mod memory;
#[cfg(any(feature = "server", feature = "agent", feature = "client"))]
pub mod paths;
pub mod reactor;
pub mod record_layer;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "daemon")]
pub mod service_manager;
#[cfg(feature = "server")]
pub mod store;
pub mod wire;

#[cfg(feature = "client")]
pub use client::{Client, ClientError};
#[cfg(feature = "server")]
pub use server::config::{Config, ConfigError};
#[cfg(feature = "server")]
pub use server::{FailureWatch, Server, ServerError};

#[cfg(test)]
#[path = "../tests/kit/skip.rs"]
mod skip;
