//! When a task is due.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::cron::Cron;
use super::period::{SHIFT_MILLISECONDS_MAX, first_at};
use crate::wire::named::ParseError;
use crate::wire::time::WallTime;
use crate::wire::units::{format_duration, parse_duration};

/// Shortest period of a task: with a shorter one, a run would meet the one before it.
pub const EVERY_SECONDS_MIN: u64 = 60;

/// And how seldom.
pub const EVERY_SECONDS_MAX: u64 = 366 * 86_400;

/// Distance by which a clock may be set back without being noticed.
const UNNOTICED_MILLISECONDS: u64 = 60_000;

/// When a task is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Once, when it is made.
    Now,
    /// Once, at that time.
    At(WallTime),
    /// Once, when the clocks of its zone show that.
    AtLocal(DateTime),
    /// From when it is made, again and again after this many seconds.
    Every(u64),
    /// Again and again, as a cron expression says.
    Cron(Cron),
}

impl Schedule {
    /// When it is due first, having been made then; `None` when never.
    #[must_use]
    pub fn first(&self, created: WallTime, zone: &TimeZone) -> Option<WallTime> {
        match self {
            Self::Now | Self::Every(_) => Some(created),
            Self::At(at) => Some(*at),
            Self::AtLocal(at) => first_at(*at, zone),
            Self::Cron(cron) => cron.next_after(created, zone),
        }
    }

    /// When it is due next after that occurrence; `None` when never again. Never before `now`: what was
    /// missed is not made up for.
    #[must_use]
    pub fn next(&self, occurrence: WallTime, now: WallTime, zone: &TimeZone) -> Option<WallTime> {
        match self {
            Self::Now | Self::At(_) | Self::AtLocal(_) => None,
            Self::Every(seconds) => {
                let step = seconds.checked_mul(1_000).filter(|step| *step > 0)?;
                let steps = now.0.saturating_sub(occurrence.0).div_ceil(step).max(1);
                occurrence.0.checked_add(steps.checked_mul(step)?).map(WallTime)
            }
            Self::Cron(cron) => cron.next_after(occurrence.max(WallTime(now.0.saturating_sub(1))), zone),
        }
    }

    /// A stored next time, brought as near as the schedule gives it from now on: it may have been computed
    /// while the clock was wrong.
    ///
    /// `last` is the occurrence that was begun last. It is not begun again when it is ahead of now by less
    /// than a minute, which no watch over the clock notices, nor by less than three hours where `was_right`
    /// says that the clock was right before, unless it follows the clock (cron(8)).
    #[must_use]
    pub fn bring_near(
        &self,
        stored: WallTime,
        last: Option<WallTime>,
        was_right: bool,
        now: WallTime,
        zone: &TimeZone,
    ) -> WallTime {
        let near = match self {
            Self::Now => Some(now),
            Self::At(_) | Self::AtLocal(_) => None,
            Self::Every(_) if last.is_none() => Some(now),
            Self::Every(seconds) => {
                let step = seconds.saturating_mul(1_000).max(1);
                let ahead = stored.0.saturating_sub(now.0).saturating_sub(1);
                let is_near = ahead < step.saturating_add(UNNOTICED_MILLISECONDS);
                Some(if is_near { stored } else { WallTime(now.0.saturating_add(1 + ahead % step)) })
            }
            Self::Cron(cron) => {
                let is_kept = was_right && !cron.is_wildcard();
                let within =
                    if is_kept { SHIFT_MILLISECONDS_MAX.cast_unsigned() } else { UNNOTICED_MILLISECONDS };
                let begun = last.filter(|last| last.0.saturating_sub(now.0) < within);
                cron.next_after(begun.map_or(now, |last| last.max(now)), zone)
            }
        };
        near.map_or(stored, |near| near.min(stored))
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
            Self::AtLocal(at) => write!(f, "at {at}"),
            Self::Every(seconds) => write!(f, "every {}", format_duration(Duration::from_secs(*seconds))),
            Self::Cron(cron) => write!(f, "cron {cron}"),
        }
    }
}

impl FromStr for Schedule {
    type Err = ParseError;

    /// Reads `now`, `at 2026-11-24T03:00:00Z`, `at 2026-11-24T03:00` (by the clocks of the task's zone),
    /// `every 6h` or `cron 0 3 * * *`. The error names the text and what is allowed.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (word, rest.trim()) {
            ("now", "") => Ok(Self::Now),
            ("at", time) => at(time),
            ("every", duration) => every(duration).map(Self::Every),
            ("cron", expression) => expression.parse().map(Self::Cron),
            _ => Err(ParseError::is_not(
                text,
                "a schedule ('now', 'at' and a time, 'every' and a duration, or 'cron' and five fields, \
                 such as 'cron 0 3 * * *')",
            )),
        }
    }
}

fn at(text: &str) -> Result<Schedule, ParseError> {
    let local = || text.contains(['T', 't', ' ']).then(|| text.parse().ok()).flatten();
    text.parse().map(Schedule::At).or_else(|error| local().map(Schedule::AtLocal).ok_or(error))
}

fn every(text: &str) -> Result<u64, ParseError> {
    let duration = parse_duration(text)?;
    let seconds = duration.as_secs();
    let is_whole = duration.subsec_nanos() == 0;
    if !is_whole || !(EVERY_SECONDS_MIN..=EVERY_SECONDS_MAX).contains(&seconds) {
        return Err(format!("'every {text}' is not allowed: whole seconds, from 1m to 366d").into());
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    use super::*;

    const UTC: TimeZone = TimeZone::UTC;

    fn time(text: &str) -> WallTime {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_survives_its_text() {
        for (text, written) in [
            ("now", "now"),
            ("at 2026-11-24T03:00:00Z", "at 2026-11-24T03:00:00.000Z"),
            ("at 2026-11-24 03:00", "at 2026-11-24T03:00:00"),
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
            ("at 2026-11-24", "'2026-11-24' is not a time"),
            ("at 2026-02-30T10:00", "'2026-02-30T10:00' is not a time"),
            ("every day", "'day' is not a duration"),
            ("every 59s", "'every 59s' is not allowed: whole seconds, from 1m to 366d"),
            ("every 61s1ms", "'every 61s1ms' is not allowed"),
            ("every 367d", "'every 367d' is not allowed"),
            ("cron 0 3", "'0 3' has 2 fields"),
        ] {
            let said = text.parse::<Schedule>().unwrap_err().to_string();
            assert!(said.starts_with(error), "{said}");
        }
    }

    #[test]
    fn what_is_due_once_is_due_once() {
        let (created, later) = (time("2026-11-24T10:00:00Z"), time("2026-11-25T10:00:00Z"));
        assert_eq!(Schedule::Now.first(created, &UTC), Some(created));
        assert_eq!(Schedule::At(later).first(created, &UTC), Some(later));
        assert_eq!(Schedule::At(later).next(later, later, &UTC), None);
        assert!(!Schedule::Now.is_recurring() && Schedule::Every(60).is_recurring());
    }

    #[test]
    fn a_time_without_an_offset_is_that_of_the_zones_clocks() {
        let berlin = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        for (at, due) in [
            ("2026-11-24T23:00", "2026-11-24T22:00:00Z"),
            ("2026-07-24 23:00:30", "2026-07-24T21:00:30Z"),
            ("2026-03-29T02:30", "2026-03-29T01:00:00Z"),
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("2026-11-24T23:00Z", "2026-11-24T23:00:00Z"),
            ("2026-11-24T23:00+05:00", "2026-11-24T18:00:00Z"),
        ] {
            let schedule: Schedule = format!("at {at}").parse().unwrap();
            assert_eq!(schedule.first(time("2026-01-01T00:00:00Z"), &berlin), Some(time(due)), "{at}");
            assert_eq!(schedule.next(time(due), time(due), &berlin), None);
        }
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let (first, now) = (time("2026-11-24T10:00:00Z"), time("2026-11-25T10:30:00Z"));
        let every = Schedule::Every(3_600);
        assert_eq!(every.first(first, &UTC), Some(first));
        assert_eq!(every.next(first, first, &UTC), Some(time("2026-11-24T11:00:00Z")));
        assert_eq!(every.next(first, now, &UTC), Some(time("2026-11-25T11:00:00Z")));
        assert_eq!(every.next(first, time("2026-11-25T11:00:00Z"), &UTC), Some(time("2026-11-25T11:00:00Z")));
        let cron: Schedule = "cron 0 3 * * *".parse().unwrap();
        assert_eq!(cron.first(first, &UTC), Some(time("2026-11-25T03:00:00Z")));
        let due = time("2026-11-26T03:00:00Z");
        assert_eq!(cron.next(time("2026-11-25T03:00:00Z"), now, &UTC), Some(due));
        assert_eq!(cron.next(time("2026-11-25T03:00:00Z"), due, &UTC), Some(due));
        assert_eq!(cron.next(due, now, &UTC), Some(time("2026-11-27T03:00:00Z")), "the clock was set back");
    }

    #[test]
    fn what_a_wrong_clock_put_far_away_comes_when_it_would_have_come() {
        let now = time("2026-11-24T10:00:00Z");
        let near = |schedule: &str, stored: &str, last: Option<&str>, was_right| {
            let schedule: Schedule = schedule.parse().unwrap();
            schedule.bring_near(time(stored), last.map(time), was_right, now, &UTC).to_string()
        };
        for (schedule, stored, last, was_right, expected) in [
            // Ten years, and two hours.
            (
                "cron 0 3 * * *",
                "2036-11-24T03:00:00Z",
                Some("2036-11-23T03:00:00Z"),
                false,
                "2026-11-25T03:00:00.000Z",
            ),
            (
                "cron 30 * * * *",
                "2026-11-24T12:30:00Z",
                Some("2026-11-24T11:30:00Z"),
                false,
                "2026-11-24T10:30:00.000Z",
            ),
            (
                "every 1h",
                "2036-11-24T10:20:00Z",
                Some("2036-11-24T09:20:00Z"),
                false,
                "2026-11-24T10:20:00.000Z",
            ),
            (
                "every 1h",
                "2026-11-24T11:00:00Z",
                Some("2026-11-24T10:00:00Z"),
                false,
                "2026-11-24T11:00:00.000Z",
            ),
            ("every 1d", "2036-11-24T10:20:00Z", None, false, "2026-11-24T10:00:00.000Z"),
            ("now", "2036-11-24T10:20:00Z", None, false, "2026-11-24T10:00:00.000Z"),
            ("at 2036-11-24T10:20:00Z", "2036-11-24T10:20:00Z", None, false, "2036-11-24T10:20:00.000Z"),
            // A time that is over is due.
            ("cron 0 3 * * *", "2026-11-24T03:00:00Z", None, false, "2026-11-24T03:00:00.000Z"),
            (
                "every 1h",
                "2026-11-24T03:00:00Z",
                Some("2026-11-24T02:00:00Z"),
                false,
                "2026-11-24T03:00:00.000Z",
            ),
            // Begun, and then set back by so little that nobody noticed.
            (
                "cron 0 10 * * *",
                "2026-11-25T10:00:00Z",
                Some("2026-11-24T10:00:45Z"),
                false,
                "2026-11-25T10:00:00.000Z",
            ),
            (
                "every 1h",
                "2026-11-24T11:00:45Z",
                Some("2026-11-24T10:00:45Z"),
                false,
                "2026-11-24T11:00:45.000Z",
            ),
            // Begun by a clock that was right, and then set back by less than three hours; by one that was
            // wrong; and long before.
            (
                "cron 0 11 * * *",
                "2026-11-25T11:00:00Z",
                Some("2026-11-24T11:00:00Z"),
                true,
                "2026-11-25T11:00:00.000Z",
            ),
            (
                "cron 0 11 * * *",
                "2026-11-25T11:00:00Z",
                Some("2026-11-24T11:00:00Z"),
                false,
                "2026-11-24T11:00:00.000Z",
            ),
            (
                "cron 0 13 * * *",
                "2026-11-25T13:00:00Z",
                Some("2026-11-24T13:00:00Z"),
                true,
                "2026-11-24T13:00:00.000Z",
            ),
            (
                "cron 0 * * * *",
                "2026-11-24T13:00:00Z",
                Some("2026-11-24T12:00:00Z"),
                true,
                "2026-11-24T11:00:00.000Z",
            ),
        ] {
            assert_eq!(near(schedule, stored, last, was_right), expected, "{schedule}, stored {stored}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_brought_further_away_or_behind_now(
            schedule in "every [1-9]h|cron [0-5]?[0-9] [*]|cron 0 [01][0-9]|now",
            stored in 0u64..1 << 42,
            last in prop::option::of(0u64..1 << 42),
            was_right: bool,
            now in 0u64..1 << 42,
        ) {
            let schedule = if schedule.starts_with("cron") { format!("{schedule} * * *") } else { schedule };
            let schedule: Schedule = schedule.parse().unwrap();
            let near = schedule.bring_near(WallTime(stored), last.map(WallTime), was_right, WallTime(now), &UTC);
            prop_assert!(near.0 <= stored && near.0 >= stored.min(now));
            prop_assert!(near.0.saturating_sub(now) <= 27 * 3_600_000, "a step of its own, beyond what was begun");
            let again = schedule.bring_near(near, last.map(WallTime), was_right, WallTime(now), &UTC);
            prop_assert_eq!(again, near, "once is enough");
        }

        #[test]
        fn the_next_is_ahead_and_in_phase(seconds in 60u64..100_000, occurrence in 0u64..1 << 42, now in 0u64..1 << 42) {
            let next = Schedule::Every(seconds).next(WallTime(occurrence), WallTime(now), &UTC).unwrap().0;
            prop_assert!(next > occurrence && next >= now);
            prop_assert_eq!((next - occurrence) % (seconds * 1_000), 0);
            prop_assert!(next - now.max(occurrence) <= seconds * 1_000, "none is left out");
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "((at|every|cron) )?\\PC{0,30}", time: u64, now: u64) {
            let _ = text.parse::<Schedule>().map(|schedule| schedule.next(WallTime(time), WallTime(now), &UTC));
            let _ = Schedule::Every(60).next(WallTime(time), WallTime(now), &UTC);
        }
    }
}
