//! The control thread: the administration API, and periodic work.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use super::ServerError;
use super::clock_watch::ClockWatch;
use super::panic_guard::{Failures, PanicGuard, ServerFailure};
use super::presence::{Announcer, Rounds, own_event};
use super::presented::Presented;
use super::sequences::{Round, WriteBack};
use super::tickets::TicketRounds;
use super::trim::{Trim, Trimmer};
use crate::admin::listen::AdminListener;
use crate::admin::{self, AdminContext};
use crate::concurrency::counters::Counters;
use crate::concurrency::strangers::StrangerSummary;
use crate::journal::Journal;
use crate::memory;
use crate::store::{AuditPlace, Store};
use crate::wire::event::Severity;
use crate::wire::id::CertificateHash;
use crate::wire::time::Now;

/// Interval at which sequence numbers and times are written back to the store. Changes in between are
/// replayed from the journal at start; only the times a device was last seen can be lost.
const WRITE_BACK_SECONDS: u64 = 10;

/// Interval at which it is checked whether a new key of session tickets is due, and whether the `[tls]` files
/// have changed. A key that can't be stored is
/// tried again as often, and each time is a line in the log.
const TICKET_LOOK_SECONDS: u64 = 60;

/// Interval at which the audit's last row is told as an event, when it is another one.
const AUDIT_HEAD_SECONDS: u64 = 3_600;

/// Kind of that event.
const AUDIT_HEAD_KIND: &str = "audit_head";

/// The parts of the control thread.
pub(super) struct Control {
    pub(super) socket: PathBuf,
    pub(super) context: AdminContext,
    pub(super) journal: Journal,
    pub(super) write_back: WriteBack,
    pub(super) rounds: Rounds,
    pub(super) announcer: Announcer,
    pub(super) clock_watch: ClockWatch,
    pub(super) counters: Arc<Counters>,
    pub(super) trimmer: Trimmer,
    /// Whether the process's owner lets the server give its memory back.
    pub(super) gives_memory_back: bool,
    pub(super) tickets: TicketRounds,
    pub(super) presented: Arc<Presented>,
    pub(super) failures: Failures,
}

/// The control thread, running.
pub(super) struct ControlThread {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl ControlThread {
    /// Opens the socket and starts the thread.
    pub(super) fn start(control: Control) -> Result<Self, ServerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServerError::when("start the administration"))?;
        let listener = runtime.block_on(AdminListener::open(&control.socket))?;
        let (stop, stopping) = watch::channel(false);
        let thread = Builder::new()
            .name("control".into())
            .spawn(move || {
                let failures = control.failures.clone();
                let _guard = PanicGuard::new("the control thread", failures.clone());
                if let Err(error) = runtime.block_on(control.run(listener, stopping)) {
                    failures.tell(ServerFailure::Administration(error.to_string()));
                }
            })
            .map_err(ServerError::when("start the control thread"))?;
        Ok(Self { stop, thread })
    }

    /// Lets requests in flight end, writes back once more, and ends the thread. Call it when the reactors are
    /// gone, so that nothing more arrives.
    pub(super) fn stop(self) {
        // Without a receiver the thread is gone already.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            log::error!("the control thread panicked");
        }
    }
}

impl Control {
    async fn run(mut self, listener: AdminListener, stopping: watch::Receiver<bool>) -> io::Result<()> {
        let served = admin::serve(listener, self.context.clone(), stopping);
        let mut served = std::pin::pin!(served);
        let mut rounds = tokio::time::interval(Duration::from_secs(WRITE_BACK_SECONDS));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        rounds.tick().await;
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (started, mut strangers) = (tokio::time::Instant::now(), StrangerSummary::default());
        let mut ticket_looks = tokio::time::interval(Duration::from_secs(TICKET_LOOK_SECONDS));
        ticket_looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut audit_looks = tokio::time::interval(Duration::from_secs(AUDIT_HEAD_SECONDS));
        audit_looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut audit_told = AuditPlace::default();
        let result = loop {
            tokio::select! {
                result = &mut served => break result,
                _ = rounds.tick() => self.write_back().await,
                now = looks.tick() => {
                    self.tell_of(&mut strangers, now.saturating_duration_since(started).as_secs());
                    self.look().await;
                }
                _ = ticket_looks.tick() => {
                    self.tickets.look(self.context.clock.known());
                    self.presented.look();
                }
                _ = audit_looks.tick() => self.tell_of_audit(&mut audit_told),
            }
        };
        self.tell_of(&mut strangers, u64::MAX);
        self.write_back().await;
        self.store_clones();
        self.clock_watch.remember();
        result
    }

    fn tell_of(&self, strangers: &mut StrangerSummary, second: u64) {
        if let Some(line) = strangers.line(&self.counters.strangers, second) {
            log::info!("{line}");
        }
    }

    /// Says in the log of events with which row the audit ends: those who take events elsewhere can tell
    /// later whether the rows before were written anew. Without room it is said the next time.
    fn tell_of_audit(&self, told: &mut AuditPlace) {
        let head = match self.context.store.audit().head() {
            Ok(head) => head,
            Err(error) => return log::warn!("the audit can't be read: {error}"),
        };
        if head == *told {
            return;
        }
        let (now, hash) = (self.context.clock.now().wall, CertificateHash(head.hash).to_string());
        let message = format!("the audit ends with row {}, SHA-256 {hash}", head.number);
        let fields = [("number", head.number.to_string()), ("sha256", hash)];
        let event = own_event(Severity::Info, AUDIT_HEAD_KIND, message, now, fields);
        if self.announcer.say_of_server(&event, now) {
            *told = head;
        }
    }

    /// Looks at the clock and at a slice of the devices, and writes down what is new of any of them beside
    /// times: where it is reached, what it said.
    async fn look(&mut self) {
        // First, so that all that follows goes by a time that was just compared.
        if self.clock_watch.look() {
            self.write_back.write_all();
        }
        let table = self.context.store.table().clone();
        self.rounds.step(&table, self.context.clock.now().wall);
        let round = WriteBack::begin_news(&table, self.rounds.take_news());
        self.finish(round).await;
        self.store_clones();
        self.context.store.selection().free_unused();
        let handshakes = self.counters.handshakes_full.get() + self.counters.handshakes_resumed.get();
        match self.trimmer.look(self.counters.links_open.get(), handshakes) {
            Trim::Nothing => {}
            Trim::EmptyCaches => self.context.store.release_memory(),
            Trim::GiveBack if self.gives_memory_back => memory::give_back(),
            Trim::GiveBack => {}
        }
    }

    async fn write_back(&mut self) {
        let table = self.context.store.table();
        let round = self.write_back.begin(table, self.journal.durable().0, self.context.clock.now().wall);
        self.finish(round).await;
    }

    /// Behind the records that they belong to.
    fn store_clones(&self) {
        let clock = &self.context.clock;
        let known = Now { wall: clock.known(), ..clock.now() };
        self.rounds.announcer.store_clones(&self.context.store, &known);
    }

    /// Ends a round. The positions that must be durable first nearly always are; otherwise the round waits
    /// for them.
    async fn finish(&mut self, round: Round) {
        let store: &Store = &self.context.store;
        let mut durable = self.context.durable.clone();
        let needed = round.needs_durable;
        // The sender goes when the journal does; then nothing more becomes durable and nothing may be
        // written.
        if durable.wait_for(|durable| *durable >= needed).await.is_ok() {
            self.write_back.write(store, round);
        }
    }
}
