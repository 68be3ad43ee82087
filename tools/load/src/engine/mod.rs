//! Thousands of simulated devices in one thread: an edge-triggered poll, one heap of timers, a pace for what
//! happens by itself.
//!
//! An engine is told [`EngineCommand`]s and counts ([`Counters`]); what it timed it tells when it is asked.
//! Each turn goes: commands, sockets, datagrams, timers, what is due at a pace, devices that are to be
//! started.

mod agent;
pub(crate) mod commands;
mod context;
pub(crate) mod counters;
mod link;
pub(crate) mod measures;
mod pace;
pub(crate) mod spool;
mod stream;
mod visitors;
mod wakes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use mio::{Events, Poll, Token, Waker};
use muster::agent::identity::Identity;
use muster::machine::random::Random;
use muster::machine::timers::Timers;
use muster::reactor::Clock;
use muster::wire::id::Epoch;
use muster::wire::inventory::Application;
use muster::wire::time::Moment;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::{Deserialize, Serialize};

use agent::Agent;
use commands::{EngineCommand, EventLoad, Share};
use context::Context;
use counters::{Counters, count};
use measures::Measures;
use pace::Pace;
use spool::Paper;
use visitors::Visitors;
use wakes::WakePort;

/// Events of one poll.
const POLL_EVENTS_MAX: usize = 1_024;

/// Devices that are started in one turn, so that the ones that run are not kept waiting.
const STARTS_PER_TURN: usize = 16;

/// Longest sleep.
const SLEEP_MILLISECONDS_MAX: u64 = 1_000;

/// Devices that are looked at to find one that is at rest.
const SEARCH_MAX: usize = 64;

const WAKER: Token = Token(usize::MAX);
const WAKES: Token = Token(usize::MAX - 1);

/// Applications that each simulated device has installed.
const APPLICATIONS: usize = 8;

/// Setting that all engines of a run have in common.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// In the order in which devices try them; at least one.
    pub(crate) servers: Vec<SocketAddr>,
    /// Bytes of one event.
    pub(crate) event_bytes: usize,
    /// Whether devices keep their tickets.
    pub(crate) resumes: bool,
    /// Whether they hear wakes.
    pub(crate) hears_wakes: bool,
}

/// Answer of an engine when it is asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Durations that it timed since the last time.
    pub(crate) measures: Measures,
    /// Faults, each once.
    pub(crate) troubles: Vec<String>,
}

/// The simulated devices of one thread.
pub(crate) struct Engine {
    poll: Poll,
    cx: Context,
    share: Share,
    agents: Vec<Agent>,
    commands: Receiver<EngineCommand>,
    told: Sender<Told>,
    /// Number of the agents, from the first on, that run or should.
    wanted: usize,
    started: usize,
    at_a_time: usize,
    /// The pace at which they are started, when there is one.
    starts: Option<Pace>,
    /// Events that happen by themselves, to the first devices, this many.
    events: Option<(Pace, usize)>,
    syncs: Option<Pace>,
    /// Place at which the search for a device that may sync goes on.
    next_to_sync: usize,
    visitors: Visitors,
    wakes: Option<WakePort>,
}

impl Engine {
    /// An engine that runs its share of the devices, of which none runs yet, and what wakes it up when there
    /// is an order.
    pub(crate) fn new(
        setting: &Setting,
        devices: &Arc<[Identity]>,
        share: Share,
        counters: Arc<Counters>,
        commands: Receiver<EngineCommand>,
        told: Sender<Told>,
    ) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let count = share.part(devices.len());
        // Spools of an earlier run have a lower epoch.
        let clock = Clock::new();
        let epoch = Epoch(clock.now().wall.0);
        let number = |index: usize| share.number + index * share.of;
        let agents: Vec<_> = (0..count).map(|index| Agent::new(number(index), epoch)).collect();
        let wakes = match setting.hears_wakes {
            true => {
                let owned = (0u32..).zip(0..count);
                let owned = owned.map(|(index, place)| (devices[number(place)].device, index));
                Some(WakePort::open(&setting.servers, poll.registry(), WAKES, owned)?)
            }
            false => None,
        };
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("the system gives no randomness"))?;
        let cx = Context {
            registry: poll.registry().try_clone()?,
            clock: clock.clone(),
            servers: setting.servers.clone(),
            devices: Arc::clone(devices),
            counters,
            measures: Measures::default(),
            paper: Paper::new(setting.event_bytes, &clock.now()),
            inventory: inventory(),
            random: Random::new(u64::from_ne_bytes(seed)),
            plain: Vec::new(),
            timers: Timers::default(),
            udp_port: wakes.as_ref().map_or(0, |port| port.number),
            resumes: setting.resumes,
            mark: 1,
            starting: 0,
            closed_loop_devices: 0,
            syncs_again: false,
            leaving: Vec::new(),
            troubles: Vec::new(),
        };
        let engine = Self {
            poll,
            cx,
            share,
            agents,
            commands,
            told,
            wanted: 0,
            started: 0,
            at_a_time: 1,
            starts: None,
            events: None,
            syncs: None,
            next_to_sync: 0,
            visitors: Visitors::default(),
            wakes,
        };
        Ok((engine, waker))
    }

    /// Runs until it is told to end, or nobody is left to tell it.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(POLL_EVENTS_MAX);
        loop {
            self.wait(&mut events)?;
            loop {
                match self.commands.try_recv() {
                    Ok(EngineCommand::End) | Err(TryRecvError::Disconnected) => return Ok(()),
                    Ok(order) => self.obey(order),
                    Err(TryRecvError::Empty) => break,
                }
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    WAKES => self.hear_wakes(),
                    Token(place) => {
                        if let (Some(agent), Ok(index)) = (self.agents.get_mut(place), u32::try_from(place)) {
                            agent.ready(&mut self.cx, index);
                        }
                    }
                }
            }
            self.go_on();
        }
    }

    /// Sleeps until a socket is ready or something is due. A poll alone sleeps whole milliseconds, which is
    /// too long for a pace.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let left = Duration::from_micros(self.next().microseconds_since(self.cx.clock.now().moment));
        if !left.is_zero() {
            let timeout = Timespec::try_from(left.min(Duration::from_millis(SLEEP_MILLISECONDS_MAX)));
            let timeout = timeout.map_err(io::Error::other)?;
            match rustix::event::poll(&mut [PollFd::new(self.poll.registry(), PollFlags::IN)], Some(&timeout))
            {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.poll.poll(events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// When something is due at the latest.
    fn next(&self) -> Moment {
        let may_start = self.started < self.wanted && self.cx.starting < self.at_a_time;
        if (may_start && self.starts.is_none()) || self.visitors.may_start() || !self.cx.leaving.is_empty() {
            return Moment(0);
        }
        let starts = self.starts.as_ref().filter(|_| may_start);
        let paces = [self.events.as_ref().map(|(pace, _)| pace), self.syncs.as_ref(), starts];
        let paced = paces.into_iter().flatten().map(Pace::next);
        let never = self.cx.clock.now().moment.plus_milliseconds(SLEEP_MILLISECONDS_MAX);
        paced.chain(self.cx.timers.next()).min().unwrap_or(never)
    }

    /// Work that does not wait for a socket.
    fn go_on(&mut self) {
        let now = self.cx.clock.now().moment;
        while let Some(index) = self.cx.timers.due(now) {
            if let Some(agent) = self.agents.get_mut(index as usize) {
                agent.timeout(&mut self.cx, index);
            }
        }
        self.have_events(now);
        self.have_syncs(now);
        self.visitors.go_on(&mut self.agents, &mut self.cx);
        for _ in 0..STARTS_PER_TURN {
            if self.started >= self.wanted || self.cx.starting >= self.at_a_time {
                break;
            }
            if self.starts.as_mut().is_some_and(|pace| pace.due(now).is_none()) {
                break;
            }
            self.start_next();
        }
    }

    fn start_next(&mut self) {
        let Ok(index) = u32::try_from(self.started) else { return };
        if let Some(agent) = self.agents.get_mut(self.started)
            && !agent.is_running()
        {
            agent.start(&mut self.cx, index, false);
        }
        self.started += 1;
    }

    fn have_events(&mut self, now: Moment) {
        let Some((pace, devices)) = &mut self.events else { return };
        while let Some(due) = pace.due(now) {
            let place = self.cx.random.up_to(*devices as u64 - 1);
            let place = usize::try_from(place).unwrap_or_default();
            if let (Some(agent), Ok(index)) = (self.agents.get_mut(place), u32::try_from(place)) {
                agent.emit(&mut self.cx, index, 1, due);
            }
        }
    }

    fn have_syncs(&mut self, now: Moment) {
        let Some(pace) = &mut self.syncs else { return };
        while let Some(due) = pace.due(now) {
            let mut is_found = false;
            for _ in 0..self.started.min(SEARCH_MAX) {
                self.next_to_sync = (self.next_to_sync + 1) % self.started;
                let place = self.next_to_sync;
                let (Some(agent), Ok(index)) = (self.agents.get_mut(place), u32::try_from(place)) else {
                    break;
                };
                if agent.is_at_rest() {
                    agent.ask_to_sync(&mut self.cx, index, due);
                    is_found = true;
                    break;
                }
            }
            if !is_found {
                count(&self.cx.counters.late);
            }
        }
    }

    fn hear_wakes(&mut self) {
        let Some(wakes) = &mut self.wakes else { return };
        while let Some((index, bytes)) = wakes.receive() {
            if let Some(agent) = self.agents.get_mut(index as usize) {
                agent.datagram(&mut self.cx, index, &bytes);
            }
        }
    }

    fn obey(&mut self, order: EngineCommand) {
        match order {
            EngineCommand::Run { devices, at_a_time, rate } => {
                let now = self.cx.clock.now().moment;
                self.starts = rate.map(|rate| Pace::new(now, self.share.rate(rate)));
                self.wanted = self.share.part(devices).min(self.agents.len());
                self.at_a_time = self.share.part(at_a_time).max(1);
                while self.started > self.wanted {
                    self.started -= 1;
                    self.agents[self.started].stop(&mut self.cx);
                }
            }
            EngineCommand::ForgetTickets => self.agents.iter_mut().for_each(Agent::forget_tickets),
            EngineCommand::Mark => {
                self.cx.mark += 1;
                self.cx.counters.live.store(0, Ordering::Relaxed);
            }
            EngineCommand::Events(load) => self.begin_events(load),
            EngineCommand::StopEvents => (self.events, self.cx.closed_loop_devices) = (None, 0),
            EngineCommand::Syncs { rate } => self.begin_syncs(rate),
            EngineCommand::StopSyncs => (self.syncs, self.cx.syncs_again) = (None, false),
            EngineCommand::Visits(visits) => self.visitors.begin(visits, self.share),
            EngineCommand::StopVisits => self.visitors.stop(&mut self.agents, &mut self.cx),
            EngineCommand::Take => {
                let measures = std::mem::take(&mut self.cx.measures);
                let troubles = std::mem::take(&mut self.cx.troubles);
                // Nobody waits for it any more: the end is near.
                let _ = self.told.send(Told { measures, troubles });
            }
            EngineCommand::End => {}
        }
    }

    fn begin_events(&mut self, load: EventLoad) {
        let devices = self.share.part(load.devices).min(self.agents.len());
        if devices == 0 {
            return;
        }
        let now = self.cx.clock.now().moment;
        if let Some(rate) = load.rate {
            self.events = Some((Pace::new(now, self.share.rate(rate)), devices));
            return;
        }
        self.cx.closed_loop_devices = devices;
        for (index, agent) in (0u32..).zip(self.agents.iter_mut().take(devices)) {
            agent.emit(&mut self.cx, index, load.in_flight, now);
        }
    }

    fn begin_syncs(&mut self, rate: Option<f64>) {
        let now = self.cx.clock.now().moment;
        if let Some(rate) = rate {
            self.syncs = Some(Pace::new(now, self.share.rate(rate)));
            return;
        }
        self.cx.syncs_again = true;
        for (index, agent) in (0u32..).zip(&mut self.agents) {
            if agent.is_at_rest() {
                agent.ask_to_sync(&mut self.cx, index, now);
            }
        }
    }
}

/// A small installation, the same everywhere.
fn inventory() -> Arc<[Application]> {
    let application = |number: usize| Application {
        name: format!("application-{number:03}"),
        version: format!("1.{number}.0-1"),
        publisher: "Muster Load <load@example.org>".into(),
    };
    (0..APPLICATIONS).map(application).collect()
}
