//! What a clock that was wrong leaves of tasks and runs: nothing.

use super::*;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const YEARS: u64 = 10 * 365 * DAY;

impl House {
    /// The clock is set that much ahead, or back again, and somebody notices.
    fn set(&self, seconds: u64, change: TimeChange) {
        self.seconds.set(seconds);
        self.fleet.store.correct_task_times(self.time(), change).unwrap();
    }

    /// As a server is started whose clock shows that.
    fn start_at(&self, seconds: u64) -> Vec<DeviceId> {
        self.set(seconds, TimeChange::default());
        self.work()
    }

    fn next(&self, task: TaskId) -> u64 {
        (self.task(task).next_at.unwrap().0 - START.0) / 1_000
    }
}

#[test]
fn a_start_with_a_clock_ahead_puts_no_task_off() {
    for ahead in [2 * HOUR + 60, YEARS + 60] {
        let house = House::new(1);
        let device = house.fleet.devices[0];
        let of = |schedule: &str| house.create(Definition { schedule: schedule.into(), ..all_devices() });
        // It is 10:00.
        let (daily, hourly, every) = (of("cron 0 11 * * *"), of("cron 0 * * * *"), of("every 6h"));
        house.finish(device, RunStage::Succeeded);
        house.start_at(ahead);
        let early = house.orders(device).runs;
        for order in &early {
            house.say(device, RunUpdate::new(order.run, 1, RunStage::Succeeded));
        }
        assert!(house.next(daily) > ahead && house.next(hourly) > ahead, "as that clock has it");
        house.start_at(60);
        assert_eq!((house.next(daily), house.next(hourly)), (HOUR, HOUR), "{ahead} s ahead");
        assert!(house.next(every) <= 60 + 6 * HOUR, "{ahead} s ahead: {}", house.next(every));
        house.pass(HOUR - 61);
        assert_eq!(house.orders(device).runs, []);
        house.pass(1);
        assert_eq!(house.orders(device).runs.len(), 2, "at their time, begun too early or not");
        assert_eq!(house.next(daily), HOUR + DAY);
    }
}

#[test]
fn what_is_begun_is_not_begun_again_when_a_clock_that_was_right_is_set_back_a_little() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    let of = |schedule: &str| house.create(Definition { schedule: schedule.into(), ..all_devices() });
    let (daily, hourly) = (of("cron 0 11 * * *"), of("cron 0 * * * *"));
    house.pass(HOUR);
    for order in house.orders(device).runs {
        house.say(device, RunUpdate::new(order.run, 1, RunStage::Succeeded));
    }
    house.set(HOUR - 300, TimeChange { was_right: true, ..TimeChange::default() });
    assert_eq!((house.next(daily), house.next(hourly)), (HOUR + DAY, HOUR));
}

#[test]
fn nothing_expires_and_no_device_is_given_up_while_the_clock_is_doubted() {
    let house = House::new(2);
    let [waits, runs] = house.fleet.devices[..] else { panic!() };
    let task = house.create(Definition { expires_seconds: 172_800, ..all_devices() });
    house.say(runs, RunUpdate::new(house.order(runs), 1, RunStage::Running));
    let old = house.create(all_devices());
    house.fleet.store.cancel_task(old, house.now()).unwrap();
    house.work();
    house.may_expire.set(false);
    house.pass(200 * DAY);
    let states = house.states(task);
    assert_eq!((&states[&waits], &states[&runs]), (&vec![RunState::Pending], &vec![RunState::Running]));
    assert_eq!(house.task(old).state.name(), "cancelled", "kept");
    assert_eq!(house.fleet.store.step_tasks(house.time()).unwrap(), Default::default(), "and it rests");
    house.start_at(60);
    house.may_expire.set(true);
    house.work();
    house.finish(waits, RunStage::Succeeded);
    let run = house.orders(runs).list[0];
    house.say(runs, RunUpdate::new(run, 2, RunStage::Succeeded));
    house.work();
    assert_eq!(house.standing(task), ("done", vec![(RunState::Succeeded, 2)]));
    house.pass(31 * DAY);
    assert!(
        query::task(&house.fleet.store.reader().unwrap(), old).is_err(),
        "by a time without doubt it goes"
    );
}

#[test]
fn what_was_made_by_a_clock_ahead_lasts_no_longer_than_it_should() {
    let house = House::new(2);
    let [waits, runs] = house.fleet.devices[..] else { panic!() };
    house.start_at(YEARS);
    let task =
        house.create(Definition { expires_seconds: 172_800, rate_per_minute: Some(2), ..all_devices() });
    house.say(runs, RunUpdate::new(house.order(runs), 1, RunStage::Running));
    house.start_at(60);
    let lasts = house.runs(task).into_iter().find(|row| row.device == waits).unwrap().run;
    assert_eq!((lasts.expires_at.0 - house.now().0) / 1_000, 172_800);
    let run = house.runs(task).into_iter().find(|row| row.device == runs).unwrap().run;
    assert_eq!(
        (run.began_at, run.lease_until),
        (Some(house.now()), Some(WallTime(house.now().0 + 1_200_000)))
    );
    // What was released ahead of time counts for no rate.
    let next = house.create(Definition { rate_per_minute: Some(2), ..all_devices() });
    assert_eq!(house.standing(next).1, [(RunState::Pending, 2)]);
    house.pass(1_200);
    assert_eq!(house.states(task)[&runs], [RunState::TimedOut], "silent for its lease");
    house.pass(172_800);
    assert_eq!(house.states(task)[&waits], [RunState::Expired]);
}

#[test]
fn a_retry_and_a_window_of_a_clock_ahead_come_when_they_would_have_come() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    house.start_at(2 * HOUR);
    let task = house.create(Definition { retries: 1, ..all_devices() });
    house.finish(device, RunStage::Failed);
    // By that clock it is 12:00, and the window open.
    let window = Some("11:30-12:30".into());
    let hours = house.create(Definition { window, ..all_devices() });
    house.start_at(60);
    assert_eq!(house.states(hours)[&device], [RunState::Scheduled], "it is 10:01");
    house.pass(30);
    assert_eq!(house.states(task)[&device], [RunState::Failed, RunState::Pending]);
    house.pass(90 * 60 - 60);
    assert_eq!(house.states(hours)[&device], [RunState::Pending]);
}

#[test]
fn lengths_of_time_stay_when_a_step_forward_is_believed() {
    let house = House::new(2);
    let [waits, runs] = house.fleet.devices[..] else { panic!() };
    let task = house.create(Definition { expires_seconds: 172_800, timeout_seconds: 7_200, ..all_devices() });
    house.say(runs, RunUpdate::new(house.order(runs), 1, RunStage::Running));
    let by = 200 * DAY;
    house.set(by + 600, TimeChange { forward_milliseconds: by * 1_000, ..TimeChange::default() });
    house.pass(300);
    let states = house.states(task);
    assert_eq!((&states[&waits], &states[&runs]), (&vec![RunState::Pending], &vec![RunState::Running]));
    house.say(runs, RunUpdate::new(house.orders(runs).list[0], 2, RunStage::Running));
    house.pass(172_800 - 901);
    assert_eq!(house.states(task)[&waits], [RunState::Pending]);
    house.pass(1);
    assert_eq!(house.states(task)[&waits], [RunState::Expired]);
}

#[test]
fn what_was_made_before_a_start_that_is_far_ahead_does_not_begin_and_what_is_made_now_does() {
    let house = House::new(1);
    let at = house.create(Definition { schedule: "at 2027-11-24T10:00:00Z".into(), ..all_devices() });
    house.holds_before.set(YEARS);
    house.start_at(YEARS);
    assert_eq!(house.states(at).len(), 0, "a year is not over");
    let now = house.create(all_devices());
    assert_eq!(house.standing(now).1, [(RunState::Pending, 1)]);
    house.holds_before.set(0);
    house.work();
    assert_eq!(house.standing(at).1, [(RunState::Pending, 1)]);
}

#[test]
fn a_silent_device_is_given_up_though_the_server_was_started_with_a_clock_ahead() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    house.seconds.set(YEARS);
    house.fleet.store.serve_from(house.now());
    house.start_at(YEARS);
    house.start_at(60);
    let task = house.create(all_devices());
    house.say(device, RunUpdate::new(house.order(device), 1, RunStage::Running));
    house.pass(1_200);
    assert_eq!(house.states(task)[&device], [RunState::TimedOut], "silent for its lease");
}

#[test]
fn a_window_that_closes_while_the_clock_is_doubted_ends_no_run() {
    let house = House::new(1);
    let device = house.fleet.devices[0];
    let window = Some("09:30-10:30".into());
    let task = house.create(Definition { window, expires_seconds: 172_800, ..all_devices() });
    assert_eq!(house.states(task)[&device], [RunState::Pending]);
    house.may_expire.set(false);
    house.start_at(200 * DAY + 5 * HOUR);
    assert_eq!(house.states(task)[&device], [RunState::Scheduled], "its window has closed");
    house.start_at(60);
    house.may_expire.set(true);
    house.pass(60);
    assert_eq!(house.states(task)[&device], [RunState::Pending], "it is open again");
}
