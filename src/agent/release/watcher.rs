//! The watcher of a release on trial: the installed program once more, which the release can't harm. It ends
//! with the trial, or with the agent's process; the next start has a watcher of its own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::enter::Place;
use super::process::Process;
use super::rules::Release;
use super::store::ReleaseStore;
use crate::agent::identity::Identity;
use crate::agent::local::client::LocalClient;
use crate::agent::managed::own::OwnSettings;
use crate::agent::talk::{Talk, probed, tls_of};
use crate::logging;
use crate::wire::id::ArtifactHash;
use crate::wire::message::{Probe, ToServer};

/// The program's hidden command that watches a release.
pub const COMMAND: &str = "watch-release";

/// Interval at which the trial is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time between two looks whether the server can be reached, once a release is out of time.
const REACH_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Time of each step on the way to the server, and of the agent to start anew.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Begins to watch a release that this very process is about to become.
pub(super) fn start(agent: &Place<'_>, release: ArtifactHash) -> io::Result<()> {
    // It works in another directory.
    let places = [std::path::absolute(agent.data)?, std::path::absolute(agent.socket)?];
    let status = Command::new("/proc/self/exe")
        .arg0("muster-agent")
        .arg(COMMAND)
        .args(places)
        .arg(agent.server.unwrap_or_default())
        .args([release.to_string(), std::process::id().to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// Runs the hidden command with what follows it. It goes on in a process of nobody's, so that the release
/// has no child that it does not know.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let [data, socket, server, release, process, rest @ ..] = arguments else {
        eprintln!("muster-agent: {COMMAND} is for the agent alone");
        return ExitCode::from(2);
    };
    if rest.is_empty() {
        let begun = Command::new("/proc/self/exe")
            .arg0("muster-agent")
            .arg(COMMAND)
            .args(arguments)
            .arg("alone")
            .stdin(Stdio::null())
            .spawn();
        return if begun.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let _ = rustix::process::setsid();
    let _ = logging::start(log::LevelFilter::Info);
    let text = |argument: &OsString| argument.to_string_lossy().into_owned();
    let (Ok(release), Ok(process)) = (text(release).parse(), text(process).parse()) else {
        return ExitCode::from(2);
    };
    let watcher = Watcher {
        store: ReleaseStore::new(Path::new(data)),
        data: PathBuf::from(data),
        socket: PathBuf::from(socket),
        server: Some(text(server)).filter(|server| !server.is_empty()),
        release,
        process,
    };
    if let Err(error) = watcher.watch() {
        log::error!("the release on trial is no longer watched: {error}");
    }
    logging::flush();
    ExitCode::SUCCESS
}

struct Watcher {
    store: ReleaseStore,
    data: PathBuf,
    socket: PathBuf,
    /// The server of the device's configuration, above the one that it enrolled with.
    server: Option<String>,
    release: ArtifactHash,
    /// The agent's process, which was the installed program and becomes the release.
    process: u32,
}

impl Watcher {
    fn watch(&self) -> Result<(), String> {
        let id = i32::try_from(self.process).ok().and_then(Pid::from_raw).ok_or("no such process")?;
        let agent = Process::open(id).map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let mut reach_at = begun;
        loop {
            if agent.has_ended(LOOK_INTERVAL).map_err(|error| error.to_string())? {
                return Ok(());
            }
            let lock = self.store.lock().map_err(|error| error.to_string())?;
            let releases = lock.read()?;
            let Some(trial) = releases.tries(self.release) else {
                drop(lock);
                return match &releases.current {
                    Some(current) if current.hash == self.release => Ok(()),
                    current => self.end(&agent, current.as_ref()),
                };
            };
            drop(lock);
            let within = Duration::from_secs(u64::from(trial.within_seconds));
            if begun.elapsed() < within || Instant::now() < reach_at {
                continue;
            }
            match self.reach() {
                Ok(()) => {
                    let reason = format!(
                        "it did not come in sync within {} s, while the server could be reached",
                        trial.within_seconds
                    );
                    let lock = self.store.lock().map_err(|error| error.to_string())?;
                    lock.change(|releases| {
                        releases.tries(self.release).is_some() && releases.take_back(&reason)
                    })?;
                }
                Err(why) => {
                    log::info!("the release on trial has more time, as the server can't be reached: {why}");
                    reach_at = Instant::now() + within.min(REACH_INTERVAL_MAX);
                }
            }
        }
    }

    /// Whether the server can be reached by this device, and serves it.
    fn reach(&self) -> Result<(), String> {
        let identity = Identity::read_enrolled(&self.data).map_err(|error| error.to_string())?;
        let servers = OwnSettings::read(&self.data).servers(self.server.as_deref(), &identity);
        let addresses = servers.map_err(|error| error.to_string())?.resolve()?;
        let tls = tls_of(&identity).map_err(|error| error.to_string())?;
        let mut talk = Talk::with_any(&addresses, &tls, STEP_TIMEOUT, STEP_TIMEOUT)
            .map_err(|error| error.to_string())?;
        let deadline = Instant::now() + STEP_TIMEOUT;
        let answer = talk.ask(&ToServer::Probe(Probe { udp_port: 0 }), deadline, probed);
        talk.close();
        answer.map(drop).map_err(|error| error.to_string())
    }

    /// Has the agent start anew: it is asked, and ended when it does not.
    fn end(&self, agent: &Process, current: Option<&Release>) -> Result<(), String> {
        let installed = std::fs::read_link("/proc/self/exe").ok();
        let is_back = || {
            let program = agent.program();
            let slot = program.as_deref().and_then(|program| self.store.slot_of(program));
            program == installed || (slot.is_some() && slot == current.map(|release| release.slot))
        };
        if is_back() {
            return Ok(());
        }
        let asked = LocalClient::connect(&self.socket, STEP_TIMEOUT)
            .and_then(|mut agent| agent.ask(&serde_json::json!({ "command": "restart" })));
        let deadline = Instant::now() + STEP_TIMEOUT;
        while asked.is_ok() && Instant::now() < deadline {
            if agent.has_ended(LOOK_INTERVAL / 10).map_err(|error| error.to_string())? || is_back() {
                return Ok(());
            }
        }
        if let Err(error) = asked {
            log::warn!("the release that was taken back does not answer: {error}");
        }
        log::warn!("the release that was taken back is killed");
        agent.kill().map_err(|error| error.to_string())
    }
}
