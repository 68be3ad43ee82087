//! The server's wall clock: the real watch over it, what is remembered of it on disk, and what goes by it.

use muster::machine::task_clock::{Look, TaskClock, TaskTime};
use muster::machine::wall_clock::{AgeTime, ClockChange, ClockEvent, STEP_SECONDS, WallClock};
use muster::wire::time::{Now, WallTime};

use crate::bug::Bug;
use crate::desired::OrderBook;

/// The wall time in the store, and its distance from the time in truth, which started at zero, in
/// milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    wall: Option<WallTime>,
    line: i64,
}

pub(crate) struct ServerClock {
    /// Distance of the system's clock from the time in truth, in milliseconds.
    pub(crate) offset: u64,
    /// The watch, in this life.
    pub(crate) watch: WallClock,
    known: Known,
    /// Number of times that it has changed otherwise than by passing, in this life.
    changes: u64,
    task_clock: TaskClock,
    /// Since when devices can be heard, by the wall clock.
    pub(crate) serving_since: WallTime,
    /// When, in truth, a start was last ahead of what was known, or a clock that was ahead was believed.
    pub(crate) misled_at: Option<u64>,
    /// Since when devices could come without a break, by the wall clock.
    pub(crate) present_since: WallTime,
}

impl ServerClock {
    pub(crate) fn new() -> Self {
        Self {
            offset: 1_795_514_400_000,
            watch: WallClock::start(Now::default(), 0, None).0,
            known: Known { wall: None, line: 0 },
            changes: 0,
            task_clock: TaskClock::start(None),
            serving_since: WallTime(0),
            misled_at: None,
            present_since: WallTime(0),
        }
    }

    /// A life of the server begins.
    pub(crate) fn start(&mut self, now: Now, book: &mut OrderBook) {
        let (watch, change) = WallClock::start(now, 0, self.known.wall);
        self.watch = watch;
        self.changes = u64::from(change.is_some());
        self.task_clock = TaskClock::start(self.watch.doubted());
        let known = change.map_or_else(|| self.watch.known(now.moment), |change| change.known);
        book.correct_tokens(known, self.watch.ran(now.moment), now.wall);
        if self.known.wall.is_some()
            && line(now.wall, now) - self.known.line > STEP_SECONDS.cast_signed() * 1_000
        {
            self.misled_at = Some(now.moment.0);
        }
        self.remember(now, book);
        (self.present_since, self.serving_since) = (now.wall, now.wall);
    }

    /// Looks at the system's clock; what has become of it otherwise than by passing.
    pub(crate) fn observe(&mut self, now: Now, book: &mut OrderBook) -> Option<ClockChange> {
        let change = self.watch.observe(now, 0)?;
        self.changes += 1;
        if change.event == ClockEvent::Believed {
            self.misled_at = Some(now.moment.0);
        }
        book.correct_tokens(change.known, change.ran, self.watch.ages(now.moment).wall);
        self.remember(now, book);
        let moved = self.present_since.0.saturating_add_signed(change.moved_milliseconds);
        self.present_since = WallTime(moved);
        Some(change)
    }

    pub(crate) fn task_time(&mut self, now: Now, started: Now, bug: Bug, book: &mut OrderBook) -> TaskTime {
        let look = Look { changes: self.changes, moment: now.moment, ages: self.ages(now, bug) };
        let started_at = self.watch.wall(started.moment);
        let time = self.task_clock.time(&look, self.watch.doubted().is_some(), started_at);
        if let Some(change) = self.task_clock.change(&look) {
            if bug != Bug::TimesStay {
                book.correct_tasks(time.now, change.was_right);
                book.correct_runs(time.now, change);
                self.serving_since = self.serving_since.min(time.now);
            }
            self.task_clock.note_right(look);
        }
        time
    }

    /// The time by which ages are judged.
    pub(crate) fn ages(&self, now: Now, bug: Bug) -> AgeTime {
        match bug {
            Bug::AgesByAnyClock => AgeTime { wall: now.wall, may_expire: true },
            _ => self.watch.ages(now.moment),
        }
    }

    /// The time is written to the store.
    pub(crate) fn remember(&mut self, now: Now, book: &mut OrderBook) {
        let known = self.watch.known(now.moment);
        self.known = Known { wall: Some(known), line: line(known, now) };
        book.correct_tokens(known, self.watch.ran(now.moment), self.watch.ages(now.moment).wall);
    }

    pub(crate) fn known(&self) -> Known {
        self.known
    }

    pub(crate) fn restore(&mut self, known: Known) {
        self.known = known;
    }
}

/// Distance of a wall time from the time in truth, in milliseconds.
fn line(wall: WallTime, now: Now) -> i64 {
    wall.0.cast_signed() - (now.moment.0 / 1_000).cast_signed()
}
