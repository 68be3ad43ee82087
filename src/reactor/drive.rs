//! A reactor's work for one link: bytes to frames to its endpoint, and the endpoint's messages to bytes.

use std::net::Shutdown;

use super::backend::Backend;
use super::channel::{READ_BYTES_BUDGET, ReadOutcome};
use super::link::{Stage, UntilDrained};
use super::turn::Reactor;
use crate::concurrency::reactors::ToReactor;
use crate::machine::close::CloseReason;
use crate::machine::command::{EnrolmentOutcome, JobOutcome};
use crate::machine::device_state::LinkRef;
use crate::machine::endpoint::{Notice, Taken};
use crate::machine::session::Session;
use crate::wire::frame;
use crate::wire::limits::FRAME_BODY_BYTES_MAX;
use crate::wire::message::{ErrorCode, ErrorReport, ToAgent};
use crate::wire::time::CoarseMoment;

/// Memory of the shared buffers that is kept between turns.
const SHARED_BUFFER_BYTES_MAX: usize = 4 * (READ_BYTES_BUDGET + FRAME_BODY_BYTES_MAX);

impl<B: Backend> Reactor<B> {
    /// Reads what the link has, within a budget, and acts on every whole frame.
    pub(super) fn read_link(&mut self, slot: usize) {
        let Some(name) = self.endpoint.name(slot) else { return };
        let is_left = self.endpoint.is_left(slot);
        let Some(link) = self.endpoint.connection_at(slot) else { return };
        if matches!(link.stage(), Stage::Leaving(_)) {
            let mut scratch = [0; 4096];
            if link.discard(&mut scratch) {
                self.forget(slot);
            }
            return;
        }
        let is_shared = !link.has_inbox();
        let mut plain = std::mem::take(if is_shared { &mut self.plain } else { &mut link.pending().inbox });
        let before = plain.len();
        let was_handshaking = matches!(link.stage(), Stage::Handshaking(_));
        let mut socket = UntilDrained::new(&mut link.socket, is_left);
        let outcome = link.channel.read_from(&mut socket, &mut plain);
        let received = plain.len() - before;
        if received > 0 {
            link.heard = CoarseMoment::not_before(self.now.moment);
        }
        let wants_write = link.channel.wants_write();
        if !matches!(outcome, Ok(ReadOutcome::Drained | ReadOutcome::More)) {
            self.endpoint.note_left(name);
        }
        self.counters.bytes_received.add(received as u64);
        self.mark_dirty(slot);
        if was_handshaking && wants_write {
            self.note_heard(slot);
        }
        let is_welcome = !was_handshaking || outcome.is_err() || self.finish_handshake(slot);
        let taken = if is_welcome { self.take_frames(slot, &plain) } else { (0, Taken::Closed) };
        self.put_back(slot, plain, is_shared, taken);
        if taken.1 == Taken::Closed {
            return;
        }
        // It may be read again before the turn ends: what an upload holds counts at once.
        if self.endpoint.session_at(slot).is_some_and(|session| session.held_bytes() > 0) {
            self.note_held(slot);
            self.close_holders();
            if self.endpoint.slot_of(name).is_none() {
                return;
            }
        }
        match outcome {
            Ok(ReadOutcome::Drained) => {}
            Ok(ReadOutcome::More) => {
                if taken.1 == Taken::Done
                    && let Some(link) = self.endpoint.connection_at(slot)
                {
                    self.queues.read(slot, link);
                }
            }
            Ok(ReadOutcome::Closed) => self.leave(slot, CloseReason::PeerClosed),
            Err(error) => self.fail(slot, &error),
        }
    }

    /// Keeps what was not consumed, and gives the shared buffer back.
    fn put_back(&mut self, slot: usize, mut plain: Vec<u8>, is_shared: bool, taken: (usize, Taken)) {
        let (consumed, end) = taken;
        if let Some(link) = self.endpoint.connection_at(slot)
            && end != Taken::Closed
        {
            if consumed < plain.len() {
                let pending = link.pending();
                if is_shared {
                    pending.inbox.extend_from_slice(&plain[consumed..]);
                } else {
                    plain.drain(..consumed);
                    pending.inbox = std::mem::take(&mut plain);
                }
            }
            link.tidy();
            match end {
                Taken::NoRoom if self.queues.block(slot, link) => self.counters.waits_for_room.add_one(),
                Taken::Held(until) if self.queues.hold(slot, link, until) => {
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

    /// Acts on every whole frame in `plain`. Returns the number of bytes that are done with, and the end of
    /// it.
    fn take_frames(&mut self, slot: usize, plain: &[u8]) -> (usize, Taken) {
        let Some(name) = self.endpoint.name(slot) else { return (0, Taken::Closed) };
        let mut consumed = 0;
        loop {
            match frame::split(&plain[consumed..]) {
                Ok(None) => return (consumed, Taken::Done),
                Ok(Some((body, length))) => match self.take_body(name, slot, body) {
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

    fn take_body(&mut self, name: LinkRef, slot: usize, body: &[u8]) -> Taken {
        let may_enrol = self.strangers.may_enrol();
        let taken = self.endpoint.handle_frame(&self.now, name, body, may_enrol, &*self.backend);
        self.carry_out();
        if taken == Taken::Done {
            self.rearm(slot);
        }
        // The end of the link may have come of what was to be sent.
        if self.endpoint.slot_of(name).is_some_and(|slot| self.endpoint.is_live(slot)) {
            taken
        } else {
            Taken::Closed
        }
    }

    /// Does what the endpoint wants done.
    pub(super) fn carry_out(&mut self) {
        loop {
            while let Some((link, message)) = self.endpoint.poll_transmit() {
                if let Some(slot) = self.endpoint.slot_of(link) {
                    self.send(slot, &message);
                }
            }
            if let Some((link, job, permit)) = self.endpoint.poll_job() {
                let failure = job.failure();
                if self.backend.submit(link, *job, permit) {
                    self.counters.jobs.add_one();
                } else {
                    self.endpoint.handle_outcome(&self.now, link, failure, &*self.backend);
                }
            } else if let Some(notice) = self.endpoint.poll_notice() {
                self.take_notice(notice);
            } else if let Some(close) = self.endpoint.poll_close() {
                self.finish_leaving(&close);
            } else {
                break;
            }
        }
        self.note_tally();
    }

    fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Adopted(link, device) => {
                if let Some(mailboxes) = &self.mailboxes {
                    mailboxes.leave_extra(device, link);
                }
            }
            Notice::Superseded(link) => {
                if let Some(mailboxes) = &self.mailboxes
                    && !mailboxes.send(link, ToReactor::Superseded(link))
                {
                    // It is found by its idle deadline.
                    log::debug!("link {link:?} could not be told that it was superseded");
                }
            }
            Notice::Enrols(link) => self.strangers.enrol(link),
        }
    }

    fn note_tally(&mut self) {
        let tally = self.endpoint.take_tally();
        if tally.has_appended {
            self.commit.note_appended();
        }
        (0..tally.acks_queued).for_each(|_| self.commit.delay.heard());
        (0..tally.acks_sent).for_each(|_| self.commit.delay.acknowledged());
        let counters = &self.counters;
        let counted = [
            (&counters.messages_received, tally.messages),
            (&counters.events_appended, tally.events_appended),
            (&counters.events_repeated, tally.events_repeated),
            (&counters.events_refused, tally.events_refused),
            (&counters.events_held, tally.events_held),
            (&counters.acks_sent, tally.acks_sent.into()),
            (&counters.syncs, tally.syncs),
            (&counters.sent_away, tally.sent_away),
        ];
        counted.into_iter().filter(|(_, more)| *more > 0).for_each(|(counter, more)| counter.add(more));
        match tally.persistent {
            more @ 1.. => (0..more).for_each(|_| counters.links_persistent.add_one()),
            fewer => (fewer..0).for_each(|_| counters.links_persistent.take_one()),
        }
    }

    pub(super) fn job_done(&mut self, name: LinkRef, outcome: JobOutcome) {
        match &outcome {
            JobOutcome::Enrolment(EnrolmentOutcome::Enrolled(_)) => self.counters.enrolments.add_one(),
            JobOutcome::Enrolment(EnrolmentOutcome::Refused(_)) => self.counters.enrolments_refused.add_one(),
            _ => {}
        }
        self.endpoint.handle_outcome(&self.now, name, outcome, &*self.backend);
        self.carry_out();
        if let Some(slot) = self.endpoint.slot_of(name) {
            self.rearm(slot);
            self.mark_dirty(slot);
        }
    }

    /// Sends the acknowledgements that the durable position allows.
    pub(super) fn release_acks(&mut self) {
        if !self.endpoint.acks().is_empty() {
            self.endpoint.handle_durable(&self.now, self.backend.durable(), &*self.backend);
            self.carry_out();
        }
    }

    /// Protects a message; it leaves at the end of the turn.
    pub(super) fn send(&mut self, slot: usize, message: &ToAgent) {
        let Some(link) = self.endpoint.connection_at(slot) else { return };
        if matches!(link.stage(), Stage::Leaving(_)) {
            return;
        }
        self.encoded.clear();
        message.write_to(&mut self.encoded);
        self.counters.bytes_sent.add(self.encoded.len() as u64);
        match link.channel.write_plain(&self.encoded) {
            Ok(()) => self.mark_dirty(slot),
            Err(error) => self.fail(slot, &error),
        }
    }

    pub(super) fn mark_dirty(&mut self, slot: usize) {
        if let Some(link) = self.endpoint.connection_at(slot) {
            self.queues.write(slot, link);
        }
    }

    /// Writes what is ready, as far as the sockets take it, and what sessions have to say when they have
    /// taken it.
    pub(super) fn write(&mut self) {
        loop {
            let slots = self.queues.take_to_write();
            if slots.is_empty() {
                break;
            }
            for slot in slots {
                self.write_link(slot);
                self.note_held(slot);
            }
        }
        self.close_holders();
    }

    /// Every link that has heard or said something in this turn comes by here, when all that could be sent
    /// is.
    fn note_held(&mut self, slot: usize) {
        let of_session = self.endpoint.session_at(slot).map_or(0, Session::held_bytes);
        if let (Some(name), Some(link)) = (self.endpoint.name(slot), self.endpoint.look_at(slot)) {
            self.holdings.note(self.now.moment, name, link.held_bytes() + of_session);
        }
    }

    fn write_link(&mut self, slot: usize) {
        let Some(name) = self.endpoint.name(slot) else { return };
        let Some(link) = self.endpoint.connection_at(slot) else { return };
        link.is_dirty = false;
        let unsent_before = link.channel.unsent_bytes();
        let mut has_taken_some = false;
        match link.channel.flush_to(&mut link.socket) {
            Ok(true) => {
                if link.write_deadline().is_some() {
                    link.pending().write_deadline = None;
                    has_taken_some = true;
                }
                link.tidy();
                if let Some(leaving) = link.leaving() {
                    if !std::mem::replace(&mut leaving.is_sent, true) {
                        // The peer learns that nothing more comes; when that fails it knows already.
                        let _ = link.socket.shutdown(Shutdown::Write);
                        self.read_link(slot);
                    }
                } else if self.endpoint.session_at(slot).is_some_and(Session::waits_to_be_sent) {
                    self.endpoint.handle_sent(&self.now, name, &*self.backend);
                    self.carry_out();
                    self.rearm(slot);
                }
            }
            Ok(false) => {
                let deadline = self.now.moment + self.settings.write_deadline;
                let was_slow = link.pending().write_deadline.is_some();
                has_taken_some = link.channel.unsent_bytes() < unsent_before;
                if has_taken_some || !was_slow {
                    link.pending().write_deadline = Some(deadline);
                }
                has_taken_some &= was_slow;
                self.rearm(slot);
            }
            Err(error) => self.fail(slot, &error),
        }
        if has_taken_some && let Some(link) = self.endpoint.connection(name) {
            link.heard = CoarseMoment::not_before(self.now.moment);
            self.endpoint.handle_progress(&self.now, name);
        }
    }
}
