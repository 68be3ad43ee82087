//! An agent that runs, as a program or within one: one thread, one poll.
//!
//! Each turn has a fixed order: hear everything (signals, watches, helpers, local programs, the server), make
//! what was taken durable with one flush, let the [machine](crate::machine::agent) decide, send, and only
//! then answer the local programs. An idle agent sleeps until its own next timer.

mod artifacts;
mod collecting;
mod connection;
mod desired;
mod error;
mod fork;
mod helper;
mod leaving;
mod mode;
mod programs;
mod reload;
mod renewal;
mod sections;
mod server;
mod surroundings;
mod trust;

use std::io;
use std::path::Path;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};

use self::connection::Connection;
pub use self::error::{End, RunError};
pub(in crate::agent) use self::helper::Remote;
use self::helper::{Helpers, Outcome};
use self::mode::Mode;
pub use self::reload::Signals;
use self::sections::Sections;
pub use self::surroundings::{Embedding, Surroundings};
use super::ab_slots::{AbSlots, SlotError};
use super::collect::host;
use super::context::Context;
use super::datagram::Datagrams;
use super::directory::{Directory, Lock, RUNNING_AGENT, STATE_SLOT};
use super::identity::{Candidate, Identity};
use super::local::peer::Allowances;
use super::local::server::{ClientKey, Clients};
use super::managed::Managed;
use super::managed::own::OwnSettings;
use super::moving::settle;
use super::settings::Settings;
use super::shutdown::bus::ShutdownWatch;
use super::spool::Spool;
use super::talk::tls_of;
use super::task::files::uptime_milliseconds;
use super::task::run_store::Runs;
use super::watch::Watch;
use crate::machine::agent::{Action, AgentMachine, AgentStart, AgentState, SpoolState, SyncResult};
use crate::machine::lateness::Lateness;
use crate::reactor::clock::Clock;
use crate::wire::datagram::{NoticeKind, boot_of};
use crate::wire::digest::Digest;
use crate::wire::id::Epoch;
use crate::wire::message::{Reach, SyncIdentity, SyncReason};
use crate::wire::time::{Moment, Now, WallTime};

const WAKER: Token = Token(0);
const LINK: Token = Token(1);
const SIGNALS: Token = Token(2);
const WATCH: Token = Token(3);
const WAKES: Token = Token(4);
const BUS: Token = Token(5);
/// The first of the lines to supervisors of runs; further ones follow.
const RUNS: usize = 8;
const LOCAL: usize = 24;

/// Most actions of the machine in one turn: more wait until everybody else was heard.
const ACTIONS_PER_TURN_MAX: usize = 256;

/// Longest time after a pause of the agent in which the server's silence is not judged.
const GRACE_SECONDS_MAX: u64 = 60;

/// Most readiness events of one poll: a link, a few files, some local programs.
const POLL_EVENTS_MAX: usize = 64;

/// Progress of a sync that a local program waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The sections are to be collected first.
    ToCollect,
    /// A helper collects them.
    Collecting,
    /// The machine was asked.
    Asked,
}

/// A local program that waits for a sync.
struct Waiter {
    key: ClientKey,
    wait: Wait,
    /// It has moved the device, and is told so.
    is_mover: bool,
}

/// The agent while it runs.
pub struct Agent {
    context: Context,
    settings: Settings,
    directory: Directory,
    _lock: Lock,
    identity: Identity,
    clock: Clock,
    started: WallTime,
    poll: Poll,
    /// Requests of the service manager; `None`: the agent is embedded.
    signals: Option<Signals>,
    surroundings: Box<dyn Surroundings>,
    watch: Option<Watch>,
    clients: Option<Clients>,
    allowances: Allowances,
    helpers: Helpers,
    spool: Spool,
    machine: AgentMachine,
    sections: Sections,
    connection: Connection,
    connected_since: Option<WallTime>,
    last_sync: Option<WallTime>,
    last_error_at: Option<WallTime>,
    /// Clients that wait for a sync, and its progress.
    waiting: Vec<Waiter>,
    /// The server wants news: why, and how far their collection is.
    looking: Option<(SyncReason, Wait)>,
    /// The settings that the server ordered.
    managed: Managed,
    /// The server's settings of the agent itself.
    own: OwnSettings,
    /// The sum of the digests of the runs that are kept here.
    runs_digest: Digest,
    runs: Runs,
    datagrams: Datagrams,
    /// `None`: the program that embeds the agent says why it ends.
    shutdown_watch: Option<ShutdownWatch>,
    /// The program that embeds the agent wants it to end.
    end_wanted: Option<NoticeKind>,
    mode: Mode,
    /// The key of a renewed certificate that was asked for.
    candidate: Option<Candidate>,
    /// Something was appended to the spool since the last flush.
    is_spool_dirty: bool,
    /// A local program wants it to begin anew.
    restarts: bool,
    /// Something could not be finished in this turn: the next one begins at once.
    has_more: bool,
}

impl Agent {
    /// Makes everything ready. `signals` say when to end and when to read the configuration again; an
    /// embedded agent has none.
    ///
    /// # Errors
    /// [`RunError`] says what is missing.
    pub fn new(
        context: Context,
        mut signals: Option<Signals>,
        surroundings: Box<dyn Surroundings>,
    ) -> Result<Self, RunError> {
        let settings = context.settings.clone();
        let directory = Directory::open(&context.data)?;
        let is_embedded = settings.embedded.is_some();
        if !is_embedded {
            context.check_socket()?;
        }
        let lock = directory.lock_patiently(RUNNING_AGENT)?;
        settle(&directory)?;
        let mut identity = Identity::read_enrolled(directory.path())?;
        let tls = tls_of(&identity).map_err(RunError::Tls)?;
        let has_previous = identity.previous.is_some();
        identity.forget_private_key();
        let clock = Clock::new();
        let now = clock.now();
        let epoch = Epoch(random()? | 1);
        let own = OwnSettings::read(directory.path());
        let server = own.servers(settings.server.as_deref(), &identity)?;
        surroundings.set_log_level(own.log_level(&settings));
        let spool = Spool::open_directory(&directory.spool(), &own.spool(&settings), epoch, now.wall)?;
        for damage in spool.damages() {
            log::error!("{damage}");
        }
        let boot = boot_of(&host::boot_id(&settings.collect.root));
        let datagrams =
            Datagrams::new(&identity, directory.path(), boot, settings.wake.port, WAKES, now.wall);
        let mut machine = machine(&directory, &spool, datagrams.reach(), random()?)?;
        machine.set_own_interval(&now, own.interval_seconds);
        machine.set_identity(marks(&identity, &settings));
        machine.set_previous_certificate(has_previous);
        let managed = desired::open(&directory, now.wall)?;
        let runs = Runs::open(&directory, &now, host::boot_id(Path::new("/")), uptime_milliseconds());
        let runs = runs.map_err(RunError::Runs)?;
        let poll = Poll::new()?;
        let shutdown_watch = (!is_embedded).then(|| ShutdownWatch::new(&settings.collect.root, BUS));
        let path = context.socket();
        let listens = (!is_embedded).then_some((path.as_path(), settings.socket.mode));
        let clients = Clients::new(listens, poll.registry(), LOCAL);
        let clients = clients.map_err(|source| RunError::Socket(path, source))?;
        if let Some(signals) = &mut signals {
            signals.watch(poll.registry(), SIGNALS)?;
        }
        Ok(Self {
            signals,
            surroundings,
            helpers: Helpers::new(Waker::new(poll.registry(), WAKER)?),
            connection: Connection::new(server, tls, LINK),
            watch: None,
            clients: Some(clients),
            allowances: Allowances::default(),
            sections: Sections::default(),
            started: now.wall,
            context,
            settings,
            directory,
            _lock: lock,
            identity,
            clock,
            poll,
            spool,
            machine,
            connected_since: None,
            last_sync: None,
            last_error_at: None,
            waiting: Vec::new(),
            looking: None,
            managed,
            own,
            runs_digest: Digest::EMPTY,
            runs,
            datagrams,
            shutdown_watch,
            end_wanted: None,
            mode: Mode::default(),
            candidate: None,
            is_spool_dirty: false,
            restarts: false,
            has_more: false,
        })
    }

    /// The way to it for the program that embeds it.
    pub(in crate::agent) fn remote(&self) -> Remote {
        self.helpers.remote()
    }

    /// Runs until a signal, or the program that embeds it, asks for the end, or a local program for another
    /// beginning.
    ///
    /// # Errors
    /// When the spool fails, or the system refuses to poll.
    pub fn run(mut self) -> Result<End, RunError> {
        log::info!(
            "device '{}' ({}), server {}, data in {}",
            self.identity.name,
            self.identity.device,
            self.connection.server(),
            self.directory.path().display()
        );
        if let Some(watch) = &mut self.shutdown_watch {
            watch.connect(self.poll.registry());
        }
        self.begin_configured();
        self.judge_key();
        self.start_watching();
        self.hand_runs_in();
        self.sections.is_wanted = true;
        self.name_desired_digests();
        self.set_own_when_ordered(&self.clock.now());
        let mut events = Events::with_capacity(POLL_EVENTS_MAX);
        let (mut lateness, mut woken) = (Lateness::new(GRACE_SECONDS_MAX), self.clock.moment());
        loop {
            let now = self.clock.now();
            self.open_wake_port(&now);
            self.collect_when_due(&now);
            self.manage_when_due(&now);
            let waits_from = self.clock.now();
            let notify_by = self.surroundings.turns(waits_from.moment);
            let timeout = self.timeout(&waits_from, notify_by);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                // The next poll tells what is ready.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                Err(error) => return Err(error.into()),
            }
            let until = timeout.map(|timeout| waits_from.moment + timeout);
            let began = std::mem::replace(&mut woken, self.clock.moment());
            if lateness.turn(began, waits_from.moment, until, woken).is_some() {
                self.machine.judge_from(lateness.judges_from());
            }
            if self.turn(&events)? {
                log::info!("ended");
                self.connection.close();
                self.spool.close()?;
                return Ok(if self.restarts { End::Restart } else { End::Asked });
            }
        }
    }

    /// One turn of the loop. Returns whether it is time to end.
    fn turn(&mut self, events: &Events) -> Result<bool, RunError> {
        self.has_more = false;
        let now = self.clock.now();
        let mut asked = reload::Requested::default();
        for event in events {
            match event.token() {
                WAKER | LINK | WAKES => {}
                SIGNALS => asked = self.signals.as_mut().map(Signals::read).unwrap_or_default(),
                BUS => self.hear_of_shutdown(),
                WATCH => {
                    let noticed = self.watch.as_mut().map(Watch::read).unwrap_or_default();
                    self.sections.noticed(noticed.any(), now.moment);
                    if noticed.directories {
                        self.start_watching();
                    }
                }
                Token(token @ RUNS..LOCAL) => self.hear_run(&now, token - RUNS),
                token => {
                    if let Some(clients) = &mut self.clients {
                        clients.ready(token);
                    }
                }
            }
        }
        if asked.reload {
            self.reload();
        }
        while let Some(outcome) = self.helpers.next() {
            self.helped(&now, outcome)?;
        }
        self.work_on_runs(&now);
        self.hear_wakes(&now);
        self.hear_server(&now);
        self.hear_programs(&now)?;
        if self.is_spool_dirty {
            // Nothing is promised to anybody before this.
            self.spool.flush()?;
            self.is_spool_dirty = false;
            self.machine.events_available(self.spool.highest_sequence());
        }
        self.wake_up_when_due(&now, false);
        let end_wanted = self.end_wanted.take();
        if (asked.end || end_wanted.is_some()) && self.begin_end(&now, end_wanted) {
            // Local programs hear what has become of their events.
            self.clients.iter_mut().for_each(Clients::send);
            return Ok(true);
        }
        if self.restarts {
            // No shutdown notice: it is back at once.
            self.clients.iter_mut().for_each(Clients::send);
            return Ok(true);
        }
        if self.may_act() {
            self.act(&now)?;
            // Its consequences must not wait for the next thing that happens.
            self.has_more |= self.hear_server(&now);
        }
        self.move_when_ready(&now)?;
        let is_over = self.go_on_leaving(&now)?;
        if let Some(clients) = &mut self.clients {
            clients.send();
            self.has_more |= clients.refill();
        }
        self.spool.prepare(now.wall)?;
        if self.spool.highest_sequence() > 0 {
            // A notice of dropped events may have joined.
            self.machine.events_available(self.spool.highest_sequence());
        }
        Ok(is_over)
    }

    /// Before the sections are known, or known to be late, there is nothing to say but events of a goodbye;
    /// after the shutdown notice and in sleep there is nothing to say at all.
    fn may_act(&self) -> bool {
        let has_something_to_say = self.sections.is_known || self.sections.is_late || self.mode.is_leaving();
        self.mode.asleep().is_none() && !self.has_said_goodbye() && has_something_to_say
    }

    /// `notify_by`: when the agent's surroundings must hear that it turns.
    fn timeout(&self, now: &Now, notify_by: Option<Moment>) -> Option<Duration> {
        if self.has_more || self.connection.has_more {
            return Some(Duration::ZERO);
        }
        let next = [
            self.machine.next_timeout().filter(|_| self.may_act()),
            self.connection.next_timeout(),
            self.sections.next_timeout(),
            self.move_timeout(),
            self.leaving_timeout(now),
            self.sleep_timeout(now),
            self.datagrams.port.next_timeout(),
            self.runs.next_timeout().filter(|_| !self.mode.is_leaving()),
            notify_by,
        ];
        let next = next.into_iter().flatten().min()?;
        Some(Duration::from_micros(next.microseconds_since(now.moment)))
    }

    /// Does what the machine decides.
    fn act(&mut self, now: &Now) -> Result<(), RunError> {
        for _ in 0..ACTIONS_PER_TURN_MAX {
            let Some(action) = self.machine.poll(now) else { return Ok(()) };
            match action {
                Action::Connect => self.connect(now),
                Action::Send(frame) => self.send(now, &frame),
                Action::CloseLink(end) => {
                    self.note_close(now, end);
                    self.connection.close();
                    self.connected_since = None;
                }
                Action::ReadSpool { after_sequence, max_bytes, max_events } => {
                    let events = self.spool.read(after_sequence, max_bytes, max_events)?;
                    self.machine.spool_read(now, &events);
                }
                Action::ForgetThrough { sequence } => self.spool.forget_through(sequence)?,
                Action::Recall { after_sequence } => {
                    log::warn!(
                        "the server does not know events behind {after_sequence} any more: what is left of them is sent again"
                    );
                    self.spool.recall(after_sequence)?;
                }
                Action::NewSpoolEpoch { epoch } => {
                    log::warn!(
                        "the server knows other events of this device: the spool begins epoch {epoch}"
                    );
                    self.spool.begin_epoch(epoch)?;
                }
                Action::SaveState(state) => {
                    let slots = AbSlots::new(self.directory.path(), STATE_SLOT);
                    if let Err(error) = slots.write(&state.to_bytes()) {
                        // Without it on the disk nothing may be said: the link ends, and it is tried again
                        // later.
                        self.connection.close();
                        self.lost(now, &format!("the agent's state can't be written: {error}"));
                    }
                }
                Action::SaveBase(base) => sections::write_base(&self.directory, &base),
                Action::TakeSettings(order) => self.take_settings(now, &order),
                Action::TakeRun(order) => self.take_run(now, &order),
                Action::TakeRunList(runs) => self.take_run_list(now, &runs),
                Action::RunsStored(acks) => self.runs_stored(now, &acks),
                Action::TakeArtifactPart(part) => {
                    self.runs.take_artifact_part(&part);
                    self.work_on_runs(now);
                }
                Action::LookAnew(reason) => {
                    // The collection under way was begun before the question.
                    self.looking = Some((reason, Wait::ToCollect));
                    self.sections.is_wanted = true;
                }
                Action::EventsHeld { seconds } => log::warn!(
                    "this device has sent more events than the server takes of one device at once: the others \
                     stay in the spool and are sent at the server's rate, the next in {seconds} s"
                ),
                Action::TakeTrust(trust) => self.take_trust(now, &trust),
                Action::RaiseNoticeCounter { counter } => {
                    self.datagrams.raise_notice(counter);
                    self.machine.set_reach(self.datagrams.reach());
                }
                Action::Fork(fork) => self.begin_fork(now, *fork),
                Action::MakeRequest => self.make_request(now),
                Action::StoreCertificate(certificate) => self.store_certificate(certificate),
                Action::Show(shown) => self.show_certificate(shown),
                Action::Forget(forgotten) => self.forget_certificate(forgotten),
                Action::SyncFinished(result) => self.sync_finished(now, &result),
            }
        }
        self.has_more = true;
        Ok(())
    }

    fn helped(&mut self, now: &Now, outcome: Outcome) -> Result<(), RunError> {
        if let Outcome::Resolved(server, Ok(addresses)) = &outcome
            && server == self.connection.server()
        {
            self.connection.found(addresses);
        }
        match outcome {
            Outcome::Collected(collected) => self.collected(now, *collected),
            Outcome::Why(why) => self.heard_why(why),
            Outcome::ToEnd(why) => self.end_wanted = Some(why),
            Outcome::Connected(stream) => {
                if let Some(clients) = &mut self.clients {
                    clients.adopt(stream);
                }
            }
            Outcome::Panicked(name) => return Err(RunError::Helper(name)),
            Outcome::Forked(outcome) => self.forked(now, outcome)?,
            Outcome::Checked(run, result) => self.runs.checked(run, result),
            Outcome::Managed(outcome) => {
                self.managed.done(outcome, now.wall);
                self.managed_changed(now);
            }
            // The machine gave up in the meantime.
            Outcome::Resolved(_, _) if !self.connection.is_resolving() => {}
            // The server has become another one meanwhile.
            Outcome::Resolved(server, _) if server != *self.connection.server() => self.connect(now),
            Outcome::Resolved(_, Err(error)) => {
                self.connection.close();
                self.lost(now, &error);
            }
            Outcome::Resolved(_, Ok(addresses)) => {
                self.connection.connect(&addresses);
                self.has_more |= self.hear_server(now);
            }
        }
        Ok(())
    }

    fn sync_finished(&mut self, now: &Now, result: &SyncResult) {
        let answer = match result {
            SyncResult::InSync { uploaded } => {
                log::info!("in sync{}", programs::list_of(uploaded));
                self.surroundings.synced();
                self.last_sync = Some(now.wall);
                self.last_error_at = None;
                b"{\"synced\":true}".to_vec()
            }
            SyncResult::Later { seconds } => {
                // A device that was sent away for another reason than the server's load has been told which.
                let why = self.machine.status(now).last_error;
                let why = why.unwrap_or_else(|| "the server is busy".to_owned());
                refusal(&format!("no sync now: {why}; the agent comes again by itself in {seconds} s"))
            }
            SyncResult::Failed { reason } => {
                self.last_error_at = Some(now.wall);
                refusal(&format!("the sync failed: {reason}; the agent tries again by itself"))
            }
        };
        if matches!(result, SyncResult::InSync { .. }) && self.machine.is_sync_wanted() {
            // It had begun before it was asked for, perhaps with older sections: the next one is the answer.
            return;
        }
        let Some(clients) = &mut self.clients else { return };
        self.waiting.retain(|waiter| {
            let is_answered = waiter.wait == Wait::Asked;
            if is_answered {
                let answer = if waiter.is_mover { &mode::answer(result) } else { &answer };
                clients.answer_owed(waiter.key, answer);
            }
            !is_answered
        });
    }
}

/// A machine that goes on from what is on the disk.
fn machine(directory: &Directory, spool: &Spool, reach: Reach, seed: u64) -> Result<AgentMachine, RunError> {
    let state = match AbSlots::new(directory.path(), STATE_SLOT).read() {
        Ok(bytes) => bytes.and_then(|bytes| AgentState::from_bytes(&bytes)),
        Err(SlotError::Damaged(path)) => {
            log::warn!("{} is damaged: everything is sent whole once", path.display());
            None
        }
        Err(error) => return Err(error.into()),
    };
    Ok(AgentMachine::new(AgentStart {
        state,
        base: sections::read_base(directory),
        spool: SpoolState {
            epoch: spool.epoch(),
            highest: spool.highest_sequence(),
            forgotten_through: spool.acked_through(),
        },
        reach,
        seed,
    }))
}

/// Marks of the identity, as the server is told them.
fn marks(identity: &Identity, settings: &Settings) -> SyncIdentity {
    let machine = host::machine(&settings.collect.root, identity.device);
    SyncIdentity { trust_label: identity.trust_label, machine }
}

fn refusal(error: &impl std::fmt::Display) -> Vec<u8> {
    serde_json::json!({ "error": error.to_string() }).to_string().into_bytes()
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("it gives no randomness"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Wall time of a moment, as the clock stands now.
fn wall_of(moment: Moment, now: &Now) -> WallTime {
    WallTime(now.wall.0.saturating_add(moment.microseconds_since(now.moment) / 1_000))
}
