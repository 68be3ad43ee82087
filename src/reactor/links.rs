//! The links of one reactor: a slab whose slots are told apart by generation.

use mio::Token;

use super::link::{LINK_BYTES, Link};
use crate::machine::device_state::LinkRef;
use crate::machine::slab::SegmentedSlab;
use crate::wire::time::CoarseMoment;

/// Tokens below it belong to the listener and the notifier.
const FIRST_LINK_TOKEN: usize = 2;

/// A segment of links with what the allocator puts before it, in bytes: whole pages, as it has pages of its own.
const SEGMENT_BYTES: usize = 256 * 1024;

/// What the allocator puts before a segment, in bytes at most.
const ALLOCATION_BYTES: usize = 32;

/// Links of one segment, in links.
const SEGMENT_LINKS: usize = (SEGMENT_BYTES - ALLOCATION_BYTES) / LINK_BYTES;

#[derive(Default)]
pub(super) struct Links {
    slab: SegmentedSlab<Link, SEGMENT_LINKS>,
    reactor: u8,
    generation: u32,
}

impl Links {
    pub(super) fn new(reactor: u8) -> Self {
        Self { slab: SegmentedSlab::new(), reactor, generation: 0 }
    }

    /// A place for the next link: its slot, token and generation.
    pub(super) fn vacancy(&mut self) -> (usize, Token, u32) {
        // Zero is no generation.
        self.generation = self.generation.wrapping_add(1).max(1);
        let slot = self.slab.vacant_slot();
        (slot, Token(slot + FIRST_LINK_TOKEN), self.generation)
    }

    /// Puts a link into the slot that [`Links::vacancy`] has just named.
    pub(super) fn insert(&mut self, link: Link) {
        self.slab.insert(link);
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<Link> {
        self.slab.remove(slot)
    }

    pub(super) fn get(&mut self, slot: usize) -> Option<&mut Link> {
        self.slab.get_mut(slot)
    }

    /// The slot of a link, if it is still the same link.
    pub(super) fn slot_of(&self, link: LinkRef) -> Option<usize> {
        let slot = usize::try_from(link.slot()).ok()?;
        let is_same = link.reactor() == self.reactor && self.slab.get(slot)?.generation == link.generation();
        is_same.then_some(slot)
    }

    /// When the entry of the link in a slot comes due.
    pub(super) fn armed(&self, slot: usize) -> Option<CoarseMoment> {
        Some(self.slab.get(slot)?.armed)
    }

    /// How many links there are.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn name(&self, slot: usize) -> Option<LinkRef> {
        self.name_of(slot, self.slab.get(slot)?.generation)
    }

    /// The name of the link that has this slot and generation.
    pub(super) fn name_of(&self, slot: usize, generation: u32) -> Option<LinkRef> {
        LinkRef::new(self.reactor, u32::try_from(slot).ok()?, generation)
    }

    pub(super) fn slot_of_token(token: Token) -> Option<usize> {
        token.0.checked_sub(FIRST_LINK_TOKEN)
    }

    /// The first link's slot that is not below this one.
    pub(super) fn next_from(&self, slot: usize) -> Option<usize> {
        self.slab.next_from(slot)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}
