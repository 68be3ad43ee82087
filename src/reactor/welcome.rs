//! From a finished handshake to a link that is a device's: who it is, whether there is room, what it takes over.

use super::backend::Backend;
use super::channel::{CertificateStatus, HandshakeCost};
use super::link::{Place, Stage};
use super::turn::Reactor;
use crate::concurrency::reactors::ToReactor;
use crate::machine::close::CloseReason;
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::machine::session::Session;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::message::{ErrorCode, ErrorReport, Later, ToAgent, ToServer};

/// What a peer without a certificate is told while no join token is valid.
const NO_VALID_TOKEN: &str = "no join token is valid at this server now: those that were made have expired, are used up or were \
     revoked; make one with 'musterctl token create'";

impl<B: Backend> Reactor<B> {
    /// The handshake may have ended: then the link gets its session. `false`: the link was closed.
    pub(super) fn finish_handshake(&mut self, slot: usize) -> bool {
        let Some(link) = self.links.get(slot) else { return false };
        if link.channel.is_handshaking() {
            return true;
        }
        let Some(peer) = link.channel.take_peer() else { return true };
        match peer.cost {
            Some(HandshakeCost::Resumed) => self.counters.handshakes_resumed.add_one(),
            _ => self.counters.handshakes_full.add_one(),
        }
        let certificate = peer.certificate.as_deref().map(CertificateHash::of);
        // Looked up now, whatever the handshake has seen: a resumed one brings the certificate of an earlier day.
        let device = match certificate.map(|hash| self.backend.certificate_status(&hash)) {
            None => None,
            Some(CertificateStatus::Known(device)) => Some(device),
            Some(CertificateStatus::Removed(device)) => {
                let who = || format!("device {device} at {}", link.who());
                self.counters.strangers.note_example(CloseReason::DeviceRemoved, who);
                self.say_removed(slot);
                return false;
            }
            Some(CertificateStatus::Unknown) => {
                // It came with a ticket that was given out here, so that it was enrolled.
                let _ = peer.certificate.as_deref().is_some_and(|shown| self.backend.has_issued(shown));
                let message = "this device is not enrolled at this server any more; to come back it has to enrol again with a new token";
                let (code, message) = (ErrorCode::NotEnrolled, message.into());
                self.send(slot, &ToAgent::Error(ErrorReport { code, message }));
                self.leave(slot, CloseReason::ForeignCertificate);
                return false;
            }
        };
        if device.is_none() && !self.backend.is_enrolment_open(self.clock.ages().wall) {
            let (code, message) = (ErrorCode::TokenUnknown, NO_VALID_TOKEN.into());
            self.send(slot, &ToAgent::Error(ErrorReport { code, message }));
            self.leave(slot, CloseReason::NoValidToken);
            return false;
        }
        self.end_arrival(slot);
        let Some(link) = self.links.get(slot) else { return false };
        link.stage = Stage::Live(Session::new(&self.now, device));
        if log::log_enabled!(log::Level::Debug) {
            log::debug!("{}: {}", link.who(), if device.is_some() { "has its link" } else { "a stranger" });
        }
        match device {
            None => self.enter_as_stranger(slot),
            Some(device) => {
                link.place = Place::Device;
                self.counters.links_of_devices.add_one();
                if let Some(name) = self.links.name(slot) {
                    self.enter_extra(device, name);
                }
                if !self.has_room_for(slot, device) || !self.is_let_in(slot, device, peer.cost) {
                    return false;
                }
            }
        }
        self.rearm(slot);
        true
    }

    /// The link has a place among the strangers, for which another one may have to go.
    fn enter_as_stranger(&mut self, slot: usize) {
        let Some(name) = self.links.name(slot) else { return };
        self.count_as_stranger(slot);
        if let Some(evicted) = self.strangers.enter(name)
            && let Some(slot) = self.links.slot_of(evicted)
        {
            self.cut(slot, CloseReason::StrangerEvicted);
        }
    }

    /// A link that is no device's is told why it is closed: it is a stranger from now on.
    pub(super) fn leave_as_stranger(&mut self, slot: usize, name: LinkRef) {
        self.count_as_stranger(slot);
        if let Some(evicted) = self.strangers.tell(name)
            && let Some(slot) = self.links.slot_of(evicted)
        {
            self.cut(slot, CloseReason::StrangerEvicted);
        }
    }

    fn count_as_stranger(&mut self, slot: usize) {
        if let Some(link) = self.links.get(slot)
            && std::mem::replace(&mut link.place, Place::Stranger) != Place::Stranger
        {
            self.counters.links_of_strangers.add_one();
        }
    }

    /// The device has this link beside its own, for which another one may have to go.
    pub(super) fn enter_extra(&mut self, device: DeviceId, name: LinkRef) {
        let Some(mailboxes) = &self.mailboxes else { return };
        let Some(evicted) = mailboxes.enter_extra(device, name) else { return };
        if let Some(slot) = self.links.slot_of(evicted) {
            self.cut(slot, CloseReason::ExtraLink);
        } else if !mailboxes.send(evicted, ToReactor::Close(evicted, CloseReason::ExtraLink)) {
            // It is found by its own deadline.
            log::debug!("link {evicted:?} could not be told that its device has too many");
        }
    }

    /// Room is kept for devices whose links are to stay; others are sent away when it is all that is left. `false`: the link was
    /// closed.
    fn has_room_for(&mut self, slot: usize, device: DeviceId) -> bool {
        let persistent = self.backend.persistent_devices();
        let reserved = persistent.saturating_sub(self.counters.links_persistent.get());
        if self.counters.links_of_devices.get() + reserved <= self.settings.links_max {
            return true;
        }
        let is_persistent =
            self.backend.with_record(device, |record| record.keep_connected).unwrap_or_default();
        if !is_persistent {
            self.send_away(slot, CloseReason::TooManyLinks);
        }
        is_persistent
    }

    /// While others wait for so long that they may give up, a device that only comes by is asked to come again when it is quieter. It
    /// needs another handshake then, so that this is for those whose handshake was cheap; and whoever is to stay, or is waited for, would
    /// only come again the sooner. `false`: the link was closed.
    fn is_let_in(&mut self, slot: usize, device: DeviceId, cost: Option<HandshakeCost>) -> bool {
        if cost != Some(HandshakeCost::Resumed) || !self.is_overloaded() {
            return true;
        }
        let is_awaited = |record: &mut DeviceState| record.keep_connected || record.is_called;
        if self.backend.with_record(device, is_awaited).unwrap_or_default() {
            return true;
        }
        self.send_away(slot, CloseReason::Overloaded);
        false
    }

    fn send_away(&mut self, slot: usize, reason: CloseReason) {
        let seconds = self.later_seconds();
        self.send(slot, &ToAgent::Later(Later::with_all(seconds)));
        self.leave(slot, reason);
    }

    /// The first word makes the link the device's, and ends the one that it had. A probe is none: whoever looks whether everything
    /// works takes nothing away. Nor does a link that its device has left already, and whose word was read late: the device may be on another one
    /// by now, and would stay away for a minute if that one was taken from it.
    pub(super) fn adopt(&mut self, slot: usize, name: LinkRef, device: DeviceId, message: &ToServer<'_>) {
        let Some(link) = self.links.get(slot) else { return };
        if link.is_adopted || matches!(message, ToServer::Probe(_)) {
            return;
        }
        let is_left = link.is_ending;
        let claim = |record: &mut DeviceState| match record.link {
            Some(_) if is_left => Err(()),
            _ => Ok(record.link.replace(name)),
        };
        let Some(Ok(earlier)) = self.backend.with_record(device, claim) else { return };
        link.is_adopted = true;
        if let Some(mailboxes) = &self.mailboxes {
            mailboxes.leave_extra(device, name);
        }
        if let Some(earlier) = earlier {
            let peer = link.peer().map(|peer| peer.ip().to_canonical());
            self.backend.taken_over(&self.now, device, peer);
            self.tell_superseded(earlier);
        }
    }

    /// Whether the link counts among those that are to stay, by what stands in the device's record now.
    pub(super) fn count_persistent(&mut self, slot: usize, is_persistent: bool) {
        let Some(link) = self.links.get(slot) else { return };
        let is_persistent = is_persistent && link.is_adopted;
        match (std::mem::replace(&mut link.is_persistent, is_persistent), is_persistent) {
            (false, true) => self.counters.links_persistent.add_one(),
            (true, false) => self.counters.links_persistent.take_one(),
            _ => {}
        }
    }

    fn tell_superseded(&mut self, earlier: LinkRef) {
        if self.links.slot_of(earlier).is_some() {
            self.superseded(earlier);
        } else if let Some(mailboxes) = &self.mailboxes
            && !mailboxes.send(earlier, ToReactor::Superseded(earlier))
        {
            // It is found by its idle deadline.
            log::debug!("link {earlier:?} could not be told that it was superseded");
        }
    }

    fn say_removed(&mut self, slot: usize) {
        let message =
            "this device was removed from the server; to come back it has to enrol again with a new token";
        self.send(
            slot,
            &ToAgent::Error(ErrorReport { code: ErrorCode::DeviceRemoved, message: message.into() }),
        );
        self.leave(slot, CloseReason::DeviceRemoved);
    }
}
