//! Entries that are found by a key of their own, in little more memory than they take.
//!
//! A hash map moves its entries when it grows, and keeps an eighth to more than half of its room free. Here
//! it holds numbers of four bytes, and the entries stand in a slab of segments.

use hashbrown::HashTable;

use crate::machine::slab::SegmentedSlab;

/// Places of one segment. Half a segment is empty in each of many shards, so that it is not to be long.
const SEGMENT_PLACES: usize = 16;

/// An entry that knows its key.
pub(super) trait Keyed {
    /// The key by which it is found.
    type Key: Copy + PartialEq;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// 64 bits of a key that are spread already, as those of random numbers and hashes are.
    fn spread(key: Self::Key) -> u64;
}

/// The entries of one shard.
pub(super) struct Indexed<T> {
    slots: HashTable<u32>,
    entries: SegmentedSlab<T, SEGMENT_PLACES>,
}

impl<T> Default for Indexed<T> {
    fn default() -> Self {
        Self { slots: HashTable::new(), entries: SegmentedSlab::new() }
    }
}

impl<T: Keyed> Indexed<T> {
    pub(super) fn get(&self, key: T::Key) -> Option<&T> {
        self.entries.get(self.slot_of(key)?)
    }

    pub(super) fn get_mut(&mut self, key: T::Key) -> Option<&mut T> {
        self.entries.get_mut(self.slot_of(key)?)
    }

    /// Puts an entry in, and gives what had its key before.
    pub(super) fn insert(&mut self, entry: T) -> Option<T> {
        let key = entry.key();
        if let Some(before) = self.get_mut(key) {
            return Some(std::mem::replace(before, entry));
        }
        // Beyond 32 bits memory has ended long before.
        let slot = u32::try_from(self.entries.insert(entry)).unwrap_or(u32::MAX);
        let entries = &self.entries;
        self.slots.insert_unique(T::spread(key), slot, |slot| {
            entries.get(*slot as usize).map_or(0, |entry| T::spread(entry.key()))
        });
        None
    }

    pub(super) fn remove(&mut self, key: T::Key) -> Option<T> {
        let entries = &self.entries;
        let is_it = |slot: &u32| entries.get(*slot as usize).is_some_and(|entry| entry.key() == key);
        let (slot, _) = self.slots.find_entry(T::spread(key), is_it).ok()?.remove();
        self.entries.remove(slot as usize)
    }

    pub(super) fn for_each(&mut self, mut work: impl FnMut(&mut T)) {
        for slot in &self.slots {
            if let Some(entry) = self.entries.get_mut(*slot as usize) {
                work(entry);
            }
        }
    }

    fn slot_of(&self, key: T::Key) -> Option<usize> {
        let is_it = |slot: &u32| self.entries.get(*slot as usize).is_some_and(|entry| entry.key() == key);
        self.slots.find(T::spread(key), is_it).map(|slot| *slot as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for (u8, u32) {
        type Key = u8;

        fn key(&self) -> u8 {
            self.0
        }

        fn spread(key: u8) -> u64 {
            // Badly, so that keys meet.
            u64::from(key % 4)
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((0u8..3, any::<u8>(), any::<u32>()), 1..400)) {
            let (mut indexed, mut model) = (Indexed::<(u8, u32)>::default(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 => prop_assert_eq!(indexed.remove(key), model.remove(&key).map(|value| (key, value))),
                    _ => {
                        let before = model.insert(key, value).map(|before| (key, before));
                        prop_assert_eq!(indexed.insert((key, value)), before);
                    }
                }
                prop_assert_eq!(indexed.get(key).map(|entry| entry.1), model.get(&key).copied());
            }
            let mut found = BTreeMap::new();
            indexed.for_each(|entry| { found.insert(entry.0, entry.1); });
            prop_assert_eq!(found, model);
        }
    }
}
