//! Administration's view of the server: plain parts, so that it can be tested without one.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Bytes;
use tokio::sync::mpsc::{self, UnboundedSender};

use super::network::Network;
use super::openid::OpenIdConfig;
use crate::concurrency::counters::Counters;
use crate::journal::ReadError;
use crate::machine::device_state::LinkRef;
use crate::reactor::Clock;
use crate::store::{Artifacts, Store};
use crate::wire::api::{
    BackupStatus, CallOutcome, CertificateChange, CertificateStage, CertificateStatus, DatagramTotals,
    EventTotals, JournalStatus, Limit, LinkTotals, RecoveryKey,
};
use crate::wire::datagram::WakeReason;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::time::WallTime;

/// Everything that the administration API works on.
#[derive(Clone)]
pub struct AdminContext {
    /// The state on disk, and the devices in memory.
    pub store: Store,
    /// Files that tasks come with.
    pub artifacts: Arc<Artifacts>,
    /// The way to the open links.
    pub links: Arc<dyn Links>,
    /// The way to call devices, wherever they are.
    pub calls: Arc<dyn Calls>,
    /// The way to let devices know that they have another desired state.
    pub device_notifier: Arc<dyn DeviceNotifier>,
    /// The stored events.
    pub log: Arc<dyn EventLog>,
    /// The counts.
    pub gauges: Arc<dyn Gauges>,
    /// The way to backups.
    pub backups: Arc<dyn Backups>,
    /// The server's certificate.
    pub certificates: Arc<dyn Certificates>,
    /// The port for administrators, when there is one.
    pub network: Option<Network>,
    /// The provider of `OpenID` Connect, when there is one.
    pub openid: Option<OpenIdConfig>,
    /// Facts that do not change while the server runs.
    pub info: ServerInfo,
    /// The journal's durable position, sent whenever it rises: wakes followers.
    pub durable: tokio::sync::watch::Receiver<u64>,
    /// Whether a device that wakes do not reach is kept connected though nobody set that (`[links]
    /// keep_unreachable`); changes with a reload.
    pub keep_unreachable: Arc<AtomicBool>,
    /// The time, and the time since which the server is there.
    pub clock: Clock,
}

/// Facts that do not change while the server runs.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Version of the server.
    pub version: &'static str,
    /// Addresses at which it listens for devices.
    pub addresses: Vec<String>,
    /// The interval of syncs where neither device nor group has one.
    pub interval_seconds: u32,
    /// The TCP port that devices connect to.
    pub device_port: u16,
    /// The first of the names under which the server is reached.
    pub host_name: Option<String>,
    /// Directory of the agents that devices may fetch.
    pub agents: PathBuf,
}

/// The way to the open links.
pub trait Links: Send + Sync {
    /// Other settings are in force for the device now: they reach it with the next reply on its link.
    fn settings_changed(&self, device: DeviceId);
    /// The device was removed, and this was its link: close it.
    fn device_removed(&self, device: DeviceId, link: LinkRef);
}

/// Too many calls wait already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many devices are being called already: try again in a moment")]
pub struct CallsBusy;

/// Told what becomes of devices that are called: each of them once. Holds at most one outcome for each, so it
/// needs no bound of its own.
pub type OutcomeSink = UnboundedSender<(DeviceId, CallOutcome)>;

/// The way to call devices.
pub trait Calls: Send + Sync {
    /// Calls these devices, each of which is named once. The outcome of each is sent to `sink`, once for
    /// each. The operation's number, for [`Calls::cancel`]. Returns at once: it is called on the control
    /// thread.
    ///
    /// # Errors
    /// Too many calls wait already; then none of these devices is called.
    fn call(
        &self,
        devices: &[DeviceId],
        reason: WakeReason,
        sink: Option<OutcomeSink>,
    ) -> Result<u64, CallsBusy>;
    /// Nobody waits for this operation any more. One that has ended, or never was, is passed over.
    fn cancel(&self, operation: u64);
}

/// The way to let devices know that they have another desired state. Returns at once: it is called on the
/// control thread and by workers.
pub trait DeviceNotifier: Send + Sync {
    /// These devices have other settings or runs now. Those that are connected are asked to sync, paced over
    /// the fleet; the others are woken when `wake` says why, and else hear of it when they come by.
    fn notify(&self, devices: &[DeviceId], wake: Option<WakeReason>);

    /// Tasks were made or have ended: the scheduler should look at them.
    fn tasks_changed(&self);
}

/// One record of the event log.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Its position.
    pub position: u64,
    /// Position of the next one.
    pub next_position: u64,
    /// When the server received it.
    pub received_at: WallTime,
    /// The device that sent it.
    pub device: DeviceId,
    /// The device's number for it.
    pub sequence: u64,
    /// Spool epoch and event ([`machine::record`](crate::machine::record)).
    pub payload: &'a [u8],
}

/// Events that were deleted, but for warnings and worse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// From this position on, all are there.
    pub before: u64,
    /// When the first of those was received; `None`: there is none yet.
    pub received_before: Option<WallTime>,
    /// When the oldest warning was received that was kept; `None`: there is none.
    pub warnings_from: Option<WallTime>,
}

/// Shown one record; says whether to go on.
pub type Visit<'v> = &'v mut dyn FnMut(LogRecord<'_>) -> ControlFlow<()>;

/// The stored events: what is durable. Every call may read from disk, and is made on a blocking thread.
pub trait EventLog: Send + Sync {
    /// The position where the oldest record that is kept begins.
    fn oldest(&self) -> u64;
    /// The position up to which everything is durable.
    fn durable(&self) -> u64;
    /// The part that retention has deleted. `None`: nothing.
    fn deleted(&self) -> Option<Deleted>;
    /// Shows the records from the first one at or behind `from` on, oldest first, until `visit` breaks or the
    /// durable end is reached.
    ///
    /// # Errors
    /// [`ReadError`] when it can't be read.
    fn forward(&self, from: u64, visit: Visit<'_>) -> Result<(), ReadError>;
    /// Shows the records that end at or before `before`, newest first, until `visit` breaks or the oldest is
    /// reached; of those that were deleted, warnings and worse. Segments in which nothing was received at or
    /// after `since` are passed over; records from before it are among those that are shown.
    ///
    /// # Errors
    /// [`ReadError`] when it can't be read.
    fn backward(&self, before: u64, since: WallTime, visit: Visit<'_>) -> Result<(), ReadError>;
}

/// The server's counts.
pub trait Gauges: Send + Sync {
    /// Events stored since the start.
    fn events_stored(&self) -> u64;
    /// Events since the start; the rate is filled in by the reader.
    fn events(&self) -> EventTotals;
    /// Links since the start.
    fn links(&self) -> LinkTotals;
    /// The event log. May touch the disk: called on a blocking thread.
    fn journal(&self) -> JournalStatus;
    /// Datagrams since the start.
    fn datagrams(&self) -> DatagramTotals;
    /// The limits.
    fn limits(&self) -> Vec<Limit>;
    /// The counters behind all that.
    fn counters(&self) -> &Counters;
}

/// Why the server's certificate stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// It can't be, as things are.
    #[error("{0}")]
    Refused(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The system refused.
    #[error("{0}")]
    Failed(String),
}

/// The way to the server's certificate. May touch the disk: all but [`Certificates::hash`] and
/// [`Certificates::key_pins`] is called on a blocking thread.
pub trait Certificates: Send + Sync {
    /// SHA-256 of the server's own certificate: what join tokens carry.
    fn hash(&self) -> CertificateHash;
    /// SHA-256 of the public keys (SubjectPublicKeyInfo, DER) of the certificates that administrators may be
    /// shown: now, and after the switch that is prepared.
    fn key_pins(&self) -> Vec<[u8; 32]>;
    /// Progress of a rotation.
    fn stage(&self) -> CertificateStage;
    /// End of the certificate of the `[tls]` files; `None`: the server shows its own.
    fn tls_files_until(&self) -> Option<WallTime>;
    /// All about it.
    ///
    /// # Errors
    /// When the store can't be read.
    fn status(&self) -> Result<CertificateStatus, CertificateError>;
    /// Takes a step of a rotation.
    ///
    /// # Errors
    /// When the step is not allowed now, would lose devices, or the system refuses; all is as before then.
    fn change(&self, change: &CertificateChange) -> Result<CertificateStatus, CertificateError>;
    /// Makes a recovery key, which takes the place of one that was there.
    ///
    /// # Errors
    /// When the system refuses.
    fn create_recovery_key(&self) -> Result<RecoveryKey, CertificateError>;
}

/// Another backup is being made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("another backup is being made: try again when it is done")]
pub struct BackupsBusy;

/// The way to backups.
pub trait Backups: Send + Sync {
    /// Begins to make one. Its pieces go to `sink`, as fast as that takes them; the last says whether it is
    /// whole. Returns at once: it is called on the control thread.
    ///
    /// # Errors
    /// Another one is being made.
    fn send_to(&self, sink: mpsc::Sender<Bytes>) -> Result<(), BackupsBusy>;
    /// The state of those that are scheduled.
    fn status(&self) -> BackupStatus;
}
