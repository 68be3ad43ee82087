//! From a finished handshake to a link that is a device's: who it is, whether there is room, what it takes
//! over.

use super::backend::Backend;
use super::channel::{CertificateStatus, HandshakeCost};
use super::link::Place;
use super::turn::Reactor;
use crate::concurrency::reactors::ToReactor;
use crate::machine::close::CloseReason;
use crate::machine::device_state::LinkRef;
use crate::machine::endpoint::Connection as _;
use crate::machine::session::{REMOVED, TAKEN_OVER};
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::message::{ErrorCode, ErrorReport, Later, ToAgent};

/// Time that a peer without a certificate is told while no join token is valid.
const NO_VALID_TOKEN: &str = "no join token is valid at this server now: those that were made have expired, are used up or were \
     revoked; make one with 'musterctl token create'";

/// A device is told this that waits for approval, with what an administrator does about it.
const WAITING: &str = "this device waits for approval, and comes again by itself: on the server,";

impl<B: Backend> Reactor<B> {
    /// The handshake may have ended: then the link gets its session. `false`: the link was closed.
    pub(super) fn finish_handshake(&mut self, slot: usize) -> bool {
        let Some(link) = self.endpoint.connection_at(slot) else { return false };
        if link.channel.is_handshaking() {
            return true;
        }
        let Some(peer) = link.channel.take_peer() else { return true };
        match peer.cost {
            Some(HandshakeCost::Resumed) => self.counters.handshakes_resumed.add_one(),
            _ => self.counters.handshakes_full.add_one(),
        }
        let certificate = peer.certificate.as_deref().map(CertificateHash::of);
        let address = link.peer();
        // Looked up now, whatever the handshake has seen: a resumed one brings the certificate of an earlier
        // day.
        let status = certificate.map(|hash| match self.backend.certificate_status(&hash) {
            // One that came with a ticket was enrolled here.
            CertificateStatus::Unknown => {
                let shown = peer.certificate.as_deref().unwrap_or_default();
                self.backend.status_of_unseen(shown, address)
            }
            status => status,
        });
        let device = match status {
            None => None,
            Some(CertificateStatus::Known(device)) => {
                certificate
                    .into_iter()
                    .for_each(|hash| self.backend.certificate_shown(device, hash, address));
                Some(device)
            }
            Some(CertificateStatus::Removed(device)) => {
                let who = || format!("device {device} at {}", self.who(slot));
                self.counters.strangers.note_example(CloseReason::DeviceRemoved, who);
                return self.turn_away(slot, ErrorCode::DeviceRemoved, REMOVED, CloseReason::DeviceRemoved);
            }
            Some(CertificateStatus::Waiting(device)) => {
                let who = || format!("device {device} at {}", self.who(slot));
                self.counters.strangers.note_example(CloseReason::WaitingForApproval, who);
                let message = format!("{WAITING} 'musterctl device approve {device}' lets it in");
                let (code, reason) = (ErrorCode::WaitingForApproval, CloseReason::WaitingForApproval);
                return self.turn_away(slot, code, &message, reason);
            }
            Some(CertificateStatus::Superseded(device)) => {
                let who = || format!("device {device} at {}", self.who(slot));
                self.counters.strangers.note_example(CloseReason::CertificateSuperseded, who);
                let (code, reason) = (ErrorCode::CertificateSuperseded, CloseReason::CertificateSuperseded);
                return self.turn_away(slot, code, TAKEN_OVER, reason);
            }
            Some(CertificateStatus::Unknown) => {
                let message = "this device is not enrolled at this server any more, and as many such devices wait for approval as may: \
                     it looks again within an hour. To come back as a new device it has to enrol again with a new token";
                return self.turn_away(
                    slot,
                    ErrorCode::NotEnrolled,
                    message,
                    CloseReason::ForeignCertificate,
                );
            }
        };
        if device.is_none() && !self.backend.is_enrolment_open(self.clock.ages().wall) {
            return self.turn_away(slot, ErrorCode::TokenUnknown, NO_VALID_TOKEN, CloseReason::NoValidToken);
        }
        self.end_arrival(slot);
        let Some(name) = self.endpoint.name(slot) else { return false };
        self.endpoint.open(&self.now, name, device);
        let Some(link) = self.endpoint.connection_at(slot) else { return false };
        link.begin();
        if device.is_some() {
            link.place = Place::Device;
        }
        if log::log_enabled!(log::Level::Debug) {
            let what = if device.is_some() { "has its link" } else { "a stranger" };
            log::debug!("{}: {what}", self.who(slot));
        }
        match device {
            None => self.enter_as_stranger(slot, name),
            Some(device) => {
                self.counters.links_of_devices.add_one();
                self.enter_extra(device, name);
                // Its record may have been taken over just before the link could be found by that.
                let is_still_it = certificate.is_some_and(|hash| {
                    self.backend.certificate_status(&hash) == CertificateStatus::Known(device)
                });
                if !is_still_it {
                    self.endpoint.take_over(&self.now, name, &*self.backend);
                    self.carry_out();
                    return false;
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
    fn enter_as_stranger(&mut self, slot: usize, name: LinkRef) {
        self.count_as_stranger(slot);
        let evicted = self.strangers.enter(name);
        self.evict_stranger(evicted);
    }

    /// A link that is no device's is told why it is closed: it is a stranger from now on.
    pub(super) fn leave_as_stranger(&mut self, slot: usize, name: LinkRef) {
        self.count_as_stranger(slot);
        let evicted = self.strangers.tell(name);
        self.evict_stranger(evicted);
    }

    fn evict_stranger(&mut self, evicted: Option<LinkRef>) {
        if let Some(slot) = evicted.and_then(|link| self.endpoint.slot_of(link)) {
            self.cut(slot, CloseReason::StrangerEvicted);
        }
    }

    fn count_as_stranger(&mut self, slot: usize) {
        if let Some(link) = self.endpoint.connection_at(slot)
            && std::mem::replace(&mut link.place, Place::Stranger) != Place::Stranger
        {
            self.counters.links_of_strangers.add_one();
        }
    }

    /// The device has this link beside its own, for which another one may have to go.
    pub(super) fn enter_extra(&mut self, device: DeviceId, name: LinkRef) {
        let Some(mailboxes) = &self.mailboxes else { return };
        let Some(evicted) = mailboxes.enter_extra(device, name) else { return };
        if let Some(slot) = self.endpoint.slot_of(evicted) {
            self.cut(slot, CloseReason::ExtraLink);
        } else if !mailboxes.send(evicted, ToReactor::Close(evicted, CloseReason::ExtraLink)) {
            // It is found by its own deadline.
            log::debug!("link {evicted:?} could not be told that its device has too many");
        }
    }

    /// Room is kept for devices whose links are to stay; others are sent away when it is all that is left.
    /// `false`: the link was closed.
    fn has_room_for(&mut self, slot: usize, device: DeviceId) -> bool {
        let persistent = self.backend.persistent_devices();
        let reserved = persistent.saturating_sub(self.counters.links_persistent.get());
        if self.counters.links_of_devices.get() + reserved <= self.settings.links_max {
            return true;
        }
        let is_persistent = self.backend.record(device).is_some_and(|record| record.keep_connected);
        if !is_persistent {
            self.send_away(slot, CloseReason::TooManyLinks);
        }
        is_persistent
    }

    /// While others wait for so long that they may give up, a device that only comes by is asked to come
    /// again when it is quieter. It needs another handshake then, so that this is for those whose handshake
    /// was cheap; and a device that has to stay, or is waited for, would only come again the sooner. `false`:
    /// the link was closed.
    fn is_let_in(&mut self, slot: usize, device: DeviceId, cost: Option<HandshakeCost>) -> bool {
        if cost != Some(HandshakeCost::Resumed) || !self.is_overloaded() {
            return true;
        }
        if self.backend.record(device).is_some_and(|record| record.keep_connected || record.is_called()) {
            return true;
        }
        self.send_away(slot, CloseReason::Overloaded);
        false
    }

    fn send_away(&mut self, slot: usize, reason: CloseReason) {
        let seconds = self.endpoint.later_seconds(&self.now);
        if let Some(name) = self.endpoint.name(slot) {
            let later = ToAgent::Later(Later::with_all(seconds));
            self.endpoint.transmit(&self.now, name, later, &*self.backend);
        }
        self.leave(slot, reason);
    }

    /// Tells the peer why its link is closed; `false`, as it was.
    fn turn_away(&mut self, slot: usize, code: ErrorCode, message: &str, reason: CloseReason) -> bool {
        self.send(slot, &ToAgent::Error(ErrorReport { code, message: message.into() }));
        self.leave(slot, reason);
        false
    }
}
