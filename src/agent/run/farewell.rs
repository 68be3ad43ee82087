//! Last words: what the agent does before it ends, and before the device sleeps.
//!
//! What the spool holds is delivered first, as far as there is time; then the last word is said on the link if there is one, and in three
//! copies of a datagram. Nobody answers it, so nothing is waited for. All of it together takes less than two seconds, with the server
//! away too: a machine that shuts down must not wait for us.

use super::{Agent, Now};
use crate::agent::local::server::ClientKey;
use crate::wire::datagram::{DATAGRAM_BYTES, NoticeKind};
use crate::wire::message::ToServer;
use crate::wire::time::Moment;

/// How long the delivery of events may take, in milliseconds.
const DELIVERY_MILLISECONDS: u64 = 1_200;

/// How long the service manager may take to say what is coming, in milliseconds.
const KIND_MILLISECONDS: u64 = 500;

/// When the copies of the datagram leave, after the first, in milliseconds.
const COPIES_MILLISECONDS: [u64; 3] = [0, 70, 150];

/// How much further the wall clock may get than the other one before the device counts as having slept, in seconds.
const SLEPT_SECONDS: u64 = 20;

/// How long the device may be about to sleep before the agent goes on, in seconds: it does not sleep after all.
const AWAKE_SECONDS: u64 = 60;

const _: () = assert!(DELIVERY_MILLISECONDS + COPIES_MILLISECONDS[2] < 2_000);
const _: () = assert!(COPIES_MILLISECONDS[2] <= 200);

/// What follows the last word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// The agent ends.
    End,
    /// The device sleeps; this local program waits to hear that it may.
    Sleep(ClientKey),
}

/// A last word that is being said.
#[derive(Debug)]
pub(super) struct Farewell {
    then: Then,
    /// `None`: the service manager is being asked.
    kind: Option<NoticeKind>,
    since: Moment,
    copies: Option<Copies>,
}

#[derive(Debug)]
struct Copies {
    bytes: [u8; DATAGRAM_BYTES],
    sent: usize,
    since: Moment,
}

/// The device is about to sleep, or sleeps, or has just woken up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asleep {
    since: Now,
}

impl Agent {
    /// Begins to say the last word. A second call while the first is under way changes nothing.
    pub(super) fn begin_farewell(&mut self, now: &Now, then: Then) {
        if self.farewell.is_some() {
            return;
        }
        self.machine.end();
        let mut kind = None;
        match then {
            Then::Sleep(_) => kind = Some(NoticeKind::Suspend),
            Then::End => {
                if let Err(error) = self.helpers.ask_why(&self.settings.collect.root) {
                    log::debug!("no thread to ask whether the system shuts down: {error}");
                    kind = Some(NoticeKind::AgentStopped);
                }
            }
        }
        self.farewell = Some(Farewell { then, kind, since: now.moment, copies: None });
    }

    /// The service manager has said what is coming.
    pub(super) fn heard_why(&mut self, why: NoticeKind) {
        if let Some(farewell) = &mut self.farewell {
            farewell.kind.get_or_insert(why);
        }
    }

    /// When the farewell goes on by itself.
    pub(super) fn farewell_timeout(&self) -> Option<Moment> {
        let farewell = self.farewell.as_ref()?;
        Some(match &farewell.copies {
            Some(copies) => {
                let next = COPIES_MILLISECONDS.get(copies.sent).copied().unwrap_or_default();
                copies.since.plus_milliseconds(next)
            }
            None if self.machine.has_delivered() => farewell.since.plus_milliseconds(KIND_MILLISECONDS),
            None => farewell.since.plus_milliseconds(DELIVERY_MILLISECONDS),
        })
    }

    /// Goes on with the farewell. Whether the agent is to end now.
    pub(super) fn go_on_with_farewell(&mut self, now: &Now) -> bool {
        let Some(farewell) = &mut self.farewell else { return false };
        if farewell.copies.is_none() {
            let waited = now.moment.microseconds_since(farewell.since) / 1_000;
            let has_delivered = self.machine.has_delivered() || waited >= DELIVERY_MILLISECONDS;
            let kind = match farewell.kind {
                None if waited >= KIND_MILLISECONDS => Some(NoticeKind::AgentStopped),
                kind => kind,
            };
            let Some(kind) = kind.filter(|_| has_delivered) else { return false };
            let (goodbye, bytes) = self.datagrams.last_word(kind);
            if self.machine.is_connected() {
                let mut frame = Vec::new();
                ToServer::Goodbye(goodbye).write_to(&mut frame);
                // The datagram says the same.
                let _ = self.connection.send(&frame);
            }
            self.connection.close();
            self.connected_since = None;
            farewell.copies = Some(Copies { bytes, sent: 0, since: now.moment });
            log::info!("last word: {kind}");
        }
        let Some(copies) = &mut farewell.copies else { return false };
        let elapsed = now.moment.microseconds_since(copies.since) / 1_000;
        let mut due = Vec::new();
        while COPIES_MILLISECONDS.get(copies.sent).is_some_and(|at| elapsed >= *at) {
            due.push(copies.bytes);
            copies.sent += 1;
        }
        let (is_over, then) = (copies.sent == COPIES_MILLISECONDS.len(), farewell.then);
        for bytes in due {
            self.send_notice(&bytes);
        }
        if !is_over {
            return false;
        }
        match then {
            Then::End => return true,
            Then::Sleep(key) => {
                self.farewell = None;
                self.machine.disconnected(now, "the device goes to sleep");
                self.asleep = Some(Asleep { since: *now });
                if let Some(clients) = &mut self.clients {
                    clients.answer_owed(key, b"{\"noticed\":true}");
                }
            }
        }
        false
    }

    /// Sends a datagram to where the server hears notices, if that is known.
    pub(super) fn send_notice(&self, bytes: &[u8]) {
        let Some(mut server) = self.connection.last_address() else {
            return log::debug!("no notice: the server's address was never found");
        };
        if let Some(port) = self.machine.notice_port() {
            server.set_port(port);
        }
        self.datagrams.send(bytes, server);
    }

    /// When to look whether the device has woken up.
    pub(super) fn sleep_timeout(&self, now: &Now) -> Option<Moment> {
        self.asleep.map(|_| now.moment.plus_seconds(1))
    }

    /// The device has woken up, or does not sleep after all: somebody says so, or the clocks do, of which one stands still in sleep.
    pub(super) fn wake_up_when_due(&mut self, now: &Now, is_said: bool) {
        let Some(Asleep { since }) = self.asleep else {
            if is_said {
                self.machine.resumed(now);
            }
            return;
        };
        let awake_seconds = now.moment.microseconds_since(since.moment) / 1_000_000;
        let passed_seconds = now.wall.0.saturating_sub(since.wall.0) / 1_000;
        let has_slept = passed_seconds > awake_seconds + SLEPT_SECONDS;
        if is_said || has_slept || awake_seconds >= AWAKE_SECONDS {
            log::info!("back: the device was asleep, or was about to be");
            self.asleep = None;
            self.machine.resumed(now);
            self.sections.is_wanted = true;
        }
    }
}
