//! Changes of all devices that a filter lets through, and the question before them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::kit::admin::{AdminServer, Ran};
use serde_json::json;

fn names(server: &AdminServer, filter: &str) -> Vec<String> {
    let listed = server.json(&["device", "list", "--where", filter]);
    listed.as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap().into()).collect()
}

/// Runs a command in a terminal (script(1)), where somebody types an answer.
fn typed(server: &AdminServer, arguments: &[&str], answer: &str) -> Ran {
    let words: Vec<_> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("{} {}", env!("CARGO_BIN_EXE_musterctl"), words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--log-out", "/dev/null", "--command", &line]);
    script.env("MUSTER_SERVER", format!("unix:{}", server.socket().display()));
    let mut script =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    Ran::of(script.wait_with_output().unwrap())
}

#[test]
fn a_change_of_a_selection_says_how_many_there_are_and_asks() {
    let server = AdminServer::start();
    server.enrol_many(&["kiosk-1".into(), "kiosk-2".into(), "spare".into()]);
    server.enrol_waiting(&["kiosk-3".into(), "kiosk-4".into(), "kiosk-5".into()]);
    let task = ["task", "create", "--application", "a", "--kind", "k", "--where", "kiosk"];
    for (command, asked, done) in [
        (&["tag", "set", "shop", "--where", "kiosk"][..], "is given to 2 devices", "is given to 2 devices"),
        (&["device", "set", "--interval", "5m", "--where", "kiosk"], "2 devices are changed", "are changed"),
        (&["device", "sync", "--where", "kiosk"], "2 devices are called", "--wait shows"),
        (&task, "2 devices are given the task", "musterctl task show"),
        (&["device", "approve", "--where", "kiosk"], "3 devices are approved", "within about a minute"),
        (&["device", "remove", "--where", "kiosk-5"], "1 device is removed", "the events stay"),
    ] {
        let refused = typed(&server, command, "n\n");
        assert!(refused.out.contains(asked), "{command:?}: {}", refused.out);
        assert!(refused.out.contains("do that? [y/N]") && refused.out.contains("nothing was changed"));
        assert_eq!(refused.code, 1, "{}", refused.out);
        let answered = typed(&server, command, "y\n");
        assert!(answered.out.contains("do that?") && answered.out.contains(done), "{}", answered.out);
        assert_eq!(answered.code, 0, "{}", answered.out);
        let unasked = typed(&server, &[command, &["--yes"]].concat(), "");
        assert!(!unasked.out.contains("do that?") && unasked.code == 0, "{}", unasked.out);
    }
    let rows = server.json(&["audit", "list"]).as_array().unwrap().len();
    assert_eq!(rows, 12, "what was only asked has no row");
    assert_eq!(names(&server, ""), ["kiosk-1", "kiosk-2", "kiosk-3", "kiosk-4", "spare"]);
}

#[test]
fn devices_that_wait_are_approved_by_a_filter() {
    let server = AdminServer::start();
    server.enrol("kiosk-1");
    server.enrol_waiting(&["kiosk-2".into(), "kiosk-3".into(), "other".into()]);
    let said = server.done(&["device", "approve", "--where", "name:kiosk-*", "--group", "/shops"]);
    assert_eq!(said, "2 devices are approved: in sync within about a minute\n");
    assert_eq!(names(&server, "presence:waiting"), ["other"]);
    assert_eq!(names(&server, "group:/shops"), ["kiosk-2", "kiosk-3"], "of those that wait alone");
    assert_eq!(server.json(&["device", "approve", "--where", "kiosk"])["devices"], 0);
    assert!(server.refused(2, &["device", "approve", "--where", "x", "--name", "y"]).contains("--name"));
    assert!(server.refused(2, &["device", "approve", "x", "--where", "y"]).contains("--where"));
    let wrong = server.refused(2, &["device", "approve", "--where", "other", "--group", "a//b"]);
    assert!(wrong.contains("a//b"), "{wrong}");
    assert_eq!(names(&server, "presence:waiting"), ["other"], "all or none");
    let rows = server.json(&["audit", "list"]);
    assert_eq!(rows[0]["action"], "POST /v1/device-approvals");
    assert_eq!(rows[0]["after"], json!({ "where": "name:kiosk-*", "group": "/shops", "dry_run": false }));
}

#[test]
fn a_removal_of_many_says_how_far_it_went_when_it_breaks_off() {
    let server = AdminServer::start();
    server.enrol_many(&(0..1_100).map(|number| format!("device-{number}")).collect::<Vec<_>>());
    let store = rusqlite::Connection::open(server.directory.path().join("muster.db")).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE UPDATE OF removed_at ON devices WHEN NEW.name = 'device-600'
        BEGIN SELECT RAISE(ABORT, 'broken'); END";
    store.execute_batch(broken).unwrap();
    let said = server.refused(1, &["device", "remove", "--where", "device"]);
    assert!(said.contains("512 of 1100 devices are removed; then: "), "{said}");
    let left = names(&server, "");
    assert!(left.len() == 588 && left.contains(&"device-600".to_owned()), "{}", left.len());
    store.execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(server.json(&["device", "remove", "--where", "device"])["devices"], 588);
    assert_eq!(names(&server, ""), [""; 0]);
    let rows = server.json(&["audit", "list"]);
    let outcomes: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!((outcomes[0], outcomes[2], outcomes.len()), ("done", "done", 3), "begun, broken off, done");
    assert!(outcomes[1].starts_with("internal: 512 of 1100 devices are removed"), "{outcomes:?}");
}

#[test]
fn selections_are_tagged_named_counted_and_changed() {
    let server = AdminServer::start();
    server.enrol_many(&["kiosk-1".into(), "kiosk-2".into(), "spare".into()]);
    let names = |filter: &str| names(&server, filter);
    let given = server.ctl(&["tag", "set", "shop", "--where", "name:kiosk-*"]);
    assert_eq!(
        (given.code, given.out.as_str()),
        (0, "the tag shop is given to 2 devices\n"),
        "{}",
        given.err
    );
    assert_eq!(server.json(&["tag", "unset", "shop", "--device", "kiosk-2"])["devices"], 1);
    assert_eq!(names("tag:shop"), ["kiosk-1"]);
    assert_eq!(server.json(&["tag", "rule", "silent", "seen:>7d"])["devices"], 3);
    assert_eq!(server.json(&["device", "show", "kiosk-1"])["tags"], json!(["shop", "silent"]));
    server.json(&["view", "save", "busy", "tag:silent -tag:shop"]);
    assert_eq!(names("view:busy"), ["kiosk-2", "spare"]);
    let facets = server.json(&["device", "list", "--where", "view:busy", "--facets"]);
    assert_eq!((&facets["devices"], &facets["tag"][0]["devices"]), (&json!(2), &json!(2)));
    let table = server.ctl(&["device", "list", "--facets"]).out;
    assert!(table.lines().any(|line| line.split_whitespace().eq(["tag", "silent", "3"])), "{table}");
    let change = ["device", "set", "--where", "view:busy", "--group", "/lab", "--interval", "5m", "--yes"];
    assert_eq!(server.json(&change)["devices"], 2);
    assert_eq!(names("group:/lab"), ["kiosk-2", "spare"]);
    assert_eq!(server.json(&["device", "remove", "--where", "spare", "--yes"])["devices"], 1);
    assert_eq!(names(""), ["kiosk-1", "kiosk-2"]);
    let listed = server.json(&["tag", "list"]);
    assert_eq!(listed[1], json!({"name": "silent", "rule": "seen:>7d", "devices": 2}));
    assert!(server.ctl(&["tag", "rule", "silent", "--none"]).out.contains("has no rule any more"));
    assert_eq!(server.json(&["tag", "remove", "SHOP"])["devices"], 1);
    assert_eq!(server.json(&["view", "remove", "busy"])["where"], "tag:silent -tag:shop");
    assert!(server.refused(1, &["device", "list", "--where", "tag:shop"]).contains("there is no tag 'shop'"));
    assert!(server.refused(1, &["view", "remove", "busy"]).contains("there is no view 'busy'"));
    assert!(server.refused(2, &["tag", "set", "a b", "--device", "kiosk-1"]).contains("can be no name"));
}
