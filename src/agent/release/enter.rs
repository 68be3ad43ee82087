//! The first act of the program: to execute the release that is due in its own place.

use std::cell::Cell;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::rules::{Release, Releases};
use super::store::{ReleaseStore, hash_of};
use super::{INSTALLED, installed, watcher};
use crate::logging;
use crate::wire::id::ArtifactHash;

/// The file of this program, also when another one has its path by now (proc(5)).
const OWN: &str = "/proc/self/exe";

/// The program that this process has become.
#[derive(Debug)]
pub struct Entered {
    store: ReleaseStore,
    /// It is a release, which may have to prove itself.
    is_unproved: Cell<bool>,
}

/// The agent's places, as its configuration has them.
#[derive(Debug, Clone, Copy)]
pub struct Place<'c> {
    /// Data directory.
    pub data: &'c Path,
    /// Socket for local programs.
    pub socket: &'c Path,
    /// The server, above the one that it enrolled with.
    pub server: Option<&'c str>,
}

/// Executes the release that is due, with this process's arguments. Returns when there is none, or when this
/// is one.
#[must_use]
pub fn enter(agent: &Place<'_>) -> Entered {
    let store = ReleaseStore::new(agent.data);
    let entered = |is_release| Entered { store: store.clone(), is_unproved: Cell::new(is_release) };
    if !store.is_there() {
        return entered(false);
    }
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => {
            log::error!("releases of the agent are left alone: this program is not found: {error}");
            return entered(false);
        }
    };
    if store.slot_of(&own).is_some() {
        return entered(true);
    }
    let outcome = hash_of(Path::new(OWN))
        .map_err(|error| error.to_string())
        .and_then(|installed| execute_due(&store, installed, &own, agent));
    if let Err(error) = outcome {
        log::error!("the installed agent runs, and no release: {error}");
    }
    entered(false)
}

fn execute_due(
    store: &ReleaseStore,
    installed: ArtifactHash,
    own: &Path,
    agent: &Place<'_>,
) -> Result<(), String> {
    loop {
        // Held until execve(2), which closes it.
        let lock = store.lock().map_err(|error| error.to_string())?;
        let mut releases = lock.read()?;
        let before = releases.clone();
        let due = releases.start(installed);
        // A start that is not counted does not take place.
        if releases != before {
            lock.write(&releases)?;
        }
        let Some(release) = due else { return Ok(()) };
        let why = execute(store, &releases, &release, own, agent);
        log::error!("release {} of the agent is not executed: {why}", release.version);
        releases.is_broken(&release, &why);
        lock.write(&releases)?;
    }
}

/// Becomes the release; otherwise, why not.
fn execute(
    store: &ReleaseStore,
    releases: &Releases,
    release: &Release,
    own: &Path,
    agent: &Place<'_>,
) -> String {
    let program = store.program(release.slot);
    match hash_of(&program) {
        Ok(hash) if hash == release.hash => {}
        Ok(_) => return format!("{} was changed", program.display()),
        Err(error) => return format!("{}: {error}", program.display()),
    }
    if let Some(trial) = releases.tries(release.hash) {
        log::info!("release {} of the agent is on trial, start {}", release.version, trial.starts);
        if let Err(error) = watcher::start(agent, release.hash) {
            return format!("nobody would watch it: {error}");
        }
    }
    logging::flush();
    let error = Command::new(&program)
        .arg0("muster-agent")
        .args(std::env::args_os().skip(1))
        .env(INSTALLED, own)
        .exec();
    format!("{}: {error}", program.display())
}

/// Executes the installed program in the place of this one, with its arguments. Returns why it does not.
#[must_use]
pub fn start_anew() -> String {
    let Some(installed) = installed() else { return "the installed program is not found".to_owned() };
    logging::flush();
    let error = Command::new(&installed).arg0("muster-agent").args(std::env::args_os().skip(1)).exec();
    format!("{}: {error}", installed.display())
}

impl Entered {
    /// The agent has come in sync: a release that is on trial has proved itself.
    pub fn synced(&self) {
        if !self.is_unproved.get() {
            return;
        }
        match self.prove() {
            Ok(proved) => {
                self.is_unproved.set(false);
                if let Some(version) = proved {
                    log::info!("release {version} of the agent has proved itself");
                }
            }
            // The next sync is another chance.
            Err(error) => log::error!("that this release is in sync can't be written down: {error}"),
        }
    }

    /// Has the release on trial, if this is it, stay. Its version.
    fn prove(&self) -> Result<Option<String>, String> {
        let lock = self.store.lock().map_err(|error| error.to_string())?;
        let mut releases = lock.read()?;
        if releases.trial.is_none() {
            return Ok(None);
        }
        let own = hash_of(Path::new(OWN)).map_err(|error| error.to_string())?;
        if !releases.prove(own) {
            return Ok(None);
        }
        lock.write(&releases)?;
        Ok(releases.current.map(|current| current.version))
    }
}
