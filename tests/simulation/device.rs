//! A device: the agent's machine, and a spool and files that forget what was not synced when it crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use muster::machine::agent::{AgentMachine, AgentStart, AgentState, SectionContent, SpoolState};
use muster::wire::datagram::{DatagramKey, NoticeKind, boot_of};
use muster::wire::event::{Event, Severity};
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::inventory::Application;
use muster::wire::limits::DATAGRAM_KEY_BYTES;
use muster::wire::message::Reach;
use muster::wire::time::{Moment, WallTime};

use crate::desired::Stored;

/// Notice counters that are reserved at a time: the disk is written once for all of them.
const NOTICE_COUNTERS: u32 = 8;

/// Presence of a device in truth, whatever the server thinks of it. Times are of the simulation, in
/// microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Truth {
    /// It never ran.
    Never,
    Runs,
    /// It said a shutdown notice, and the server heard it, or not.
    Said {
        kind: NoticeKind,
        counter: u32,
        at: u64,
        is_heard: bool,
    },
    /// It went without a word.
    Silent {
        at: u64,
    },
}

/// Contents of the device's disk. A copy of it is an image that the device may be rolled back to.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) epoch: Epoch,
    pub(crate) highest: u64,
    pub(crate) forgotten_through: u64,
    pub(crate) events: BTreeMap<u64, Vec<u8>>,
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) base: Option<Arc<[Application]>>,
    /// The highest counter of a wake that was taken.
    pub(crate) wake_counter: u32,
    /// No notice has a higher counter; lower ones may have been used.
    pub(crate) notice_reserved: u32,
    /// The server's orders.
    pub(crate) stored: Stored,
}

pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) machine: Option<AgentMachine>,
    pub(crate) disk: Disk,
    /// Written and not synced: nobody was told that they are safe.
    pub(crate) unsynced: Vec<Vec<u8>>,
    /// A forgetting that is not synced yet.
    pub(crate) forgotten_unsynced: u64,
    /// Events that it dropped, and said so. An older image may have it again: it is accounted for all the
    /// same.
    pub(crate) dropped: BTreeSet<(Epoch, u64, u32)>,
    /// Events that it had no more when a restored server asked for them: gone on both sides, though an older
    /// image may have them.
    pub(crate) gone: BTreeSet<(Epoch, u64)>,
    pub(crate) image: Option<Disk>,
    pub(crate) was_rolled_back: bool,
    pub(crate) content: Vec<Application>,
    pub(crate) link: Option<u32>,
    pub(crate) wake_at: Option<Moment>,
    pub(crate) wall_offset: u64,
    pub(crate) persistent: bool,
    /// Enrolled, and never switched on.
    pub(crate) never_comes: bool,
    /// Address at which it hears wakes, and from which its links come.
    pub(crate) address: SocketAddr,
    /// Whether a box in front of it lets no datagram in.
    pub(crate) is_nated: bool,
    moves: u32,
    boots: u32,
    /// The highest counter that a notice may have had.
    notice_counter: u32,
    /// Counts the starts of the agent.
    pub(crate) life: u32,
    /// The agent ends: why.
    pub(crate) leaving: Option<NoticeKind>,
    pub(crate) is_asleep: bool,
    pub(crate) truth: Truth,
    /// When it last took a wake that the server knows nothing of.
    pub(crate) ahead_at: Option<u64>,
    /// Counters of the wakes that were taken since the disk was last rolled back.
    pub(crate) taken: BTreeSet<u32>,
}

impl Device {
    pub(crate) fn new(number: usize, persistent: bool, is_nated: bool, never_comes: bool) -> Self {
        let disk = Disk {
            epoch: Epoch(1_000),
            highest: 0,
            forgotten_through: 0,
            events: BTreeMap::new(),
            state: None,
            base: None,
            wake_counter: 0,
            notice_reserved: 0,
            stored: Stored::default(),
        };
        let id = DeviceId(number as u64 + 1);
        Self {
            id,
            machine: None,
            disk,
            unsynced: Vec::new(),
            forgotten_unsynced: 0,
            dropped: BTreeSet::new(),
            gone: BTreeSet::new(),
            ahead_at: None,
            image: None,
            was_rolled_back: false,
            content: (0..4).map(|n| application(n, 0)).collect(),
            link: None,
            wake_at: None,
            wall_offset: 1_795_514_400_000,
            persistent,
            never_comes,
            address: address(id, 0),
            is_nated,
            moves: 0,
            boots: 0,
            notice_counter: 0,
            life: 0,
            leaving: None,
            is_asleep: false,
            truth: Truth::Never,
            taken: BTreeSet::new(),
        }
    }

    pub(crate) fn may_start(&self) -> bool {
        self.machine.is_none() && !self.never_comes
    }

    /// Starts the agent on what its disk holds.
    pub(crate) fn start(&mut self, seed: u64) {
        let state = self.disk.state.as_deref().and_then(AgentState::from_bytes);
        let spool = SpoolState {
            epoch: self.disk.epoch,
            highest: self.disk.highest,
            forgotten_through: self.disk.forgotten_through,
        };
        // Which of the reserved ones were used is not known any more.
        self.notice_counter = self.disk.notice_reserved;
        self.life += 1;
        self.leaving = None;
        self.is_asleep = false;
        self.truth = Truth::Runs;
        let mut machine = AgentMachine::new(AgentStart {
            state,
            base: self.disk.base.clone(),
            spool,
            reach: self.reach(),
            seed,
        });
        machine.section_changed(SectionContent::Inventory(self.content.clone().into()));
        self.forgotten_unsynced = self.disk.forgotten_through;
        self.machine = Some(machine);
        self.wake_at = None;
    }

    /// The machine, unless the device sleeps or its agent does not run.
    pub(crate) fn awake(&mut self) -> Option<&mut AgentMachine> {
        self.machine.as_mut().filter(|_| !self.is_asleep)
    }

    pub(crate) fn runs(&self) -> bool {
        self.machine.is_some() && !self.is_asleep && self.leaving.is_none()
    }

    pub(crate) fn has_delivered(&self) -> bool {
        self.machine.as_ref().is_some_and(AgentMachine::has_delivered)
    }

    fn reach(&self) -> Reach {
        Reach {
            udp_port: self.address.port(),
            wake_counter: self.disk.wake_counter,
            notice_counter: self.notice_counter,
            boot: self.boot(),
        }
    }

    pub(crate) fn boot(&self) -> u32 {
        boot_of(&format!("{} {}", self.id, self.boots))
    }

    /// The server was told a notice with this counter.
    pub(crate) fn was_heard(&mut self, heard: u32) {
        if let Truth::Said { counter, is_heard, .. } = &mut self.truth {
            *is_heard |= *counter == heard;
        }
    }

    /// The machine learns how the device is reached now.
    pub(crate) fn tell_reach(&mut self) {
        let reach = self.reach();
        if let Some(machine) = &mut self.machine {
            machine.set_reach(reach);
        }
    }

    /// The counter of the next notice; nothing lower is used after a crash.
    pub(crate) fn next_notice_counter(&mut self) -> u32 {
        self.notice_counter += 1;
        if self.notice_counter > self.disk.notice_reserved {
            self.disk.notice_reserved = self.notice_counter + NOTICE_COUNTERS - 1;
        }
        self.tell_reach();
        self.notice_counter
    }

    pub(crate) fn raise_notice_counter(&mut self, counter: u32) {
        self.notice_counter = self.notice_counter.max(counter);
        self.disk.notice_reserved = self.disk.notice_reserved.max(counter);
        self.tell_reach();
    }

    /// It is elsewhere, behind a box or not.
    pub(crate) fn move_away(&mut self, is_nated: bool) {
        self.moves += 1;
        self.address = address(self.id, self.moves);
        self.is_nated = is_nated;
    }

    /// The next start of the agent is in a new boot.
    pub(crate) fn boot_ends(&mut self) {
        self.boots += 1;
    }

    /// The agent or the device dies: `chance` says of each unsynced event whether it survives; a prefix does,
    /// as in any log.
    pub(crate) fn crash(&mut self, at: u64, mut chance: impl FnMut() -> bool) {
        self.dies(at);
        if chance() {
            self.boot_ends();
        }
        let survives = self.unsynced.iter().take_while(|_| chance()).count();
        let survivors: Vec<_> = self.unsynced.drain(..).take(survives).collect();
        for body in survivors {
            self.store(body);
        }
        if chance() {
            self.forget_synced();
        }
        if chance() {
            self.disk.base = None;
        }
    }

    fn dies(&mut self, at: u64) {
        self.machine = None;
        self.link = None;
        self.leaving = None;
        // A device that dies in its sleep has said before that it sleeps.
        if !std::mem::take(&mut self.is_asleep) {
            self.truth = Truth::Silent { at };
        }
    }

    fn store(&mut self, body: Vec<u8>) {
        self.disk.highest += 1;
        self.disk.events.insert(self.disk.highest, body);
    }

    /// Makes the spool durable; the machine is told of what is then safe.
    pub(crate) fn sync_spool(&mut self) {
        for body in std::mem::take(&mut self.unsynced) {
            self.store(body);
        }
        self.forget_synced();
        let highest = self.disk.highest;
        if let Some(machine) = &mut self.machine {
            machine.events_available(highest);
        }
    }

    /// Some of the events that wait go, behind the `first` of them: those of one severity, whose quota is
    /// used up.
    pub(crate) fn drop_events(&mut self, first: u64, count: u64) -> u64 {
        let from = self.forgotten_unsynced + 1 + first;
        let gone: Vec<u64> =
            self.disk.events.range(from..=from + count).map(|(sequence, _)| *sequence).collect();
        for sequence in &gone {
            let body = self.disk.events.remove(sequence).unwrap_or_default();
            self.dropped.insert((self.disk.epoch, *sequence, crc32c::crc32c(&body)));
        }
        gone.len() as u64
    }

    /// The server asks for all behind a number: what was acknowledged and is not there any more.
    pub(crate) fn say_what_is_gone(&mut self, after: u64) {
        let acknowledged = after + 1..=self.forgotten_unsynced.max(self.disk.forgotten_through);
        let gone = acknowledged.filter(|sequence| !self.disk.events.contains_key(sequence));
        self.gone.extend(gone.map(|sequence| (self.disk.epoch, sequence)));
    }

    fn forget_synced(&mut self) {
        let through = self.forgotten_unsynced;
        self.disk.events.retain(|sequence, _| *sequence > through);
        self.disk.forgotten_through = self.disk.forgotten_through.max(through);
    }

    pub(crate) fn roll_back(&mut self, at: u64) {
        if let Some(image) = self.image.clone() {
            self.dies(at);
            self.boot_ends();
            self.taken.clear();
            self.unsynced.clear();
            self.forgotten_unsynced = image.forgotten_through;
            self.disk = image;
            self.was_rolled_back = true;
        }
    }

    pub(crate) fn change_content(&mut self, number: u64) {
        let index = usize::try_from(number).unwrap() % self.content.len();
        self.content[index] = application(u64::try_from(index).unwrap(), number);
        if number.is_multiple_of(5) {
            self.content.push(application(number + 100, 0));
        }
        // As the collector hands it over: sorted, each entry once.
        self.content.sort();
        self.content.dedup();
        let content = SectionContent::Inventory(self.content.clone().into());
        if let Some(machine) = &mut self.machine {
            machine.section_changed(content);
        }
    }
}

/// No two devices ever have the same one.
fn address(id: DeviceId, moves: u32) -> SocketAddr {
    let number = u32::try_from(id.0).unwrap_or(0) << 12 | moves;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | number)), 15_000)
}

/// The key of the datagrams that wake this device.
pub(crate) fn wake_key(id: DeviceId) -> DatagramKey {
    key(id, 1)
}

/// The key of the device's notices.
pub(crate) fn notice_key(id: DeviceId) -> DatagramKey {
    key(id, 2)
}

fn key(id: DeviceId, purpose: u8) -> DatagramKey {
    let mut key = [purpose; DATAGRAM_KEY_BYTES];
    key[..8].copy_from_slice(&id.0.to_be_bytes());
    key
}

fn application(number: u64, version: u64) -> Application {
    Application { name: format!("a{number:05}"), version: version.to_string(), publisher: String::new() }
}

/// An event like no other.
pub(crate) fn event(number: u64, length: u64) -> Vec<u8> {
    let message = format!("{number} {}", "x".repeat(usize::try_from(length).unwrap()));
    let event = Event {
        severity: Severity::Info,
        application: "sim".into(),
        kind: "tick".into(),
        message,
        occurred_at: WallTime(number),
        fields: vec![],
    };
    event.to_bytes().unwrap()
}
