//! Policies, settings and the tree of groups, as musterctl sets and shows them.
#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

mod ctl_support;

use std::sync::mpsc;

use ctl_support::TestServer;
use muster::machine::command::{JobOutcome, SectionChange, SectionUpdate};
use muster::wire::datagram::WakeReason;
use muster::wire::digest::Digest;
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::section::{HostFacts, Section};
use muster::wire::settings::Declaration;

/// The device says that it takes settings for the till.
fn declare(server: &TestServer, device: DeviceId) {
    let declaration = Declaration {
        application: "till".into(),
        takes_settings: true,
        settings_schema: r#"{"properties": {"lines": {"type": "integer"}}}"#.into(),
        kinds: Vec::new(),
    };
    let update = SectionUpdate {
        device,
        section: Section::Host,
        agent_epoch: Epoch(3),
        revision: 1,
        digest: Digest(7),
        base: None,
        change: SectionChange::Host(HostFacts { declarations: vec![declaration], ..HostFacts::default() }),
    };
    let (done, is_done) = mpsc::channel();
    server.store.apply(update, move |outcome| done.send(outcome).unwrap());
    assert!(matches!(is_done.recv().unwrap(), JobOutcome::Stored { .. }));
}

/// A server with one device in /shops, and a directory with files of settings.
struct House {
    server: TestServer,
    device: DeviceId,
    files: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let server = TestServer::start();
        let device = server.enrol("till-17");
        declare(&server, device);
        let house = Self { server, device, files: tempfile::tempdir().unwrap() };
        house.done(&["device", "set", "till-17", "--group", "/shops"]);
        house.nudged();
        house
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let ran = self.server.ctl(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.out
    }

    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.server.ctl(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        ran.err.trim_end().strip_prefix("musterctl: ").unwrap().to_owned()
    }

    fn set(&self, file: &str, more: &[&str]) -> String {
        let head = ["policy", "set", "--group", "/shops", "--application", "till", "--file", file];
        self.done(&[&head, more].concat())
    }

    /// Who was to be told since this was asked last.
    fn nudged(&self) -> Vec<(DeviceId, Option<WakeReason>)> {
        std::mem::take(&mut *self.server.nudges.nudged.lock().unwrap())
    }
}

#[test]
fn a_policy_is_set_explained_listed_and_removed_and_its_devices_are_told() {
    let house = House::new();
    let file = house.file("till.json", "{\"currency\": \"EUR\", \"lines\": 40}");
    let said = house.set(&file, &["--lock", "currency"]);
    assert!(said.contains(": 1 device has other settings; those that are connected are asked now"), "{said}");
    assert_eq!(house.nudged(), [(house.device, None)]);
    let own = house.file("own.json", "{\"currency\": \"USD\", \"lines\": 60}");
    let set_own =
        ["settings", "set", "--device", "till-17", "--application", "till", "--file", &own, "--now"];
    assert!(house.done(&set_own).contains("; they are asked on their links, or woken"));
    assert_eq!(house.nudged(), [(house.device, Some(WakeReason::Sync))]);

    let explain = ["policy", "explain", "--device", "till-17", "--application", "till", "--json"];
    let keys = house.server.ctl(&explain).json();
    assert_eq!(keys[0]["key"], "currency");
    assert_eq!((&keys[0]["value"], &keys[0]["locked_by"]), (&"EUR".into(), &"/shops".into()));
    assert_eq!(keys[0]["refused"][0], serde_json::json!({"from": "till-17", "value": "USD"}));
    assert_eq!(keys[1]["overrode"][0], serde_json::json!({"from": "/shops", "value": 40}));
    let shown = house.server.ctl(&["settings", "show", "--device", "till-17", "--json"]).json();
    assert_eq!(shown[0]["settings"], serde_json::json!({"currency": "EUR", "lines": 60}));
    assert!(shown[0]["desired_revision"].as_u64() > Some(0) && shown[0]["reported"].is_null(), "{shown}");
    let text = house.done(&["settings", "show", "--device", "till-17", "--application", "till"]);
    assert!(text.contains("not given yet") && text.contains("what it should have:"), "{text}");

    let listed = house.server.ctl(&["policy", "list", "--json"]).json();
    assert_eq!(
        (listed[0]["group"].as_str(), listed[0]["locks"][0].as_str()),
        (Some("/shops"), Some("currency"))
    );
    let show = ["policy", "show", "--group", "/shops", "--application", "till"];
    assert!(house.done(&show).contains("\"lines\": 40"));
    house.done(&["policy", "remove", "--group", "/shops", "--application", "till"]);
    assert_eq!(house.refused(1, &show), "nothing is set for 'till' in /shops");
    house.done(&["settings", "remove", "--device", "till-17", "--application", "till"]);
    assert!(house.done(&explain[..6]).contains("nobody has set anything for 'till' on till-17"));
    assert_eq!(house.nudged().len(), 2);
}

#[test]
fn what_is_wrong_with_a_policy_is_said_in_a_line_and_nothing_is_changed() {
    let house = House::new();
    let file = |text: &str| house.file("bad.json", text);
    let set = |group: &str, application: &str, file: &str, lock: &str| {
        ["policy", "set", "--group", group, "--application", application, "--file", file, "--lock", lock]
            .map(str::to_owned)
    };
    let refused =
        |code, arguments: [String; 10]| house.refused(code, &arguments.each_ref().map(String::as_str));
    let good = house.file("good.json", "{\"lines\": 1}");
    let text = refused(2, set("/shops", "till", &file("{\"lines\": 1,\n oops}"), "lines"));
    assert!(text.contains("bad.json: line 2, column 2: "), "{text}");
    let text = refused(2, set("/shops", "till", &file("[1]"), "lines"));
    assert!(text.ends_with("bad.json: settings are one JSON object, such as {\"port\": 80}"), "{text}");
    assert_eq!(
        refused(2, set("/shops", "till", &good, "receipt.lines")),
        "--lock: 'receipt.lines' can't be locked: the settings have no such key"
    );
    let nowhere = house.files.path().join("nowhere.json").display().to_string();
    assert!(refused(2, set("/shops", "till", &nowhere, "lines")).contains("nowhere.json: No such file"));
    let text = refused(1, set("/shops", "shop", &good, "lines"));
    assert!(text.contains("no device takes settings for 'shop'; known are: muster, till"), "{text}");
    let text = refused(1, set("/nowhere", "till", &good, "lines"));
    assert!(text.contains("there is no group '/nowhere'"), "{text}");
    let text = refused(1, set("/shops", "till", &file("{\"lines\": \"many\"}"), "lines"));
    assert!(text.contains("'lines': a string is not allowed, integer is"), "{text}");
    let text = house.refused(1, &["policy", "explain", "--device", "nobody", "--application", "till"]);
    assert!(text.contains("there is no device 'nobody'"), "{text}");
    assert_eq!(house.server.ctl(&["policy", "list", "--json"]).json(), serde_json::json!([]));
    assert_eq!(house.nudged(), []);
}

#[test]
fn a_group_is_moved_and_removed_with_word_of_how_many_devices_change_settings() {
    let house = House::new();
    house.done(&["group", "create", "/germany"]);
    let file = house.file("till.json", "{\"lines\": 40}");
    house.done(&["policy", "set", "--group", "/germany", "--application", "till", "--file", &file]);
    let would = house.done(&["group", "move", "/shops", "/germany/shops", "--dry-run"]);
    assert_eq!(would, "1 device would have other settings\n");
    assert_eq!(house.nudged(), [], "it was only asked");
    let moved = house.done(&["group", "move", "/shops", "/germany/shops"]);
    let mut lines = moved.lines();
    assert_eq!(lines.next(), Some("1 device would have other settings"));
    let done = lines.next().unwrap();
    assert!(
        done.starts_with("/shops is /germany/shops now; revision ")
            && done.ends_with(": 1 device has other settings")
    );
    assert_eq!(house.nudged(), [(house.device, None)]);
    assert_eq!(house.server.ctl(&["device", "show", "till-17", "--json"]).json()["group"], "/germany/shops");

    let text = house.refused(1, &["group", "remove", "/germany"]);
    assert!(text.contains("/germany has 1 device and 1 group below it"), "{text}");
    let text = house.refused(1, &["group", "move", "/germany", "/germany/x"]);
    assert!(text.contains("/germany/x lies within /germany"), "{text}");
    let changed = house.server.ctl(&["group", "remove", "/germany", "--recursive", "--json"]).json();
    assert_eq!((&changed["devices"], changed["revision"].is_u64()), (&1.into(), true));
    assert_eq!(house.server.ctl(&["device", "show", "till-17", "--json"]).json()["group"], "/");
    let groups = house.server.ctl(&["group", "list", "--json"]).json();
    assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
}
