//! The real server, agent and control command as processes, each on a directory of its own.
#![allow(dead_code, reason = "each test uses its own part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use muster::journal::{Item, Position, Reader};
use muster::machine::record;
use muster::wire::event::Event;
use serde_json::Value;

/// Time of anything before a test gives up. Generous: the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that does not outlive the test.
pub(crate) struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)], log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// kill -9
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGSTOP
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT
    pub(crate) fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// SIGHUP
    pub(crate) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.0.id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and the end that it leads to.
    pub(crate) fn end(mut self) -> std::process::ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.0.wait().unwrap()
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A UDP port that nobody has, below those that the system gives out by itself (ip(7)): it stays free between
/// two lives of an agent.
pub(crate) fn free_udp_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() * 41 % 12_000).unwrap();
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// A server and one device.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn new() -> Self {
        // The port stays free between the server's lives: nothing else asks for this one.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::at(address)
    }

    /// A device of a server that runs elsewhere.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), address }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn server(&self) -> Running {
        self.server_with(&[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn server_with(&self, environment: &[(&str, &str)]) -> Running {
        self.server_configured(&[], environment)
    }

    /// The same, with more arguments besides.
    pub(crate) fn server_configured(&self, more: &[&str], environment: &[(&str, &str)]) -> Running {
        let (data, address) = (self.text("server"), self.address.to_string());
        let mut arguments = vec!["run", "--data", &data, "--listen", &address, "--udp", "127.0.0.1:0"];
        arguments.extend(more);
        let mut server =
            Running::start(env!("CARGO_BIN_EXE_musterd"), &arguments, environment, &self.path("server.log"));
        eventually("the server answers", || {
            assert!(!server.ended(), "the server ended: {}", self.log("server.log"));
            self.ctl(&["status"]).status.success()
        });
        server
    }

    /// Starts the agent, and waits until it listens.
    pub(crate) fn agent_process(&self) -> Running {
        self.agent_process_with(&[])
    }

    /// The same, with these variables in its environment.
    pub(crate) fn agent_process_with(&self, environment: &[(&str, &str)]) -> Running {
        let mut agent = Running::start(
            env!("CARGO_BIN_EXE_muster-agent"),
            &["run", "--data", &self.text("agent")],
            environment,
            &self.path("agent.log"),
        );
        eventually("the agent answers", || {
            assert!(!agent.ended(), "the agent ended: {}", self.log("agent.log"));
            self.status()["running"] == true
        });
        agent
    }

    /// Starts a command of the agent on the device's directory, to be read from and killed on its way.
    pub(crate) fn agent_command(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_muster-agent"))
            .args(arguments)
            .args(["--data", &self.text("agent")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs a command of the agent on the device's directory.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        let data = self.text("agent");
        Command::new(env!("CARGO_BIN_EXE_muster-agent"))
            .args(arguments)
            .args(["--data", &data])
            .output()
            .unwrap()
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        let socket = format!("unix:{}", self.text("server/admin.sock"));
        Command::new(env!("CARGO_BIN_EXE_musterctl"))
            .args(["--server", &socket])
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap()
    }

    pub(crate) fn ctl_json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", error_of(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The output for a person.
    pub(crate) fn ctl_human(&self, arguments: &[&str]) -> String {
        let socket = format!("unix:{}", self.text("server/admin.sock"));
        let output = Command::new(env!("CARGO_BIN_EXE_musterctl"))
            .args(["--server", &socket])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", error_of(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        self.ctl_json(&["token", "create"])["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn enroll(&self, token: &str) -> Output {
        let address = self.address.to_string();
        self.agent(&["enroll", "--server", &address, "--token", token, "--name", "kiosk"])
    }

    pub(crate) fn emit(&self, severity: &str, message: &str) -> Output {
        self.agent(&["emit", "--application", "shop", "--severity", severity, "--kind", "test", message])
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&self.agent(&["status", "--json"]).stdout).unwrap_or(Value::Null)
    }

    /// Waits until the server has confirmed everything that the agent has given out.
    pub(crate) fn wait_until_confirmed(&self) {
        eventually("every event is confirmed", || {
            // A sync asked for by hand does not wait for the time after a failure.
            self.agent(&["sync"]);
            let spool = &self.status()["spool"];
            spool["acked_through"].is_u64() && spool["acked_through"] == spool["highest_sequence"]
        });
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

/// Sequence number and message of every event in the stopped server's journal, in its order.
pub(crate) fn stored(site: &Site) -> Vec<(u64, String)> {
    let reader = Reader::open(&site.path("server/journal")).unwrap();
    let mut records = reader.forward(Position(0));
    let mut stored = Vec::new();
    while let Some(item) = records.next().unwrap() {
        match item {
            Item::Record(view) => {
                let (epoch, body) = record::decode(view.record.payload).unwrap();
                // The server's own, such as a change of presence.
                if epoch.0 == 0 {
                    continue;
                }
                stored.push((view.record.sequence, Event::from_bytes(body).unwrap().message));
            }
            Item::Damage(damage) => panic!("{damage}"),
        }
    }
    stored
}

pub(crate) fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A local program: one JSON line an event, one JSON line back once it is durable.
pub(crate) struct Program(BufReader<UnixStream>);

impl Program {
    pub(crate) fn connect(site: &Site) -> Self {
        let stream = UnixStream::connect(site.path("agent/agent.sock")).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Emits a batch, and returns the sequence numbers that were promised.
    pub(crate) fn emit(&mut self, severity: &str, messages: &[String]) -> Vec<u64> {
        let mut lines = String::new();
        for message in messages {
            let event = serde_json::json!({
                "application": "shop", "severity": severity, "kind": "load", "message": message,
            });
            lines.push_str(&event.to_string());
            lines.push('\n');
        }
        self.0.get_mut().write_all(lines.as_bytes()).unwrap();
        let mut answer = String::new();
        messages
            .iter()
            .map(|_| {
                answer.clear();
                self.0.read_line(&mut answer).unwrap();
                let answer: Value = serde_json::from_str(&answer).unwrap();
                answer["sequence"].as_u64().unwrap_or_else(|| panic!("{answer}"))
            })
            .collect()
    }
}
