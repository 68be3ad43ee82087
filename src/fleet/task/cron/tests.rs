use jiff::ToSpan as _;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;
use crate::fleet::task::period::{first_at, zoned_text};

fn time(text: &str) -> WallTime {
    text.parse().unwrap()
}

fn next(expression: &str, after: &str) -> Option<String> {
    let next = Cron::from_str(expression).unwrap().next_after(time(after), &TimeZone::UTC);
    next.map(|at| at.to_string().replace(":00.000Z", ""))
}

#[test]
fn times_recur_as_they_are_written() {
    for (expression, after, expected) in [
        ("0 3 * * *", "2026-11-24T02:59:59.999Z", "2026-11-24T03:00"),
        ("0 3 * * *", "2026-11-24T03:00:00Z", "2026-11-25T03:00"),
        ("*/15 * * * *", "2026-11-24T10:15:01Z", "2026-11-24T10:30"),
        ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59"),
        ("5,10-12/2 8-18/5 * * *", "2026-11-24T08:10:00Z", "2026-11-24T08:12"),
        ("5,10-12/2 8-18/5 * * *", "2026-11-24T08:12:00Z", "2026-11-24T13:05"),
        ("0 0 * * 7", "2026-11-24T00:00:00Z", "2026-11-29T00:00"),
        ("0 0 * * 0", "2026-11-24T00:00:00Z", "2026-11-29T00:00"),
        ("0 0 * * 5-7", "2026-11-28T00:00:00Z", "2026-11-29T00:00"),
        ("0 0 29 2 *", "2026-11-24T00:00:00Z", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00"),
    ] {
        assert_eq!(next(expression, after).as_deref(), Some(expected), "{expression} after {after}");
    }
}

#[test]
fn either_day_matches_when_both_are_named() {
    // 2026-11-24 is a Tuesday.
    assert_eq!(next("0 0 1 * 5", "2026-11-24T00:00:00Z").as_deref(), Some("2026-11-27T00:00"));
    assert_eq!(next("0 0 1 * 5", "2026-11-27T00:00:00Z").as_deref(), Some("2026-12-01T00:00"));
    assert_eq!(next("0 0 1 * *", "2026-11-24T00:00:00Z").as_deref(), Some("2026-12-01T00:00"));
    assert_eq!(next("0 0 */2 * 5", "2026-11-24T00:00:00Z").as_deref(), Some("2026-11-27T00:00"));
    assert_eq!(next("0 0 */2 * 5", "2026-11-27T00:00:00Z").as_deref(), Some("2026-12-11T00:00"));
}

#[test]
fn what_never_matches_is_told_in_bounded_time() {
    for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert_eq!(next(expression, "2026-11-24T00:00:00Z"), None, "{expression}");
    }
    let every_minute = Cron::from_str("* * * * *").unwrap();
    assert_eq!(every_minute.next_after(WallTime(u64::MAX), &TimeZone::UTC), None);
    let last = every_minute.next_after(time("9999-12-30T21:58:00Z"), &TimeZone::UTC);
    assert_eq!(last, Some(time("9999-12-30T21:59:00Z")));
    assert_eq!(every_minute.next_after(WallTime(253_402_207_200_000), &TimeZone::UTC), None, "time ends");
}

#[test]
fn errors_name_the_field_and_what_is_allowed() {
    for (expression, error) in [
        ("60 * * * *", "'60' does not fit the minute field of a cron expression (*, or numbers from 0 to 59"),
        (
            "* 1-24 * * *",
            "'1-24' does not fit the hour field of a cron expression (*, or numbers from 0 to 23",
        ),
        ("* * 0 * *", "'0' does not fit the day of month field"),
        ("* * * 3,x *", "'x' does not fit the month field"),
        ("* * * * 8", "'8' does not fit the day of week field"),
        ("*/0 * * * *", "'*/0' does not fit the minute field"),
        ("5/10 * * * *", "'5/10' does not fit the minute field"),
        ("+5 * * * *", "'+5' does not fit the minute field"),
        ("9-5 * * * *", "'9-5' does not fit the minute field"),
        (", * * * *", "'' does not fit the minute field"),
        ("0 3 * *", "'0 3 * *' has 4 fields: a cron expression has five"),
        ("", "'' has 0 fields"),
    ] {
        let said = Cron::from_str(expression).unwrap_err().to_string();
        assert!(said.starts_with(error), "{said}");
    }
    assert!(Cron::from_str(&"*".repeat(257)).unwrap_err().to_string().contains("at most 256 bytes"));
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

/// The matches in a zone from a time on, as its clocks show them, without year, seconds and the zone's name.
fn matches(name: &str, expression: &str, after: &str, count: usize) -> Vec<String> {
    let (zone, cron) = (zone(name), Cron::from_str(expression).unwrap());
    let first = cron.next_after(time(after), &zone);
    let all = std::iter::successors(first, |at| cron.next_after(*at, &zone)).take(count);
    all.map(|at| {
        let text = zoned_text(at, &zone);
        let seconds = text.find(":00+").or_else(|| text.find(":00-")).unwrap();
        format!("{}{}", &text[5..seconds], &text[seconds + 3..text.find('[').unwrap()])
    })
    .collect()
}

#[test]
fn a_time_that_is_skipped_comes_at_the_change_and_one_that_is_shown_twice_comes_once() {
    for (name, expression, after, expected) in [
        // From 02:00 to 03:00 on 29 March, back from 03:00 to 02:00 on 25 October.
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-27T12:00:00Z",
            ["03-28T02:30+01:00", "03-29T03:00+02:00", "03-30T02:30+02:00"],
        ),
        (
            "Europe/Berlin",
            "0,30 2,3 * * *",
            "2026-03-29T00:59:59Z",
            ["03-29T03:00+02:00", "03-29T03:30+02:00", "03-30T02:00+02:00"],
        ),
        (
            "Europe/Berlin",
            "59 1 * * *",
            "2026-03-28T12:00:00Z",
            ["03-29T01:59+01:00", "03-30T01:59+02:00", "03-31T01:59+02:00"],
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            ["10-25T02:30+02:00", "10-26T02:30+01:00", "10-27T02:30+01:00"],
        ),
        (
            "Europe/Berlin",
            "0 2,3 * * *",
            "2026-10-24T12:00:00Z",
            ["10-25T02:00+02:00", "10-25T03:00+01:00", "10-26T02:00+01:00"],
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-25T00:30:00Z",
            ["10-26T02:30+01:00", "10-27T02:30+01:00", "10-28T02:30+01:00"],
        ),
        (
            "America/New_York",
            "15 2 8 3 *",
            "2026-01-01T00:00:00Z",
            ["03-08T03:00-04:00", "03-08T02:15-05:00", "03-08T02:15-05:00"],
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T12:00:00Z",
            ["11-01T01:30-04:00", "11-02T01:30-05:00", "11-03T01:30-05:00"],
        ),
        // By half an hour: from 02:00 to 02:30 on 4 October, back from 02:00 to 01:30 on 5 April.
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-03T00:00:00Z",
            ["10-04T02:30+11:00", "10-05T02:15+11:00", "10-06T02:15+11:00"],
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-04T00:00:00Z",
            ["04-05T01:45+11:00", "04-06T01:45+10:30", "04-07T01:45+10:30"],
        ),
        // At midnight: on 6 September there is no 00:30, on 4 April 23:30 comes twice.
        (
            "America/Santiago",
            "30 0 * * *",
            "2026-09-05T12:00:00Z",
            ["09-06T01:00-03:00", "09-07T00:30-03:00", "09-08T00:30-03:00"],
        ),
        (
            "America/Santiago",
            "30 23 * * *",
            "2026-04-04T12:00:00Z",
            ["04-04T23:30-03:00", "04-05T23:30-04:00", "04-06T23:30-04:00"],
        ),
        // A day that was left out is a correction: what was in it never comes.
        (
            "Pacific/Apia",
            "0 9 * * *",
            "2011-12-29T00:00:00Z",
            ["12-29T09:00-10:00", "12-31T09:00+14:00", "01-01T09:00+14:00"],
        ),
    ] {
        assert_eq!(matches(name, expression, after, 3), expected, "{expression} in {name} after {after}");
    }
}

#[test]
fn a_wildcard_follows_the_clock_at_once() {
    for (name, expression, after, expected) in [
        (
            "Europe/Berlin",
            "*/30 2 * * *",
            "2026-03-28T12:00:00Z",
            ["03-30T02:00+02:00", "03-30T02:30+02:00", "03-31T02:00+02:00"],
        ),
        (
            "Europe/Berlin",
            "0 * * * *",
            "2026-03-28T23:30:00Z",
            ["03-29T01:00+01:00", "03-29T03:00+02:00", "03-29T04:00+02:00"],
        ),
        (
            "Europe/Berlin",
            "30 */2 * * *",
            "2026-03-29T00:00:00Z",
            ["03-29T04:30+02:00", "03-29T06:30+02:00", "03-29T08:30+02:00"],
        ),
        (
            "Europe/Berlin",
            "30 * * * *",
            "2026-10-25T00:00:00Z",
            ["10-25T02:30+02:00", "10-25T02:30+01:00", "10-25T03:30+01:00"],
        ),
        (
            "Europe/Berlin",
            "*/20 2 * * *",
            "2026-10-25T00:30:00Z",
            ["10-25T02:40+02:00", "10-25T02:00+01:00", "10-25T02:20+01:00"],
        ),
        (
            "Australia/Lord_Howe",
            "0 * * * *",
            "2026-10-03T14:45:00Z",
            ["10-04T03:00+11:00", "10-04T04:00+11:00", "10-04T05:00+11:00"],
        ),
        (
            "Australia/Lord_Howe",
            "45 * * * *",
            "2026-04-04T14:00:00Z",
            ["04-05T01:45+11:00", "04-05T01:45+10:30", "04-05T02:45+10:30"],
        ),
    ] {
        assert_eq!(matches(name, expression, after, 3), expected, "{expression} in {name} after {after}");
    }
}

/// Zones with changes of an hour, of half an hour, at midnight, against the seasons, four times a year, and
/// without any.
const ZONES: [&str; 12] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Beirut",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "America/Scoresbysund",
    "Pacific/Chatham",
    "Asia/Kathmandu",
    "UTC",
];

/// A field of numbers as the expression's text, and as a list of what matches.
fn field(lowest: u32, highest: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let all = move || (lowest..=highest).collect::<Vec<_>>();
    let range = (lowest..=highest, lowest..=highest, 1u32..8).prop_map(|(one, other, step)| {
        let (first, last) = (one.min(other), one.max(other));
        let numbers = (first..=last).filter(|number| (number - first) % step == 0).collect();
        (if step == 1 { format!("{first}-{last}") } else { format!("{first}-{last}/{step}") }, numbers)
    });
    let list = prop::collection::vec(lowest..=highest, 1..4)
        .prop_map(|numbers| (numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), numbers));
    let steps = (2u32..8).prop_map(move |step| {
        (
            format!("*/{step}"),
            all().into_iter().filter(|number| (number - lowest).is_multiple_of(step)).collect(),
        )
    });
    prop_oneof![3 => Just(("*".to_owned(), all())), 1 => steps, 2 => range, 2 => list]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn it_agrees_with_looking_at_every_minute(
        minute in field(0, 59),
        hour in field(0, 23),
        day in field(1, 31),
        month in field(1, 12),
        weekday in field(0, 7),
        start in 1_700_000_000u64..2_000_000_000,
    ) {
        let fields = [&minute, &hour, &day, &month, &weekday];
        let cron = Cron::from_str(&fields.map(|(text, _)| text.as_str()).join(" ")).unwrap();
        prop_assert_eq!(Cron::from_str(&cron.to_string()), Ok(cron.clone()));
        let matches = |minutes: u64| {
            let timestamp = Timestamp::from_second(i64::try_from(minutes * 60).unwrap()).unwrap();
            let at = Offset::UTC.to_datetime(timestamp);
            let is = |(_, numbers): &(String, Vec<u32>), number: i8| numbers.contains(&u32::try_from(number).unwrap());
            // 1970-01-01 was a Thursday.
            let today = i8::try_from((minutes / 1_440 + 4) % 7).unwrap();
            let is_weekday = is(&weekday, today) || (today == 0 && is(&weekday, 7));
            let is_day = match (day.0.starts_with('*'), weekday.0.starts_with('*')) {
                (false, false) => is(&day, at.day()) || is_weekday,
                _ => is(&day, at.day()) && is_weekday,
            };
            is(&minute, at.minute()) && is(&hour, at.hour()) && is(&month, at.month()) && is_day
        };
        let searched = start / 60 + 1..start / 60 + 1 + 6 * 1_440;
        let end = searched.end;
        let expected = searched.into_iter().find(|minutes| matches(*minutes));
        let found = cron.next_after(WallTime(start * 1_000), &TimeZone::UTC).map(|at| at.0 / 60_000);
        prop_assert_eq!(found.filter(|minutes| *minutes < end), expected);
    }

    #[test]
    fn no_daily_time_is_left_out_or_comes_twice_in_ten_years(zone_number: prop::sample::Index, minute in 0i8..60, hour in 0i8..24) {
        let names: Vec<_> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
        let name = zone_number.get(&names);
        let (zone, cron) = (zone(name), Cron::from_str(&format!("{minute} {hour} * * *")).unwrap());
        let mut day = Date::constant(2026, 1, 1);
        let mut at = first_at(day.at(hour, minute, 0, 0), &zone).unwrap();
        for _ in 0..3_653 {
            day = day.tomorrow().unwrap();
            let next = first_at(day.at(hour, minute, 0, 0), &zone);
            prop_assert_eq!(cron.next_after(at, &zone), next, "{} in {} after {}", cron, name, zoned_text(at, &zone));
            at = next.unwrap();
        }
    }

    #[test]
    fn the_next_time_is_ahead_and_none_is_left_out(
        zone_number in 0..ZONES.len(),
        minute in field(0, 59),
        hour in field(0, 23),
        start in 1_767_225_600u64..2_082_758_400,
        ahead in 0u64..86_400,
    ) {
        let zone = zone(ZONES[zone_number]);
        // Close to a change, where the zone has any.
        let start = i64::try_from(start).unwrap();
        let change = zone.following(Timestamp::from_second(start).unwrap()).next();
        let start = change.map_or(start, |change| change.timestamp().as_second() - i64::try_from(ahead).unwrap());
        let cron = Cron::from_str(&format!("{} {} * * *", minute.0, hour.0)).unwrap();
        let shown = |second: i64| {
            let civil = zone.to_datetime(Timestamp::from_second(second).unwrap());
            let is = |numbers: &[u32], number: i8| numbers.contains(&u32::try_from(number).unwrap());
            (civil, is(&minute.1, civil.minute()) && is(&hour.1, civil.hour()))
        };
        let is_wildcard = cron.to_string()[..cron.to_string().len() - 6].contains('*');
        let is_match = |second: i64| {
            let (civil, is_shown) = shown(second);
            if is_wildcard {
                return is_shown;
            }
            let before = zone.to_datetime(Timestamp::from_second(second - 1).unwrap());
            let skipped = (civil - before).get_minutes() + i64::from((civil - before).get_hours()) * 60;
            let is_in_skipped = (1..=skipped).any(|minutes| {
                let civil = civil - minutes.minutes();
                minute.1.contains(&u32::try_from(civil.minute()).unwrap()) && hour.1.contains(&u32::try_from(civil.hour()).unwrap())
            });
            let was_shown = (1..180).any(|minutes| shown(second - minutes * 60).0 == civil);
            is_in_skipped || (is_shown && !was_shown)
        };
        let first = (start.div_euclid(60) + 1) * 60;
        let expected = (0..3 * 1_440).map(|minutes| first + minutes * 60).find(|second| is_match(*second));
        let found = cron.next_after(WallTime(u64::try_from(start).unwrap() * 1_000), &zone);
        let found = found.map(|at| i64::try_from(at.0 / 1_000).unwrap());
        prop_assert_eq!(found, expected, "{} in {} after {}", cron, ZONES[zone_number], start);
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC{0,40}|([0-9*/,-]{1,6} ){4}[0-9*/,-]{1,6}", time: u64) {
        if let Ok(cron) = Cron::from_str(&text) {
            prop_assert!(cron.next_after(WallTime(time), &TimeZone::UTC).is_none_or(|at| at.0 > time));
        }
    }
}
