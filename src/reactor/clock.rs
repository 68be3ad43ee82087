//! The only place where the path of a device asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::concurrency::wall::Wall;
use crate::machine::wall_clock::{AgeTime, ClockChange, Doubt, Stretch};
use crate::wire::time::{Moment, Now, WallTime};

/// Both clocks, read together once a turn. Clones count from the same moment.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    started_at: WallTime,
    /// The wall clock as it is watched; without a watch, as the system says.
    wall: Option<Wall>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock whose moments count from now, and whose wall clock is believed.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now(), started_at: system_wall(), wall: None }
    }

    /// A clock that says it began to run then.
    #[must_use]
    #[cfg(test)]
    pub fn since(started_at: WallTime) -> Self {
        Self { started_at, ..Self::new() }
    }

    /// The same clock, its wall clock [watched](Wall) from now on: somebody must call
    /// [`observe`](Self::observe) regularly. `last` is the last wall time on disk. The report of the start,
    /// if there is one.
    #[must_use]
    pub fn watched(mut self, last: Option<WallTime>) -> (Self, Option<ClockChange>) {
        let (wall, change) = Wall::start(self.system_now(), asleep_milliseconds(), last);
        self.wall = Some(wall);
        (self, change)
    }

    /// Compares the wall clock with the monotonic one. The change, if there is one; nothing without a watch.
    #[must_use]
    pub fn observe(&self) -> Option<ClockChange> {
        self.wall.as_ref()?.observe(self.system_now(), asleep_milliseconds())
    }

    /// The moment alone, for callers that look often.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let moment = self.moment();
        Now { moment, wall: self.wall.as_ref().map_or_else(system_wall, |wall| wall.wall(moment)) }
    }

    /// The time by which ages are judged, and whether what is over by it may go for good.
    #[must_use]
    pub fn ages(&self) -> AgeTime {
        match &self.wall {
            Some(wall) => wall.ages(self.moment()),
            None => AgeTime { wall: system_wall(), may_expire: true },
        }
    }

    /// Uptime of this clock.
    #[must_use]
    pub fn uptime_seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    /// When it began to run, by what the wall clock says now.
    #[must_use]
    pub fn started_at(&self) -> WallTime {
        match &self.wall {
            Some(wall) => wall.wall(Moment(0)),
            None => self.started_at,
        }
    }

    /// Since when devices could come without a break: the start, the last step of the clock, the end of the
    /// last sleep.
    #[must_use]
    pub fn present_since(&self) -> WallTime {
        self.wall.as_ref().map_or(self.started_at, Wall::present_since)
    }

    /// Sets that ([`Wall::set_present_since`]).
    pub fn set_present_since(&self, since: WallTime) {
        if let Some(wall) = &self.wall {
            wall.set_present_since(since);
        }
    }

    /// Number of times that the wall clock has changed otherwise than by passing ([`Wall::changes`]).
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.wall.as_ref().map_or(0, Wall::changes)
    }

    /// The time to be written down for the next start.
    #[must_use]
    pub fn known(&self) -> WallTime {
        self.wall.as_ref().map_or_else(system_wall, |wall| wall.known(self.moment()))
    }

    /// For how long the time of [`ages`](Self::ages) has only passed, until now.
    #[must_use]
    pub fn ran(&self) -> Stretch {
        let at = || {
            let now = system_wall();
            Stretch { since: now, until: now }
        };
        self.wall.as_ref().map_or_else(at, |wall| wall.ran(self.moment()))
    }

    /// Why nothing is done by age, if nothing is.
    #[must_use]
    pub fn doubted(&self) -> Option<Doubt> {
        self.wall.as_ref()?.doubted()
    }

    fn system_now(&self) -> Now {
        Now { moment: self.moment(), wall: system_wall() }
    }
}

fn system_wall() -> WallTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

/// Time that the machine has slept since its boot: `CLOCK_MONOTONIC` stops in a sleep, `CLOCK_BOOTTIME` does
/// not (clock_gettime(2)). Zero where the system does not tell.
#[cfg(target_os = "linux")]
fn asleep_milliseconds() -> u64 {
    let milliseconds = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or_default() * 1_000
            + u64::try_from(time.tv_nsec / 1_000_000).unwrap_or_default()
    };
    // In this order a pause between the two readings makes the sleep shorter, and no sleep none.
    let boot = milliseconds(ClockId::Boottime);
    boot.saturating_sub(milliseconds(ClockId::Monotonic))
}

#[cfg(not(target_os = "linux"))]
fn asleep_milliseconds() -> u64 {
    0
}

/// The processor time of the calling thread (`CLOCK_THREAD_CPUTIME_ID`, clock_gettime(2)). A system call.
pub(super) fn thread_microseconds() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000 + u64::try_from(time.tv_nsec / 1_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_does_not_run_uses_no_processor_time() {
        let before = thread_microseconds();
        std::thread::sleep(Duration::from_millis(200));
        assert!(thread_microseconds() - before < 100_000);
        while thread_microseconds() - before < 100_000 {}
    }
}
