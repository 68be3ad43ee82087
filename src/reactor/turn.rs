//! The poll loop: one turn, always in the same order.

use std::io;
use std::sync::Arc;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use super::Clock;
use super::accept::Acceptor;
use super::backend::Backend;
use super::channel::ServerTls;
use super::commit::Commit;
use super::link::{Link, SEGMENT_LINKS};
use super::queues::Queues;
use crate::concurrency::counters::Counters;
use crate::concurrency::mailbox::Mailbox;
use crate::concurrency::reactors::{LinkSettings, ReactorMailboxes, ToReactor};
use crate::machine::acks::AckQueue;
use crate::machine::admission::strangers::Strangers;
use crate::machine::device_state::LinkRef;
use crate::machine::endpoint::{Endpoint, Kept};
use crate::machine::holdings::Holdings;
use crate::machine::lateness::Lateness;
use crate::machine::permits::Permits;
use crate::machine::timers::Timers;
use crate::wire::time::{CoarseMoment, Now};

pub(super) const LISTENER: Token = Token(0);
pub(super) const WAKER: Token = Token(1);

/// Tokens below it belong to the listener and the notifier.
const FIRST_LINK_TOKEN: usize = 2;

/// Readiness that one poll brings.
const EVENTS_PER_POLL: usize = 1024;

/// Links that are read in one turn, in links. With it the others' acknowledgements never wait longer than
/// this many reads.
const READS_PER_TURN: usize = 512;

/// Messages to a reactor that may wait besides the outcomes of jobs.
const CONTROL_MESSAGES_MAX: usize = 65_536;

/// Longest time after a pause of the process in which no deadline is judged: a network has forgotten links
/// that were silent for longer, and their devices come on new ones.
const GRACE_SECONDS_MAX: u64 = 60;

/// A reactor could not start, or can't go on.
#[derive(Debug, thiserror::Error)]
#[error("can't {what}: {error}")]
pub struct ReactorError {
    pub(super) what: &'static str,
    pub(super) error: io::Error,
}

impl ReactorError {
    fn when(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { what, error }
    }
}

/// One thread's share of the links, and everything about them.
pub struct Reactor<B> {
    pub(super) poll: Poll,
    pub(super) endpoint: Endpoint<Link, Kept, SEGMENT_LINKS>,
    /// Whose deadline it is says the slot: an entry that an earlier link left there is known by its moment,
    /// which is not the one that counts, or else is as good.
    pub(super) timers: Timers<u32, CoarseMoment>,
    pub(super) now: Now,
    pub(super) settings: LinkSettings,
    pub(super) backend: Arc<B>,
    pub(super) counters: Arc<Counters>,
    pub(super) mailboxes: Option<ReactorMailboxes>,
    pub(super) acceptor: Acceptor,
    pub(super) strangers: Strangers<LinkRef>,
    pub(super) holdings: Holdings<LinkRef>,
    pub(super) queues: Queues,
    pub(super) commit: Commit,
    /// Plaintext of the link that is being read; every link in turn.
    pub(super) plain: Vec<u8>,
    /// Encoded messages on their way into a channel.
    pub(super) encoded: Vec<u8>,
    pub(super) clock: Clock,
    pub(super) events: Events,
    pub(super) mailbox: Mailbox<ToReactor>,
    pub(super) lateness: Lateness,
}

impl<B: Backend> Reactor<B> {
    /// A reactor on a listener of its own.
    ///
    /// # Errors
    /// When the system gives no poll.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another owner's part, handed in once at the start"
    )]
    pub fn new(
        number: u8,
        listener: std::net::TcpListener,
        tls: ServerTls,
        settings: LinkSettings,
        clock: Clock,
        backend: Arc<B>,
        counters: Arc<Counters>,
        permits: Permits,
    ) -> Result<Self, ReactorError> {
        let poll = Poll::new().map_err(ReactorError::when("make a poll"))?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(ReactorError::when("watch the listener"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(ReactorError::when("make a notifier"))?;
        let mailbox = Mailbox::new(CONTROL_MESSAGES_MAX + permits.total(), move || {
            if let Err(error) = waker.wake() {
                log::error!("a reactor's notifier failed: {error}");
            }
        });
        Ok(Self {
            poll,
            endpoint: Endpoint::new(number, permits, AckQueue::default(), random(), Kept),
            timers: Timers::default(),
            now: clock.now(),
            settings,
            backend,
            counters,
            mailboxes: None,
            acceptor: Acceptor::new(listener, tls, settings.handshake_interval_microseconds),
            strangers: Strangers::new(settings.stranger_places),
            holdings: Holdings::new(settings.held_bytes_max),
            queues: Queues::default(),
            commit: Commit::default(),
            plain: Vec::new(),
            encoded: Vec::new(),
            clock,
            events: Events::with_capacity(EVENTS_PER_POLL),
            mailbox,
            lateness: Lateness::new(GRACE_SECONDS_MAX),
        })
    }

    /// The mailbox for messages to this reactor.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox<ToReactor> {
        self.mailbox.clone()
    }

    /// Turns until the reactor is drained. `mailboxes` are the mailboxes of all reactors.
    ///
    /// # Errors
    /// When the poll fails, which it does not on a healthy system.
    pub fn run(mut self, mailboxes: ReactorMailboxes) -> Result<(), ReactorError> {
        self.mailboxes = Some(mailboxes);
        while !self.endpoint.is_drained(&self.now) {
            self.turn()?;
        }
        Ok(())
    }

    /// One turn.
    ///
    /// # Errors
    /// When the poll fails.
    pub fn turn(&mut self) -> Result<(), ReactorError> {
        self.wait()?;
        self.counters.turns.add_one();
        self.read();
        self.delay_commit()?;
        self.empty_mailbox();
        self.retry_blocked();
        self.flush();
        self.release_acks();
        self.endpoint.drain(&self.now, &*self.backend);
        self.carry_out();
        self.write();
        self.shake_hands();
        self.flush();
        self.write();
        self.look_at_deadlines();
        Ok(())
    }

    fn flush(&mut self) {
        // With nothing else to do it would only wait.
        let is_idle = self.queues.is_read_done() && self.acceptor.arriving.is_empty();
        self.commit.flush(&*self.backend, is_idle);
    }

    pub(super) fn read(&mut self) {
        for _ in 0..READS_PER_TURN {
            let Some(slot) = self.queues.next_to_read() else { return };
            let Some(link) = self.endpoint.connection_at(slot) else { continue };
            link.is_ready = false;
            if !link.is_blocked {
                self.read_link(slot);
            }
        }
        if !self.queues.is_read_done() {
            self.counters.read_budget_exhausted.add_one();
        }
    }

    /// Links that had no room are tried again, once each, and those that were held and need not be any more.
    fn retry_blocked(&mut self) {
        for slot in self.queues.take_to_retry(self.now.moment) {
            self.retry(slot);
        }
    }

    fn retry(&mut self, slot: usize) {
        if let Some(link) = self.endpoint.connection_at(slot)
            && std::mem::take(&mut link.is_blocked)
        {
            self.read_link(slot);
        }
    }

    fn empty_mailbox(&mut self) {
        let mut messages = Vec::new();
        self.mailbox.take_all(&mut messages);
        for message in messages {
            match message {
                ToReactor::JobDone(link, outcome, permit) => {
                    self.job_done(link, outcome);
                    drop(permit); // what it was for has ended
                }
                ToReactor::SyncNow(link, is_fresh) => {
                    self.endpoint.sync_now(&self.now, link, is_fresh, &*self.backend);
                }
                ToReactor::Superseded(link) => {
                    self.endpoint.supersede(&self.now, link, &*self.backend);
                }
                ToReactor::Removed(link) => {
                    self.endpoint.remove_device(&self.now, link, &*self.backend);
                }
                ToReactor::TakenOver(link) => {
                    self.endpoint.take_over(&self.now, link, &*self.backend);
                }
                ToReactor::Close(link, reason) => {
                    if let Some(slot) = self.endpoint.slot_of(link) {
                        self.cut(slot, reason);
                    }
                }
                ToReactor::Settings(settings) => {
                    self.settings = settings;
                    self.acceptor.admission.set_interval(settings.handshake_interval_microseconds);
                    self.strangers.set_places(settings.stranger_places);
                    self.holdings.set_max(settings.held_bytes_max);
                }
                ToReactor::Drain => {
                    self.endpoint.begin_drain(&self.now);
                    self.acceptor.close(self.poll.registry());
                }
                // One that asks may have given up by now.
                ToReactor::Answer(answer) => answer.send(()).unwrap_or_default(),
            }
        }
        self.carry_out();
    }
}

/// The token of the link in a slot.
pub(super) fn token_of(slot: usize) -> Token {
    Token(slot + FIRST_LINK_TOKEN)
}

/// The slot of the link that a token is for.
pub(super) fn slot_of(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST_LINK_TOKEN)
}

/// 64 bits for jitter, never for secrets. Without randomness from the system, nothing is spread: no reason to
/// stop.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
