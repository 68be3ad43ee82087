//! musterctl as a user runs it, over a real Unix socket to the administration API on a real store.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::kit::admin::{AdminServer, ctl};
use muster::machine::device_state::LinkRef;
use muster::wire::api::{DeviceQuery, FollowLine, FollowQuery};
use muster::wire::event::Severity;
use muster::wire::token::JoinToken;

#[test]
fn a_token_is_made_listed_and_revoked() {
    let server = AdminServer::start();
    let made = server.json(&["token", "create", "--ttl", "2h", "--uses", "3", "--group", "/berlin"]);
    let token: JoinToken = made["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(made["id"], token.id.to_string());
    assert_eq!(token.server_certificate.0, [0xab; 32]);
    assert_eq!((&made["group"], &made["uses"], &made["used"]), (&"/berlin".into(), &3.into(), &0.into()));

    let listed = server.json(&["token", "list"]);
    assert_eq!(listed[0]["state"], "valid");
    assert!(listed[0].get("token").is_none(), "the secret is shown once");

    let id = token.id.to_string();
    assert_eq!(server.json(&["token", "revoke", &id])["state"], "revoked");
    let listed = server.ctl(&["token", "list"]);
    assert!(listed.out.contains("revoked") && listed.out.contains(&id), "{}", listed.out);

    let text = server.ctl(&["token", "create"]);
    assert!(text.out.lines().next().unwrap().parse::<JoinToken>().is_ok(), "the token is alone in its line");
    let token = text.out.lines().next().unwrap();
    let advice = "muster-agent enroll --server HOST --token-file -";
    assert!(text.out.lines().any(|line| line.trim() == advice), "{}", text.out);
    assert!(
        text.out.contains("\nFor one line that installs the agent, set listen in [admin]"),
        "{}",
        text.out
    );
    assert_eq!((&made["install"], made["install_hint"].is_string()), (&serde_json::Value::Null, true));
    // Neither the process list nor the shell's history gets to know it.
    assert_eq!(text.out.matches(token).count(), 1, "{}", text.out);
}

#[test]
fn a_device_is_listed_shown_changed_and_removed() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let listed = server.json(&["device", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["name"], "kiosk-17");
    assert_eq!(listed[0]["presence"], "never_seen");
    assert_eq!(listed[0]["last_sync_at"], serde_json::Value::Null);

    let set = "device set kiosk-17 --group /berlin --keep-connected on --interval 5m";
    server.done(&set.split(' ').collect::<Vec<_>>());
    let shown = server.json(&["device", "show", &device.to_string()]);
    assert_eq!(shown["group"], "/berlin");
    assert_eq!(shown["keep_connected"], true);
    assert_eq!((&shown["interval_seconds"], &shown["own_interval_seconds"]), (&300.into(), &300.into()));
    assert_eq!(shown["sections"].as_array().unwrap().len(), 3);
    let back = server.json(&["device", "set", "kiosk-17", "--interval", "inherit"]);
    assert_eq!(back["interval_seconds"], 900);
    for line in ["name", "presence", "next sync", "SECTION"] {
        assert!(server.ctl(&["device", "show", "kiosk-17"]).out.contains(line), "{line}");
    }

    let link = LinkRef::new(0, 1, 2).unwrap();
    server.store.table().with(device, |record| record.link = Some(link));
    let listed = server.json(&["device", "list", "--presence", "connected"]);
    assert_eq!(listed[0]["id"], device.to_string());
    assert_eq!(server.json(&["device", "remove", "kiosk-17"])["id"], device.to_string());
    assert_eq!(*server.links.0.lock().unwrap(), [device], "its open link is closed");
    assert_eq!(server.json(&["device", "list"]), serde_json::json!([]));
    assert_eq!(
        server.refused(1, &["device", "show", "kiosk-17"]),
        "musterctl: there is no device 'kiosk-17'\n"
    );
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let server = AdminServer::start();
    server.enrol("a");
    server.enrol("b");
    let refused = server.refused(1, &["device", "set", "a", "--name", "b"]);
    assert!(refused.contains("another device is called 'b'"), "{refused}");
}

#[test]
fn a_long_list_comes_page_by_page_and_whole() {
    let server = AdminServer::start();
    server.enrol_many(&(0..1_203).map(|number| format!("device-{number:05}")).collect::<Vec<_>>());
    let mut client = server.client();
    let pages: Vec<_> = client.devices(DeviceQuery::default()).map(|page| page.unwrap().len()).collect();
    assert_eq!(pages, [500, 500, 203]);
    let listed = server.json(&["device", "list"]);
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0], names[1_202]), (1_203, "device-00000", "device-01202"));
    let table = server.ctl(&["device", "list"]);
    assert_eq!(table.out.lines().count(), 1_204, "one head, one line a device");
    let search = server.json(&["device", "list", "--search", "DEVICE-01202"]);
    assert_eq!(search.as_array().unwrap().len(), 1);
}

#[test]
fn devices_are_found_sorted_and_written_as_a_table() {
    let server = AdminServer::start();
    server.enrol_many(&["kiosk-1".into(), "kiosk-2".into(), "=shelf, \"old\"".into()]);
    for (name, group) in [("kiosk-1", "/berlin/shops"), ("kiosk-2", "/paris")] {
        server.json(&["device", "set", name, "--group", group, "--interval", "1h"]);
    }
    let names = |arguments: &[&str]| -> Vec<String> {
        let listed = server.json(&[&["device", "list"], arguments].concat());
        listed.as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!(names(&["--where", "group:/berlin or old"]), ["=shelf, \"old\"", "kiosk-1"]);
    assert_eq!(names(&["--search", "KIOSK", "--where", "a or -name:*-1"]), ["kiosk-2"]);
    assert_eq!(names(&["--search", "kiosk or"]), [""; 0], "a text that is looked for is no filter");
    assert_eq!(names(&["--sort", "-group"])[0], "kiosk-2");
    assert_eq!(names(&["--sort", "interval"]), ["=shelf, \"old\"", "kiosk-1", "kiosk-2"]);
    let table = server.ctl(&["device", "list", "--csv", "--where", "presence:never_seen", "--sort", "-name"]);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", table.out);
    assert_eq!(lines[0], r#""NAME","PRESENCE","STATUS","GROUP","LAST SYNC (UTC)","INTERVAL","ID","WHY""#);
    assert!(lines[1].starts_with(r#""kiosk-2","never seen","ok","/paris","-","1h","#), "{}", lines[1]);
    assert!(lines[3].starts_with(r#""'=shelf, ""old""","never seen""#), "{}", lines[3]);
    let pointed = server.ctl(&["device", "list", "--where", "old sean:>2h"]).err;
    let (text, caret) = pointed.split_once("\n  old sean:>2h\n").unwrap();
    assert!(text.contains("there is no key 'sean'") && caret.starts_with("      ^"), "{pointed}");
    let called = server.json(&["device", "sync", "--where", "-(group:/berlin)"]);
    assert_eq!(called["called"], 2);
}

#[test]
fn events_are_listed_newest_last_and_filtered() {
    let server = AdminServer::start();
    let (a, b) = (server.enrol("a"), server.enrol("b"));
    for number in 0..30 {
        server.event(
            if number % 2 == 0 { a } else { b },
            Severity::ALL[number % 4],
            &format!("event {number}"),
        );
    }
    let messages = |arguments: &[&str]| -> Vec<String> {
        let listed = server.ctl(&[&["event", "list", "--json"], arguments].concat()).json();
        let events = listed.as_array().unwrap();
        events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages(&["--limit", "3"]), ["event 27", "event 28", "event 29"]);
    assert_eq!(messages(&["--severity", "critical", "--limit", "2"]), ["event 23", "event 27"]);
    assert_eq!(messages(&["--severity", "error", "--limit", "2"]), ["event 26", "event 27"]);
    assert_eq!(messages(&["--device", "a", "--limit", "2"]), ["event 26", "event 28"]);
    assert_eq!(messages(&["--since", "1h"]).len(), 30);
    assert_eq!(messages(&["--since", "2999-01-01T00:00:00Z"]).len(), 0);
    let event = &server.json(&["event", "list", "--limit", "1"])[0];
    assert_eq!((&event["device"], &event["fields"]["disk"]), (&"b".into(), &"sdb".into()));

    server.ctl(&["device", "remove", "a"]);
    assert_eq!(messages(&["--device", &a.to_string()]).len(), 15, "a removed device's events stay");
}

#[test]
fn events_of_the_servers_own_are_shown_like_others() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    server.event(device, Severity::Info, "before");
    server.durable_to(server.log.push_lost(device));
    let listed = server.json(&["event", "list", "--severity", "warning"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let event = &listed[0];
    assert_eq!((&event["device"], &event["sequence"]), (&"kiosk-17".into(), &0.into()));
    assert_eq!(event["fields"], serde_json::json!({"from": "idle", "to": "lost"}));
    let shown = server.ctl(&["event", "list", "--device", "kiosk-17"]).out;
    assert!(shown.ends_with("warning   kiosk-17  server  muster presence: lost (was idle)\n"), "{shown}");
    assert_eq!(event["source"], "server");
    let follow = server.client().follow(FollowQuery { from: Some(0), ..FollowQuery::default() }).nth(1);
    let Some(Ok(FollowLine::Event(event))) = follow else { panic!("{follow:?}") };
    assert_eq!((event.kind.as_str(), event.next_position), ("presence", 200));
}

#[test]
fn events_are_followed_across_a_restart() {
    let mut server = AdminServer::start();
    let device = server.enrol("a");
    server.event(device, Severity::Info, "before");
    let mut follower =
        server.command(&["event", "follow", "--from", "0", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> String {
        let event: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        event["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "before");
    server.event(device, Severity::Info, "live");
    assert_eq!(next(), "live");
    server.stop();
    server.event(device, Severity::Info, "while it was away");
    server.resume();
    assert_eq!(next(), "while it was away");
    server.event(device, Severity::Info, "after");
    assert_eq!(next(), "after");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_follower_may_ask_for_the_newest_alone_and_the_others_miss_none() {
    let server = AdminServer::start();
    let device = server.enrol("a");
    for number in 1..=1_000 {
        server.log.push(device, Severity::Info, &number.to_string());
    }
    let all = FollowQuery { from: Some(0), ..FollowQuery::default() };
    let text = |line: FollowLine| match line {
        FollowLine::Event(event) => event.message,
        other => serde_json::to_string(&other).unwrap(),
    };
    let mut client = server.client();
    let newest = client.follow(FollowQuery { newest: Some(3), ..all.clone() });
    let newest: Vec<_> = newest.take(5).map(|line| text(line.unwrap())).collect();
    let skipped = "{\"skipped\":{\"events\":997,\"to\":99700}}";
    assert_eq!(newest, [skipped, "998", "999", "1000", "{\"reached\":100000}"]);
    let (mut one, mut other) = (server.client(), server.client());
    let lines = one.follow(all.clone()).zip(other.follow(all));
    let lines = lines.map(|(one, other)| (text(one.unwrap()), text(other.unwrap())));
    let events: Vec<_> = lines.filter(|(one, _)| !one.starts_with('{')).take(1_000).collect();
    let wanted = (1..=1_000).map(|number| (number.to_string(), number.to_string()));
    assert_eq!(events, wanted.collect::<Vec<_>>());

    let mut follower = server.command(&["event", "follow", "--from", "0", "--newest", "2", "--json"]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut said, mut event) = (String::new(), String::new());
    BufReader::new(follower.stderr.take().unwrap()).read_line(&mut said).unwrap();
    BufReader::new(follower.stdout.take().unwrap()).read_line(&mut event).unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(said, "musterctl: 998 more, left out by --newest\n");
    assert!(event.contains("\"message\":\"999\""), "{event}");
}

#[test]
fn groups_are_made_and_listed() {
    let server = AdminServer::start();
    let made = server.json(&["group", "create", "berlin/kiosks", "--interval", "5m"]);
    assert_eq!(made, serde_json::json!({"path": "/berlin/kiosks", "interval_seconds": 300}));
    let listed = server.json(&["group", "list"]);
    let paths: Vec<_> = listed.as_array().unwrap().iter().map(|group| group["path"].clone()).collect();
    assert_eq!(paths, ["/", "/berlin", "/berlin/kiosks"]);
    assert_eq!(server.ctl(&["group", "create", "/x", "--interval", "1s"]).code, 2);
    let made = server.json(&["group", "create", "/berlin", "--keep-connected", "on"]);
    assert_eq!(
        made,
        serde_json::json!({"path": "/berlin", "interval_seconds": null, "keep_connected": true})
    );
    let listed = server.json(&["group", "list"]);
    assert_eq!(
        (&listed[0]["keep_connected"], &listed[1]["keep_connected"]),
        (&serde_json::Value::Null, &true.into())
    );
    assert_eq!(listed[2]["interval_seconds"], 300, "a setting that is not named stays");
    let made = server.ctl(&["group", "create", "/berlin", "--keep-connected", "inherit"]);
    assert_eq!(made.out, "group /berlin is there, keep connected inherit\n");
}

#[test]
fn applications_are_an_array_even_when_there_is_none() {
    let server = AdminServer::start();
    assert_eq!(server.json(&["application", "list"]), serde_json::json!([]));
    let which =
        server.ctl(&["application", "list", "--name", "open*", "--version", "<3", "--devices", "--json"]);
    assert_eq!(which.json(), serde_json::json!([]));
    assert_eq!(server.ctl(&["application", "list", "--version", "~~"]).code, 2);
    assert_eq!(server.ctl(&["application", "list", "--device", "nobody"]).code, 1);
}

#[test]
fn status_tells_everything_in_both_ways() {
    let server = AdminServer::start();
    server.enrol("a");
    let status = server.json(&["status"]);
    assert_eq!(status["devices"]["never_seen"], 1);
    assert_eq!(status["journal"]["condition"], "no_room");
    assert_eq!(status["links"]["closes"][0], serde_json::json!({"reason": "idle", "count": 3}));
    let text = server.ctl(&["status"]).out;
    for part in [
        "1 known: 0 connected, 0 idle, 0 asleep, 0 shut down, 0 agent stopped, 0 lost, 1 never seen",
        "NO ROOM since 2026-11-24 10:00:00: the disk is full",
        "DAMAGED: 64 to 128 (records are damaged) and 17 more; 2 segments of 128.0 MiB set aside",
        "idle 3",
        "links 1 of 1000",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn no_server_is_said_in_one_line_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", directory.path().join("none.sock").display());
    let long = format!("unix:/{}", "s".repeat(120));
    let ran = ctl(&long, &["status"]);
    assert_eq!(ran.code, 2);
    for piece in ["MUSTER_SERVER: the", "121 bytes, at most 107 are possible (unix(7))"] {
        assert!(ran.err.contains(piece), "no '{piece}': {}", ran.err);
    }
    let ran = ctl(&socket, &["status"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (1, "", 1));
    assert!(ran.err.contains(&socket) && ran.err.contains("start one with 'musterd'"), "{}", ran.err);
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for arguments in [
        &["frobnicate"][..],
        &["device", "set", "x"],
        &["device", "set", "x", "--keep-connected", "yes"],
        &["device", "sync"],
        &["device", "sync", "x", "--all"],
        &["device", "sync", "--all", "--group", "/"],
        &["device", "sync", "x", "--wait", "--timeout", "2h"],
        &["device", "show", "x", "--now", "--timeout", "soon"],
        &["group", "create", "/x", "--keep-connected", "maybe"],
        &["device", "list", "--presence", "away"],
        &["device", "list", "--where", "sean:>2h"],
        &["device", "list", "--sort", "colour"],
        &["device", "list", "--csv", "--json"],
        &["device", "sync", "--all", "--where", "a"],
        &["event", "list", "--severity", "dire"],
        &["event", "list", "--since", "yesterday"],
        &["token", "create", "--ttl", "soon"],
        &["token", "revoke", "12"],
        &["--server", "tcp:1.2.3.4:5", "status"],
    ] {
        let ran = ctl("unix:/nowhere", arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}: {}", ran.err);
        assert!(!ran.err.is_empty());
    }
    assert_eq!(ctl("nonsense", &["status"]).code, 2, "MUSTER_SERVER is checked too");
    for arguments in [&["--help"][..], &["device", "set", "--help"], &["event", "follow", "--help"]] {
        let ran = ctl("unix:/nowhere", arguments);
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("Examples:"), "{arguments:?}");
    }
}

/// Texts of a device's making: a name cannot be one any more, an event's message and fields can.
#[test]
fn what_a_device_says_reaches_the_terminal_as_escapes_and_a_program_as_it_is() {
    let server = AdminServer::start();
    let device = server.enrol("\u{202e}kiosk-17\u{200b}");
    assert_eq!(server.json(&["device", "list"])[0]["name"], "kiosk-17");
    let message = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}gnp.exe\u{2066}\u{200b}\n\u{e0041}ü";
    server.event(device, Severity::Warning, message);
    let escaped = r"\u{1b}[2J\u{9b}31m\u{7f}\u{202e}gnp.exe\u{2066}\u{200b}\n\u{e0041}ü";
    let text = server.ctl(&["event", "list"]);
    assert!(text.out.contains(escaped), "{:?}", text.out);
    let json = server.ctl(&["event", "list", "--json"]);
    assert!(
        json.out.contains(r"\u001b[2J\u009b31m\u007f\u202egnp.exe\u2066\u200b\n\udb40\udc41ü"),
        "{:?}",
        json.out
    );
    assert_eq!(json.json()[0]["message"], message, "the value is what it was");
    let refused = server.refused(2, &["device", "set", "kiosk-17", "--name", "a\u{202e}b"]);
    assert!(refused.contains(r"'a\u{202e}b' cannot be a device name"), "{refused}");
    for name in [device.to_string(), device.to_string().to_uppercase()] {
        let refused = server.refused(2, &["device", "set", "kiosk-17", "--name", &name]);
        assert!(refused.contains("not the form of a device id"), "{refused}");
    }
}

#[test]
fn every_list_of_json_ends_with_a_newline() {
    let server = AdminServer::start();
    let lists: [&[&str]; 7] = [
        &["device", "list"],
        &["application", "list"],
        &["event", "list"],
        &["group", "list"],
        &["policy", "list"],
        &["task", "list"],
        &["token", "list"],
    ];
    let check = || {
        for list in lists {
            let text = server.ctl(&[list, &["--json"]].concat()).out;
            assert!(text.starts_with('[') && text.ends_with("]\n"), "{list:?}: {text:?}");
        }
    };
    check();
    let device = server.enrol("kiosk-17");
    server.event(device, Severity::Info, "something");
    server.ctl(&["group", "create", "/shops"]);
    server.ctl(&["token", "create"]);
    check();
    for object in [&["device", "show", "kiosk-17"][..], &["status"]] {
        let text = server.ctl(&[object, &["--json"]].concat()).out;
        assert!(text.ends_with("}\n"), "{object:?}: {text:?}");
    }
}

#[test]
fn bash_completes_commands_and_options() {
    // Needs no server, whatever the environment says of one.
    let made = ctl("nonsense", &["completion", "bash"]);
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    let script = made.out;
    let completed = |words: &str, last: usize| {
        let ask = format!(
            "COMP_WORDS=({words}) COMP_CWORD={last}\n_musterctl musterctl\necho \"${{COMPREPLY[@]}}\""
        );
        let bash = Command::new("bash").arg("-c").arg(format!("{script}\n{ask}")).output();
        bash.map(|bash| String::from_utf8(bash.stdout).unwrap())
    };
    let Ok(commands) = completed("musterctl devi", 1) else { return crate::kit::skip::skipped("no bash") };
    assert_eq!(commands.trim(), "device");
    assert_eq!(completed("musterctl device list --wh", 3).unwrap().trim(), "--where");
}
