//! Time in JSON.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::time::WallTime;

/// The latest time that RFC 3339 can write with four digits of year in every time zone, in milliseconds since
/// 1970.
const LATEST: WallTime = WallTime(253_402_207_200_000);

/// A wall-clock time, in JSON a text of RFC 3339 in UTC, to the millisecond.
///
/// Devices report times by their own clock, which may be absurd: what lies beyond the year 9999 is written as
/// its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp(pub WallTime);

impl From<WallTime> for Timestamp {
    fn from(time: WallTime) -> Self {
        Self(time)
    }
}

impl Timestamp {
    /// The time, or nothing where zero stands for "never".
    #[must_use]
    pub fn unless_zero(time: WallTime) -> Option<Self> {
        (time != WallTime(0)).then_some(Self(time))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.min(LATEST).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}
