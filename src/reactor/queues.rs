//! Links that a reactor is to come back to. Each is in a queue once, which its flags say.

use std::collections::{BTreeSet, VecDeque};

use super::link::Link;
use crate::wire::time::Moment;

/// Links that a reactor is to come back to, by slot.
#[derive(Default)]
pub(super) struct Queues {
    /// To be read.
    ready: VecDeque<usize>,
    /// There was no room for the work of what they have said.
    blocked: VecDeque<usize>,
    /// Their devices have used up their allowance, by when they are read again.
    held: BTreeSet<(Moment, usize)>,
    /// To be written.
    dirty: Vec<usize>,
}

impl Queues {
    /// The link has to be read.
    pub(super) fn read(&mut self, slot: usize, link: &mut Link) {
        if !std::mem::replace(&mut link.is_ready, true) {
            self.ready.push_back(slot);
        }
    }

    /// The link has to be written.
    pub(super) fn write(&mut self, slot: usize, link: &mut Link) {
        if !std::mem::replace(&mut link.is_dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// There is no room for what the link has said: it is not read meanwhile. Whether it was.
    pub(super) fn block(&mut self, slot: usize, link: &mut Link) -> bool {
        let was_read = !std::mem::replace(&mut link.is_blocked, true);
        if was_read {
            self.blocked.push_back(slot);
        }
        was_read
    }

    /// The link's device has used up its allowance: it is not read until this moment. Whether it was.
    pub(super) fn hold(&mut self, slot: usize, link: &mut Link, until: Moment) -> bool {
        let was_read = !std::mem::replace(&mut link.is_blocked, true);
        if was_read {
            self.held.insert((until, slot));
        }
        was_read
    }

    pub(super) fn next_to_read(&mut self) -> Option<usize> {
        self.ready.pop_front()
    }

    /// All that are to be written by now.
    pub(super) fn take_to_write(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.dirty)
    }

    /// Those that were held and need not be any more, then each that has no room, once.
    pub(super) fn take_to_retry(&mut self, now: Moment) -> Vec<usize> {
        let mut slots = Vec::new();
        while self.held_until().is_some_and(|until| until <= now) {
            slots.extend(self.held.pop_first().map(|(_, slot)| slot));
        }
        slots.extend(self.blocked.drain(..));
        slots
    }

    pub(super) fn is_read_done(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) fn is_any_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// When the first that is held is read again.
    pub(super) fn held_until(&self) -> Option<Moment> {
        self.held.first().map(|(until, _)| *until)
    }
}
