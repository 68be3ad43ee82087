//! Devices that mean no good, or are broken: each says at full speed what no agent says, on one link or two,
//! and as a datagram.

use muster::machine::close::CloseReason;
use muster::machine::endpoint::Taken;
use muster::machine::wake_scheduler::{Ask, NO_OPERATION};
use muster::wire::datagram::{Notice, NoticeKind, WakeReason};
use muster::wire::digest::Digest;
use muster::wire::frame;
use muster::wire::id::{DeviceId, Epoch, RunId, TokenId};
use muster::wire::inventory::Application;
use muster::wire::limits::TOKEN_SECRET_BYTES;
use muster::wire::message::{
    Enrol, EventItem, Events, Goodbye, NamedSection, Part, PartContent, Ping, Probe, Reach, Sync, SyncReason,
    ToAgent, ToServer, WantedSection,
};
use muster::wire::section::Section;
use muster::wire::settings::SETTINGS_SECTION;
use muster::wire::statistics::Statistics;
use muster::wire::task::{RUNS_SECTION, RunStage, RunUpdate, RunUpdates};
use muster::wire::time::{Moment, WallTime};

use crate::bug::Bug;
use crate::datagrams::To;
use crate::device::{event, notice_key};
use crate::world::{Link, Step, World};

/// Links that it has at a time.
const LINKS_MAX: usize = 2;

/// Bytes that wait for a peer that reads nothing before its link ends: the reactor's rule, with less.
const UNSENT_BYTES_MAX: usize = 1024;

/// Messages and datagrams of one hostile device while there are faults: so that a seed takes no longer.
const MESSAGES_MAX: u32 = 80;

/// And while the service of the others is watched.
const MESSAGES_BESIDE_MAX: u32 = 80;

/// Messages of a burst.
const MESSAGES_AT_ONCE: u32 = 40;

/// Notices that use up an allowance.
const NOTICES: u32 = 90;

pub(crate) struct Hostile {
    pub(crate) id: DeviceId,
    links: Vec<u32>,
    /// Messages that the server does not read before some of the allowance has come back.
    held: Option<(u32, Vec<u8>, Moment)>,
    agent_epoch: Epoch,
    spool_epoch: Epoch,
    sequence: u64,
    notice_counter: u32,
    /// The last message with events.
    events: Vec<u8>,
    wanted: Vec<WantedSection>,
    /// It reads nothing; what waits for it, in bytes.
    is_slow: bool,
    unsent_bytes: usize,
    left: u32,
}

impl Hostile {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            id: DeviceId(number as u64 + 1),
            links: Vec::new(),
            held: None,
            agent_epoch: Epoch(1),
            spool_epoch: Epoch(1_000),
            sequence: 0,
            notice_counter: 0,
            events: Vec::new(),
            wanted: Vec::new(),
            is_slow: false,
            unsent_bytes: 0,
            left: MESSAGES_MAX,
        }
    }
}

/// Its act for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Probe,
    Sync,
    Part,
    Events,
    Again,
    OtherEpoch,
    Ping,
    Runs,
    Statistics,
    Nonsense,
    Goodbye,
    Enrol,
    Notice,
    NoticeOfAnother,
}

const ACTS: [Act; 14] = [
    Act::Probe,
    Act::Sync,
    Act::Part,
    Act::Events,
    Act::Again,
    Act::OtherEpoch,
    Act::Ping,
    Act::Runs,
    Act::Statistics,
    Act::Nonsense,
    Act::Goodbye,
    Act::Enrol,
    Act::Notice,
    Act::NoticeOfAnother,
];

impl World {
    /// From now on they do what they can, with their allowance used up first.
    pub(crate) fn hostiles_begin(&mut self) {
        for number in 0..self.hostiles.len() {
            self.hostiles[number].left = NOTICES + MESSAGES_BESIDE_MAX;
            for _ in 0..NOTICES {
                self.send_hostile_notice(number, true);
            }
            self.after(1_000, Step::Hostile(number));
        }
    }

    /// It says something, several times, and a moment later something else.
    pub(crate) fn hostile_acts(&mut self, number: usize) -> Result<(), String> {
        self.retry_held(number)?;
        if self.now < self.hangs_until {
            // Whatever it has said before.
            self.hostiles[number].left = self.hostiles[number].left.max(MESSAGES_AT_ONCE);
        }
        if self.hostiles[number].left > 0 && self.server.is_serving() {
            let mut act = ACTS[usize::try_from(self.random.up_to(ACTS.len() as u64 - 1)).unwrap_or(0)];
            let mut times =
                if self.random.up_to(15) == 0 { MESSAGES_AT_ONCE.into() } else { 1 + self.random.up_to(3) };
            if self.now < self.hangs_until {
                // Acknowledgements wait: as many of them as can be.
                act = if self.random.up_to(3) == 0 { Act::Again } else { Act::OtherEpoch };
                times = MESSAGES_AT_ONCE.into();
            }
            if self.random.up_to(3) == 0 {
                let hostile = &mut self.hostiles[number];
                hostile.is_slow = !hostile.is_slow;
            }
            for _ in 0..times {
                self.do_act(number, act)?;
                if self.hostiles[number].held.is_some() || self.hostiles[number].left == 0 {
                    break;
                }
            }
            if self.random.up_to(30) == 0 {
                // Somebody has news for it.
                let ask = Ask {
                    operation: NO_OPERATION,
                    device: self.hostiles[number].id,
                    reason: WakeReason::Sync,
                };
                let _ = self.server.wake_scheduler.ask(Moment(self.now), ask);
                self.drain_wake_scheduler()?;
            }
        }
        let pause = if self.is_beside { 100_000 } else { 5_000_000 };
        if self.has_faults || self.is_beside {
            let next = self.now + self.random.up_to(pause);
            let until = self.hostiles[number].held.as_ref().map_or(0, |(_, _, until)| until.0);
            self.at(next.max(until), Step::Hostile(number));
        }
        Ok(())
    }

    fn do_act(&mut self, number: usize, act: Act) -> Result<(), String> {
        if act == Act::Notice || act == Act::NoticeOfAnother {
            self.hostiles[number].left -= 1;
            self.send_hostile_notice(number, act == Act::Notice);
            return Ok(());
        }
        let link = self.any_hostile_link(number);
        let bytes = match act {
            // No frame of the protocol: a kind that nobody knows, or no CBOR.
            Act::Nonsense => {
                let mut bytes = Vec::new();
                let body = if self.random.up_to(1) == 0 { vec![0x82, 0x18, 99, 0] } else { vec![0xff; 9] };
                frame::append(&mut bytes, |out| out.extend_from_slice(&body));
                bytes
            }
            Act::Again if !self.hostiles[number].events.is_empty() => self.hostiles[number].events.clone(),
            Act::Events | Act::Again | Act::OtherEpoch => self.hostile_events(number, act == Act::OtherEpoch),
            _ => {
                let mut bytes = Vec::new();
                self.hostile_message(number, act).write_to(&mut bytes);
                bytes
            }
        };
        self.hostile_says(number, link, bytes)
    }

    /// One of its links, the one that it has or another one.
    fn any_hostile_link(&mut self, number: usize) -> u32 {
        let names = &self.server.names;
        let hostile = &mut self.hostiles[number];
        hostile.links.retain(|link| names.contains_key(link));
        let choice = usize::try_from(self.random.up_to(LINKS_MAX as u64 * 4)).unwrap_or(0);
        if let Some(link) = hostile.links.get(choice % LINKS_MAX) {
            return *link;
        }
        let (device, link) = (hostile.id, self.next_link);
        hostile.links.push(link);
        hostile.unsent_bytes = 0;
        self.next_link += 1;
        // Its address; nobody hears its datagrams.
        let peer = std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(
            0xc000_0200 | u32::try_from(device.0).unwrap_or(0),
        ));
        let ends = Link { device, peer, is_broken: false, to_server_at: self.now, to_agent_at: self.now };
        self.links.insert(link, ends);
        self.open(link, device, peer);
        link
    }

    fn hostile_says(&mut self, number: usize, link: u32, bytes: Vec<u8>) -> Result<(), String> {
        let id = self.hostiles[number].id;
        let before = self.honest_records();
        let (body, _) = frame::split(&bytes).map_err(|e| e.to_string())?.ok_or("half a frame")?;
        let is_of_runs = matches!(ToServer::from_body(body), Ok(ToServer::Runs(_)));
        let runs = is_of_runs.then(|| self.server.book.states_of_others(id));
        match self.hear(link, id, &bytes)? {
            Taken::Held(until) => {
                self.counts.held += 1;
                self.hostiles[number].held = Some((link, bytes, until));
            }
            Taken::NoRoom => {
                self.hostiles[number].held = Some((link, bytes, Moment(self.now + 50_000)));
            }
            Taken::Done | Taken::Closed => {
                self.counts.hostile_messages += 1;
                self.hostiles[number].left = self.hostiles[number].left.saturating_sub(1);
            }
        }
        if runs.is_some_and(|runs| runs != self.server.book.states_of_others(id)) {
            return Err(format!("{id} has changed a run of another device"));
        }
        self.check_neighbours(id, &before)
    }

    fn retry_held(&mut self, number: usize) -> Result<(), String> {
        match self.hostiles[number].held.take() {
            Some((link, bytes, _)) if self.server.names.contains_key(&link) => {
                self.hostile_says(number, link, bytes)
            }
            _ => Ok(()),
        }
    }

    /// A hostile device is told something: it knows what it is asked for, or reads nothing at all.
    pub(crate) fn hostile_is_told(
        &mut self,
        link: u32,
        message: &ToAgent,
        bytes: usize,
    ) -> Result<(), String> {
        let Some(id) = self.id_of(link) else { return Ok(()) };
        let Some(hostile) = self.hostiles.iter_mut().find(|hostile| hostile.id == id) else { return Ok(()) };
        if hostile.is_slow {
            hostile.unsent_bytes += bytes;
            let unsent_bytes = hostile.unsent_bytes;
            if unsent_bytes > 2 * UNSENT_BYTES_MAX {
                return Err(format!("{unsent_bytes} bytes wait for {id}, which reads nothing"));
            }
            if unsent_bytes > UNSENT_BYTES_MAX && self.bug != Bug::NoLimitOfUnsent {
                return self.close(link, CloseReason::HeldMost);
            }
        } else if let ToAgent::Want(want) = message {
            hostile.wanted.clone_from(&want.sections);
        }
        Ok(())
    }

    /// In its own name, or in another's, for which it has no key.
    fn send_hostile_notice(&mut self, number: usize, is_own: bool) {
        let hostile = &mut self.hostiles[number];
        hostile.notice_counter += 1;
        let (id, counter) = (hostile.id, hostile.notice_counter);
        let kind = [NoticeKind::Shutdown, NoticeKind::Suspend, NoticeKind::Probe][counter as usize % 3];
        let device = if is_own { id } else { self.devices[0].id };
        let counter = if is_own { counter } else { u32::MAX };
        let bytes = Notice { device, kind, counter, boot: counter }.seal(&notice_key(id)).to_vec();
        if is_own {
            self.air.genuine.insert(bytes.clone());
        }
        self.after(0, Step::Datagram(To::Server, bytes));
    }

    fn hostile_message(&mut self, number: usize, act: Act) -> ToServer<'static> {
        let small = self.random.up_to(9);
        let any = u32::try_from(self.random.up_to(u64::from(u32::MAX))).unwrap_or(0);
        let digest = Digest(self.random.next_u64());
        match act {
            Act::Probe => ToServer::Probe(Probe { udp_port: u16::try_from(small * 1_000).unwrap_or(0) }),
            Act::Sync => ToServer::Sync(self.hostile_sync(number)),
            Act::Part => {
                let wanted = self.hostiles[number].wanted.first();
                let is_asked = small > 2;
                let section =
                    wanted.filter(|_| is_asked).map_or(Section::Conditions, |wanted| wanted.section);
                let base = wanted.and_then(|wanted| wanted.base).filter(|_| small > 5);
                let name = format!("h{any}");
                let added = vec![Application { name, version: "1".into(), publisher: String::new() }];
                let content = PartContent { added, ..PartContent::default() };
                // Half of an upload, the other half of another, or one that does not end.
                let (index, is_last) = (any % 2, small > 7);
                ToServer::Part(Box::new(Part {
                    section,
                    revision: small,
                    digest,
                    base,
                    index,
                    is_last,
                    content,
                }))
            }
            Act::Runs => {
                let runs = self.server.book.some_runs();
                let unknown = RunId(digest.0);
                let update = |run| RunUpdate::new(run, any, RunStage::Succeeded);
                ToServer::Runs(RunUpdates {
                    updates: runs.into_iter().chain([unknown]).map(update).collect(),
                })
            }
            Act::Statistics => ToServer::Statistics(Statistics::default()),
            Act::Goodbye => {
                let counter = if small == 0 { u32::MAX } else { any };
                ToServer::Goodbye(Goodbye { kind: NoticeKind::Reboot, counter, boot: any })
            }
            Act::Enrol => ToServer::Enrol(Enrol {
                token: TokenId(digest.0),
                secret: [7; TOKEN_SECRET_BYTES],
                request: vec![0; 64],
                name: "another".into(),
            }),
            _ => ToServer::Ping(Ping { next_seconds: (small > 4).then_some(any) }),
        }
    }

    /// Wrong revisions, unknown sections, the same one twice, another epoch; and often that it knows more
    /// than the server.
    fn hostile_sync(&mut self, number: usize) -> Sync {
        let hostile = &mut self.hostiles[number];
        if self.random.up_to(3) == 0 {
            hostile.agent_epoch = Epoch(1 + self.random.up_to(3));
        }
        let agent_epoch = hostile.agent_epoch;
        let numbers = [1, 2, 3, 1, SETTINGS_SECTION, RUNS_SECTION, 77];
        let mut sections = Vec::new();
        for section in numbers {
            if self.random.up_to(1) == 0 {
                continue;
            }
            let revision = if self.random.up_to(2) == 0 { u64::MAX } else { self.random.up_to(6) };
            let confirmed_revision = (self.random.up_to(2) == 0).then(|| self.random.up_to(1_000));
            sections.push(NamedSection {
                section,
                digest: Digest(self.random.up_to(9)),
                revision,
                confirmed_revision,
            });
        }
        let counter = |random: &mut muster::machine::random::Random| match random.up_to(9) {
            0 => u32::MAX,
            _ => u32::try_from(random.up_to(100)).unwrap_or(0),
        };
        let (wake_counter, notice_counter) = (counter(&mut self.random), counter(&mut self.random));
        let udp_port = u16::try_from(self.random.up_to(60_000)).unwrap_or(0);
        let reach = Reach { udp_port, wake_counter, notice_counter, boot: 1 };
        Sync {
            agent_epoch,
            server_epoch: Epoch(self.random.up_to(9)),
            reason: SyncReason::Woken,
            clock: WallTime(self.random.next_u64()),
            sections,
            reach: Some(reach).filter(|_| udp_port > 6_000),
            identity: None,
        }
    }

    /// New ones with gaps; and, of another epoch: the server's own, one that was left, one that is new.
    fn hostile_events(&mut self, number: usize, is_other_epoch: bool) -> Vec<u8> {
        let choice = self.random.up_to(39);
        let hostile = &mut self.hostiles[number];
        let mut spool_epoch = hostile.spool_epoch;
        if is_other_epoch {
            spool_epoch = match choice {
                0 => Epoch(0),
                1 => Epoch(spool_epoch.0 - 1),
                _ => {
                    hostile.spool_epoch = Epoch(spool_epoch.0 + 1);
                    hostile.sequence = 0;
                    hostile.spool_epoch
                }
            };
        }
        let mut bodies = Vec::new();
        for _ in 0..=self.random.up_to(2) {
            hostile.sequence += 1 + self.random.up_to(1);
            self.next_event += 1;
            bodies.push((hostile.sequence, event(self.next_event, self.random.up_to(40))));
        }
        let items = bodies.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
        let highest = if choice == 2 { 0 } else { hostile.sequence };
        let acknowledged = (choice == 3).then_some(u64::MAX);
        let sent_through = (choice == 4).then_some(u64::MAX);
        let mut bytes = Vec::new();
        // As if it had waited, now and then.
        let begins_again = highest.is_multiple_of(2);
        ToServer::Events(Events { spool_epoch, highest, items, acknowledged, sent_through, begins_again })
            .write_to(&mut bytes);
        hostile.events.clone_from(&bytes);
        bytes
    }
}
