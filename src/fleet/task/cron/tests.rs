use proptest::prelude::*;

use super::*;

fn time(text: &str) -> WallTime {
    text.parse().unwrap()
}

fn next(expression: &str, after: &str) -> Option<String> {
    let next = Cron::parse(expression).unwrap().next_after(time(after));
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
    let every_minute = Cron::parse("* * * * *").unwrap();
    assert_eq!(every_minute.next_after(WallTime(u64::MAX)), None);
    assert_eq!(every_minute.next_after(time("9999-12-30T21:58:00Z")), Some(time("9999-12-30T21:59:00Z")));
    assert_eq!(every_minute.next_after(WallTime(253_402_207_200_000)), None, "time ends");
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
        let said = Cron::parse(expression).unwrap_err();
        assert!(said.starts_with(error), "{said}");
    }
    assert!(Cron::parse(&"*".repeat(257)).unwrap_err().contains("at most 256 bytes"));
}

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
    #![proptest_config(ProptestConfig::with_cases(64))]

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
        let cron = Cron::parse(&fields.map(|(text, _)| text.as_str()).join(" ")).unwrap();
        prop_assert_eq!(Cron::parse(&cron.to_string()), Ok(cron.clone()));
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
        let found = cron.next_after(WallTime(start * 1_000)).map(|at| at.0 / 60_000);
        prop_assert_eq!(found.filter(|minutes| *minutes < end), expected);
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "\\PC{0,40}|([0-9*/,-]{1,6} ){4}[0-9*/,-]{1,6}", time: u64) {
        if let Ok(cron) = Cron::parse(&text) {
            prop_assert!(cron.next_after(WallTime(time)).is_none_or(|at| at.0 > time));
        }
    }
}
