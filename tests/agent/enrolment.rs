//! Enrolment under conditions: tokens for certain names, approval, a record that another machine takes over,
//! a server that was restored from before an enrolment.

use std::process::Output;

use crate::kit::{Running, Site, error_of, eventually, musterd, succeed};
use serde_json::Value;

fn token(site: &Site, arguments: &[&str]) -> String {
    site.ctl_json(arguments)["token"].as_str().unwrap().to_owned()
}

/// Enrols the site's device under a name.
fn enroll_as(site: &Site, token: &str, name: &str) -> Output {
    let address = site.address.to_string();
    site.agent(&["enroll", "--server", &address, "--token", token, "--name", name])
}

fn waiting(site: &Site) -> Vec<Value> {
    site.ctl_json(&["device", "list", "--presence", "waiting"]).as_array().unwrap().clone()
}

/// Waits until the device is in sync with nobody's help.
fn wait_until_in_sync(site: &Site) {
    eventually("the device is in sync", || site.status()["last_sync"].is_u64());
    assert_eq!(site.status()["last_error"], Value::Null);
}

#[test]
fn a_token_for_certain_names_refuses_another_with_what_to_do() {
    let site = Site::new();
    let _server = site.server();
    let kiosks = token(&site, &["token", "create", "--uses", "5", "--name", "kiosk-*"]);
    let refused = enroll_as(&site, &kiosks, "desk-1");
    let error = error_of(&refused);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("is for devices called 'kiosk-*', not for 'desk-1'"), "{error}");
    assert!(error.contains("--name"), "{error}");
    assert!(enroll_as(&site, &kiosks, "kiosk-1").status.success());
    let other = Site::at(site.address);
    let only = token(&site, &["token", "create", "--uses", "5", "--name", "kiosk-1"]);
    let taken = error_of(&enroll_as(&other, &only, "kiosk-1"));
    assert!(taken.contains("another device is called 'kiosk-1' already"), "{taken}");
    assert!(taken.contains("'musterctl device re-enrol'"), "{taken}");
    assert!(enroll_as(&other, &kiosks, "kiosk-2").status.success());
    let listed = site.ctl_human(&["token", "list"]);
    assert!(listed.contains("kiosk-*") && listed.contains("of 5"), "{listed}");
    let bad = site.ctl(&["token", "create", "--name", " "]);
    assert_eq!(bad.status.code(), Some(2), "{}", error_of(&bad));
}

#[test]
fn a_device_waits_is_told_so_and_is_in_sync_once_it_is_approved() {
    let site = Site::new();
    let _server = site.server();
    site.configure("");
    let approval = token(&site, &["token", "create", "--approval", "--uses", "2", "--group", "/new"]);
    let enrolled = site.enroll(&approval);
    let said = String::from_utf8_lossy(&enrolled.stdout).into_owned();
    assert!(enrolled.status.success() && said.contains("waits for approval"), "{said}");
    let _agent = site.agent_process();
    eventually("the agent says that it waits", || site.status()["state"] == "waiting_for_approval");
    let id = site.status()["device"].as_str().unwrap().to_owned();
    let told = site.status()["last_error"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("'musterctl device approve {id}' lets it in")), "{told}");
    let table = String::from_utf8(site.agent(&["status"]).stdout).unwrap();
    assert!(table.contains("waiting for approval"), "{table}");
    let checked = site.agent(&["check"]);
    let lines = String::from_utf8(checked.stdout).unwrap();
    assert!(lines.contains("nothing is wrong here: this device waits for approval"), "{lines}");

    let listed = waiting(&site);
    assert_eq!((listed.len(), &listed[0]["name"], &listed[0]["group"]), (1, &"kiosk".into(), &"/new".into()));
    eventually("its status says so", || {
        let reasons = site.shown()["reasons"].to_string();
        reasons.contains("waiting for approval") && site.shown()["status"] == "warning"
    });
    let why = site.ctl_json(&["device", "why", "kiosk"]);
    assert!(why["text"].as_str().unwrap().contains("device approve kiosk' lets it in"), "{why}");
    assert!(site.ctl_human(&["status"]).contains("1 waiting for approval"));
    let called = site.ctl(&["device", "sync", "kiosk", "--wait"]);
    assert!(error_of(&called).contains("waits for approval: approve it first"), "{}", error_of(&called));
    assert_eq!(site.shown()["last_sync_at"], Value::Null);
    eventually("an event says so", || {
        site.events("muster", "presence").iter().any(|event| event["fields"]["to"] == "waiting")
    });

    let said = site.ctl_human(&["device", "approve", "kiosk", "--name", "kiosk-17"]);
    assert!(said.contains("device kiosk-17"), "{said}");
    site.sync();
    wait_until_in_sync(&site);
    assert!(waiting(&site).is_empty());
    let again = site.ctl(&["device", "approve", "kiosk-17"]);
    assert!(error_of(&again).contains("does not wait for approval"), "{}", error_of(&again));
    eventually("its status is well", || site.ctl_json(&["device", "show", "kiosk-17"])["status"] == "ok");

    // One that is not wanted.
    let other = Site::at(site.address);
    other.configure("");
    assert!(other.enroll(&approval).status.success());
    let _agent = other.agent_process();
    eventually("the other waits", || other.status()["state"] == "waiting_for_approval");
    site.ctl_json(&["device", "remove", "kiosk"]);
    assert!(waiting(&site).is_empty());
    let refused = other.refused(1, &["check"]);
    let checked = String::from_utf8(other.agent(&["check"]).stdout).unwrap();
    assert!(checked.contains("removed this device"), "{checked}{refused}");
}

/// A device with an agent that is connected, in a group, with settings of its own and an event.
fn with_history(site: &Site) -> Running {
    site.configure("");
    site.offer_work("exit 0\n", "", "{ type = \"object\" }", "");
    let agent = site.agent_process();
    site.ctl_json(&["device", "set", "kiosk", "--group", "/shops", "--keep-connected", "on"]);
    site.sync();
    assert!(site.emit("warning", "of the old machine").status.success());
    site.wait_until_confirmed();
    eventually("the link is kept", || site.status()["state"] == "connected");
    agent
}

#[test]
fn a_reimaged_machine_takes_its_record_over_and_the_old_one_is_refused_at_once() {
    let (site, _server) = Site::enrolled();
    let _old_agent = with_history(&site);
    let before = site.shown();
    let created = site.ctl_human(&["device", "re-enrol", "kiosk"]);
    assert!(created.contains("takes the record of kiosk over"), "{created}");
    let token = created.lines().next().unwrap().to_owned();
    assert!(site.ctl_human(&["token", "list"]).contains("the record of kiosk"));

    let new = Site::at(site.address);
    new.configure("");
    new.offer_work("exit 0\n", "", "{ type = \"object\" }", "");
    let enrolled = enroll_as(&new, &token, "localhost");
    let said = String::from_utf8_lossy(&enrolled.stdout).into_owned();
    assert!(
        enrolled.status.success() && said.contains("enrolled as 'kiosk'"),
        "{said}{}",
        error_of(&enrolled)
    );

    // The old one was connected at that moment, and nothing of it is heard any more.
    eventually("the old agent was cut off", || {
        site.status()["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("taken this device's record over"))
    });
    assert_ne!(site.status()["state"], "connected");
    let checked = String::from_utf8(site.agent(&["check"]).stdout).unwrap();
    assert!(checked.contains("another machine has taken this device's record over"), "{checked}");
    assert!(site.emit("warning", "too late").status.success());
    assert!(error_of(&site.agent(&["sync"])).contains("taken this device's record over"));

    let _new_agent = new.agent_process();
    wait_until_in_sync(&new);
    let after = site.shown();
    for same in ["id", "name", "group", "keep_connected", "enrolled_at"] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_ne!(after["agent_epoch"], before["agent_epoch"]);
    // Its spool is another one, whichever epoch was higher.
    assert!(new.emit("warning", "of the new machine").status.success());
    new.wait_until_confirmed();
    let messages: Vec<_> = site.events("shop", "test").iter().map(|event| event["message"].clone()).collect();
    assert_eq!(messages, ["of the old machine", "of the new machine"], "nothing of the old one since");
    assert_eq!(site.events("muster", "record_taken_over").len(), 1);
    let task = ["task", "create", "--application", "shop", "--kind", "work", "--device", "kiosk", "--wait"];
    assert!(site.ctl(&task).status.success(), "its tasks reach the new machine");
    let spent = error_of(&enroll_as(&Site::at(site.address), &token, "kiosk"));
    assert!(spent.contains("used up"), "{spent}");
}

#[test]
fn of_two_machines_with_one_take_over_token_one_is_the_device() {
    let (site, _server) = Site::enrolled();
    let token = token(&site, &["device", "re-enrol", "kiosk", "--ttl", "1h"]);
    let machines: Vec<_> = (0..2).map(|_| Site::at(site.address)).collect();
    let enrolled: Vec<bool> = std::thread::scope(|scope| {
        let token = &token;
        let tried: Vec<_> =
            machines.iter().map(|machine| scope.spawn(move || enroll_as(machine, token, "kiosk"))).collect();
        tried.into_iter().map(|tried| tried.join().unwrap().status.success()).collect()
    });
    assert_eq!(enrolled.iter().filter(|is_in| **is_in).count(), 1);
    assert_eq!(site.ctl_json(&["device", "list"]).as_array().unwrap().len(), 1);
    let winner = &machines[enrolled.iter().position(|is_in| *is_in).unwrap()];
    winner.configure("");
    let _agent = winner.agent_process();
    wait_until_in_sync(winner);
    let gone = site.ctl(&["device", "re-enrol", "nobody"]);
    assert_eq!(gone.status.code(), Some(1));
}

#[test]
fn a_server_restored_from_before_an_enrolment_is_offered_the_device_and_takes_it_back() {
    let site = Site::new();
    let server = site.server();
    let backup = site.text("backup.tar");
    succeed(&mut musterd(&["backup", &backup, "--data", &site.text("server")]));
    site.configure("");
    site.enrol();
    let _agent = site.agent_process();
    site.sync();
    assert!(site.emit("warning", "before").status.success());
    site.wait_until_confirmed();
    let id = site.status()["device"].as_str().unwrap().to_owned();
    server.kill();
    std::fs::rename(site.path("server"), site.path("lost")).unwrap();
    succeed(&mut musterd(&["restore", &backup, "--data", &site.text("server")]));

    let _server = site.server();
    eventually("the agent says that it waits", || {
        site.agent(&["sync"]);
        site.status()["state"] == "waiting_for_approval"
    });
    let told = site.status()["last_error"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("'musterctl device approve {id}' lets it in")), "{told}");
    eventually("the device is offered", || waiting(&site).len() == 1);
    assert_eq!(waiting(&site)[0]["id"], id.as_str());
    let why = site.ctl_json(&["device", "why", &id])["text"].to_string();
    assert!(why.contains("was not known here any more, as the server was restored"), "{why}");
    assert_eq!(site.events("muster", "not_enrolled_any_more").len(), 1);
    assert!(site.emit("warning", "meanwhile").status.success());

    site.ctl_json(&["device", "approve", &id, "--name", "kiosk", "--group", "/shops"]);
    eventually("the device is in sync, with nobody's help", || {
        site.shown()["last_sync_at"].is_string() && site.status()["last_error"].is_null()
    });
    assert_eq!((&site.shown()["id"], &site.shown()["group"]), (&id.as_str().into(), &"/shops".into()));
    eventually("its events are there", || {
        site.events("shop", "test").iter().any(|event| event["message"] == "meanwhile")
    });
}
