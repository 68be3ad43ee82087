//! A server in a process of its own, which can be killed.
#![allow(dead_code, reason = "each test uses its own part of it")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use muster::client::{Address, Client};
use muster::wire::api::{NewToken, Status};
use muster::wire::token::JoinToken;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Process {
    child: Child,
    /// Address at which it takes TCP and, on the same port, UDP.
    pub(crate) address: SocketAddr,
    socket: PathBuf,
}

impl Process {
    /// Starts it on a directory. `settings` is its configuration.
    pub(crate) fn start(directory: &Path, settings: &str) -> Self {
        let file = directory.join("musterd.toml");
        std::fs::write(&file, settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_musterd"))
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data")
            .arg(directory.join("data"))
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.split("devices connect to ").nth(1).unwrap().split(',').next().unwrap();
        let address = address.parse().unwrap();
        // Whatever it still prints must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, socket: directory.join("data/admin.sock") }
    }

    fn client(&self) -> Client {
        Client::new(Address { socket: self.socket.clone() }).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        self.client().status().unwrap()
    }

    /// `None` while it has no place for one more administrator.
    pub(crate) fn try_status(&self) -> Option<Status> {
        self.client().status().ok()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn token(&self, uses: u32) -> JoinToken {
        let new = NewToken { uses: Some(uses), ..NewToken::default() };
        self.client().create_token(&new).unwrap().token.parse().unwrap()
    }

    /// Its memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        1_024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
