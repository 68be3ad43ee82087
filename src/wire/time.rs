//! Time as a value. The core never asks a clock; it is told.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z. May jump; never used to measure how long something took.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct WallTime(#[n(0)] pub u64);

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(milliseconds) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{milliseconds} ms after 1970"),
        }
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WallTime {
    type Err = String;

    /// RFC 3339 (`2026-11-24T10:00:00Z`). The error names the text and what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        let timestamp: jiff::Timestamp = text
            .parse()
            .map_err(|_| format!("'{text}' is not a time (RFC 3339, such as 2026-11-24T10:00:00Z)"))?;
        u64::try_from(timestamp.as_millisecond()).map(Self).map_err(|_| format!("'{text}' is before 1970"))
    }
}

/// Monotonic time: microseconds since some moment of the process's (or the simulation's) own. Never jumps back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Moment(pub u64);

impl Moment {
    /// How many microseconds have passed since `earlier`; zero when it is later.
    #[must_use]
    pub fn microseconds_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and so many milliseconds.
    #[must_use]
    pub fn plus_milliseconds(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds.saturating_mul(1_000)))
    }

    /// This moment and so many seconds.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        self.plus_milliseconds(seconds.saturating_mul(1_000))
    }
}

impl Add<std::time::Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: std::time::Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Both clocks, read once a turn and handed down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For deadlines and durations.
    pub moment: Moment,
    /// For what people read and for what leaves the machine.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_survives_its_text() {
        let time = WallTime(1_795_514_400_123);
        assert_eq!(time.to_string(), "2026-11-24T10:00:00.123Z");
        assert_eq!(time.to_string().parse::<WallTime>().unwrap(), time);
        assert!("yesterday".parse::<WallTime>().unwrap_err().contains("'yesterday' is not a time"));
    }

    #[test]
    fn absurd_times_are_shown_not_panicked_over() {
        assert!(WallTime(u64::MAX).to_string().contains("ms after 1970"));
        assert_eq!(Moment(5).microseconds_since(Moment(9)), 0);
    }
}
