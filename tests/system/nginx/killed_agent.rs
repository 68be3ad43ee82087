//! The whole device: a real agent that gets its settings from a real server, and is killed while it puts them
//! in place.

use crate::kit::{Site, eventually};
use serde_json::Value;

use super::{Nginx, Signal, definition, kill_process_group, wait_once, waiting_group};

/// Enrols the device; its agent, once it is started, manages this nginx.
fn enrol(site: &Site, nginx: &Nginx) {
    site.enrol();
    let prefix = nginx.directory.path();
    site.write("applications.d/nginx.toml", definition(prefix, &wait_once(prefix)));
    site.configure("");
}

/// Has the device's nginx answer this.
fn order(site: &Site, answer: &str) {
    let settings = serde_json::json!({ "return": format!("200 \"{answer}\"") });
    let file = site.write("settings.json", settings.to_string());
    let whose = ["--device", "kiosk", "--application", "nginx"];
    site.ctl_json(&[&["settings", "set", "--file", &file, "--now"][..], &whose].concat());
}

/// The server's knowledge of the device's nginx: the settings that it should have, and the device's report.
fn known(site: &Site) -> Value {
    site.ctl_json(&["settings", "show", "--device", "kiosk"])[0].clone()
}

fn is_applied(known: &Value) -> bool {
    let (desired, reported) = (&known["desired_revision"], &known["reported"]);
    desired.is_u64() && reported["state"] == "applied" && reported["applied_revision"] == *desired
}

#[test]
fn what_a_killed_agent_was_putting_in_place_is_served_and_reported_after_its_next_start() {
    let Some(nginx) = Nginx::start() else { return };
    let site = Site::new();
    let _server = site.server();
    enrol(&site, &nginx);
    let agent = site.agent_process();
    eventually("the device has said what it offers", || site.shown()["host"]["hostname"].is_string());
    order(&site, "green");
    let group = waiting_group(nginx.directory.path());
    agent.kill();
    kill_process_group(group, Signal::KILL).unwrap();
    // The new file is in place, nginx was not told, and the server makes nothing up.
    assert_eq!(nginx.file(), "return 200 \"green\";\n");
    assert_eq!(nginx.served().as_deref(), Some("before"));
    assert!(!is_applied(&known(&site)), "{}", known(&site));

    let _agent = site.agent_process();
    nginx.until_served("green");
    eventually("the device reports what is in place", || {
        // One asked for by hand does not wait for its time.
        site.agent(&["sync"]);
        is_applied(&known(&site))
    });
    assert_eq!(nginx.file(), "return 200 \"green\";\n");

    // The next order finds nothing left of it.
    order(&site, "red");
    nginx.until_served("red");
}
