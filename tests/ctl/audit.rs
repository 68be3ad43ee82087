//! Changes and refusals leave rows behind that can be listed and verified.

use crate::kit::admin::AdminServer;
use crate::kit::run_device::offer;
use muster::fleet::access::Grant;
use muster::store::{LinkLife, NewUser};
use muster::wire::artifact::ArtifactUse;
use muster::wire::role::Role;
use muster::wire::settings::Declaration;
use muster::wire::time::WallTime;
use serde_json::{Value, json};

fn rows(server: &AdminServer) -> Vec<Value> {
    server.json(&["audit", "list"]).as_array().unwrap().clone()
}

#[test]
fn a_change_has_a_row_with_what_was_and_what_was_asked() {
    let server = AdminServer::start();
    server.enrol("kiosk-17");
    server.done(&["device", "list"]);
    server.done(&["device", "set", "kiosk-17", "--name", "kiosk-18"]);
    server.done(&["group", "create", "/berlin", "--interval", "5m"]);
    server.done(&["group", "create", "/berlin", "--interval", "6m"]);
    server.done(&["group", "move", "/berlin", "/potsdam", "--dry-run"]);
    let said = server.refused(1, &["device", "set", "nobody", "--name", "x"]);
    let rows = rows(&server);
    assert_eq!(rows.len(), 4, "what changes nothing has none: {rows:?}");
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    assert_eq!(rows[0]["actor"], uid);
    assert_eq!((&rows[0]["origin"], &rows[0]["outcome"]), (&json!("unix"), &json!("done")));
    assert_eq!(rows[0]["action"], "PATCH /v1/devices/{device}");
    assert_eq!(rows[0]["target"], "/v1/devices/kiosk-17");
    assert_eq!(
        (&rows[0]["before"]["name"], &rows[0]["after"]["name"]),
        (&json!("kiosk-17"), &json!("kiosk-18"))
    );
    assert_eq!(rows[1]["before"], Value::Null);
    assert_eq!(rows[2]["before"]["interval_seconds"], 300);
    assert_eq!(rows[2]["after"]["interval_seconds"], 360);
    let refused = rows[3]["outcome"].as_str().unwrap();
    assert!(refused.starts_with("not_found: ") && said.contains(&refused[11..]), "{refused} {said}");
    assert!(server.done(&["audit", "list", "--since", "1h"]).contains("PATCH /v1/devices/kiosk-17"));
    assert!(server.done(&["audit", "verify"]).contains("the audit is whole: 4 rows from number 1 on"));
}

#[test]
fn the_row_has_what_was_whatever_kind_of_thing_is_changed() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let waiting = server.enrol_waiting(&["newcomer".to_owned()])[0].to_string();
    let declaration = Declaration { takes_settings: true, ..offer("kiosk", "restart", ArtifactUse::None) };
    server.declare(device, declaration);
    server.done(&["group", "create", "/berlin", "--interval", "5m"]);
    let grant = Grant { role: Role::Reader, group: "/".to_owned() };
    let life = LinkLife { created_at: crate::kit::now(), expires_at: WallTime(crate::kit::now().0 + 60_000) };
    server.store.users().create(NewUser { name: "anna".to_owned(), grant }, life).unwrap();
    let token = server.json(&["token", "create"])["id"].as_str().unwrap().to_owned();
    let [first, second] =
        [1, 2].map(|lines| server.file(&format!("{lines}.json"), &format!("{{\"lines\": {lines}}}")));
    for file in [&first, &second] {
        let of = ["--application", "kiosk", "--file", file];
        server.done(&[&["policy", "set", "--group", "/"], &of[..]].concat());
        server.done(&[&["settings", "set", "--device", "kiosk-17"], &of[..]].concat());
    }
    let task = ["task", "create", "--application", "kiosk", "--kind", "restart", "--device", "kiosk-17"];
    let task = server.json(&task)["id"].as_str().unwrap().to_owned();

    let lines = "/settings/lines";
    let cases: [(&[&str], &str, Value); 10] = [
        (&["policy", "remove", "--group", "/", "--application", "kiosk"], lines, json!(2)),
        (&["settings", "remove", "--device", "kiosk-17", "--application", "kiosk"], lines, json!(2)),
        (&["token", "revoke", &token], "/id", json!(token)),
        (&["user", "set", "anna", "--role", "operator"], "/role", json!("reader")),
        (&["user", "remove", "anna"], "/role", json!("operator")),
        (&["task", "cancel", &task], "/application", json!("kiosk")),
        (&["device", "approve", &waiting], "/presence", json!("waiting")),
        (&["device", "re-enrol", "kiosk-17"], "/name", json!("kiosk-17")),
        (&["group", "move", "/berlin", "/potsdam"], "/interval_seconds", json!(300)),
        (&["group", "remove", "/potsdam"], "/interval_seconds", json!(300)),
    ];
    for (command, member, was) in &cases {
        server.done(command);
        let row = rows(&server).pop().unwrap();
        assert_eq!((row["before"].pointer(member), &row["outcome"]), (Some(was), &json!("done")), "{row}");
    }
    let set: Vec<_> =
        rows(&server).into_iter().filter(|row| row["after"]["settings"]["lines"] == 2).collect();
    assert_eq!(set.len(), 2, "{set:?}");
    assert!(set.iter().all(|row| row["before"].pointer(lines) == Some(&json!(1))), "{set:?}");
}

#[test]
fn what_is_changed_elsewhere_than_in_the_store_and_what_is_made_have_rows_without_secrets() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    server.script(device, Some(crate::kit::admin::SYNCED));
    server.done(&["device", "sync", "kiosk-17", "--wait"]);
    let token = server.json(&["token", "create"])["token"].as_str().unwrap().to_owned();
    let key = server.file("recovery-key.pem", "-----BEGIN PRIVATE KEY-----\n");
    server.refused(1, &["certificate", "prepare", "--recovery-key-file", &key]);
    let rows = rows(&server);
    let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["POST /v1/syncs", "POST /v1/tokens", "POST /v1/certificate"]);
    assert!(rows[2]["outcome"].as_str().unwrap().starts_with("conflict: "));
    let rows = format!("{rows:?}");
    assert!(!rows.contains(&token) && !rows.contains("PRIVATE KEY"), "{rows}");
}

#[test]
fn a_dry_run_that_is_forbidden_has_a_row_and_no_other_has() {
    let server = AdminServer::start();
    server.enrol("kiosk-17");
    let made = server.json(&["api-token", "create", "x", "--role", "reader"]);
    let token = made["token"].as_str().unwrap();
    let dry = ["policy", "set", "--application", "muster", "--dry-run", "--group"];
    let file = server.file("empty.json", "{}");
    let dry = |group: &'static str| [&dry[..], &[group, "--file", &file]].concat();
    let refused = server.command(&dry("/")).env("MUSTER_API_TOKEN", token).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    server.done(&dry("/"));
    server.refused(1, &dry("/nowhere"));
    let rows = rows(&server);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[1]["action"], "POST /v1/policies");
    assert_eq!((&rows[1]["after"]["dry_run"], &rows[1]["target"]), (&json!(true), &json!("/v1/policies")));
    let outcome = rows[1]["outcome"].as_str().unwrap();
    assert!(outcome.starts_with("forbidden: this needs the role policy-author"), "{outcome}");
    assert!(rows[1]["actor"].as_str().unwrap().starts_with("api token "), "{rows:?}");
}

#[test]
fn a_row_that_was_changed_is_found_and_refusals_have_a_bounded_number_of_rows() {
    let server = AdminServer::start();
    server.done(&["group", "create", "/berlin"]);
    let mut client = server.client();
    for _ in 0..150 {
        client.remove_device("nobody").unwrap_err();
    }
    let check = server.json(&["audit", "verify"]);
    assert_eq!((&check["rows"], &check["fault"]), (&json!(101), &Value::Null));
    assert_eq!(check["head_sha256"].as_str().unwrap().len(), 64);
    let other = rusqlite::Connection::open(server.directory.path().join("muster.db")).unwrap();
    other.execute("UPDATE audit SET actor = 'uid 7' WHERE number = 1", []).unwrap();
    let broken = server.ctl(&["audit", "verify", "--json"]);
    assert_eq!(broken.code, 1);
    assert!(broken.out.contains("row 1 is not as it was written") && broken.err.contains("broken"));
}
