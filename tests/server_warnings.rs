//! Warnings of a real server outlive a flood of events without weight.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]
#![cfg(all(feature = "server", feature = "agent", feature = "ctl"))]

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use common::{Connection, Device, wait_for};
use muster::wire::event::{Event, Severity};
use muster::wire::id::Epoch;
use muster::wire::message::{EventItem, Events, ToAgent, ToServer};
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;
use serde_json::Value;

/// Events in one message.
const BATCH: u64 = 12;

/// Devices that send many.
const DEVICES: usize = 8;

/// The history that the devices' numbers count in.
const SPOOL_EPOCH: Epoch = Epoch(5);

/// A musterd process with the smallest journal. Killed when dropped.
struct Server {
    child: Child,
    /// Kept open: it prints more than the first line.
    _out: BufReader<ChildStdout>,
    data: PathBuf,
    address: SocketAddr,
}

fn configured(directory: &Path, more: &str) -> PathBuf {
    let file = directory.join("musterd.toml");
    let text = format!("[journal]\nsegment_size = \"1MiB\"\nretention_size = \"4MiB\"\n{more}");
    std::fs::write(&file, text).unwrap();
    file
}

impl Server {
    fn start(directory: &Path, data: &Path, more: &str) -> Self {
        let mut child = musterd(&["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .arg("--config")
            .arg(configured(directory, more))
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first_line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut first_line).unwrap();
        let address = first_line.split("devices connect to ").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.unwrap_or_else(|| panic!("it did not start: '{first_line}'")).parse().unwrap();
        Self { child, _out: out, data: data.to_owned(), address }
    }

    fn run_ctl(&self, arguments: &[&str]) -> Output {
        let server = format!("unix:{}", self.data.join("admin.sock").display());
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_musterctl"));
        let output = ctl.args(["--server", &server]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    fn ctl(&self, arguments: &[&str]) -> Value {
        let output = self.run_ctl(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn enrol(&self, name: &str) -> Device {
        let created = self.ctl(&["token", "create"]);
        let token: JoinToken = created["token"].as_str().unwrap().parse().unwrap();
        Device::enrol(self.address, &token, name).unwrap()
    }

    /// Those of the devices, oldest first.
    fn events(&self, arguments: &[&str]) -> Vec<Value> {
        let list = self.ctl(&[&["event", "list", "--limit", "500"], arguments].concat());
        let events = list.as_array().unwrap().iter().filter(|event| event["application"] == "door");
        events.cloned().collect()
    }

    fn oldest_segment(&self) -> u64 {
        let files = std::fs::read_dir(self.data.join("journal")).unwrap();
        let names = files.filter_map(|file| file.unwrap().file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".journal")?.parse().ok()).min().unwrap()
    }

    fn stop(mut self) {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn musterd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_musterd"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A device that sends events and waits until they are stored.
struct Sender<'d> {
    device: &'d Device,
    address: SocketAddr,
    connection: Connection,
    sequence: u64,
}

impl<'d> Sender<'d> {
    fn connect(server: &Server, device: &'d Device, sequence: u64) -> Self {
        let connection = Connection::open(server.address, &device.fresh_tls());
        Self { device, address: server.address, connection, sequence }
    }

    fn send(&mut self, severity: Severity, kind: &str, message: &str, count: u64) {
        let body = |sequence: u64| {
            let event = Event {
                severity,
                application: "door".into(),
                kind: kind.into(),
                message: message.into(),
                occurred_at: WallTime(1_700_000_000_000 + sequence),
                fields: Vec::new(),
            };
            (sequence, event.to_bytes().unwrap())
        };
        let highest = self.sequence + count;
        let bodies: Vec<_> = (self.sequence + 1..=highest).map(body).collect();
        wait_for("events to be stored", || {
            let items =
                bodies.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
            let events = Events {
                spool_epoch: SPOOL_EPOCH,
                highest,
                items,
                acknowledged: None,
                sent_through: None,
                begins_again: false,
            };
            self.connection.send(&ToServer::Events(events));
            loop {
                match self.connection.receive() {
                    Ok(ToAgent::Ack(ack)) if ack.through >= highest => return Some(()),
                    Ok(ToAgent::Ack(_)) => {}
                    // The server is behind.
                    _ => {
                        self.connection = Connection::open(self.address, &self.device.fresh_tls());
                        return None;
                    }
                }
            }
        });
        self.sequence = highest;
    }
}

/// Events without weight from many devices, until `segments` more segments were deleted.
fn flood(server: &Server, devices: &[Device], sequence: u64, segments: u64) {
    let mut senders: Vec<_> =
        devices.iter().map(|device| Sender::connect(server, device, sequence)).collect();
    let long = "nothing happened ".repeat(200);
    let until = server.oldest_segment() + (segments << 20);
    wait_for("the flood", || {
        for sender in &mut senders {
            for _ in 0..4 {
                sender.send(Severity::Info, "idle", &long, BATCH);
            }
        }
        (server.oldest_segment() >= until).then_some(())
    });
}

#[test]
fn a_flood_of_info_events_does_not_wash_warnings_away() {
    let directory = tempfile::tempdir().unwrap();
    let (data, restored) = (directory.path().join("data"), directory.path().join("restored"));
    let server = Server::start(directory.path(), &data, "");
    let honest = server.enrol("kiosk-1");
    let hostile: Vec<Device> = (0..DEVICES).map(|number| server.enrol(&format!("noise-{number}"))).collect();
    let mut honest = Sender::connect(&server, &honest, 0);
    honest.send(Severity::Info, "open", "door opened", 1);
    honest.send(Severity::Warning, "open", "door open for an hour", 1);
    honest.send(Severity::Critical, "force", "door was forced", 1);
    let before = server.events(&[]);
    assert_eq!(before.len(), 3);
    let wanted: Vec<Value> = before[1..].to_vec();
    assert!(!data.join("warnings").exists(), "it costs nothing before it is needed");

    flood(&server, &hostile, 0, 6);
    assert_eq!(server.events(&["--severity", "warning"]), wanted, "as they were: position, time, device");
    assert_eq!(server.events(&["--device", "kiosk-1"]), wanted, "info events go");
    assert_eq!(server.events(&["--severity", "critical"]), wanted[1..]);
    assert_eq!(server.events(&["--severity", "warning", "--device", "noise-2"]), [] as [Value; 0]);
    let since = wanted[1]["received_at"].as_str().unwrap();
    let later = server.events(&["--severity", "warning", "--since", "2200-01-01T00:00:00Z"]);
    assert_eq!(
        (server.events(&["--severity", "critical", "--since", since]), later),
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
    let backup = || {
        let made = musterd(&["backup"]).arg(&file).arg("--data").arg(&data).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap()
    };
    server.stop();
    let said = backup();
    assert!(said.contains("of a stopped server") && !said.contains(" 0 kept warnings"), "{said}");
    let server = Server::start(directory.path(), &data, "");
    assert_eq!(server.events(&["--severity", "warning"]), wanted, "after a restart");
    let said = backup();
    assert!(said.contains("of a running server") && !said.contains(" 0 kept warnings"), "{said}");
    flood(&server, &hostile, 1_000_000, 2);
    assert_eq!(server.events(&["--severity", "warning"]), wanted, "and more");
    server.stop();

    let read = |what: &str, data: &Path| {
        let mut read = musterd(&["journal", what, "--json", "--data"]);
        let output = read.arg(data).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let verified = read("verify", &data);
    assert!(verified["warnings"]["records"].as_u64().unwrap() >= 2, "{verified}");
    let done = musterd(&["restore"]).arg(&file).arg("--data").arg(&restored).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    for data in [&data, &restored] {
        let dumped = read("dump", data);
        let positions: Vec<u64> =
            dumped.as_array().unwrap().iter().map(|record| record["position"].as_u64().unwrap()).collect();
        assert!(positions.is_sorted_by(|a, b| a < b), "in order, and each once");
        assert!(wanted.iter().all(|event| positions.contains(&event["position"].as_u64().unwrap())));
    }
    let server = Server::start(directory.path(), &restored, "");
    assert_eq!(server.events(&["--severity", "warning"]), wanted, "after a restore");
}

/// The line on standard error about events from a position on.
fn musterctl_follow(server: &Server, from: u64) -> String {
    let address = format!("unix:{}", server.data.join("admin.sock").display());
    let mut follower = Command::new(env!("CARGO_BIN_EXE_musterctl"))
        .args(["--server", &address, "event", "follow", "--from", &from.to_string()])
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
    let server = Server::start(directory.path(), &data, "warnings_size = \"0B\"\n");
    let devices: Vec<Device> = (0..DEVICES).map(|number| server.enrol(&format!("kiosk-{number}"))).collect();
    let mut sender = Sender::connect(&server, &devices[0], 0);
    sender.send(Severity::Warning, "open", "door open for an hour", 1);
    drop(sender);
    flood(&server, &devices, 100, 2);
    assert_eq!(server.events(&["--severity", "warning"]), [] as [Value; 0]);
    assert!(!data.join("warnings").exists());
    let said =
        String::from_utf8(server.run_ctl(&["event", "list", "--severity", "info", "--limit", "5000"]).stderr);
    assert!(said.unwrap().contains("there are no warnings from before that"));
}
