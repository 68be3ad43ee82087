//! Ends of tasks and runs.

use super::*;
use crate::wire::api::{TASK_EXPIRES_SECONDS_DEFAULT, WrittenOutput};
use crate::wire::task::RunOutput;

#[test]
fn a_cancelled_task_is_final_at_once_and_what_comes_later_is_kept_as_late() {
    let fixture = Fixture::new(3);
    let [first, second, third] = fixture.fleet.devices[..] else { panic!() };
    let task = fixture.create(all_devices());
    fixture.finish(first, RunStage::Succeeded);
    let run = fixture.order(second);
    fixture.say(second, RunUpdate::new(run, 1, RunStage::Running));
    fixture.fleet.tasks().cancel(task, fixture.now()).unwrap();
    let counts = vec![(RunState::Succeeded, 1), (RunState::Cancelled, 2)];
    assert_eq!(
        fixture.state_of(task),
        ("cancelled", counts.clone()),
        "before anything was written down of runs"
    );
    assert_eq!(fixture.runs(task)[1].state, RunState::Cancelled);
    assert_eq!(fixture.desired_state(third).runs, []);
    fixture.say(second, RunUpdate::new(run, 2, RunStage::Succeeded));
    assert_eq!(fixture.runs(task)[1].late.as_ref().unwrap().stage, RunStage::Succeeded);
    assert_eq!(fixture.work(), [third], "the second was told with its report");
    assert_eq!((fixture.desired_state(second).list, fixture.desired_state(third).list), (vec![], vec![]));
    assert_eq!(fixture.state_of(task), ("cancelled", counts));
    fixture.fleet.tasks().cancel(task, fixture.now()).unwrap();
    let error = fixture.fleet.tasks().cancel(TaskId(7), fixture.now()).unwrap_err();
    assert_eq!(error.to_string(), "there is no task 0000000000000007");
}

#[test]
fn nothing_waits_for_ever() {
    let fixture = Fixture::new(3);
    let [first, second, third] = fixture.fleet.devices[..] else { panic!() };
    let task = fixture.create(TaskDefinition { retries: 3, ..all_devices() });
    fixture.say(second, RunUpdate::new(fixture.order(second), 1, RunStage::Accepted));
    fixture.say(third, RunUpdate::new(fixture.order(third), 1, RunStage::Running));
    fixture.pass(300 + 900);
    let states = fixture.states(task);
    assert_eq!(
        (&states[&second][..], &states[&third][..]),
        (&[RunState::TimedOut][..], &[RunState::TimedOut][..])
    );
    assert_eq!(fixture.desired_state(second).list, [], "when it comes again it is told that nobody wants it");
    fixture.pass(u64::from(TASK_EXPIRES_SECONDS_DEFAULT));
    assert_eq!(fixture.states(task)[&first], [RunState::Expired]);
    assert_eq!(fixture.state_of(task).0, "done");
}

#[test]
fn who_could_not_be_heard_while_the_server_was_away_is_not_given_up() {
    let mut fixture = Fixture::new(2);
    let [first, second] = fixture.fleet.devices[..] else { panic!() };
    let task = fixture.create(all_devices());
    let runs = [first, second].map(|device| fixture.order(device));
    for (device, run) in [first, second].into_iter().zip(runs) {
        fixture.say(device, RunUpdate::new(run, 1, RunStage::Running));
    }
    fixture.fleet.reopen();
    fixture.seconds.set(86_000);
    fixture.fleet.tasks().serve_from(fixture.now());
    fixture.work();
    fixture.pass(1_199);
    assert_eq!(fixture.state_of(task).1, [(RunState::Running, 2)]);
    fixture.say(first, RunUpdate::new(runs[0], 2, RunStage::Succeeded));
    fixture.pass(1);
    assert_eq!(fixture.state_of(task).1, [(RunState::Succeeded, 1), (RunState::TimedOut, 1)]);
}

#[test]
fn a_task_of_which_too_much_fails_stops_and_lets_end_what_runs() {
    let fixture = Fixture::new(12);
    let abort_percent = Some(40);
    let definition = TaskDefinition { abort_percent, rate_per_minute: Some(6), ..all_devices() };
    let task = fixture.create(definition);
    // Whose turn comes first is drawn by lot.
    let mut devices = fixture.fleet.devices.clone();
    devices.sort_by_key(|device| fixture.desired_state(*device).list.is_empty());
    let running = fixture.order(devices[5]);
    fixture.say(devices[5], RunUpdate::new(running, 1, RunStage::Running));
    for (device, stage) in devices[..5].iter().zip([
        RunStage::Failed,
        RunStage::Failed,
        RunStage::Succeeded,
        RunStage::Succeeded,
        RunStage::Rejected,
    ]) {
        fixture.work();
        assert_eq!(fixture.state_of(task).0, "active");
        fixture.finish(*device, stage);
    }
    fixture.work();
    assert_eq!(
        (fixture.state_of(task).0, fixture.task(task).why.as_str()),
        ("aborted", "3 of 5 failed, more than 40 %")
    );
    assert_eq!(fixture.states(task)[&devices[11]], [RunState::Cancelled]);
    assert_eq!(fixture.states(task)[&devices[5]], [RunState::Running]);
    fixture.say(devices[5], RunUpdate::new(running, 2, RunStage::Succeeded));
    assert_eq!(fixture.states(task)[&devices[5]], [RunState::Succeeded]);
    assert_eq!(fixture.pass(60), []);
}

#[test]
fn what_a_device_lost_is_repeated_only_when_it_may_be() {
    for may_repeat in [false, true] {
        let fixture = Fixture::new(1);
        let device = fixture.fleet.devices[0];
        let task = fixture.create(TaskDefinition { may_repeat, ..all_devices() });
        let run = fixture.order(device);
        fixture.say(device, RunUpdate::new(run, 5, RunStage::Running));
        fixture.say(device, RunUpdate::new(run, 1, RunStage::Unknown));
        let state = if may_repeat { RunState::Pending } else { RunState::Failed };
        assert_eq!(fixture.states(task)[&device], [state]);
        assert_eq!(fixture.desired_state(device).runs.len(), usize::from(may_repeat));
    }
}

#[test]
fn what_a_program_wrote_is_kept_and_others_cannot_speak_for_a_device() {
    let fixture = Fixture::new(2);
    let [first, second] = fixture.fleet.devices[..] else { panic!() };
    let task = fixture.create(all_devices());
    let run = fixture.order(first);
    fixture.say(second, RunUpdate::new(run, 9, RunStage::Failed));
    assert_eq!(fixture.states(task)[&first], [RunState::Pending]);
    for (serial, is_tail, text) in [(1, false, "begins"), (2, false, "begins well"), (3, true, "ends")] {
        let output = Some(RunOutput { is_tail, bytes: text.into(), omitted_bytes: 7 });
        fixture.say(first, RunUpdate { output, ..RunUpdate::new(run, serial, RunStage::Running) });
    }
    let detail = query::run(&fixture.fleet.reader().unwrap(), run, fixture.now()).unwrap();
    let written = WrittenOutput { head: "begins well".into(), tail: "ends".into(), omitted_bytes: 7 };
    assert_eq!(detail.output, Some(written));
    assert!(detail.run.has_output);
    let error = query::run(&fixture.fleet.reader().unwrap(), RunId(7), fixture.now()).unwrap_err();
    assert_eq!(error.to_string(), "there is no run 0000000000000007");
}

#[test]
fn a_removed_device_takes_its_runs_along_and_old_tasks_go() {
    let fixture = Fixture::new(2);
    let task = fixture.create(all_devices());
    fixture.fleet.devices().remove(fixture.fleet.devices[0], fixture.now()).unwrap();
    assert_eq!(fixture.states(task).len(), 1);
    fixture.finish(fixture.fleet.devices[1], RunStage::Succeeded);
    fixture.work();
    assert_eq!(fixture.state_of(task).0, "done");
    fixture.pass(30 * 86_400 - 1);
    assert_eq!(fixture.state_of(task).0, "done");
    fixture.pass(2);
    let error = query::task(&fixture.fleet.reader().unwrap(), task).unwrap_err();
    assert_eq!(error, StoreError::NoTask(task));
}
