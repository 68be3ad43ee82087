//! Whose a link is: the first word makes it the device's, and ends the one that it had.

use super::{Connection, Endpoint, Notice, Rule, Rules, Services};
use crate::machine::device_state::LinkRef;
use crate::wire::id::DeviceId;
use crate::wire::message::ToServer;
use crate::wire::time::Now;

impl<C: Connection, R: Rules, const SEGMENT: usize> Endpoint<C, R, SEGMENT> {
    /// A device speaks on a link. A probe is no word: it only looks whether everything works, and takes
    /// nothing away. Nor does a link take over that its device has left already, and whose word was read
    /// late: the device may be on another one by now, and would stay away for a minute if that was taken from
    /// it.
    pub(super) fn adopt<S: Services>(
        &mut self,
        now: &Now,
        link: LinkRef,
        device: DeviceId,
        message: &ToServer<'_>,
        services: &S,
    ) {
        let Some(entry) = self.links.get(link) else { return };
        if entry.is_adopted || matches!(message, ToServer::Probe(_)) {
            return;
        }
        let is_swapped = self.rules.breaks(Rule::AdoptedByItsDevice);
        let owner = if is_swapped { self.rules.instead_of(device) } else { device };
        let Some(mut record) = services.record(owner) else { return };
        if record.link.is_some() && entry.is_left {
            return;
        }
        let earlier = record.link.replace(link);
        drop(record);
        entry.is_adopted = true;
        self.notices.push_back(Notice::Adopted(link, device));
        if let Some(earlier) = earlier {
            let peer = entry.connection.peer();
            services.taken_over(now, device, peer);
            if self.rules.breaks(Rule::EarlierLinkEnds) {
                return;
            }
            match self.links.slot_of(earlier) {
                Some(_) => self.supersede(now, earlier, services),
                None => self.notices.push_back(Notice::Superseded(earlier)),
            }
        }
    }

    /// Whether a link counts among those that are to stay, by what stands in its device's record now.
    pub(super) fn count_persistent(&mut self, link: LinkRef, is_persistent: bool) {
        let Some(entry) = self.links.get(link) else { return };
        let is_persistent = is_persistent && entry.is_adopted;
        let before = std::mem::replace(&mut entry.is_persistent, is_persistent);
        self.tally.persistent += i64::from(is_persistent) - i64::from(before);
    }
}
