//! The only place where the road of a device asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::wire::time::{Moment, Now, WallTime};

/// Both clocks, read together once a turn. Clones count from the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock whose moments count from now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The moment alone, for whoever looks often.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            moment: self.moment(),
            wall: WallTime(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// The processor time of the calling thread, in microseconds (`CLOCK_THREAD_CPUTIME_ID`, clock_gettime(2)). A system call.
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
