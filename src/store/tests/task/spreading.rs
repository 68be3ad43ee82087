//! How fast a task spreads: windows, rates, full devices, 'not now'.

use super::*;
use crate::wire::limits::RUNS_PER_DEVICE_MAX;

fn count(house: &House, task: TaskId, state: RunState) -> u64 {
    house.standing(task).1.into_iter().find(|(known, _)| *known == state).map_or(0, |(_, runs)| runs)
}

/// The time of day, so many seconds after a test has begun.
fn clock(seconds: u64) -> String {
    WallTime(START.0 + seconds * 1_000).to_string()[11..16].to_owned()
}

#[test]
fn a_task_begins_on_no_more_devices_a_minute_than_it_may() {
    let house = House::new(25);
    let task = house.create(Definition { rate_per_minute: Some(10), ..all_devices() });
    assert_eq!(count(&house, task, RunState::Pending), 10);
    assert_eq!(house.task(task).why, "it begins on at most 10 devices a minute");
    assert_eq!(
        house.fleet.store.step_tasks(TaskTime::certain(house.now())).unwrap(),
        Default::default(),
        "it rests until then"
    );
    house.pass(59);
    assert_eq!(count(&house, task, RunState::Pending), 10);
    assert_eq!(house.pass(1).len(), 10);
    assert_eq!(house.pass(60).len(), 5);
    assert_eq!((count(&house, task, RunState::Pending), house.task(task).why.as_str()), (25, ""));
}

#[test]
fn runs_begin_within_the_window_or_wait_for_the_next() {
    let house = House::new(2);
    let [first, second] = house.fleet.devices[..] else { panic!() };
    let (opens, closes) = (clock(3_600), clock(7_200));
    let window = Some(format!("{opens}-{closes}"));
    let task = house.create(Definition { window, expires_seconds: 3 * 86_400, ..all_devices() });
    assert_eq!(count(&house, task, RunState::Scheduled), 2);
    assert!(house.task(task).why.starts_with(&format!("its window {opens}-{closes} opens at ")));
    house.pass(3_599);
    assert_eq!(count(&house, task, RunState::Scheduled), 2);
    assert_eq!(house.pass(1), house.fleet.devices);
    assert_eq!(house.orders(first).runs[0].start_within_seconds, 3_600, "until the window closes");
    house.finish(first, RunStage::Succeeded);
    house.pass(3_600);
    assert_eq!(house.states(task)[&second], [RunState::Scheduled]);
    assert_eq!(house.orders(second).list, [], "it is taken back");
    house.pass(82_800);
    house.finish(second, RunStage::Succeeded);
    house.work();
    assert_eq!(house.standing(task), ("done", vec![(RunState::Succeeded, 2)]));
}

#[test]
fn what_a_device_had_no_turn_for_waits_for_the_next_window_or_expires() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    let window = Some(format!("{}-{}", clock(3_600), clock(3_720)));
    let task = house.create(Definition { window, expires_seconds: 2 * 86_400, ..all_devices() });
    house.pass(3_600);
    let run = house.finish(device, RunStage::NotNow);
    assert_eq!(house.states(task)[&device], [RunState::Scheduled]);
    house.pass(300);
    assert_eq!(house.states(task)[&device], [RunState::Scheduled], "its window has closed");
    house.pass(86_100);
    assert_eq!(house.finish(device, RunStage::NotNow), run, "the same run");
    house.pass(86_400);
    assert_eq!(house.states(task)[&device], [RunState::Expired]);
}

#[test]
fn a_device_is_given_no_more_runs_than_it_holds() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    let tasks: Vec<_> = (0..=RUNS_PER_DEVICE_MAX).map(|_| house.create(all_devices())).collect();
    assert_eq!(house.orders(device).list.len(), RUNS_PER_DEVICE_MAX);
    let last = *tasks.last().unwrap();
    let why = house.runs(last)[0].run.why(house.now());
    assert!(why.ends_with("the device has 64 runs already, as many as it may"), "{why}");
    let first = house.orders(device).runs[0].run;
    house.say(device, RunUpdate::new(first, 1, RunStage::Succeeded));
    house.pass(10);
    assert_eq!(house.states(last)[&device], [RunState::Pending]);
}

#[test]
fn not_now_comes_again_and_what_failed_is_tried_as_often_as_it_may() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    let task = house.create(Definition { retries: 1, ..all_devices() });
    let run = house.order(device);
    let not_now = RunUpdate { again_seconds: Some(90), ..RunUpdate::new(run, 1, RunStage::NotNow) };
    house.say(device, not_now);
    assert_eq!(house.orders(device).list, []);
    assert_eq!(house.pass(89), []);
    assert_eq!(house.pass(1), [device]);
    assert_eq!(house.order(device), run, "the same run");
    house.finish(device, RunStage::Failed);
    assert_eq!(house.standing(task), ("active", vec![(RunState::Scheduled, 1)]), "the last attempt counts");
    house.pass(30);
    let second = house.finish(device, RunStage::Failed);
    assert_ne!(second, run);
    house.work();
    assert_eq!(house.standing(task), ("done", vec![(RunState::Failed, 1)]));
    assert_eq!(house.states(task)[&device], [RunState::Failed, RunState::Failed]);
    assert_eq!(house.runs(task)[1].run.attempt, 2);
}
