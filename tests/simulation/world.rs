//! One thread, one seed, one clock: the server, the devices, the network between them, and what goes wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;

use muster::machine::command::JobOutcome;
use muster::machine::device_state::LinkRef;
use muster::machine::permits::Permit;
use muster::machine::random::Random;
use muster::machine::rate::EventRate;
use muster::wire::id::{DeviceId, RunId};
use muster::wire::message::SyncReason;
use muster::wire::time::{Moment, Now, WallTime};

use crate::bug::Bug;
use crate::calls::CallLog;
use crate::counts::{Counts, Rates};
use crate::datagrams::{Air, To};
use crate::desired::RunLog;
use crate::device::{Device, event};
use crate::hostile::Hostile;
use crate::server::{JournalCopy, Key, Server, StoreCopy};

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
    SessionTimeout(LinkRef),
    /// Another link of the same device took over, which is another endpoint's.
    Superseded(LinkRef),
    /// There may be room again for what was said on a link.
    Retry(LinkRef),
    /// The server stops; in this life of it.
    Drain(u32),
    Flush,
    JobDone(u32, LinkRef, u32, Box<JobOutcome>, Permit),
    SpoolSync(usize),
    Trouble,
    /// A hostile device does something.
    Hostile(usize),
    ServerStart,
    AgentStart(usize),
    /// An agent that ends has no more time to deliver events; of this start of it.
    LeaveDeadline(usize, u32),
    Resume(usize),
    /// The device has looked at itself anew; in this start of its agent.
    Looked(usize, u32, SyncReason),
    Datagram(To, Vec<u8>),
    /// Somebody who sees all datagrams, and has no key, sends some.
    Attack,
    /// The wake scheduler has something to do by itself.
    WakeScheduler,
    /// By now everybody who was asked for has been reported on.
    OperationDue(u64),
    /// The server's news in memory goes to its store; in this life of it.
    WriteBack(u32),
    /// The server looks at what is due of its tasks; in this life of it.
    Scheduler(u32),
    /// A device's application has taken its settings over; in this start of its agent.
    SettingsApplied(usize, u32),
    RunBegins(usize, u32, RunId),
    RunEnds(usize, u32, RunId),
}

/// A link: both ends, and until when each direction is taken by what is under way, so that nothing overtakes.
pub(crate) struct Link {
    pub(crate) device: DeviceId,
    /// Address at which the server sees it.
    pub(crate) peer: IpAddr,
    pub(crate) is_broken: bool,
    pub(crate) to_server_at: u64,
    pub(crate) to_agent_at: u64,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) bug: Bug,
    queue: BTreeMap<(u64, u64), Step>,
    queued: u64,
    pub(crate) server: Server,
    pub(crate) air: Air,
    pub(crate) call_log: CallLog,
    pub(crate) run_log: RunLog,
    pub(crate) devices: Vec<Device>,
    pub(crate) hostiles: Vec<Hostile>,
    /// Hostile devices do what they can, and the service of all others is watched.
    pub(crate) is_beside: bool,
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) next_link: u32,
    /// Events of which a device was told that they are safe, so that it forgot them.
    pub(crate) promised: BTreeMap<Key, u32>,
    /// Copies that an administrator made, with what was promised of the events when the journal's was made.
    pub(crate) journal_copy: Option<(JournalCopy, BTreeMap<Key, u32>)>,
    pub(crate) store_copy: Option<StoreCopy>,
    pub(crate) has_faults: bool,
    pub(crate) partitioned_until: u64,
    pub(crate) full_until: u64,
    pub(crate) hangs_until: u64,
    /// When the server's wall clock was last set.
    pub(crate) clock_stepped_at: u64,
    pub(crate) store_restored_at: u64,
    /// Number of times that it was set, or that the server started and may have taken it from somebody.
    pub(crate) clock_troubles: u64,
    /// And how often when the server last looked.
    pub(crate) noticed_troubles: u64,
    /// Whether it was ever set by so little that nobody notices.
    pub(crate) has_unnoticed: bool,
    /// Since when tasks could be due without a break.
    pub(crate) tasks_from: u64,
    /// Share of the log that the events of a device may take: in every third seed little.
    pub(crate) event_rate: EventRate,
    pub(crate) next_event: u64,
    pub(crate) counts: Counts,
    pub(crate) trace: u64,
    pub(crate) is_shown: bool,
}

impl World {
    pub(crate) fn new(seed: u64, devices: usize, hostiles: usize, bug: Bug, is_shown: bool) -> Self {
        let mut random = Random::new(seed);
        let rates = Rates::draw(&mut random);
        let hostiles = (devices..devices + hostiles).map(Hostile::new).collect();
        let devices: Vec<Device> = (0..devices)
            .map(|number| {
                let (persistent, nated) = (random.up_to(2) == 0, random.up_to(2) == 0);
                let never_comes = number > 0 && number + 1 == devices && random.up_to(3) == 0;
                Device::new(number, persistent, nated, never_comes)
            })
            .collect();
        let mut world = Self {
            now: 1_000_000,
            server: Server::new(random.next_u64(), bug, devices.len() as u64),
            random,
            rates,
            bug,
            queue: BTreeMap::new(),
            queued: 0,
            air: Air::default(),
            call_log: CallLog::default(),
            run_log: RunLog::default(),
            devices,
            hostiles,
            is_beside: false,
            links: BTreeMap::new(),
            next_link: 0,
            promised: BTreeMap::new(),
            journal_copy: None,
            store_copy: None,
            has_faults: true,
            partitioned_until: 0,
            full_until: 0,
            hangs_until: 0,
            clock_stepped_at: 0,
            store_restored_at: 0,
            clock_troubles: 0,
            noticed_troubles: 0,
            has_unnoticed: false,
            tasks_from: 0,
            event_rate: match seed % 3 {
                1 => EventRate { bytes_per_second: 8_000, burst_bytes: 300 },
                _ => EventRate::default(),
            },
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
        for number in 0..world.hostiles.len() {
            world.after(2_000_000, Step::Hostile(number));
        }
        world.after(1_000_000, Step::Trouble);
        world.after(1_500_000, Step::Attack);
        world
    }

    pub(crate) fn after(&mut self, microseconds: u64, step: Step) {
        self.at(self.now + microseconds, step);
    }

    pub(crate) fn at(&mut self, at: u64, step: Step) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), step);
    }

    /// A chance of `of_thousand` in 1,000.
    pub(crate) fn chance(&mut self, of_thousand: u64) -> bool {
        self.random.up_to(999) < of_thousand
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let most = if self.has_faults { self.rates.delay_microseconds } else { 20_000 };
        50 + self.random.up_to(most)
    }

    pub(crate) fn server_now(&self) -> Now {
        let wall = WallTime(self.server.clock.offset + self.now / 1_000);
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
            Step::ToServer(link, bytes) => self.server_hears(link, bytes)?,
            Step::ToAgent(link, bytes) => self.agent_hears(link, &bytes)?,
            Step::ServerHearsEnd(link) => self.server_hears_end(link)?,
            Step::AgentHearsEnd(link) => {
                if let Some((device, _)) = self.device_of(link) {
                    self.agent_hears_end(device, link, "the link ended")?;
                }
            }
            Step::SessionTimeout(name) => self.session_timeout(name)?,
            Step::Superseded(name) => self.superseded(name)?,
            Step::Retry(name) => self.retry(name)?,
            Step::Drain(life) => self.drain(life)?,
            Step::Flush => self.flush_when_it_goes()?,
            Step::JobDone(life, name, link, outcome, permit) => {
                drop(permit);
                self.job_done(life, name, link, *outcome)?;
            }
            Step::SpoolSync(device) => {
                self.devices[device].sync_spool();
                self.pump(device)?;
            }
            Step::Trouble => self.trouble()?,
            Step::Hostile(number) => self.hostile_acts(number)?,
            Step::ServerStart => self.start_server()?,
            Step::AgentStart(device) => {
                if self.devices[device].may_start() {
                    let seed = self.random.next_u64();
                    self.devices[device].start(seed);
                    self.report_stored(device);
                    self.pump(device)?;
                }
            }
            Step::LeaveDeadline(device, life) => {
                if self.devices[device].life == life {
                    self.say_goodbye(device);
                }
            }
            Step::Resume(device) => self.resume(device)?,
            Step::Looked(device, life, reason) => self.looked(device, life, reason)?,
            Step::Datagram(To::Server, bytes) => self.server_hears_datagram(&bytes)?,
            Step::Datagram(To::Address(address), bytes) => self.device_hears_datagram(address, &bytes)?,
            Step::Attack => self.attack(),
            Step::WakeScheduler => self.drain_wake_scheduler()?,
            Step::OperationDue(operation) => self.operation_due(operation)?,
            Step::WriteBack(life) => self.write_back(life),
            Step::Scheduler(life) => self.scheduler(life)?,
            Step::SettingsApplied(device, life) => self.settings_applied(device, life)?,
            Step::RunBegins(device, life, run) => self.run_begins(device, life, run)?,
            Step::RunEnds(device, life, run) => self.run_ends(device, life, run)?,
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
            Step::Datagram(to, bytes) => {
                format!("{at} Datagram({to:?}, {} {:08x})", bytes.len(), crc32c::crc32c(bytes))
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

    /// Whether what was promised is in the journal as it was found, or was damaged there and told as such.
    pub(crate) fn check_promises(&mut self) -> Result<(), String> {
        let damaged = &self.server.damaged;
        self.promised.retain(|key, _| !damaged.contains(key));
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

    /// Whether every device is in sync and has delivered all it has.
    pub(crate) fn unfinished(&self) -> Option<String> {
        self.devices.iter().filter(|device| !device.never_comes).find_map(|device| {
            let stored = self.server.store.get(&device.id)?;
            let content: std::collections::BTreeSet<_> = stored.content.values().collect();
            let same = content.iter().copied().eq(&device.content);
            let left =
                device.disk.events.range(device.forgotten_unsynced + 1..).count() + device.unsynced.len();
            let status = device.machine.as_ref().map(|machine| machine.status(&self.server_now()));
            (!same || left > 0)
                .then(|| format!("{}: in sync: {same}, events left: {left}, {status:?}", device.id))
        })
    }

    /// The honest device whose link it is.
    pub(crate) fn device_of(&self, link: u32) -> Option<(usize, DeviceId)> {
        let id = self.id_of(link)?;
        let number = usize::try_from(id.0).ok()?.checked_sub(1)?;
        (number < self.devices.len()).then_some((number, id))
    }

    /// The device whose link it is, hostile ones too.
    pub(crate) fn id_of(&self, link: u32) -> Option<DeviceId> {
        self.links.get(&link).map(|link| link.device)
    }
}
