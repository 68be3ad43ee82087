//! Calling devices and finding out why they don't come, with musterctl, over a script of what devices do.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::kit::{
    admin::{AdminServer, SYNCED},
    now,
};
use muster::machine::device_state::LinkRef;
use muster::machine::reach::UdpReach;
use muster::wire::api::{CallOutcome, CallVia};
use muster::wire::datagram::{NoticeKind, WakeReason};
use muster::wire::id::DeviceId;
use muster::wire::time::WallTime;
use serde_json::json;

fn unreachable() -> Option<CallOutcome> {
    let next_slot_at = Some(WallTime(1_795_514_400_000).into());
    Some(CallOutcome::Unreachable { attempts: 6, next_slot_at })
}

#[test]
fn what_becomes_of_each_device_is_told() {
    let server = AdminServer::start();
    let [a, b, c] = ["a", "b", "c"].map(|name| server.enrol(name));
    server.script(b, unreachable());
    server.script(c, Some(CallOutcome::Asleep));
    let one = server.ctl(&["device", "sync", "a", "--wait"]);
    assert_eq!((one.code, one.err.as_str()), (0, ""));
    assert_eq!(one.out, "DEVICE  OUTCOME\na       synced in 4.2 ms (by wake, begun after 1.5 ms)\n");
    assert_eq!(server.calls(), [(vec![a], WakeReason::Sync)]);

    let all = server.ctl(&["device", "sync", "--all", "--wait"]);
    assert_eq!(all.code, 1);
    assert_eq!(all.err, "musterctl: 2 of 3 devices did not sync; 'musterctl device why NAME' explains\n");
    for line in ["b       unreachable by UDP (6 wakes); next slot at 2026-11-24T10:00:00", "c       asleep"] {
        assert!(all.out.contains(line), "{line} in {}", all.out);
    }
    let named = server.ctl(&["device", "sync", "b", &a.to_string(), "a", "--fresh", "--wait", "--json"]);
    assert_eq!((named.code, named.err.lines().count()), (1, 1));
    let outcomes: serde_json::Value = serde_json::from_str(&named.out).unwrap();
    let expected = json!([
        {"id": b, "name": "b", "outcome": "unreachable", "attempts": 6, "next_slot_at": "2026-11-24T10:00:00.000Z"},
        {"id": a, "name": "a", "outcome": "synced", "by": "wake", "begun_microseconds": 1_500, "synced_microseconds": 4_200},
    ]);
    assert_eq!(outcomes, expected);
    let calls = server.calls();
    assert_eq!(calls, [(vec![a, b, c], WakeReason::Sync), (vec![b, a], WakeReason::Retrieve)], "each once");
    let gone = server.ctl(&["device", "sync", "c", "--wait"]);
    assert_eq!((gone.code, gone.err.lines().count()), (1, 1));
    assert!(server.calls.cancelled.lock().unwrap().is_empty(), "all of them were heard of");
    server.store.devices().remove(c, now()).unwrap();
    assert_eq!(server.ctl(&["device", "sync", "--all", "--wait", "--json"]).code, 1);
    assert_eq!(server.calls(), [(vec![c], WakeReason::Sync), (vec![a, b], WakeReason::Sync)]);
}

#[test]
fn nobody_is_waited_for_without_wait() {
    let server = AdminServer::start();
    let devices = [server.enrol("a"), server.enrol("b")];
    devices.iter().for_each(|device| server.script(*device, None));
    server.ctl(&["device", "set", "b", "--group", "/berlin/kiosks"]);
    assert_eq!(server.json(&["device", "sync", "--all"]), json!({"called": 2}));
    let text = server.ctl(&["device", "sync", "--group", "berlin"]);
    assert_eq!(text.code, 0);
    assert!(text.out.starts_with("1 device is called; --wait shows"), "{}", text.out);
    assert_eq!(server.calls(), [(devices.to_vec(), WakeReason::Sync), (vec![devices[1]], WakeReason::Sync)]);
    assert!(server.calls.cancelled.lock().unwrap().is_empty(), "it goes on by itself");
}

#[test]
fn nobody_is_called_when_the_request_is_wrong_or_there_is_nobody() {
    let server = AdminServer::start();
    server.enrol("a");
    server.ctl(&["group", "create", "/empty"]);
    assert_eq!(
        server.refused(1, &["device", "sync", "a", "nobody", "--wait"]),
        "musterctl: there is no device 'nobody'\n"
    );
    assert_eq!(
        server.refused(1, &["device", "sync", "--group", "/nowhere"]),
        "musterctl: there is no group '/nowhere'\n"
    );
    for wait in [&[][..], &["--wait"]] {
        let empty = server.ctl(&[&["device", "sync", "--group", "/empty"], wait].concat());
        assert_eq!((empty.code, empty.err.as_str()), (0, ""), "{}", empty.out);
    }
    assert_eq!(server.json(&["device", "sync", "--group", "/empty", "--wait"]), json!([]));
    assert_eq!(server.json(&["device", "sync", "--group", "/empty"]), json!({"called": 0}));
    assert!(server.calls().is_empty());
    server.calls.is_busy.store(true, Ordering::Relaxed);
    let busy = server.ctl(&["device", "sync", "--all", "--wait"]);
    assert_eq!((busy.code, busy.out.as_str()), (1, ""));
    assert!(busy.err.contains("too many devices are being called already: try again"), "{}", busy.err);
}

#[test]
fn one_of_whom_nothing_is_heard_is_given_up_when_the_time_is_over() {
    let server = AdminServer::start();
    let [a, b] = ["a", "b"].map(|name| server.enrol(name));
    server.script(b, None);
    let began = Instant::now();
    let ran = server.ctl(&["device", "sync", "a", "b", "--wait", "--timeout", "1s", "--json"]);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let outcomes: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, outcomes.as_array().unwrap().len()), (1, 2));
    assert_eq!((&outcomes[0]["id"], &outcomes[0]["outcome"]), (&a.to_string().into(), &"synced".into()));
    assert_eq!(outcomes[1], json!({"id": b, "name": "b", "outcome": "timed_out"}));
    assert_eq!(*server.calls.cancelled.lock().unwrap(), [1], "what has not begun is taken back");
}

#[test]
fn ten_thousand_devices_are_called_quickly_and_only_those_are_listed_that_did_not_sync() {
    let server = AdminServer::start();
    let names: Vec<String> = (0..10_000).map(|number| format!("device-{number:05}")).collect();
    let devices = server.enrol_many(&names);
    server.script(devices[17], unreachable());
    server.script(devices[9_999], Some(CallOutcome::ShutDown));
    let began = Instant::now();
    let ran = server.ctl(&["device", "sync", "--all", "--wait"]);
    let took = began.elapsed();
    assert_eq!(ran.code, 1, "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", ran.out);
    assert!(
        lines[1].starts_with("device-00017  unreachable") && lines[2].starts_with("device-09999  shut down")
    );
    assert_eq!(lines[3], "9998 of 10000 devices synced");
    assert!(ran.err.starts_with("musterctl: 2 of 10000 devices did not sync"), "{}", ran.err);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let json: serde_json::Value =
        serde_json::from_str(&server.ctl(&["device", "sync", "--all", "--wait", "--json"]).out).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 10_000);
    // Nothing is heard of anybody: the server answers others meanwhile.
    devices.iter().for_each(|device| server.script(*device, None));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.ctl(&["device", "sync", "--all", "--wait", "--timeout", "2s"]));
        assert!(server.client().status().is_ok());
        let ran = waiting.join().unwrap();
        assert_eq!(ran.out.lines().count(), 10_002, "a head, each of them, and the sum");
    });
}

#[test]
fn a_device_is_retrieved_now_and_then_shown() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let shown = server.json(&["device", "show", "kiosk-17", "--now"]);
    assert_eq!(shown["name"], "kiosk-17");
    assert_eq!(server.calls(), [(vec![device], WakeReason::Retrieve)]);
    server.script(device, unreachable());
    let ran = server.ctl(&["device", "show", "kiosk-17", "--now"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("never seen"), "what is known is shown: {}", ran.out);
    assert!(
        ran.err.starts_with("musterctl: kiosk-17: unreachable by UDP (6 wakes); next slot"),
        "{}",
        ran.err
    );
    assert_eq!(ran.err.lines().count(), 1);
    server.script(device, None);
    let ran = server.ctl(&["device", "show", "kiosk-17", "--now", "--timeout", "1s", "--json"]);
    assert_eq!(ran.code, 1);
    assert!(serde_json::from_str::<serde_json::Value>(&ran.out).is_ok());
    assert!(ran.err.contains("no outcome in time"), "{}", ran.err);
    let gone = server.ctl(&["device", "show", "nobody", "--now"]);
    assert_eq!(
        (gone.code, gone.out.as_str(), gone.err.as_str()),
        (1, "", "musterctl: there is no device 'nobody'\n")
    );
    server.calls();
    server.ctl(&["device", "show", "kiosk-17"]);
    assert!(server.calls().is_empty(), "nobody is called unasked");
}

/// A device that synced a minute ago and is to come again in a quarter of an hour.
fn synced(server: &AdminServer, device: DeviceId, reach: UdpReach) {
    server.store.table().with(device, |record| {
        record.last_sync = WallTime(now().0 - 60_000);
        record.last_seen = record.last_sync;
        record.set_due_seconds(960);
        record.address = "::ffff:192.0.2.7".parse().unwrap();
        record.udp_port = 15_000;
        record.udp_reach = reach;
    });
}

#[test]
fn it_is_shown_how_a_device_is_reached() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk 17");
    let show = |expected: &[&str], never: &[&str]| {
        let out = server.ctl(&["device", "show", "kiosk 17"]).out;
        expected.iter().for_each(|part| assert!(out.contains(part), "{part} in {out}"));
        never.iter().for_each(|part| assert!(!out.contains(part), "{part} in {out}"));
    };
    show(&["never seen", "off (inherited)"], &["hint", "UDP"]);
    synced(&server, device, UdpReach::Reached);
    show(&["idle", "wakes reach it: UDP port 15000 at 192.0.2.7"], &["hint"]);
    let shown = server.json(&["device", "show", "kiosk 17"]);
    let (last, next): (WallTime, WallTime) = (
        shown["last_sync_at"].as_str().unwrap().parse().unwrap(),
        shown["next_sync_at"].as_str().unwrap().parse().unwrap(),
    );
    assert_eq!(next.0 - last.0, 960_000, "the slot that it was given, not the interval");
    assert_eq!((&shown["udp_reach"], &shown["udp_port"]), (&"reached".into(), &15_000.into()));
    assert_eq!((&shown["address"], &shown["departure"]), (&"192.0.2.7".into(), &serde_json::Value::Null));
    // The server of this test keeps those whom wakes do not reach.
    synced(&server, device, UdpReach::Unreached);
    show(&["wakes do not reach it", "off, and kept all the same: wakes do not reach it"], &["hint"]);
    assert_eq!(server.json(&["device", "show", "kiosk 17"])["persistent_by"], "unreachable");
    synced(&server, device, UdpReach::Unknown);
    show(&["whether wakes reach it is not known"], &["hint"]);
    for (kind, presence, name) in [
        (NoticeKind::Suspend, "asleep", "asleep"),
        (NoticeKind::Reboot, "shut down (it said that it reboots)", "shut_down"),
        (NoticeKind::AgentStopped, "agent stopped", "agent_stopped"),
    ] {
        server.store.table().with(device, |record| record.departure = Some(kind));
        show(&[presence], &[]);
        let listed = server.json(&["device", "list", "--presence", name]);
        assert_eq!(listed[0]["presence"], name);
    }
}

#[test]
fn one_that_can_not_be_called_gets_a_hint_where_nobody_is_kept_for_that() {
    let mut server = AdminServer::start();
    server.keeps_unreachable = false;
    server.stop();
    server.resume();
    let device = server.enrol("kiosk 17");
    synced(&server, device, UdpReach::Unreached);
    let out = server.ctl(&["device", "show", "kiosk 17"]).out;
    assert!(out.contains("musterctl device set 'kiosk 17' --keep-connected on"), "{out}");
    let why = server.ctl(&["device", "why", "kiosk 17"]);
    assert!(
        why.out.contains("Wakes do not reach it") && why.out.contains("--keep-connected on"),
        "{}",
        why.out
    );
    server.ctl(&["device", "set", "kiosk 17", "--keep-connected", "on"]);
    assert!(!server.ctl(&["device", "show", "kiosk 17"]).out.contains("hint"));
}

#[test]
fn why_a_device_is_not_in_sync_is_one_paragraph_or_facts() {
    let server = AdminServer::start();
    let device = server.enrol("kiosk-17");
    let fresh = server.ctl(&["device", "why", "kiosk-17"]);
    assert!(fresh.out.starts_with("kiosk-17 has enrolled and was never heard of since"), "{}", fresh.out);
    synced(&server, device, UdpReach::Reached);
    let idle = server.ctl(&["device", "why", &device.to_string()]);
    assert_eq!((idle.code, idle.out.lines().count()), (0, 1));
    for part in [
        "kiosk-17 is idle: it synced at ",
        "its slot in an interval of 15m",
        "Wakes reach it (UDP port 15000",
    ] {
        assert!(idle.out.contains(part), "{part} in {}", idle.out);
    }
    let why = server.json(&["device", "why", "kiosk-17"]);
    assert_eq!(why["text"], idle.out.trim_end());
    assert_eq!((&why["facts"]["presence"], &why["facts"]["journal"]), (&"idle".into(), &"no_room".into()));
    assert_eq!(why["facts"]["interval_seconds"], 900);
    assert_eq!(server.ctl(&["device", "why", "nobody"]).code, 1);
}

#[test]
fn a_link_that_is_to_stay_is_called_for_and_too_many_are_refused() {
    let server = AdminServer::start();
    let [a, b] = ["a", "b"].map(|name| server.enrol(name));
    server.store.devices().set_persistent_max(1).unwrap();
    let set =
        |name: &str, keep: &str| server.ctl(&["device", "set", name, "--keep-connected", keep, "--json"]);
    let facts = |name: &str| {
        let shown = server.json(&["device", "show", name]);
        (shown["keep_connected"].clone(), shown["own_keep_connected"].clone(), shown["persistent_by"].clone())
    };
    assert_eq!(set("a", "on").json()["keep_connected"], true);
    assert_eq!(server.calls(), [(vec![a], WakeReason::Stay)]);
    assert_eq!(facts("a"), (true.into(), true.into(), "device".into()));
    let refused = set("b", "on");
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    assert_eq!(
        refused.err,
        "musterctl: 1 device is kept connected and max_persistent_connections is 1: raise [links] max_persistent_connections or turn it \
         off for others\n"
    );
    let refused = server.ctl(&["group", "create", "/", "--keep-connected", "on"]);
    assert_eq!((refused.code, refused.err.lines().count()), (1, 1));
    assert_eq!(facts("b"), (false.into(), serde_json::Value::Null, serde_json::Value::Null));
    // One without a link learns with its next sync that it need not stay.
    set("a", "off").json();
    assert!(server.calls().is_empty());
    set("a", "on").json();
    server.store.table().with(a, |record| record.link = LinkRef::new(0, 1, 1));
    server.calls();
    set("a", "inherit").json();
    assert_eq!(server.calls(), [(vec![a], WakeReason::Stay)]);
    server.store.devices().set_persistent_max(2).unwrap();
    server.ctl(&["group", "create", "/", "--keep-connected", "on"]);
    assert_eq!(server.calls(), [(vec![a, b], WakeReason::Stay)]);
    assert_eq!(facts("b"), (true.into(), serde_json::Value::Null, "group".into()));
    let shown = server.ctl(&["device", "show", "b"]).out;
    assert!(shown.contains("on (inherited)"), "{shown}");
    server.store.devices().set_persistent_max(1).unwrap();
    let shown = server.ctl(&["device", "show", "b"]).out;
    assert!(shown.contains("it waits for room"), "{shown}");
    // Too many calls: the setting is in force all the same.
    server.calls.is_busy.store(true, Ordering::Relaxed);
    assert_eq!(set("b", "off").json()["keep_connected"], false);
}

#[test]
fn a_device_may_come_by_any_path() {
    let server = AdminServer::start();
    let device = server.enrol("a");
    for (by, words) in
        [(CallVia::Link, "by link"), (CallVia::Wake, "by wake"), (CallVia::Itself, "came by itself")]
    {
        let CallOutcome::Synced { begun_microseconds, synced_microseconds, .. } = SYNCED else {
            unreachable!()
        };
        server.script(device, Some(CallOutcome::Synced { by, begun_microseconds, synced_microseconds }));
        assert!(server.ctl(&["device", "sync", "a", "--wait"]).out.contains(words));
    }
    for (outcome, words) in [
        (CallOutcome::ShutDown, "shut down"),
        (CallOutcome::AgentStopped, "its agent was stopped"),
        (CallOutcome::RefusedCertificate, "refused this server's certificate"),
        (CallOutcome::PutOff, "put off"),
        (CallOutcome::Unfinished { begun_microseconds: 1_000 }, "began after 1.0 ms and has not ended"),
        (CallOutcome::Removed, "removed meanwhile"),
        (CallOutcome::Unreachable { attempts: 0, next_slot_at: None }, "it has said no UDP port yet"),
    ] {
        server.script(device, Some(outcome));
        let ran = server.ctl(&["device", "sync", "a", "--wait"]);
        assert_eq!(ran.code, 1);
        assert!(ran.out.contains(words), "{words} in {}", ran.out);
    }
}
