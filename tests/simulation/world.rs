//! One thread, one seed, one clock: the server, the devices, the network between them, and what goes wrong.

use std::collections::BTreeMap;

use muster::machine::agent::{Action, AgentState};
use muster::machine::command::JobOutcome;
use muster::machine::random::Random;
use muster::wire::id::DeviceId;
use muster::wire::time::{Moment, Now, WallTime};

use crate::device::{Device, event};
use crate::server::{Bug, Copy, Key, Server};

/// How often things go wrong, each drawn anew for each seed (a swarm): out of 1,000 chances.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    pub(crate) link_break: u64,
    pub(crate) agent_crash: u64,
    pub(crate) server_crash: u64,
    pub(crate) roll_back: u64,
    pub(crate) restore: u64,
    pub(crate) disk_full: u64,
    pub(crate) partition: u64,
    pub(crate) clock_jump: u64,
    pub(crate) delay_microseconds: u64,
}

#[derive(Debug)]
pub(crate) enum Step {
    Wake(usize),
    Connected(usize, u32),
    Refused(usize, u32),
    ToServer(u32, Vec<u8>),
    ToAgent(u32, Vec<u8>),
    /// The server hears that the agent's end is gone, and the other way round.
    ServerHearsEnd(u32),
    AgentHearsEnd(u32),
    SessionTimeout(u32),
    Flush,
    JobDone(u32, u32, Box<JobOutcome>),
    SpoolSync(usize),
    Trouble,
    ServerStart,
    AgentStart(usize),
}

/// A link: both ends, and until when each direction is taken by what is under way, so that nothing overtakes.
pub(crate) struct Link {
    pub(crate) device: usize,
    pub(crate) is_broken: bool,
    pub(crate) to_server_at: u64,
    pub(crate) to_agent_at: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) events: u64,
    pub(crate) acknowledged: u64,
    pub(crate) syncs: u64,
    pub(crate) server_crashes: u64,
    pub(crate) agent_crashes: u64,
    pub(crate) roll_backs: u64,
    pub(crate) restores: u64,
    pub(crate) link_breaks: u64,
    pub(crate) full_disks: u64,
    pub(crate) no_room: u64,
    pub(crate) new_epochs: u64,
}

impl Counts {
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            events: self.events + other.events,
            acknowledged: self.acknowledged + other.acknowledged,
            syncs: self.syncs + other.syncs,
            server_crashes: self.server_crashes + other.server_crashes,
            agent_crashes: self.agent_crashes + other.agent_crashes,
            roll_backs: self.roll_backs + other.roll_backs,
            restores: self.restores + other.restores,
            link_breaks: self.link_breaks + other.link_breaks,
            full_disks: self.full_disks + other.full_disks,
            no_room: self.no_room + other.no_room,
            new_epochs: self.new_epochs + other.new_epochs,
        }
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) bug: Bug,
    queue: BTreeMap<(u64, u64), Step>,
    queued: u64,
    pub(crate) server: Server,
    pub(crate) devices: Vec<Device>,
    pub(crate) links: BTreeMap<u32, Link>,
    next_link: u32,
    /// Events of which a device was told that they are safe, so that it forgot them.
    pub(crate) promised: BTreeMap<Key, u32>,
    pub(crate) copy: Option<(Copy, BTreeMap<Key, u32>)>,
    pub(crate) has_faults: bool,
    pub(crate) partitioned_until: u64,
    pub(crate) full_until: u64,
    pub(crate) next_event: u64,
    pub(crate) counts: Counts,
    pub(crate) trace: u64,
    pub(crate) is_shown: bool,
}

impl World {
    pub(crate) fn new(seed: u64, devices: usize, bug: Bug, is_shown: bool) -> Self {
        let mut random = Random::new(seed);
        let mut rate = |most: u64| if random.up_to(1) == 0 { 0 } else { random.up_to(most) };
        let rates = Rates {
            link_break: rate(80),
            agent_crash: rate(30),
            server_crash: rate(60),
            roll_back: rate(15),
            restore: rate(15),
            disk_full: rate(20),
            partition: rate(20),
            clock_jump: rate(20),
            delay_microseconds: 100 + rate(2_000_000),
        };
        let devices = (0..devices).map(|number| Device::new(number, random.up_to(2) == 0)).collect();
        let mut world = Self {
            now: 1_000_000,
            server: Server::new(random.next_u64()),
            random,
            rates,
            bug,
            queue: BTreeMap::new(),
            queued: 0,
            devices,
            links: BTreeMap::new(),
            next_link: 0,
            promised: BTreeMap::new(),
            copy: None,
            has_faults: true,
            partitioned_until: 0,
            full_until: 0,
            next_event: 0,
            counts: Counts::default(),
            trace: 0xcbf2_9ce4_8422_2325,
            is_shown,
        };
        world.after(0, Step::ServerStart);
        for number in 0..world.devices.len() {
            let delay = world.random.up_to(5_000_000);
            world.after(delay, Step::AgentStart(number));
        }
        world.after(1_000_000, Step::Trouble);
        world
    }

    pub(crate) fn after(&mut self, microseconds: u64, step: Step) {
        self.at(self.now + microseconds, step);
    }

    pub(crate) fn at(&mut self, at: u64, step: Step) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), step);
    }

    /// One out of 1,000 chances, so many times.
    pub(crate) fn chance(&mut self, of_thousand: u64) -> bool {
        self.random.up_to(999) < of_thousand
    }

    fn delay(&mut self) -> u64 {
        let most = if self.has_faults { self.rates.delay_microseconds } else { 20_000 };
        50 + self.random.up_to(most)
    }

    pub(crate) fn server_now(&self) -> Now {
        let wall = WallTime(self.server.wall_offset + self.now / 1_000);
        Now { moment: Moment(self.now), wall }
    }

    pub(crate) fn agent_now(&self, device: usize) -> Now {
        let wall = WallTime(self.devices[device].wall_offset + self.now / 1_000);
        Now { moment: Moment(self.now), wall }
    }

    /// The next step; `false` when its time lies behind `until`.
    pub(crate) fn step(&mut self, until: u64) -> Result<bool, String> {
        let Some((&(at, number), _)) = self.queue.first_key_value() else { return Ok(false) };
        if at > until {
            self.now = until;
            return Ok(false);
        }
        let Some(step) = self.queue.remove(&(at, number)) else { return Ok(false) };
        self.now = at;
        self.counts.steps += 1;
        self.note(at, &step);
        match step {
            Step::Wake(device) => {
                if self.devices[device].wake_at == Some(Moment(at)) {
                    self.devices[device].wake_at = None;
                    self.pump(device)?;
                }
            }
            Step::Connected(device, link) => self.connected(device, link)?,
            Step::Refused(device, link) => self.agent_hears_end(device, link, "connection refused")?,
            Step::ToServer(link, bytes) => self.server_hears(link, &bytes)?,
            Step::ToAgent(link, bytes) => self.agent_hears(link, &bytes)?,
            Step::ServerHearsEnd(link) => self.drop_session(link),
            Step::AgentHearsEnd(link) => {
                if let Some(device) = self.links.get(&link).map(|link| link.device) {
                    self.agent_hears_end(device, link, "the link ended")?;
                }
            }
            Step::SessionTimeout(link) => self.session_timeout(link)?,
            Step::Flush => self.flush()?,
            Step::JobDone(life, link, outcome) => self.job_done(life, link, *outcome)?,
            Step::SpoolSync(device) => {
                self.devices[device].sync_spool();
                self.pump(device)?;
            }
            Step::Trouble => self.trouble()?,
            Step::ServerStart => self.start_server()?,
            Step::AgentStart(device) => {
                if self.devices[device].machine.is_none() {
                    let seed = self.random.next_u64();
                    self.devices[device].start(seed);
                    self.pump(device)?;
                }
            }
        }
        Ok(true)
    }

    fn note(&mut self, at: u64, step: &Step) {
        let text = match step {
            Step::ToServer(link, bytes) => {
                format!("{at} ToServer({link}, {} {:08x})", bytes.len(), crc32c::crc32c(bytes))
            }
            Step::ToAgent(link, bytes) => {
                format!("{at} ToAgent({link}, {} {:08x})", bytes.len(), crc32c::crc32c(bytes))
            }
            other => format!("{at} {other:?}"),
        };
        self.show(&text);
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn show(&self, text: &str) {
        if self.is_shown {
            println!("{text}");
        }
    }

    /// Takes the agent's actions until there is none, then sets its alarm.
    pub(crate) fn pump(&mut self, number: usize) -> Result<(), String> {
        let now = self.agent_now(number);
        for _ in 0..10_000 {
            let Some(machine) = &mut self.devices[number].machine else { return Ok(()) };
            let Some(action) = machine.poll(&now) else {
                let next = machine.next_timeout();
                let device = &mut self.devices[number];
                if let Some(next) = next
                    && device.wake_at.is_none_or(|at| next < at || at.0 < self.now)
                {
                    let next = next.max(Moment(self.now + 1));
                    device.wake_at = Some(next);
                    self.at(next.0, Step::Wake(number));
                }
                return Ok(());
            };
            self.act(number, action)?;
        }
        Err(format!("device {number} never rests"))
    }

    fn act(&mut self, number: usize, action: Action) -> Result<(), String> {
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        match action {
            Action::Connect => {
                let link = self.next_link;
                self.next_link += 1;
                device.link = Some(link);
                let delay = self.delay();
                let lives = self.server.opened.is_some() && self.now >= self.partitioned_until;
                let answer = if lives { Step::Connected(number, link) } else { Step::Refused(number, link) };
                let ends = self.now + delay;
                let ends = Link { device: number, is_broken: false, to_server_at: ends, to_agent_at: ends };
                self.links.insert(link, ends);
                self.after(delay, answer);
            }
            Action::Send(bytes) => {
                let delay = self.delay();
                if let Some(link) = self.devices[number].link {
                    self.towards_server(link, delay, Step::ToServer(link, bytes));
                }
            }
            Action::CloseLink(_) => {
                let delay = self.delay();
                if let Some(link) = self.devices[number].link.take() {
                    self.towards_server(link, delay, Step::ServerHearsEnd(link));
                }
            }
            Action::ReadSpool { after_sequence, max_bytes, max_events } => {
                let mut bytes = 0;
                let found = device.disk.events.range(after_sequence + 1..).take(max_events);
                let found: Vec<_> = found
                    .take_while(|(_, body)| {
                        let fits = bytes == 0 || bytes + body.len() <= max_bytes;
                        bytes += body.len();
                        fits
                    })
                    .map(|(sequence, body)| (*sequence, body.clone()))
                    .collect();
                if let Some(machine) = &mut device.machine {
                    machine.spool_read(&now, &found);
                }
            }
            Action::ForgetThrough { sequence } => self.forget(number, sequence)?,
            Action::NewSpoolEpoch { epoch } => {
                if epoch <= device.disk.epoch {
                    return Err(format!("device {number}: the new spool epoch is not higher"));
                }
                device.disk.epoch = epoch;
                self.counts.new_epochs += 1;
            }
            Action::SaveState(state) => {
                let bytes = state.to_bytes();
                if AgentState::from_bytes(&bytes).as_ref() != Some(&*state) {
                    return Err("the agent's state does not survive its bytes".into());
                }
                device.disk.state = Some(bytes);
            }
            Action::SaveBase(base) => device.disk.base = Some(base),
            Action::SyncFinished(_) | Action::LookAnew(_) | Action::RaiseNoticeCounter { .. } => {}
        }
        Ok(())
    }

    /// The device was told that everything up to `through` is durable: is it?
    fn forget(&mut self, number: usize, through: u64) -> Result<(), String> {
        let device = &mut self.devices[number];
        let (id, epoch) = (device.id, device.disk.epoch);
        let from = device.forgotten_unsynced.max(device.disk.forgotten_through) + 1;
        for (sequence, body) in device.disk.events.range(from..=through.max(from)) {
            if *sequence > through {
                continue;
            }
            let key = (id, epoch, *sequence);
            let crc = crc32c::crc32c(body);
            if self.server.appended.get(&key).map(|(_, crc)| *crc) != Some(crc) {
                return Err(format!("{key:?} was acknowledged and is not in the journal"));
            }
            self.promised.insert(key, crc);
            self.counts.acknowledged += 1;
        }
        device.forgotten_unsynced = through;
        Ok(())
    }

    /// Whether what was promised is in the journal as it was found.
    pub(crate) fn check_promises(&self) -> Result<(), String> {
        for (key, crc) in &self.promised {
            if self.server.appended.get(key).map(|(_, found)| *found) != Some(*crc) {
                return Err(format!("{key:?} was acknowledged and is missing from the recovered journal"));
            }
        }
        Ok(())
    }

    pub(crate) fn towards_server(&mut self, link: u32, delay: u64, step: Step) {
        let Some(ends) = self.links.get_mut(&link) else { return };
        if !ends.is_broken {
            ends.to_server_at = ends.to_server_at.max(self.now + delay);
            let at = ends.to_server_at;
            self.at(at, step);
        }
    }

    pub(crate) fn towards_agent(&mut self, link: u32, step: Step) {
        let delay = self.delay();
        let Some(ends) = self.links.get_mut(&link) else { return };
        if !ends.is_broken {
            ends.to_agent_at = ends.to_agent_at.max(self.now + delay);
            let at = ends.to_agent_at;
            self.at(at, step);
        }
    }

    pub(crate) fn emit(&mut self, number: usize) {
        self.next_event += 1;
        let length = self.random.up_to(3_500);
        let body = event(self.next_event, length);
        self.counts.events += 1;
        self.devices[number].unsynced.push(body);
        let delay = self.random.up_to(200_000);
        self.after(delay, Step::SpoolSync(number));
    }

    /// Whether every device is in step and has delivered all it has.
    pub(crate) fn unfinished(&self) -> Option<String> {
        self.devices.iter().find_map(|device| {
            let stored = self.server.store.get(&device.id)?;
            let content: std::collections::BTreeSet<_> = stored.content.values().collect();
            let same = content.iter().copied().eq(&device.content);
            let left =
                device.disk.events.range(device.forgotten_unsynced + 1..).count() + device.unsynced.len();
            let status = device.machine.as_ref().map(|machine| machine.status(&self.server_now()));
            (!same || left > 0)
                .then(|| format!("{}: in step: {same}, events left: {left}, {status:?}", device.id))
        })
    }

    pub(crate) fn device_of(&self, link: u32) -> Option<(usize, DeviceId)> {
        let device = self.links.get(&link)?.device;
        Some((device, self.devices[device].id))
    }
}
