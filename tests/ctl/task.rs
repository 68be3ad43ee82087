//! Tasks and their runs, as musterctl makes and shows them.

use std::io::Write as _;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::kit::{
    admin::{AdminServer, Ran},
    now,
};
use muster::machine::command::RunsOutcome;
use muster::store::TaskTime;
use muster::wire::artifact::ArtifactUse;
use muster::wire::id::{DeviceId, RunId};
use muster::wire::settings::{Declaration, TaskKind};
use muster::wire::task::{RunOutput, RunStage, RunUpdate, RunUpdates};
use serde_json::{Value, json};

/// The device says that it cleans the kiosk, more or less deeply.
fn declare(server: &AdminServer, device: DeviceId) {
    let clean = TaskKind {
        kind: "clean".into(),
        schema: r#"{"properties": {"level": {"type": "integer"}}}"#.into(),
        timeout_seconds: 600,
        is_repeatable: true,
        artifact: ArtifactUse::None,
    };
    let declaration = Declaration {
        application: "kiosk".into(),
        takes_settings: false,
        settings_schema: String::new(),
        kinds: vec![clean],
    };
    server.declare(device, declaration);
}

/// A server with two devices.
struct Fixture {
    server: AdminServer,
}

impl Fixture {
    fn new() -> Self {
        let server = AdminServer::start();
        let devices = server.enrol_many(&["kiosk-1".into(), "kiosk-2".into()]);
        devices.iter().for_each(|device| declare(&server, *device));
        Self { server }
    }

    fn create(&self, more: &[&str]) -> Value {
        self.server.json(&create(more))
    }

    /// Makes a task whose runs are with their devices; its id.
    fn begun(&self, more: &[&str]) -> String {
        let id = self.create(more)["id"].as_str().unwrap().to_owned();
        self.work();
        id
    }

    /// Does what is due at the server.
    fn work(&self) {
        while self.server.store.tasks().step(TaskTime::certain(now())).unwrap().has_more {}
    }

    /// A device's update of a run of the list that `task show --json` has.
    fn say(&self, run: &Value, update: RunUpdate) {
        let id = |name: &str| u64::from_str_radix(run[name].as_str().unwrap(), 16).unwrap();
        let updates = RunUpdates { updates: vec![RunUpdate { run: RunId(id("id")), ..update }] };
        let (done, is_done) = mpsc::channel();
        let device = DeviceId(id("device_id"));
        self.server
            .store
            .tasks()
            .take_runs(device, updates, now(), move |outcome| done.send(outcome).unwrap());
        assert!(matches!(is_done.recv().unwrap(), RunsOutcome::Stored(_)));
        self.work();
    }

    fn runs(&self, task: &str) -> Vec<Value> {
        self.server.json(&["task", "show", task])["runs"].as_array().unwrap().clone()
    }
}

const CREATE: &[&str] = &["task", "create", "--application", "kiosk", "--kind", "clean"];

fn create<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [CREATE, more].concat()
}

fn update(serial: u32, stage: RunStage) -> RunUpdate {
    RunUpdate::new(RunId(0), serial, stage)
}

#[test]
fn a_task_is_made_listed_shown_and_cancelled() {
    let fixture = Fixture::new();
    let file = fixture.server.file("clean.json", "{\"level\": 3}");
    let at = "--name spring --window 22:00-05:00 --time-zone europe/berlin --schedule".split(' ');
    let at: Vec<_> = at.chain(["at 2126-11-24T03:00"]).collect();
    let head = [CREATE, &["--device", "kiosk-1", "kiosk-2", "--file", &file, "--retries", "2"]].concat();
    let said = fixture.server.done(&[&head, at.as_slice()].concat());
    let mut lines = said.lines();
    let first = lines.next().unwrap();
    assert!(
        first.ends_with(": 2 devices, all of which offer it; due 2126-11-24T03:00:00+01:00[Europe/Berlin]"),
        "{said}"
    );
    let id = first.strip_prefix("task ").unwrap().split(':').next().unwrap();
    assert!(lines.next().unwrap().ends_with(&format!("musterctl task show {id}")), "{said}");

    let listed = fixture.server.json(&["task", "list", "--state", "active", "--application", "kiosk"]);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&id.into(), &"spring".into()));
    assert_eq!(listed[0]["targets"], json!({"devices": ["kiosk-1", "kiosk-2"]}));
    assert_eq!((&listed[0]["runs"], &listed[0]["next_at"]), (&json!([]), &"2126-11-24T02:00:00.000Z".into()));
    assert_eq!(listed[0]["next_local"], "2126-11-24T03:00:00+01:00[Europe/Berlin]");
    assert_eq!(listed[0]["time_zone"], "Europe/Berlin");
    assert_eq!(fixture.server.json(&["task", "list", "--application", "shop"]), json!([]));
    assert_eq!(fixture.server.json(&["task", "list", "--state", "done"]), json!([]));
    let table = fixture.server.done(&["task", "list"]);
    assert!(
        table.contains("kiosk-1, kiosk-2") && table.contains("2126-11-24T03:00:00+01:00[Europe/Berlin]"),
        "{table}"
    );

    let shown = fixture.server.json(&["task", "show", id]);
    assert_eq!(shown["task"]["settings"], json!({"level": 3}));
    assert_eq!((&shown["task"]["retries"], &shown["task"]["expires_seconds"]), (&2.into(), &86_400.into()));
    assert_eq!((&shown["task"]["window"], &shown["runs"]), (&"22:00-05:00".into(), &json!([])));
    let text = fixture.server.done(&["task", "show", id]);
    for part in [
        "spring",
        "{\"level\":3}",
        "22:00-05:00",
        "Europe/Berlin",
        "2126-11-24T03:00:00+01:00[Europe/Berlin]",
        "a run waits for its device for 1d",
        "never",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let daily = fixture.create(&["--all", "--schedule", "cron 0 3 * * *"]);
    let of_the_server = jiff::tz::TimeZone::system();
    assert_eq!(daily["time_zone"], of_the_server.iana_name().unwrap_or("UTC"), "the server's, by name");
    let ending = format!("T03:00:00{}", &daily["due_local"].as_str().unwrap()[19..]);
    assert!(daily["due_local"].as_str().unwrap().ends_with(&ending), "{daily}");
    fixture.server.done(&["task", "cancel", daily["id"].as_str().unwrap()]);
    let said = fixture.server.done(&["task", "cancel", id]);
    assert_eq!(said, format!("task {id} is cancelled; it has no runs\n"));
    assert_eq!(fixture.server.json(&["task", "show", id])["task"]["state"], "cancelled");
    assert_eq!(
        fixture.server.json(&["task", "cancel", id])["state"],
        "cancelled",
        "once more changes nothing"
    );
}

#[test]
fn what_is_wrong_with_a_task_is_said_and_none_is_made() {
    let fixture = Fixture::new();
    let wrong = |code, part: &str, arguments: &[&str]| {
        let said = fixture.server.refused(code, arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    };
    wrong(2, "'daily' is not a schedule ('now', 'at'", &create(&["--all", "--schedule", "daily"]));
    wrong(2, "'22-5' is not a window", &create(&["--all", "--window", "22-5"]));
    wrong(2, "whole seconds, from 1m to 4w2d", &create(&["--all", "--expires", "31d"]));
    wrong(
        2,
        "'time_zone': 'Europe/Berln' is not a time zone (an IANA name, such as Europe/Berlin",
        &create(&["--all", "--time-zone", "Europe/Berln"]),
    );
    wrong(2, "required arguments were not provided", &create(&[]));
    wrong(2, "cannot be used with", &create(&["--all", "--group", "/"]));
    wrong(2, "due again and again", &create(&["--all", "--wait", "--schedule", "every 6h"]));
    let (list, level) =
        (fixture.server.file("list.json", "[1]"), fixture.server.file("level.json", "{\"level\": \"high\"}"));
    wrong(2, "list.json: settings are one JSON object", &create(&["--all", "--file", &list]));
    wrong(1, "there is no device 'nobody'", &create(&["--device", "kiosk-1", "nobody"]));
    wrong(1, "there is no group '/nowhere'", &create(&["--group", "/nowhere"]));
    let refused = |part: &str, arguments: &[&str]| {
        let ran = fixture.server.ctl(arguments);
        assert!(ran.code > 0 && ran.err.contains(part) && ran.err.lines().count() == 1, "{}", ran.err);
    };
    refused("'level': a string is not allowed, integer is", &create(&["--all", "--file", &level]));
    let unknown = ["task", "create", "--application", "kiosk", "--kind", "dance", "--all"];
    refused("offers no task 'dance' for 'kiosk'; tasks that are offered: kiosk clean", &unknown);
    assert_eq!(fixture.server.json(&["task", "list"]), json!([]));

    wrong(1, "there is no task", &["task", "show", "0000000000000001"]);
    wrong(1, "there is no task", &["task", "cancel", "0000000000000001"]);
    wrong(2, "'1' is not a task id", &["task", "show", "1"]);
    let id = fixture.begun(&["--all"]);
    wrong(1, "there is no device 'nobody'", &["task", "show", &id, "--device", "nobody"]);
    wrong(2, "one of scheduled, pending", &["task", "show", &id, "--state", "late"]);
}

#[test]
fn runs_are_shown_with_why_they_wait_and_what_they_wrote() {
    let fixture = Fixture::new();
    let id = fixture.begun(&["--all"]);
    let runs = fixture.runs(&id);
    assert_eq!((&runs[0]["device"], &runs[0]["state"]), (&"kiosk-1".into(), &"pending".into()));
    let text = fixture.server.done(&["device", "show", "kiosk-1"]);
    assert!(text.contains(&id) && text.contains("kiosk/clean") && text.contains("waits for its device"));

    fixture.say(&runs[0], update(1, RunStage::Accepted));
    let part = |is_tail, bytes: &str, omitted_bytes| {
        Some(RunOutput { is_tail, bytes: bytes.as_bytes().to_vec(), omitted_bytes })
    };
    fixture.say(&runs[0], RunUpdate { output: part(false, "one\ntwo\n", 0), ..update(2, RunStage::Running) });
    let ended = RunUpdate {
        exit_code: Some(3),
        message: "no water".into(),
        output: part(true, "\u{1b}[2Jend\n", 1_000),
        ..update(3, RunStage::Failed)
    };
    fixture.say(&runs[0], ended);
    fixture.say(&runs[1], RunUpdate { progress_percent: Some(40), ..update(1, RunStage::Running) });

    assert!(fixture.server.done(&["task", "list"]).contains("1 failed, 1 running"));
    let text = fixture.server.done(&["task", "show", &id]);
    let of = |device: &str| text.lines().find(|line| line.starts_with(device)).unwrap();
    assert!(of("kiosk-1").contains("failed with exit code 3: no water"), "{text}");
    assert!(of("kiosk-2").contains("running") && of("kiosk-2").contains("40 %"), "{text}");
    assert!(!text.contains("DUE (UTC)"), "it was due once: {text}");
    let text = fixture.server.done(&["task", "show", &id, "--state", "failed", "--output"]);
    assert!(!text.contains("kiosk-2 "), "{text}");
    let written = "wrote:\n  one\n  two\n  … 1000 bytes left out …\n  \\u{1b}[2Jend\n";
    assert!(text.contains("failed, exit code 3, ") && text.ends_with(written), "{text}");
    let text = fixture.server.done(&["task", "show", &id, "--device", "kiosk-2", "--output"]);
    assert!(text.ends_with("\nnone of these runs wrote anything\n"), "{text}");
    let shown = fixture.server.json(&["task", "show", &id, "--output"]);
    assert_eq!(shown["outputs"][0]["output"]["head"], "one\ntwo\n");
    assert_eq!((shown["runs"].as_array().unwrap().len(), &shown["runs"][0]["exit_code"]), (2, &3.into()));

    assert!(fixture.server.done(&["task", "cancel", &id]).contains("; 1 failed, 1 cancelled"));
    let text = fixture.server.done(&["device", "show", "kiosk-1"]);
    assert!(text.contains("failed with exit code 3: no water"), "the latest, when none is open: {text}");
}

/// `musterctl task create --wait`, with settings on its standard input, while `meanwhile` happens to the
/// task.
fn wait_for(fixture: &Fixture, more: &[&str], meanwhile: impl FnOnce(&str)) -> Ran {
    let create = create(&["--group", "/", "--wait", "--file", "-"]);
    let mut child = fixture
        .server
        .command(&[&create, more].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"level\": 1}").unwrap();
    let made = std::iter::repeat_with(|| {
        fixture.server.json(&["task", "list", "--state", "active"])[0]["id"].clone()
    });
    let paced = made.inspect(|_| std::thread::sleep(Duration::from_millis(20)));
    let id = paced.take(1_000).find_map(|id| id.as_str().map(str::to_owned)).unwrap();
    fixture.work();
    meanwhile(&id);
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn a_task_is_waited_for_and_its_end_is_the_exit_code() {
    let fixture = Fixture::new();
    let end = |second: RunStage| {
        let fixture = &fixture;
        move |id: &str| {
            let runs = fixture.runs(id);
            let output = RunOutput { is_tail: false, bytes: b"clean\nat last\n".to_vec(), omitted_bytes: 0 };
            fixture.say(&runs[0], RunUpdate { output: Some(output), ..update(1, RunStage::Succeeded) });
            fixture.say(&runs[1], update(1, second));
        }
    };
    let ran = wait_for(&fixture, &[], end(RunStage::Succeeded));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.lines().next().unwrap().ends_with(": 2 devices, all of which offer it; due now"));
    assert!(ran.out.contains("kiosk-2") && ran.out.ends_with(" is done: 2 succeeded\n"), "{}", ran.out);
    assert!(ran.out.contains(" wrote:\n  clean\n  at last\n"), "what the README promises: {}", ran.out);
    assert_eq!(ran.err.lines().last(), Some("2 succeeded"));
    let ran = wait_for(&fixture, &["--json"], end(RunStage::Failed));
    let shown: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &shown["runs"][1]["state"]), (1, &"failed".into()));
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(ran.err.starts_with("musterctl: 1 of 2 runs did not succeed; 'musterctl task show "));
    let ran = wait_for(&fixture, &[], |id| drop(fixture.server.done(&["task", "cancel", id])));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the task was cancelled (cancelled at "), "{}", ran.err);
}
