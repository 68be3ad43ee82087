//! How links end: by failure, by decision, by deadline.

use super::backend::Backend;
use super::channel::ChannelError;
use super::drive::Taken;
use super::link::{GOODBYE_MILLISECONDS, Leaving, Place, Stage, reason_of};
use super::turn::Reactor;
use crate::machine::close::CloseReason;
use crate::machine::device_state::LinkRef;
use crate::wire::time::Moment;

/// Entries among the deadlines of links that have gone, beyond as many as there are links, that may wait until they come due, in entries.
const ENTRIES_LEFT_MAX: usize = 1_024;

impl<B: Backend> Reactor<B> {
    pub(super) fn fail(&mut self, slot: usize, error: &ChannelError) {
        if let Some(link) = self.links.get(slot) {
            log::debug!("{}: {error}", link.who());
            match (&link.stage, error) {
                (Stage::Leaving(_), _) => return self.forget(slot),
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
        let Some(name) = self.links.name(slot) else { return };
        let Some(link) = self.links.get(slot) else { return };
        if matches!(link.stage, Stage::Leaving(_)) {
            return;
        }
        self.end_arrival(slot);
        let Some(link) = self.links.get(slot) else { return };
        // Anybody can connect, as often as he likes: their ends are summarised, by reason.
        let is_stranger = !matches!(reason, CloseReason::EnrolmentDone | CloseReason::Stopping)
            && match &link.stage {
                Stage::Handshaking(_) => true,
                Stage::Live(session) => session.device().is_none(),
                Stage::Leaving(_) => false,
            };
        if is_stranger {
            self.counters.strangers.ended(reason, || link.who());
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
        // Who it is is asked of the system, and not for nothing.
        if log::log_enabled!(level) {
            log::log!(level, "{}: closed: {reason}", link.who());
        }
        self.counters.closed(reason);
        let device = link.device();
        let deadline = self.now.moment.plus_milliseconds(GOODBYE_MILLISECONDS);
        link.stage = Stage::Leaving(Box::new(Leaving { device, discarded: 0, is_sent: false, deadline }));
        if let Some(pending) = &mut link.pending {
            pending.inbox = Vec::new();
        }
        link.tidy();
        link.channel.close_notify();
        if std::mem::take(&mut link.is_persistent) {
            self.counters.links_persistent.take_one();
        }
        if let Some(device) = device {
            let (backend, now) = (&self.backend, &self.now);
            // The late end of an old link says nothing of the device.
            let has_appended = backend.with_record(device, |record| {
                record.link == Some(name) && {
                    record.link = None;
                    backend.settle(now, record)
                }
            });
            self.has_appended |= has_appended == Some(true);
        }
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

    /// Closes a link for a reason without a word, whatever it is at.
    pub(super) fn cut(&mut self, slot: usize, reason: CloseReason) {
        match self.links.get(slot).map(|link| &link.stage) {
            Some(Stage::Leaving(_)) => self.forget(slot),
            _ => self.leave(slot, reason),
        }
    }

    /// Closes the links that have the largest part in it when all together hold too much.
    pub(super) fn close_holders(&mut self) {
        for link in self.holdings.to_close(self.now.moment) {
            if let Some(slot) = self.links.slot_of(link) {
                self.cut(slot, CloseReason::HeldMost);
            }
        }
    }

    /// The end of a link that was closed.
    pub(super) fn forget(&mut self, slot: usize) {
        let name = self.links.name(slot);
        if let Some(mut link) = self.links.remove(slot) {
            // The last lines, if the socket takes them; the socket is closed either way.
            let _ = link.channel.flush_to(&mut link.socket);
            let _ = self.poll.registry().deregister(&mut link.socket);
            self.counters.links_open.take_one();
            let Some(name) = name else { return };
            self.holdings.forget(name);
            if let (Some(device), Some(mailboxes)) = (link.device(), &self.mailboxes) {
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
    }

    fn deadline(&mut self, slot: usize) -> Option<Moment> {
        let idle = self.settings.idle_deadline;
        let link = self.links.get(slot)?;
        let own = match &link.stage {
            Stage::Handshaking(arriving) => arriving.deadline,
            Stage::Leaving(leaving) => leaving.deadline,
            Stage::Live(session) => match session.is_persistent() || session.has_job() {
                true => session.deadline(),
                false => session.deadline().min(link.heard.moment() + idle),
            },
        };
        Some(link.write_deadline().map_or(own, |write| write.min(own)))
    }

    /// The deadline may have moved forward: a later one is found when the earlier comes due.
    pub(super) fn rearm(&mut self, slot: usize) {
        let Some(deadline) = self.deadline(slot) else { return };
        let Some(name) = self.links.name(slot) else { return };
        if let Some(link) = self.links.get(slot) {
            self.timers.bring_forward(&mut link.armed, deadline, self.now.moment, name.slot());
        }
    }

    pub(super) fn look_at_deadlines(&mut self) {
        if self.now.moment < self.lateness.judges_from() {
            return;
        }
        // Links that have gone leave their entries, for a minute at most: after a storm, or a fleet, those are most of them.
        if self.timers.len() > 2 * self.links.len() + ENTRIES_LEFT_MAX {
            let links = &self.links;
            self.timers.retain(|at, slot| links.armed(slot as usize) == Some(at));
        }
        while let Some(at) = self.timers.next() {
            let Some(owner) = self.timers.due(self.now.moment) else { return };
            let slot = owner as usize;
            let (Some(name), Some(deadline)) = (self.links.name(slot), self.deadline(slot)) else { continue };
            let Some(link) = self.links.get(slot) else { continue };
            if self.timers.is_over(at, &mut link.armed, deadline, self.now.moment, owner) {
                self.time_out(slot, name);
            }
        }
    }

    fn time_out(&mut self, slot: usize, name: LinkRef) {
        let now = self.now;
        let Some(link) = self.links.get(slot) else { return };
        let is_stuck = link.write_deadline().is_some_and(|deadline| deadline <= now.moment);
        match &mut link.stage {
            Stage::Leaving(_) => self.forget(slot),
            _ if is_stuck => self.leave(slot, CloseReason::SlowReader),
            Stage::Handshaking(_) => self.leave(slot, CloseReason::HandshakeTimeout),
            Stage::Live(session) => {
                let mut commands = Vec::new();
                session.handle_timeout(&now, &mut commands);
                let device = session.device();
                if self.execute(slot, name, device, commands, &mut false) == Taken::Done {
                    // Our own deadline, shorter than the session's.
                    self.leave(slot, CloseReason::Idle);
                }
            }
        }
    }
}
