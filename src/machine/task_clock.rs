//! The time that tasks go by.
//!
//! That is the time by which ages are judged ([`WallClock::ages`](super::wall_clock::WallClock::ages)): a
//! step of the clock that is not believed yet begins no task before its time and ends none, and those at
//! their time begin.

use super::wall_clock::{AgeTime, Doubt, STEP_SECONDS};
use crate::wire::time::{Moment, WallTime};

/// Distance ahead of the last time on disk at which a start begins nothing that was made before: that a day
/// is over is less likely than that the clock is wrong, and waits until it is believed.
const HELD_MILLISECONDS_MIN: u64 = 86_400_000;

/// The time that tasks go by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskTime {
    /// The time.
    pub now: WallTime,
    /// Whether what is over by it may end for good: runs that wait, devices that are silent, what is kept of
    /// old tasks.
    pub may_expire: bool,
    /// Tasks that were made before this don't begin: it is not certain enough that their time has come.
    pub holds_before: WallTime,
}

impl TaskTime {
    /// A time that there is no doubt about.
    #[must_use]
    pub fn certain(now: WallTime) -> Self {
        Self { now, may_expire: true, holds_before: WallTime(0) }
    }
}

/// Change of the time that tasks go by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimeChange {
    /// Distance that it has gone forward beyond what passed: stored times of runs go along.
    pub forward_milliseconds: u64,
    /// Whether it was set back although it had been right.
    pub was_right: bool,
}

/// The clock, as it was looked at once.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Number of times that it had changed otherwise than by passing, the start included.
    pub changes: u64,
    /// When that was.
    pub moment: Moment,
    /// The time by which ages are judged.
    pub ages: AgeTime,
}

impl Look {
    /// Change of the time, beyond what has passed, until another look.
    fn change_until(&self, later: &Self) -> TimeChange {
        let passed = later.moment.microseconds_since(self.moment) / 1_000;
        let expected = self.ages.wall.0.saturating_add(passed);
        let is_step = |milliseconds: &u64| *milliseconds > STEP_SECONDS * 1_000;
        let forward = Some(later.ages.wall.0.saturating_sub(expected)).filter(is_step);
        let back = Some(expected.saturating_sub(later.ages.wall.0)).filter(is_step);
        // Otherwise the time went forward because the machine slept: that did pass.
        let is_believed = !self.ages.may_expire && later.ages.may_expire;
        TimeChange {
            forward_milliseconds: forward.filter(|_| is_believed).unwrap_or(0),
            was_right: self.ages.may_expire && back.is_some(),
        }
    }
}

/// Follows the clock for those who work on tasks.
#[derive(Clone, Debug)]
pub struct TaskClock {
    /// The last look after which stored times were right; `None`: there was none, and they are to be put
    /// right, for the last start may have had a clock that was wrong.
    seen: Option<Look>,
    /// Whether what was made before the start does not begin.
    is_held: bool,
}

impl TaskClock {
    /// Begins at a start; `doubt` is what there is of it then.
    #[must_use]
    pub fn start(doubt: Option<Doubt>) -> Self {
        let is_held = doubt.is_some_and(|doubt| doubt.ahead_milliseconds >= HELD_MILLISECONDS_MIN);
        Self { seen: None, is_held }
    }

    /// Whether what was made before the start does not begin.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// The time that tasks go by. `started_at` is when the server started, by the clock of now.
    pub fn time(&mut self, look: &Look, is_doubted: bool, started_at: WallTime) -> TaskTime {
        self.is_held &= is_doubted;
        let holds_before = if self.is_held { started_at } else { WallTime(0) };
        TaskTime { now: look.ages.wall, may_expire: look.ages.may_expire, holds_before }
    }

    /// Change for which stored times must be corrected before anything else is done, if there is one.
    #[must_use]
    pub fn change(&self, look: &Look) -> Option<TimeChange> {
        match self.seen {
            None => Some(TimeChange::default()),
            Some(seen) => (seen.changes != look.changes).then(|| seen.change_until(look)),
        }
    }

    /// Stored times are right, as of this look.
    pub fn note_right(&mut self, look: Look) {
        self.seen = Some(look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seconds: u64, ahead_seconds: u64, may_expire: bool) -> Look {
        let wall = WallTime((1_795_514_400 + seconds + ahead_seconds) * 1_000);
        Look { changes: 0, moment: Moment(seconds * 1_000_000), ages: AgeTime { wall, may_expire } }
    }

    #[test]
    fn what_the_time_did_says_what_is_done_to_stored_times() {
        let goes_along = |by: u64| TimeChange { forward_milliseconds: by * 1_000, was_right: false };
        let nothing = TimeChange::default();
        let day = 86_400;
        // A step forward is seen, and believed an hour later; or it was a lie.
        assert_eq!(seen(10, 0, true).change_until(&seen(11, 0, false)), nothing);
        assert_eq!(seen(11, 0, false).change_until(&seen(3_611, day, true)), goes_along(day));
        assert_eq!(seen(11, 0, false).change_until(&seen(71, 0, true)), nothing);
        // A start that was ahead is believed, or was wrong.
        assert_eq!(seen(11, day, false).change_until(&seen(3_611, day, true)), nothing);
        assert_eq!(seen(11, day, false).change_until(&seen(71, 0, true)), nothing);
        // A clock that was right is set back; the machine slept.
        let back = TimeChange { was_right: true, ..nothing };
        assert_eq!(seen(10, day, true).change_until(&seen(11, 0, true)), back);
        assert_eq!(seen(10, 0, true).change_until(&seen(11, day, true)), nothing);
    }

    #[test]
    fn a_start_a_day_ahead_holds_what_was_made_before_until_the_doubt_ends() {
        let doubt = |ahead_milliseconds| Some(Doubt { ahead_milliseconds, until: Moment(0) });
        let started_at = WallTime(5);
        for (doubt, is_held) in [(None, false), (doubt(86_399_999), false), (doubt(86_400_000), true)] {
            let mut clock = TaskClock::start(doubt);
            let held = clock.time(&seen(1, 0, false), true, started_at).holds_before;
            assert_eq!(held, if is_held { started_at } else { WallTime(0) });
            assert_eq!(clock.time(&seen(2, 0, true), false, started_at).holds_before, WallTime(0));
            assert_eq!(clock.time(&seen(3, 0, false), true, started_at).holds_before, WallTime(0));
        }
    }

    #[test]
    fn stored_times_are_put_right_at_a_start_and_after_each_change_until_that_is_done() {
        let mut clock = TaskClock::start(None);
        assert_eq!(clock.change(&seen(1, 0, true)), Some(TimeChange::default()));
        assert_eq!(clock.change(&seen(1, 0, true)), Some(TimeChange::default()), "it was not done");
        clock.note_right(seen(1, 0, true));
        assert_eq!(clock.change(&seen(2, 0, true)), None);
        let changed = Look { changes: 1, ..seen(3, 0, false) };
        assert_eq!(clock.change(&changed), Some(TimeChange::default()));
    }
}
