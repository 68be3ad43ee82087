//! Tasks: what is due is done, and the devices that it concerns are called.
//!
//! Tasks go by the time by which ages are judged ([`Clock::ages`]): a step of the clock that is not believed
//! yet begins none before its time and ends none, and those at their time begin.

use super::nudge::Nudges;
use crate::machine::wall_clock::{AgeTime, STEP_SECONDS};
use crate::reactor::Clock;
use crate::store::{Store, StoreError, TaskStep, TaskTime, TimeChange};
use crate::wire::datagram::WakeReason;
use crate::wire::time::{Moment, WallTime};

/// How far ahead of the last time on disk a start is at which nothing begins that was made before, in
/// milliseconds: that a day is over is less likely than that the clock is wrong, and waits until it is
/// believed.
const HELD_MILLISECONDS_MIN: u64 = 86_400_000;

/// Works on tasks.
pub(super) struct Tasks {
    store: Store,
    clock: Clock,
    /// What time it was at the last step; `None`: there was none, and stored times are to be put right, for
    /// the last start may have had a clock that was wrong.
    seen: Option<Seen>,
    /// Whether what was made before the start does not begin.
    is_held: bool,
    /// Whether the last step failed: that is said once, until one does not.
    has_failed: bool,
}

/// The time that tasks go by, as it was at a step.
#[derive(Clone, Copy)]
struct Seen {
    changes: u64,
    moment: Moment,
    ages: AgeTime,
}

impl Seen {
    fn now(clock: &Clock) -> Self {
        loop {
            // The number of changes belongs to the time only when it is the same before and after.
            let changes = clock.changes();
            let seen = Self { changes, moment: clock.moment(), ages: clock.ages() };
            if clock.changes() == changes {
                return seen;
            }
        }
    }

    /// How the time has changed, beyond what has passed, until another was seen.
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

impl Tasks {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        let is_held = clock.doubted().is_some_and(|doubt| doubt.ahead_milliseconds >= HELD_MILLISECONDS_MIN);
        if is_held {
            log::warn!("tasks that were made before do not begin until the clock is set right or believed");
        }
        Self { store, clock, seen: None, is_held, has_failed: false }
    }

    /// Does a piece of what is due; whether more is to be done at once. Devices that have something to execute, or are to end something,
    /// are woken for it.
    pub(super) fn step(&mut self, nudges: &Nudges) -> bool {
        match self.try_step() {
            Ok(step) => {
                nudges.add(&step.devices, Some(WakeReason::Task));
                self.has_failed = false;
                step.has_more
            }
            Err(error) => {
                if !self.has_failed {
                    log::warn!("tasks could not be worked on, that is tried again every second: {error}");
                }
                self.has_failed = true;
                false
            }
        }
    }

    fn try_step(&mut self) -> Result<TaskStep, StoreError> {
        let seen = Seen::now(&self.clock);
        self.is_held &= self.clock.doubted().is_some();
        let holds_before = if self.is_held { self.clock.started_at() } else { WallTime(0) };
        let time = TaskTime { now: seen.ages.wall, may_expire: seen.ages.may_expire, holds_before };
        if self.seen.is_none_or(|before| before.changes != seen.changes) {
            let change = self.seen.map_or_else(TimeChange::default, |before| before.change_until(&seen));
            self.store.correct_task_times(time, change)?;
        }
        self.seen = Some(seen);
        self.store.step_tasks(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seconds: u64, ahead_seconds: u64, may_expire: bool) -> Seen {
        let wall = WallTime((1_795_514_400 + seconds + ahead_seconds) * 1_000);
        Seen { changes: 0, moment: Moment(seconds * 1_000_000), ages: AgeTime { wall, may_expire } }
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
}
