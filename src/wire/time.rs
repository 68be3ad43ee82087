//! Time as a value. The core never asks a clock; it is told.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::named::ParseError;

/// Wall-clock time: milliseconds since 1970-01-01T00:00:00Z. May jump; never used to measure how long
/// something took.
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
    type Err = ParseError;

    /// RFC 3339 (`2026-11-24T10:00:00Z`). The error names the text and what is allowed.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let timestamp: jiff::Timestamp = text
            .parse()
            .map_err(|_| ParseError::is_not(text, "a time (RFC 3339, such as 2026-11-24T10:00:00Z)"))?;
        let milliseconds = u64::try_from(timestamp.as_millisecond());
        milliseconds.map(Self).map_err(|_| format!("'{text}' is before 1970").into())
    }
}

/// Monotonic time: microseconds since some moment of the process's (or the simulation's) own. Never jumps
/// back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Moment(pub u64);

impl Moment {
    /// Microseconds since `earlier`; zero when it is later.
    #[must_use]
    pub fn microseconds_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and `milliseconds` milliseconds.
    #[must_use]
    pub fn plus_milliseconds(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds.saturating_mul(1_000)))
    }

    /// This moment and `seconds` seconds.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        self.plus_milliseconds(seconds.saturating_mul(1_000))
    }
}

/// Ticks of [`CoarseMoment`] in a second.
const TICKS_PER_SECOND: u64 = 10;

/// A moment in four bytes, for deadlines and the like that stand in the tables once for each link: in tenths
/// of a second, the next whole one. It ends 13.6 years after moments began to count; what comes later is
/// [`CoarseMoment::NEVER`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoarseMoment(u32);

impl CoarseMoment {
    /// Later than any.
    pub const NEVER: Self = Self(u32::MAX);

    /// The first tenth of a second that is not before a moment: a deadline is kept up to a tenth of a second
    /// later, and never earlier.
    #[must_use]
    pub fn not_before(moment: Moment) -> Self {
        let ticks = moment.0.div_ceil(1_000_000 / TICKS_PER_SECOND);
        Self(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// When it begins.
    #[must_use]
    pub fn moment(self) -> Moment {
        match self {
            Self::NEVER => Moment(u64::MAX),
            Self(ticks) => Moment(u64::from(ticks) * (1_000_000 / TICKS_PER_SECOND)),
        }
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
        assert!(
            "yesterday".parse::<WallTime>().unwrap_err().to_string().contains("'yesterday' is not a time")
        );
    }

    #[test]
    fn a_coarse_moment_is_never_before_the_one_that_it_stands_for() {
        for microseconds in [0, 1, 99_999, 100_000, 100_001, 86_400_000_000, 429_496_729_400_000] {
            let coarse = CoarseMoment::not_before(Moment(microseconds));
            let late = coarse.moment().0.checked_sub(microseconds);
            assert!(late.is_some_and(|late| late < 100_000), "{microseconds}: {coarse:?}");
            assert_eq!(CoarseMoment::not_before(coarse.moment()), coarse);
        }
        for beyond in [429_496_729_400_001, u64::MAX] {
            assert_eq!(CoarseMoment::not_before(Moment(beyond)), CoarseMoment::NEVER);
        }
        assert_eq!(CoarseMoment::NEVER.moment(), Moment(u64::MAX));
    }

    #[test]
    fn absurd_times_are_shown_not_panicked_over() {
        assert!(WallTime(u64::MAX).to_string().contains("ms after 1970"));
        assert_eq!(Moment(5).microseconds_since(Moment(9)), 0);
    }
}
