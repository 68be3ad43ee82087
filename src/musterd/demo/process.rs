//! The processes of the demo: this very program, started as a server and as an agent.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::Failure;

/// Time of anything in the demo before it counts as failed.
const TIMEOUT_SECONDS: u64 = 30;

/// Interval at which a condition is looked at. The demo's measurements are exact to about this.
const LOOK_MILLISECONDS: u64 = 2;

/// A child process whose output goes to a file. It is ended when this value goes.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    what: &'static str,
}

impl Process {
    /// Starts this program with `arguments`; what it prints goes to the file `log`.
    pub(super) fn start(what: &'static str, arguments: &[&str], log: &Path) -> Result<Self, Failure> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.map_err(|error| Failure::new(format!("{}: {error}", log.display())))?;
        let errors =
            output.try_clone().map_err(|error| Failure::new(format!("{}: {error}", log.display())))?;
        let child = this_program()?
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| Failure::new(format!("can't start the {what}: {error}")))?;
        Ok(Self { child, log: log.to_owned(), what })
    }

    /// Fails, with the last lines that it printed, when the process has ended.
    pub(super) fn must_run(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Failure::new(format!("the {} ended: {status}\n{}", self.what, self.last_lines())))
            }
            Err(error) => Err(Failure::new(format!("the {}: {error}", self.what))),
        }
    }

    /// Ends the process as a power cut would: SIGKILL, no chance to tidy up.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|error| Failure::new(format!("can't kill the {}: {error}", self.what)))
    }

    /// Asks the process to end (SIGTERM), waits, and fails when it did not exit with 0.
    pub(super) fn stop(mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let what = self.what;
        let status = wait_for(&format!("the end of the {what}"), || {
            self.child.try_wait().map_err(|error| Failure::new(format!("the {what}: {error}")))
        })?;
        if !status.success() {
            return Err(Failure::new(format!("the {what} ended: {status}\n{}", self.last_lines())));
        }
        Ok(started.elapsed())
    }

    /// Resident memory of the process (`VmRSS`, proc_pid_status(5)); `None` where the system does not tell.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    fn last_lines(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        if read.is_err() {
            return format!("(nothing to read in {})", self.log.display());
        }
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is as good: there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs this program with `arguments` to its end.
pub(super) fn run(arguments: &[&str]) -> Result<(Output, Duration), Failure> {
    let started = Instant::now();
    let output = this_program()?.args(arguments).stdin(Stdio::null()).output();
    let output =
        output.map_err(|error| Failure::new(format!("can't run {}: {error}", arguments.join(" "))))?;
    Ok((output, started.elapsed()))
}

/// As [`run`], and fails with what the program printed when it did not succeed.
pub(super) fn run_well(arguments: &[&str]) -> Result<(Output, Duration), Failure> {
    let (output, took) = run(arguments)?;
    if output.status.success() {
        return Ok((output, took));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("'{}' ended: {}\n{}", arguments.join(" "), output.status, errors.trim())))
}

/// Looks until `look` finds something, with a bound on timeout.
pub(super) fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + Duration::from_secs(TIMEOUT_SECONDS);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!("waited {TIMEOUT_SECONDS} seconds for {what}, in vain")));
        }
        std::thread::sleep(Duration::from_millis(LOOK_MILLISECONDS));
    }
}

/// A TCP port of the loopback address that is free now.
pub(super) fn free_port() -> Result<u16, Failure> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(format!("no free port on 127.0.0.1: {error}")))
}

/// A UDP port of the loopback address that is free now.
pub(super) fn free_udp_port() -> Result<u16, Failure> {
    std::net::UdpSocket::bind(("127.0.0.1", 0))
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port())
        .map_err(|error| Failure::new(format!("no free UDP port on 127.0.0.1: {error}")))
}

fn this_program() -> Result<Command, Failure> {
    let path: io::Result<PathBuf> = std::env::current_exe();
    path.map(Command::new)
        .map_err(|error| Failure::new(format!("can't find this program's own file: {error}")))
}
