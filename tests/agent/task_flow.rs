//! Tasks as their user has them executed: musterctl, the real server, the real agent, real programs; and what
//! a kill of any of them does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::kit::{Running, Site, error_of, eventually, skipped};
use serde_json::Value;

/// Longest time of a device's answer on its link before it is sent a datagram as well.
const LINK_ANSWER: Duration = Duration::from_secs(2);

/// A server and a device whose agent offers the task `work` of the shop: a script, whose argument is the
/// directory of the test.
struct Fixture {
    site: Site,
}

impl Fixture {
    fn new(script: &str, task: &str) -> Self {
        let fixture = Self { site: Site::new() };
        let schema = "{ type = \"object\", properties = { times = { type = \"integer\", maximum = 1000 } }, \
                      required = [\"times\"] }";
        let arguments = format!("{:?}, \"{{times}}\"", fixture.site.directory.path());
        fixture.site.offer_work(script, &arguments, schema, task);
        std::fs::write(fixture.path("settings.json"), r#"{"times": 5}"#).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Starts both; the device has enrolled and has said what it offers.
    fn start(&self) -> (Running, Running) {
        let server = self.site.server();
        self.site.enrol();
        self.site.configure("");
        let agent = self.site.agent_process();
        eventually("the device has said what it offers", || {
            self.site.shown()["host"]["hostname"].is_string()
        });
        (server, agent)
    }

    fn try_create(&self, more: &[&str]) -> std::process::Output {
        let settings = self.path("settings.json").display().to_string();
        let head = ["task", "create", "--application", "shop", "--kind", "work", "--file", &settings];
        self.site.ctl(&[&head, more].concat())
    }

    fn create(&self, more: &[&str]) -> String {
        let made = self.try_create(&[&["--device", "kiosk"], more].concat());
        assert!(made.status.success(), "{}", error_of(&made));
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        assert_eq!(made["offered"], 1, "{made}");
        made["id"].as_str().unwrap().to_owned()
    }

    /// The task's last run.
    fn run(&self, task: &str) -> Value {
        let shown = self.site.ctl_json(&["task", "show", task]);
        shown["runs"].as_array().unwrap().last().cloned().unwrap_or_default()
    }

    fn wait_for(&self, task: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut run = Value::Null;
        eventually(what, || {
            run = self.run(task);
            is_it(&run)
        });
        run
    }

    fn wait_for_state(&self, task: &str, state: &str) -> Value {
        self.wait_for(task, &format!("the run is {state}"), |run| run["state"] == state)
    }

    fn times_begun(&self) -> usize {
        std::fs::read_to_string(self.path("begun")).unwrap_or_default().lines().count()
    }

    fn go_on(&self) {
        std::fs::write(self.path("go"), "").unwrap();
    }
}

/// Says that it began, and ends when it may.
const SLOW: &str = "echo x >> $1/begun\necho \"progress: 40 $2 times\"\nwhile [ ! -e $1/go ]; do sleep 0.05; done\necho the end";

#[test]
fn a_task_is_executed_with_progress_and_its_output_comes_back() {
    let fixture = Fixture::new(SLOW, "");
    let (_server, _agent) = fixture.start();
    let task = fixture.create(&["--name", "by hand"]);
    let run = fixture.wait_for(&task, "its progress is shown", |run| run["progress_percent"] == 40);
    assert_eq!((run["state"].as_str(), run["message"].as_str()), (Some("running"), Some("5 times")));
    assert!(run["until"].is_string(), "a run always has a time at which it ends by itself: {run}");
    fixture.go_on();
    let run = fixture.wait_for_state(&task, "succeeded");
    assert_eq!((run["exit_code"].as_i64(), run["attempt"].as_i64()), (Some(0), Some(1)));
    eventually("the task is done", || {
        fixture.site.ctl_json(&["task", "show", &task])["task"]["state"] == "done"
    });
    assert_eq!(fixture.times_begun(), 1);
    let refused = |more: &[&str]| error_of(&fixture.try_create(more));
    assert!(refused(&["--device", "tiller"]).contains("there is no device 'tiller'"));
    std::fs::write(fixture.path("settings.json"), r#"{"times": 1001}"#).unwrap();
    let error = refused(&["--device", "kiosk"]);
    assert!(error.contains("no device would do it: settings of 'work': 'times': "), "{error}");
}

#[test]
fn a_device_whose_link_stays_is_asked_on_it() {
    let fixture = Fixture::new(SLOW, "");
    let (_server, _agent) = fixture.start();
    fixture.site.ctl_json(&["device", "set", "kiosk", "--keep-connected", "on"]);
    let is_connected = || fixture.site.shown()["presence"] == "connected";
    eventually("its link stays", is_connected);
    let sent = || fixture.site.ctl_json(&["status"])["datagrams"]["sent"].as_u64().unwrap();
    fixture.go_on();
    let (mut rounds, mut without_datagram) = (0, 0);
    while without_datagram < 3 {
        let (before, began) = (sent(), Instant::now());
        let task = fixture.create(&[]);
        fixture.wait_for_state(&task, "succeeded");
        rounds += 1;
        let is_without = sent() == before;
        // One that answers late, as on a busy machine, is sent a datagram as well.
        assert!(is_without || began.elapsed() >= LINK_ANSWER, "a datagram, though the link was asked");
        without_datagram += usize::from(is_without);
        assert!(rounds < 30, "its link was never enough");
    }
    assert_eq!((fixture.times_begun(), is_connected()), (rounds, true));
}

#[test]
fn a_run_survives_a_killed_server_and_a_killed_agent_and_is_executed_once() {
    let fixture = Fixture::new(SLOW, "");
    let (server, agent) = fixture.start();
    let task = fixture.create(&[]);
    fixture.wait_for_state(&task, "running");
    server.kill();
    agent.kill();
    fixture.go_on();
    let _agent = fixture.site.agent_process();
    let _server = fixture.site.server();
    let run = fixture.wait_for_state(&task, "succeeded");
    assert_eq!(run["exit_code"], 0, "{run}");
    assert_eq!(fixture.times_begun(), 1);
}

#[test]
fn what_ends_while_the_server_is_away_is_told_when_it_is_back() {
    let fixture = Fixture::new(SLOW, "");
    let (server, agent) = fixture.start();
    let task = fixture.create(&[]);
    fixture.wait_for_state(&task, "running");
    server.kill();
    fixture.go_on();
    eventually("the device knows the end", || fixture.site.status()["runs"][0]["stage"] != "running");
    // It would tell the server as soon as that is back, perhaps before this asks.
    agent.pause();
    let _server = fixture.site.server();
    assert_eq!(fixture.run(&task)["state"], "running", "nothing is made up");
    agent.go_on();
    fixture.wait_for_state(&task, "succeeded");
    assert_eq!(fixture.times_begun(), 1);
}

#[test]
fn a_cancelled_run_is_final_at_once_and_its_program_ends() {
    let script = "echo $$ > $1/program\necho x >> $1/begun\nsleep 600 & wait";
    let fixture = Fixture::new(script, "");
    let (_server, _agent) = fixture.start();
    let task = fixture.create(&[]);
    fixture.wait_for_state(&task, "running");
    // The run is said to be running as soon as its supervisor is.
    eventually("the program has begun", || fixture.times_begun() == 1);
    let program = std::fs::read_to_string(fixture.path("program")).unwrap();
    let cancelled = fixture.site.ctl_json(&["task", "cancel", &task]);
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(fixture.run(&task)["state"], "cancelled");
    eventually("the program has ended", || !PathBuf::from(format!("/proc/{}", program.trim())).exists());
    let run =
        fixture.wait_for(&task, "the device's word is kept as late", |run| run["late"]["stage"].is_string());
    assert_eq!(
        (run["state"].as_str(), run["late"]["stage"].as_str()),
        (Some("cancelled"), Some("cancelled"))
    );
}

#[test]
fn what_fails_is_tried_again_and_what_can_not_be_done_now_comes_again() {
    let script = "echo x >> $1/begun\ncase $(wc -l < $1/begun) in\n1) echo again: 5; exit 75;;\n2) echo no luck; exit 3;;\nesac";
    let fixture = Fixture::new(script, "");
    let (_server, _agent) = fixture.start();
    let task = fixture.create(&["--retries", "1"]);
    fixture.wait_for(&task, "it is put off", |run| {
        run["state"] == "scheduled" && run["why"].as_str().unwrap().starts_with("waits for its time, ")
    });
    // The first retry waits from eight to thirty seconds.
    let mut runs = Vec::new();
    eventually("the second attempt succeeded", || {
        let shown = fixture.site.ctl_json(&["task", "show", &task]);
        runs.clone_from(shown["runs"].as_array().unwrap());
        runs.len() == 2 && runs[1]["state"] == "succeeded"
    });
    assert_eq!((runs[0]["state"].as_str(), runs[0]["exit_code"].as_i64()), (Some("failed"), Some(3)));
    assert_eq!(fixture.times_begun(), 3);
}

#[test]
fn a_file_that_a_task_comes_with_is_on_its_device_before_it_begins() {
    let script = "cmp $MUSTER_ARTIFACT $1/fw.bin && echo it is $MUSTER_ARTIFACT_NAME";
    let fixture = Fixture::new(script, "artifact = \"any\"");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(fixture.path("fw.bin"), content).unwrap();
    let (_server, _agent) = fixture.start();
    let refused = error_of(&fixture.try_create(&["--device", "kiosk"]));
    assert!(refused.contains("artifact"), "{refused}");
    let task = fixture.create(&["--artifact", &fixture.path("fw.bin").display().to_string()]);
    fixture.wait_for_state(&task, "succeeded");
    let shown = fixture.site.ctl_json(&["task", "show", &task, "--output"]);
    assert_eq!(shown["outputs"][0]["output"]["head"], "it is fw.bin\n", "{shown}");
    let left = || std::fs::read_dir(fixture.path("agent/artifacts")).unwrap().count();
    eventually("the device has it no longer", || left() == 0);
}

/// Whether the process whose number this file holds is there and has not ended.
fn is_alive(file: &std::path::Path) -> bool {
    let number = std::fs::read_to_string(file).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", number.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// In a session of its own, without a parent, with no ear for SIGTERM.
const ESCAPED: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ > $0.new; mv $0.new $0; while :; do sleep 1; done' $1/escaped &)\n\
                       while [ ! -e $1/escaped ]; do sleep 0.05; done\n";

#[test]
fn what_leaves_its_session_does_not_survive_the_timeout() {
    let fixture = Fixture::new(&format!("{ESCAPED}sleep 600"), "timeout_seconds = 3");
    let (_server, _agent) = fixture.start();
    let run = fixture.wait_for_state(&fixture.create(&[]), "timed_out");
    let message = run["message"].as_str().unwrap();
    let escaped = std::fs::read_to_string(fixture.path("escaped")).unwrap();
    assert!(message.starts_with("it took longer than 3 s and was ended; "), "{message}");
    assert!(
        message.contains("left over and ended: ") && message.contains(&format!("({})", escaped.trim())),
        "{message}"
    );
    assert!(!is_alive(&fixture.path("escaped")), "it goes on");
}

#[test]
fn a_daemon_that_a_task_started_goes_on_when_the_task_is_done() {
    let fixture = Fixture::new(ESCAPED, "");
    let (_server, _agent) = fixture.start();
    fixture.wait_for_state(&fixture.create(&[]), "succeeded");
    let escaped = fixture.path("escaped");
    assert!(is_alive(&escaped), "a daemon was ended");
    let number: i32 = std::fs::read_to_string(&escaped).unwrap().trim().parse().unwrap();
    let process = rustix::process::Pid::from_raw(number).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
}

/// Its supervisor is killed as well, so that only the control group still knows what the run started.
#[test]
fn what_leaves_its_session_does_not_survive_its_supervisor_where_there_are_control_groups() {
    let fixture = Fixture::new(&format!("{ESCAPED}sleep 600"), "");
    let (_server, _agent) = fixture.start();
    let task = fixture.create(&[]);
    eventually("it has begun", || fixture.path("escaped").exists());
    let mut runs = std::fs::read_dir(fixture.path("agent/runs")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.find(|path| path.is_dir()).unwrap();
    let group = std::fs::read(run.join("group")).unwrap();
    if !group.windows(11).any(|window| window == b"muster-run-") {
        // It would go on for ever.
        let number: i32 = std::fs::read_to_string(fixture.path("escaped")).unwrap().trim().parse().unwrap();
        let process = rustix::process::Pid::from_raw(number).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        return skipped("no control groups (cgroups(7), version 2) are to be had here");
    }
    let supervisor: i32 = std::fs::read_to_string(run.join("lock")).unwrap().trim().parse().unwrap();
    let supervisor = rustix::process::Pid::from_raw(supervisor).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    fixture.wait_for_state(&task, "failed");
    assert!(!is_alive(&fixture.path("escaped")), "it goes on");
}
