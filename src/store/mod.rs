//! Layer 3: the server's state in SQLite, and its device table in memory.
//!
//! One file, `muster.db`, that any SQLite tool can read (`schema.sql` describes it; the views are for
//! people). One thread writes ([`writer`]); reads run on connections of their own, on the caller's thread
//! ([`Store::reader`], [`query`]). Questions that must be answered without the disk are answered from memory.
//!
//! | owner | tables |
//! |---|---|
//! | [`Devices`] | `devices`, `certificates`, `device_states`, `groups`, `tokens`, `status_reasons`, `clone_watch` |
//! | [`Policies`] | `policies`, `own_settings`, `desired_settings` |
//! | [`Tasks`] | `tasks`, `task_targets`, `runs`, `run_outputs` |
//! | [`Inventory`] | `applications`, `inventory_*`, `base_*`, `device_inventories`: the applications |
//! | [`Inventory`] | `host_facts`, `declarations`, `conditions`, `statistics`: the other reports |
//! | [`Selection`] | `tags`, `device_tags`, `views`; it lists devices by filters, from memory |
//! | [`ApiTokens`] | `api_tokens` |
//! | [`Artifacts`] | `artifacts`, and the files beside the database |
//! | [`Users`] | `users`, `user_links`, `sessions` |
//! | [`Audit`] | `audit` |
//! | [`Store`] | `meta`, `ticket_seeds`, `log_generation` |
//!
//! An owner alone writes its tables. A change that touches several is one transaction of the writer, which
//! each gets handed. Writes come in two forms: with a completion, which the writer's thread calls after the
//! commit (short work only: it holds up the next batch), and waiting, for administration.
#![forbid(unsafe_code)]

mod api_tokens;
mod artifacts;
mod audit;
mod checkpoint;
mod connection;
mod copy;
mod database;
mod desired_state;
mod devices;
mod error;
mod generation;
mod health;
mod inventory;
mod meta;
mod page;
mod policies;
pub mod query;
mod schema;
mod selection;
mod sessions;
mod sql;
mod tasks;
mod users;
pub mod writer;
pub mod zone;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use api_tokens::{API_TOKENS_MAX, ApiTokenHolder, ApiTokens, NewApiToken};
pub use artifacts::{ARTIFACTS_BYTES_DEFAULT, ARTIFACTS_MAX, Artifacts, Stamp, Upload, hash_of, read_piece};
pub use audit::{AUDIT_DONE, AUDIT_TEXT_BYTES_MAX, Audit, AuditEntry, AuditPlace};
pub use connection::{FILE_NAME, Reader};
pub use copy::{Copied, begin_anew, copy_stopped, seal_copy};
pub use desired_state::DesiredChange;
pub use devices::{
    CreatedToken, DeviceCertificate, DeviceChange, DeviceChanged, DeviceSettings, DeviceStatus, Devices,
    EnrolledBefore, EnrolledDevice, Enrolment, Former, GROUP_DEPTH_MAX, GroupChange, GroupOutcome, Invited,
    Judged, NewToken, PersistentLinkChanges, Slice, TokenRefusal, TrustCounts, UNKNOWN_MAX, UnknownDevice,
    Verdict, WAITING_MAX, WAITING_MILLISECONDS, normal_path, table,
};
pub use error::StoreError;
pub use health::{Failing, LogBlocked};
pub use inventory::{ApplicationStatistics, Inventory, RINGS_BYTES_MAX};
pub use meta::{TICKET_NAME_BYTES, TICKET_SEED_BYTES, TicketSeed};
pub use policies::{
    Author, DesiredSettings, NewSettings, OWN_APPLICATION, POLICY_VERSIONS_MAX, Policies, Preview,
    SetSettings, SettingsChange,
};
pub use selection::{Among, LABELS_MAX, Moment, Selection};
pub use sessions::{
    SESSION_IDLE_MILLISECONDS_MAX, SESSION_MILLISECONDS_MAX, SESSION_SECRET_BYTES, SESSIONS_OF_USER_MAX,
    SignedIn,
};
pub use tasks::{TaskStep, TaskTime, Tasks, TimeChange};
pub use users::{
    LinkLife, MadeLink, NewUser, OpenIdPerson, PASSWORD_HASH_BYTES, PASSWORD_SALT_BYTES, Proof,
    StoredPassword, USERS_MAX, Users,
};
pub use writer::WriterCounters;

use database::{Database, Threads};
use table::DeviceTable;

/// The sync interval when neither device, group nor configuration names one.
pub const DEFAULT_INTERVAL_SECONDS: u32 = crate::fleet::pacing::INTERVAL_SECONDS_DEFAULT;

/// The store. Cheap to clone; the last clone that is dropped waits until everything handed in is written.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    devices: Devices,
    policies: Policies,
    tasks: Tasks,
    inventory: Inventory,
    selection: Selection,
    database: Database,
    /// The last to be dropped: the writer ends when every queue to it is gone.
    threads: Threads,
}

impl Store {
    /// Opens the store in a data directory; makes it when it isn't there. Devices for which nobody set an
    /// interval have [`DEFAULT_INTERVAL_SECONDS`] until [`Devices::set_default_interval`] says otherwise.
    ///
    /// # Errors
    /// When the file cannot be opened, is not muster's, is newer than this muster, or is damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let mut connection = connection::open_writer(&path)?;
        schema::migrate(&mut connection, &path)?;
        meta::server_epoch(&connection)?;
        let memory = devices::load(&connection)?;
        let collector = inventory::Collector::default();
        let orphans = collector.orphans().clone();
        let (threads, database) = Threads::spawn(&path, connection, collector)?;
        let devices = Devices::new(database.clone(), memory, orphans.clone());
        let policies = Policies::new(devices.handle());
        let tasks = Tasks::new(devices.handle());
        let inventory = Inventory::new(devices.handle(), orphans);
        let selection = Selection::new(devices.handle());
        let inner = Inner { path, devices, policies, tasks, inventory, selection, database, threads };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Devices, their groups and tokens.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.inner.devices
    }

    /// Policies of groups, settings of devices.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.inner.policies
    }

    /// Tasks and their runs.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// Reports of devices about themselves.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inner.inventory
    }

    /// Devices by filters, in lists.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.inner.selection
    }

    /// The device table: filled at open, and told of everything that this store makes durable.
    #[must_use]
    pub fn table(&self) -> &Arc<DeviceTable> {
        self.inner.devices.table()
    }

    fn database(&self) -> &Database {
        &self.inner.database
    }

    /// Has `hear` told when a thread of the store panics: nothing is stored any more then. The first listener
    /// counts.
    pub fn on_panic(&self, hear: impl Fn(&'static str) + Send + Sync + 'static) {
        // Another one listens already.
        let _ = self.inner.threads.on_panic.set(Box::new(hear));
    }

    /// A read connection, for [`query`]. It sees what is committed, and returns to the store when dropped.
    ///
    /// # Errors
    /// When the file cannot be opened any more.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        self.database().reader()
    }

    /// Copies the database, as it is at this moment, into a new file of mode 0600. Operations go on
    /// meanwhile.
    ///
    /// # Errors
    /// When the copy can't be written.
    pub fn copy(&self, target: &Path) -> Result<(), StoreError> {
        copy::copy(&*self.reader()?, target)
    }

    /// Frees what SQLite keeps in memory between questions: connections that nobody uses, and statements.
    /// Done soon after the call.
    pub fn release_memory(&self) {
        self.inner.threads.are_statements_unwanted.store(true, Ordering::Relaxed);
        // Something that does nothing, so that the writer looks.
        self.database().submit(|_| Ok(()), |_| {});
        self.database().readers.close_idle();
    }

    /// The writer's counters.
    #[must_use]
    pub fn counters(&self) -> &WriterCounters {
        self.database().writer.counters()
    }

    /// The fault when operations are not stored; `None` once one is again.
    #[must_use]
    pub fn failing(&self) -> Option<Failing> {
        self.counters().health.failing()
    }

    /// The fault when the write-ahead log can't begin anew.
    #[must_use]
    pub fn log_blocked(&self) -> Option<LogBlocked> {
        self.counters().health.log_blocked()
    }

    /// Length of the write-ahead log.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        checkpoint::length(&checkpoint::log_of(&self.inner.path))
    }

    /// Number of operations that wait for the writer.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn waiting(&self) -> usize {
        self.database().writer.waiting()
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
