//! A reactor's wait: for sockets, for the disk, for messages and for deadlines; and a moment for more to
//! write at once.

use std::io;
use std::time::Duration;

use super::backend::Backend;
use super::link::Stage;
use super::turn::{LISTENER, Reactor, ReactorError, WAKER, slot_of};
use crate::wire::time::Moment;

/// Pause before links without room are tried again when no notification comes earlier.
const BLOCKED_RETRY_MILLISECONDS: u64 = 5;

impl<B: Backend> Reactor<B> {
    /// Waits until there is something to do, and notes what has become ready.
    pub(super) fn wait(&mut self) -> Result<(), ReactorError> {
        let now = self.clock.moment();
        let judges_from = self.lateness.judges_from();
        let mut next = self.timers.next().map(|deadline| deadline.moment().max(judges_from));
        let mut earlier = |moment: Moment| next = Some(next.map_or(moment, |next| next.min(moment)));
        if let Some(moment) = self.arrivals_at(now) {
            earlier(moment);
        }
        if let Some(until) = self.queues.held_until() {
            earlier(until);
        }
        if self.queues.is_any_blocked() || self.endpoint.is_draining() {
            earlier(self.now.moment.plus_milliseconds(BLOCKED_RETRY_MILLISECONDS));
        }
        let is_due = !self.queues.is_read_done()
            || self.endpoint.is_stopping_links()
            || next.is_some_and(|moment| moment <= now);
        let timeout = if is_due || self.is_durable_meanwhile() {
            Some(Duration::ZERO)
        } else {
            // The poll waits for whole milliseconds. One more microsecond: a deadline that is polled for too
            // early would be polled for again.
            next.map(|moment| Duration::from_micros(moment.microseconds_since(now) + 1))
        };
        self.poll(timeout)?;
        let (began, until) = (self.now.moment, timeout.map(|timeout| now + timeout));
        self.now = self.clock.now();
        if let Some(late_milliseconds) = self.lateness.turn(began, now, until, self.now.moment) {
            self.begin_late(late_milliseconds);
        }
        self.note_readiness();
        Ok(())
    }

    /// A turn that begins late: others have not waited as long as the clock says.
    fn begin_late(&mut self, late_milliseconds: u64) {
        self.counters.late_turns.add_one();
        log::warn!(
            "a reactor did not run for {}.{:03} s: for a while no link is closed for its silence",
            late_milliseconds / 1_000,
            late_milliseconds % 1_000
        );
        self.acceptor.busy_since = None;
        self.endpoint.put_off_drain(late_milliseconds);
    }

    fn poll(&mut self, timeout: Option<Duration>) -> Result<(), ReactorError> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            Err(error) => Err(ReactorError { what: "poll", error }),
        }
    }

    /// Reads what devices say to the acknowledgements that they have just been sent, for a moment: one
    /// durable write serves them with those that have spoken already. Other threads have the processor
    /// meanwhile.
    pub(super) fn delay_commit(&mut self) -> Result<(), ReactorError> {
        if !self.commit.is_due() || !self.acceptor.arriving.is_empty() || self.backend.is_flushing() {
            return Ok(());
        }
        let at_most_microseconds = self.commit.delay.begin();
        if at_most_microseconds == 0 {
            return Ok(());
        }
        let since = self.clock.moment();
        let mut waited_microseconds = 0;
        while self.commit.delay.is_missing() && waited_microseconds < at_most_microseconds {
            self.poll(Some(Duration::ZERO))?;
            if self.events.is_empty() {
                std::thread::yield_now();
            }
            self.note_readiness();
            self.read();
            waited_microseconds = self.clock.moment().microseconds_since(since);
        }
        self.commit.delay.has_waited(waited_microseconds);
        Ok(())
    }

    fn note_readiness(&mut self) {
        for event in &self.events {
            match event.token() {
                LISTENER => self.acceptor.can_accept = true,
                WAKER => {}
                token => {
                    let Some(slot) = slot_of(token) else { continue };
                    let Some(link) = self.endpoint.connection_at(slot) else { continue };
                    let is_ending = event.is_read_closed() || event.is_error();
                    if event.is_readable() || is_ending {
                        match link.stage() {
                            Stage::Handshaking(_) => self.acceptor.go_on(slot, link),
                            Stage::Live | Stage::Leaving(_) => self.queues.read(slot, link),
                        }
                    }
                    if event.is_writable() {
                        self.queues.write(slot, link);
                    }
                    if is_ending && let Some(name) = self.endpoint.name(slot) {
                        self.endpoint.note_left(name);
                    }
                }
            }
        }
    }

    /// Asks to be woken when the durable position moves, or the flush leadership is free, if anything waits
    /// for that. Whether it has come already.
    fn is_durable_meanwhile(&self) -> bool {
        if self.endpoint.acks().is_empty() && !self.queues.is_any_blocked() && !self.commit.is_behind_others()
        {
            return false;
        }
        self.mailbox.wait_elsewhere();
        let may_flush = self.commit.is_behind_others() && !self.backend.is_flushing();
        may_flush
            || self.endpoint.acks().waits_for().is_some_and(|position| position <= self.backend.durable())
    }
}
