//! When a task is due, and in which hours of a day its runs may begin.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::cron::Cron;
use crate::wire::time::WallTime;
use crate::wire::units::{format_duration, parse_duration};

/// How often a task may be due at most, in seconds: more often, a run would meet the one before it.
pub const EVERY_SECONDS_MIN: u64 = 60;

/// And how seldom, in seconds.
pub const EVERY_SECONDS_MAX: u64 = 366 * 86_400;

const DAY_MILLISECONDS: u64 = 86_400_000;
const MINUTE_MILLISECONDS: u64 = 60_000;
const DAY_MINUTES: u64 = 1_440;

/// When a task is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Once, when it is made.
    Now,
    /// Once, at that time.
    At(WallTime),
    /// From when it is made, again and again after so many seconds.
    Every(u64),
    /// Again and again, as a cron expression says.
    Cron(Cron),
}

impl Schedule {
    /// When it is due first, having been made then; `None` when never.
    #[must_use]
    pub fn first(&self, created: WallTime) -> Option<WallTime> {
        match self {
            Self::Now | Self::Every(_) => Some(created),
            Self::At(at) => Some(*at),
            Self::Cron(cron) => cron.next_after(created),
        }
    }

    /// When it is due next after that occurrence; `None` when never again. Never before `now`: what was missed is not made up for.
    #[must_use]
    pub fn next(&self, occurrence: WallTime, now: WallTime) -> Option<WallTime> {
        match self {
            Self::Now | Self::At(_) => None,
            Self::Every(seconds) => {
                let step = seconds.checked_mul(1_000).filter(|step| *step > 0)?;
                let steps = now.0.saturating_sub(occurrence.0).div_ceil(step).max(1);
                occurrence.0.checked_add(steps.checked_mul(step)?).map(WallTime)
            }
            Self::Cron(cron) => cron.next_after(occurrence.max(WallTime(now.0.saturating_sub(1)))),
        }
    }

    /// Whether it may be due more than once.
    #[must_use]
    pub fn is_recurring(&self) -> bool {
        matches!(self, Self::Every(_) | Self::Cron(_))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::At(at) => write!(f, "at {at}"),
            Self::Every(seconds) => write!(f, "every {}", format_duration(Duration::from_secs(*seconds))),
            Self::Cron(cron) => write!(f, "cron {cron}"),
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    /// Reads `now`, `at 2026-11-24T03:00:00Z`, `every 6h` or `cron 0 3 * * *`. The error names the text and what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (word, rest.trim()) {
            ("now", "") => Ok(Self::Now),
            ("at", time) => time.parse().map(Self::At),
            ("every", duration) => every(duration).map(Self::Every),
            ("cron", expression) => Cron::parse(expression).map(Self::Cron),
            _ => Err(format!(
                "'{text}' is not a schedule ('now', 'at' and a time, 'every' and a duration, or 'cron' and five fields, \
                 such as 'cron 0 3 * * *')"
            )),
        }
    }
}

fn every(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text)?;
    let seconds = duration.as_secs();
    let is_whole = duration.subsec_nanos() == 0;
    if !is_whole || !(EVERY_SECONDS_MIN..=EVERY_SECONDS_MAX).contains(&seconds) {
        return Err(format!("'every {text}' is not allowed: whole seconds, from 1m to 366d"));
    }
    Ok(seconds)
}

/// Hours of each day, in UTC: from one minute to before another, over midnight when that is the earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Minutes after midnight.
    from: u64,
    /// Minutes after midnight, itself not in it.
    until: u64,
}

impl Window {
    /// Whether runs may begin at that time.
    #[must_use]
    pub fn is_open(&self, time: WallTime) -> bool {
        let minute = time.0 % DAY_MILLISECONDS / MINUTE_MILLISECONDS;
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }

    /// The first time, not before this one, at which runs may begin: this one, when it is open.
    #[must_use]
    pub fn opens_at(&self, time: WallTime) -> WallTime {
        if self.is_open(time) {
            return time;
        }
        let midnight = time.0 - time.0 % DAY_MILLISECONDS;
        let today = midnight.saturating_add(self.from * MINUTE_MILLISECONDS);
        WallTime(if today >= time.0 { today } else { today.saturating_add(DAY_MILLISECONDS) })
    }

    /// When it closes next after that time.
    #[must_use]
    pub fn closes_at(&self, time: WallTime) -> WallTime {
        let midnight = time.0 - time.0 % DAY_MILLISECONDS;
        let today = midnight.saturating_add(self.until * MINUTE_MILLISECONDS);
        WallTime(if today > time.0 { today } else { today.saturating_add(DAY_MILLISECONDS) })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

impl FromStr for Window {
    type Err = String;

    /// Reads `22:00-05:00`. The error names the text and what is allowed.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a window (two times of a day in UTC, such as 22:00-05:00)");
        let (from, until) = text.split_once('-').ok_or_else(wrong)?;
        let window = Self {
            from: minute_of_day(from).ok_or_else(wrong)?,
            until: minute_of_day(until).ok_or_else(wrong)?,
        };
        if window.from == window.until {
            return Err(format!("'{text}' is an empty window: leave it out to allow the whole day"));
        }
        Ok(window)
    }
}

fn minute_of_day(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_two_digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day < DAY_MINUTES).then_some(of_day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_survives_its_text() {
        for (text, written) in [
            ("now", "now"),
            ("at 2026-11-24T03:00:00Z", "at 2026-11-24T03:00:00.000Z"),
            (" every  360m ", "every 6h"),
            ("cron 0  3 * * 1-5", "cron 0 3 * * 1-5"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.to_string(), written);
            assert_eq!(written.parse(), Ok(schedule));
        }
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        for (text, error) in [
            ("", "'' is not a schedule ('now', "),
            ("now or never", "'now or never' is not a schedule"),
            ("at noon", "'noon' is not a time"),
            ("every day", "'day' is not a duration"),
            ("every 59s", "'every 59s' is not allowed: whole seconds, from 1m to 366d"),
            ("every 61s1ms", "'every 61s1ms' is not allowed"),
            ("every 367d", "'every 367d' is not allowed"),
            ("cron 0 3", "'0 3' has 2 fields"),
        ] {
            let said = text.parse::<Schedule>().unwrap_err();
            assert!(said.starts_with(error), "{said}");
        }
    }

    #[test]
    fn what_is_due_once_is_due_once() {
        let (created, later) = (time("2026-11-24T10:00:00Z"), time("2026-11-25T10:00:00Z"));
        assert_eq!(Schedule::Now.first(created), Some(created));
        assert_eq!(Schedule::At(later).first(created), Some(later));
        assert_eq!(Schedule::At(later).next(later, later), None);
        assert!(!Schedule::Now.is_recurring() && Schedule::Every(60).is_recurring());
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let (first, now) = (time("2026-11-24T10:00:00Z"), time("2026-11-25T10:30:00Z"));
        let every = Schedule::Every(3_600);
        assert_eq!(every.first(first), Some(first));
        assert_eq!(every.next(first, first), Some(time("2026-11-24T11:00:00Z")));
        assert_eq!(every.next(first, now), Some(time("2026-11-25T11:00:00Z")));
        assert_eq!(every.next(first, time("2026-11-25T11:00:00Z")), Some(time("2026-11-25T11:00:00Z")));
        let cron: Schedule = "cron 0 3 * * *".parse().unwrap();
        assert_eq!(cron.first(first), Some(time("2026-11-25T03:00:00Z")));
        let due = time("2026-11-26T03:00:00Z");
        assert_eq!(cron.next(time("2026-11-25T03:00:00Z"), now), Some(due));
        assert_eq!(cron.next(time("2026-11-25T03:00:00Z"), due), Some(due));
        assert_eq!(cron.next(due, now), Some(time("2026-11-27T03:00:00Z")), "the clock was set back");
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        let night: Window = "22:00-05:00".parse().unwrap();
        assert_eq!(night.to_string(), "22:00-05:00");
        for (at, opens) in [
            ("2026-11-24T21:59:59.999Z", "2026-11-24T22:00:00Z"),
            ("2026-11-24T22:00:00Z", "2026-11-24T22:00:00Z"),
            ("2026-11-25T04:59:59Z", "2026-11-25T04:59:59Z"),
            ("2026-11-25T05:00:00Z", "2026-11-25T22:00:00Z"),
        ] {
            assert_eq!(night.opens_at(time(at)), time(opens), "{at}");
        }
        let noon: Window = "12:00-13:00".parse().unwrap();
        assert_eq!(noon.opens_at(time("2026-11-24T13:00:00Z")), time("2026-11-25T12:00:00Z"));
        for text in ["", "22:00", "22-05", "24:00-05:00", "22:60-05:00", "2:00-5:00", "+2:00-05:00"] {
            assert!(text.parse::<Window>().unwrap_err().starts_with(&format!("'{text}' is not a window")));
        }
        assert!("05:00-05:00".parse::<Window>().unwrap_err().contains("empty window"));
    }

    proptest! {
        #[test]
        fn the_next_is_ahead_and_in_step(seconds in 60u64..100_000, occurrence in 0u64..1 << 42, now in 0u64..1 << 42) {
            let next = Schedule::Every(seconds).next(WallTime(occurrence), WallTime(now)).unwrap().0;
            prop_assert!(next > occurrence && next >= now);
            prop_assert_eq!((next - occurrence) % (seconds * 1_000), 0);
            prop_assert!(next - now.max(occurrence) <= seconds * 1_000, "none is left out");
        }

        #[test]
        fn a_window_opens_when_it_says(from in 0u64..1_440, until in 0u64..1_440, time in 0u64..1 << 42) {
            prop_assume!(from != until);
            let window = Window { from, until };
            prop_assert_eq!(window.to_string().parse(), Ok(window));
            let opens = window.opens_at(WallTime(time));
            prop_assert!(window.is_open(opens) && opens.0 >= time && opens.0 - time < DAY_MILLISECONDS);
            prop_assert!(opens.0 == time || !window.is_open(WallTime(opens.0 - 1)));
            let closes = window.closes_at(opens);
            prop_assert!(!window.is_open(closes) && window.is_open(WallTime(closes.0 - 1)) && closes > opens);
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "((at|every|cron) )?\\PC{0,30}", time: u64, now: u64) {
            let _ = text.parse::<Window>().map(|window| window.opens_at(WallTime(time)));
            let _ = text.parse::<Schedule>().map(|schedule| schedule.next(WallTime(time), WallTime(now)));
            let _ = Schedule::Every(60).next(WallTime(time), WallTime(now));
        }
    }
}
