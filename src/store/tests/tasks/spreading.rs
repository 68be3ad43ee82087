//! Speed at which a task spreads: windows, rates, full devices, 'not now'.

use super::*;
use crate::wire::limits::RUNS_PER_DEVICE_MAX;

fn count(fixture: &Fixture, task: TaskId, state: RunState) -> u64 {
    fixture.state_of(task).1.into_iter().find(|(known, _)| *known == state).map_or(0, |(_, runs)| runs)
}

/// The time of day, `seconds` seconds after a test has begun.
fn clock(seconds: u64) -> String {
    WallTime(START.0 + seconds * 1_000).to_string()[11..16].to_owned()
}

#[test]
fn a_task_begins_on_no_more_devices_a_minute_than_it_may() {
    let fixture = Fixture::new(25);
    let task = fixture.create(TaskDefinition { rate_per_minute: Some(10), ..all_devices() });
    assert_eq!(count(&fixture, task, RunState::Pending), 10);
    assert_eq!(fixture.task(task).why, "it begins on at most 10 devices a minute");
    assert_eq!(
        fixture.fleet.tasks().step(TaskTime::certain(fixture.now())).unwrap(),
        Default::default(),
        "it rests until then"
    );
    fixture.pass(59);
    assert_eq!(count(&fixture, task, RunState::Pending), 10);
    assert_eq!(fixture.pass(1).len(), 10);
    assert_eq!(fixture.pass(60).len(), 5);
    assert_eq!((count(&fixture, task, RunState::Pending), fixture.task(task).why.as_str()), (25, ""));
}

#[test]
fn runs_begin_within_the_window_or_wait_for_the_next() {
    let fixture = Fixture::new(2);
    let [first, second] = fixture.fleet.devices[..] else { panic!() };
    let (opens, closes) = (clock(3_600), clock(7_200));
    let window = Some(format!("{opens}-{closes}"));
    let task = fixture.create(TaskDefinition { window, expires_seconds: 3 * 86_400, ..all_devices() });
    assert_eq!(count(&fixture, task, RunState::Scheduled), 2);
    assert!(fixture.task(task).why.starts_with(&format!("its window {opens}-{closes} opens at ")));
    fixture.pass(3_599);
    assert_eq!(count(&fixture, task, RunState::Scheduled), 2);
    assert_eq!(fixture.pass(1), fixture.fleet.devices);
    assert_eq!(fixture.desired_state(first).runs[0].start_within_seconds, 3_600, "until the window closes");
    fixture.finish(first, RunStage::Succeeded);
    fixture.pass(3_600);
    assert_eq!(fixture.states(task)[&second], [RunState::Scheduled]);
    assert_eq!(fixture.desired_state(second).list, [], "it is taken back");
    fixture.pass(82_800);
    fixture.finish(second, RunStage::Succeeded);
    fixture.work();
    assert_eq!(fixture.state_of(task), ("done", vec![(RunState::Succeeded, 2)]));
}

#[test]
fn what_a_device_had_no_turn_for_waits_for_the_next_window_or_expires() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let window = Some(format!("{}-{}", clock(3_600), clock(3_720)));
    let task = fixture.create(TaskDefinition { window, expires_seconds: 2 * 86_400, ..all_devices() });
    fixture.pass(3_600);
    let run = fixture.finish(device, RunStage::NotNow);
    assert_eq!(fixture.states(task)[&device], [RunState::Scheduled]);
    fixture.pass(300);
    assert_eq!(fixture.states(task)[&device], [RunState::Scheduled], "its window has closed");
    fixture.pass(86_100);
    assert_eq!(fixture.finish(device, RunStage::NotNow), run, "the same run");
    fixture.pass(86_400);
    assert_eq!(fixture.states(task)[&device], [RunState::Expired]);
}

#[test]
fn a_device_is_given_no_more_runs_than_it_holds() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let tasks: Vec<_> = (0..=RUNS_PER_DEVICE_MAX).map(|_| fixture.create(all_devices())).collect();
    assert_eq!(fixture.desired_state(device).list.len(), RUNS_PER_DEVICE_MAX);
    let last = *tasks.last().unwrap();
    let why = fixture.runs(last).remove(0).why;
    assert!(why.ends_with("the device has 64 runs already, as many as it may"), "{why}");
    let first = fixture.desired_state(device).runs[0].run;
    fixture.say(device, RunUpdate::new(first, 1, RunStage::Succeeded));
    fixture.pass(10);
    assert_eq!(fixture.states(last)[&device], [RunState::Pending]);
}

#[test]
fn not_now_comes_again_and_what_failed_is_tried_as_often_as_it_may() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let task = fixture.create(TaskDefinition { retries: 1, ..all_devices() });
    let run = fixture.order(device);
    let not_now = RunUpdate { again_seconds: Some(90), ..RunUpdate::new(run, 1, RunStage::NotNow) };
    fixture.say(device, not_now);
    assert_eq!(fixture.desired_state(device).list, []);
    assert_eq!(fixture.pass(89), []);
    assert_eq!(fixture.pass(1), [device]);
    assert_eq!(fixture.order(device), run, "the same run");
    fixture.finish(device, RunStage::Failed);
    assert_eq!(fixture.state_of(task), ("active", vec![(RunState::Scheduled, 1)]), "the last attempt counts");
    fixture.pass(30);
    let second = fixture.finish(device, RunStage::Failed);
    assert_ne!(second, run);
    fixture.work();
    assert_eq!(fixture.state_of(task), ("done", vec![(RunState::Failed, 1)]));
    assert_eq!(fixture.states(task)[&device], [RunState::Failed, RunState::Failed]);
    assert_eq!(fixture.runs(task)[1].attempt, 2);
}
