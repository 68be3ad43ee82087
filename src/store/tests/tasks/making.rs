//! Runs that are made of a task, and their times.

use jiff::tz::TimeZone;

use super::*;
use crate::store::testing::pages;

fn refused(result: Result<CreatedTask, StoreError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_task_is_due_and_has_its_window_by_the_clocks_of_its_zone() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    // 10:00 UTC, where it begins, is 15:45 there.
    let in_kathmandu =
        TaskDefinition { time_zone: Some("asia/kathmandu".into()), expires_seconds: 3_600, ..all_devices() };
    let cron = fixture.create(TaskDefinition { schedule: "cron 0 16 * * *".into(), ..in_kathmandu.clone() });
    assert_eq!(fixture.task(cron).definition.time_zone(), "Asia/Kathmandu", "as it is written");
    let window = Some("16:15-16:30".into());
    let hours = fixture.create(TaskDefinition { window, ..in_kathmandu.clone() });
    let why = "its window 16:15-16:30 opens at 2026-11-24T16:15:00+05:45[Asia/Kathmandu]";
    assert_eq!(fixture.task(hours).why, why);
    fixture.pass(899);
    assert_eq!(fixture.states(cron).get(&device), None);
    fixture.pass(1);
    assert_eq!(fixture.states(cron)[&device], [RunState::Pending]);
    assert_eq!(fixture.task(cron).next_at, Some(WallTime(START.0 + (900 + 86_400) * 1_000).into()));
    fixture.pass(900);
    assert_eq!(fixture.states(hours)[&device], [RunState::Pending]);
    fixture.pass(900);
    assert_eq!(fixture.states(hours)[&device], [RunState::Scheduled], "its window has closed");
    let nowhere = TaskDefinition { time_zone: Some("Asia/Nowhere".into()), ..in_kathmandu };
    let said = refused(fixture.try_create(nowhere, json!({})));
    assert!(said.contains("'time_zone': 'Asia/Nowhere' is not a time zone (an IANA name, such as"), "{said}");
}

#[test]
fn a_task_whose_zone_nobody_knows_any_more_says_so_and_holds_up_no_other() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let at_eleven = TaskDefinition { schedule: "cron 0 11 * * *".into(), ..all_devices() };
    let lost = fixture.create(at_eleven.clone());
    let hours = fixture.create(TaskDefinition { window: Some("11:00-12:00".into()), ..all_devices() });
    let zone = "UPDATE tasks SET definition = replace(definition, '\"UTC\"', '\"Mars/Base\"')";
    fixture.fleet.database().call(move |connection| Ok(connection.execute_batch(zone)?)).unwrap();
    let other = fixture.create(at_eleven);
    fixture.pass(3_600);
    let (lost, hours) = (fixture.task(lost), fixture.task(hours));
    assert_eq!(lost.state.name(), "aborted");
    assert!(
        lost.why.starts_with("nobody knows when it is due: 'Mars/Base' is not a time zone"),
        "{}",
        lost.why
    );
    assert!(hours.why.starts_with("nobody knows when its window opens: 'Mars/Base' is not"), "{}", hours.why);
    assert_eq!(fixture.states(other)[&device], [RunState::Pending]);
}

#[test]
fn a_task_goes_its_way_from_being_made_to_done() {
    let fixture = Fixture::new(2);
    let created = fixture.try_create(all_devices(), json!({"deep": true})).unwrap();
    assert_eq!((created.devices, created.offered, created.due_at), (2, 2, START.into()));
    assert_eq!(fixture.state_of(created.id), ("active", vec![]));
    assert_eq!(fixture.work(), fixture.fleet.devices, "both are called");
    assert_eq!(fixture.state_of(created.id), ("active", vec![(RunState::Pending, 2)]));
    let (first, second) = (fixture.fleet.devices[0], fixture.fleet.devices[1]);
    let desired_state = fixture.desired_state(first);
    let order = &desired_state.runs[0];
    assert_eq!((order.kind.as_str(), order.settings.as_str()), ("clean", r#"{"deep":true}"#));
    assert_eq!(
        (order.timeout_seconds, order.start_within_seconds, desired_state.list.len()),
        (600, 86_400, 1)
    );
    fixture.say(first, RunUpdate::new(order.run, 1, RunStage::Accepted));
    assert_eq!(
        (fixture.desired_state(first).runs.len(), fixture.desired_state(first).list.len()),
        (0, 1),
        "it has it"
    );
    let half = RunUpdate { progress_percent: Some(50), ..RunUpdate::new(order.run, 2, RunStage::Running) };
    fixture.say(first, half);
    let row = &fixture.runs(created.id)[0];
    assert_eq!((row.state, row.progress_percent), (RunState::Running, Some(50)));
    assert!(row.why.starts_with("is being executed since "), "{}", row.why);
    fixture.say(first, RunUpdate::new(order.run, 3, RunStage::Succeeded));
    fixture.finish(second, RunStage::Failed);
    assert_eq!(fixture.desired_state(first).list, []);
    fixture.work();
    let counts = vec![(RunState::Succeeded, 1), (RunState::Failed, 1)];
    assert_eq!(fixture.state_of(created.id), ("done", counts));
    assert_eq!(
        fixture.fleet.tasks().step(TaskTime::certain(fixture.now())).unwrap(),
        Default::default(),
        "nothing is left"
    );
}

#[test]
fn what_no_device_would_do_is_refused_with_what_they_would() {
    let fixture = Fixture::new(2);
    let new = |application: &str, kind: &str| NewTask {
        application: application.into(),
        kind: kind.into(),
        settings: serde_json::Map::new(),
        definition: all_devices(),
    };
    let create = |new| refused(fixture.fleet.tasks().create(new, Vec::new(), START));
    assert_eq!(
        create(new("kiosk", "melt")),
        "no device would do it: the device offers no task 'melt' for 'kiosk'; tasks that are offered: kiosk clean"
    );
    assert!(create(new("kiosks", "clean")).contains("the device has no application 'kiosks'"));
    assert_eq!(
        refused(fixture.try_create(all_devices(), json!({"deep": "very"}))),
        "no device would do it: settings of 'clean': 'deep': a string is not allowed, boolean is"
    );
    let targets = |targets| fixture.try_create(TaskDefinition::new(targets), json!({}));
    assert_eq!(
        refused(targets(TaskTargets::Devices(vec![DeviceId(7).to_string()]))),
        "there is no device '0000000000000007'"
    );
    assert_eq!(refused(targets(TaskTargets::Group("/shops".into()))), "there is no group '/shops'");
    fixture.fleet.devices().set_group("/shops", GroupChange::default()).unwrap();
    assert!(refused(targets(TaskTargets::Group("shops/".into()))).starts_with("there is no such device"));
    let wrong = TaskDefinition { schedule: "daily".into(), ..all_devices() };
    assert!(
        refused(fixture.try_create(wrong, json!({}))).starts_with("'schedule': 'daily' is not a schedule")
    );
    let filter = TaskFilter::default();
    let kept = query::tasks(&fixture.fleet.reader().unwrap(), &filter, &all()).unwrap();
    assert_eq!(kept.items, [], "nothing is left of what was refused");
}

#[test]
fn a_device_that_does_not_offer_it_rejects_its_run_and_one_that_said_nothing_is_waited_for() {
    let mut fixture = Fixture::new(2);
    let (first, second) = (fixture.fleet.devices[0], fixture.fleet.devices[1]);
    fixture.declare(second, Vec::new());
    let task = fixture.create(TaskDefinition { continuous: true, ..all_devices() });
    assert_eq!(fixture.states(task)[&second], [RunState::Rejected]);
    assert_eq!(fixture.runs(task)[1].message, "the device has no application 'kiosk'");
    let token = crate::store::testing::token(&fixture.fleet, 1);
    let third = DeviceId(3 << 33);
    let enrolment = crate::store::testing::enrolment(&token, third, "new");
    wait(|done| fixture.fleet.devices().enrol(enrolment, done)).unwrap();
    fixture.fleet.devices.push(third);
    fixture.pass(60);
    assert_eq!(fixture.states(task)[&third], [RunState::Scheduled]);
    assert!(fixture.runs(task)[2].why.ends_with("the device has not said yet what it offers"));
    fixture.declare(third, kinds());
    assert_eq!(fixture.pass(60), [third]);
    fixture.finish(third, RunStage::Succeeded);
    fixture.finish(first, RunStage::Succeeded);
    fixture.work();
    assert_eq!(fixture.state_of(task).0, "active", "others may come");
}

#[test]
fn a_snapshot_stays_as_it_was_and_a_continuous_task_takes_newcomers_along() {
    let fixture = Fixture::new(3);
    let [first, second, third] = fixture.fleet.devices[..] else { panic!() };
    fixture.move_to(first, "/shops/berlin");
    fixture.move_to(second, "/shops");
    let shops = TaskDefinition::new(TaskTargets::Group("/shops".into()));
    let later = TaskDefinition { schedule: "at 2026-11-24T11:00:00Z".into(), ..shops.clone() };
    let hour =
        later.schedule().unwrap().first(START, &TimeZone::UTC).unwrap().0.saturating_sub(START.0) / 1_000;
    let snapshot = fixture.create(later.clone());
    let continuous = fixture.create(TaskDefinition { continuous: true, ..shops });
    assert_eq!(fixture.states(continuous).keys().copied().collect::<Vec<_>>(), [first, second]);
    fixture.move_to(third, "/shops/rome");
    fixture.move_to(first, "/");
    assert_eq!(fixture.work(), [third], "it is called at once");
    fixture.pass(hour);
    assert_eq!(fixture.states(snapshot).keys().copied().collect::<Vec<_>>(), [first, second]);
    assert_eq!(fixture.states(continuous)[&third], [RunState::Pending]);
    fixture.move_to(third, "/");
    fixture.move_to(third, "/shops");
    fixture.work();
    assert_eq!(fixture.states(continuous)[&third].len(), 1, "once is once");
}

#[test]
fn a_task_follows_its_group_and_ends_with_it_when_it_waits_for_newcomers() {
    let fixture = Fixture::new(3);
    let [first, second, third] = fixture.fleet.devices[..] else { panic!() };
    fixture.move_to(first, "/shops/berlin");
    fixture.move_to(second, "/shopsmith");
    let of = |path: &str| TaskDefinition::new(TaskTargets::Group(path.into()));
    let snapshot = fixture.create(TaskDefinition { schedule: "every 1h".into(), ..of("/shops/berlin") });
    let continuous = fixture.create(TaskDefinition { continuous: true, ..of("/shops/berlin") });
    let beside = fixture.create(TaskDefinition { continuous: true, ..of("/shopsmith") });
    fixture.fleet.devices().move_group("/shops", "/germany/shops", false).unwrap();
    for (task, path) in
        [(snapshot, "/germany/shops/berlin"), (continuous, "/germany/shops/berlin"), (beside, "/shopsmith")]
    {
        assert_eq!(fixture.task(task).definition.targets, TaskTargets::Group(path.into()));
    }
    fixture.move_to(third, "/germany/shops/berlin");
    fixture.work();
    assert_eq!(fixture.states(continuous).keys().copied().collect::<Vec<_>>(), [first, third]);
    fixture.fleet.devices().remove_group("/germany", true, false, fixture.now()).unwrap();
    fixture.work();
    assert_eq!((fixture.state_of(continuous).0, fixture.state_of(beside).0), ("cancelled", "active"));
    assert!(fixture.task(continuous).why.starts_with("its group /germany/shops/berlin was removed at "));
    fixture.pass(3_600);
    let runs = fixture.states(snapshot);
    assert_eq!((runs.len(), runs[&first].len()), (1, 2), "it goes on with whom it was for");
}

#[test]
fn a_recurring_task_leaves_out_who_is_not_done_and_keeps_ten_times() {
    let fixture = Fixture::new(2);
    let [first, second] = fixture.fleet.devices[..] else { panic!() };
    let task = fixture.create(TaskDefinition { schedule: "every 1h".into(), ..all_devices() });
    fixture.say(second, RunUpdate::new(fixture.order(second), 1, RunStage::Accepted));
    fixture.pass(3_600);
    assert_eq!(
        fixture.states(task)[&first],
        [RunState::Pending, RunState::Expired],
        "the latest comes first"
    );
    let of_second = || fixture.runs(task).into_iter().find(|row| row.device_id == second).unwrap();
    assert_eq!(of_second().message, "left out: the run before it had not ended");
    for _ in 0..30 {
        fixture.finish(first, RunStage::Succeeded);
        fixture.pass(3_600);
    }
    assert_eq!(fixture.states(task)[&first].len(), 10);
    fixture.pass(30 * 3_600);
    assert_eq!(fixture.states(task)[&first].len(), 10, "what was missed is not made up for");
}

#[test]
fn it_all_survives_a_restart() {
    let mut fixture = Fixture::new(300);
    let task = fixture.try_create(all_devices(), json!({})).unwrap().id;
    fixture.fleet.tasks().step(TaskTime::certain(fixture.now())).unwrap();
    fixture.fleet.reopen();
    fixture.work();
    assert_eq!(fixture.state_of(task), ("active", vec![(RunState::Pending, 300)]));
    fixture.fleet.reopen();
    fixture.finish(fixture.fleet.devices[0], RunStage::Succeeded);
    let counts = vec![(RunState::Pending, 299), (RunState::Succeeded, 1)];
    assert_eq!(fixture.state_of(task).1, counts);
}

#[test]
fn lists_come_page_by_page() {
    let fixture = Fixture::new(5);
    let tasks: Vec<_> = (0..3).map(|_| fixture.create(all_devices())).collect();
    let reader = fixture.fleet.reader().unwrap();
    let listed = pages(2, |page| query::tasks(&reader, &TaskFilter::default(), page));
    assert!(listed.iter().map(|task| task.id).eq(tasks.iter().rev().copied()), "newest first");
    let filter = RunFilter { task: Some(tasks[1]), ..RunFilter::default() };
    let runs = pages(2, |page| query::runs(&reader, &filter, page, fixture.now()));
    assert!(runs.iter().map(|run| run.device_id).eq(fixture.fleet.devices.iter().copied()));
    let of_device = RunFilter { device: Some(fixture.fleet.devices[0]), ..RunFilter::default() };
    assert_eq!(query::runs(&reader, &of_device, &all(), fixture.now()).unwrap().items.len(), 3);
    let none = RunFilter { state: Some(RunState::Failed), ..of_device };
    assert_eq!(query::runs(&reader, &none, &all(), fixture.now()).unwrap().items.len(), 0);
    let unknown = RunFilter { task: Some(TaskId(7)), ..RunFilter::default() };
    let error = query::runs(&reader, &unknown, &all(), fixture.now()).unwrap_err();
    assert_eq!(error.to_string(), "there is no task 0000000000000007");
}

#[test]
fn more_runs_than_are_told_at_a_time_come_in_portions_in_their_order() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let mut kinds = kinds();
    kinds[0].kinds[0].schema = String::new();
    kinds[0].settings_schema = "{}".into();
    fixture.declare(device, [kinds.clone(), Vec::new()].concat());
    for _ in 0..20 {
        let settings = json!({ "text": "x".repeat(15_000) });
        fixture.try_create(all_devices(), settings).unwrap();
        fixture.pass(1);
    }
    let (mut after, mut told, mut portions) = (None, Vec::new(), 0);
    let list = loop {
        match fixture.fleet.desired_state(device, after.take(), fixture.now()) {
            DesiredStateOutcome::All(desired_state) => {
                told.extend(desired_state.runs.iter().map(|run| run.run));
                break desired_state.list;
            }
            DesiredStateOutcome::Part(desired_state, next) => {
                assert!(
                    desired_state.runs.len() < 11 && desired_state.list.is_empty(),
                    "{}",
                    desired_state.runs.len()
                );
                told.extend(desired_state.runs.iter().map(|run| run.run));
                (after, portions) = (Some(next), portions + 1);
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((told.len(), portions), (20, 2));
    let sorted = |mut runs: Vec<RunId>| {
        runs.sort_unstable_by_key(|run| run.0);
        runs.dedup();
        runs
    };
    assert_eq!(sorted(told), sorted(list), "each once, and each that is in the list");
}

#[test]
fn a_task_for_a_filter_stays_with_the_devices_that_were_let_through_when_it_was_made() {
    let fixture = Fixture::new(4);
    let (fleet, devices) = (&fixture.fleet, &fixture.fleet.devices);
    let (stays, leaves, goes, comes) = (devices[0], devices[1], devices[2], devices[3]);
    [stays, leaves, goes].iter().for_each(|device| fixture.move_to(*device, "/shops"));
    let filter = "group:/shops".parse().unwrap();
    let moment = Moment { now: fixture.now(), present_since: START };
    let selected = fleet.selection().ids(&filter, Among::Approved, moment).unwrap();
    let targets = TaskTargets::Filter(filter.to_string());
    let definition = TaskDefinition { schedule: "every 1h".into(), ..TaskDefinition::new(targets) };
    let new = NewTask {
        application: "kiosk".into(),
        kind: "clean".into(),
        settings: serde_json::Map::new(),
        definition,
    };
    let created = fleet.tasks().create(new, selected, fixture.now()).unwrap();
    assert_eq!((created.devices, created.offered), (3, 3));
    assert_eq!(fixture.work(), [stays, leaves, goes]);
    let done = |device: &DeviceId| {
        fixture.finish(*device, RunStage::Succeeded);
    };
    [stays, leaves, goes].iter().for_each(done);
    fixture.move_to(leaves, "/elsewhere");
    fixture.move_to(comes, "/shops");
    fleet.devices().move_group("/shops", "/stores", false).unwrap();
    fleet.devices().remove(goes, fixture.now()).unwrap();
    for times in 2..=3 {
        assert_eq!(fixture.pass(3_600), [stays, leaves]);
        [stays, leaves].iter().for_each(done);
        let states = fixture.states(created.id);
        assert_eq!((states[&stays].len(), states[&leaves].len()), (times, times), "{states:?}");
        assert_eq!(states.get(&comes), None);
    }
    assert_eq!(fixture.task(created.id).definition.targets, TaskTargets::Filter("group:/shops".into()));
}
