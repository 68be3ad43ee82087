//! The server: what it says on the link and in datagrams, what it is sent, and when it can't be reached.

use super::connection::Progress;
use super::{Agent, Now};
use crate::machine::agent::{LinkEnd, UNSENT_BYTES_TARGET};
use crate::wire::datagram::{DATAGRAM_BYTES, NoticeKind};
use crate::wire::message::{Goodbye, ToServer};

/// Most messages of the server in one turn.
const MESSAGES_PER_TURN_MAX: usize = 256;

impl Agent {
    /// Hears what the server has said, within a budget. Whether it has said anything.
    pub(super) fn hear_server(&mut self, now: &Now) -> bool {
        for heard in 0..MESSAGES_PER_TURN_MAX {
            let progress = self.connection.progress(now.moment, self.poll.registry());
            self.note_unsent(now, self.connection.unsent_bytes());
            match progress {
                None => return heard > 0,
                Some(Progress::Open) => {
                    log::info!("connected to {}", self.connection.server());
                    self.connected_since = Some(now.wall);
                    self.machine.connected(now);
                }
                Some(Progress::Message(message)) => self.machine.message(now, message),
                Some(Progress::Over(reason)) => self.lost(now, &reason),
                Some(Progress::Refused(reason)) => {
                    self.machine.certificate_refused(now, &reason);
                    self.note_lost(now, &reason);
                }
            }
        }
        self.has_more = true;
        true
    }

    /// The socket was offered all, and left `bytes` bytes.
    fn note_unsent(&mut self, now: &Now, bytes: usize) {
        let had_room = self.machine.has_room();
        self.machine.set_unsent(now, bytes);
        self.has_more |= !had_room && self.machine.has_room();
    }

    /// The attempt failed or the link broke.
    pub(super) fn lost(&mut self, now: &Now, reason: &str) {
        self.machine.disconnected(now, reason);
        self.note_lost(now, reason);
    }

    fn note_lost(&mut self, now: &Now, reason: &str) {
        let was_connected = self.connected_since.take().is_some();
        match self.machine.status(now).last_error {
            Some(error) => {
                self.last_error_at = Some(now.wall);
                self.warn(&error);
            }
            None if was_connected => log::info!("disconnected: {reason}"),
            None => {}
        }
    }

    /// The machine ends the link, or gives an attempt up: where it was tried, and why.
    pub(super) fn note_close(&mut self, now: &Now, end: LinkEnd) {
        let why = self.machine.status(now).last_error.unwrap_or_default();
        match end {
            LinkEnd::Silent | LinkEnd::Refused => {
                let told = self.connection.told();
                let separator = if told.is_empty() { "" } else { ": " };
                self.warn(&format!("{why}{separator}{told}"));
                self.last_error_at = Some(now.wall);
            }
            LinkEnd::Done | LinkEnd::Later | LinkEnd::NewSpoolEpoch | LinkEnd::NewCertificate => {
                log::debug!("closing the link: {end:?}");
            }
        }
    }

    /// Says what is wrong with the server; names it unless that is said already.
    pub(super) fn warn(&self, error: &str) {
        let server = self.connection.server().to_string();
        if error.starts_with(&server) {
            log::warn!("{error}");
        } else {
            log::warn!("{server}: {error}");
        }
    }

    /// Sends a frame. A long message comes in many of them: the socket is offered what has come together,
    /// before the machine makes more.
    pub(super) fn send(&mut self, now: &Now, frame: &[u8]) {
        if let Err(error) = self.connection.send(frame) {
            self.connection.close();
            self.lost(now, &error.to_string());
        } else if self.connection.unsent_bytes() >= UNSENT_BYTES_TARGET {
            let left = self.connection.flush();
            self.note_unsent(now, left);
        }
    }

    pub(super) fn connect(&mut self, now: &Now) {
        self.connection.set_resolving();
        if let Err(error) = self.helpers.resolve(self.connection.server()) {
            self.connection.close();
            self.lost(now, &format!("no thread to resolve the server's name: {error}"));
        }
    }
}

/// Copies of a notice that is sent to see whether it arrives, in datagrams.
const PROBE_COPIES: usize = 3;

impl Agent {
    /// Opens the wake port when that is due; the next sync says so.
    pub(super) fn open_wake_port(&mut self, now: &Now) {
        if self.datagrams.port.open_when_due(now.moment, self.poll.registry()) {
            self.machine.set_reach(self.datagrams.reach());
            // Something may have come before the poll watched it.
            self.has_more = true;
        }
    }

    pub(super) fn hear_wakes(&mut self, now: &Now) {
        let mut woken = Vec::new();
        self.has_more |= self.datagrams.hear(now, &mut woken);
        if woken.is_empty() {
            return;
        }
        self.machine.set_reach(self.datagrams.reach());
        for reason in woken {
            self.machine.woken(now, reason);
        }
    }

    /// The next notice, in both of its forms. The next sync says that it was sent before: so it is over then,
    /// for the server.
    pub(super) fn next_notice(&mut self, kind: NoticeKind) -> (Goodbye, [u8; DATAGRAM_BYTES]) {
        let notice = self.datagrams.next_notice(kind);
        self.machine.set_reach(self.datagrams.reach());
        notice
    }

    /// Ends the link: says why on it, if there is one; the datagram says the same.
    pub(super) fn part(&mut self, goodbye: Goodbye) {
        if self.machine.is_connected() {
            let mut frame = Vec::new();
            ToServer::Goodbye(goodbye).write_to(&mut frame);
            let _ = self.connection.send(&frame);
        }
        self.connection.close();
    }

    /// Sends a notice that means nothing, and says which, so that the asker can see whether it arrives.
    pub(super) fn probe(&mut self) -> Vec<u8> {
        let (goodbye, bytes) = self.next_notice(NoticeKind::Probe);
        (0..PROBE_COPIES).for_each(|_| self.send_notice(&bytes));
        serde_json::to_vec(&self.datagrams.probe_state(goodbye.counter)).unwrap_or_default()
    }
}
