//! Policies, settings and the tree of groups, as musterctl sets and shows them.

use crate::kit::admin::AdminServer;
use muster::wire::datagram::WakeReason;
use muster::wire::id::DeviceId;
use muster::wire::settings::Declaration;

/// The device says that it takes settings for the kiosk.
fn declare(server: &AdminServer, device: DeviceId) {
    let declaration = Declaration {
        application: "kiosk".into(),
        takes_settings: true,
        settings_schema: r#"{"properties": {"lines": {"type": "integer"}}}"#.into(),
        kinds: Vec::new(),
    };
    server.declare(device, declaration);
}

/// A server with one device in /shops.
struct Fixture {
    server: AdminServer,
    device: DeviceId,
}

impl Fixture {
    fn new() -> Self {
        let server = AdminServer::start();
        let device = server.enrol("kiosk-17");
        declare(&server, device);
        let fixture = Self { server, device };
        fixture.server.done(&["device", "set", "kiosk-17", "--group", "/shops"]);
        fixture.notified();
        fixture
    }

    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let said = self.server.refused(code, arguments);
        assert_eq!(said.lines().count(), 1, "{said}");
        said.trim_end().strip_prefix("musterctl: ").unwrap().to_owned()
    }

    fn set(&self, file: &str, more: &[&str]) -> String {
        let head = ["policy", "set", "--group", "/shops", "--application", "kiosk", "--file", file];
        self.server.done(&[&head, more].concat())
    }

    /// Devices that were notified since this was asked last.
    fn notified(&self) -> Vec<(DeviceId, Option<WakeReason>)> {
        std::mem::take(&mut *self.server.notifications.notified.lock().unwrap())
    }
}

#[test]
fn a_policy_is_set_explained_listed_and_removed_and_its_devices_are_told() {
    let fixture = Fixture::new();
    let file = fixture.server.file("kiosk.json", "{\"currency\": \"EUR\", \"lines\": 40}");
    let said = fixture.set(&file, &["--lock", "currency"]);
    assert!(said.contains(": 1 device has other settings; those that are connected are asked now"), "{said}");
    assert_eq!(fixture.notified(), [(fixture.device, None)]);
    let own = fixture.server.file("own.json", "{\"currency\": \"USD\", \"lines\": 60}");
    let set_own =
        ["settings", "set", "--device", "kiosk-17", "--application", "kiosk", "--file", &own, "--now"];
    assert!(fixture.server.done(&set_own).contains("; they are asked on their links, or woken"));
    assert_eq!(fixture.notified(), [(fixture.device, Some(WakeReason::Sync))]);

    let tried = ["settings", "set", "--device", "kiosk-17", "--application", "kiosk", "--file", &file];
    let tried = fixture.server.done(&[&tried[..], &["--dry-run"]].concat());
    assert_eq!(tried, "1 device would have other settings\n  kiosk-17\n    lines: 60 -> 40\n");
    assert!(fixture.notified().is_empty());
    let explain = ["policy", "explain", "--device", "kiosk-17", "--application", "kiosk", "--json"];
    let keys = fixture.server.ctl(&explain).json();
    assert_eq!(keys[0]["key"], "currency");
    assert_eq!((&keys[0]["value"], &keys[0]["locked_by"]), (&"EUR".into(), &"/shops".into()));
    assert_eq!(keys[0]["refused"][0], serde_json::json!({"from": "kiosk-17", "value": "USD"}));
    assert_eq!(keys[1]["overrode"][0], serde_json::json!({"from": "/shops", "value": 40}));
    let shown = fixture.server.json(&["settings", "show", "--device", "kiosk-17"]);
    assert_eq!(shown[0]["settings"], serde_json::json!({"currency": "EUR", "lines": 60}));
    assert!(shown[0]["desired_revision"].as_u64() > Some(0) && shown[0]["reported"].is_null(), "{shown}");
    let text = fixture.server.done(&["settings", "show", "--device", "kiosk-17", "--application", "kiosk"]);
    assert!(text.contains("not given yet") && text.contains("what it should have:"), "{text}");

    let listed = fixture.server.json(&["policy", "list"]);
    assert_eq!(
        (listed[0]["group"].as_str(), listed[0]["locks"][0].as_str()),
        (Some("/shops"), Some("currency"))
    );
    let show = ["policy", "show", "--group", "/shops", "--application", "kiosk"];
    assert!(fixture.server.done(&show).contains("\"lines\": 40"));
    fixture.server.done(&["policy", "remove", "--group", "/shops", "--application", "kiosk"]);
    assert_eq!(fixture.refused(1, &show), "nothing is set for 'kiosk' in /shops");
    fixture.server.done(&["settings", "remove", "--device", "kiosk-17", "--application", "kiosk"]);
    assert!(fixture.server.done(&explain[..6]).contains("nobody has set anything for 'kiosk' on kiosk-17"));
    assert_eq!(fixture.notified().len(), 2);
}

#[test]
fn what_is_wrong_with_a_policy_is_said_in_a_line_and_nothing_is_changed() {
    let fixture = Fixture::new();
    let file = |text: &str| fixture.server.file("bad.json", text);
    let set = |group: &str, application: &str, file: &str, lock: &str| {
        ["policy", "set", "--group", group, "--application", application, "--file", file, "--lock", lock]
            .map(str::to_owned)
    };
    let refused =
        |code, arguments: [String; 10]| fixture.refused(code, &arguments.each_ref().map(String::as_str));
    let good = fixture.server.file("good.json", "{\"lines\": 1}");
    let text = refused(2, set("/shops", "kiosk", &file("{\"lines\": 1,\n oops}"), "lines"));
    assert!(text.contains("bad.json: line 2, column 2: "), "{text}");
    let text = refused(2, set("/shops", "kiosk", &file("[1]"), "lines"));
    assert!(text.ends_with("bad.json: settings are one JSON object, such as {\"port\": 80}"), "{text}");
    assert_eq!(
        refused(2, set("/shops", "kiosk", &good, "receipt.lines")),
        "--lock: 'receipt.lines' can't be locked: the settings have no such key"
    );
    let nowhere = fixture.server.directory.path().join("nowhere.json").display().to_string();
    assert!(refused(2, set("/shops", "kiosk", &nowhere, "lines")).contains("nowhere.json: No such file"));
    let text = refused(1, set("/shops", "shop", &good, "lines"));
    assert!(text.contains("no device takes settings for 'shop'; known are: kiosk, muster"), "{text}");
    let text = refused(1, set("/nowhere", "kiosk", &good, "lines"));
    assert!(text.contains("there is no group '/nowhere'"), "{text}");
    let text = refused(1, set("/shops", "kiosk", &file("{\"lines\": \"many\"}"), "lines"));
    assert!(text.contains("'lines': a string is not allowed, integer is"), "{text}");
    let text = fixture.refused(1, &["policy", "explain", "--device", "nobody", "--application", "kiosk"]);
    assert!(text.contains("there is no device 'nobody'"), "{text}");
    assert_eq!(fixture.server.json(&["policy", "list"]), serde_json::json!([]));
    assert_eq!(fixture.notified(), []);
}

#[test]
fn a_group_is_moved_and_removed_with_word_of_how_many_devices_change_settings() {
    let fixture = Fixture::new();
    fixture.server.done(&["group", "create", "/germany"]);
    let file = fixture.server.file("kiosk.json", "{\"lines\": 40}");
    fixture.server.done(&["policy", "set", "--group", "/germany", "--application", "kiosk", "--file", &file]);
    let would = fixture.server.done(&["group", "move", "/shops", "/germany/shops", "--dry-run"]);
    assert_eq!(would, "1 device would have other settings\n");
    assert_eq!(fixture.notified(), [], "it was only asked");
    let moved = fixture.server.done(&["group", "move", "/shops", "/germany/shops"]);
    let mut lines = moved.lines();
    assert_eq!(lines.next(), Some("1 device would have other settings"));
    let done = lines.next().unwrap();
    assert!(
        done.starts_with("/shops is /germany/shops now; revision ")
            && done.ends_with(": 1 device has other settings")
    );
    assert_eq!(fixture.notified(), [(fixture.device, None)]);
    assert_eq!(fixture.server.json(&["device", "show", "kiosk-17"])["group"], "/germany/shops");

    let text = fixture.refused(1, &["group", "remove", "/germany"]);
    assert!(text.contains("/germany has 1 device and 1 group below it"), "{text}");
    let text = fixture.refused(1, &["group", "move", "/germany", "/germany/x"]);
    assert!(text.contains("/germany/x lies within /germany"), "{text}");
    let changed = fixture.server.json(&["group", "remove", "/germany", "--recursive"]);
    assert_eq!((&changed["devices"], changed["revision"].is_u64()), (&1.into(), true));
    assert_eq!(fixture.server.json(&["device", "show", "kiosk-17"])["group"], "/");
    let groups = fixture.server.json(&["group", "list"]);
    assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
}

#[test]
fn a_policy_goes_back_to_what_it_was() {
    let fixture = Fixture::new();
    let of = ["--group", "/shops", "--application", "kiosk"];
    let ctl =
        |command: &str, more: &[&str]| fixture.server.done(&[&["policy", command], &of[..], more].concat());
    assert_eq!(ctl("history", &["--json"]).trim(), "[]");
    let first = fixture.server.file("first.json", r#"{"currency": "EUR", "lines": 40}"#);
    fixture.set(&first, &["--lock", "currency", "--drift", "report"]);
    let second = fixture.server.file("second.json", r#"{"lines": 41, "screen": {"dark": true}}"#);
    fixture.set(&second, &[]);
    let removed = ctl("remove", &["--dry-run"]);
    assert_eq!(
        removed,
        "1 device would have other settings\n  kiosk-17\n    lines: 41 -> nothing\n    screen.dark: true -> nothing\n"
    );
    ctl("remove", &[]);
    fixture.notified();

    let listed = fixture.server.json(&[&["policy", "history"], &of[..]].concat());
    let revisions: Vec<_> =
        listed.as_array().unwrap().iter().map(|one| one["revision"].as_u64().unwrap()).collect();
    let [removed, second, first] = revisions[..] else { panic!("{listed}") };
    assert!(listed[0]["settings"].is_null() && listed[2]["locks"][0] == "currency", "{listed}");
    assert!(listed[1]["changed_by"].as_str().unwrap().starts_with("uid "), "{listed}");
    let table = ctl("history", &[]);
    assert!(table.contains("removed") && table.contains("currency"), "{table}");
    assert_eq!(
        ctl("history", &["--diff", &second.to_string()]),
        "currency: \"EUR\" -> nothing\nlines: 40 -> 41\nscreen.dark = true\n(locked): \"currency\" -> nothing\n\
         (drift): \"report\" -> nothing\n"
    );

    let to_first = ["--revision", &first.to_string()];
    let tried = ctl("revert", &[&to_first[..], &["--dry-run"]].concat());
    assert!(tried.contains("kiosk-17\n    currency = \"EUR\"\n    lines = 40\n"), "{tried}");
    assert_eq!(fixture.server.json(&["policy", "list"]), serde_json::json!([]));
    ctl("revert", &[&to_first[..], &["--now"]].concat());
    assert_eq!(fixture.notified(), [(fixture.device, Some(WakeReason::Sync))]);
    let shown = fixture.server.json(&[&["policy", "show"], &of[..]].concat());
    assert_eq!((&shown["settings"]["lines"], &shown["locks"][0]), (&40.into(), &"currency".into()));
    assert_eq!(shown["drift"], "report");
    ctl("revert", &["--revision", &removed.to_string()]);
    assert_eq!(fixture.server.json(&["policy", "list"]), serde_json::json!([]));
    let unknown = fixture.refused(1, &[&["policy", "revert"], &of[..], &["--revision", "99"]].concat());
    assert!(unknown.contains("revision 99 of this policy is not known"), "{unknown}");
}
