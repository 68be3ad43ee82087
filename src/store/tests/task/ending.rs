//! How tasks and runs end.

use super::*;
use crate::fleet::task::definition::EXPIRES_SECONDS;
use crate::wire::task::RunOutput;

#[test]
fn a_cancelled_task_is_final_at_once_and_what_comes_later_is_kept_as_late() {
    let house = House::new(3);
    let [first, second, third] = house.fleet.devices[..] else { panic!() };
    let task = house.create(all_devices());
    house.finish(first, RunStage::Succeeded);
    let run = house.order(second);
    house.say(second, RunUpdate::new(run, 1, RunStage::Running));
    house.fleet.store.cancel_task(task, house.now()).unwrap();
    let counts = vec![(RunState::Succeeded, 1), (RunState::Cancelled, 2)];
    assert_eq!(
        house.standing(task),
        ("cancelled", counts.clone()),
        "before anything was written down of runs"
    );
    assert_eq!(house.runs(task)[1].run.state, RunState::Cancelled);
    assert_eq!(house.orders(third).runs, []);
    house.say(second, RunUpdate::new(run, 2, RunStage::Succeeded));
    assert_eq!(house.runs(task)[1].run.late.as_ref().unwrap().stage, RunStage::Succeeded);
    assert_eq!(house.work(), [third], "the second was told with its report");
    assert_eq!((house.orders(second).list, house.orders(third).list), (vec![], vec![]));
    assert_eq!(house.standing(task), ("cancelled", counts));
    house.fleet.store.cancel_task(task, house.now()).unwrap();
    let error = house.fleet.store.cancel_task(TaskId(7), house.now()).unwrap_err();
    assert_eq!(error.to_string(), "there is no task 0000000000000007");
}

#[test]
fn nothing_waits_for_ever() {
    let house = House::new(3);
    let [first, second, third] = house.fleet.devices[..] else { panic!() };
    let task = house.create(Definition { retries: 3, ..all_devices() });
    house.say(second, RunUpdate::new(house.order(second), 1, RunStage::Accepted));
    house.say(third, RunUpdate::new(house.order(third), 1, RunStage::Running));
    house.pass(300 + 900);
    let states = house.states(task);
    assert_eq!(
        (&states[&second][..], &states[&third][..]),
        (&[RunState::TimedOut][..], &[RunState::TimedOut][..])
    );
    assert_eq!(house.orders(second).list, [], "when it comes again it is told that nobody wants it");
    house.pass(u64::from(EXPIRES_SECONDS));
    assert_eq!(house.states(task)[&first], [RunState::Expired]);
    assert_eq!(house.standing(task).0, "done");
}

#[test]
fn who_could_not_be_heard_while_the_server_was_away_is_not_given_up() {
    let mut house = House::new(2);
    let [first, second] = house.fleet.devices[..] else { panic!() };
    let task = house.create(all_devices());
    let runs = [first, second].map(|device| house.order(device));
    for (device, run) in [first, second].into_iter().zip(runs) {
        house.say(device, RunUpdate::new(run, 1, RunStage::Running));
    }
    house.fleet.reopen();
    house.seconds.set(86_000);
    house.fleet.store.serve_from(house.now());
    house.work();
    house.pass(1_199);
    assert_eq!(house.standing(task).1, [(RunState::Running, 2)]);
    house.say(first, RunUpdate::new(runs[0], 2, RunStage::Succeeded));
    house.pass(1);
    assert_eq!(house.standing(task).1, [(RunState::Succeeded, 1), (RunState::TimedOut, 1)]);
}

#[test]
fn a_task_of_which_too_much_fails_stops_and_lets_end_what_runs() {
    let house = House::new(12);
    let abort_percent = Some(40);
    let definition = Definition { abort_percent, rate_per_minute: Some(6), ..all_devices() };
    let task = house.create(definition);
    // Whose turn comes first is drawn by lot.
    let mut devices = house.fleet.devices.clone();
    devices.sort_by_key(|device| house.orders(*device).list.is_empty());
    let running = house.order(devices[5]);
    house.say(devices[5], RunUpdate::new(running, 1, RunStage::Running));
    for (device, stage) in devices[..5].iter().zip([
        RunStage::Failed,
        RunStage::Failed,
        RunStage::Succeeded,
        RunStage::Succeeded,
        RunStage::Rejected,
    ]) {
        house.work();
        assert_eq!(house.standing(task).0, "active");
        house.finish(*device, stage);
    }
    house.work();
    assert_eq!(
        (house.standing(task).0, house.task(task).why.as_str()),
        ("aborted", "3 of 5 failed, more than 40 %")
    );
    assert_eq!(house.states(task)[&devices[11]], [RunState::Cancelled]);
    assert_eq!(house.states(task)[&devices[5]], [RunState::Running]);
    house.say(devices[5], RunUpdate::new(running, 2, RunStage::Succeeded));
    assert_eq!(house.states(task)[&devices[5]], [RunState::Succeeded]);
    assert_eq!(house.pass(60), []);
}

#[test]
fn what_a_device_lost_is_repeated_only_when_it_may_be() {
    for may_repeat in [false, true] {
        let house = House::new(1);
        let device = house.fleet.devices[0];
        let task = house.create(Definition { may_repeat, ..all_devices() });
        let run = house.order(device);
        house.say(device, RunUpdate::new(run, 5, RunStage::Running));
        house.say(device, RunUpdate::new(run, 1, RunStage::Unknown));
        let state = if may_repeat { RunState::Pending } else { RunState::Failed };
        assert_eq!(house.states(task)[&device], [state]);
        assert_eq!(house.orders(device).runs.len(), usize::from(may_repeat));
    }
}

#[test]
fn what_a_program_wrote_is_kept_and_others_cannot_speak_for_a_device() {
    let house = House::new(2);
    let [first, second] = house.fleet.devices[..] else { panic!() };
    let task = house.create(all_devices());
    let run = house.order(first);
    house.say(second, RunUpdate::new(run, 9, RunStage::Failed));
    assert_eq!(house.states(task)[&first], [RunState::Pending]);
    for (serial, is_tail, text) in [(1, false, "begins"), (2, false, "begins well"), (3, true, "ends")] {
        let output = Some(RunOutput { is_tail, bytes: text.into(), omitted_bytes: 7 });
        house.say(first, RunUpdate { output, ..RunUpdate::new(run, serial, RunStage::Running) });
    }
    let detail = query::run(&house.fleet.store.reader().unwrap(), run, house.now()).unwrap();
    assert_eq!(
        (detail.head, detail.tail, detail.omitted_bytes),
        (b"begins well".to_vec(), b"ends".to_vec(), 7)
    );
    assert!(detail.row.has_output);
    let error = query::run(&house.fleet.store.reader().unwrap(), RunId(7), house.now()).unwrap_err();
    assert_eq!(error.to_string(), "there is no run 0000000000000007");
}

#[test]
fn a_removed_device_takes_its_runs_along_and_old_tasks_go() {
    let house = House::new(2);
    let task = house.create(all_devices());
    house.fleet.store.remove_device(house.fleet.devices[0], house.now()).unwrap();
    assert_eq!(house.states(task).len(), 1);
    house.finish(house.fleet.devices[1], RunStage::Succeeded);
    house.work();
    assert_eq!(house.standing(task).0, "done");
    house.pass(30 * 86_400 - 1);
    assert_eq!(house.standing(task).0, "done");
    house.pass(2);
    let error = query::task(&house.fleet.store.reader().unwrap(), task).unwrap_err();
    assert_eq!(error, StoreError::NoTask(task));
}
