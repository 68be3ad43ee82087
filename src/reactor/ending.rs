//! Ends of links: by failure, by decision, by deadline.

use super::backend::Backend;
use super::channel::ChannelError;
use super::link::{GOODBYE_MILLISECONDS, Leaving, Link, Place, Stage, Transition, reason_of};
use super::turn::Reactor;
use crate::machine::close::CloseReason;
use crate::machine::device_state::LinkRef;
use crate::machine::endpoint::Close;
use crate::wire::time::Moment;

/// Entries among the deadlines of links that have gone, beyond as many as there are links, that may wait
/// until they come due.
const ENTRIES_LEFT_MAX: usize = 1_024;

impl<B: Backend> Reactor<B> {
    pub(super) fn fail(&mut self, slot: usize, error: &ChannelError) {
        // It was closed by the endpoint, and can't even be told.
        let is_closed = self.endpoint.is_closed(slot);
        if let Some(link) = self.endpoint.look_at(slot) {
            log::debug!("{}: {error}", self.who(slot));
            match (link.stage(), error) {
                _ if is_closed => return self.forget(slot),
                (Stage::Handshaking(arriving), ChannelError::Refused(_)) => {
                    self.backend.refused_at(arriving.peer.ip());
                }
                _ => {}
            }
        }
        self.leave(slot, reason_of(error));
    }

    /// Closes a link for a reason: what is ready is still sent, and the peer's goodbye awaited for a while.
    pub(super) fn leave(&mut self, slot: usize, reason: CloseReason) {
        let Some(name) = self.endpoint.name(slot) else { return };
        self.endpoint.close(&self.now, name, reason, &*self.backend);
        self.carry_out();
    }

    /// The endpoint has closed a link: what was said on it is with the channel.
    pub(super) fn finish_leaving(&mut self, close: &Close) {
        let Close { link: name, reason, device, was_arriving } = *close;
        self.counters.closed(reason);
        let Some(slot) = self.endpoint.slot_of(name) else { return };
        self.end_arrival(slot);
        // Anybody can connect, as often as he likes: their ends are summarised, by reason.
        let is_stranger = !matches!(reason, CloseReason::EnrolmentDone | CloseReason::Stopping)
            && (was_arriving || device.is_none());
        if is_stranger {
            self.counters.strangers.ended(reason, || self.who(slot));
        }
        let level = match reason {
            _ if is_stranger => log::Level::Debug,
            CloseReason::PeerClosed
            | CloseReason::EnrolmentDone
            | CloseReason::Stopping
            // Thousands of them in a second are others waiting, or a device that is hostile, which the
            // counter shows.
            | CloseReason::Overloaded
            | CloseReason::ExtraLink
            | CloseReason::Idle => log::Level::Debug,
            _ => log::Level::Info,
        };
        // The address is asked of the system, and not for nothing.
        if log::log_enabled!(level) {
            log::log!(level, "{}: closed: {reason}", self.who(slot));
        }
        let Some(link) = self.endpoint.connection_at(slot) else { return };
        let deadline = self.now.moment.plus_milliseconds(GOODBYE_MILLISECONDS);
        let pending = link.pending();
        pending.transition = Some(Transition::Leaving(Leaving { discarded: 0, is_sent: false, deadline }));
        pending.inbox = Vec::new();
        link.channel.close_notify();
        match reason {
            // Nobody listens any more, or never did.
            CloseReason::PeerReset
            | CloseReason::SlowReader
            | CloseReason::HandshakeTimeout
            | CloseReason::HandshakeEvicted
            | CloseReason::SilentStranger
            | CloseReason::StrangerEvicted
            | CloseReason::ExtraLink
            | CloseReason::HeldMost
            | CloseReason::Idle => self.forget(slot),
            _ => {
                self.mark_dirty(slot);
                self.rearm(slot);
                match device {
                    Some(device) => self.enter_extra(device, name),
                    None => self.leave_as_stranger(slot, name),
                }
            }
        }
    }

    /// Name of a link's peer, for the log.
    pub(super) fn who(&self, slot: usize) -> String {
        let peer = self.endpoint.look_at(slot).and_then(Link::address);
        match (self.endpoint.device_at(slot), peer) {
            (Some(device), Some(peer)) => format!("device {device} at {peer}"),
            (Some(device), None) => format!("device {device}"),
            (None, Some(peer)) => peer.to_string(),
            (None, None) => "a peer that has gone".to_owned(),
        }
    }

    /// Closes a link for a reason without a word, whatever it is at.
    pub(super) fn cut(&mut self, slot: usize, reason: CloseReason) {
        if self.endpoint.is_closed(slot) {
            self.forget(slot);
        } else {
            self.leave(slot, reason);
        }
    }

    /// Closes the links that have the largest part in it when all together hold too much.
    pub(super) fn close_holders(&mut self) {
        for link in self.holdings.to_close(self.now.moment) {
            if let Some(slot) = self.endpoint.slot_of(link) {
                self.cut(slot, CloseReason::HeldMost);
            }
        }
        self.endpoint.set_fetch_room(!self.holdings.is_half_full());
    }

    /// The end of a link that was closed.
    pub(super) fn forget(&mut self, slot: usize) {
        let Some(name) = self.endpoint.name(slot) else { return };
        let device = self.endpoint.device_at(slot);
        let Some(mut link) = self.endpoint.remove(name) else { return };
        // The last bytes, if the socket takes them; the socket is closed either way.
        let _ = link.channel.flush_to(&mut link.socket);
        let _ = self.poll.registry().deregister(&mut link.socket);
        self.counters.links_open.take_one();
        self.holdings.forget(name);
        if let (Some(device), Some(mailboxes)) = (device, &self.mailboxes) {
            mailboxes.leave_extra(device, name);
        }
        match link.place {
            Place::Handshake => {}
            Place::Device => self.counters.links_of_devices.take_one(),
            Place::Stranger => {
                self.counters.links_of_strangers.take_one();
                self.strangers.forget(name);
            }
        }
    }

    fn deadline(&self, slot: usize) -> Option<Moment> {
        let idle = self.settings.idle_deadline;
        let link = self.endpoint.look_at(slot)?;
        let own = match link.stage() {
            Stage::Handshaking(arriving) => arriving.deadline,
            Stage::Leaving(leaving) => leaving.deadline,
            Stage::Live => {
                let session = self.endpoint.session_at(slot)?;
                match session.is_persistent() || session.has_job() {
                    true => session.deadline(),
                    false => session.deadline().min(link.heard.moment() + idle),
                }
            }
        };
        Some(link.write_deadline().map_or(own, |write| write.min(own)))
    }

    /// The deadline may have moved forward: a later one is found when the earlier comes due.
    pub(super) fn rearm(&mut self, slot: usize) {
        let Some(deadline) = self.deadline(slot) else { return };
        let Some(name) = self.endpoint.name(slot) else { return };
        if let Some(link) = self.endpoint.connection_at(slot) {
            self.timers.bring_forward(&mut link.armed, deadline, self.now.moment, name.slot());
        }
    }

    pub(super) fn look_at_deadlines(&mut self) {
        if self.now.moment < self.lateness.judges_from() {
            return;
        }
        // Links that have gone leave their entries, for a minute at most: after a storm, or a fleet, those
        // are most of them.
        if self.timers.len() > 2 * self.endpoint.len() + ENTRIES_LEFT_MAX {
            let links = &self.endpoint;
            self.timers.retain(|at, slot| links.look_at(slot as usize).is_some_and(|link| link.armed == at));
        }
        while let Some(at) = self.timers.next() {
            let Some(owner) = self.timers.due(self.now.moment) else { return };
            let slot = owner as usize;
            let (Some(name), Some(deadline)) = (self.endpoint.name(slot), self.deadline(slot)) else {
                continue;
            };
            let Some(link) = self.endpoint.connection_at(slot) else { continue };
            if self.timers.is_over(at, &mut link.armed, deadline, self.now.moment, owner) {
                self.time_out(slot, name);
            }
        }
    }

    fn time_out(&mut self, slot: usize, name: LinkRef) {
        let Some(link) = self.endpoint.look_at(slot) else { return };
        let is_stuck = link.write_deadline().is_some_and(|deadline| deadline <= self.now.moment);
        match link.stage() {
            Stage::Leaving(_) => self.forget(slot),
            _ if is_stuck => self.leave(slot, CloseReason::SlowReader),
            Stage::Handshaking(_) => self.leave(slot, CloseReason::HandshakeTimeout),
            Stage::Live => {
                self.endpoint.handle_timeout(&self.now, name, &*self.backend);
                self.carry_out();
                if self.endpoint.is_live(slot) {
                    // Our own deadline, shorter than the session's.
                    self.leave(slot, CloseReason::Idle);
                }
            }
        }
    }
}
