//! Local time as periods with one offset from UTC each, and the hours that are skipped or doubled between
//! them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::wire::time::WallTime;

/// Distance by which a zone's clocks may be put forward or back so that the times of tasks follow: as in
/// cron(8), a change of three hours or more is a correction, and the new time counts at once.
pub(super) const SHIFT_MILLISECONDS_MAX: i64 = 3 * 3_600_000;

/// A period in which a zone has one offset from UTC. Times are milliseconds since 1970 in UTC; local ones are
/// those milliseconds and the offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Period {
    /// When it begins.
    pub(super) since: i64,
    /// When the next one begins; `i64::MAX`: never.
    pub(super) until: i64,
    /// Difference to UTC.
    pub(super) offset: i64,
    /// Distance by which clocks were put forward when it began; negative: back. 0 where there was no change,
    /// or one that is a correction.
    pub(super) shift: i64,
}

impl Period {
    /// The period that a time is in; `None` where time itself ends.
    pub(super) fn at(zone: &TimeZone, milliseconds: i64) -> Option<Self> {
        let timestamp = Timestamp::from_millisecond(milliseconds).ok()?;
        let offset_at = |timestamp| i64::from(zone.to_offset(timestamp).seconds()) * 1_000;
        let offset = offset_at(timestamp);
        // The transitions before a time are strictly before it.
        let began = zone.preceding(Timestamp::from_millisecond(milliseconds + 1).ok()?).next();
        let ends = zone.following(timestamp).next();
        let since = began.map_or(i64::MIN, |began| began.timestamp().as_millisecond());
        let before = since.checked_sub(1).and_then(|before| Timestamp::from_millisecond(before).ok());
        let shift = before.map_or(0, |before| offset - offset_at(before));
        Some(Self {
            since,
            until: ends.map_or(i64::MAX, |ends| ends.timestamp().as_millisecond()),
            offset,
            shift: if shift.abs() < SHIFT_MILLISECONDS_MAX { shift } else { 0 },
        })
    }

    /// The period after it, if there is one.
    pub(super) fn next(&self, zone: &TimeZone) -> Option<Self> {
        if self.until == i64::MAX { None } else { Self::at(zone, self.until) }
    }

    /// Time of local clocks.
    pub(super) fn local(&self, milliseconds: i64) -> i64 {
        milliseconds.saturating_add(self.offset)
    }

    /// When a local time comes in this period, `None` when it comes after it.
    pub(super) fn when(&self, local: i64) -> Option<i64> {
        local.checked_sub(self.offset).filter(|at| *at < self.until)
    }

    /// The local times that were skipped when it began: from the first to before the second.
    pub(super) fn skipped(&self) -> Option<(i64, i64)> {
        let end = self.local(self.since);
        (self.shift > 0).then(|| (end - self.shift, end))
    }

    /// Before which local time all of them have been shown before.
    pub(super) fn doubled_until(&self) -> Option<i64> {
        (self.shift < 0).then(|| self.local(self.since) - self.shift)
    }
}

/// When the clocks of a zone show that time first; when they skip it, the moment at which they do. `None`
/// where time itself ends.
pub(super) fn first_at(local: DateTime, zone: &TimeZone) -> Option<WallTime> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let is_skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
    let at = ambiguous.compatible().ok()?.as_millisecond();
    let at = if is_skipped { Period::at(zone, at)?.since } else { at };
    u64::try_from(at).ok().map(WallTime)
}

/// A time in a zone with its offset and the zone's name (RFC 9557):
/// `2026-11-24T03:00:00+01:00[Europe/Berlin]`.
#[must_use]
pub fn zoned_text(time: WallTime, zone: &TimeZone) -> String {
    let timestamp = i64::try_from(time.0).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    timestamp.map_or_else(|| time.to_string(), |timestamp| format!("{:.0}", timestamp.to_zoned(zone.clone())))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;

    use super::*;

    fn of(name: &str, at: &str) -> Period {
        let zone = TimeZoneDatabase::bundled().get(name).unwrap();
        Period::at(&zone, i64::try_from(at.parse::<WallTime>().unwrap().0).unwrap()).unwrap()
    }

    #[test]
    fn clocks_are_put_forward_and_back_by_what_the_zone_says() {
        const HOUR: i64 = 3_600_000;
        for (name, at, offset, shift) in [
            ("Europe/Berlin", "2026-03-29T00:59:59.999Z", HOUR, -HOUR),
            ("Europe/Berlin", "2026-03-29T01:00:00Z", 2 * HOUR, HOUR),
            ("Europe/Berlin", "2026-10-25T01:00:00Z", HOUR, -HOUR),
            ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", 11 * HOUR, HOUR / 2),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", 21 * HOUR / 2, -HOUR / 2),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", 14 * HOUR, 0),
            ("UTC", "2026-03-29T01:00:00Z", 0, 0),
        ] {
            let period = of(name, at);
            assert_eq!((period.offset, period.shift), (offset, shift), "{name} at {at}");
        }
        let spring = of("Europe/Berlin", "2026-03-29T01:00:00Z");
        assert_eq!(spring.skipped(), Some((spring.since + HOUR, spring.since + 2 * HOUR)));
        let autumn = of("Europe/Berlin", "2026-10-25T01:00:00Z");
        assert_eq!(autumn.doubled_until(), Some(autumn.since + 2 * HOUR));
        assert_eq!((autumn.since, autumn.skipped()), (spring.until, None));
    }

    #[test]
    fn a_time_in_a_zone_says_which_of_two_equal_hours_it_is_in() {
        let berlin = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        let text = |at: &str| zoned_text(at.parse().unwrap(), &berlin);
        assert_eq!(text("2026-10-25T00:30:00.9Z"), "2026-10-25T02:30:00+02:00[Europe/Berlin]");
        assert_eq!(text("2026-10-25T01:30:00Z"), "2026-10-25T02:30:00+01:00[Europe/Berlin]");
        assert_eq!(zoned_text(WallTime(0), &TimeZone::UTC), "1970-01-01T00:00:00+00:00[UTC]");
        assert!(zoned_text(WallTime(u64::MAX), &berlin).contains("ms after 1970"));
    }
}
