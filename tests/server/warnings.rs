//! Warnings of a real server outlive a flood of events without weight.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use crate::kit::{Connection, Device, Musterd, event, musterctl, musterd, succeed, wait_for};
use muster::wire::event::{Event, Severity};
use muster::wire::id::Epoch;
use muster::wire::time::WallTime;
use serde_json::Value;

/// Events in one message.
const BATCH: u64 = 12;

/// Devices that send many.
const DEVICES: usize = 8;

/// A server with the smallest journal.
fn serve(directory: &Path, data: &Path, more: &str) -> Musterd {
    let small = "[journal]\nsegment_size = \"1MiB\"\nretention_size = \"4MiB\"\n";
    Musterd::start_on(directory, data, &format!("{small}{more}"))
}

/// Those of the devices, oldest first.
fn events(server: &Musterd, arguments: &[&str]) -> Vec<Value> {
    let list = server.ctl(&[&["event", "list", "--limit", "500"], arguments].concat());
    let events = list.as_array().unwrap().iter().filter(|event| event["application"] == "door");
    events.cloned().collect()
}

fn oldest_segment(server: &Musterd) -> u64 {
    let files = std::fs::read_dir(server.data.join("journal")).unwrap();
    let names = files.filter_map(|file| file.unwrap().file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".journal")?.parse().ok()).min().unwrap()
}

/// A device that sends events and waits until they are stored.
struct Sender<'d> {
    device: &'d Device,
    address: SocketAddr,
    connection: Connection,
    sequence: u64,
}

impl<'d> Sender<'d> {
    fn connect(server: &Musterd, device: &'d Device, sequence: u64) -> Self {
        let connection = Connection::open(server.address, &device.fresh_tls());
        Self { device, address: server.address, connection, sequence }
    }

    fn send(&mut self, severity: Severity, kind: &str, message: &str, count: u64) {
        let event = Event {
            application: "door".into(),
            kind: kind.into(),
            occurred_at: WallTime(1_700_000_000_000),
            ..event(severity, message)
        };
        let (first, highest) = (self.sequence + 1, self.sequence + count);
        wait_for("events to be stored", || {
            self.connection.send_copies(Epoch(5), first..=highest, &event);
            let stored = self.connection.acknowledged(highest);
            if stored.is_none() {
                self.connection = Connection::open(self.address, &self.device.fresh_tls());
            }
            stored
        });
        self.sequence = highest;
    }
}

/// Events without weight from many devices, until `segments` more segments were deleted.
fn flood(server: &Musterd, devices: &[Device], sequence: u64, segments: u64) {
    let mut senders: Vec<_> =
        devices.iter().map(|device| Sender::connect(server, device, sequence)).collect();
    let long = "nothing happened ".repeat(200);
    let until = oldest_segment(server) + (segments << 20);
    wait_for("the flood", || {
        for sender in &mut senders {
            for _ in 0..4 {
                sender.send(Severity::Info, "idle", &long, BATCH);
            }
        }
        (oldest_segment(server) >= until).then_some(())
    });
}

#[test]
fn a_flood_of_info_events_does_not_wash_warnings_away() {
    let directory = tempfile::tempdir().unwrap();
    let (data, restored) = (directory.path().join("data"), directory.path().join("restored"));
    let server = serve(directory.path(), &data, "");
    let honest = server.enrol("kiosk-1");
    let hostile: Vec<Device> = (0..DEVICES).map(|number| server.enrol(&format!("noise-{number}"))).collect();
    let mut honest = Sender::connect(&server, &honest, 0);
    honest.send(Severity::Info, "open", "door opened", 1);
    honest.send(Severity::Warning, "open", "door open for an hour", 1);
    honest.send(Severity::Critical, "force", "door was forced", 1);
    let before = events(&server, &[]);
    assert_eq!(before.len(), 3);
    let wanted: Vec<Value> = before[1..].to_vec();
    assert!(!data.join("warnings").exists(), "it costs nothing before it is needed");

    flood(&server, &hostile, 0, 6);
    assert_eq!(events(&server, &["--severity", "warning"]), wanted, "as they were: position, time, device");
    assert_eq!(events(&server, &["--device", "kiosk-1"]), wanted, "info events go");
    assert_eq!(events(&server, &["--severity", "critical"]), wanted[1..]);
    assert_eq!(events(&server, &["--severity", "warning", "--device", "noise-2"]), [] as [Value; 0]);
    let since = wanted[1]["received_at"].as_str().unwrap();
    let later = events(&server, &["--severity", "warning", "--since", "2200-01-01T00:00:00Z"]);
    assert_eq!(
        (events(&server, &["--severity", "critical", "--since", since]), later),
        (wanted[1..].to_vec(), vec![])
    );
    let kept = server.ctl(&["status"])["journal"]["warnings"].clone();
    assert!(kept["events"].as_u64().unwrap() >= 2 && kept["oldest_at"].is_string(), "{kept}");
    assert_eq!((&kept["segments_lost"], &kept["reason"]), (&Value::from(0), &Value::Null));

    // It says from when on the list is complete, where it is not, and only there.
    let told = |arguments: &[&str]| String::from_utf8(server.run_ctl(arguments).stderr).unwrap();
    let said = told(&["event", "list", "--device", "kiosk-1"]);
    assert!(
        said.contains("info events received before ") && said.contains("warnings and worse are kept from "),
        "{said}"
    );
    assert_eq!(told(&["event", "list", "--device", "kiosk-1", "--severity", "warning"]), "");
    assert_eq!(told(&["event", "list", "--limit", "5"]), "");
    let followed = musterctl_follow(&server, wanted[0]["position"].as_u64().unwrap());
    assert!(
        followed.contains("are gone") && followed.contains("event list --severity warning"),
        "{followed}"
    );

    let file = directory.path().join("backup.tar");
    let backup = || succeed(musterd(&["backup"]).arg(&file).arg("--data").arg(&data));
    server.stop();
    let said = backup();
    assert!(said.contains("of a stopped server") && !said.contains(" 0 kept warnings"), "{said}");
    let server = serve(directory.path(), &data, "");
    assert_eq!(events(&server, &["--severity", "warning"]), wanted, "after a restart");
    let said = backup();
    assert!(said.contains("of a running server") && !said.contains(" 0 kept warnings"), "{said}");
    flood(&server, &hostile, 1_000_000, 2);
    assert_eq!(events(&server, &["--severity", "warning"]), wanted, "and more");
    server.stop();

    let read = |what: &str, data: &Path| {
        let mut read = musterd(&["journal", what, "--json", "--data"]);
        serde_json::from_str::<Value>(&succeed(read.arg(data))).unwrap()
    };
    let verified = read("verify", &data);
    assert!(verified["warnings"]["records"].as_u64().unwrap() >= 2, "{verified}");
    succeed(musterd(&["restore"]).arg(&file).arg("--data").arg(&restored));
    for data in [&data, &restored] {
        let dumped = read("dump", data);
        let positions: Vec<u64> =
            dumped.as_array().unwrap().iter().map(|record| record["position"].as_u64().unwrap()).collect();
        assert!(positions.is_sorted_by(|a, b| a < b), "in order, and each once");
        assert!(wanted.iter().all(|event| positions.contains(&event["position"].as_u64().unwrap())));
    }
    let server = serve(directory.path(), &restored, "");
    assert_eq!(events(&server, &["--severity", "warning"]), wanted, "after a restore");
}

/// The line on standard error about events from a position on.
fn musterctl_follow(server: &Musterd, from: u64) -> String {
    let mut follower = musterctl(&server.data, &["event", "follow", "--from", &from.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(follower.stderr.take().unwrap()).read_line(&mut line).unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    line
}

#[test]
fn nothing_is_kept_longer_when_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = serve(directory.path(), &data, "warnings_size = \"0B\"\n");
    let devices = server.enrol_many(DEVICES);
    let mut sender = Sender::connect(&server, &devices[0], 0);
    sender.send(Severity::Warning, "open", "door open for an hour", 1);
    drop(sender);
    flood(&server, &devices, 100, 2);
    assert_eq!(events(&server, &["--severity", "warning"]), [] as [Value; 0]);
    assert!(!data.join("warnings").exists());
    let said =
        String::from_utf8(server.run_ctl(&["event", "list", "--severity", "info", "--limit", "5000"]).stderr);
    assert!(said.unwrap().contains("there are no warnings from before that"));
}
