use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;
use crate::fleet::task::period::zoned_text;

fn time(text: &str) -> WallTime {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
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
        assert_eq!(night.opens_at(time(at), &TimeZone::UTC), time(opens), "{at}");
    }
    let berlin = zone("Europe/Berlin");
    assert_eq!(night.opens_at(time("2026-11-24T20:00:00Z"), &berlin), time("2026-11-24T21:00:00Z"));
    assert_eq!(night.closes_at(time("2026-11-24T21:00:00Z"), &berlin), time("2026-11-25T04:00:00Z"));
    let noon: Window = "12:00-13:00".parse().unwrap();
    assert_eq!(noon.opens_at(time("2026-11-24T13:00:00Z"), &TimeZone::UTC), time("2026-11-25T12:00:00Z"));
    for text in ["", "22:00", "22-05", "24:00-05:00", "22:60-05:00", "2:00-5:00", "+2:00-05:00"] {
        assert!(
            text.parse::<Window>().unwrap_err().to_string().starts_with(&format!("'{text}' is not a window"))
        );
    }
    assert!("05:00-05:00".parse::<Window>().unwrap_err().to_string().contains("empty window"));
}

#[test]
fn a_window_follows_the_clock_over_its_changes_and_none_is_lost() {
    for (name, window, after, opens, closes) in [
        // From 02:00 to 03:00: an hour shorter, its edge in what is skipped, all of it in what is skipped.
        (
            "Europe/Berlin",
            "22:00-05:00",
            "2026-03-28T12:00:00Z",
            "03-28T22:00:00+01:00",
            "03-29T05:00:00+02:00",
        ),
        (
            "Europe/Berlin",
            "22:00-02:30",
            "2026-03-28T12:00:00Z",
            "03-28T22:00:00+01:00",
            "03-29T03:00:00+02:00",
        ),
        (
            "Europe/Berlin",
            "02:30-05:00",
            "2026-03-28T12:00:00Z",
            "03-29T03:00:00+02:00",
            "03-29T05:00:00+02:00",
        ),
        (
            "Europe/Berlin",
            "02:00-02:30",
            "2026-03-28T12:00:00Z",
            "03-29T03:00:00+02:00",
            "03-29T03:30:00+02:00",
        ),
        (
            "Europe/Berlin",
            "02:15-03:00",
            "2026-03-28T12:00:00Z",
            "03-29T03:00:00+02:00",
            "03-29T03:45:00+02:00",
        ),
        (
            "Europe/Berlin",
            "02:00-02:30",
            "2026-03-29T01:30:00Z",
            "03-30T02:00:00+02:00",
            "03-30T02:30:00+02:00",
        ),
        // Back from 03:00 to 02:00: an hour longer, or open twice.
        (
            "Europe/Berlin",
            "22:00-05:00",
            "2026-10-24T12:00:00Z",
            "10-24T22:00:00+02:00",
            "10-25T05:00:00+01:00",
        ),
        (
            "Europe/Berlin",
            "02:00-02:30",
            "2026-10-24T12:00:00Z",
            "10-25T02:00:00+02:00",
            "10-25T02:30:00+02:00",
        ),
        (
            "Europe/Berlin",
            "02:00-02:30",
            "2026-10-25T00:30:00Z",
            "10-25T02:00:00+01:00",
            "10-25T02:30:00+01:00",
        ),
        (
            "Europe/Berlin",
            "02:30-03:00",
            "2026-10-24T12:00:00Z",
            "10-25T02:30:00+02:00",
            "10-25T02:00:00+01:00",
        ),
        (
            "Australia/Lord_Howe",
            "02:00-02:20",
            "2026-10-03T00:00:00Z",
            "10-04T02:30:00+11:00",
            "10-04T02:50:00+11:00",
        ),
        (
            "America/Santiago",
            "00:00-00:45",
            "2026-09-05T12:00:00Z",
            "09-06T01:00:00-03:00",
            "09-06T01:45:00-03:00",
        ),
        (
            "America/New_York",
            "01:30-02:30",
            "2026-10-31T12:00:00Z",
            "11-01T01:30:00-04:00",
            "11-01T01:00:00-05:00",
        ),
        // A day that was left out is a correction.
        (
            "Pacific/Apia",
            "09:00-10:00",
            "2011-12-29T20:30:00Z",
            "12-31T09:00:00+14:00",
            "12-31T10:00:00+14:00",
        ),
    ] {
        let (zone, window) = (zone(name), window.parse::<Window>().unwrap());
        let text = |at| zoned_text(at, &zone)[5..25].to_owned();
        let at = window.opens_at(time(after), &zone);
        assert_eq!(
            (text(at), text(window.closes_at(at, &zone))),
            (opens.into(), closes.into()),
            "{window} in {name}"
        );
    }
}

fn zones() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Santiago",
        "Africa/Casablanca",
        "UTC",
    ])
}

proptest! {
    #[test]
    fn a_window_opens_when_it_says(from in 0i64..1_440, until in 0i64..1_440, time in 0u64..1 << 42, name in zones()) {
        prop_assume!(from != until);
        let (window, zone) = (Window { from, until }, zone(name));
        prop_assert_eq!(window.to_string().parse(), Ok(window));
        let opens = window.opens_at(WallTime(time), &zone);
        prop_assert!(window.is_open(opens, &zone) && opens.0 >= time);
        prop_assert!(opens.0 - time < 86_400_000 + 3 * 3_600_000);
        prop_assert!(opens.0 == time || !window.is_open(WallTime(opens.0 - 1), &zone));
        let closes = window.closes_at(opens, &zone);
        prop_assert!(!window.is_open(closes, &zone) && window.is_open(WallTime(closes.0 - 1), &zone) && closes > opens);
    }

    #[test]
    fn it_says_what_looking_at_every_minute_says(from in 0i64..24, length in 1i64..23, start in 0i64..2_000, year in 2026i64..2036, name in zones()) {
        // Within two days of a change, where the zone has any.
        let (zone, from) = (zone(name), from * 15);
        let window = Window { from, until: from + length * 15 };
        let new_year = Timestamp::from_second((year - 1970) * 31_556_952).unwrap();
        let change = zone.following(new_year).next().map_or(new_year, |change| change.timestamp());
        let first = change.as_second().div_euclid(60) * 60 - start * 60;
        let at = |minutes: i64| WallTime(u64::try_from((first + minutes * 60) * 1_000).unwrap());
        let is_open: Vec<bool> = (0..5_000).map(|minutes| window.is_open(at(minutes), &zone)).collect();
        let find = |is_wanted: bool| (0i64..).zip(&is_open).find(|(_, is)| **is == is_wanted).map(|(minutes, _)| at(minutes));
        prop_assert_eq!(Some(window.opens_at(at(0), &zone)), find(true));
        prop_assert_eq!(Some(window.closes_at(at(0), &zone)), find(false));
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}|\\PC{0,30}", time: u64, name in zones()) {
        if let Ok(window) = text.parse::<Window>() {
            let _ = window.opens_at(WallTime(time), &zone(name));
            let _ = window.closes_at(WallTime(time), &zone(name));
        }
    }
}
