//! Handshakes: they come behind everything that live links need, and within a budget.
//!
//! A step of a handshake takes up to 160 µs here and ten times as much on a small machine, and cannot be
//! interrupted. With a few hundred of them ready, as when a fleet comes back, working them off first would
//! keep an acknowledgement waiting for all of them. So live links are read, answered and written first in
//! every turn, then handshakes get [`HANDSHAKE_MICROSECONDS_PER_TURN`], and then the next turn begins.
//! Connections beyond that wait in the kernel's backlog ([`admission`](crate::machine::admission)).

use super::backend::Backend;
use super::clock::thread_microseconds;
use super::link::Link;
use super::turn::Reactor;
use crate::machine::admission::Entry;
use crate::wire::time::Moment;

/// Share of one turn that goes to handshakes: an acknowledgement may take this much longer, once or twice. A
/// turn without anything else to do costs a few microseconds, so that less would gain nothing.
const HANDSHAKE_MICROSECONDS_PER_TURN: u64 = 500;

/// Handshakes that may be ready to go on while another is accepted, in handshakes: those that have begun end
/// first, and the others wait in the backlog, where they cost nothing.
const READY_TO_ACCEPT_MAX: usize = 16;

/// Time for which connections have waited without a pause when the server counts as overloaded: a third of
/// the time that a device gives its attempt.
const OVERLOADED_SECONDS: u64 = 10;

impl<B: Backend> Reactor<B> {
    /// Goes on with handshakes, and begins new ones, as far as the budgets reach.
    pub(super) fn shake_hands(&mut self) {
        let has_work = self.acceptor.can_accept || !self.acceptor.arriving.is_empty();
        let processor = has_work.then(thread_microseconds);
        let begun = self.clock.moment();
        let mut before = begun;
        let mut has_accepted = false;
        while self.acceptor.admission.opens_at() <= before {
            // One is accepted in each turn whatever is ready, so that peers whose handshakes trickle do not
            // keep others out.
            let may_accept = !has_accepted || self.acceptor.arriving.len() < READY_TO_ACCEPT_MAX;
            let mut has_worked = may_accept && self.accept_one();
            has_accepted |= has_worked;
            if let Some(slot) = self.acceptor.arriving.pop_front() {
                has_worked = true;
                if let Some(link) = self.endpoint.connection_at(slot) {
                    link.is_ready = false;
                    self.read_link(slot);
                }
            }
            if !has_worked {
                break;
            }
            let now = self.clock.moment();
            let spent_microseconds = now.microseconds_since(before);
            before = now;
            self.acceptor.admission.spend(now, spent_microseconds);
            if now.microseconds_since(begun) >= HANDSHAKE_MICROSECONDS_PER_TURN {
                self.counters.handshake_budget_exhausted.add_one();
                // A thread that is woken, as the journal's is for each acknowledgement, waits until its core
                // is given away or its predecessor there has had some milliseconds of it: in a storm that
                // would be this one, turn after turn.
                std::thread::yield_now();
                break;
            }
        }
        if let Some(before) = processor {
            // Their cost counts, not their duration: while others have the processor, a handshake is no
            // dearer.
            self.counters.handshake_microseconds.add(thread_microseconds().saturating_sub(before));
        }
        if self.acceptor.can_accept {
            self.counters.handshakes_held_back.add_one();
            self.acceptor.busy_since.get_or_insert(self.now.moment);
        }
    }

    /// When handshakes have something to do; in the past: now. `None`: when something happens.
    pub(super) fn arrivals_at(&self, now: Moment) -> Option<Moment> {
        let goes_on_at = (!self.acceptor.arriving.is_empty()).then(|| self.acceptor.admission.opens_at());
        let accepts_at = (self.acceptor.can_accept).then(|| {
            let pause_ends_at = self.acceptor.accept_again.unwrap_or_default();
            match self.acceptor.admission.entry(now, self.has_room_to_accept()) {
                Entry::Now => pause_ends_at,
                Entry::At(moment) => moment.max(pause_ends_at),
                // Links have an end in other reactors too, which is not told here: after a pause it is looked
                // at again.
                Entry::Full(moment) => {
                    self.acceptor.accept_again.unwrap_or(moment).max(self.lateness.judges_from())
                }
            }
        });
        goes_on_at.into_iter().chain(accepts_at).min()
    }

    /// Whether devices wait for so long to be accepted that they may give up.
    pub(super) fn is_overloaded(&self) -> bool {
        self.acceptor
            .busy_since
            .is_some_and(|since| since.plus_seconds(OVERLOADED_SECONDS) <= self.now.moment)
    }

    /// Something has come on a link whose handshake is under way.
    pub(super) fn note_heard(&mut self, slot: usize) {
        let Some(name) = self.endpoint.name(slot) else { return };
        if let Some(arriving) = self.endpoint.connection_at(slot).and_then(Link::arriving) {
            arriving.progress = self.acceptor.admission.heard(self.now.moment, name, arriving.progress);
        }
    }

    /// The link's handshake is over, if it was under way.
    pub(super) fn end_arrival(&mut self, slot: usize) {
        let Some(name) = self.endpoint.name(slot) else { return };
        if let Some(arriving) = self.endpoint.connection_at(slot).and_then(Link::arriving) {
            self.acceptor.admission.end(name, arriving.progress);
            self.counters.handshakes_under_way.take_one();
        }
    }
}
