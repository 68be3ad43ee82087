//! The only place where the road of a device asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Now {
        let moment = Moment(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX));
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { moment, wall: WallTime(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)) }
    }
}
