//! A table whose places are named by numbers, in segments.
//!
//! A table that doubles copies itself, and for a moment a large server would need its memory twice; this one
//! grows by a segment, moves nothing, and gives a segment back when its last entry goes. Free places are
//! filled from the front, so that what a storm made long becomes short again.

use std::collections::BTreeSet;

/// A slab of segments with `LENGTH` places each.
#[derive(Debug)]
pub struct SegmentedSlab<T, const LENGTH: usize> {
    segments: Vec<Segment<T>>,
    /// Segments that have a free place, or memory for none yet.
    with_room: BTreeSet<u32>,
    entries: usize,
}

/// Nothing is allocated while nothing is in it.
#[derive(Debug)]
struct Segment<T> {
    places: Vec<Place<T>>,
    entries: u32,
    /// The free place among those that were in use before which is filled next.
    free: u16,
}

/// One place. Free ones name the next free one, so that a list of them takes no memory beside the entries.
#[derive(Debug)]
enum Place<T> {
    Taken(T),
    Free(u16),
}

/// Ends the list of free places.
const NO_PLACE: u16 = u16::MAX;

/// Bytes that an entry takes: as much as an `Option` of it, when it has a value that it never has beside some
/// bytes that are free then.
#[must_use]
pub const fn place_bytes<T>() -> usize {
    size_of::<Place<T>>()
}

impl<T> Segment<T> {
    const EMPTY: Self = Self { places: Vec::new(), entries: 0, free: NO_PLACE };

    /// The place that is filled next.
    fn vacant(&self) -> usize {
        match self.free {
            NO_PLACE => self.places.len(),
            place => usize::from(place),
        }
    }
}

impl<T> Place<T> {
    fn entry(&self) -> Option<&T> {
        match self {
            Self::Taken(entry) => Some(entry),
            Self::Free(_) => None,
        }
    }
}

impl<T, const LENGTH: usize> Default for SegmentedSlab<T, LENGTH> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const LENGTH: usize> SegmentedSlab<T, LENGTH> {
    // A place within a segment is told in 16 bits, one number of which says 'none'.
    const FITS: () = assert!(LENGTH > 0 && LENGTH < 1 << 16);

    /// An empty slab. It allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        const { Self::FITS };
        Self { segments: Vec::new(), with_room: BTreeSet::new(), entries: 0 }
    }

    /// The place that the next [`Self::insert`] fills.
    #[must_use]
    pub fn vacant_slot(&self) -> usize {
        let Some(number) = self.with_room.first() else { return self.segments.len() * LENGTH };
        *number as usize * LENGTH + self.segments[*number as usize].vacant()
    }

    /// Puts an entry into a free place, and says which.
    pub fn insert(&mut self, entry: T) -> usize {
        let slot = self.vacant_slot();
        let (number, place) = (slot / LENGTH, slot % LENGTH);
        if number == self.segments.len() {
            if self.segments.len() == self.segments.capacity() {
                // By a quarter: doubled, half of the room would stand empty in each of many small slabs.
                self.segments.reserve_exact(self.segments.len() / 4 + 1);
            }
            self.segments.push(Segment::EMPTY);
            self.with_room.insert(Self::number(number));
        }
        let segment = &mut self.segments[number];
        if let Some(Place::Free(next)) = segment.places.get(place) {
            segment.free = *next;
            segment.places[place] = Place::Taken(entry);
        } else {
            if segment.places.capacity() == 0 {
                segment.places.reserve_exact(LENGTH);
            }
            segment.places.push(Place::Taken(entry));
        }
        segment.entries += 1;
        if segment.entries as usize == LENGTH {
            self.with_room.remove(&Self::number(number));
        }
        self.entries += 1;
        slot
    }

    /// Takes an entry out; `None` when the place is free.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let (number, place) = (slot / LENGTH, slot % LENGTH);
        let segment = self.segments.get_mut(number)?;
        let found = segment.places.get_mut(place).filter(|place| place.entry().is_some())?;
        let Place::Taken(entry) = std::mem::replace(found, Place::Free(segment.free)) else { return None };
        // It is below LENGTH, which 16 bits hold.
        segment.free = u16::try_from(place).unwrap_or(NO_PLACE);
        segment.entries -= 1;
        self.entries -= 1;
        if segment.entries == 0 {
            *segment = Segment::EMPTY;
        }
        self.with_room.insert(Self::number(number));
        while self.segments.pop_if(|last| last.places.is_empty()).is_some() {
            self.with_room.remove(&Self::number(self.segments.len()));
        }
        Some(entry)
    }

    /// The entry in a place.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<&T> {
        self.segments.get(slot / LENGTH)?.places.get(slot % LENGTH)?.entry()
    }

    /// The entry in a place, to be changed.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        match self.segments.get_mut(slot / LENGTH)?.places.get_mut(slot % LENGTH)? {
            Place::Taken(entry) => Some(entry),
            Place::Free(_) => None,
        }
    }

    /// Places and entries, from the front.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.segments.iter().enumerate().flat_map(|(number, segment)| {
            let entries = segment.places.iter().enumerate();
            entries.filter_map(move |(place, entry)| Some((number * LENGTH + place, entry.entry()?)))
        })
    }

    /// The place of the first entry that is not before this place.
    #[must_use]
    pub fn next_from(&self, slot: usize) -> Option<usize> {
        let (first, mut place) = (slot / LENGTH, slot % LENGTH);
        for (number, segment) in self.segments.iter().enumerate().skip(first) {
            let places = segment.places.get(place..).unwrap_or_default();
            if let Some(ahead) = places.iter().position(|place| place.entry().is_some()) {
                return Some(number * LENGTH + place + ahead);
            }
            place = 0;
        }
        None
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Number of places that there is memory for.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn capacity(&self) -> usize {
        self.segments.iter().map(|segment| segment.places.capacity()).sum()
    }

    fn number(number: usize) -> u32 {
        // Beyond it memory has ended long before.
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn free_places_are_filled_from_the_front_and_empty_segments_are_given_back() {
        let mut slab: SegmentedSlab<u32, 4> = SegmentedSlab::new();
        assert_eq!((slab.capacity(), slab.vacant_slot()), (0, 0));
        for number in 0..12u32 {
            assert_eq!(slab.insert(number), number as usize);
        }
        assert_eq!(slab.capacity(), 12);
        for number in 4..8u32 {
            assert_eq!(slab.remove(number as usize), Some(number));
        }
        assert_eq!(slab.capacity(), 8, "the segment in the middle is given back");
        slab.remove(1);
        assert_eq!((slab.insert(100), slab.insert(101), slab.vacant_slot()), (1, 4, 5));
        for slot in 8..12 {
            slab.remove(slot);
        }
        assert_eq!((slab.len(), slab.segments.len()), (5, 2));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((any::<bool>(), 0usize..40), 1..300)) {
            let mut slab: SegmentedSlab<usize, 4> = SegmentedSlab::new();
            let mut model = BTreeMap::new();
            for (number, (is_insert, slot)) in steps.into_iter().enumerate() {
                if is_insert {
                    let vacant = slab.vacant_slot();
                    prop_assert_eq!(slab.insert(number), vacant);
                    prop_assert!(model.insert(vacant, number).is_none());
                    if let Some(entry) = slab.get_mut(vacant) {
                        *entry += 1;
                    }
                    model.entry(vacant).and_modify(|entry| *entry += 1);
                } else {
                    prop_assert_eq!(slab.remove(slot), model.remove(&slot));
                }
                prop_assert_eq!(slab.get(slot), model.get(&slot));
                prop_assert_eq!(slab.len(), model.len());
                prop_assert!(slab.iter().eq(model.iter().map(|(slot, entry)| (*slot, entry))));
                prop_assert_eq!(slab.next_from(slot), model.range(slot..).next().map(|(slot, _)| *slot));
                prop_assert!(slab.capacity() <= 4 * slab.len());
            }
        }
    }
}
