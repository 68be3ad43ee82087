//! Departures with a word and returns of devices, as the agent's runtime does it.

use muster::machine::agent::AgentMachine;
use muster::wire::datagram::{Notice, NoticeKind};
use muster::wire::message::{Goodbye, SyncReason, ToServer};

use crate::device::Truth;
use crate::world::{Step, World};

/// Time for which an agent that ends goes on delivering its events.
const DELIVERY_MICROSECONDS: u64 = 1_500_000;

impl World {
    pub(crate) fn any_departure(&mut self) -> NoticeKind {
        match self.random.up_to(3) {
            0 => NoticeKind::Shutdown,
            1 => NoticeKind::Reboot,
            2 => NoticeKind::Suspend,
            _ => NoticeKind::AgentStopped,
        }
    }

    /// The agent delivers what it has, for a while, and then says that it goes. Before a sleep there is no
    /// time for that.
    pub(crate) fn leave(&mut self, number: usize, kind: NoticeKind) -> Result<(), String> {
        let device = &mut self.devices[number];
        if !device.runs() {
            return Ok(());
        }
        self.counts.departures += 1;
        device.leaving = Some(kind);
        if kind == NoticeKind::Suspend {
            self.say_goodbye(number);
            return Ok(());
        }
        device.sync_spool();
        let now = self.agent_now(number);
        if let Some(machine) = &mut self.devices[number].machine {
            machine.end(&now);
        }
        let life = self.devices[number].life;
        self.after(DELIVERY_MICROSECONDS, Step::LeaveDeadline(number, life));
        self.pump(number)
    }

    /// On the link, when there is one, and in datagrams. Behind it the agent is gone or asleep.
    pub(crate) fn say_goodbye(&mut self, number: usize) {
        let delay = self.delay();
        let now = self.now;
        let device = &mut self.devices[number];
        let Some(kind) = device.leaving.take() else { return };
        let (id, counter, boot) = (device.id, device.next_notice_counter(), device.boot());
        device.truth = Truth::Said { kind, counter, at: now, is_heard: false };
        let is_connected = device.machine.as_ref().is_some_and(AgentMachine::is_connected);
        let link = device.link.filter(|_| is_connected);
        if kind == NoticeKind::Suspend {
            device.is_asleep = true;
        } else {
            device.sync_spool();
            device.machine = None;
            device.link = None;
            if kind != NoticeKind::AgentStopped {
                device.boot_ends();
            }
        }
        if let Some(link) = link {
            let mut bytes = Vec::new();
            ToServer::Goodbye(Goodbye { kind, counter, boot }).write_to(&mut bytes);
            self.towards_server(link, delay, Step::ToServer(link, bytes));
            if kind != NoticeKind::Suspend {
                self.towards_server(link, delay, Step::ServerHearsEnd(link));
            }
        }
        self.send_notice(Notice { device: id, kind, counter, boot });
    }

    pub(crate) fn resume(&mut self, number: usize) -> Result<(), String> {
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        if !std::mem::take(&mut device.is_asleep) {
            return Ok(());
        }
        self.counts.resumes += 1;
        device.truth = Truth::Runs;
        if let Some(machine) = &mut device.machine {
            machine.resumed(&now);
        }
        self.pump(number)
    }

    /// The device has looked at itself as the server wanted.
    pub(crate) fn looked(&mut self, number: usize, life: u32, reason: SyncReason) -> Result<(), String> {
        let now = self.agent_now(number);
        let device = &mut self.devices[number];
        if device.life != life {
            return Ok(());
        }
        if let Some(machine) = device.awake() {
            machine.called(&now, reason);
        }
        self.pump(number)
    }
}
