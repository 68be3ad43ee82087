//! In which hours of a day the runs of a task may begin.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;

use super::period::Period;
use crate::wire::named::ParseError;
use crate::wire::time::WallTime;

const DAY_MINUTES: i64 = 1_440;
const MINUTE_MILLISECONDS: i64 = 60_000;
const DAY_MILLISECONDS: i64 = DAY_MINUTES * MINUTE_MILLISECONDS;

/// Most changes of a zone's offset that are looked through for an edge of a window: there are two a year, and
/// an edge every day.
const PERIODS_SEARCHED_MAX: usize = 8;

/// Hours of each day: from one minute to before another, over midnight when that is the earlier one. They
/// follow the local clock: in an hour that is doubled a window is open twice. One that would lie in skipped
/// time alone opens at the change, for as long as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Minutes after midnight.
    from: i64,
    /// Minutes after midnight, itself not in it.
    until: i64,
}

impl Window {
    /// Whether runs may begin at that time.
    #[must_use]
    pub fn is_open(&self, time: WallTime, zone: &TimeZone) -> bool {
        let now = milliseconds(time);
        Period::at(zone, now).is_some_and(|period| self.is_open_in(&period, now))
    }

    /// The first time, not before this one, at which runs may begin: this one, when it is open.
    #[must_use]
    pub fn opens_at(&self, time: WallTime, zone: &TimeZone) -> WallTime {
        self.first(time, zone, |period, at| {
            if self.is_open_in(period, at) {
                return Some(at);
            }
            period.when(next_of_day(period.local(at), self.from))
        })
    }

    /// The first time, not before this one, at which runs may not begin: this one, when it is closed.
    #[must_use]
    pub fn closes_at(&self, time: WallTime, zone: &TimeZone) -> WallTime {
        self.first(time, zone, |period, at| {
            if !self.is_open_in(period, at) {
                return Some(at);
            }
            let moved = self.moved(period).filter(|end| at < *end);
            moved.or_else(|| period.when(next_of_day(period.local(at), self.until)))
        })
    }

    /// The first result of `find` in the period of that time or in one after it, from its beginning; the end
    /// of time when there is none.
    fn first(&self, time: WallTime, zone: &TimeZone, find: impl Fn(&Period, i64) -> Option<i64>) -> WallTime {
        let mut at = milliseconds(time);
        let mut period = Period::at(zone, at);
        for _ in 0..PERIODS_SEARCHED_MAX {
            let Some(here) = period else { break };
            if let Some(found) = find(&here, at) {
                return WallTime(u64::try_from(found).unwrap_or(0));
            }
            at = here.until;
            period = here.next(zone);
        }
        WallTime(u64::MAX)
    }

    fn is_open_in(&self, period: &Period, at: i64) -> bool {
        let minute = period.local(at).rem_euclid(DAY_MILLISECONDS) / MINUTE_MILLISECONDS;
        let is_within = if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        };
        is_within || self.moved(period).is_some_and(|end| at < end)
    }

    /// Until when it is open from the period's beginning on because it would have lain in the time that was
    /// skipped there.
    fn moved(&self, period: &Period) -> Option<i64> {
        let (skipped, end) = period.skipped()?;
        let length = (self.until - self.from).rem_euclid(DAY_MINUTES) * MINUTE_MILLISECONDS;
        // Also when it would have begun with the first minute that was skipped.
        let opens = next_of_day(skipped - 1, self.from);
        (opens + length <= end).then(|| period.since + length)
    }
}

/// The first local time behind this one at which a day has that minute.
fn next_of_day(local: i64, minute: i64) -> i64 {
    let today = local - local.rem_euclid(DAY_MILLISECONDS) + minute * MINUTE_MILLISECONDS;
    if today > local { today } else { today + DAY_MILLISECONDS }
}

fn milliseconds(time: WallTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

impl FromStr for Window {
    type Err = ParseError;

    /// Reads `22:00-05:00`. The error names the text and what is allowed.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::is_not(text, "a window (two times of a day, such as 22:00-05:00)");
        let (from, until) = text.split_once('-').ok_or_else(wrong)?;
        let window = Self {
            from: minute_of_day(from).ok_or_else(wrong)?,
            until: minute_of_day(until).ok_or_else(wrong)?,
        };
        if window.from == window.until {
            return Err(format!("'{text}' is an empty window: leave it out to allow the whole day").into());
        }
        Ok(window)
    }
}

fn minute_of_day(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_two_digits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day < DAY_MINUTES).then_some(of_day)
}

#[cfg(test)]
mod tests;
