//! Links without a device whose handshake is over: how many there may be, and which one goes first.
//!
//! Anybody can have such a link, as often as they like. So these links have a small pool of their own and use
//! up no device's place, and a newcomer always finds room in it: the oldest of those that have been told all
//! there is to say is closed for it, else the oldest that has asked for nothing yet. One whose enrolment is
//! being worked on is never closed; there may be as many of those again.

use std::collections::{BTreeSet, VecDeque};

/// Fewest places of one reactor's pool, in links: a rack of devices can enrol at once on the smallest server.
const PLACES_MIN: u64 = 16;

/// Most places of all pools together, in links, while reactors have more than [`PLACES_MIN`] each.
const PLACES_MAX: u64 = 256;

/// One place for this many links that the server may have.
const LINKS_PER_PLACE: u64 = 32;

/// Places of the pool of each of `reactors`, in links. Enrolments that are being worked on have as many
/// again.
#[must_use]
pub fn places(links_max: u64, reactors: usize) -> u64 {
    let all = (links_max / LINKS_PER_PLACE).min(PLACES_MAX);
    all.div_ceil(reactors.max(1) as u64).max(PLACES_MIN)
}

/// The pool of one reactor. `K` names a link.
#[derive(Debug)]
pub struct Strangers<K> {
    places: usize,
    /// Nothing was said, or there is no room for what was; the oldest first.
    waiting: VecDeque<K>,
    /// Their enrolment is being worked on.
    enrolling: BTreeSet<K>,
    /// They were told why they are closed, and are given a while to read it; the oldest first.
    told: VecDeque<K>,
}

impl<K: Ord + Copy> Strangers<K> {
    /// An empty one.
    #[must_use]
    pub fn new(places: u64) -> Self {
        let mut strangers =
            Self { places: 0, waiting: VecDeque::new(), enrolling: BTreeSet::new(), told: VecDeque::new() };
        strangers.set_places(places);
        strangers
    }

    /// Another number of places, at least one. Links beyond it stay until others come.
    pub fn set_places(&mut self, places: u64) {
        self.places = usize::try_from(places).unwrap_or(usize::MAX).max(1);
    }

    /// The handshake of a peer without a certificate has ended. The link that the caller closes for it, if
    /// any.
    #[must_use]
    pub fn enter(&mut self, link: K) -> Option<K> {
        self.waiting.push_back(link);
        self.evict_for(link)
    }

    /// Whether one more enrolment may be worked on.
    #[must_use]
    pub fn may_enrol(&self) -> bool {
        self.enrolling.len() < self.places
    }

    /// A link's enrolment is being worked on.
    pub fn enrol(&mut self, link: K) {
        self.forget(link);
        self.enrolling.insert(link);
    }

    /// A link was told all that there is to say: one of the pool, or one whose handshake has failed. The link
    /// that the caller closes for it, if any.
    #[must_use]
    pub fn tell(&mut self, link: K) -> Option<K> {
        self.forget(link);
        self.told.push_back(link);
        self.evict_for(link)
    }

    /// A link has ended.
    pub fn forget(&mut self, link: K) {
        if !self.enrolling.remove(&link) {
            self.waiting.retain(|other| *other != link);
            self.told.retain(|other| *other != link);
        }
    }

    /// Number of links in the pool, with those that enrol.
    #[must_use]
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.enrolling.len() + self.told.len()
    }

    fn evict_for(&self, newcomer: K) -> Option<K> {
        if self.waiting.len() + self.told.len() <= self.places {
            return None;
        }
        self.told.iter().chain(&self.waiting).find(|link| **link != newcomer).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_pool_grows_with_the_server_within_limits() {
        let sizes = [(1, 1), (40, 1), (1_024, 1), (100_000, 1), (100_000, 2), (100_000, 64), (4_000_000, 1)];
        let places: Vec<_> = sizes.into_iter().map(|(links, reactors)| places(links, reactors)).collect();
        assert_eq!(places, [16, 16, 32, 256, 128, 16, 256]);
    }

    #[test]
    fn those_who_were_told_go_first_then_the_oldest_that_waits() {
        let mut strangers = Strangers::new(3);
        assert_eq!(strangers.enter('a'), None);
        assert_eq!(strangers.enter('b'), None);
        assert_eq!(strangers.tell('b'), None);
        assert_eq!(strangers.enter('c'), None);
        assert_eq!(strangers.enter('d'), Some('b'));
        strangers.forget('b');
        assert_eq!(strangers.enter('e'), Some('a'));
        strangers.forget('a');
        assert_eq!(strangers.tell('x'), Some('c'), "not the one that was told just now");
        strangers.forget('c');
        assert_eq!(strangers.len(), 3);
    }

    #[test]
    fn one_that_enrols_stays_whoever_comes_and_there_are_only_so_many() {
        let mut strangers = Strangers::new(2);
        for link in 0..2 {
            assert_eq!(strangers.enter(link), None);
            assert!(strangers.may_enrol());
            strangers.enrol(link);
        }
        assert!(!strangers.may_enrol());
        for link in 2..50 {
            if let Some(evicted) = strangers.enter(link) {
                assert_eq!(evicted, link - 2);
                strangers.forget(evicted);
            }
            assert!(strangers.len() <= 4);
        }
        assert_eq!(strangers.tell(0), Some(48), "its enrolment has ended, and it makes room like others");
        strangers.forget(48);
        assert!(strangers.may_enrol());
        assert_eq!(strangers.len(), 3);
    }

    proptest! {
        #[test]
        fn the_pool_is_bounded_and_loses_none_that_enrols(steps in proptest::collection::vec((0u8..5, 0usize..32), 1..300)) {
            const PLACES: usize = 4;
            let mut strangers = Strangers::new(PLACES as u64);
            let (mut there, mut enrolling) = (Vec::<usize>::new(), BTreeSet::new());
            for (next, (step, place)) in steps.into_iter().enumerate() {
                let chosen = there.get(place % there.len().max(1)).copied();
                let evicted = match (step, chosen) {
                    (0 | 1, _) => {
                        there.push(next);
                        strangers.enter(next)
                    }
                    (2, Some(link)) => {
                        if strangers.may_enrol() && enrolling.insert(link) {
                            strangers.enrol(link);
                        }
                        None
                    }
                    (3, Some(link)) => {
                        enrolling.remove(&link);
                        strangers.tell(link)
                    }
                    (_, Some(link)) => {
                        enrolling.remove(&link);
                        there.retain(|other| *other != link);
                        strangers.forget(link);
                        None
                    }
                    (_, None) => None,
                };
                if let Some(evicted) = evicted {
                    prop_assert!(!enrolling.contains(&evicted) && there.contains(&evicted));
                    there.retain(|other| *other != evicted);
                    strangers.forget(evicted);
                }
                prop_assert_eq!(strangers.len(), there.len());
                prop_assert!(there.len() - enrolling.len() <= PLACES && enrolling.len() <= PLACES);
            }
        }
    }
}
