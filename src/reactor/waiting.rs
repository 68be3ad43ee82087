//! How a reactor waits: for sockets, for the disk, for letters and for deadlines.

use std::io;
use std::time::Duration;

use super::backend::Backend;
use super::link::Stage;
use super::links::Links;
use super::turn::{DOORBELL, LISTENER, Reactor, ReactorError};
use crate::wire::time::Moment;

/// How long to wait before links without room are tried again, in milliseconds, when no doorbell says so earlier.
const BLOCKED_RETRY_MILLISECONDS: u64 = 5;

impl<B: Backend> Reactor<B> {
    /// Waits until there is something to do, and notes what has become ready.
    pub(super) fn wait(&mut self) -> Result<(), ReactorError> {
        let now = self.clock.now().moment;
        let mut next = self.timers.next();
        let mut earlier = |moment: Moment| next = Some(next.map_or(moment, |next| next.min(moment)));
        if let Some(moment) = self.arrivals_at(now) {
            earlier(moment);
        }
        if !self.blocked.is_empty() || self.draining_since.is_some() {
            earlier(self.now.moment.plus_milliseconds(BLOCKED_RETRY_MILLISECONDS));
        }
        let is_due =
            !self.ready.is_empty() || self.is_stopping_links() || next.is_some_and(|moment| moment <= now);
        if is_due || !self.look_out(now)? {
            let timeout = if is_due || self.is_durable_meanwhile() {
                Some(Duration::ZERO)
            } else {
                // The poll waits for whole milliseconds. One more microsecond: a deadline that is polled for too early would be polled
                // for again.
                next.map(|moment| Duration::from_micros(moment.microseconds_since(now) + 1))
            };
            self.poll(timeout)?;
        }
        self.note_readiness();
        Ok(())
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

    /// Looks out for what comes at once, when something is expected: the disk's word, or what devices say to their acknowledgements. Whether something
    /// has come. Whoever else wants the processor has it.
    fn look_out(&mut self, since: Moment) -> Result<bool, ReactorError> {
        let position = self.acks.waits_for();
        if position.is_none() && !std::mem::take(&mut self.has_acknowledged) {
            return Ok(false);
        }
        let at_most_microseconds = self.look_out.microseconds(since);
        self.events.clear();
        let mut microseconds = 0;
        let mut has_come = false;
        while !has_come && microseconds < at_most_microseconds {
            self.poll(Some(Duration::ZERO))?;
            has_come = !self.events.is_empty()
                || position.is_some_and(|position| position <= self.backend.durable());
            if !has_come {
                std::thread::yield_now();
            }
            microseconds = self.clock.now().moment.microseconds_since(since);
        }
        self.look_out.has_looked(since, microseconds, has_come);
        Ok(has_come)
    }

    fn note_readiness(&mut self) {
        for event in &self.events {
            match event.token() {
                LISTENER => self.can_accept = true,
                DOORBELL => {}
                token => {
                    let Some(slot) = Links::slot_of_token(token) else { continue };
                    let Some(link) = self.links.get(slot) else { continue };
                    let is_ending = event.is_read_closed() || event.is_error();
                    link.is_ending |= is_ending;
                    if (event.is_readable() || is_ending) && !link.is_ready {
                        link.is_ready = true;
                        match link.stage {
                            Stage::Handshaking(_) => self.arriving.push_back(slot),
                            Stage::Live(_) | Stage::Leaving(_) => self.ready.push_back(slot),
                        }
                    }
                    if event.is_writable() && !link.is_dirty {
                        link.is_dirty = true;
                        self.dirty.push(slot);
                    }
                }
            }
        }
    }

    /// Asks to be woken when the durable position moves, if anything waits for it. Whether it has moved far enough already.
    fn is_durable_meanwhile(&self) -> bool {
        if self.acks.is_empty() && self.blocked.is_empty() {
            return false;
        }
        self.mailbox.wait_elsewhere();
        self.acks.waits_for().is_some_and(|position| position <= self.backend.durable())
    }
}
