//! The wall clock, as all threads of a server see it: one thread watches it, the others read it without a
//! system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::machine::wall_clock::{AgeTime, ClockChange, ClockEvent, Doubt, Stretch, WallClock};
use crate::wire::time::{Moment, Now, WallTime};

/// The watched wall clock. Cheap to clone; clones share it.
///
/// Its answers change only while [`Wall::observe`] runs. Whether something may expire is withdrawn before a
/// step forward is seen, so that no thread ever has the time behind a step together with a permission from
/// before it.
#[derive(Clone, Debug)]
pub struct Wall(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    watch: Mutex<WallClock>,
    shown: AtomicI64,
    ages: AtomicI64,
    may_expire: AtomicBool,
    present_since: AtomicU64,
    changes: AtomicU64,
}

fn on_line(line: i64, moment: Moment) -> WallTime {
    WallTime(u64::try_from(line.saturating_add((moment.0 / 1_000).cast_signed())).unwrap_or(0))
}

impl Wall {
    /// The clock of a server that starts now; the arguments are those of [`WallClock::start`].
    #[must_use]
    pub fn start(now: Now, asleep_milliseconds: u64, last: Option<WallTime>) -> (Self, Option<ClockChange>) {
        let (watch, change) = WallClock::start(now, asleep_milliseconds, last);
        let shared = Shared {
            shown: AtomicI64::new(watch.shown_line()),
            ages: AtomicI64::new(watch.ages_line()),
            may_expire: AtomicBool::new(watch.may_expire()),
            present_since: AtomicU64::new(now.wall.0),
            changes: AtomicU64::new(u64::from(change.is_some())),
            watch: Mutex::new(watch),
        };
        (Self(Arc::new(shared)), change)
    }

    /// Looks at the system's clocks, as [`WallClock::observe`]. For one thread, about once a second.
    #[must_use]
    pub fn observe(&self, now: Now, asleep_milliseconds: u64) -> Option<ClockChange> {
        let shared = &*self.0;
        let mut watch = shared.watch.lock();
        let change = watch.observe(now, asleep_milliseconds);
        if !watch.may_expire() {
            shared.may_expire.store(false, Ordering::Relaxed);
        }
        let sets_back_presence =
            |change: &ClockChange| change.moved_milliseconds != 0 || change.event == ClockEvent::Slept;
        if change.as_ref().is_some_and(sets_back_presence) {
            // Before anybody sees another time: until devices could have come, none of them is late by it.
            shared.present_since.store(now.wall.0, Ordering::Relaxed);
        }
        shared.shown.store(watch.shown_line(), Ordering::Release);
        shared.ages.store(watch.ages_line(), Ordering::Release);
        shared.may_expire.store(watch.may_expire(), Ordering::Release);
        if change.is_some() {
            shared.changes.fetch_add(1, Ordering::Release);
        }
        change
    }

    /// The time of day.
    #[must_use]
    pub fn wall(&self, moment: Moment) -> WallTime {
        on_line(self.0.shown.load(Ordering::Acquire), moment)
    }

    /// The time by which ages are judged, and whether what is over by it may go for good.
    #[must_use]
    pub fn ages(&self, moment: Moment) -> AgeTime {
        // The line first: its permission was withdrawn before it moved.
        let wall = on_line(self.0.ages.load(Ordering::Acquire), moment);
        AgeTime { wall, may_expire: self.0.may_expire.load(Ordering::Acquire) }
    }

    /// Since when devices could come without a break: the start, the last step of the clock, the end of the
    /// last sleep.
    #[must_use]
    pub fn present_since(&self) -> WallTime {
        WallTime(self.0.present_since.load(Ordering::Relaxed))
    }

    /// Sets that. After a step, when the devices' times have been moved along with the clock, devices could
    /// come as before.
    pub fn set_present_since(&self, since: WallTime) {
        self.0.present_since.store(since.0, Ordering::Relaxed);
    }

    /// Number of times that the clock has changed otherwise than by passing, the start included. When it is
    /// another number than before, stored moments of the future are to be computed anew.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// The time to be written down for the next start.
    #[must_use]
    pub fn known(&self, moment: Moment) -> WallTime {
        self.0.watch.lock().known(moment)
    }

    /// For how long the time of [`ages`](Self::ages) has only passed, until now.
    #[must_use]
    pub fn ran(&self, moment: Moment) -> Stretch {
        self.0.watch.lock().ran(moment)
    }

    /// Why nothing is done by age, if nothing is.
    #[must_use]
    pub fn doubted(&self) -> Option<Doubt> {
        self.0.watch.lock().doubted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::wall_clock::GRACE_SECONDS;

    fn at(seconds: u64, ahead_seconds: u64) -> Now {
        let moment = Moment(seconds * 1_000_000);
        Now { moment, wall: WallTime((1_795_514_400 + seconds + ahead_seconds) * 1_000) }
    }

    #[test]
    fn all_threads_read_the_clock_as_it_was_last_looked_at() {
        let (wall, change) = Wall::start(at(10, 0), 0, None);
        assert_eq!((change, wall.changes()), (None, 0));
        assert_eq!(wall.wall(at(20, 0).moment), at(20, 0).wall);
        assert!(wall.observe(at(30, 86_400), 0).is_some());
        assert_eq!(wall.clone().wall(at(40, 0).moment), at(40, 86_400).wall);
        assert_eq!(wall.ages(at(40, 0).moment), AgeTime { wall: at(40, 0).wall, may_expire: false });
        assert_eq!(
            (wall.known(at(40, 0).moment), wall.present_since(), wall.changes()),
            (at(40, 0).wall, at(30, 86_400).wall, 1)
        );
        assert!(wall.observe(at(30 + GRACE_SECONDS, 86_400), 0).is_some());
        let later = at(31 + GRACE_SECONDS, 86_400);
        assert_eq!(wall.ages(later.moment), AgeTime { wall: later.wall, may_expire: true });
        assert_eq!((wall.present_since(), wall.doubted()), (at(30, 86_400).wall, None));
    }
}
