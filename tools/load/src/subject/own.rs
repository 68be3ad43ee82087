//! The server that the tool starts for itself, kills and starts again.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use muster::client::{Address, Client};

use super::child::{ChildSetting, DRAIN, Said, Serving};
use super::directory::Scratch;
use crate::failure::Failure;

/// Time of the server to start: a large database is read.
const START_SECONDS_MAX: u64 = 60;

/// Time of it to end in order.
const DRAIN_SECONDS_MAX: u64 = 60;

/// Lines of its log that are shown when it failed.
const LOG_LINES_SHOWN: usize = 3;

/// A server in a process of its own, on loopback, in a directory that is removed with it.
pub(crate) struct OwnServer {
    child: Child,
    input: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: PathBuf,
    pub(crate) directory: Scratch,
    setting: ChildSetting,
}

impl OwnServer {
    /// Starts one in this directory, which may hold the data of an earlier one.
    pub(crate) fn start(directory: Scratch, reactors: Option<usize>) -> Result<Self, Failure> {
        let setting = ChildSetting {
            data: directory.path().join("data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            reactors,
            waits: false,
            remove: directory.path().to_owned(),
        };
        let started = Started::spawn(&setting, directory.path())?;
        let Serving { address, admin } = started.serving(directory.path())?;
        let Started { child, input, .. } = started;
        Ok(Self { child, input: Some(input), address, admin, directory, setting })
    }

    /// Address of a standby: another one of loopback (RFC 1122 section 3.2.1.3), as if it were another
    /// machine.
    pub(crate) fn standby_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 2], self.address.port()))
    }

    /// Starts a server that waits until this one is gone. It waits by now.
    pub(crate) fn start_standby(&self) -> Result<Started, Failure> {
        let setting = ChildSetting { listen: self.standby_address(), waits: true, ..self.setting.clone() };
        let standby = Started::spawn(&setting, self.directory.path())?;
        match standby.said.recv_timeout(Duration::from_secs(START_SECONDS_MAX)) {
            Ok(Said::Waits) => Ok(standby),
            _ => Err(self.failure("the standby does not wait")),
        }
    }

    /// The one that was killed is replaced by its standby, which serves by now.
    pub(crate) fn take_over(&mut self, standby: Started) -> Result<(), Failure> {
        standby.serving(self.directory.path())?;
        (self.child, self.input) = (standby.child, Some(standby.input));
        Ok(())
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.setting.data
    }

    /// A connection to its administration.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(Address::Socket(self.admin.clone())).map_err(Failure::refused)
    }

    /// Ends it without a warning (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.input = None;
    }

    /// Ends it in order.
    pub(crate) fn drain(&mut self) -> Result<(), Failure> {
        if let Some(mut input) = self.input.take() {
            writeln!(input, "{DRAIN}").map_err(Failure::when("tell the server to end"))?;
        }
        let until = Instant::now() + Duration::from_secs(DRAIN_SECONDS_MAX);
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return match status.success() {
                    true => Ok(()),
                    false => Err(self.failure("the server did not end well")),
                };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(self.failure("the server does not end"))
    }

    /// Starts it again, where it was, on what it has stored.
    pub(crate) fn start_again(&mut self) -> Result<(), Failure> {
        self.setting.listen = self.address;
        let started = Started::spawn(&self.setting, self.directory.path())?;
        self.take_over(started)
    }

    /// Whether it has ended though nobody told it to.
    pub(crate) fn has_died(&mut self) -> bool {
        self.input.is_some() && matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// A failure, with the last lines of its log.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        failure(what, self.directory.path())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

fn failure(what: &str, directory: &Path) -> Failure {
    let log = std::fs::read_to_string(log_file(directory)).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join(" / ");
    match last.is_empty() {
        true => Failure::refused(what),
        false => Failure::refused(format!("{what}: {last}")),
    }
}

/// A server that was started, and what it says.
pub(crate) struct Started {
    child: Child,
    input: ChildStdin,
    said: mpsc::Receiver<Said>,
}

impl Started {
    fn spawn(setting: &ChildSetting, directory: &Path) -> Result<Self, Failure> {
        let log = File::options().create(true).append(true).open(log_file(directory));
        let log = log.map_err(Failure::when("write the server's log"))?;
        let program = std::env::current_exe().map_err(Failure::when("find this program"))?;
        let mut child = Command::new(program)
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C at the terminal is for the tool, which ends its server itself.
            .process_group(0)
            .spawn()
            .map_err(Failure::when("start a server of this program"))?;
        match speak(&mut child, setting) {
            Some((input, said)) => Ok(Self { child, input, said }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(not_started(directory))
            }
        }
    }

    /// Waits until it serves.
    fn serving(&self, directory: &Path) -> Result<Serving, Failure> {
        let until = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left).map_err(|_| not_started(directory))? {
                Said::Serves(serving) => return Ok(serving),
                Said::Waits => {}
            }
        }
    }
}

fn not_started(directory: &Path) -> Failure {
    failure("the server of --self did not start", directory)
}

/// Tells the server what it needs. Its lines come from a thread.
fn speak(child: &mut Child, setting: &ChildSetting) -> Option<(ChildStdin, mpsc::Receiver<Said>)> {
    let mut input = child.stdin.take()?;
    let output = child.stdout.take()?;
    writeln!(input, "{}", serde_json::to_string(setting).ok()?).ok()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let Ok(said) = serde_json::from_str::<Said>(&line) else { return };
            // Nobody waits for a line any more: the pipe is read until its end all the same.
            let _ = sender.send(said);
        }
    });
    Some((input, receiver))
}
