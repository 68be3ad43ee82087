//! Which handshakes may begin, and when.
//!
//! A handshake is the dearest thing that a stranger can ask for, and nobody is known before its end. So a
//! reactor takes up no more of them than it can work on, and leaves the others in the kernel's backlog, where
//! they cost nothing. There are three limits, each with its own answer to "when then": how many may be under
//! way, how much of the reactor's time they may take together, and, when an administrator has set one, how
//! many may begin in a second.
//!
//! A handshake that does not get on loses its place to one that waits, the oldest first: those soonest that
//! have not said a word, for they have not cost anything yet; then those that began and fell silent. While
//! nobody waits they may take their time.

pub mod strangers;

use std::collections::BTreeSet;

use super::bucket::Bucket;
use crate::wire::time::Moment;

/// Most handshakes of one reactor that are under way. One takes about 3 KiB before its first word, 12 KiB
/// half way and 20 KiB with a message that is not whole, so 24 MiB, and 40 MiB at worst; with peers half a
/// second away it allows 4,000 handshakes a second, about what a core can do.
pub const HANDSHAKES_UNDER_WAY_MAX: usize = 2_048;

/// Time that a connection on which nothing was said has its place for certain: a device speaks first and at
/// once, so that this is its way here, twice if a packet is lost on it.
const SILENT_MILLISECONDS: u64 = 1_500;

/// Time that a handshake that has begun has its place for certain: a slow device has to sign, on a slow
/// network.
const HALF_MILLISECONDS: u64 = 4_000;

/// Share of a reactor's time that handshakes may take together. The rest is for the threads that share its
/// core, the journal's first: were it all, acknowledgements would wait for a core.
const SHARE_PERCENT: u64 = 90;

/// Time that handshakes may take in one go after a while without any.
const SHARE_BURST_MICROSECONDS: u64 = 20_000;

/// Over how long handshakes that are limited in number may be bunched: a tenth of what a second allows may
/// begin at once.
const RATE_BURST_MICROSECONDS: u64 = 100_000;

/// Whether the next handshake may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// It may.
    Now,
    /// Not before this moment: the bucket is empty.
    At(Moment),
    /// As many as may be are under way, and each has its place for certain: at this moment the first has not
    /// any more, unless one ends before.
    Full(Moment),
}

/// Since when a handshake stands where it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Progress {
    /// It was accepted, and nothing was heard.
    Silent(Moment),
    /// Its first word has come.
    Half(Moment),
}

/// The handshakes of one reactor. `K` names a link.
#[derive(Debug)]
pub struct Admission<K> {
    max: usize,
    silent: BTreeSet<(Moment, K)>,
    half: BTreeSet<(Moment, K)>,
    rate: Bucket,
    /// The share of `rate` that one handshake takes; zero when their number is not limited.
    interval_microseconds: u64,
    time: Bucket,
}

impl<K: Ord + Copy> Admission<K> {
    /// With at most `max` under way.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            silent: BTreeSet::new(),
            half: BTreeSet::new(),
            rate: Bucket::default(),
            interval_microseconds: 0,
            time: Bucket::default(),
        }
    }

    /// Microseconds between the begin of two, on average; zero: as they come.
    pub fn set_interval(&mut self, microseconds: u64) {
        self.interval_microseconds = microseconds;
    }

    /// A connection was accepted.
    pub fn begin(&mut self, now: Moment, link: K) -> Progress {
        self.rate.take(now, self.interval_microseconds);
        self.silent.insert((now, link));
        Progress::Silent(now)
    }

    /// Something was heard on it.
    pub fn heard(&mut self, now: Moment, link: K, progress: Progress) -> Progress {
        match progress {
            Progress::Silent(since) if self.silent.remove(&(since, link)) => {
                self.half.insert((now, link));
                Progress::Half(now)
            }
            other => other,
        }
    }

    /// Its handshake has ended, well or not.
    pub fn end(&mut self, link: K, progress: Progress) {
        match progress {
            Progress::Silent(since) => self.silent.remove(&(since, link)),
            Progress::Half(since) => self.half.remove(&(since, link)),
        };
    }

    /// Handshakes took so much of the reactor's time.
    pub fn spend(&mut self, now: Moment, microseconds: u64) {
        self.time.take(now, microseconds.saturating_mul(100) / SHARE_PERCENT);
    }

    /// Whose place goes to somebody who waits. The caller ends that handshake.
    #[must_use]
    pub fn to_evict(&self, now: Moment) -> Option<K> {
        let first_of = |set: &BTreeSet<(Moment, K)>, milliseconds| {
            set.first()
                .filter(|(since, _)| since.plus_milliseconds(milliseconds) <= now)
                .map(|(_, link)| *link)
        };
        first_of(&self.silent, SILENT_MILLISECONDS).or_else(|| first_of(&self.half, HALF_MILLISECONDS))
    }

    /// Whether the next one may begin. `has_room` says whether there may be one more link at all.
    #[must_use]
    pub fn entry(&self, now: Moment, has_room: bool) -> Entry {
        let opens_at = self.opens_at().max(match self.interval_microseconds {
            0 => Moment(0),
            _ => self.rate.opens_at(RATE_BURST_MICROSECONDS),
        });
        if opens_at > now {
            Entry::At(opens_at)
        } else if self.under_way() < self.max && has_room {
            Entry::Now
        } else {
            Entry::Full(self.first_evictable_at())
        }
    }

    /// When time may be spent on handshakes again; in the past: now.
    #[must_use]
    pub fn opens_at(&self) -> Moment {
        self.time.opens_at(SHARE_BURST_MICROSECONDS)
    }

    /// Number of handshakes under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.silent.len() + self.half.len()
    }

    fn first_evictable_at(&self) -> Moment {
        let at = |set: &BTreeSet<(Moment, K)>, milliseconds| {
            set.first().map(|(since, _)| since.plus_milliseconds(milliseconds))
        };
        let (silent, half) = (at(&self.silent, SILENT_MILLISECONDS), at(&self.half, HALF_MILLISECONDS));
        silent.into_iter().chain(half).min().unwrap_or(Moment(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn milliseconds(count: u64) -> Moment {
        Moment(0).plus_milliseconds(count)
    }

    #[test]
    fn handshakes_take_no_more_than_their_share() {
        let mut admission = Admission::<u32>::new(10);
        let (mut now, mut spent) = (0, 0);
        while now < 10 * SECOND {
            if admission.entry(Moment(now), true) == Entry::Now {
                admission.spend(Moment(now), 160);
                spent += 160;
                now += 160;
            } else {
                now = admission.opens_at().0;
            }
        }
        assert!((8_900_000..9_100_000).contains(&spent), "{spent} µs of 10 s");
    }

    #[test]
    fn a_limit_of_fifty_a_second_is_kept() {
        let mut admission = Admission::new(1_000);
        admission.set_interval(SECOND / 50);
        let begun = (0..10 * SECOND).step_by(1_000).filter(|now| {
            let may_begin = admission.entry(Moment(*now), true) == Entry::Now;
            if may_begin {
                let progress = admission.begin(Moment(*now), *now);
                admission.end(*now, progress);
            }
            may_begin
        });
        assert!((500..=506).contains(&begun.count()));
    }

    #[test]
    fn who_says_nothing_loses_its_place_and_who_got_further_keeps_it_longer() {
        let mut admission = Admission::new(3);
        admission.begin(milliseconds(0), 'a');
        let slow = admission.begin(milliseconds(10), 'b');
        admission.heard(milliseconds(20), 'b', slow);
        admission.begin(milliseconds(30), 'c');
        assert_eq!(admission.entry(milliseconds(40), true), Entry::Full(milliseconds(1_500)));
        assert_eq!(admission.to_evict(milliseconds(1_499)), None);
        assert_eq!(admission.to_evict(milliseconds(1_500)), Some('a'), "the oldest that is silent");
        admission.end('a', Progress::Silent(milliseconds(0)));
        assert_eq!(admission.entry(milliseconds(1_500), true), Entry::Now);
        assert_eq!(admission.to_evict(milliseconds(1_530)), Some('c'));
        admission.end('c', Progress::Silent(milliseconds(30)));
        assert_eq!(admission.to_evict(milliseconds(4_019)), None);
        assert_eq!(admission.to_evict(milliseconds(4_020)), Some('b'));
    }

    #[test]
    fn without_room_for_a_link_nothing_begins() {
        let admission = Admission::<u8>::new(3);
        assert_eq!(admission.entry(Moment(0), false), Entry::Full(Moment(u64::MAX)));
    }

    /// Connections that say nothing come all the time, ten times as many as could wait for the handshake's
    /// deadline of 10 s, and a device each second.
    #[test]
    fn a_flood_of_silence_does_not_lock_devices_out() {
        const MAX: usize = 60;
        let mut admission = Admission::new(MAX);
        let mut backlog = VecDeque::new();
        let mut under_way = BTreeMap::new();
        let mut waits_milliseconds = Vec::new();
        for (number, now) in (0..60_000_u64).map(|number| (number, milliseconds(number))) {
            if number.is_multiple_of(30) {
                backlog.push_back((number, false));
            }
            if number % 1_000 == 7 {
                backlog.push_back((number, true));
            }
            while let Some((arrived, is_device)) = backlog.front().copied() {
                match admission.entry(now, true) {
                    Entry::Now => {
                        backlog.pop_front();
                        let link = (arrived, is_device);
                        let progress = admission.begin(now, link);
                        if is_device {
                            waits_milliseconds.push(number - arrived);
                            under_way.insert(link, admission.heard(now, link, progress));
                        } else {
                            under_way.insert(link, progress);
                        }
                    }
                    Entry::Full(at) if at <= now => {
                        let link = admission.to_evict(now).unwrap();
                        assert!(!link.1, "a device is done long before");
                        admission.end(link, under_way.remove(&link).unwrap());
                    }
                    Entry::Full(_) | Entry::At(_) => break,
                }
            }
            // A device is done in a third of a second.
            let done =
                under_way.iter().find(|((arrived, is_device), _)| *is_device && arrived + 300 < number);
            if let Some((link, progress)) = done.map(|(link, progress)| (*link, *progress)) {
                under_way.remove(&link);
                admission.end(link, progress);
            }
        }
        assert!(waits_milliseconds.len() >= 59, "{} of 60 devices", waits_milliseconds.len());
        assert!(waits_milliseconds.iter().all(|wait| *wait < 1_000), "{waits_milliseconds:?}");
    }

    proptest! {
        #[test]
        fn places_are_neither_lost_nor_given_twice(steps in proptest::collection::vec((0u8..4, 0u64..3_000), 1..300)) {
            const MAX: usize = 8;
            let mut admission = Admission::new(MAX);
            let mut under_way: Vec<(u32, Progress)> = Vec::new();
            let (mut now, mut next) = (Moment(0), 0);
            for (step, wait) in steps {
                now = now.plus_milliseconds(wait);
                match step {
                    0 => match admission.entry(now, true) {
                        Entry::Now => {
                            under_way.push((next, admission.begin(now, next)));
                            next += 1;
                        }
                        Entry::Full(at) => {
                            prop_assert_eq!(under_way.len(), MAX);
                            prop_assert_eq!(admission.to_evict(now).is_some(), at <= now);
                        }
                        Entry::At(_) => prop_assert!(false, "nothing was spent"),
                    },
                    1 => if let Some((link, progress)) = under_way.last_mut() {
                        *progress = admission.heard(now, *link, *progress);
                    },
                    2 => if !under_way.is_empty() {
                        let (link, progress) = under_way.remove(0);
                        admission.end(link, progress);
                    },
                    _ => if let Some(link) = admission.to_evict(now) {
                        let place = under_way.iter().position(|(other, _)| *other == link).unwrap();
                        let (_, progress) = under_way.remove(place);
                        admission.end(link, progress);
                    },
                }
                prop_assert_eq!(admission.under_way(), under_way.len());
                prop_assert!(under_way.len() <= MAX);
            }
        }
    }
}
