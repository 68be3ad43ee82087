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

use super::child::{ChildSetting, DRAIN, Serving};
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
            remove: directory.path().to_owned(),
        };
        let (child, input, serving) = spawn(&setting, directory.path())?;
        let (address, admin) = (serving.address, serving.admin);
        Ok(Self { child, input: Some(input), address, admin, directory, setting })
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
        let (child, input, _) = spawn(&self.setting, self.directory.path())?;
        (self.child, self.input) = (child, Some(input));
        Ok(())
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

fn spawn(setting: &ChildSetting, directory: &Path) -> Result<(Child, ChildStdin, Serving), Failure> {
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
        Some((input, serving)) => Ok((child, input, serving)),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failure("the server of --self did not start", directory))
        }
    }
}

/// Tells the server what it needs and waits until it serves.
fn speak(child: &mut Child, setting: &ChildSetting) -> Option<(ChildStdin, Serving)> {
    let mut input = child.stdin.take()?;
    let output = child.stdout.take()?;
    writeln!(input, "{}", serde_json::to_string(setting).ok()?).ok()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        // Nobody waits any more after the time is up.
        let _ = sender.send(read.ok().and_then(|_| serde_json::from_str::<Serving>(&line).ok()));
    });
    let serving = receiver.recv_timeout(Duration::from_secs(START_SECONDS_MAX)).ok().flatten()?;
    Some((input, serving))
}
