//! Statistics, conditions and the status of devices, as musterctl shows them.

use std::sync::mpsc;

use crate::kit::{
    admin::{AdminServer, ctl},
    now,
};
use muster::fleet::status::{Cause, Reason};
use muster::machine::command::{SectionChange, StatisticsOutcome};
use muster::store::Verdict;
use muster::wire::digest::Digest;
use muster::wire::id::DeviceId;
use muster::wire::section::{ApplicationCondition, Condition, Section, digest_of};
use muster::wire::settings::{SettingsReport, SettingsState};
use muster::wire::statistics::{Number, Statistic, Statistics};
use muster::wire::status::Status;
use muster::wire::time::WallTime;

const QUARTER: u64 = 15 * 60_000;

fn report(server: &AdminServer, device: DeviceId, at: WallTime, entries: Vec<Statistic>) {
    let (done, is_done) = mpsc::channel();
    server
        .store
        .inventory()
        .take_statistics(device, Statistics { entries }, at, move |outcome| done.send(outcome).unwrap());
    assert_eq!(is_done.recv().unwrap(), StatisticsOutcome::Stored);
}

fn statistic(name: &str, unit: &str, value: f64) -> Statistic {
    Statistic { application: "nginx".into(), name: name.into(), unit: unit.into(), value: Number(value) }
}

fn judge(server: &AdminServer, verdicts: Vec<Verdict>) {
    let (done, is_done) = mpsc::channel();
    server.store.devices().set_statuses(verdicts, now(), move |result| done.send(result).unwrap());
    is_done.recv().unwrap().unwrap();
}

fn disk(level: Status, free_percent: f64) -> Reason {
    Reason { level, cause: Cause::Disk { free_percent } }
}

fn failed(application: &str, hours: u64) -> Reason {
    let since = WallTime(now().0 - hours * 3_600_000 - 60_000);
    let (application, condition, detail) = (application.into(), Condition::Failed, "exit code 1".into());
    Reason { level: Status::Critical, cause: Cause::Application { application, condition, since, detail } }
}

#[test]
fn statistics_are_plotted_and_listed_with_their_points() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let begin = WallTime(now().0 - 40 * QUARTER);
    for step in 0..=40_u64 {
        let value = (step % 8) as f64;
        let entries = vec![
            statistic("connections", "", value),
            statistic("memory", "bytes", 1_288_490_188.0),
            statistic("rate", "requests/s", 12.5),
        ];
        report(&server, device, WallTime(begin.0 + step * QUARTER), entries);
    }
    let shown = server.json(&["device", "show", "kiosk-17"]);
    let statistics = shown["statistics"].as_array().unwrap();
    let names: Vec<_> = statistics.iter().map(|series| series["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["connections", "memory", "rate"]);
    assert_eq!((&statistics[0]["value"], &statistics[0]["unit"]), (&0.0.into(), &"".into()));
    let points = statistics[0]["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0][1], &points[7][1]), (41, &0.0.into(), &7.0.into()));
    assert!(points[0][0].as_str().unwrap() < points[1][0].as_str().unwrap(), "the oldest first");
    let text = server.ctl(&["device", "show", "kiosk-17"]).out;
    assert!(text.contains("statistics of nginx, reported "), "{text}");
    let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
    assert!(line("memory").contains("1.1 GiB") && line("memory").contains("▅▅▅"), "{text}");
    assert!(line("memory").ends_with("1.1 GiB to 1.1 GiB"), "{text}");
    assert!(line("rate").contains("12.5 requests/s"), "{text}");
    let connections = line("connections");
    assert!(connections.contains('▁') && connections.contains('█') && connections.contains(" to "), "{text}");
}

#[test]
fn conditions_are_shown_with_their_settings() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let conditions = vec![
        ApplicationCondition {
            application: "cups".into(),
            condition: Condition::Failed,
            since: now(),
            version: "2.4".into(),
            detail: "exit code 3".into(),
            settings: None,
        },
        ApplicationCondition {
            application: "nginx".into(),
            condition: Condition::Running,
            since: now(),
            version: "1.22".into(),
            detail: String::new(),
            settings: Some(SettingsReport {
                revision: 6,
                digest: Digest(1),
                state: SettingsState::Failed,
                applied_revision: 5,
                since: now(),
                detail: "unknown directive".into(),
            }),
        },
    ];
    let digest = digest_of(&conditions);
    server.apply(device, Section::Conditions, digest, SectionChange::Conditions(conditions));
    let text = server.ctl(&["device", "show", "kiosk-17"]).out;
    for part in
        ["SETTINGS", "failed, revision 6 (revision 5 in place)", "settings: unknown directive", "exit code 3"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let shown = server.json(&["device", "show", "kiosk-17"]);
    assert_eq!(shown["conditions"][0]["settings"], serde_json::Value::Null);
    let settings = &shown["conditions"][1]["settings"];
    assert_eq!((&settings["state"], &settings["applied_revision"]), (&"failed".into(), &5.into()));
}

#[test]
fn devices_are_listed_by_status_with_why() {
    let server = AdminServer::start();
    let names: Vec<String> = (0..30).map(|number| format!("kiosk-{number:02}")).collect();
    let devices = server.enrol_many(&names);
    let bad = |device, status, reasons| Verdict { device, status, reasons };
    judge(
        &server,
        vec![
            bad(devices[3], Status::Warning, vec![disk(Status::Warning, 9.0)]),
            bad(
                devices[7],
                Status::Critical,
                vec![failed("nginx", 3), disk(Status::Critical, 4.0), disk(Status::Warning, 9.0)],
            ),
        ],
    );
    let listed = server.json(&["device", "list", "--status", "critical"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["name"], &listed[0]["status"]), (&"kiosk-07".into(), &"critical".into()));
    assert_eq!(listed[0]["reasons"][1], serde_json::json!({"level": "critical", "text": "disk: 4 % free"}));
    let text = server.ctl(&["device", "list", "--status", "critical"]).out;
    assert!(
        text.contains("critical") && text.contains("nginx failed 3 h ago: exit code 1 (+2 more)"),
        "{text}"
    );
    let listed = server.json(&["device", "list", "--status", "ok"]);
    assert_eq!(listed.as_array().unwrap().len(), 28);
    assert_eq!(
        (&listed[0]["reasons"], &listed[0]["status_since"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );
    let none = server.json(&["device", "list", "--status", "warning", "--presence", "lost"]);
    assert_eq!(none, serde_json::json!([]));

    let text = server.ctl(&["device", "show", "kiosk-07"]).out;
    for part in [
        "critical since ",
        "critical: nginx failed 3 h ago",
        "critical: disk: 4 % free",
        "warning: disk: 9 % free",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let status = server.json(&["status"]);
    let counts = [&status["devices"]["ok"], &status["devices"]["warning"], &status["devices"]["critical"]];
    assert_eq!(counts, [&serde_json::json!(28), &serde_json::json!(1), &serde_json::json!(1)]);
    assert!(server.ctl(&["status"]).out.contains("28 ok, 1 warning, 1 critical"));
    let wrong = ctl("unix:/nowhere", &["device", "list", "--status", "bad"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("ok, warning, critical are"), "{}", wrong.err);
}
