//! Deadlines of many links.

use crate::wire::time::{CoarseMoment, Moment};

/// Longest distance of an entry of [`Timers::bring_forward`]: a device that was told to be heard within a
/// quarter of an hour soon says that it will be heard within a minute, and its deadline moves forward.
const AHEAD_SECONDS_MAX: u64 = 60;

/// Entries of one segment: 8 KiB with the deadlines of links.
const SEGMENT_ENTRIES: usize = 1_024;

/// Representation of deadlines.
pub trait Deadline: Ord + Copy {
    /// Later than any.
    const NEVER: Self;

    /// The first that is not before a moment.
    fn not_before(moment: Moment) -> Self;

    /// The moment that it stands for.
    fn moment(self) -> Moment;
}

impl Deadline for Moment {
    const NEVER: Self = Self(u64::MAX);

    fn not_before(moment: Moment) -> Self {
        moment
    }

    fn moment(self) -> Moment {
        self
    }
}

impl Deadline for CoarseMoment {
    const NEVER: Self = Self::NEVER;

    fn not_before(moment: Moment) -> Self {
        Self::not_before(moment)
    }

    fn moment(self) -> Moment {
        self.moment()
    }
}

/// Deadlines, the earliest first. `K` names whose it is, `D` is what they are kept as.
///
/// A deadline that only moves back, as an idle link's does with each message, costs nothing here: the entry
/// stays, and when it comes due its owner says what the deadline is by now ([`Timers::due`]). So there is one
/// entry for each owner, however often it moves. One that moves forward leaves its entry behind; an owner
/// that keeps the moment of the entry that counts ([`Timers::bring_forward`], [`Timers::is_over`]) has one
/// entry again when the one that was left behind comes due.
///
/// A binary heap in segments: with two million entries, one in a single piece would need its memory twice
/// whenever it grows.
pub struct Timers<K, D = Moment> {
    segments: Vec<Vec<Entry<K, D>>>,
    entries: usize,
}

type Entry<K, D> = (D, K);

impl<K, D> Default for Timers<K, D> {
    fn default() -> Self {
        Self { segments: Vec::new(), entries: 0 }
    }
}

impl<K: Ord + Copy, D: Deadline> Timers<K, D> {
    /// Deadline that is armed for an owner without an entry.
    pub const NEVER: D = D::NEVER;

    /// Arms a deadline. Call it once for an owner, and again only when its deadline moves forward.
    pub fn arm(&mut self, deadline: Moment, owner: K) {
        self.push((D::not_before(deadline), owner));
    }

    fn push(&mut self, entry: Entry<K, D>) {
        if self.entries == self.segments.len() * SEGMENT_ENTRIES {
            self.segments.push(Vec::with_capacity(SEGMENT_ENTRIES));
        }
        let mut at = self.entries;
        self.segments[at / SEGMENT_ENTRIES].push(entry);
        self.entries += 1;
        while at > 0 && self.at(at) < self.at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// Arms an owner's deadline when it lies before the entry that counts, which is `armed`;
    /// [`Timers::NEVER`] for an owner without one. A deadline farther ahead than a minute is looked at again
    /// then, so that it seldom moves before its entry and leaves one behind.
    pub fn bring_forward(&mut self, armed: &mut D, deadline: Moment, now: Moment, owner: K) {
        let at = D::not_before(deadline.min(now.plus_seconds(AHEAD_SECONDS_MAX)));
        if at < *armed {
            *armed = at;
            self.push((at, owner));
        }
    }

    /// An owner's entry has come due at `at`: whether the owner's deadline has. When it lies ahead it is
    /// armed again. An entry that is not the one that counts is forgotten: armed again it would stay for as
    /// long as its owner, beside the other.
    pub fn is_over(&mut self, at: D, armed: &mut D, deadline: Moment, now: Moment, owner: K) -> bool {
        if at != *armed {
            return false;
        }
        *armed = Self::NEVER;
        if deadline > now {
            self.bring_forward(armed, deadline, now, owner);
            return false;
        }
        true
    }

    /// The next owner whose entry has come due. The owner compares with its own deadline: when that lies
    /// ahead it is armed again, when it has none, or is gone, the entry is forgotten.
    pub fn due(&mut self, now: Moment) -> Option<K> {
        if self.next()?.moment() > now {
            return None;
        }
        let last = self.take_last()?;
        let (_, owner) = match self.entries {
            0 => last,
            _ => std::mem::replace(&mut self.segments[0][0], last),
        };
        self.sink(0);
        Some(owner)
    }

    /// Forgets the entries that are not to be kept: those of owners who have gone stay until they come due,
    /// as long as nobody looks.
    pub fn retain(&mut self, mut is_kept: impl FnMut(D, K) -> bool) {
        let mut kept = 0;
        for at in 0..self.entries {
            let (deadline, owner) = self.at(at);
            if is_kept(deadline, owner) {
                self.swap(kept, at);
                kept += 1;
            }
        }
        while self.entries > kept {
            self.take_last();
        }
        for at in (0..kept / 2).rev() {
            self.sink(at);
        }
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Option<D> {
        (self.entries > 0).then(|| self.at(0).0)
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    fn take_last(&mut self) -> Option<Entry<K, D>> {
        let number = self.entries.checked_sub(1)?;
        let last = self.segments[number / SEGMENT_ENTRIES].pop();
        self.entries = number;
        // One empty segment stays, so that an entry that comes and goes does not allocate each time.
        self.segments.truncate(number.div_ceil(SEGMENT_ENTRIES) + 1);
        last
    }

    /// An entry goes down to where it belongs.
    fn sink(&mut self, mut at: usize) {
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

    fn at(&self, number: usize) -> Entry<K, D> {
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
        let mut timers: Timers<_> = Timers::default();
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
    fn whatever_its_deadline_does_an_owner_has_one_entry_in_the_end() {
        let mut timers: Timers<_> = Timers::default();
        let mut random = Random::new(11);
        let mut owners = [(Timers::<usize>::NEVER, Moment(0)); 50];
        let mut now = Moment(0);
        for _ in 0..2_000 {
            let owner = usize::try_from(random.up_to(49)).unwrap();
            let (armed, deadline) = &mut owners[owner];
            *deadline = Moment(now.0 + 1 + random.up_to(100));
            timers.bring_forward(armed, *deadline, now, owner);
            now = Moment(now.0 + random.up_to(3));
            while let Some(at) = timers.next().filter(|next| *next <= now) {
                let owner = timers.due(now).unwrap();
                let (armed, deadline) = &mut owners[owner];
                if timers.is_over(at, armed, *deadline, now, owner) {
                    assert!(*deadline <= now);
                    *deadline = Moment(now.0 + 200);
                    timers.bring_forward(armed, *deadline, now, owner);
                }
            }
            for (armed, deadline) in owners.iter().filter(|(armed, _)| *armed != Timers::<usize>::NEVER) {
                assert!(armed <= deadline && *deadline > now, "nobody is forgotten");
            }
        }
        // Nobody moves forward any more: what was left behind has gone when it would have come due, long
        // before the deadlines.
        for (owner, (armed, deadline)) in owners.iter_mut().enumerate() {
            *deadline = Moment(now.0 + 1_000);
            timers.bring_forward(armed, *deadline, now, owner);
        }
        now = Moment(now.0 + 500);
        while let Some(at) = timers.next().filter(|next| *next <= now) {
            let owner = timers.due(now).unwrap();
            let (armed, deadline) = &mut owners[owner];
            assert!(!timers.is_over(at, armed, *deadline, now, owner));
        }
        assert_eq!(timers.len(), owners.len());
    }

    #[test]
    fn a_deadline_far_ahead_may_move_forward_and_leave_nothing_behind() {
        let (mut timers, mut armed): (Timers<_>, _) = (Timers::default(), Timers::<u8>::NEVER);
        let at = |seconds| Moment(0).plus_seconds(seconds);
        timers.bring_forward(&mut armed, at(960), at(0), 1);
        // Heard: it will be heard again within a minute.
        timers.bring_forward(&mut armed, at(160), at(40), 1);
        assert_eq!((timers.len(), armed), (1, at(60)));
        assert_eq!(timers.due(at(60)), Some(1));
        assert!(!timers.is_over(at(60), &mut armed, at(160), at(60), 1));
        assert_eq!((timers.len(), armed), (1, at(120)));
        timers.due(at(120));
        assert!(!timers.is_over(at(120), &mut armed, at(160), at(120), 1));
        timers.due(at(160));
        assert!(timers.is_over(at(160), &mut armed, at(160), at(160), 1));
        assert_eq!((timers.len(), armed), (0, Timers::<u8>::NEVER));
    }

    #[test]
    fn kept_coarsely_a_deadline_comes_due_with_the_tenth_of_a_second_that_follows_it() {
        let (mut timers, mut armed) = (Timers::<u32, CoarseMoment>::default(), CoarseMoment::NEVER);
        let at = |milliseconds| Moment(0).plus_milliseconds(milliseconds);
        timers.bring_forward(&mut armed, at(2_010), at(0), 7);
        timers.bring_forward(&mut armed, at(2_099), at(0), 7);
        assert_eq!((timers.len(), timers.next().map(CoarseMoment::moment)), (1, Some(at(2_100))));
        assert_eq!((timers.due(at(2_099)), timers.due(at(2_100))), (None, Some(7)));
        // It was heard meanwhile.
        assert!(!timers.is_over(CoarseMoment::not_before(at(2_100)), &mut armed, at(2_101), at(2_100), 7));
        assert_eq!((timers.next(), timers.len()), (Some(armed), 1));
        assert_eq!(timers.due(at(2_200)), Some(7));
        assert!(timers.is_over(armed, &mut armed.clone(), at(2_101), at(2_200), 7));
        assert_eq!(size_of::<(CoarseMoment, u32)>(), 8);
    }

    #[test]
    fn entries_of_owners_who_have_gone_are_forgotten_with_their_memory() {
        let mut timers: Timers<_> = Timers::default();
        let mut random = Random::new(3);
        for owner in 0..10_000u32 {
            timers.arm(Moment(random.up_to(1_000)), owner);
        }
        timers.retain(|deadline, owner| owner % 10 == 0 && deadline.0 > 100);
        assert_eq!(timers.segments.len(), 2);
        let (mut last, mut found) = (Moment(0), 0);
        while let Some(at) = timers.next() {
            assert!(at >= last && at.0 > 100 && timers.due(at).unwrap() % 10 == 0);
            (last, found) = (at, found + 1);
        }
        assert!((700..=1_000).contains(&found), "{found}");
        timers.retain(|_, _| true);
        assert!(timers.len() == 0);
    }

    #[test]
    fn it_gives_what_the_standard_heap_gives_and_gives_its_memory_back() {
        let (mut timers, mut model): (Timers<_>, _) = (Timers::default(), BinaryHeap::new());
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
