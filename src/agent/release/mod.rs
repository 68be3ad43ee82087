//! The agent replaces itself: releases in the data directory, beside the program that was installed.
//!
//! The installed program is never touched. It is what the service manager starts; as its first act it looks
//! whether a release is there, and executes it in its own place (execve(2)). Three processes have a part:
//!
//! | process | code | does |
//! |---|---|---|
//! | a run of the task `upgrade` ([`apply`]) | the agent that runs | judges a release, puts it into the free slot, has the agent start anew, waits for the outcome and reports it |
//! | the installed program ([`enter`]) | installed | counts the start of a release on trial, and executes it |
//! | the watcher ([`watcher`]) | installed | takes back a release that does not come in sync though the server can be reached, and ends it |
//!
//! A release on trial stays once it has come in sync. It is taken back after three starts without, or by the
//! watcher, or when its run is cancelled or out of time; then the agent that had run before is back. A
//! program that is installed by hand wins over all releases.
//!
//! A program that a package manager has installed is replaced by that alone, and an agent within another
//! program, or on another system than Linux, by nothing of this.

pub mod apply;
pub mod enter;
mod process;
pub mod rules;
pub mod store;
pub mod watcher;

use std::path::{Path, PathBuf};

use self::store::ReleaseStore;
use crate::agent::local::protocol::ReleaseStatus;
use crate::agent::packaged;

/// The environment variable by which a release knows the installed program.
const INSTALLED: &str = "MUSTER_AGENT_INSTALLED";

/// The architecture and system that a release of this agent is signed for.
#[must_use]
pub fn architecture() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The installed program: this one, unless it is a release.
fn installed() -> Option<PathBuf> {
    let named = std::env::var_os(INSTALLED).map(PathBuf::from);
    named.or_else(|| {
        let own = std::env::current_exe().ok()?;
        // The suffix of a file that was replaced (proc(5)).
        let text = own.to_string_lossy();
        Some(text.strip_suffix(" (deleted)").map_or_else(|| own.clone(), PathBuf::from))
    })
}

/// The releases of a device, for people; `None`: there never was one.
#[must_use]
pub fn status(data: &Path) -> Option<ReleaseStatus> {
    let store = ReleaseStore::new(data);
    let releases = store.is_there().then(|| store.lock().ok()?.read().ok()).flatten()?;
    Some(ReleaseStatus {
        version: releases.current.map(|release| release.version),
        on_trial: releases.trial.map(|trial| trial.release.version),
        taken_back: releases.failed.map(|failed| failed.reason),
    })
}

/// Why this agent does not replace itself, if it does not.
#[must_use]
pub fn refusal() -> Option<String> {
    let Some(installed) = installed() else { return Some("the agent's program is not found".to_owned()) };
    if !cfg!(target_os = "linux") {
        return Some("the agent replaces itself on Linux alone".to_owned());
    }
    if installed.file_name().is_none_or(|name| name != "muster-agent") {
        return Some(format!("{} is no agent alone", installed.display()));
    }
    // One in /usr/local, or somewhere else, is no package's.
    if !installed.starts_with("/usr/bin") {
        return None;
    }
    match packaged::mark(Path::new("/")) {
        Ok(mark) => mark.map(|mark| {
            format!("a package has the agent here ({}): the package manager upgrades it", mark.display())
        }),
        Err(error) => Some(error),
    }
}
