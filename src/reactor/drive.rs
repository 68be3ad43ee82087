//! From bytes to decisions to bytes: what a reactor does with one link.

use std::net::Shutdown;

use super::backend::{AppendRefusal, Backend};
use super::channel::{READ_BYTES_BUDGET, ReadOutcome};
use super::link::{Link, Stage, UntilDrained};
use super::turn::Reactor;
use crate::machine::close::CloseReason;
use crate::machine::command::{Command, JobOutcome};
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::rate;
use crate::machine::session::{Session, SyncPolicy};
use crate::wire::frame;
use crate::wire::id::DeviceId;
use crate::wire::limits::FRAME_BODY_BYTES_MAX;
use crate::wire::message::{ErrorCode, ErrorReport, ToAgent, ToServer};
use crate::wire::time::{CoarseMoment, Moment};

/// The first bytes of a body that asks for a worker: an array of two, then kind 1 (enrol) or 3 (a part). CBOR allows
/// longer ways to write these numbers; whoever uses them is served without a permit held ahead, and told to come later when there is none.
const WORK_BODIES: [[u8; 2]; 2] = [[0x82, 1], [0x82, 3]];

/// Memory of the shared buffers that is kept between turns, in bytes.
const SHARED_BUFFER_BYTES_MAX: usize = 4 * (READ_BYTES_BUDGET + FRAME_BODY_BYTES_MAX);

/// What became of one frame.
#[derive(PartialEq, Eq)]
pub(super) enum Taken {
    /// It is done with.
    Done,
    /// There is no room for its work now: it stays where it is.
    NoRoom,
    /// Its device has used up its allowance: it stays where it is until this moment.
    Held(Moment),
    /// The link is closed.
    Closed,
}

impl<B: Backend> Reactor<B> {
    /// Reads what the link has, within a budget, and acts on every whole frame.
    pub(super) fn read_link(&mut self, slot: usize) {
        let Some(link) = self.links.get(slot) else { return };
        if matches!(link.stage, Stage::Leaving(_)) {
            let mut scratch = [0; 4096];
            if link.discard(&mut scratch) {
                self.forget(slot);
            }
            return;
        }
        let is_shared = !link.has_inbox();
        let mut plain = std::mem::take(if is_shared { &mut self.plain } else { &mut link.pending().inbox });
        let before = plain.len();
        let was_handshaking = matches!(link.stage, Stage::Handshaking(_));
        let mut socket = UntilDrained::new(&mut link.socket, link.is_ending);
        let outcome = link.channel.read_from(&mut socket, &mut plain);
        let received = plain.len() - before;
        if received > 0 {
            link.heard = CoarseMoment::not_before(self.now.moment);
        }
        link.is_ending |= !matches!(outcome, Ok(ReadOutcome::Drained | ReadOutcome::More));
        self.counters.bytes_received.add(received as u64);
        self.mark_dirty(slot);
        if was_handshaking && self.links.get(slot).is_some_and(|link| link.channel.wants_write()) {
            self.note_heard(slot);
        }
        let is_welcome = !was_handshaking || outcome.is_err() || self.finish_handshake(slot);
        let taken = if is_welcome { self.take_frames(slot, &plain) } else { (0, Taken::Closed) };
        self.put_back(slot, plain, is_shared, &taken);
        if taken.1 == Taken::Closed {
            return;
        }
        match outcome {
            Ok(ReadOutcome::Drained) => {}
            Ok(ReadOutcome::More) => {
                if taken.1 == Taken::Done
                    && let Some(link) = self.links.get(slot)
                    && !link.is_ready
                {
                    link.is_ready = true;
                    self.ready.push_back(slot);
                }
            }
            Ok(ReadOutcome::Closed) => self.leave(slot, CloseReason::PeerClosed),
            Err(error) => self.fail(slot, &error),
        }
    }

    /// Keeps what was not consumed, and gives the shared buffer back.
    fn put_back(&mut self, slot: usize, mut plain: Vec<u8>, is_shared: bool, taken: &(usize, Taken)) {
        let (consumed, end) = taken;
        if let Some(link) = self.links.get(slot)
            && *end != Taken::Closed
        {
            if *consumed < plain.len() {
                let pending = link.pending();
                if is_shared {
                    pending.inbox.extend_from_slice(&plain[*consumed..]);
                } else {
                    plain.drain(..*consumed);
                    pending.inbox = std::mem::take(&mut plain);
                }
            }
            link.tidy();
            match *end {
                Taken::NoRoom if !link.is_blocked => {
                    link.is_blocked = true;
                    self.blocked.push_back(slot);
                    self.counters.waits_for_room.add_one();
                }
                Taken::Held(until) if !link.is_blocked => {
                    link.is_blocked = true;
                    self.held.insert((until, slot));
                    self.counters.waits_for_rate.add_one();
                }
                _ => {}
            }
        }
        if is_shared {
            plain.clear();
            if plain.capacity() <= SHARED_BUFFER_BYTES_MAX {
                self.plain = plain;
            }
        }
    }

    /// Acts on every whole frame in `plain`. How many bytes are done with, and how it ended.
    fn take_frames(&mut self, slot: usize, plain: &[u8]) -> (usize, Taken) {
        let mut consumed = 0;
        loop {
            match frame::split(&plain[consumed..]) {
                Ok(None) => return (consumed, Taken::Done),
                Ok(Some((body, length))) => match self.take_body(slot, body) {
                    Taken::Done => consumed += length,
                    end => return (consumed, end),
                },
                Err(error) => {
                    let report = ErrorReport { code: ErrorCode::Malformed, message: error.to_string() };
                    self.send(slot, &ToAgent::Error(report));
                    self.leave(slot, CloseReason::FrameLength);
                    return (consumed, Taken::Closed);
                }
            }
        }
    }

    fn take_body(&mut self, slot: usize, body: &[u8]) -> Taken {
        let Some(name) = self.links.name(slot) else { return Taken::Closed };
        // The permit comes before the frame: a link whose work has no room is not read.
        let mut has_permit = false;
        if WORK_BODIES.iter().any(|head| body.starts_with(head)) {
            has_permit = self.permits.try_take();
            if !has_permit {
                return Taken::NoRoom;
            }
        }
        let end = self.take_message(slot, name, body, &mut has_permit);
        if has_permit {
            self.permits.give_back();
        }
        end
    }

    fn take_message(&mut self, slot: usize, name: LinkRef, body: &[u8], has_permit: &mut bool) -> Taken {
        let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) else {
            return Taken::Closed;
        };
        let device = session.device();
        let mut commands = Vec::new();
        let message = match ToServer::from_body(body) {
            Ok(message) => message,
            Err(error) => {
                let cost_microseconds = rate::cost_microseconds(None, body.len());
                if let Some(until) = self.held_until(slot, device, cost_microseconds) {
                    return Taken::Held(until);
                }
                let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) else {
                    return Taken::Closed;
                };
                session.handle_undecodable(&error, &mut commands);
                return self.execute(slot, name, device, commands, has_permit);
            }
        };
        if session.would_enrol(&message) {
            if !self.strangers.may_enrol() {
                return Taken::NoRoom;
            }
            self.strangers.enrol(name);
        }
        let cost_microseconds = rate::cost_microseconds(Some(&message), body.len());
        // Asked before the link becomes the device's, and later together with everything else.
        let is_new = self.links.get(slot).is_some_and(|link| !link.is_adopted);
        if is_new && let Some(until) = self.held_until(slot, device, cost_microseconds) {
            return Taken::Held(until);
        }
        if let Some(device) = device {
            self.adopt(slot, name, device, &message);
        }
        let Some(link) = self.links.get(slot) else { return Taken::Closed };
        let peer = match &message {
            // IPv4 as IPv4, whatever the listener makes of it.
            ToServer::Sync(_) | ToServer::Probe(_) => link.peer().map(|peer| peer.ip().to_canonical()),
            _ => None,
        };
        let events = match &message {
            ToServer::Events(events) => events.items.len(),
            _ => 0,
        };
        let later_seconds = self.later_seconds();
        let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) else {
            return Taken::Closed;
        };
        let (backend, now) = (&self.backend, &self.now);
        let mut tally = Tally::default();
        let (mut has_settled, mut is_persistent, mut held_until) = (false, false, None);
        let mut message = Some(message);
        let mut decide = |mut record: Option<&mut DeviceState>| {
            let Some(message) = message.take() else { return };
            if let Some(record) = record.as_deref_mut().filter(|_| !is_new) {
                held_until = session.admit(now, record, cost_microseconds).err();
                if held_until.is_some() {
                    return;
                }
            }
            if let (ToServer::Sync(sync), Some(record)) = (&message, record.as_deref()) {
                backend.syncs(now, record, sync, peer);
            }
            let policy = SyncPolicy { peer, later_seconds, ..backend.policy(record.as_deref(), now) };
            session.handle(now, message, record.as_deref_mut(), &policy, &mut commands);
            if let Some(record) = record {
                tally.append_all(&**backend, now, record, &commands);
                if tally.appended > 0 {
                    session.note_appended(now, record, policy.event_rate, tally.appended, tally.bytes);
                }
                if tally.refusal == Some(AppendRefusal::Behind) {
                    session.look_again();
                }
                has_settled |= backend.settle(now, record);
                is_persistent = record.keep_connected;
            }
        };
        let is_known =
            device.is_some_and(|device| backend.with_record(device, |record| decide(Some(record))).is_some());
        if !is_known {
            decide(None);
        }
        if let Some(until) = held_until {
            return Taken::Held(until);
        }
        self.counters.messages_received.add_one();
        self.count_persistent(slot, is_persistent);
        self.has_appended |= tally.appended > 0 || has_settled;
        self.counters.events_appended.add(tally.appended);
        if let Some((position, epoch, through)) = tally.ack {
            self.commit_delay.heard();
            self.acks.push(position, name, epoch, through);
        }
        match tally.refusal {
            // What was appended is recognised when the frame is looked at again.
            Some(AppendRefusal::Behind) => return Taken::NoRoom,
            Some(AppendRefusal::Failed) => {
                self.leave(slot, CloseReason::Internal);
                return Taken::Closed;
            }
            Some(AppendRefusal::Full | AppendRefusal::TooLarge) => {
                self.counters.events_refused.add_one();
                if let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) {
                    session.append_refused(later_seconds, &mut commands);
                }
            }
            None if tally.ack.is_some() => {
                self.counters.events_repeated.add((events as u64).saturating_sub(tally.appended));
            }
            None => {}
        }
        self.rearm(slot);
        self.execute(slot, name, device, commands, has_permit)
    }

    /// Takes what a message costs from its device's allowance; until when it waits when that is used up.
    fn held_until(
        &mut self,
        slot: usize,
        device: Option<DeviceId>,
        cost_microseconds: u64,
    ) -> Option<Moment> {
        let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) else { return None };
        let now = &self.now;
        let admit = |record: &mut DeviceState| session.admit(now, record, cost_microseconds).err();
        self.backend.with_record(device?, admit)?
    }

    /// Does what a session wants done, in order. Appends have been done while the record was at hand.
    pub(super) fn execute(
        &mut self,
        slot: usize,
        name: LinkRef,
        device: Option<DeviceId>,
        commands: Vec<Command<'_>>,
        has_permit: &mut bool,
    ) -> Taken {
        for command in commands {
            match command {
                Command::Send(message) => self.send(slot, &message),
                Command::Append { .. } | Command::AckWhenDurable => {}
                Command::EventsHeld { seconds } => {
                    self.counters.events_held.add_one();
                    if let Some(device) = device {
                        self.backend.events_held(&self.now, device, seconds);
                    }
                }
                Command::Job(job) => {
                    let failure = job.failure();
                    let may = std::mem::take(has_permit) || self.permits.try_take();
                    if may && self.backend.submit(name, *job) {
                        self.counters.jobs.add_one();
                    } else {
                        if may {
                            self.permits.give_back();
                        }
                        self.outcome(slot, name, failure);
                    }
                }
                Command::ServerRestored => {
                    if let Some(device) = device {
                        self.backend.server_restored(device);
                    }
                }
                Command::Called(step) => {
                    if let Some(device) = device {
                        self.backend.called(device, step);
                    }
                }
                Command::Probe { address, counter } => {
                    if let Some(device) = device {
                        self.backend.probe(device, address, counter);
                    }
                }
                Command::Synced => {
                    self.counters.syncs.add_one();
                    log::debug!("device {}: in sync", device.unwrap_or(DeviceId(0)));
                }
                Command::Close(reason) => {
                    self.leave(slot, reason);
                    return Taken::Closed;
                }
            }
        }
        if self.links.get(slot).is_some_and(|link| matches!(link.stage, Stage::Live(_))) {
            Taken::Done
        } else {
            Taken::Closed
        }
    }

    pub(super) fn job_done(&mut self, name: LinkRef, outcome: JobOutcome) {
        match &outcome {
            JobOutcome::Enrolled(_) => self.counters.enrolments.add_one(),
            JobOutcome::Refused(_) => self.counters.enrolments_refused.add_one(),
            _ => {}
        }
        if let Some(slot) = self.links.slot_of(name) {
            self.outcome(slot, name, outcome);
            self.stop_late(slot);
        }
    }

    fn outcome(&mut self, slot: usize, name: LinkRef, outcome: JobOutcome) {
        let later_seconds = self.later_seconds();
        let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) else { return };
        let device = session.device();
        let mut commands = Vec::new();
        let (backend, now) = (&self.backend, &self.now);
        let mut outcome = Some(outcome);
        let mut decide = |record: Option<&mut DeviceState>| {
            let Some(outcome) = outcome.take() else { return };
            let policy = SyncPolicy { later_seconds, ..backend.policy(record.as_deref(), now) };
            session.job_done(now, outcome, record, &policy, &mut commands);
        };
        let is_known =
            device.is_some_and(|device| backend.with_record(device, |record| decide(Some(record))).is_some());
        if !is_known {
            decide(None);
        }
        self.execute(slot, name, device, commands, &mut false);
        self.rearm(slot);
        self.mark_dirty(slot);
    }

    pub(super) fn sync_now(&mut self, name: LinkRef, is_fresh: bool) {
        self.tell_session(name, |session, out| session.sync_now(is_fresh, out));
    }

    pub(super) fn superseded(&mut self, name: LinkRef) {
        self.tell_session(name, Session::superseded);
    }

    pub(super) fn removed(&mut self, name: LinkRef) {
        self.tell_session(name, Session::removed);
    }

    pub(super) fn tell_session(
        &mut self,
        name: LinkRef,
        tell: impl FnOnce(&mut Session, &mut Vec<Command<'_>>),
    ) {
        let Some(slot) = self.links.slot_of(name) else { return };
        let Some(Link { stage: Stage::Live(session), .. }) = self.links.get(slot) else { return };
        let device = session.device();
        let mut commands = Vec::new();
        tell(session, &mut commands);
        self.execute(slot, name, device, commands, &mut false);
    }

    /// Sends the acknowledgements that the durable position allows.
    pub(super) fn release_acks(&mut self) {
        if self.acks.is_empty() {
            return;
        }
        for (name, ack) in self.acks.release(self.backend.durable()) {
            let Some(slot) = self.links.slot_of(name) else { continue };
            self.counters.acks_sent.add_one();
            self.commit_delay.acknowledged();
            self.send(slot, &ToAgent::Ack(ack));
        }
    }

    /// Protects a message; it leaves at the end of the turn.
    pub(super) fn send(&mut self, slot: usize, message: &ToAgent) {
        let Some(link) = self.links.get(slot) else { return };
        if matches!(link.stage, Stage::Leaving(_)) {
            return;
        }
        self.encoded.clear();
        message.write_to(&mut self.encoded);
        self.counters.bytes_sent.add(self.encoded.len() as u64);
        if matches!(message, ToAgent::Later(later) if !later.only_events) {
            self.counters.sent_away.add_one();
            self.turns.take(self.now.moment, self.backend.devices_per_second());
        }
        match link.channel.write_plain(&self.encoded) {
            Ok(()) => self.mark_dirty(slot),
            Err(error) => self.fail(slot, &error),
        }
    }

    pub(super) fn mark_dirty(&mut self, slot: usize) {
        if let Some(link) = self.links.get(slot)
            && !link.is_dirty
        {
            link.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Writes what is ready, as far as the sockets take it, and what sessions have to say when they have
    /// taken it.
    pub(super) fn write(&mut self) {
        while !self.dirty.is_empty() {
            for slot in std::mem::take(&mut self.dirty) {
                self.write_link(slot);
                self.note_held(slot);
            }
        }
        self.close_holders();
    }

    /// Every link that has heard or said something in this turn comes by here, when all that could be sent
    /// is.
    fn note_held(&mut self, slot: usize) {
        if let (Some(name), Some(link)) = (self.links.name(slot), self.links.get(slot)) {
            self.holdings.note(self.now.moment, name, link.held_bytes());
        }
    }

    fn write_link(&mut self, slot: usize) {
        let Some(link) = self.links.get(slot) else { return };
        link.is_dirty = false;
        let unsent_before = link.channel.unsent_bytes();
        match link.channel.flush_to(&mut link.socket) {
            Ok(true) => {
                if link.write_deadline().is_some() {
                    link.pending().write_deadline = None;
                    link.took_some(&self.now);
                }
                link.tidy();
                match &mut link.stage {
                    Stage::Leaving(leaving) if !leaving.is_sent => {
                        leaving.is_sent = true;
                        // The peer learns that nothing more comes; when that fails it knows already.
                        let _ = link.socket.shutdown(Shutdown::Write);
                        self.read_link(slot);
                    }
                    Stage::Live(session) if session.waits_to_be_sent() => self.sent(slot),
                    Stage::Live(_) | Stage::Leaving(_) | Stage::Handshaking(_) => {}
                }
            }
            Ok(false) => {
                let deadline = self.now.moment + self.settings.write_deadline;
                let has_taken_some = link.channel.unsent_bytes() < unsent_before;
                let was_slow = link.pending().write_deadline.is_some();
                if has_taken_some || !was_slow {
                    link.pending().write_deadline = Some(deadline);
                }
                if has_taken_some && was_slow {
                    link.took_some(&self.now);
                }
                self.rearm(slot);
            }
            Err(error) => self.fail(slot, &error),
        }
    }

    /// The socket has taken all that the session has said so far, and the session has more.
    fn sent(&mut self, slot: usize) {
        let (now, name) = (self.now, self.links.name(slot));
        if let Some(name) = name {
            self.tell_session(name, |session, out| session.sent(&now, out));
            self.rearm(slot);
        }
    }
}

/// What came of the events of one message.
#[derive(Default)]
struct Tally {
    appended: u64,
    /// Of those that were appended, without what the journal adds.
    bytes: u64,
    refusal: Option<AppendRefusal>,
    ack: Option<(u64, crate::wire::id::Epoch, u64)>,
}

impl Tally {
    /// Does the appends, in order, up to the first that is refused.
    fn append_all<B: Backend>(
        &mut self,
        backend: &B,
        now: &crate::wire::time::Now,
        record: &mut DeviceState,
        commands: &[Command<'_>],
    ) {
        for command in commands {
            match command {
                Command::Append { spool_epoch, sequence, body, crc } if self.refusal.is_none() => {
                    match backend.append(now, record.device, *spool_epoch, *sequence, body) {
                        Ok(position) => {
                            record.note_appended(*spool_epoch, *sequence, *crc, position);
                            self.appended += 1;
                            self.bytes += body.len() as u64;
                        }
                        Err(refusal) => self.refusal = Some(refusal),
                    }
                }
                // Only what this server has appended is acknowledged, whatever was refused after it.
                Command::AckWhenDurable if self.refusal.is_none() || self.appended > 0 => {
                    self.ack = Some((record.last_position(), record.spool_epoch, record.last_sequence));
                }
                _ => {}
            }
        }
    }
}
