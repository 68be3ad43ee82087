//! A device's numbers, from a report to what is shown.

use crate::fleet::ring::{SLOT_MILLISECONDS, SLOTS};
use crate::machine::command::StatisticsOutcome;
use crate::machine::wall_clock::AgeTime;
use crate::store::query::{self, DeviceKey};
use crate::store::testing::{Fleet, wait};
use crate::store::{ApplicationStatistics, RINGS_BYTES_MAX};
use crate::wire::id::DeviceId;
use crate::wire::statistics::{Number, Statistic, Statistics};
use crate::wire::time::WallTime;

const MINUTE: u64 = 60_000;
const BEGIN: WallTime = WallTime(1_795_514_400_000);

fn after(minutes: u64) -> WallTime {
    WallTime(BEGIN.0 + minutes * MINUTE)
}

fn entry(application: &str, name: &str, unit: &str, value: f64) -> Statistic {
    Statistic { application: application.into(), name: name.into(), unit: unit.into(), value: Number(value) }
}

fn report(fleet: &Fleet, at: WallTime, entries: Vec<Statistic>) -> StatisticsOutcome {
    wait(|done| fleet.inventory().take_statistics(fleet.devices[0], Statistics { entries }, at, done))
}

fn shown(fleet: &Fleet) -> Vec<ApplicationStatistics> {
    let key = DeviceKey::Id(fleet.devices[0]);
    query::device(&fleet.reader().unwrap(), &key).unwrap().statistics
}

fn column(statistics: &ApplicationStatistics, name: &str) -> Vec<f32> {
    let at = statistics.latest.iter().position(|latest| latest.0 == name).unwrap();
    let values = statistics.ring.points().iter().map(|point| point.values[at]);
    values.filter(|value| value.is_finite()).collect()
}

#[test]
fn numbers_are_kept_for_a_day_and_the_latest_exactly() {
    let mut fleet = Fleet::new(1);
    let exact = 16_777_217.25;
    let rounded = 16_777_216.0_f32;
    for quarter in 0..200 {
        let entries = vec![entry("nginx", "requests", "requests/s", quarter as f64)];
        assert_eq!(report(&fleet, after(15 * quarter), entries), StatisticsOutcome::Stored);
    }
    report(&fleet, after(15 * 199 + 1), vec![entry("nginx", "requests", "requests/s", exact)]);
    for _ in 0..2 {
        let [nginx] = &shown(&fleet)[..] else { panic!() };
        assert_eq!(nginx.latest, [("requests".into(), "requests/s".into(), Some(exact))]);
        let values = column(nginx, "requests");
        assert_eq!((values.len(), values[0], values[95]), (96, rounded, 104.0));
        assert_eq!(nginx.at, after(15 * 199 + 1));
        fleet.reopen();
    }
}

#[test]
fn what_is_no_number_or_no_name_is_passed_over() {
    let fleet = Fleet::new(1);
    let entries = vec![
        entry("b", "twice", "", 1.0),
        entry("a", "nan", "", f64::NAN),
        entry("a", "infinite", "", f64::INFINITY),
        entry("a", "", "", 1.0),
        entry("", "a", "", 1.0),
        entry("a", &"x".repeat(256), "", 1.0),
        entry("a", "huge", "", 1e300),
        entry("b", "twice", "", 2.0),
    ];
    assert_eq!(report(&fleet, BEGIN, entries), StatisticsOutcome::Stored);
    let [a, b] = &shown(&fleet)[..] else { panic!() };
    assert_eq!(a.latest, [("huge".into(), String::new(), Some(1e300))]);
    assert_eq!(column(a, "huge"), [0.0_f32; 0], "too large for a plot, and nothing worse");
    assert_eq!((b.latest.len(), column(b, "twice").len()), (1, 1));
}

#[test]
fn numbers_that_stop_being_reported_stay_for_a_day() {
    let fleet = Fleet::new(1);
    report(
        &fleet,
        BEGIN,
        vec![entry("nginx", "a", "", 1.0), entry("nginx", "b", "", 2.0), entry("x", "y", "", 0.0)],
    );
    report(&fleet, after(60), vec![entry("nginx", "b", "", 3.0), entry("nginx", "c", "", 4.0)]);
    let [nginx, x] = &shown(&fleet)[..] else { panic!() };
    let latest: Vec<_> = nginx.latest.iter().map(|(name, _, value)| (name.as_str(), *value)).collect();
    assert_eq!(latest, [("a", None), ("b", Some(3.0)), ("c", Some(4.0))]);
    assert_eq!(
        (column(nginx, "a"), column(nginx, "b"), column(nginx, "c")),
        (vec![1.0], vec![3.0, 2.0], vec![4.0])
    );
    assert_eq!(x.at, BEGIN);
    report(&fleet, after(24 * 60 + 10), vec![entry("nginx", "b", "bytes", 3.0)]);
    let [nginx] = &shown(&fleet)[..] else { panic!() };
    let latest: Vec<_> = nginx.latest.iter().map(|latest| latest.0.as_str()).collect();
    assert_eq!(latest, ["b", "c"], "of 'a' the day has no value any more");
    assert_eq!(column(nginx, "b"), [3.0], "another unit is another number");
}

#[test]
fn a_devices_rings_are_bounded_however_much_it_reports() {
    let fleet = Fleet::new(1);
    for slot in 0..SLOTS {
        let at = WallTime(BEGIN.0 + slot * SLOT_MILLISECONDS);
        let noise = |number: u64| ((slot * 31 + number) as f64).sin() * 1e6;
        let entries = (0..256)
            .map(|number| entry(&format!("a{:02}", number % 8), &format!("n{number}"), "", noise(number)))
            .collect();
        assert_eq!(report(&fleet, at, entries), StatisticsOutcome::Stored);
    }
    let reader = fleet.reader().unwrap();
    let bytes: i64 =
        reader.query_row("SELECT sum(length(ring)) FROM statistics", [], |row| row.get(0)).unwrap();
    assert!(usize::try_from(bytes).unwrap() <= RINGS_BYTES_MAX, "{bytes}");
    let statistics = shown(&fleet);
    assert_eq!(statistics.len(), 8);
    assert!(statistics.iter().all(|application| application.ring.points().len() > 10));
}

#[test]
fn a_clock_that_is_doubted_takes_no_numbers_away() {
    let fleet = Fleet::new(1);
    report(&fleet, BEGIN, vec![entry("nginx", "a", "", 1.0), entry("redis", "b", "", 2.0)]);
    let ahead = after(200 * 24 * 60);
    let entries = vec![entry("nginx", "a", "", 3.0)];
    let doubted = AgeTime { wall: ahead, may_expire: false };
    wait(|done| {
        fleet.inventory().take_statistics(fleet.devices[0], Statistics { entries }, doubted, done);
    });
    let statistics = shown(&fleet);
    assert_eq!(statistics.len(), 2, "one of them was not reported for 200 days");
    assert_eq!(column(&statistics[0], "a"), [3.0, 1.0]);
    // Right again.
    report(&fleet, after(10), vec![entry("nginx", "a", "", 4.0)]);
    let statistics = shown(&fleet);
    assert_eq!((statistics.len(), column(&statistics[0], "a")), (2, vec![4.0, 1.0]));
}

#[test]
fn what_was_reported_last_while_the_clock_was_ahead_goes_a_day_after_it_was_set_right() {
    let fleet = Fleet::new(1);
    let both = || vec![entry("nginx", "a", "", 1.0), entry("redis", "b", "", 2.0)];
    report(&fleet, after(200 * 24 * 60), both());
    for (minutes, applications) in [(10, 2), (23 * 60, 2), (25 * 60, 1)] {
        report(&fleet, after(minutes), vec![entry("nginx", "a", "", 3.0)]);
        let statistics = shown(&fleet);
        assert_eq!(statistics.len(), applications, "after {minutes} minutes");
        assert!(statistics.iter().all(|application| application.at <= after(minutes)), "{statistics:?}");
    }
}

#[test]
fn a_device_that_is_gone_loses_its_numbers_and_cant_bring_any() {
    let fleet = Fleet::new(1);
    report(&fleet, BEGIN, vec![entry("nginx", "a", "", 1.0)]);
    fleet.devices().remove(fleet.devices[0], BEGIN).unwrap();
    let entries = vec![entry("nginx", "a", "", 1.0)];
    assert_eq!(report(&fleet, BEGIN, entries), StatisticsOutcome::Lost);
    let reader = fleet.reader().unwrap();
    let rows: i64 = reader.query_row("SELECT count(*) FROM statistics", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
    let nobody =
        wait(|done| fleet.inventory().take_statistics(DeviceId(1), Statistics::default(), BEGIN, done));
    assert_eq!(nobody, StatisticsOutcome::Lost);
}
