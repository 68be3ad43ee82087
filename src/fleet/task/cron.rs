//! Times that recur, as crontab(5) writes them: minute, hour, day of month, month and day of week, by the
//! clocks of a time zone.
//!
//! A field is `*`, a number, a range `1-5`, either with a step (`*/15`, `8-18/2`), or several of these with
//! commas. Sunday is 0 or 7. As in crontab(5), when neither day field begins with `*` a day matches that
//! matches either of them.
//!
//! When clocks are put forward or back by less than three hours, cron(8) is followed: a time that is skipped
//! comes at the change, and one that is shown twice comes the first time only. With a `*` in the minute or
//! hour field it comes whenever clocks show it, and never else.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};

use super::period::Period;
use crate::wire::named::ParseError;
use crate::wire::time::WallTime;

/// The longest expression.
pub const CRON_BYTES_MAX: usize = 256;

/// Range in which the next match is searched for: 8 years, the longest time between two 29ths of February.
const SEARCHED_MILLISECONDS_MAX: i64 = 8 * 366 * 86_400_000;

const MINUTE_MILLISECONDS: i64 = 60_000;

/// A field's name and its lowest and highest number.
const FIELDS: [(&str, u32, u32); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7)];

/// Times that recur.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cron {
    /// As it was written, with one space between the fields.
    text: String,
    /// One bit for each number that matches.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day matches that matches one of both day fields.
    is_either_day: bool,
    /// Whether there is a `*` in the minute or hour field.
    is_wildcard: bool,
}

impl Cron {
    /// Whether it follows the clock at once when that is put forward or back.
    pub(super) fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// The first match behind this time; `None` when there is none within 8 years, or time itself ends
    /// before.
    #[must_use]
    pub fn next_after(&self, time: WallTime, zone: &TimeZone) -> Option<WallTime> {
        let mut from = i64::try_from(time.0).ok()?.checked_add(1)?;
        let end = from.saturating_add(SEARCHED_MILLISECONDS_MAX);
        let mut period = Period::at(zone, from)?;
        loop {
            if let Some(at) = self.first_in(&period, from, end.min(period.until)) {
                return u64::try_from(at).ok().map(WallTime);
            }
            from = period.until;
            if from >= end {
                return None;
            }
            period = period.next(zone)?;
        }
    }

    /// The first match in a period from a time on and before another.
    fn first_in(&self, period: &Period, from: i64, before: i64) -> Option<i64> {
        let mut local = period.local(from);
        if !self.is_wildcard {
            let is_at_change =
                |(skipped, end)| from == period.since && self.first_local(skipped, end).is_some();
            if period.skipped().is_some_and(is_at_change) {
                return Some(from);
            }
            local = period.doubled_until().map_or(local, |until| local.max(until));
        }
        self.first_local(local, period.local(before)).map(|at| at - period.offset)
    }

    /// The first local time that matches, from one on and before another.
    fn first_local(&self, from: i64, before: i64) -> Option<i64> {
        let whole =
            from.checked_add(MINUTE_MILLISECONDS - 1)?.div_euclid(MINUTE_MILLISECONDS) * MINUTE_MILLISECONDS;
        let last = Timestamp::from_millisecond(before)
            .map_or(Date::MAX, |before| Offset::UTC.to_datetime(before).date());
        let first = Offset::UTC.to_datetime(Timestamp::from_millisecond(whole).ok()?);
        let mut date = first.date();
        let mut time = (u32::try_from(first.hour()).ok()?, u32::try_from(first.minute()).ok()?);
        while date <= last {
            if self.is_on(date)
                && let Some(at) = self.first_of_day(date, time)
            {
                let at = Offset::UTC.to_timestamp(at).ok()?.as_millisecond();
                return (at < before).then_some(at);
            }
            date = date.tomorrow().ok()?;
            time = (0, 0);
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let is_day = has(self.days, i64::from(date.day()));
        let is_weekday = has(self.weekdays, i64::from(date.weekday().to_sunday_zero_offset()));
        let is_both_or_either = if self.is_either_day { is_day || is_weekday } else { is_day && is_weekday };
        has(self.months, i64::from(date.month())) && is_both_or_either
    }

    /// The first match on that day, not before that hour and minute.
    fn first_of_day(&self, date: Date, (hour, minute): (u32, u32)) -> Option<DateTime> {
        let this_hour = first_from(self.minutes, minute).filter(|_| has(self.hours, i64::from(hour)));
        let (hour, minute) = match this_hour {
            Some(minute) => (hour, minute),
            None => (first_from(self.hours, hour + 1)?, first_from(self.minutes, 0)?),
        };
        Some(date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Cron {
    type Err = ParseError;

    /// Reads the five fields. The error names the field and what is allowed.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > CRON_BYTES_MAX {
            return Err(
                format!("a cron expression has at most {CRON_BYTES_MAX} bytes, not {}", text.len()).into()
            );
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!(
                "'{text}' has {} fields: a cron expression has five (minute, hour, day of month, month, day of week), \
                 such as '0 3 * * *'",
                fields.len()
            )
            .into());
        };
        let weekdays = numbers(weekday, FIELDS[4])?;
        Ok(Self {
            text: fields.join(" "),
            minutes: numbers(minute, FIELDS[0])?,
            hours: numbers(hour, FIELDS[1])?,
            days: numbers(day, FIELDS[2])?,
            months: numbers(month, FIELDS[3])?,
            weekdays: weekdays | (weekdays >> 7),
            is_either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            is_wildcard: minute.contains('*') || hour.contains('*'),
        })
    }
}

fn has(bits: u64, number: i64) -> bool {
    bits >> number & 1 == 1
}

/// The lowest number among the bits that is at least `from`.
fn first_from(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from)?;
    (rest != 0).then(|| rest.trailing_zeros() + from)
}

/// The numbers that a field names, a bit each.
fn numbers(field: &str, (name, lowest, highest): (&str, u32, u32)) -> Result<u64, ParseError> {
    field.split(',').try_fold(0, |bits, part| {
        let more = part_numbers(part, lowest, highest).ok_or_else(|| {
            format!(
                "'{part}' does not fit the {name} field of a cron expression (*, or numbers from {lowest} to {highest}, such as \
                 {lowest}, {lowest}-{highest}, */2, {lowest}-{highest}/2, and several of these with commas)"
            )
        })?;
        Ok(bits | more)
    })
}

fn part_numbers(part: &str, lowest: u32, highest: u32) -> Option<u64> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
        None => (part, None),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None if range == "*" => (lowest, highest),
        None if step.is_some() => return None,
        None => (number(range)?, number(range)?),
    };
    let is_allowed = lowest <= first && first <= last && last <= highest;
    let step = usize::try_from(step.unwrap_or(1)).ok()?;
    is_allowed.then(|| (first..=last).step_by(step).fold(0, |bits, number| bits | 1 << number))
}

/// Digits and nothing else: `parse` alone would take `+5`.
fn number(text: &str) -> Option<u32> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
