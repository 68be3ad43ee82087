//! Traces that a wrong clock leaves of tasks and runs: none.

use super::*;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const YEARS: u64 = 10 * 365 * DAY;

impl Fixture {
    /// The clock is set that much ahead, or back again, and somebody notices.
    fn set(&self, seconds: u64, change: TimeChange) {
        self.seconds.set(seconds);
        self.fleet.tasks().correct_times(self.time(), change).unwrap();
    }

    /// As a server is started whose clock shows that.
    fn start_at(&self, seconds: u64) -> Vec<DeviceId> {
        self.set(seconds, TimeChange::default());
        self.work()
    }

    fn next(&self, task: TaskId) -> u64 {
        (self.task(task).next_at.unwrap().0.0 - START.0) / 1_000
    }
}

#[test]
fn a_start_with_a_clock_ahead_puts_no_task_off() {
    for ahead in [2 * HOUR + 60, YEARS + 60] {
        let fixture = Fixture::new(1);
        let device = fixture.fleet.devices[0];
        let of =
            |schedule: &str| fixture.create(TaskDefinition { schedule: schedule.into(), ..all_devices() });
        // It is 10:00.
        let (daily, hourly, every) = (of("cron 0 11 * * *"), of("cron 0 * * * *"), of("every 6h"));
        fixture.finish(device, RunStage::Succeeded);
        fixture.start_at(ahead);
        let early = fixture.desired_state(device).runs;
        for order in &early {
            fixture.say(device, RunUpdate::new(order.run, 1, RunStage::Succeeded));
        }
        assert!(fixture.next(daily) > ahead && fixture.next(hourly) > ahead, "as that clock has it");
        fixture.start_at(60);
        assert_eq!((fixture.next(daily), fixture.next(hourly)), (HOUR, HOUR), "{ahead} s ahead");
        assert!(fixture.next(every) <= 60 + 6 * HOUR, "{ahead} s ahead: {}", fixture.next(every));
        fixture.pass(HOUR - 61);
        assert_eq!(fixture.desired_state(device).runs, []);
        fixture.pass(1);
        assert_eq!(fixture.desired_state(device).runs.len(), 2, "at their time, begun too early or not");
        assert_eq!(fixture.next(daily), HOUR + DAY);
    }
}

#[test]
fn what_is_begun_is_not_begun_again_when_a_clock_that_was_right_is_set_back_a_little() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let of = |schedule: &str| fixture.create(TaskDefinition { schedule: schedule.into(), ..all_devices() });
    let (daily, hourly) = (of("cron 0 11 * * *"), of("cron 0 * * * *"));
    fixture.pass(HOUR);
    for order in fixture.desired_state(device).runs {
        fixture.say(device, RunUpdate::new(order.run, 1, RunStage::Succeeded));
    }
    fixture.set(HOUR - 300, TimeChange { was_right: true, ..TimeChange::default() });
    assert_eq!((fixture.next(daily), fixture.next(hourly)), (HOUR + DAY, HOUR));
}

#[test]
fn nothing_expires_and_no_device_is_given_up_while_the_clock_is_doubted() {
    let fixture = Fixture::new(2);
    let [waits, runs] = fixture.fleet.devices[..] else { panic!() };
    let task = fixture.create(TaskDefinition { expires_seconds: 172_800, ..all_devices() });
    fixture.say(runs, RunUpdate::new(fixture.order(runs), 1, RunStage::Running));
    let old = fixture.create(all_devices());
    fixture.fleet.tasks().cancel(old, fixture.now()).unwrap();
    fixture.work();
    fixture.may_expire.set(false);
    fixture.pass(200 * DAY);
    let states = fixture.states(task);
    assert_eq!((&states[&waits], &states[&runs]), (&vec![RunState::Pending], &vec![RunState::Running]));
    assert_eq!(fixture.task(old).state.name(), "cancelled", "kept");
    assert_eq!(fixture.fleet.tasks().step(fixture.time()).unwrap(), Default::default(), "and it rests");
    fixture.start_at(60);
    fixture.may_expire.set(true);
    fixture.work();
    fixture.finish(waits, RunStage::Succeeded);
    let run = fixture.desired_state(runs).list[0];
    fixture.say(runs, RunUpdate::new(run, 2, RunStage::Succeeded));
    fixture.work();
    assert_eq!(fixture.state_of(task), ("done", vec![(RunState::Succeeded, 2)]));
    fixture.pass(31 * DAY);
    assert!(query::task(&fixture.fleet.reader().unwrap(), old).is_err(), "by a time without doubt it goes");
}

#[test]
fn what_was_made_by_a_clock_ahead_lasts_no_longer_than_it_should() {
    let fixture = Fixture::new(2);
    let [waits, runs] = fixture.fleet.devices[..] else { panic!() };
    fixture.start_at(YEARS);
    let task = fixture.create(TaskDefinition {
        expires_seconds: 172_800,
        rate_per_minute: Some(2),
        ..all_devices()
    });
    fixture.say(runs, RunUpdate::new(fixture.order(runs), 1, RunStage::Running));
    fixture.start_at(60);
    let lasts = fixture.runs(task).into_iter().find(|row| row.device_id == waits).unwrap();
    assert_eq!((lasts.until.unwrap().0.0 - fixture.now().0) / 1_000, 172_800);
    let run = fixture.runs(task).into_iter().find(|row| row.device_id == runs).unwrap();
    assert_eq!(
        (run.began_at, run.until),
        (Some(fixture.now().into()), Some(WallTime(fixture.now().0 + 1_200_000).into()))
    );
    // A run that was released ahead of time counts for no rate.
    let next = fixture.create(TaskDefinition { rate_per_minute: Some(2), ..all_devices() });
    assert_eq!(fixture.state_of(next).1, [(RunState::Pending, 2)]);
    fixture.pass(1_200);
    assert_eq!(fixture.states(task)[&runs], [RunState::TimedOut], "silent for its lease");
    fixture.pass(172_800);
    assert_eq!(fixture.states(task)[&waits], [RunState::Expired]);
}

#[test]
fn a_retry_and_a_window_of_a_clock_ahead_come_when_they_would_have_come() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    fixture.start_at(2 * HOUR);
    let task = fixture.create(TaskDefinition { retries: 1, ..all_devices() });
    fixture.finish(device, RunStage::Failed);
    // By that clock it is 12:00, and the window open.
    let window = Some("11:30-12:30".into());
    let hours = fixture.create(TaskDefinition { window, ..all_devices() });
    fixture.start_at(60);
    assert_eq!(fixture.states(hours)[&device], [RunState::Scheduled], "it is 10:01");
    fixture.pass(30);
    assert_eq!(fixture.states(task)[&device], [RunState::Failed, RunState::Pending]);
    fixture.pass(90 * 60 - 60);
    assert_eq!(fixture.states(hours)[&device], [RunState::Pending]);
}

#[test]
fn lengths_of_time_stay_when_a_step_forward_is_believed() {
    let fixture = Fixture::new(2);
    let [waits, runs] = fixture.fleet.devices[..] else { panic!() };
    let task =
        fixture.create(TaskDefinition { expires_seconds: 172_800, timeout_seconds: 7_200, ..all_devices() });
    fixture.say(runs, RunUpdate::new(fixture.order(runs), 1, RunStage::Running));
    let by = 200 * DAY;
    fixture.set(by + 600, TimeChange { forward_milliseconds: by * 1_000, ..TimeChange::default() });
    fixture.pass(300);
    let states = fixture.states(task);
    assert_eq!((&states[&waits], &states[&runs]), (&vec![RunState::Pending], &vec![RunState::Running]));
    fixture.say(runs, RunUpdate::new(fixture.desired_state(runs).list[0], 2, RunStage::Running));
    fixture.pass(172_800 - 901);
    assert_eq!(fixture.states(task)[&waits], [RunState::Pending]);
    fixture.pass(1);
    assert_eq!(fixture.states(task)[&waits], [RunState::Expired]);
}

#[test]
fn what_was_made_before_a_start_that_is_far_ahead_does_not_begin_and_what_is_made_now_does() {
    let fixture = Fixture::new(1);
    let at = fixture.create(TaskDefinition { schedule: "at 2027-11-24T10:00:00Z".into(), ..all_devices() });
    fixture.holds_before.set(YEARS);
    fixture.start_at(YEARS);
    assert_eq!(fixture.states(at).len(), 0, "a year is not over");
    let now = fixture.create(all_devices());
    assert_eq!(fixture.state_of(now).1, [(RunState::Pending, 1)]);
    fixture.holds_before.set(0);
    fixture.work();
    assert_eq!(fixture.state_of(at).1, [(RunState::Pending, 1)]);
}

#[test]
fn a_silent_device_is_given_up_though_the_server_was_started_with_a_clock_ahead() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    fixture.seconds.set(YEARS);
    fixture.fleet.tasks().serve_from(fixture.now());
    fixture.start_at(YEARS);
    fixture.start_at(60);
    let task = fixture.create(all_devices());
    fixture.say(device, RunUpdate::new(fixture.order(device), 1, RunStage::Running));
    fixture.pass(1_200);
    assert_eq!(fixture.states(task)[&device], [RunState::TimedOut], "silent for its lease");
}

#[test]
fn a_window_that_closes_while_the_clock_is_doubted_ends_no_run() {
    let fixture = Fixture::new(1);
    let device = fixture.fleet.devices[0];
    let window = Some("09:30-10:30".into());
    let task = fixture.create(TaskDefinition { window, expires_seconds: 172_800, ..all_devices() });
    assert_eq!(fixture.states(task)[&device], [RunState::Pending]);
    fixture.may_expire.set(false);
    fixture.start_at(200 * DAY + 5 * HOUR);
    assert_eq!(fixture.states(task)[&device], [RunState::Scheduled], "its window has closed");
    fixture.start_at(60);
    fixture.may_expire.set(true);
    fixture.pass(60);
    assert_eq!(fixture.states(task)[&device], [RunState::Pending], "it is open again");
}
