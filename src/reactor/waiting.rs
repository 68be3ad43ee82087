//! How a reactor waits: for sockets, for the disk, for letters and for deadlines.

use std::io;
use std::time::Duration;

use super::backend::Backend;
use super::link::Stage;
use super::links::Links;
use super::turn::{DOORBELL, LISTENER, Reactor, ReactorError};
use crate::machine::look_out::LookOut;
use crate::wire::time::Moment;

/// How long to wait before links without room are tried again, in milliseconds, when no doorbell says so earlier.
const BLOCKED_RETRY_MILLISECONDS: u64 = 5;

/// The part of a reactor's time that it may look out for the disk, as its divisor. The larger the part, the sooner an acknowledgement at low load, and the dearer
/// those of many events in flight on one link: with an eighth for both kinds together one took 1.9 to 2.1 durable writes, with these 1.6 to 1.8.
const DISK_SHARE: u64 = 5;

/// The same for what devices say next: most say nothing.
const DEVICES_SHARE: u64 = 16;

/// What a reactor may expect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// The disk's word on what was appended, or more to append: to wait for the disk is most of an acknowledgement's time.
    Disk,
    /// What devices say to acknowledgements that have just left.
    Devices,
}

/// A reactor's allowances.
#[derive(Debug)]
pub(super) struct LookOuts {
    disk: LookOut,
    devices: LookOut,
}

impl Default for LookOuts {
    fn default() -> Self {
        Self { disk: LookOut::new(DISK_SHARE), devices: LookOut::new(DEVICES_SHARE) }
    }
}

impl LookOuts {
    fn of(&mut self, what: Expected) -> &mut LookOut {
        match what {
            Expected::Disk => &mut self.disk,
            Expected::Devices => &mut self.devices,
        }
    }
}

impl<B: Backend> Reactor<B> {
    /// Waits until there is something to do, and notes what has become ready.
    pub(super) fn wait(&mut self) -> Result<(), ReactorError> {
        let now = self.clock.moment();
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
        let expected = self.expected();
        let has_come = !is_due && expected.is_some_and(|what| self.look_out(what, now));
        if !has_come {
            let timeout = if is_due || self.is_durable_meanwhile() {
                Some(Duration::ZERO)
            } else {
                // The poll waits for whole milliseconds. One more microsecond: a deadline that is polled for too early would be polled
                // for again.
                next.map(|moment| Duration::from_micros(moment.microseconds_since(now) + 1))
            };
            self.poll(timeout)?;
        }
        if !is_due && let Some(what) = expected {
            let waited_microseconds = self.clock.moment().microseconds_since(now);
            self.look_outs.of(what).has_waited(waited_microseconds);
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

    /// What is likely to come soon.
    fn expected(&mut self) -> Option<Expected> {
        let has_acknowledged = std::mem::take(&mut self.has_acknowledged);
        if !self.acks.is_empty() {
            Some(Expected::Disk)
        } else {
            has_acknowledged.then_some(Expected::Devices)
        }
    }

    /// Looks out for what is expected, before it sleeps: whether something has come. Whoever else wants the processor has it meanwhile.
    fn look_out(&mut self, what: Expected, since: Moment) -> bool {
        let position = self.acks.waits_for();
        let at_most_microseconds = self.look_outs.of(what).microseconds(since);
        self.events.clear();
        let mut microseconds = 0;
        let mut has_come = false;
        while !has_come && microseconds < at_most_microseconds {
            if self.poll(Some(Duration::ZERO)).is_err() {
                // It fails again where that is told.
                break;
            }
            has_come = !self.events.is_empty()
                || position.is_some_and(|position| position <= self.backend.durable());
            if !has_come {
                std::thread::yield_now();
            }
            microseconds = self.clock.moment().microseconds_since(since);
        }
        self.look_outs.of(what).has_looked(since, microseconds, has_come);
        has_come
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
