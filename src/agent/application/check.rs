//! Whether a managed application does its work, and the version that it says of itself.

use std::path::Path;
use std::time::Duration;

use super::adapter::Program;
use super::definition::{Definition, Probe};
use crate::agent::open;
use crate::agent::process::{self, ProcessError};
use crate::wire::bounded::clip;
use crate::wire::inventory::Application;
use crate::wire::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::wire::section::{ApplicationCondition, Condition};
use crate::wire::time::WallTime;

/// The agent's name among the applications.
pub const AGENT_NAME: &str = "muster-agent";

/// Time of systemctl: systemd answers in milliseconds unless it is stuck.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_secs(10);

/// Most that a check, or a program of its version, may say.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Most of a pid file that is read.
const PID_BYTES_MAX: u64 = 32;

/// Observation of one application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whether it does its work.
    pub condition: Condition,
    /// Why, when it does not; empty when there is nothing to say.
    pub detail: String,
    /// Its version, as it says; `None`: its package says that. Empty when it is unknown.
    pub version: Option<String>,
}

impl Observed {
    /// One of which the version is not known.
    pub fn new(condition: Condition, detail: impl Into<String>) -> Self {
        let detail = clip(&detail.into(), TEXT_BYTES_MAX).to_owned();
        Self { condition, detail, version: None }
    }
}

/// Looks at one application. May take as long as its check may: not for the loop's thread.
#[must_use]
pub fn check(definition: &Definition) -> Observed {
    let observed = match &definition.probe {
        Probe::SystemdUnit(unit) => systemd_unit(unit),
        Probe::PidFile(file) => pid_file(file),
        Probe::Command(program) => command(program),
        Probe::Embedded(probe) => return probe.observe(),
    };
    Observed { version: definition.version.as_ref().map(version), ..observed }
}

/// systemctl(1): `show` prints properties as `NAME=VALUE`.
fn systemd_unit(unit: &str) -> Observed {
    let words = ["systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", "--", unit];
    match process::run(&words, SYSTEMCTL_TIMEOUT, OUTPUT_BYTES_MAX) {
        Ok(answer) if answer.code == Some(0) => judge_unit(&String::from_utf8_lossy(&answer.output)),
        Ok(_) => Observed::new(Condition::Unknown, "systemctl could not ask systemd (does it run here?)"),
        Err(error) => Observed::new(Condition::Unknown, error.to_string()),
    }
}

/// Judges the properties of a unit.
pub(super) fn judge_unit(properties: &str) -> Observed {
    let property = |name: &str| {
        let line = properties.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default()
    };
    if property("LoadState") == "not-found" {
        return Observed::new(Condition::NotInstalled, "systemd knows no such unit");
    }
    match property("ActiveState") {
        "active" | "reloading" | "activating" | "refreshing" => Observed::new(Condition::Running, ""),
        "inactive" | "deactivating" | "maintenance" => Observed::new(Condition::Stopped, ""),
        "failed" => Observed::new(Condition::Failed, format!("systemd says: {}", property("Result"))),
        other => Observed::new(Condition::Unknown, format!("systemd says '{other}'")),
    }
}

/// The file holds the number of a process, and that process is there.
fn pid_file(path: &Path) -> Observed {
    let text = match open::if_there(open::beginning(path, PID_BYTES_MAX)) {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(None) => return Observed::new(Condition::Stopped, format!("{} is not there", path.display())),
        Err(error) => return Observed::new(Condition::Unknown, format!("{}: {error}", path.display())),
    };
    let process =
        text.trim().parse().ok().filter(|number| *number > 0).and_then(rustix::process::Pid::from_raw);
    let Some(process) = process else {
        return Observed::new(Condition::Unknown, format!("{} holds no process number", path.display()));
    };
    match rustix::process::test_kill_process(process) {
        // Not ours to signal, but there.
        Ok(()) | Err(rustix::io::Errno::PERM) => Observed::new(Condition::Running, ""),
        Err(_) => {
            let detail = format!("process {} of {} is gone", process.as_raw_nonzero(), path.display());
            Observed::new(Condition::Failed, detail)
        }
    }
}

/// The exit codes of an init script's `status` (Linux Standard Base Core 5.0, section 22.2): 0 runs, 3 does
/// not, 4 can't be told; others failed. The last line that it wrote says why.
fn command(program: &Program) -> Observed {
    let answer = match process::run(&program.arguments, program.timeout, OUTPUT_BYTES_MAX) {
        Ok(answer) => answer,
        Err(error @ ProcessError::NotThere(_)) => {
            return Observed::new(Condition::NotInstalled, error.to_string());
        }
        Err(error) => return Observed::new(Condition::Unknown, error.to_string()),
    };
    let output = String::from_utf8_lossy(&answer.output);
    let said = output.trim_end().lines().next_back().unwrap_or_default();
    match answer.code {
        Some(0) => Observed::new(Condition::Running, ""),
        Some(3) => Observed::new(Condition::Stopped, said),
        Some(4) => Observed::new(Condition::Unknown, said),
        Some(code) => Observed::new(Condition::Failed, format!("code {code}: {said}")),
        None => Observed::new(Condition::Failed, "a signal ended the check"),
    }
}

/// The conditions of all applications and of the agent itself, by name: what goes to the server. `before` is
/// what was said last: an unchanged condition keeps its `since`.
#[must_use]
pub fn section(
    observed: &[(Definition, Observed)],
    inventory: &[Application],
    started: WallTime,
    now: WallTime,
    before: &[ApplicationCondition],
) -> Vec<ApplicationCondition> {
    let mut conditions: Vec<ApplicationCondition> = observed
        .iter()
        .map(|(definition, observed)| {
            let last = before.iter().find(|last| last.application == definition.name);
            let since =
                last.filter(|last| last.condition == observed.condition).map_or(now, |last| last.since);
            let found = inventory.partition_point(|entry| entry.name < definition.package);
            let package = inventory.get(found).filter(|entry| entry.name == definition.package);
            let package = package.map(|entry| entry.version.clone());
            ApplicationCondition {
                application: definition.name.clone(),
                condition: observed.condition,
                since,
                version: observed.version.clone().or(package).unwrap_or_default(),
                detail: observed.detail.clone(),
                settings: None,
            }
        })
        .collect();
    conditions.push(ApplicationCondition {
        application: AGENT_NAME.to_owned(),
        condition: Condition::Running,
        since: started,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        detail: String::new(),
        settings: None,
    });
    conditions.sort_unstable_by(|a, b| a.application.cmp(&b.application));
    conditions
}

/// Asks the program; empty when it says nothing that looks like a version. Takes as long as it may: not for
/// the loop's thread.
#[must_use]
pub(super) fn version(program: &Program) -> String {
    match process::run_to_end(&program.arguments, program.timeout, OUTPUT_BYTES_MAX) {
        Ok(answer) => version_in(&String::from_utf8_lossy(&answer.output)),
        Err(error) => {
            log::debug!("no version: {error}");
            String::new()
        }
    }
}

/// The first word that begins with a digit, be it after a `v` or a `/`: of `nginx version: nginx/1.22.1` it
/// is `1.22.1`.
pub(super) fn version_in(output: &str) -> String {
    let found = output.split_whitespace().find_map(|word| {
        let word = word.rsplit('/').next().unwrap_or_default();
        let word = word.trim_start_matches(['v', 'V', '(', '"']).trim_end_matches([',', ';', ')', '"', '.']);
        (word.starts_with(|first: char| first.is_ascii_digit()) && word.len() <= NAME_BYTES_MAX)
            .then(|| word.to_owned())
    });
    found.unwrap_or_default()
}
