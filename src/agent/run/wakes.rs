//! Wakes of the server, as the loop hears them.

use super::{Agent, Now};
use crate::wire::datagram::{DATAGRAM_BYTES, NoticeKind};
use crate::wire::message::Goodbye;

/// Copies of a notice that is sent to see whether it arrives, in datagrams.
const PROBE_COPIES: usize = 3;

impl Agent {
    /// Opens the wake port when that is due; the next sync says so.
    pub(super) fn open_wake_port(&mut self, now: &Now) {
        if self.datagrams.open_when_due(now, self.poll.registry()) {
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

    /// Sends a notice that means nothing, and says which, so that the asker can see whether it arrives.
    pub(super) fn probe(&mut self) -> Vec<u8> {
        let (goodbye, bytes) = self.next_notice(NoticeKind::Probe);
        (0..PROBE_COPIES).for_each(|_| self.send_notice(&bytes));
        let state = self.datagrams.probe_state(goodbye.counter);
        serde_json::json!({
            "counter": state.counter,
            "port": state.port,
            "probes": state.probes,
            "probe_counter": state.probe_counter,
        })
        .to_string()
        .into_bytes()
    }
}
