//! Layer 5: assembly of the embeddable server.
//!
//! [`Server::start`] opens identity, store and journal, brings the device table up to date, and starts the
//! threads; the handbook's [architecture](crate::manual::architecture) says who they are. [`Server::drain`]
//! ends them in the order in which data goes round, so that nothing that was begun is lost. Signals are the
//! caller's: an embedder has its own.
#![forbid(unsafe_code)]

mod admin_parts;
mod backend;
pub mod backup;
mod calls;
mod clock_watch;
pub mod config;
mod control;
pub mod data_directory;
pub mod enrolment;
mod event_log;
pub mod identity;
mod lease;
mod limits;
pub mod members;
mod panic_guard;
mod ports;
pub mod presence;
mod presented;
pub mod process;
pub mod renewal;
mod running;
mod scheduler;
pub mod sequences;
mod standby;
mod start;
mod tickets;
mod trim;
mod trusted;
pub mod warnings;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::admin::AdminContext;
#[cfg(feature = "internals")]
use crate::admin::Calls;
use crate::admin::listen::ListenError;
use crate::admin::within;
pub use crate::admin::within::{Devices, EventSubscription};
#[cfg(feature = "internals")]
use crate::concurrency::counters::Counters;
use crate::concurrency::reactors::{ReactorMailboxes, ToReactor};
use crate::journal::{Archive, DirectoryError, Journal, OpenError, ReadError};
use crate::paths::{self, PathProblem};
use crate::reactor::ReactorError;
use crate::reactor::channel::ChannelError;
use crate::store::{Store, StoreError};
use crate::wire::api::{CreatedToken, DeviceQuery, ErrorDetail, NewToken};
use crate::wire::id::CertificateHash;
use backend::LiveBackend;
use config::{Config, ReloadDiff};
use data_directory::DataDirectoryError;
use identity::{Identity, IdentityError};
pub use panic_guard::ServerFailure;
use presented::Presented;
pub use presented::TlsFilesError;
use running::Running;
pub use standby::StandbyStart;

/// Why a server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The system refused something.
    #[error("can't {what}: {error}")]
    System {
        /// The attempt.
        what: String,
        /// Why it could not.
        error: io::Error,
    },
    /// Its data directory.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// An address can't be had.
    #[error("can't listen on {protocol} {address}: {error}{}", advice(error))]
    Address {
        /// TCP or UDP.
        protocol: &'static str,
        /// Which address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A path that the configuration names can't be used.
    #[error("{}", paths::line(.0))]
    Paths(Vec<PathProblem>),
    /// Its keys and certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal's directory.
    #[error(transparent)]
    JournalDirectory(#[from] DirectoryError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The journal, read again from its beginning.
    #[error(transparent)]
    JournalRead(#[from] ReadError),
    /// It refuses what it was asked.
    #[error(transparent)]
    Refused(#[from] ErrorDetail),
    /// Its certificate can't be used for TLS.
    #[error(transparent)]
    Tls(#[from] ChannelError),
    /// A certificate of another authority.
    #[error(transparent)]
    TlsFiles(#[from] TlsFilesError),
    /// A reactor.
    #[error(transparent)]
    Reactor(#[from] ReactorError),
    /// The administration socket.
    #[error(transparent)]
    Admin(#[from] ListenError),
    /// Something that it can't go on without failed while it ran or ended: the journal, a thread. The first
    /// such failure.
    #[error(transparent)]
    Failed(#[from] ServerFailure),
}

impl ServerError {
    fn when(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what: what.into(), error }
    }
}

/// Advice about an address that can't be had.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; perhaps another musterd serves devices there: stop it, or give this one addresses of its own ([server] listen and udp, \
             --listen and --udp)"
        }
        _ => " (set another with [server] listen and udp, or --listen and --udp)",
    }
}

/// The way to hear of the failure that a server can't go on after. Outlives the server; of several clones one
/// gets the failure.
#[derive(Clone, Debug)]
pub struct FailureWatch(Receiver<ServerFailure>);

impl FailureWatch {
    /// Blocks until the server can't go on: why. `None`: it has ended.
    #[must_use]
    pub fn wait(&self) -> Option<ServerFailure> {
        self.0.recv().ok()
    }
}

/// The way to know whether the server is stuck. Outlives the server, which does not turn any more then.
#[derive(Clone)]
pub struct ReactorWatch(ReactorMailboxes);

impl ReactorWatch {
    /// Waits until each thread that serves devices has turned, for this time at most. Says whether it has.
    #[must_use]
    pub fn all_turn_within(&self, time: Duration) -> bool {
        self.0.all_turn_within(time)
    }
}

/// A running server. [`Server::drain`] ends it, and dropping it does the same without saying whether
/// something failed.
pub struct Server {
    config: Config,
    addresses: Vec<SocketAddr>,
    identity: Arc<Identity>,
    presented: Arc<Presented>,
    is_first_start: bool,
    context: AdminContext,
    store: Store,
    backend: Arc<LiveBackend>,
    mailboxes: ReactorMailboxes,
    journal: Journal,
    archive: Archive,
    /// Number of reactors.
    reactors: usize,
    failures: Receiver<ServerFailure>,
    descriptors: u64,
    links_max: Arc<AtomicU64>,
    persistent_max: Arc<AtomicU64>,
    udp_address: SocketAddr,
    #[cfg(feature = "internals")]
    calls: Arc<dyn Calls>,
    /// The last field: it ends what the others are handles to, and lets go of the data directory when
    /// everything in it is closed.
    running: Running,
}

#[cfg(feature = "internals")]
impl Server {
    /// The state on disk.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The log of events.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The way to call devices.
    #[must_use]
    pub fn calls(&self) -> &Arc<dyn Calls> {
        &self.calls
    }

    /// The counters, by name.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.backend.counters
    }

    /// The way to the open links.
    #[must_use]
    pub fn mailboxes(&self) -> &ReactorMailboxes {
        &self.mailboxes
    }
}

impl Server {
    /// Starts a server. When this returns, devices and administrators can connect.
    ///
    /// # Errors
    /// When something that it needs can't be opened; the error says what, and nothing is left running.
    pub fn start(config: Config) -> Result<Self, ServerError> {
        start::start(config)
    }

    /// Addresses that devices connect to. With port 0 in the configuration, the port that the system gave.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Address that devices send notices to, and that wakes come from.
    #[must_use]
    pub fn udp_address(&self) -> SocketAddr {
        self.udp_address
    }

    /// The configuration that is in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The administration socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.config.admin_socket()
    }

    /// The hash of the server's certificate.
    #[must_use]
    pub fn certificate(&self) -> CertificateHash {
        self.identity.certificate_hash()
    }

    /// Whether the data directory was empty: the identity was made just now.
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        self.is_first_start
    }

    /// Makes a join token, as an administrator does: in the audit it is the program that did. Blocks.
    ///
    /// # Errors
    /// [`ServerError::Refused`]: a value that is not allowed, or a store that is full or busy.
    pub fn create_token(&self, new: NewToken) -> Result<CreatedToken, ServerError> {
        Ok(within::create_token(&self.context, new)?)
    }

    /// The devices that a query wants, in its order; read page by page, of `limit` devices each. Blocks.
    #[must_use]
    pub fn devices(&self, query: DeviceQuery) -> Devices<'_> {
        Devices::new(&self.context, query)
    }

    /// The events from a position of the journal on; `None`: those that come from now on.
    ///
    /// # Errors
    /// [`ServerError::Refused`] when the position is beyond the journal's end.
    pub fn subscribe(&self, position: Option<u64>) -> Result<EventSubscription<'_>, ServerError> {
        Ok(EventSubscription::new(&self.context, position)?)
    }

    /// The way to hear that the server can't go on, such as when its journal has failed: drain it then.
    #[must_use]
    pub fn failures(&self) -> FailureWatch {
        FailureWatch(self.failures.clone())
    }

    /// The way to know whether it is stuck.
    #[must_use]
    pub fn reactors(&self) -> ReactorWatch {
        ReactorWatch(self.mailboxes.clone())
    }

    /// Takes over another configuration, as far as a running server can. Settings that need a restart have
    /// not changed.
    ///
    /// # Errors
    /// When the store can't be asked for the devices that a new interval concerns, or the files of `[tls]` or
    /// `[admin]` can't be used; the old configuration is in force then.
    pub fn reload(&mut self, new: &Config) -> Result<ReloadDiff, ServerError> {
        let diff = self.config.reload_diff(new);
        let config = self.config.reloaded(new);
        // First, as it may be refused: then nothing has changed. Also when the names are the same, as what is
        // in the files may not be.
        self.presented.configure(&config)?;
        self.store.devices().set_default_interval(event_log::seconds(config.sync.interval))?;
        self.archive.set_retention(warnings::retention(&config.journal));
        self.journal.set_retention(Some(event_log::retention(&config.journal)))?;
        let links_max = limits::allowed_links(&config.links, self.descriptors, self.reactors);
        self.links_max.store(links_max, Ordering::Relaxed);
        let persistent_max = limits::allowed_persistent(&config.links, links_max);
        self.persistent_max.store(persistent_max, Ordering::Relaxed);
        self.store.devices().set_persistent_max(persistent_max)?;
        self.context.artifacts.set_bytes_max(config.artifacts.bytes_max);
        self.backend.set(&config, persistent_max);
        let settings = limits::link_settings(&config.links, links_max, self.reactors);
        if !self.mailboxes.tell_all(|| ToReactor::Settings(settings)) {
            log::error!("a reactor has too much to do to be told of the new limits: reload again");
        }
        if let Some(backups) = &self.running.backups {
            backups.set_config(&config.backup);
        }
        self.config = config;
        Ok(diff)
    }

    /// Ends the server: no more links are accepted, what is in flight is finished, devices are told to come
    /// again, the journal is made durable. Takes a few seconds at most.
    ///
    /// # Errors
    /// When anything failed that the server could not go on without, while it ran or now: what failed first.
    pub fn drain(self) -> Result<(), ServerError> {
        let failures = self.running.failures.clone();
        drop(self);
        failures.first().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }
}
