//! Artifacts, as musterctl adds, names and removes them.

use crate::kit::admin::AdminServer;
use crate::kit::run_device::offer;
use muster::wire::artifact::ArtifactUse;
use serde_json::{Value, json};

/// SHA-256 of `content`.
const HASH: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";

#[test]
fn a_file_is_added_with_the_signature_beside_it_and_named_by_its_hash() {
    let server = AdminServer::start();
    assert_eq!(server.json(&["artifact", "list"]), json!([]));
    let file = server.file("firmware.bin", "content");
    assert_eq!(server.done(&["artifact", "add", &file]), format!("{HASH}\n"));
    let listed = || server.json(&["artifact", "list"])[0].clone();
    assert_eq!((&listed()["hash"], &listed()["signature"]), (&json!(HASH), &Value::Null));
    server.file("firmware.bin.minisig", "beside it");
    server.done(&["artifact", "add", &file]);
    assert_eq!(listed()["signature"], "beside it");
    let elsewhere = server.file("elsewhere", "elsewhere");
    server.done(&["artifact", "add", &file, "--signature", &elsewhere]);
    assert_eq!((&listed()["signature"], &listed()["name"]), (&json!("elsewhere"), &json!("firmware.bin")));
    let table = server.done(&["artifact", "list"]);
    assert!(table.contains("firmware.bin") && table.contains("7B"), "{table}");
    assert!(server.done(&["artifact", "remove", HASH]).contains("is removed"));
    let said = server.refused(1, &["artifact", "remove", HASH]);
    assert!(said.contains("there is no artifact"), "{said}");
}

#[test]
fn what_can_not_be_added_is_said_before_anything_is_sent() {
    let server = AdminServer::start();
    let said = server.refused(2, &["artifact", "add", "/nowhere/x"]);
    assert!(said.contains("/nowhere/x: No such file"), "{said}");
    let (file, long) = (server.file("x", "content"), server.file("long", &"x".repeat(1_025)));
    let said = server.refused(2, &["artifact", "add", &file, "--signature", &long]);
    assert!(said.contains("is it a .minisig file?"), "{said}");
    let empty = server.file("empty", "");
    let said = server.refused(2, &["artifact", "add", &empty]);
    assert!(said.contains("it is empty"), "{said}");
}

#[test]
fn a_task_comes_with_a_file_or_with_an_artifact_that_is_there() {
    let server = AdminServer::start();
    server.declare(server.enrol("kiosk-17"), offer("kiosk", "flash", ArtifactUse::Any));
    let create = ["task", "create", "--application", "kiosk", "--kind", "flash", "--all"];
    let said = server.refused(2, &create);
    assert!(said.contains("'flash' needs an artifact, and none was named"), "{said}");
    let said = server.refused(1, &[&create[..], &["--artifact", HASH]].concat());
    assert!(said.contains("add it first"), "{said}");
    let said = server.refused(2, &[&create[..], &["--artifact", "nowhere.bin"]].concat());
    assert!(said.contains("nowhere.bin: No such file"), "{said}");
    let file = server.file("firmware.bin", "content");
    let by_file = server.json(&[&create[..], &["--artifact", &file]].concat());
    let by_hash = server.json(&[&create[..], &["--artifact", HASH]].concat());
    for task in [by_file, by_hash] {
        let id = task["id"].as_str().unwrap();
        assert_eq!(server.json(&["task", "show", id])["task"]["artifact"], HASH);
        assert!(server.done(&["task", "show", id]).contains(HASH));
    }
    assert_eq!(server.json(&["artifact", "list"])[0]["tasks"], 2);
    let said = server.refused(1, &["artifact", "remove", HASH]);
    assert!(said.contains("needs the artifact: cancel it first"), "{said}");
}

#[test]
fn what_came_and_what_went_has_a_row_in_the_audit() {
    let server = AdminServer::start();
    let file = server.file("firmware.bin", "content");
    server.done(&["artifact", "add", &file]);
    server.done(&["artifact", "remove", HASH]);
    server.refused(1, &["artifact", "remove", HASH]);
    let rows = server.json(&["audit", "list"]);
    assert_eq!(rows.as_array().unwrap().len(), 3, "{rows}");
    assert_eq!(rows[0]["action"], "POST /v1/artifacts");
    assert_eq!(rows[0]["after"], json!({ "hash": HASH, "bytes": 7, "name": "firmware.bin" }));
    assert_eq!((&rows[1]["before"]["name"], &rows[1]["outcome"]), (&json!("firmware.bin"), &json!("done")));
    assert!(rows[2]["outcome"].as_str().unwrap().starts_with("not_found: "), "{rows}");
}
