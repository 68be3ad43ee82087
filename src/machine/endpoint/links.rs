//! Links of an endpoint, and whose each is: the first word makes it the device's, and ends the one that it
//! had.

use super::{Connection, Endpoint, Notice, Rule, Rules, Services};
use crate::machine::device_state::LinkRef;
use crate::machine::session::Session;
use crate::machine::slab::{SegmentedSlab, place_bytes};
use crate::wire::id::DeviceId;
use crate::wire::message::ToServer;
use crate::wire::time::Now;

pub(super) enum Stage {
    Arriving,
    /// Messages are exchanged.
    Live(Session),
    /// It was closed, and was this device's: its owner says goodbye.
    Closed(Option<DeviceId>),
}

/// One link, with what its owner needs of it.
pub(super) struct Entry<C> {
    pub(super) stage: Stage,
    pub(super) connection: C,
    generation: u32,
    /// It has become the device's, with its first word.
    pub(super) is_adopted: bool,
    /// It counts among the links that are to stay.
    pub(super) is_persistent: bool,
    /// The peer has closed it, or something is wrong with it; what it has said before may not be read yet.
    pub(super) is_left: bool,
}

impl<C> Entry<C> {
    /// Whose it is.
    pub(super) fn device(&self) -> Option<DeviceId> {
        match &self.stage {
            Stage::Arriving => None,
            Stage::Live(session) => session.device(),
            Stage::Closed(device) => *device,
        }
    }
}

/// Bytes that a link takes of the table.
#[must_use]
pub const fn entry_bytes<C>() -> usize {
    place_bytes::<Entry<C>>()
}

pub(super) struct Links<C, const SEGMENT: usize> {
    slab: SegmentedSlab<Entry<C>, SEGMENT>,
    reactor: u8,
    generation: u32,
}

impl<C, const SEGMENT: usize> Links<C, SEGMENT> {
    pub(super) fn new(reactor: u8) -> Self {
        Self { slab: SegmentedSlab::new(), reactor, generation: 0 }
    }

    /// The name of the link that comes next; `None` when there are as many as can be named.
    pub(super) fn vacancy(&self) -> Option<LinkRef> {
        // Zero is no generation.
        let generation = self.generation.wrapping_add(1).max(1);
        LinkRef::new(self.reactor, u32::try_from(self.slab.vacant_slot()).ok()?, generation)
    }

    /// Puts in the link that [`Links::vacancy`] has named.
    pub(super) fn insert(&mut self, connection: C) {
        self.generation = self.generation.wrapping_add(1).max(1);
        let generation = self.generation;
        let stage = Stage::Arriving;
        self.slab.insert(Entry {
            stage,
            connection,
            generation,
            is_adopted: false,
            is_persistent: false,
            is_left: false,
        });
    }

    pub(super) fn remove(&mut self, link: LinkRef) -> Option<Entry<C>> {
        self.slab.remove(self.slot_of(link)?)
    }

    pub(super) fn get(&mut self, link: LinkRef) -> Option<&mut Entry<C>> {
        let slot = usize::try_from(link.slot()).ok()?;
        let entry = self.slab.get_mut(slot)?;
        (link.reactor() == self.reactor && entry.generation == link.generation()).then_some(entry)
    }

    /// Its session, while messages are exchanged.
    pub(super) fn session(&mut self, link: LinkRef) -> Option<&mut Session> {
        match &mut self.get(link)?.stage {
            Stage::Live(session) => Some(session),
            Stage::Arriving | Stage::Closed(_) => None,
        }
    }

    pub(super) fn at(&self, slot: usize) -> Option<&Entry<C>> {
        self.slab.get(slot)
    }

    pub(super) fn at_mut(&mut self, slot: usize) -> Option<&mut Entry<C>> {
        self.slab.get_mut(slot)
    }

    /// The slot of a link, if it is still the same link.
    pub(super) fn slot_of(&self, link: LinkRef) -> Option<usize> {
        let slot = usize::try_from(link.slot()).ok()?;
        let is_same = link.reactor() == self.reactor && self.slab.get(slot)?.generation == link.generation();
        is_same.then_some(slot)
    }

    /// Number of links.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The name of the link in a slot.
    pub(super) fn name(&self, slot: usize) -> Option<LinkRef> {
        LinkRef::new(self.reactor, u32::try_from(slot).ok()?, self.slab.get(slot)?.generation)
    }

    /// The first link's slot that is not below this one.
    pub(super) fn next_from(&self, slot: usize) -> Option<usize> {
        self.slab.next_from(slot)
    }
}

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
