//! Settings from a policy at the real server to a file on a real agent's device, and back as a report.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::kit::{Running, Site, eventually};
use serde_json::{Value, json};

/// Longest time of an order on a persistent link. The next sync by time is a quarter of an hour away.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Message of the kiosk's own test for settings without a currency.
const COMPLAINT: &str = "no currency: a kiosk must have one";

/// A device in the group /shops with a kiosk that takes settings, connected.
struct Fixture {
    site: Site,
    agent: Option<Running>,
    _server: Running,
}

impl Fixture {
    fn new() -> Self {
        let (site, server) = Site::enrolled();
        site.configure("");
        let check = format!("grep -q currency \"$1\" || {{ echo '{COMPLAINT}'; exit 1; }}\n");
        site.write("check", check);
        std::fs::write(site.path("apply"), format!("echo x >> {}\n", site.path("applied").display()))
            .unwrap();
        let at = |name: &str| site.path(name).display().to_string();
        let kiosk = format!(
            "name = \"kiosk\"\n[condition]\npid_file = \"/nowhere\"\n[settings]\nfile = \"{}\"\nformat = \"json\"\n\
             validate = [\"sh\", \"{}\", \"{{file}}\"]\napply = [\"sh\", \"{}\"]\n",
            at("kiosk.json"),
            at("check"),
            at("apply")
        );
        site.write("applications.d/kiosk.toml", kiosk);
        let agent = Some(site.agent_process());
        let fixture = Self { site, agent, _server: server };
        fixture.site.ctl_json(&["device", "set", "kiosk", "--group", "/shops", "--keep-connected", "on"]);
        fixture.site.sync();
        eventually("the link is kept", || fixture.site.status()["state"] == "connected");
        fixture
    }

    fn set_policy(&self, settings: &Value, more: &[&str]) {
        let file = self.site.write("policy.json", settings.to_string());
        let arguments = ["policy", "set", "--group", "/shops", "--application", "kiosk", "--file", &file];
        self.site.ctl_json(&[&arguments, more].concat());
    }

    /// Contents of the kiosk's file.
    fn file(&self) -> Value {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn path(&self) -> PathBuf {
        self.site.path("kiosk.json")
    }

    /// Number of times that the kiosk was told.
    fn told(&self) -> usize {
        std::fs::read_to_string(self.site.path("applied")).unwrap_or_default().lines().count()
    }

    /// Output of `musterctl settings show` for the kiosk.
    fn shown(&self) -> Value {
        let all = self.site.ctl_json(&["settings", "show", "--device", "kiosk"]);
        let found = all.as_array().unwrap().iter().find(|one| one["application"] == "kiosk");
        found.cloned().unwrap_or_default()
    }

    /// Waits until what the device says of the newest revision is this state; returns all that is shown.
    fn wait_for(&self, state: &str) -> Value {
        let mut shown = Value::Null;
        eventually(&format!("the settings are {state} ({})", self.site.log("agent.log")), || {
            shown = self.shown();
            let reported = &shown["reported"];
            reported["state"] == state && reported["revision"] == shown["desired_revision"]
        });
        shown
    }

    /// Messages of this kind that the kiosk's events brought to the server.
    fn events(&self, kind: &str) -> Vec<String> {
        let events = self.site.events("kiosk", kind).into_iter();
        events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_policy_is_a_file_on_the_device_within_seconds() {
    let mut fixture = Fixture::new();
    let own =
        fixture.site.write("own.json", json!({ "currency": "USD", "receipt": { "lines": 60 } }).to_string());
    fixture.site.ctl_json(&[
        "settings",
        "set",
        "--device",
        "kiosk",
        "--application",
        "kiosk",
        "--file",
        &own,
    ]);
    let begun = Instant::now();
    let policy = json!({ "currency": "EUR", "receipt": { "paper": true, "lines": 40 } });
    fixture.set_policy(&policy, &["--lock", "currency"]);
    // The group's with the device's own above them, but for what is locked.
    let effective = json!({ "currency": "EUR", "receipt": { "paper": true, "lines": 60 } });
    eventually("the kiosk has them", || fixture.file() == effective);
    let shown = fixture.wait_for("applied");
    assert!(begun.elapsed() < ORDER_TIMEOUT, "{:?}", begun.elapsed());
    assert_eq!(shown["settings"], effective);
    assert_eq!(shown["reported"]["applied_revision"], shown["desired_revision"]);
    assert!(fixture.told() >= 1);

    // Settings that are made while it is away it has as soon as it is back.
    fixture.agent.take().unwrap().kill();
    fixture.set_policy(&json!({ "currency": "CHF" }), &[]);
    fixture.agent = Some(fixture.site.agent_process());
    let effective = json!({ "currency": "USD", "receipt": { "lines": 60 } });
    eventually("the lock is gone, and the device's own count", || fixture.file() == effective);
    fixture.wait_for("applied");
}

#[test]
fn a_file_that_somebody_changes_is_put_right_and_told_of() {
    let fixture = Fixture::new();
    let policy = json!({ "currency": "EUR" });
    fixture.set_policy(&policy, &[]);
    fixture.wait_for("applied");
    let told = fixture.told();
    std::fs::write(fixture.path(), "{\"currency\": \"XXX\"}").unwrap();
    fixture.site.sync();
    eventually("the file is put right, and the kiosk is told", || {
        fixture.file() == policy && fixture.told() == told + 1
    });
    eventually("the server has heard of it", || !fixture.events("settings_drift").is_empty());
    fixture.wait_for("applied");
    assert_eq!(
        fixture.events("settings_drift"),
        ["the settings file was changed by somebody else; it is put right"]
    );
    // When the policy only wants to hear of it, it is left alone.
    fixture.set_policy(&policy, &["--drift", "report"]);
    fixture.wait_for("applied");
    std::fs::remove_file(fixture.path()).unwrap();
    fixture.site.sync();
    let shown = fixture.wait_for("drifted");
    assert_eq!(shown["reported"]["detail"], "the settings file was removed by somebody else");
    assert!(!fixture.path().exists());
}

#[test]
fn what_the_applications_own_test_refuses_changes_nothing_and_says_why() {
    let fixture = Fixture::new();
    let good = json!({ "currency": "EUR" });
    fixture.set_policy(&good, &[]);
    let applied = fixture.wait_for("applied")["reported"]["applied_revision"].clone();
    let told = fixture.told();
    fixture.set_policy(&json!({ "receipt": { "lines": 1 } }), &[]);
    let shown = fixture.wait_for("failed");
    let detail = shown["reported"]["detail"].as_str().unwrap();
    assert!(detail.contains(COMPLAINT), "{detail}");
    assert_eq!(shown["reported"]["applied_revision"], applied, "what is in place is said as well");
    assert_ne!(shown["desired_revision"], applied);
    assert_eq!((fixture.file(), fixture.told()), (good.clone(), told));
    eventually("an event says so", || fixture.events("settings_failed").len() == 1);
    let log = fixture.site.log("agent.log");
    let said = log.lines().find(|line| line.contains(COMPLAINT));
    assert!(said.is_some_and(|line| line.contains(" ERROR ")), "{log}");
    fixture.set_policy(&json!({ "currency": "CHF" }), &[]);
    fixture.wait_for("applied");
    assert_eq!(fixture.file()["currency"], "CHF");
}
