//! One simulated device: the real agent machine, a link, a spool that remembers times. It owns no file and no
//! thread.

use std::io;

use muster::machine::agent::{
    Action, AgentMachine, AgentStart, AgentState, LinkEnd, SectionContent, SyncResult,
};
use muster::reactor::channel::{HandshakeCost, ReadOutcome};
use muster::wire::datagram::{Wake, WakeReason};
use muster::wire::frame;
use muster::wire::id::Epoch;
use muster::wire::message::{MessageError, Reach, ToAgent};
use muster::wire::time::{Moment, Now};

use super::context::Context;
use super::counters::{add, count, uncount};
use super::link::Link;
use super::measures::note;
use super::spool::Spool;
use super::stream;

/// Most actions of one device before others have their turn.
const ACTIONS_MAX: usize = 1_000;

pub(crate) struct Agent {
    /// Its number in the whole fleet.
    device: usize,
    machine: Option<Box<AgentMachine>>,
    link: Link,
    tls: Option<muster::reactor::channel::ClientTls>,
    spool: Spool,
    saved: Option<Box<AgentState>>,
    /// The earliest entry among the timers.
    armed_at: Option<Moment>,
    /// On its way to its first sync since it was started.
    is_starting: bool,
    /// Comes only to go again.
    is_visitor: bool,
    /// The mark under which it has synced; 0: none, or the link is gone.
    live_mark: u32,
    /// Place of the server that it is connected to, or tries, in their list.
    server: usize,
    began_at: Moment,
    /// Since when a sync is due that is timed.
    pub(crate) sync_due_at: Option<Moment>,
    wake_counter: u32,
    notice_counter: u32,
}

impl Agent {
    /// A device that does not run yet.
    pub(crate) fn new(device: usize, spool_epoch: Epoch) -> Self {
        Self {
            device,
            machine: None,
            link: Link::Down,
            tls: None,
            spool: Spool::new(spool_epoch),
            saved: None,
            armed_at: None,
            is_starting: false,
            is_visitor: false,
            live_mark: 0,
            server: 0,
            began_at: Moment(0),
            sync_due_at: None,
            wake_counter: 0,
            notice_counter: 0,
        }
    }

    /// Starts it. A visitor leaves after its first sync, and shakes hands in full.
    pub(crate) fn start(&mut self, cx: &mut Context, index: u32, is_visitor: bool) {
        let mut machine = AgentMachine::new(AgentStart {
            state: self.saved.as_deref().cloned(),
            base: None,
            spool: self.spool.state(),
            reach: self.reach(cx),
            seed: cx.random.next_u64(),
        });
        machine.section_changed(SectionContent::Inventory(cx.inventory.clone()));
        self.machine = Some(Box::new(machine));
        (self.is_starting, self.is_visitor) = (true, is_visitor);
        if !is_visitor {
            cx.starting += 1;
        }
        count(&cx.counters.running);
        self.drive(cx, index);
    }

    /// Ends it, with a close_notify to the server.
    pub(crate) fn stop(&mut self, cx: &mut Context) {
        if self.machine.take().is_none() {
            return;
        }
        self.link_ended(cx);
        self.link.close(&cx.counters);
        if std::mem::take(&mut self.is_starting) && !self.is_visitor {
            cx.starting -= 1;
        }
        (self.sync_due_at, self.armed_at) = (None, None);
        uncount(&cx.counters.running);
    }

    /// Forgets the tickets that the server gave it, unless it runs: then its next handshake is nobody's doing
    /// but the server's.
    pub(crate) fn forget_tickets(&mut self) {
        if !self.is_running() {
            self.tls = None;
        }
    }

    pub(crate) fn is_visitor(&self) -> bool {
        self.is_visitor && self.is_running()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether a sync may be asked of it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.link.is_up() && !self.is_starting && self.sync_due_at.is_none()
    }

    /// Something may be read, written, or connected.
    pub(crate) fn ready(&mut self, cx: &mut Context, index: u32) {
        let now = cx.clock.now();
        let resumes = cx.resumes && !self.is_visitor;
        let (device, tls) = (self.device, &mut self.tls);
        match self.link.establish(|| cx.tls(device, tls, resumes)) {
            // As an agent does: the next of its servers, within the same attempt.
            Err(_) if self.connect(cx, index, self.server + 1).is_ok() => return,
            Err(reason) => return self.lost(cx, index, &now, &reason),
            Ok(false) => return,
            Ok(true) => {}
        }
        let Link::Open(open) = &mut self.link else { return };
        let mut plain = std::mem::take(&mut cx.plain);
        let outcome = open.read(&mut plain, &cx.counters);
        if let Some(cost) = open.came_up() {
            count(match cost {
                HandshakeCost::Full => &cx.counters.full,
                HandshakeCost::Resumed => &cx.counters.resumed,
            });
            count(&cx.counters.open);
            if let Some(machine) = &mut self.machine {
                machine.connected(&now);
            }
        }
        let mut end = match outcome {
            Ok(ReadOutcome::Closed) => Some("the server closed the connection".to_owned()),
            Ok(ReadOutcome::Drained | ReadOutcome::More) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Err(error) = self.hear(cx, &now, &plain) {
            end.get_or_insert(error);
        }
        cx.plain = plain;
        match end {
            Some(reason) => self.lost(cx, index, &now, &reason),
            None => self.drive(cx, index),
        }
    }

    /// Hands the messages in `plain` to the machine and keeps what is not whole.
    fn hear(&mut self, cx: &mut Context, now: &Now, plain: &[u8]) -> Result<(), String> {
        let Some(machine) = &mut self.machine else { return Ok(()) };
        let mut taken = 0;
        while let Some((body, length)) = frame::split(&plain[taken..]).map_err(|error| error.to_string())? {
            taken += length;
            add(&cx.counters.payload_received, length as u64);
            match ToAgent::from_body(body) {
                Ok(message) => machine.message(now, message),
                Err(MessageError::UnknownKind(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if let Link::Open(open) = &mut self.link
            && taken < plain.len()
        {
            open.partial = plain[taken..].to_vec();
        }
        Ok(())
    }

    /// Begins to connect to the first server that can be tried, from this place in their list on.
    fn connect(&mut self, cx: &Context, index: u32, first: usize) -> io::Result<()> {
        let mut outcome = Err(io::ErrorKind::NotConnected.into());
        for (place, server) in cx.servers.iter().enumerate().skip(first) {
            outcome =
                stream::connect(*server, stream::source(*server, self.device)).and_then(|mut socket| {
                    cx.register(&mut socket, index)?;
                    (self.server, self.link) = (place, Link::Connecting(socket));
                    Ok(())
                });
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The attempt failed, or the link is gone.
    fn lost(&mut self, cx: &mut Context, index: u32, now: &Now, reason: &str) {
        let was_up = self.link.is_up();
        self.link_ended(cx);
        // An alert that says what was wrong.
        if let Link::Open(open) = &mut self.link {
            let _ = open.flush(&cx.counters);
        }
        self.link = Link::Down;
        if let Some(machine) = &mut self.machine {
            machine.disconnected(now, reason);
            if !was_up {
                count(&cx.counters.failed);
            } else if machine.status(now).waits_until.is_some() {
                count(&cx.counters.lost);
            }
            cx.note_trouble(reason);
        }
        self.drive(cx, index);
    }

    /// The link was lost while the device had something to say.
    fn broke(&mut self, cx: &Context, now: &Now, reason: &str) {
        self.link_ended(cx);
        self.link = Link::Down;
        count(&cx.counters.lost);
        if let Some(machine) = &mut self.machine {
            machine.disconnected(now, reason);
        }
    }

    fn link_ended(&mut self, cx: &Context) {
        if self.link.is_up() {
            uncount(&cx.counters.open);
        }
        if self.live_mark == cx.mark {
            uncount(&cx.counters.live);
        }
        self.live_mark = 0;
    }

    /// Does what the machine wants, until it wants nothing more.
    pub(crate) fn drive(&mut self, cx: &mut Context, index: u32) {
        let now = cx.clock.now();
        for left in (0..ACTIONS_MAX).rev() {
            let Some(machine) = &mut self.machine else { return };
            let Some(action) = machine.poll(&now) else { break };
            self.act(cx, index, &now, action);
            if left == 0 {
                cx.arm(&mut self.armed_at, now.moment, index);
            }
        }
        if let Link::Open(open) = &mut self.link
            && let Err(error) = open.flush(&cx.counters)
        {
            // Events that it had to read are lost with it; the machine says it again.
            self.broke(cx, &now, &error.to_string());
        }
        if let Some(next) = self.machine.as_ref().and_then(|machine| machine.next_timeout()) {
            cx.arm(&mut self.armed_at, next.max(Moment(now.moment.0 + 1)), index);
        }
    }

    /// The time of an entry among the timers has come.
    pub(crate) fn timeout(&mut self, cx: &mut Context, index: u32) {
        self.armed_at = None;
        self.drive(cx, index);
    }

    fn act(&mut self, cx: &mut Context, index: u32, now: &Now, action: Action) {
        let Some(machine) = &mut self.machine else { return };
        match action {
            Action::Connect => {
                self.began_at = now.moment;
                if let Err(error) = self.connect(cx, index, 0) {
                    count(&cx.counters.failed);
                    cx.note_trouble(&error.to_string());
                    if let Some(machine) = &mut self.machine {
                        machine.disconnected(now, &error.to_string());
                    }
                }
            }
            Action::Send(frame) => {
                add(&cx.counters.payload_sent, frame.len() as u64);
                if let Link::Open(open) = &mut self.link
                    && let Err(error) = open.channel.write_plain(&frame)
                {
                    self.broke(cx, now, &error.to_string());
                }
            }
            Action::CloseLink(end) => {
                if !matches!(end, LinkEnd::Done | LinkEnd::Later) {
                    count(if self.link.is_up() { &cx.counters.lost } else { &cx.counters.failed });
                    cx.note_trouble(
                        machine.status(now).last_error.as_deref().unwrap_or("the link was given up"),
                    );
                }
                self.link_ended(cx);
                self.link.close(&cx.counters);
            }
            Action::ReadSpool { after_sequence, max_bytes, max_events } => {
                let fit = max_events.min((max_bytes / cx.paper.bytes().max(1)).max(1));
                let first = self.spool.first_after(after_sequence);
                let events = cx.paper.write(first, self.spool.after(after_sequence).take(fit));
                machine.spool_read(now, events);
            }
            Action::ForgetThrough { sequence } => {
                let mut acknowledged = 0;
                for happened in self.spool.forget_through(sequence) {
                    note(&mut cx.measures.ack, now.moment.microseconds_since(happened));
                    acknowledged += 1;
                }
                add(&cx.counters.acknowledged, acknowledged);
                if (index as usize) < cx.closed_loop_devices {
                    (0..acknowledged).for_each(|_| self.spool.push(now.moment));
                    add(&cx.counters.emitted, acknowledged);
                    machine.events_available(self.spool.highest());
                }
            }
            Action::NewSpoolEpoch { epoch } => {
                cx.note_trouble("the server knows other events of the device, whose spool began a new epoch");
                // The rest counts in it.
                self.spool.epoch = epoch;
            }
            Action::SaveState(state) => self.saved = Some(state),
            Action::LookAnew(reason) => machine.called(now, reason),
            Action::RaiseNoticeCounter { counter } => {
                self.notice_counter = self.notice_counter.max(counter);
                let reach = self.reach(cx);
                if let Some(machine) = &mut self.machine {
                    machine.set_reach(reach);
                }
            }
            Action::EventsHeld { .. } => {
                count(&cx.counters.later);
                cx.note_trouble(
                    "a device has more events than the server takes of one: raise journal.device_rate there",
                );
            }
            Action::SyncFinished(result) => self.sync_finished(cx, index, now, &result),
            // It names nothing that it trusts, manages no applications, fetches nothing, has no disk, keeps
            // nothing that was acknowledged, and its inventory never changes.
            Action::TakeTrust(_)
            | Action::SaveBase(_)
            | Action::TakeSettings(_)
            | Action::TakeRun(_)
            | Action::TakeRunList(_)
            | Action::TakeArtifactPart(_)
            | Action::Fork(_)
            | Action::RunsStored(_)
            | Action::Show(_)
            | Action::Forget(_)
            | Action::Recall { .. } => {}
            // It has one certificate for all of its life.
            Action::MakeRequest | Action::StoreCertificate(_) => machine.renewal_failed("not simulated"),
        }
    }

    fn sync_finished(&mut self, cx: &mut Context, index: u32, now: &Now, result: &SyncResult) {
        match result {
            SyncResult::Later { .. } => return count(&cx.counters.later),
            SyncResult::Failed { .. } => return,
            SyncResult::InSync { .. } => count(&cx.counters.synced),
        }
        if self.live_mark != cx.mark {
            self.live_mark = cx.mark;
            count(&cx.counters.live);
            note(&mut cx.measures.live, now.moment.microseconds_since(self.began_at));
        }
        if std::mem::take(&mut self.is_starting) {
            match self.is_visitor {
                true => cx.leaving.push(index),
                false => cx.starting -= 1,
            }
        }
        let Some(machine) = &mut self.machine else { return };
        // One that had begun before it was asked for is not the answer.
        if machine.is_sync_wanted() {
            return;
        }
        if let Some(due) = self.sync_due_at.take() {
            note(&mut cx.measures.sync, now.moment.microseconds_since(due));
        }
        if cx.syncs_again && !self.is_visitor {
            self.sync_due_at = Some(now.moment);
            machine.asked_to_sync(now);
        }
    }

    /// Somebody on the device wants a sync; it was due at a moment that may have passed.
    pub(crate) fn ask_to_sync(&mut self, cx: &mut Context, index: u32, due: Moment) {
        let Some(machine) = &mut self.machine else { return };
        self.sync_due_at = Some(due);
        machine.asked_to_sync(&cx.clock.now());
        self.drive(cx, index);
    }

    pub(crate) fn emit(&mut self, cx: &mut Context, index: u32, events: usize, at: Moment) {
        let Some(machine) = &mut self.machine else { return };
        (0..events).for_each(|_| self.spool.push(at));
        add(&cx.counters.emitted, events as u64);
        machine.events_available(self.spool.highest());
        self.drive(cx, index);
    }

    pub(crate) fn datagram(&mut self, cx: &mut Context, index: u32, bytes: &[u8]) {
        let identity = &cx.devices[self.device];
        let Ok(wake) = Wake::open(bytes, identity.device, &identity.wake_key) else { return };
        if wake.counter <= self.wake_counter {
            return;
        }
        self.wake_counter = wake.counter;
        let (reach, now) = (self.reach(cx), cx.clock.now());
        let Some(machine) = &mut self.machine else { return };
        machine.set_reach(reach);
        if wake.reason != WakeReason::Probe {
            count(&cx.counters.wakes);
        }
        machine.woken(&now, wake.reason);
        self.drive(cx, index);
    }

    fn reach(&self, cx: &Context) -> Reach {
        Reach {
            udp_port: cx.udp_port,
            wake_counter: self.wake_counter,
            notice_counter: self.notice_counter,
            boot: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use muster::reactor::channel::{ClientTls, ExpectedServer};

    use super::*;

    #[test]
    fn devices_that_stay_keep_their_tickets_while_those_that_come_anew_forget_theirs() {
        let mut agents = [0, 1].map(|device| Agent::new(device, Epoch(1)));
        let [stays, _] = &mut agents;
        let state = stays.spool.state();
        stays.machine = Some(Box::new(AgentMachine::new(AgentStart {
            state: None,
            base: None,
            spool: state,
            reach: Reach { udp_port: 0, wake_counter: 0, notice_counter: 0, boot: 0 },
            seed: 1,
        })));
        for agent in &mut agents {
            agent.tls = Some(ClientTls::new(ExpectedServer::of_pins(Vec::new()), None).unwrap());
        }
        agents.iter_mut().for_each(Agent::forget_tickets);
        assert_eq!(agents.map(|agent| agent.tls.is_some()), [true, false]);
    }
}
