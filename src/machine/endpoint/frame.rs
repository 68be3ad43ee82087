//! From a frame to what its session wants done.

use super::{AppendRefusal, Connection, Endpoint, Notice, Rule, Rules, Services};
use crate::machine::clones::Verdict;
use crate::machine::close::CloseReason;
use crate::machine::command::Command;
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::rate;
use crate::machine::session::{Session, SyncPolicy};
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::message::{MessageError, Sync, ToServer, kind};
use crate::wire::time::{Moment, Now};

/// Outcome of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is done with.
    Done,
    /// There is no room for its work now: it stays where it is.
    NoRoom,
    /// Its device has used up its allowance: it stays where it is until this moment.
    Held(Moment),
    /// The link is closed.
    Closed,
}

/// Outcome of the events of one message.
#[derive(Default)]
struct Appended {
    events: u64,
    /// Of those that were appended, without what the journal adds.
    bytes: u64,
    refusal: Option<AppendRefusal>,
    ack: Option<(u64, Epoch, u64)>,
}

/// Whether a frame's body asks for a worker: an array of two that begins with the kind of an enrolment, of a
/// part or of a renewal. CBOR allows longer ways to write these numbers; a frame that uses them is served
/// without a permit held ahead, and answered with `Later` when there is none.
fn asks_for_worker(body: &[u8]) -> bool {
    matches!(body, [0x82, number, ..] if matches!(u32::from(*number), kind::ENROL | kind::PART | kind::RENEW))
}

impl<C: Connection, R: Rules, const SEGMENT: usize> Endpoint<C, R, SEGMENT> {
    /// A frame has come on a link; `may_enrol`: there is room for one more enrolment.
    pub fn handle_frame<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        body: &[u8],
        may_enrol: bool,
        services: &S,
    ) -> Taken {
        // The permit comes before the frame: a link whose work has no room is not read.
        let mut permit = None;
        if asks_for_worker(body) {
            permit = self.permits.try_take();
            if permit.is_none() {
                return Taken::NoRoom;
            }
        }
        let Some(session) = self.links.session(link) else { return Taken::Closed };
        if session.is_turned_away() {
            return Taken::Done;
        }
        let device = session.device();
        let message = match ToServer::from_body(body) {
            Ok(message) => message,
            Err(error) => return self.take_undecodable(now, link, device, (&error, body.len()), services),
        };
        if session.would_enrol(&message) {
            if !may_enrol {
                return Taken::NoRoom;
            }
            self.notices.push_back(Notice::Enrols(link));
        }
        let cost_microseconds = rate::cost_microseconds(Some(&message), body.len());
        // Asked before the link becomes the device's, and later together with everything else.
        let is_new = self.links.get(link).is_some_and(|entry| !entry.is_adopted);
        if is_new && let Some(until) = self.held_until(now, link, device, cost_microseconds, services) {
            return Taken::Held(until);
        }
        let judged = (is_new, &message, device);
        // Before it takes anything over: a copy does not end the link of the first.
        if let (true, ToServer::Sync(sync), Some(device)) = judged
            && let verdict @ (Verdict::Fork | Verdict::Refuse) = self.judge(now, link, device, sync, services)
        {
            self.turn_away(now, link, device, verdict, services);
            return self.taken(link);
        }
        if let Some(device) = device {
            self.adopt(now, link, device, &message, services);
        }
        let later_seconds = self.later_seconds(now);
        let Some(entry) = self.links.get(link) else { return Taken::Closed };
        let peer = match &message {
            ToServer::Sync(_) | ToServer::Probe(_) => entry.connection.peer(),
            _ => None,
        };
        let events = match &message {
            ToServer::Events(events) => events.items.len() as u64,
            _ => 0,
        };
        let Some(session) = self.links.session(link) else { return Taken::Closed };
        let mut commands = Vec::new();
        let mut appended = Appended::default();
        let mut record = device.and_then(|device| services.record(device));
        if let Some(record) = record.as_deref_mut().filter(|_| !is_new)
            && let Err(until) = admit(&self.rules, session, now, record, cost_microseconds)
        {
            return Taken::Held(until);
        }
        let judged = match (&message, record.as_deref()) {
            (ToServer::Sync(sync), Some(record)) if !is_new => services.syncs(now, record, sync, peer),
            _ => Verdict::Serve,
        };
        if let (verdict @ (Verdict::Fork | Verdict::Refuse), Some(device)) = (judged, device) {
            drop(record);
            self.turn_away(now, link, device, verdict, services);
            return self.taken(link);
        }
        let policy = services.policy(record.as_deref(), now);
        let has_fetch_room = policy.has_fetch_room && self.has_fetch_room;
        let policy = SyncPolicy { peer, later_seconds, has_fetch_room, ..policy };
        session.handle(now, message, record.as_deref_mut(), &policy, &mut commands);
        let mut is_persistent = false;
        if let Some(record) = record.as_deref_mut() {
            appended.append_all(now, record, &commands, services);
            if appended.events > 0 {
                let (events, bytes) = (appended.events, appended.bytes);
                session.note_appended(now, record, policy.event_rate, events, bytes);
            }
            if appended.refusal == Some(AppendRefusal::Behind) {
                session.look_again();
            }
            self.tally.has_appended |= services.settle(now, record) || appended.events > 0;
            is_persistent = record.keep_connected;
        }
        drop(record);
        self.tally.messages += 1;
        self.tally.events_appended += appended.events;
        self.count_persistent(link, is_persistent);
        if let Some((position, epoch, through)) = appended.ack {
            self.tally.acks_queued += 1;
            self.acks.push(position, link, epoch, through);
        }
        match appended.refusal {
            // Appended events are recognised when the frame is looked at again.
            Some(AppendRefusal::Behind) => return Taken::NoRoom,
            Some(AppendRefusal::Failed) => {
                self.close(now, link, CloseReason::Internal, services);
                return Taken::Closed;
            }
            Some(AppendRefusal::Full | AppendRefusal::TooLarge) => {
                self.tally.events_refused += 1;
                if !self.rules.breaks(Rule::RefusalIsTold)
                    && let Some(session) = self.links.session(link)
                {
                    session.append_refused(later_seconds, &mut commands);
                }
            }
            None if appended.ack.is_some() => {
                self.tally.events_repeated += events.saturating_sub(appended.events);
            }
            None => {}
        }
        self.execute(now, link, device, commands, permit, services);
        self.taken(link)
    }

    /// Whether a device that begins a sync on a new link is served.
    fn judge<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        device: DeviceId,
        sync: &Sync,
        services: &S,
    ) -> Verdict {
        let peer = self.links.get(link).and_then(|entry| entry.connection.peer());
        let record = services.record(device);
        record.map_or(Verdict::Serve, |record| services.syncs(now, &record, sync, peer))
    }

    /// The device of the link is a copy of another one.
    fn turn_away<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        device: DeviceId,
        verdict: Verdict,
        services: &S,
    ) {
        let Some(session) = self.links.session(link) else { return };
        let mut commands = Vec::new();
        session.turn_away(verdict, &mut commands);
        self.execute(now, link, Some(device), commands, None, services);
    }

    fn take_undecodable<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        device: Option<DeviceId>,
        (error, bytes): (&MessageError, usize),
        services: &S,
    ) -> Taken {
        let cost_microseconds = rate::cost_microseconds(None, bytes);
        if let Some(until) = self.held_until(now, link, device, cost_microseconds, services) {
            return Taken::Held(until);
        }
        let Some(session) = self.links.session(link) else { return Taken::Closed };
        let mut commands = Vec::new();
        session.handle_undecodable(error, &mut commands);
        self.execute(now, link, device, commands, None, services);
        self.taken(link)
    }

    /// Takes what a message costs from its device's allowance; until when it waits when that is used up.
    fn held_until<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        device: Option<DeviceId>,
        cost_microseconds: u64,
        services: &S,
    ) -> Option<Moment> {
        let session = self.links.session(link)?;
        let mut record = services.record(device?)?;
        admit(&self.rules, session, now, &mut record, cost_microseconds).err()
    }

    fn taken(&mut self, link: LinkRef) -> Taken {
        if self.links.session(link).is_some() { Taken::Done } else { Taken::Closed }
    }
}

/// Takes what a message costs from its device's allowance; until when it waits when that is used up.
fn admit(
    rules: &impl Rules,
    session: &mut Session,
    now: &Now,
    record: &mut DeviceState,
    cost_microseconds: u64,
) -> Result<(), Moment> {
    if rules.breaks(Rule::AllowanceIsAsked) {
        return Ok(());
    }
    session.admit(now, record, cost_microseconds)
}

impl Appended {
    /// Does the appends, in order, up to the first that is refused.
    fn append_all<S: Services>(
        &mut self,
        now: &Now,
        record: &mut DeviceState,
        commands: &[Command<'_>],
        services: &S,
    ) {
        for command in commands {
            match command {
                Command::Append { spool_epoch, sequence, body, crc } if self.refusal.is_none() => {
                    match services.append(now, record.device, *spool_epoch, *sequence, body) {
                        Ok(position) => {
                            record.note_appended(*spool_epoch, *sequence, *crc, position);
                            self.events += 1;
                            self.bytes += body.len() as u64;
                        }
                        Err(refusal) => self.refusal = Some(refusal),
                    }
                }
                // Only what this server has appended is acknowledged, whatever was refused after it.
                Command::AckWhenDurable if self.refusal.is_none() || self.events > 0 => {
                    self.ack = Some((record.last_position(), record.spool_epoch, record.last_sequence));
                }
                _ => {}
            }
        }
    }
}
