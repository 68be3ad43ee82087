//! Layer 3: the server's state in SQLite, and its device table in memory.
//!
//! One file, `muster.db`, that any SQLite tool can read (`schema.sql` describes it; the views are for
//! people). One thread writes ([`writer`]); reads run on connections of their own, on the caller's thread
//! ([`Store::reader`], [`query`]). Questions that must be answered without the disk are answered by a device
//! state in memory ([`table`]).
//!
//! Writes come in two forms: with a completion, which the writer's thread calls after the commit (short work
//! only: it holds up the next batch), and waiting (`Store::call` and the methods built on it), for
//! administration.
#![forbid(unsafe_code)]

mod changes;
mod checkpoint;
mod connection;
mod copy;
mod declaration;
mod desired_settings;
mod desired_state;
mod device;
mod error;
mod generation;
mod group;
mod health;
mod indexed;
mod inventory;
mod meta;
mod panic_guard;
mod persistent_links;
mod policy;
pub mod query;
mod schema;
mod section;
mod settings;
mod statistics;
mod status;
pub mod table;
mod task;
mod ticket;
mod token;
mod values;
mod write_back;
pub mod writer;
pub mod zone;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

use rusqlite::Connection;

pub use changes::DeviceChanged;
pub use connection::{FILE_NAME, Reader};
pub use copy::{Copied, begin_anew, copy_stopped, seal_copy};
pub use desired_state::DesiredChange;
pub use device::{DeviceChange, DeviceSettings, EnrolledDevice, Enrolment};
pub use error::StoreError;
pub use group::{GROUP_DEPTH_MAX, Group, GroupChange, normal_path};
pub use health::{Failing, LogBlocked};
pub use persistent_links::PersistentLinkChanges;
pub use policy::{NewSettings, OWN_APPLICATION, SetSettings};
pub use settings::{DesiredSettings, GroupOutcome, SettingsChange};
pub use statistics::{ApplicationStatistics, RINGS_BYTES_MAX};
pub use status::{DeviceStatus, Judged, Slice, Verdict};
pub use task::{CreatedTask, NewTask, TaskStep, TaskTime, TimeChange};
pub use ticket::{TICKET_NAME_BYTES, TICKET_SEED_BYTES, TicketSeed};
pub use token::{CreatedToken, NewToken, Token, TokenRefusal};
pub use writer::WriterCounters;

use crate::machine::device_state::DeviceState;
use crate::machine::wall_clock::Stretch;
use crate::wire::id::{DeviceId, Epoch, TokenId};
use crate::wire::limits::TOKEN_SECRET_BYTES;
use crate::wire::time::WallTime;
use checkpoint::Notifier;
use connection::Readers;
use panic_guard::{OnPanic, PanicGuard};
use table::DeviceTable;
use writer::{BetweenBatches, Origin, WriterQueue};

/// The sync interval when neither device, group nor configuration names one.
pub const DEFAULT_INTERVAL_SECONDS: u32 = crate::fleet::pacing::INTERVAL_SECONDS_DEFAULT;

/// The store. Cheap to clone; the last clone that is dropped waits until everything handed in is written.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// The file.
    path: PathBuf,
    orphans: inventory::Orphans,
    table: Arc<DeviceTable>,
    persistent_links: Arc<persistent_links::PersistentLinks>,
    /// The interval of devices whose groups name none.
    default_interval_seconds: AtomicU32,
    /// There until the store is dropped: the writer ends when its queue is gone.
    queue: Option<WriterQueue>,
    readers: Arc<Readers>,
    are_statements_unwanted: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    on_panic: OnPanic,
    /// Counts changes after which other devices may belong to a group: what continuous tasks are for.
    memberships: Arc<AtomicU64>,
    /// Up to which of them newcomers have been looked for.
    memberships_seen: AtomicU64,
    /// Since when devices can be heard, in milliseconds since 1970.
    serving_since: AtomicU64,
    /// Until when some join token lets a device in, in milliseconds since 1970; 0: none does. As it is on
    /// disk.
    enrolment_open_until: Arc<AtomicU64>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        // A completion may hold the last clone: then this is the writer's own thread, which ends by itself,
        // and the checkpointer after it. Waiting for either would be waiting for oneself.
        let current = std::thread::current().id();
        if self.threads.iter().any(|thread| thread.thread().id() == current) {
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the store panicked");
            }
        }
    }
}

struct Housekeeping {
    /// The writer's statements are to be freed.
    are_statements_unwanted: Arc<AtomicBool>,
    notifier: Notifier,
    generations: generation::Generations,
    collector: inventory::Collector,
}

impl BetweenBatches for Housekeeping {
    fn after_batch(&mut self, connection: &mut Connection, is_idle: bool) -> bool {
        let has_more = if is_idle { self.collector.step(connection) } else { self.collector.has_more() };
        self.generations.after_commit(connection);
        self.notifier.after_commit();
        if self.are_statements_unwanted.swap(false, Ordering::Relaxed) {
            connection.flush_prepared_statement_cache();
        }
        if is_idle && !has_more {
            connection::empty_cache(connection);
        }
        has_more
    }
}

impl Store {
    /// Opens the store in a data directory; makes it when it isn't there. Devices for which nobody set an
    /// interval have [`DEFAULT_INTERVAL_SECONDS`] until [`Store::set_default_interval`] says otherwise.
    ///
    /// # Errors
    /// When the file cannot be opened, is not muster's, is newer than this muster, or is damaged.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let mut connection = connection::open_writer(&path)?;
        schema::migrate(&mut connection, &path)?;
        meta::server_epoch(&connection)?;
        let enrolment_open_until = Arc::new(AtomicU64::new(token::open_until(&connection)?.0));
        let table = Arc::new(DeviceTable::new());
        write_back::load(&connection, &table, DEFAULT_INTERVAL_SECONDS)?;
        connection::begin_writing(&connection)?;
        let checkpointer = connection::open_checkpointer(&path)?;
        let readers = Readers::new(path.clone());
        let (queue, inbox) = writer::queue();
        let counters = Arc::clone(queue.counters());
        let (notifier, notifications) = checkpoint::notifier(&path);
        let orphans = inventory::Orphans::default();
        let are_statements_unwanted = Arc::new(AtomicBool::new(false));
        let housekeeping = Housekeeping {
            are_statements_unwanted: Arc::clone(&are_statements_unwanted),
            notifier,
            generations: generation::Generations::new(&path),
            collector: inventory::Collector::new(orphans.clone()),
        };
        let on_panic = OnPanic::default();
        let spawn = |name: &'static str, work: Box<dyn FnOnce() + Send>| {
            let guard = PanicGuard::new(name, Arc::clone(&on_panic));
            let work = move || {
                let _guard = guard;
                work();
            };
            std::thread::Builder::new().name(name.into()).spawn(work).map_err(|error| StoreError::Open {
                path: path.display().to_string(),
                reason: format!("cannot start the thread '{name}': {error}"),
            })
        };
        let threads = vec![
            spawn("store-writer", Box::new(move || writer::run(connection, &inbox, housekeeping)))?,
            spawn(
                "store-checkpoint",
                Box::new(move || checkpoint::run(&checkpointer, &notifications, &counters)),
            )?,
        ];
        let default_interval_seconds = AtomicU32::new(DEFAULT_INTERVAL_SECONDS);
        let persistent_links = persistent_links::PersistentLinks::new(Arc::clone(&table));
        let inner = Inner {
            path,
            orphans,
            table,
            persistent_links,
            default_interval_seconds,
            queue: Some(queue),
            readers,
            are_statements_unwanted,
            threads,
            on_panic,
            memberships: Arc::new(AtomicU64::new(1)),
            memberships_seen: AtomicU64::new(0),
            serving_since: AtomicU64::new(0),
            enrolment_open_until,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Has `hear` told when a thread of the store panics: nothing is stored any more then. The first listener
    /// counts.
    pub fn on_panic(&self, hear: impl Fn(&'static str) + Send + Sync + 'static) {
        // Another one listens already.
        let _ = self.inner.on_panic.set(Box::new(hear));
    }

    fn orphans(&self) -> &inventory::Orphans {
        &self.inner.orphans
    }

    fn queue(&self) -> &WriterQueue {
        self.inner.queue.as_ref().expect("the queue leaves only when the last store is dropped")
    }

    /// The device table: filled at open, and told of everything that this store makes durable.
    #[must_use]
    pub fn table(&self) -> &Arc<DeviceTable> {
        &self.inner.table
    }

    /// The journal position before which every event's sequence number is in the table as it was loaded: at
    /// start, the journal is replayed from there, by the same rule as for events that arrive.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn journal_position(&self) -> Result<u64, StoreError> {
        meta::journal_position(&*self.reader()?)
    }

    /// Writes records' times and sequence numbers back. The order of a round: read the journal's durable
    /// position P; collect [`DeviceTable::unrecorded_in`] of every shard; wait until the journal is durable
    /// up to the highest `last_position` among them (else a sequence number could outlive its event); hand
    /// them in, shard by shard, the last call with `Some(P)`. Records that could not be written have news
    /// again.
    pub fn record_sequences(
        &self,
        records: Vec<DeviceState>,
        position: Option<u64>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let bytes = records.len() * size_of::<DeviceState>();
        let devices: Vec<DeviceId> = records.iter().map(|record| record.device).collect();
        let table = Arc::clone(&self.inner.table);
        self.queue().submit(
            Origin::Server,
            bytes,
            move |connection| write_back::record(connection, &records, position),
            move |result| {
                if result.is_err() {
                    // Their news counted as told when it was collected.
                    for device in devices {
                        table.with(device, |record| record.has_news = true);
                    }
                }
                done(result);
            },
        );
    }

    /// A read connection, for [`query`]. It sees what is committed, and returns to the store when dropped.
    ///
    /// # Errors
    /// When the file cannot be opened any more.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        self.inner.readers.take()
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
        self.inner.are_statements_unwanted.store(true, Ordering::Relaxed);
        // Something that does nothing, so that the writer looks.
        self.submit(|_| Ok(()), |_| {});
        self.inner.readers.close_idle();
    }

    /// The writer's counters.
    #[must_use]
    pub fn counters(&self) -> &WriterCounters {
        self.queue().counters()
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

    /// Tries to store something small: whether that is possible again is in [`Store::failing`] then. Waits
    /// for it.
    pub fn probe(&self) {
        // Another value each time: SQLite writes no page that stays as it is. A failure is what it is about.
        let _ = self.call(|connection| {
            let value = meta::random_number()?.to_be_bytes();
            meta::set(connection, meta::PROBE, &value)
        });
    }

    /// Number of operations that wait for the writer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().waiting()
    }

    /// Hands an operation to the writer. `done` is called in every case, once: by the writer's thread after
    /// the commit, or by this thread at once when there is no room ([`StoreError::Busy`]).
    fn submit<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        self.queue().submit(Origin::Server, 0, action, done);
    }

    /// Hands an operation to the writer and waits for it. Never from a completion: that would wait for
    /// itself.
    fn call<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.submit(action, move |result| {
            // The receiver waits below.
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or(Err(StoreError::Stopped))
    }

    /// The server's epoch: drawn when the file was made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn server_epoch(&self) -> Result<Epoch, StoreError> {
        meta::server_epoch(&*self.reader()?)
    }

    /// Draws a new server epoch: the server has noticed that its state was restored from a copy. `done` gets
    /// it when it is durable.
    pub fn renew_server_epoch(&self, done: impl FnOnce(Result<Epoch, StoreError>) + Send + 'static) {
        self.submit(meta::renew_server_epoch, done);
    }

    /// A value that the server remembers under a key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        meta::get(&*self.reader()?, key)
    }

    /// Remembers a value under a key. Waits until it is durable.
    ///
    /// # Errors
    /// When it could not be stored.
    pub fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.call(move |connection| meta::set(connection, &key, &value))
    }

    /// The last wall time that was known for certain when the server ran before; `None`: it never did.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_wall_time(&self) -> Result<Option<WallTime>, StoreError> {
        meta::wall_time(&*self.reader()?)
    }

    /// Remembers the wall time for the next start. Waits for nothing: what gets lost is told by the next.
    pub fn remember_wall_time(&self, wall: WallTime) {
        self.submit(
            move |connection| meta::set_wall_time(connection, wall),
            |result| {
                if let Err(error) = result {
                    log::warn!("the wall time was not stored, that is tried again: {error}");
                }
            },
        );
    }

    /// Seeds of the keys of session tickets, in the order in which they were made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn ticket_seeds(&self) -> Result<Vec<TicketSeed>, StoreError> {
        ticket::all(&*self.reader()?)
    }

    /// These are the seeds from now on; those that are not among them are overwritten and forgotten. `done`
    /// is told when it is durable.
    pub fn set_ticket_seeds(
        &self,
        seeds: Vec<TicketSeed>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        self.submit(move |connection| ticket::replace(connection, &seeds), done);
    }

    /// Makes a join token. Waits until it is durable.
    ///
    /// # Errors
    /// When the group's path is none, or it could not be stored.
    pub fn create_token(&self, new: NewToken) -> Result<CreatedToken, StoreError> {
        self.call_of_tokens(move |connection| token::create(connection, &new))
    }

    /// Whether any join token lets a device in now, by the rule of [`Store::check_token`]. Does not ask the
    /// disk.
    #[must_use]
    pub fn is_enrolment_open(&self, now: WallTime) -> bool {
        now.0 < self.inner.enrolment_open_until.load(Ordering::Relaxed)
    }

    /// As [`Store::submit`], for what changes join tokens: until when one of them lets a device in is known
    /// before `done` is called.
    fn submit_of_tokens<T: Send + 'static>(
        &self,
        origin: Origin,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let open_until = Arc::clone(&self.inner.enrolment_open_until);
        let action = move |connection: &Connection| {
            let value = action(connection)?;
            Ok((value, token::open_until(connection)?))
        };
        self.queue().submit(origin, 0, action, move |result| {
            done(result.map(|(value, until)| {
                open_until.store(until.0, Ordering::Relaxed);
                value
            }));
        });
    }

    fn call_of_tokens<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.submit_of_tokens(Origin::Server, action, move |result| {
            // The receiver waits below.
            let _ = sender.send(result);
        });
        receiver.recv().unwrap_or(Err(StoreError::Stopped))
    }

    /// Puts join tokens right after a change of the clock, as
    /// [`TokenLife::correct`](crate::machine::token::TokenLife::correct) says. `done` is called when that is
    /// durable.
    pub fn correct_tokens(
        &self,
        known: WallTime,
        ran: Stretch,
        now: WallTime,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let origin = Origin::Server;
        self.submit_of_tokens(origin, move |connection| token::correct(connection, known, ran, now), done);
    }

    /// Withdraws a join token: nobody enrols with it any more. Waits until that is durable.
    ///
    /// # Errors
    /// When there is no such token, or it could not be stored.
    pub fn revoke_token(&self, id: TokenId, now: WallTime) -> Result<Token, StoreError> {
        self.call_of_tokens(move |connection| token::revoke(connection, id, now))
    }

    /// Whether the token would let a device in now. Uses nothing up: [`Store::enrol`] decides.
    ///
    /// # Errors
    /// [`StoreError::Token`] with the refusal, or when the file cannot be read.
    pub fn check_token(
        &self,
        id: TokenId,
        secret: &[u8; TOKEN_SECRET_BYTES],
        now: WallTime,
    ) -> Result<(), StoreError> {
        token::check(&*self.reader()?, id, secret, now).map(drop)
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
