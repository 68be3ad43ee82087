//! Tasks of a real server whose wall clock is set wrong and right again, by libfaketime (Debian's package
//! `faketime`); the monotonic clock is left alone. Without the library there is nothing to be seen here.

use super::clock_steps::FakeClock;
use crate::kit::{Running, Site, eventually};
use serde_json::Value;

/// A site whose server's clock can be set, beside the system's.
struct Fixture {
    site: Site,
    clock: FakeClock,
}

impl Fixture {
    /// `None`: the library is not there.
    fn new() -> Option<Self> {
        let site = Site::new();
        let clock = FakeClock::of(&site, "clock")?;
        Some(Self { site, clock })
    }

    fn server(&self) -> Running {
        self.site.server_with(&[], &self.clock.environment())
    }

    /// Makes a task that waits for devices; its id.
    fn create(&self, schedule: &str) -> String {
        let head = ["task", "create", "--application", "shop", "--kind", "work", "--all", "--continuous"];
        let made = self.site.ctl_json(&[&head[..], &["--schedule", schedule]].concat());
        made["id"].as_str().unwrap().to_owned()
    }

    /// In how many seconds a task is due next, by the system's clock.
    fn due_in(&self, task: &str) -> i64 {
        let shown = self.site.ctl_json(&["task", "show", task]);
        let next: jiff::Timestamp = shown["task"]["next_at"].as_str().unwrap().parse().unwrap();
        next.as_second() - jiff::Timestamp::now().as_second()
    }
}

#[test]
fn a_start_with_a_clock_ahead_leaves_no_task_far_away() {
    let Some(fixture) = Fixture::new() else { return };
    for seconds in [3 * 3_600, 10 * 365 * 86_400] {
        fixture.clock.set(0);
        let server = fixture.server();
        let tasks = [fixture.create("every 1h"), fixture.create("cron 30 * * * *")];
        eventually("both have begun, or wait", || {
            tasks.iter().all(|task| (0..=3_600).contains(&fixture.due_in(task)))
        });
        server.end();
        fixture.clock.set(seconds);
        let server = fixture.server();
        let again = fixture.create("every 1h");
        eventually("its clock is believed by new tasks", || fixture.due_in(&again) > seconds);
        if seconds < 86_400 {
            // A long stop looks the same.
            eventually("and by old ones", || tasks.iter().all(|task| fixture.due_in(task) > seconds - 3_600));
        }
        server.end();
        fixture.clock.set(0);
        let server = fixture.server();
        for task in tasks.iter().chain([&again]) {
            eventually("its next time is near again", || (0..=3_600).contains(&fixture.due_in(task)));
        }
        assert!(fixture.site.log("server.log").contains("further away than its schedule gives"));
        server.end();
    }
}

#[test]
fn a_run_outlives_a_clock_that_is_months_ahead_for_a_moment() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.clock.set(0);
    let site = &fixture.site;
    let _server = fixture.server();
    site.enrol();
    let shop = "name = \"shop\"\n[condition]\npid_file = \"/nowhere\"\n[[task]]\nkind = \"work\"\ncommand = [\"true\"]\n";
    site.write("applications.d/shop.toml", shop);
    site.configure("");
    let agent = site.agent_process();
    eventually("the device has said what it offers", || site.shown()["host"]["hostname"].is_string());
    agent.end();
    let create = "task create --application shop --kind work --device kiosk --expires 48h";
    let create: Vec<_> = create.split(' ').collect();
    let made = site.ctl_json(&create);
    let task = made["id"].as_str().unwrap();
    let run = || site.ctl_json(&["task", "show", task])["runs"][0].clone();
    eventually("it waits for its device", || run()["state"] == "pending");
    let until = run()["until"].clone();
    fixture.clock.set(200 * 86_400);
    eventually("the step is noticed", || site.log("server.log").contains("the clock was set forward by"));
    // One that is made meanwhile is begun at once, and waits no longer than it should.
    let meanwhile = site.ctl_json(&create);
    let meanwhile = meanwhile["id"].as_str().unwrap();
    let second = || site.ctl_json(&["task", "show", meanwhile])["runs"][0].clone();
    eventually("it waits as well", || second()["state"] == "pending");
    assert_eq!((run()["state"].clone(), run()["until"].clone()), (Value::from("pending"), until.clone()));
    fixture.clock.set(0);
    eventually("it is right again", || site.log("server.log").contains("is right again"));
    let seconds = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    eventually("it expires in 48 hours", || seconds(&second()["until"]) - seconds(&until) < 3_600);
    let _agent = site.agent_process();
    eventually("both are executed", || run()["state"] == "succeeded" && second()["state"] == "succeeded");
}
