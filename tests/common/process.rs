//! The server as a process, and events that devices bring to it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use muster::wire::event::Event;
use muster::wire::id::Epoch;
use muster::wire::message::{EventItem, Events, ToAgent, ToServer};
use muster::wire::token::JoinToken;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Connection;

/// The history that the devices' numbers count in.
const SPOOL_EPOCH: Epoch = Epoch(5);

/// A command of musterd.
pub(crate) fn musterd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_musterd"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A musterd process. Killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// Kept open: it prints more than the first line.
    _out: BufReader<ChildStdout>,
    pub(crate) data: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts it with this configuration, which is written to `musterd.toml` in the directory.
    pub(crate) fn start(directory: &Path, data: &Path, configuration: &str) -> Self {
        let file = directory.join("musterd.toml");
        std::fs::write(&file, configuration).unwrap();
        let mut child = musterd(&["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args([Path::new("--config"), &file, Path::new("--data"), data])
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

    /// A command of musterctl.
    pub(crate) fn musterctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_musterctl"));
        command.arg("--server").arg(format!("unix:{}", self.data.join("admin.sock").display()));
        command.args(arguments);
        command
    }

    /// Runs one, which is to succeed.
    pub(crate) fn run_ctl(&self, arguments: &[&str]) -> Output {
        let output = self.musterctl(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Value {
        let output = self.run_ctl(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn token(&self, uses: usize) -> JoinToken {
        let created = self.ctl(&["token", "create", "--uses", &uses.to_string()]);
        created["token"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, and the end that it leads to.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
    }

    /// kill -9
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends events with their numbers, of a device that has given out those up to `highest`.
pub(crate) fn send_events(
    connection: &mut Connection,
    highest: u64,
    events: impl Iterator<Item = (u64, Event)>,
) {
    let bodies: Vec<_> = events.map(|(sequence, event)| (sequence, event.to_bytes().unwrap())).collect();
    let items = bodies.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
    connection.send(&ToServer::Events(Events {
        spool_epoch: SPOOL_EPOCH,
        highest,
        items,
        acknowledged: None,
        sent_through: None,
        begins_again: false,
    }));
}

/// Up to which number the events are durable, at least this one; `None`: the server has gone, or has too much
/// to do.
pub(crate) fn wait_for_acknowledgement(connection: &mut Connection, through: u64) -> Option<u64> {
    loop {
        match connection.receive() {
            Ok(ToAgent::Ack(ack)) if ack.through >= through => return Some(ack.through),
            Ok(ToAgent::Ack(_)) => {}
            Ok(ToAgent::Later(_)) | Err(_) => return None,
            Ok(other) => panic!("an acknowledgement was due, {other:?} came"),
        }
    }
}
