//! Memory that links hold beside what each takes idle: bytes that are not sent or not whole yet, parts of
//! uploads.
//!
//! Each of these has a bound for one link, and all of them together have one here. When it is reached, those
//! links are closed that hold most, by what they hold times how long they have held something without a
//! pause: a peer that reads slowly or not at all goes before one that has just begun with something large.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use crate::wire::time::Moment;

/// Bytes that a link counts for that holds anything: boxes, and the allocator's part.
const LEAST_BYTES: usize = 256;

/// After links were closed this much of the limit is free again, as a fraction of it.
const FREED: usize = 8;

/// Memory that one link holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: usize,
    since: Moment,
}

/// Memory that the links of one reactor hold. `K` names a link. One that holds nothing takes nothing here.
#[derive(Debug)]
pub struct Holdings<K> {
    bytes_max: usize,
    bytes: usize,
    by_link: HashMap<K, Held>,
}

impl<K: Copy + Eq + Hash + Ord> Holdings<K> {
    /// With at most `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let mut holdings = Self { bytes_max: 0, bytes: 0, by_link: HashMap::new() };
        holdings.set_max(bytes_max);
        holdings
    }

    /// Another limit, in bytes.
    pub fn set_max(&mut self, bytes_max: u64) {
        self.bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    }

    /// A link holds this much now.
    pub fn note(&mut self, now: Moment, link: K, bytes: usize) {
        if bytes == 0 {
            return self.forget(link);
        }
        let held = self.by_link.entry(link).or_insert(Held { bytes: 0, since: now });
        let before = std::mem::replace(&mut held.bytes, bytes.saturating_add(LEAST_BYTES));
        self.bytes = self.bytes.saturating_sub(before).saturating_add(held.bytes);
    }

    /// A link holds nothing any more, or has ended.
    pub fn forget(&mut self, link: K) {
        if !self.by_link.is_empty()
            && let Some(held) = self.by_link.remove(&link)
        {
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
    }

    /// Whether they hold more than half of what they may.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }

    /// The links that the caller closes: none while they hold no more than they may together.
    #[must_use]
    pub fn to_close(&self, now: Moment) -> Vec<K> {
        if self.bytes <= self.bytes_max {
            return Vec::new();
        }
        let weight = |held: &Held| {
            let held_milliseconds = 1 + now.microseconds_since(held.since) / 1_000;
            (held.bytes as u64).saturating_mul(held_milliseconds)
        };
        let mut links: Vec<_> =
            self.by_link.iter().map(|(link, held)| (Reverse(weight(held)), *link, held.bytes)).collect();
        links.sort_unstable();
        let enough = self.bytes_max - self.bytes_max / FREED;
        let mut left = self.bytes;
        let mut closed = Vec::new();
        for (_, link, bytes) in links {
            if left <= enough {
                break;
            }
            left = left.saturating_sub(bytes);
            closed.push(link);
        }
        closed
    }

    /// Bytes that all of them hold.
    #[must_use]
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(0).plus_seconds(seconds)
    }

    #[test]
    fn when_it_is_too_much_those_go_that_hold_most_for_longest() {
        let mut holdings = Holdings::new(10_000);
        holdings.note(at(0), 'a', 3_000);
        holdings.note(at(0), 'b', 1_000);
        holdings.note(at(9), 'c', 5_000);
        assert_eq!(holdings.to_close(at(10)), []);
        // Begun before, so that it has held something for longer than the one that holds more.
        holdings.note(at(10), 'b', 2_000);
        assert_eq!(holdings.to_close(at(10)), ['a']);
        holdings.forget('a');
        assert_eq!(holdings.to_close(at(10)), []);
        assert_eq!(holdings.bytes(), 7_000 + 2 * LEAST_BYTES);
    }

    #[test]
    fn honest_links_live_on_beside_as_many_deaf_ones_as_come() {
        const MIB: usize = 1 << 20;
        let mut holdings = Holdings::new(16 << 20);
        let mut closed = Vec::new();
        for second in 0..200_u32 {
            let now = at(u64::from(second));
            holdings.note(now, second, MIB);
            // Large, and sent within a second.
            let honest = 1_000 + second;
            holdings.note(now, honest, 2 * MIB);
            for link in holdings.to_close(now) {
                closed.push(link);
                holdings.forget(link);
            }
            holdings.note(now, honest, 0);
            assert!(holdings.bytes() <= 16 << 20);
        }
        assert!(closed.len() > 150 && closed.iter().all(|link| *link < 1_000), "{closed:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_counted_twice_or_lost(steps in proptest::collection::vec((0u8..12, 0usize..5_000), 1..200)) {
            const MAX: usize = 20_000;
            let mut holdings = Holdings::new(MAX as u64);
            let mut model = HashMap::new();
            for (second, (link, bytes)) in (0..).zip(steps) {
                holdings.note(at(second), link, bytes);
                if bytes == 0 { model.remove(&link); } else { model.insert(link, bytes + LEAST_BYTES); }
                let is_over = model.values().sum::<usize>() > MAX;
                let closed = holdings.to_close(at(second));
                prop_assert_eq!(is_over, !closed.is_empty());
                for link in closed {
                    holdings.forget(link);
                    model.remove(&link);
                }
                prop_assert_eq!(holdings.bytes(), model.values().sum::<usize>());
                prop_assert!(holdings.bytes() <= MAX);
            }
        }
    }
}
