//! A wall clock that may lie, watched beside a clock that can't be set.
//!
//! Told both clocks regularly, and at the start the last wall time that is known from disk, it says when the
//! wall clock has stepped, and whether what can't be undone may be done by age now. Three lines run with the
//! monotonic clock, each a number of milliseconds from it:
//!
//! | line | is |
//! |---|---|
//! | shown | what the wall clock says; follows every step at once |
//! | ages | what ages are judged by; follows a step forward when that is believed |
//! | known | what is known for certain: what was on disk at the start, or shown before a step forward that is not believed yet |
//!
//! A step forward raises doubt, and so does a start that is far behind the last one by the wall clock, which
//! can't be told from a long stop. Doubt ends when the clock is set back to where it should be, or after
//! [`GRACE_SECONDS`] without another step.

use crate::wire::time::{Moment, Now, WallTime};

/// Distance that the wall clock may come off the monotonic one within [`WINDOW_SECONDS`] before that is a
/// step: time servers correct some seconds at a time, and ages here are counted in hours and more.
pub const STEP_SECONDS: u64 = 60;

/// Within which time small corrections are added up.
pub const WINDOW_SECONDS: u64 = 3_600;

/// Time during which nothing is done by age that can't be undone, in seconds of running after the last step
/// forward: long enough for a time server, or a person, to correct a clock that was set wrong.
pub const GRACE_SECONDS: u64 = 3_600;

/// Distance ahead of the last time on disk at which a start may find the wall clock without doubt: a restart
/// takes less.
pub const STOP_SECONDS: u64 = 900;

/// Event of the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockEvent {
    /// At the start it is far ahead of the last time on disk: a long stop, or a wrong clock.
    StartedAhead,
    /// At the start it is behind the last time on disk.
    StartedBehind,
    /// It stepped forward.
    Forward,
    /// It stepped back.
    Back,
    /// It stepped back to where it should be: it is believed again.
    Right,
    /// It has run without another step for so long that it is believed.
    Believed,
    /// The machine slept, and the wall clock went on as it should.
    Slept,
}

/// A change of the wall clock, as it was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockChange {
    /// The event.
    pub event: ClockEvent,
    /// Distance of the clock from its expected time; negative: behind. After [`ClockEvent::Slept`], how long
    /// the machine slept; after [`ClockEvent::Believed`], how far the clock was ahead all the time.
    pub by_milliseconds: i64,
    /// Distance that the clock has moved against the monotonic one since it was looked at last: stamps of
    /// this process must be moved by it to keep their age. Zero at a start and after a sleep.
    pub moved_milliseconds: i64,
    /// The clock's time now.
    pub now: WallTime,
    /// The time by all that was known before: what had expired by it had expired.
    pub known: WallTime,
    /// For how long the time by which ages are judged had only passed before this.
    pub ran: Stretch,
}

/// A stretch of the time by which ages are judged in which it only passed: what lived from its beginning to
/// its end by this clock did so in truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Its beginning.
    pub since: WallTime,
    /// Its end.
    pub until: WallTime,
}

/// The time by which ages are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgeTime {
    /// The time. While the clock is doubted after a step it goes on as if there had been none.
    pub wall: WallTime,
    /// Whether what is over by this time may be deleted, or marked as expired, for good.
    pub may_expire: bool,
}

impl From<WallTime> for AgeTime {
    /// A time that is believed.
    fn from(wall: WallTime) -> Self {
        Self { wall, may_expire: true }
    }
}

/// Why nothing is done by age.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubt {
    /// Distance of the wall clock ahead of what is known.
    pub ahead_milliseconds: u64,
    /// When the doubt ends unless something happens before.
    pub until: Moment,
}

/// The watch over a wall clock.
#[derive(Clone, Debug)]
pub struct WallClock {
    shown: i64,
    ages: i64,
    known: i64,
    /// The line that is shown, at the begin of the window in which small corrections are added up.
    window_line: i64,
    window_since: Moment,
    /// The machine's sleep until the last look.
    asleep_milliseconds: u64,
    doubted_until: Option<Moment>,
    /// Since when the line of ages was not moved.
    ages_since: Moment,
}

const STEP_MILLISECONDS: i64 = STEP_SECONDS.cast_signed() * 1_000;
const STOP_MILLISECONDS: i64 = STOP_SECONDS.cast_signed() * 1_000;

fn moment_milliseconds(moment: Moment) -> i64 {
    (moment.0 / 1_000).cast_signed()
}

/// Distance of the wall clock from the monotonic one. Times beyond 146 million years count as that.
fn line_through(now: Now) -> i64 {
    let wall = now.wall.0.min(u64::MAX / 4).cast_signed();
    wall.saturating_sub(moment_milliseconds(now.moment))
}

fn on_line(line: i64, moment: Moment) -> WallTime {
    WallTime(u64::try_from(line.saturating_add(moment_milliseconds(moment))).unwrap_or(0))
}

impl WallClock {
    /// Begins to watch. `last` is what [`known`](Self::known) said when it was last written to disk;
    /// `asleep_milliseconds` how long the machine has slept since its boot, or always zero where that is not
    /// known.
    #[must_use]
    pub fn start(now: Now, asleep_milliseconds: u64, last: Option<WallTime>) -> (Self, Option<ClockChange>) {
        let shown = line_through(now);
        let mut clock = Self {
            shown,
            ages: shown,
            known: shown,
            window_line: shown,
            window_since: now.moment,
            asleep_milliseconds,
            doubted_until: None,
            ages_since: now.moment,
        };
        let Some(last) = last else { return (clock, None) };
        let known = line_through(Now { wall: last, ..now });
        let ahead = shown.saturating_sub(known);
        let event = if ahead > STOP_MILLISECONDS {
            clock.known = known;
            clock.doubt(now.moment);
            ClockEvent::StartedAhead
        } else if ahead < -STEP_MILLISECONDS {
            ClockEvent::StartedBehind
        } else {
            return (clock, None);
        };
        let change = ClockChange {
            event,
            by_milliseconds: ahead,
            moved_milliseconds: 0,
            now: now.wall,
            known: last,
            ran: clock.ran(now.moment),
        };
        (clock, Some(change))
    }

    /// Looks at both clocks. Returns the change, if there is one; the earlier it is looked, the sooner a step
    /// is noticed.
    pub fn observe(&mut self, now: Now, asleep_milliseconds: u64) -> Option<ClockChange> {
        let slept = self.note_sleep(asleep_milliseconds);
        let line = line_through(now);
        let moved = line.saturating_sub(self.shown);
        let by = line.saturating_sub(self.window_line);
        let (known, ran, ages) = (on_line(self.known, now.moment), self.ran(now.moment), self.ages);
        let change = |event, by_milliseconds, moved_milliseconds| {
            Some(ClockChange { event, by_milliseconds, moved_milliseconds, now: now.wall, known, ran })
        };
        // Small corrections before it do not hide a step.
        let by = if by.abs() > STEP_MILLISECONDS { by } else { moved };
        if by.abs() > STEP_MILLISECONDS {
            let event =
                if by > 0 { self.step_forward(line, now.moment) } else { self.step_back(line, now.moment) };
            self.note_ages(ages, now.moment);
            return change(event, by, moved);
        }
        self.correct(moved);
        if now.moment.microseconds_since(self.window_since) >= WINDOW_SECONDS * 1_000_000 {
            (self.window_line, self.window_since) = (self.shown, now.moment);
        }
        if self.doubted_until.is_some_and(|until| until <= now.moment) {
            let ahead = self.shown.saturating_sub(self.known);
            self.believe();
            self.note_ages(ages, now.moment);
            return change(ClockEvent::Believed, ahead, 0);
        }
        (slept > STEP_MILLISECONDS).then(|| change(ClockEvent::Slept, slept, 0))?
    }

    /// The time that the wall clock says, as of the last look.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn wall(&self, moment: Moment) -> WallTime {
        on_line(self.shown, moment)
    }

    /// Distance of that from the monotonic clock, in milliseconds.
    #[must_use]
    pub fn shown_line(&self) -> i64 {
        self.shown
    }

    /// Distance of the time of [`ages`](Self::ages) from the monotonic clock, in milliseconds.
    #[must_use]
    pub fn ages_line(&self) -> i64 {
        self.ages
    }

    /// The time by which ages are judged, and whether what they say may be done.
    #[must_use]
    #[cfg(any(test, feature = "internals"))]
    pub fn ages(&self, moment: Moment) -> AgeTime {
        AgeTime { wall: on_line(self.ages, moment), may_expire: self.may_expire() }
    }

    /// For how long that has only passed, until now.
    #[must_use]
    pub fn ran(&self, moment: Moment) -> Stretch {
        Stretch { since: on_line(self.ages, self.ages_since), until: on_line(self.ages, moment) }
    }

    /// Whether what goes by age and can't be undone may be done now.
    #[must_use]
    pub fn may_expire(&self) -> bool {
        self.doubted_until.is_none()
    }

    /// The time that is known for certain, to be put on disk for the next start.
    #[must_use]
    pub fn known(&self, moment: Moment) -> WallTime {
        on_line(self.known, moment)
    }

    /// Why nothing is done by age, if nothing is.
    #[must_use]
    pub fn doubted(&self) -> Option<Doubt> {
        let until = self.doubted_until?;
        let ahead = self.shown.saturating_sub(self.known);
        Some(Doubt { ahead_milliseconds: u64::try_from(ahead).unwrap_or(0), until })
    }

    /// The time that the machine slept did pass, by a clock that can't be set either. Returns its length
    /// since the last look.
    fn note_sleep(&mut self, asleep_milliseconds: u64) -> i64 {
        let slept =
            asleep_milliseconds.saturating_sub(self.asleep_milliseconds).min(u64::MAX / 4).cast_signed();
        self.asleep_milliseconds = asleep_milliseconds;
        for line in [&mut self.shown, &mut self.ages, &mut self.known, &mut self.window_line] {
            *line = line.saturating_add(slept);
        }
        slept
    }

    /// A small correction holds for all lines.
    fn correct(&mut self, moved: i64) {
        for line in [&mut self.shown, &mut self.ages, &mut self.known] {
            *line = line.saturating_add(moved);
        }
    }

    /// Notes when the line of ages was moved further than a correction does.
    fn note_ages(&mut self, before: i64, moment: Moment) {
        if self.ages.abs_diff(before) > STEP_MILLISECONDS.unsigned_abs() {
            self.ages_since = moment;
        }
    }

    fn step_forward(&mut self, line: i64, moment: Moment) -> ClockEvent {
        if self.may_expire() {
            (self.ages, self.known) = (self.window_line, self.window_line);
        }
        self.show(line, moment);
        self.doubt(moment);
        ClockEvent::Forward
    }

    fn step_back(&mut self, line: i64, moment: Moment) -> ClockEvent {
        self.show(line, moment);
        if self.may_expire() {
            self.believe();
            return ClockEvent::Back;
        }
        if line.abs_diff(self.known) <= STEP_MILLISECONDS.unsigned_abs() {
            self.believe();
            return ClockEvent::Right;
        }
        // Still ahead of all that is known, or behind it: anywhere but where it should be.
        (self.ages, self.known) = (self.ages.min(line), self.known.min(line));
        self.doubt(moment);
        ClockEvent::Back
    }

    fn show(&mut self, line: i64, moment: Moment) {
        (self.shown, self.window_line, self.window_since) = (line, line, moment);
    }

    fn doubt(&mut self, moment: Moment) {
        self.doubted_until = Some(moment.plus_seconds(GRACE_SECONDS));
    }

    fn believe(&mut self) {
        (self.ages, self.known, self.doubted_until) = (self.shown, self.shown, None);
    }
}

#[cfg(test)]
mod tests;
