//! Deadlines of many links.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::wire::time::Moment;

/// Deadlines, the earliest first. `K` names whose it is.
///
/// A deadline that only moves back, as an idle link's does with each message, costs nothing here: the entry stays, and when it
/// comes due its owner says what the deadline is by now ([`Timers::due`]). So there is one entry for each owner, however
/// often it moves.
pub struct Timers<K> {
    entries: BinaryHeap<Reverse<(Moment, K)>>,
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new() }
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
        self.entries.push(Reverse((deadline, owner)));
    }

    /// The next owner whose entry has come due. The owner compares with its own deadline: when that lies ahead it is armed again,
    /// when it has none, or is gone, the entry is forgotten.
    pub fn due(&mut self, now: Moment) -> Option<K> {
        let Reverse((deadline, _)) = self.entries.peek()?;
        if *deadline > now {
            return None;
        }
        self.entries.pop().map(|Reverse((_, owner))| owner)
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        self.entries.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
