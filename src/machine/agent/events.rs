//! Events on their way: what was sent, what was acknowledged, what may be sent next.

use std::collections::VecDeque;

use super::state::SpoolState;
use crate::wire::id::Epoch;
use crate::wire::limits::{EVENT_BYTES_MAX, EVENTS_PER_MESSAGE_MAX, FRAME_BODY_BYTES_MAX};
use crate::wire::message::{Ack, EventItem, Events, Resend, ToServer};
use crate::wire::time::Moment;

/// Bytes of event bodies in one message; leaves room for the frame's other keys.
pub const EVENT_BATCH_BYTES_TARGET: usize = 32 * 1024;

/// Bytes of event bodies that were sent and not acknowledged yet: 256 KiB in a round trip of 100 ms are 2.5
/// MB/s, more than any device has to say.
pub const EVENT_WINDOW_BYTES: usize = 256 * 1024;

/// Bytes that CBOR may need around one event body: array head, sequence number, byte string head.
const ITEM_OVERHEAD_BYTES: usize = 16;

const _: () = assert!(
    EVENT_BATCH_BYTES_TARGET + EVENT_BYTES_MAX + EVENTS_PER_MESSAGE_MAX * ITEM_OVERHEAD_BYTES + 64
        < FRAME_BODY_BYTES_MAX
);
const _: () = assert!(EVENT_WINDOW_BYTES >= 2 * EVENT_BATCH_BYTES_TARGET);

/// The sending half of the spool. Up to `events_after` ([`AgentState`](super::state::AgentState)) nothing was
/// acknowledged by this server under this epoch.
#[derive(Debug)]
pub(super) struct EventSender {
    epoch: Epoch,
    /// The highest epoch of this device that the server has spoken of.
    known_epoch: Epoch,
    highest: u64,
    /// The highest number that the server said is durable.
    confirmed: u64,
    /// Up to here everything was sent, or dropped. With nothing in flight, nothing of it is left to deliver.
    sent: u64,
    in_flight: VecDeque<Batch>,
    in_flight_bytes: usize,
    is_reading: bool,
    /// Until when nothing is sent, as the server said.
    held_until: Option<Moment>,
    /// The next message is the first since then.
    begins_again: bool,
    /// The server has said so since all was delivered for the last time.
    is_slowed: bool,
}

#[derive(Debug)]
struct Batch {
    last_sequence: u64,
    bytes: usize,
    sent_at: Moment,
}

/// Meaning of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AckMeaning {
    /// Of another epoch, or nothing new.
    Nothing,
    /// So much may be forgotten.
    Forget(u64),
    /// The server has more than this device ever gave out: it was rolled back.
    RolledBack,
}

impl EventSender {
    pub(super) fn new(spool: SpoolState) -> Self {
        Self {
            epoch: spool.epoch,
            known_epoch: spool.epoch,
            highest: spool.highest.max(spool.forgotten_through),
            confirmed: spool.forgotten_through,
            sent: spool.forgotten_through,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            is_reading: false,
            held_until: None,
            begins_again: false,
            is_slowed: false,
        }
    }

    pub(super) fn available(&mut self, highest: u64) {
        self.highest = self.highest.max(highest);
    }

    pub(super) fn is_pending(&self) -> bool {
        self.unacknowledged() > 0
    }

    /// Number of events between those that are delivered or dropped and the last one that was given out.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.highest - if self.in_flight.is_empty() { self.sent } else { self.confirmed }
    }

    /// The next events to read, when there are any and the window has room.
    pub(super) fn next_read(&mut self) -> Option<u64> {
        let may = !self.is_reading
            && self.held_until.is_none()
            && self.sent < self.highest
            && self.in_flight_bytes < EVENT_WINDOW_BYTES;
        self.is_reading |= may;
        may.then_some(self.sent)
    }

    /// Takes events that were read. Answers with the message to send, and whether everything that was handed
    /// over fits into it (what does not is read again).
    pub(super) fn read(
        &mut self,
        now: Moment,
        events: &[(u64, Vec<u8>)],
        events_after: u64,
    ) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.is_reading) {
            return None;
        }
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (sequence, body) in events.iter().take(EVENTS_PER_MESSAGE_MAX) {
            if bytes >= EVENT_BATCH_BYTES_TARGET {
                break;
            }
            // An event that the wire would refuse can't be in a spool that checks what it takes; it is passed
            // over rather than sent for ever.
            if *sequence > self.sent && *sequence <= self.highest && body.len() <= EVENT_BYTES_MAX {
                bytes += body.len();
                self.sent = *sequence;
                items.push(EventItem { sequence: *sequence, body });
            }
        }
        if items.is_empty() {
            // Dropped in the meantime: there is nothing up to the highest number.
            self.sent = self.highest;
            if self.in_flight.is_empty() {
                return None;
            }
            return Some(self.frame(items, 64, Some(self.sent), events_after));
        }
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(Batch { last_sequence: self.sent, bytes, sent_at: now });
        let room = bytes + items.len() * ITEM_OVERHEAD_BYTES + 64;
        Some(self.frame(items, room, None, events_after))
    }

    /// A message without events: only what the server has confirmed, when it has. One that does not know of
    /// it asks for what is left.
    pub(super) fn claim(&mut self, events_after: u64) -> Option<Vec<u8>> {
        self.claimed(events_after).map(|_| self.frame(Vec::new(), 64, None, events_after))
    }

    /// The number that this server has confirmed under this epoch; `None` when that is nothing.
    fn claimed(&self, events_after: u64) -> Option<u64> {
        Some(self.confirmed).filter(|confirmed| *confirmed > events_after)
    }

    fn frame(
        &mut self,
        items: Vec<EventItem<'_>>,
        room: usize,
        sent_through: Option<u64>,
        events_after: u64,
    ) -> Vec<u8> {
        let (spool_epoch, highest) = (self.epoch, self.highest);
        let acknowledged = self.claimed(events_after);
        let begins_again = self.held_until.is_none() && std::mem::take(&mut self.begins_again);
        let mut frame = Vec::with_capacity(room);
        ToServer::Events(Events { spool_epoch, highest, items, acknowledged, sent_through, begins_again })
            .write_to(&mut frame);
        frame
    }

    /// The server takes no events until then: what is under way is sent again. `true`: it had not said so
    /// since all was delivered for the last time.
    pub(super) fn hold(&mut self, until: Moment) -> bool {
        self.rewind();
        (self.held_until, self.begins_again) = (Some(until), true);
        !std::mem::replace(&mut self.is_slowed, true)
    }

    /// Goes on when the time is over.
    pub(super) fn go_on(&mut self, now: Moment) {
        self.held_until.take_if(|until| *until <= now);
    }

    pub(super) fn held_until(&self) -> Option<Moment> {
        self.held_until
    }

    /// From when on there is something to send, or under way; `None` when all is delivered.
    pub(super) fn pending_at(&self) -> Option<Moment> {
        self.is_pending().then(|| self.held_until.unwrap_or(Moment(0)))
    }

    pub(super) fn acknowledge(&mut self, ack: &Ack) -> AckMeaning {
        if ack.spool_epoch != self.epoch {
            return AckMeaning::Nothing;
        }
        if ack.through > self.highest {
            return AckMeaning::RolledBack;
        }
        while let Some(batch) = self.in_flight.pop_front_if(|batch| batch.last_sequence <= ack.through) {
            self.in_flight_bytes -= batch.bytes;
        }
        self.sent = self.sent.max(ack.through);
        if ack.through <= self.confirmed {
            return AckMeaning::Nothing;
        }
        self.confirmed = ack.through;
        self.is_slowed &= self.is_pending();
        AckMeaning::Forget(ack.through)
    }

    /// The server has lost what it confirmed: everything behind what it knows is sent again. Answers from
    /// which number on; `None` when that is known already, as each message that was under way is answered.
    /// One of a later epoch says that the spool is another than the server knows, as on a device that was
    /// reimaged.
    pub(super) fn resend(&mut self, resend: &Resend, events_after: u64) -> Option<u64> {
        self.known_epoch = self.known_epoch.max(resend.spool_epoch);
        let after = resend.after.max(events_after);
        if resend.spool_epoch != self.epoch || after >= self.confirmed {
            return None;
        }
        self.rewind();
        (self.confirmed, self.sent) = (after, after);
        Some(after)
    }

    /// The link is gone: what was not acknowledged is sent again. Dropped events are not looked for again.
    pub(super) fn rewind(&mut self) {
        if !self.in_flight.is_empty() {
            self.sent = self.confirmed;
        }
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.is_reading = false;
    }

    /// The epoch that a new one must lie above.
    pub(super) fn highest_epoch(&self) -> Epoch {
        self.epoch.max(self.known_epoch)
    }

    /// Begins a history in which nothing is confirmed; answers behind which number it begins.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) -> u64 {
        self.epoch = epoch;
        self.rewind();
        self.confirmed
    }

    pub(super) fn oldest_sent_at(&self) -> Option<Moment> {
        self.in_flight.front().map(|batch| batch.sent_at)
    }
}
