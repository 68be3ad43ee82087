//! Acknowledgements that wait for the disk.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::wire::id::Epoch;
use crate::wire::message::Ack;

struct Waiting<K> {
    position: u64,
    link: K,
    ack: Ack,
}

/// One reactor's acknowledgements, in the order in which their events were appended. `K` names a link.
///
/// While the disk hangs, devices may send again and again what waits already. Above a bound the
/// entries of one link become one, which waits for the last position of them: so there are never more than
/// twice as many entries as links, or that number.
pub struct AckQueue<K> {
    waiting: VecDeque<Waiting<K>>,
    entries_max: usize,
    /// Number of entries at which they are looked through for those of one link.
    merges_at: usize,
}

/// Entries from which on those of one link are merged, in entries of 40 bytes.
const ENTRIES_MAX: usize = 65_536;

impl<K: Copy + Eq + Hash> Default for AckQueue<K> {
    fn default() -> Self {
        Self::merging_above(ENTRIES_MAX)
    }
}

impl<K: Copy + Eq + Hash> AckQueue<K> {
    /// A queue in which nothing waits, and whose entries are merged when there are more than this many.
    #[must_use]
    pub fn merging_above(entries_max: usize) -> Self {
        Self { waiting: VecDeque::new(), entries_max, merges_at: entries_max }
    }

    /// Once `position` is durable, `through` of the link's device may be acknowledged.
    pub fn push(&mut self, position: u64, link: K, spool_epoch: Epoch, through: u64) {
        let ack = Ack { spool_epoch, through };
        if let Some(last) = self.waiting.back_mut()
            && last.link == link
            && last.ack.spool_epoch == spool_epoch
        {
            last.position = last.position.max(position);
            last.ack.through = last.ack.through.max(through);
            return;
        }
        self.waiting.push_back(Waiting { position, link, ack });
        if self.waiting.len() > self.merges_at {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let mut merged: HashMap<K, Waiting<K>> = HashMap::new();
        for waiting in self.waiting.drain(..) {
            let Waiting { position, link, ack } = waiting;
            let entry = merged.entry(link).or_insert(waiting);
            entry.position = entry.position.max(position);
            // A device that has begun another epoch has no use for an acknowledgement of the one before.
            if ack.spool_epoch > entry.ack.spool_epoch {
                entry.ack = ack;
            } else if ack.spool_epoch == entry.ack.spool_epoch {
                entry.ack.through = entry.ack.through.max(ack.through);
            }
        }
        let mut merged: Vec<_> = merged.into_values().collect();
        merged.sort_by_key(|waiting| waiting.position);
        self.waiting = merged.into();
        self.merges_at = self.entries_max.max(2 * self.waiting.len());
    }

    /// Takes out what a durable position releases: for each link and epoch only the highest, in the order in
    /// which the links began to wait.
    pub fn release(&mut self, durable: u64) -> Vec<(K, Ack)> {
        let mut released: Vec<(K, Ack)> = Vec::new();
        let mut place: HashMap<(K, Epoch), usize> = HashMap::new();
        while let Some(waiting) = self.waiting.pop_front_if(|first| first.position <= durable) {
            let key = (waiting.link, waiting.ack.spool_epoch);
            match place.get(&key) {
                Some(&at) => released[at].1.through = released[at].1.through.max(waiting.ack.through),
                None => {
                    place.insert(key, released.len());
                    released.push((waiting.link, waiting.ack));
                }
            }
        }
        if self.waiting.is_empty() {
            self.merges_at = self.entries_max;
        }
        released
    }

    /// The position that the oldest entry waits for.
    #[must_use]
    pub fn waits_for(&self) -> Option<u64> {
        self.waiting.front().map(|first| first.position)
    }

    /// Number of entries that wait.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_gets_one_acknowledgement_for_all_that_became_durable() {
        let mut queue = AckQueue::default();
        queue.push(100, 'a', Epoch(1), 1);
        queue.push(200, 'b', Epoch(1), 5);
        queue.push(300, 'a', Epoch(1), 2);
        queue.push(400, 'a', Epoch(1), 3);
        let released = queue.release(300);
        assert_eq!(
            released,
            [
                ('a', Ack { spool_epoch: Epoch(1), through: 1 }),
                ('b', Ack { spool_epoch: Epoch(1), through: 5 })
            ]
        );
        assert_eq!(queue.waits_for(), Some(400), "the later entry took the earlier one's place");
        assert_eq!(queue.release(400), [('a', Ack { spool_epoch: Epoch(1), through: 3 })]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_sent_again_while_the_disk_hangs_does_not_pile_up() {
        let mut acks = AckQueue::default();
        for number in 0..1_000_000_u64 {
            acks.push(640 + number % 3, number % 3, Epoch(7), 10 + number % 3);
            assert!(acks.len() <= ENTRIES_MAX, "{} entries", acks.len());
        }
        assert!(acks.release(639).is_empty());
        let released: Vec<_> = acks.release(642).into_iter().map(|(link, ack)| (link, ack.through)).collect();
        assert_eq!(released, [(0, 10), (1, 11), (2, 12)]);
        assert!(acks.is_empty());
    }

    #[test]
    fn a_device_that_begins_epochs_while_the_disk_hangs_has_one_entry() {
        let mut acks = AckQueue::merging_above(8);
        for number in 1..=1_000_u64 {
            acks.push(64 * number, 'a', Epoch(number), 1);
            acks.push(64 * number, 'b', Epoch(1), number);
            assert!(acks.len() <= 8, "{} entries", acks.len());
        }
        let released: Vec<_> = acks.release(64_000).into_iter().collect();
        let last_of = |link| released.iter().rfind(|(of, _)| *of == link).map(|(_, ack)| *ack);
        assert_eq!(last_of('a'), Some(Ack { spool_epoch: Epoch(1_000), through: 1 }));
        assert_eq!(last_of('b'), Some(Ack { spool_epoch: Epoch(1), through: 1_000 }));
    }

    proptest! {
        #[test]
        fn nothing_is_acknowledged_before_it_is_durable(
            entries in prop::collection::vec((1u64..50, 0u8..4), 1..60),
            steps in prop::collection::vec(1u64..80, 1..20),
            entries_max in 1usize..60,
        ) {
            let mut queue = AckQueue::merging_above(entries_max);
            let (mut position, mut appended) = (0, Vec::new());
            for (number, (length, link)) in (1u64..).zip(entries) {
                position += length;
                queue.push(position, link, Epoch(1), number);
                appended.push((position, link, number));
            }
            let mut durable = 0;
            for step in steps.into_iter().chain([u64::MAX / 2]) {
                durable += step;
                for (link, ack) in queue.release(durable) {
                    for (position, of, number) in &appended {
                        prop_assert!(*of != link || *number > ack.through || *position <= durable);
                    }
                }
            }
            prop_assert!(queue.is_empty());
        }
    }
}
