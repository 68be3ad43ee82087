//! Deadlines of many links.

use crate::wire::time::Moment;

/// Entries of one segment, in entries: 16 KiB with the names of links.
const SEGMENT_ENTRIES: usize = 1_024;

/// Deadlines, the earliest first. `K` names whose it is.
///
/// A deadline that only moves back, as an idle link's does with each message, costs nothing here: the entry stays, and when it
/// comes due its owner says what the deadline is by now ([`Timers::due`]). So there is one entry for each owner, however
/// often it moves.
///
/// A binary heap in segments: with two million entries, one in a single piece would need its memory twice whenever it grows.
pub struct Timers<K> {
    segments: Vec<Vec<Entry<K>>>,
    entries: usize,
}

type Entry<K> = (Moment, K);

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { segments: Vec::new(), entries: 0 }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// No deadlines yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms a deadline. Call it once for an owner, and again only when its deadline moves forward.
    pub fn arm(&mut self, deadline: Moment, owner: K) {
        if self.entries == self.segments.len() * SEGMENT_ENTRIES {
            self.segments.push(Vec::with_capacity(SEGMENT_ENTRIES));
        }
        let mut at = self.entries;
        self.segments[at / SEGMENT_ENTRIES].push((deadline, owner));
        self.entries += 1;
        while at > 0 && self.at(at) < self.at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// The next owner whose entry has come due. The owner compares with its own deadline: when that lies ahead it is armed again,
    /// when it has none, or is gone, the entry is forgotten.
    pub fn due(&mut self, now: Moment) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let last = self.take_last()?;
        let (_, owner) = match self.entries {
            0 => last,
            _ => std::mem::replace(&mut self.segments[0][0], last),
        };
        self.sink();
        Some(owner)
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        (self.entries > 0).then(|| self.at(0).0)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn take_last(&mut self) -> Option<Entry<K>> {
        let number = self.entries.checked_sub(1)?;
        let last = self.segments[number / SEGMENT_ENTRIES].pop();
        self.entries = number;
        // One empty segment stays, so that an entry that comes and goes does not allocate each time.
        self.segments.truncate(number.div_ceil(SEGMENT_ENTRIES) + 1);
        last
    }

    /// The first entry goes to where it belongs.
    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let children = 2 * at + 1..self.entries.min(2 * at + 3);
            let Some(least) = children.min_by_key(|child| self.at(*child)) else { return };
            if self.at(at) <= self.at(least) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn at(&self, number: usize) -> Entry<K> {
        self.segments[number / SEGMENT_ENTRIES][number % SEGMENT_ENTRIES]
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (first, second) = (self.at(one), self.at(other));
        self.segments[one / SEGMENT_ENTRIES][one % SEGMENT_ENTRIES] = second;
        self.segments[other / SEGMENT_ENTRIES][other % SEGMENT_ENTRIES] = first;
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;
    use crate::machine::random::Random;

    #[test]
    fn what_is_due_comes_out_earliest_first() {
        let mut timers = Timers::new();
        for (deadline, owner) in [(30, 'c'), (10, 'a'), (20, 'b')] {
            timers.arm(Moment(deadline), owner);
        }
        assert_eq!(timers.next(), Some(Moment(10)));
        assert_eq!(
            (timers.due(Moment(20)), timers.due(Moment(20)), timers.due(Moment(20))),
            (Some('a'), Some('b'), None)
        );
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn it_gives_what_the_standard_heap_gives_and_gives_its_memory_back() {
        let (mut timers, mut model) = (Timers::new(), BinaryHeap::new());
        let mut random = Random::new(7);
        let mut now = 0;
        for step in 0..20_000u32 {
            let deadline = now + random.up_to(1_000);
            timers.arm(Moment(deadline), step);
            model.push(Reverse((deadline, step)));
            // It grows to some thousands first, and then drains.
            now += if step < 8_000 { 0 } else { random.up_to(3) };
            while let Some(owner) = timers.due(Moment(now)) {
                let Some(Reverse((deadline, expected))) = model.pop() else { panic!("{owner} twice") };
                assert!(deadline <= now);
                assert_eq!(owner, expected);
            }
            assert!(model.peek().is_none_or(|Reverse((deadline, _))| *deadline > now));
            assert_eq!(
                (timers.len(), timers.next().map(|next| next.0)),
                (model.len(), model.peek().map(|next| next.0.0))
            );
        }
        assert!(timers.segments.len() <= timers.len().div_ceil(SEGMENT_ENTRIES) + 1);
        assert!(timers.due(Moment(u64::MAX)).is_some());
        while timers.due(Moment(u64::MAX)).is_some() {}
        assert_eq!((timers.segments.len(), timers.next()), (1, None));
    }
}
