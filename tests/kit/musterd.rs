//! `musterd` as a process, with what an administrator asks of it.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use muster::client::{Address, Client};
use muster::wire::api::{NewToken, Status};
use muster::wire::token::JoinToken;
use serde_json::Value;

use super::{Device, Running, musterctl, musterd};

/// Killed when dropped.
pub(crate) struct Musterd {
    process: Running,
    pub(crate) data: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Deref for Musterd {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.process
    }
}

impl From<&Musterd> for SocketAddr {
    fn from(server: &Musterd) -> Self {
        server.address
    }
}

impl Musterd {
    /// Starts it with this configuration, on the directory's `data`.
    pub(crate) fn start(directory: &Path, configuration: &str) -> Self {
        Self::start_on(directory, &directory.join("data"), configuration)
    }

    /// Starts it with this configuration, which is written to `musterd.toml` in the directory.
    pub(crate) fn start_on(directory: &Path, data: &Path, configuration: &str) -> Self {
        let log = directory.join("musterd.log");
        Self::of(Running::start(&mut Self::command(directory, data, configuration), &log), data)
    }

    /// The same, with a standard error of its own.
    pub(crate) fn start_with(
        directory: &Path,
        environment: &[(&str, &str)],
        error: impl Into<Stdio>,
    ) -> Self {
        let data = directory.join("data");
        let mut command = Self::command(directory, &data, "");
        command.envs(environment.iter().copied());
        Self::of(Running::start_with(&mut command, &directory.join("musterd.log"), error), &data)
    }

    /// The credentials that systemd would have given to its unit are the files in `credentials`.
    fn command(directory: &Path, data: &Path, configuration: &str) -> Command {
        let file = directory.join("musterd.toml");
        std::fs::write(&file, configuration).unwrap();
        let mut command = musterd(&["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
        command.args([Path::new("--config"), &file, Path::new("--data"), data]);
        command.env("CREDENTIALS_DIRECTORY", directory.join("credentials"));
        command
    }

    /// One that was just started: waits until it serves.
    pub(crate) fn of(mut process: Running, data: &Path) -> Self {
        let line = process.wait_for_line("devices connect to ");
        let address = line.split("devices connect to ").nth(1).unwrap().split([',', '\n']).next().unwrap();
        Self { process, data: data.to_owned(), address: address.parse().unwrap() }
    }

    fn client(&self) -> Client {
        Client::new(Address::Socket(self.data.join("admin.sock"))).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        self.client().status().unwrap()
    }

    /// `None` while it has no place for one more administrator.
    pub(crate) fn try_status(&self) -> Option<Status> {
        self.client().status().ok()
    }

    /// Runs a command of musterctl, which is to succeed.
    pub(crate) fn run_ctl(&self, arguments: &[&str]) -> Output {
        let output = musterctl(&self.data, arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Value {
        let output = self.run_ctl(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn token(&self, uses: u32) -> JoinToken {
        let new = NewToken { uses: Some(uses), ..NewToken::default() };
        self.client().create_token(&new).unwrap().token.parse().unwrap()
    }

    pub(crate) fn enrol(&self, name: &str) -> Device {
        Device::enrol(self, &self.token(1), name).unwrap()
    }

    /// Enrols `kiosk-0` and so on.
    pub(crate) fn enrol_many(&self, count: usize) -> Vec<Device> {
        Device::enrol_many(self.address, &self.token(u32::try_from(count).unwrap()), count)
    }

    /// SIGTERM, and the good end that it leads to; what it wrote.
    pub(crate) fn stop(mut self) -> String {
        self.process.signal(rustix::process::Signal::TERM);
        let status = self.process.wait();
        let said = self.process.said();
        assert!(status.success(), "{status:?}: {said}");
        said
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }

    pub(crate) fn process(&mut self) -> &mut Running {
        &mut self.process
    }
}
