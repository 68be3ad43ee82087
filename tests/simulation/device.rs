//! A device: the agent's machine, and a spool and files that forget what was not synced when it crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster::machine::agent::{AgentMachine, AgentStart, AgentState, SectionContent, SpoolState};
use muster::wire::event::{Event, Severity};
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::inventory::Application;
use muster::wire::message::Reach;
use muster::wire::time::{Moment, WallTime};

/// What is on the device's disk. A copy of it is an image that the device may be rolled back to.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) epoch: Epoch,
    pub(crate) highest: u64,
    pub(crate) forgotten_through: u64,
    pub(crate) events: BTreeMap<u64, Vec<u8>>,
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) base: Option<Arc<[Application]>>,
}

pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) machine: Option<AgentMachine>,
    pub(crate) disk: Disk,
    /// Written and not synced: nobody was told that they are safe.
    pub(crate) unsynced: Vec<Vec<u8>>,
    /// A forgetting that is not synced yet.
    pub(crate) forgotten_unsynced: u64,
    pub(crate) image: Option<Disk>,
    pub(crate) was_rolled_back: bool,
    pub(crate) content: Vec<Application>,
    pub(crate) link: Option<u32>,
    pub(crate) wake_at: Option<Moment>,
    pub(crate) wall_offset: u64,
    pub(crate) kept: bool,
}

impl Device {
    pub(crate) fn new(number: usize, kept: bool) -> Self {
        let disk = Disk {
            epoch: Epoch(1_000),
            highest: 0,
            forgotten_through: 0,
            events: BTreeMap::new(),
            state: None,
            base: None,
        };
        Self {
            id: DeviceId(number as u64 + 1),
            machine: None,
            disk,
            unsynced: Vec::new(),
            forgotten_unsynced: 0,
            image: None,
            was_rolled_back: false,
            content: (0..4).map(|n| application(n, 0)).collect(),
            link: None,
            wake_at: None,
            wall_offset: 1_795_514_400_000,
            kept,
        }
    }

    /// Starts the agent on what its disk holds.
    pub(crate) fn start(&mut self, seed: u64) {
        let state = self.disk.state.as_deref().and_then(AgentState::from_bytes);
        let spool = SpoolState {
            epoch: self.disk.epoch,
            highest: self.disk.highest,
            forgotten_through: self.disk.forgotten_through,
        };
        let mut machine = AgentMachine::new(AgentStart {
            state,
            base: self.disk.base.clone(),
            spool,
            reach: Reach::default(),
            seed,
        });
        machine.section_changed(SectionContent::Inventory(self.content.clone().into()));
        self.forgotten_unsynced = self.disk.forgotten_through;
        self.machine = Some(machine);
        self.wake_at = None;
    }

    /// The agent or the device dies: `chance` says of each unsynced event whether it survives; a prefix does, as in any log.
    pub(crate) fn crash(&mut self, mut chance: impl FnMut() -> bool) {
        self.machine = None;
        self.link = None;
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

    fn forget_synced(&mut self) {
        let through = self.forgotten_unsynced;
        self.disk.events.retain(|sequence, _| *sequence > through);
        self.disk.forgotten_through = self.disk.forgotten_through.max(through);
    }

    pub(crate) fn roll_back(&mut self) {
        if let Some(image) = self.image.clone() {
            self.machine = None;
            self.link = None;
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
