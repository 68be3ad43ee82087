//! Definition of a task: the devices on which it runs, its times, its rate, and its end.

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::window::Window;
use crate::wire::id::DeviceId;
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::printable::is_name;

/// Most devices that a task may name; more of them are a group.
pub const DEVICES_MAX: usize = 1_000;

/// For how long a run waits for its device, when the task says nothing: a day.
pub const EXPIRES_SECONDS: u32 = 86_400;

/// And at least.
pub const EXPIRES_SECONDS_MIN: u32 = 60;

/// And at most: 30 days.
pub const EXPIRES_SECONDS_MAX: u32 = 30 * 86_400;

/// Longest execution when the task says nothing.
pub const TIMEOUT_SECONDS: u32 = 600;

/// And at most: a day.
pub const TIMEOUT_SECONDS_MAX: u32 = 86_400;

/// Most retries of a run that failed.
pub const RETRIES_MAX: u32 = 20;

/// Most runs that a task may begin in a minute.
pub const RATE_PER_MINUTE_MAX: u32 = 60_000;

/// Longest wait for the first retry; each one after it waits for twice as long.
pub const RETRY_SECONDS: u64 = 30;

/// Longest wait for any retry.
pub const RETRY_SECONDS_MAX: u64 = 3_600;

/// Number of runs that must be finished before a share of them says something.
pub const ABORT_FINISHED_MIN: u64 = 5;

/// The highest share of failed runs that a task may bear: more than 100 % never fail.
pub const ABORT_PERCENT_MAX: u32 = 99;

/// On which devices a task runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// These.
    Devices(Vec<DeviceId>),
    /// Those of a group and of the groups below it.
    Group(String),
    /// Every device.
    All,
}

/// Definition of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// For people; left out: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// On which devices.
    pub targets: Targets,
    /// Whether devices that become one of the targets later are to run it too.
    #[serde(default)]
    pub is_continuous: bool,
    /// When, as [`Schedule`] reads it.
    #[serde(default = "now")]
    pub schedule: String,
    /// In which hours of a day runs may begin, as [`Window`] reads it; left out: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// By which zone's clocks schedule and window go: its IANA name. Those that were made when there was no
    /// choice go by UTC.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// For how long a run waits for its device.
    #[serde(default = "expires_seconds")]
    pub expires_seconds: u32,
    /// Longest execution.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// Number of retries of a run that failed.
    #[serde(default)]
    pub retries: u32,
    /// Most runs that begin within a minute; left out: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_minute: Option<u32>,
    /// Above which share of failed runs the task ends: 0 ends it with the first that counts, and with 99 all
    /// have to fail. Never more than all of them can fail, so there is no 100: leave it out, and none ends
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_percent: Option<u32>,
    /// Whether a run may be executed again when nobody can tell whether it was executed to its end.
    #[serde(default)]
    pub may_repeat: bool,
}

fn now() -> String {
    "now".into()
}

fn utc() -> String {
    "UTC".into()
}

fn expires_seconds() -> u32 {
    EXPIRES_SECONDS
}

fn timeout_seconds() -> u32 {
    TIMEOUT_SECONDS
}

impl Definition {
    /// A task that runs now, once, on these.
    #[must_use]
    pub fn new(targets: Targets) -> Self {
        Self {
            name: None,
            targets,
            is_continuous: false,
            schedule: now(),
            window: None,
            time_zone: utc(),
            expires_seconds: EXPIRES_SECONDS,
            timeout_seconds: TIMEOUT_SECONDS,
            retries: 0,
            rate_per_minute: None,
            abort_percent: None,
            may_repeat: false,
        }
    }

    /// Judges it.
    ///
    /// # Errors
    /// When a part of it is not allowed. The error names the part and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            validate_name("name", name)?;
        }
        match &self.targets {
            Targets::Devices(devices) if devices.is_empty() => {
                return Err("'targets' names no device: name one, a group, or all".into());
            }
            Targets::Devices(devices) if devices.len() > DEVICES_MAX => {
                let count = devices.len();
                return Err(format!(
                    "'targets' names {count} devices: at most {DEVICES_MAX}, or put them into a group"
                ));
            }
            Targets::Devices(_) if self.is_continuous => {
                return Err("'is_continuous' is for a group or all: named devices stay the same".into());
            }
            Targets::Group(group) => validate_name("targets: group", group)?,
            Targets::Devices(_) | Targets::All => {}
        }
        self.schedule()?;
        self.window()?;
        validate_name("time_zone", &self.time_zone)?;
        within("expires_seconds", self.expires_seconds, EXPIRES_SECONDS_MIN, EXPIRES_SECONDS_MAX)?;
        within("timeout_seconds", self.timeout_seconds, 1, TIMEOUT_SECONDS_MAX)?;
        within("retries", self.retries, 0, RETRIES_MAX)?;
        within("rate_per_minute", self.rate_per_minute.unwrap_or(1), 1, RATE_PER_MINUTE_MAX)?;
        within("abort_percent", self.abort_percent.unwrap_or(0), 0, ABORT_PERCENT_MAX)
    }

    /// Its schedule.
    ///
    /// # Errors
    /// When it is none.
    pub fn schedule(&self) -> Result<Schedule, String> {
        self.schedule.parse().map_err(|error| format!("'schedule': {error}"))
    }

    /// Its window, when it has one.
    ///
    /// # Errors
    /// When it is none.
    pub fn window(&self) -> Result<Option<Window>, String> {
        let window = self.window.as_deref().map(str::parse).transpose();
        window.map_err(|error: String| format!("'window': {error}"))
    }
}

fn validate_name(part: &str, name: &str) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    Err(format!(
        "'{part}' is not a name: 1 to {NAME_BYTES_MAX} bytes, no blanks around it, no control or invisible characters"
    ))
}

fn within(part: &str, value: u32, lowest: u32, highest: u32) -> Result<(), String> {
    if (lowest..=highest).contains(&value) {
        return Ok(());
    }
    Err(format!("'{part}' is {value}, and has to be from {lowest} to {highest}"))
}

/// Wait after the attempt of that number (from 1) failed. `random`: any number, drawn anew each time.
///
/// Exponential backoff with jitter, so that what failed together does not come back together; at least a
/// quarter of the longest wait, so that no retry follows at once.
#[must_use]
pub fn retry_delay_seconds(attempt: u32, random: u64) -> u64 {
    let doublings = attempt.saturating_sub(1).min(32);
    let longest = (RETRY_SECONDS << doublings).min(RETRY_SECONDS_MAX);
    let shortest = longest.div_ceil(4);
    shortest + random % (longest - shortest + 1)
}

/// Number of runs that may begin now.
#[must_use]
pub fn rollout(rate_per_minute: Option<u32>, released_in_last_minute: u32) -> u32 {
    rate_per_minute.map_or(u32::MAX, |rate| rate.saturating_sub(released_in_last_minute))
}

/// Whether the failed runs are too many for the task to go on: more than that share of those that have
/// finished, and enough have, or all.
///
/// A threshold is what is borne: with 10 one of ten may fail, with 0 none may, and with 100 it never stops.
#[must_use]
pub fn is_to_abort(finished: u64, failed: u64, total: u64, percent: u32) -> bool {
    let is_telling = finished >= ABORT_FINISHED_MIN.min(total);
    failed > 0 && is_telling && u128::from(failed) * 100 > u128::from(finished) * u128::from(percent)
}

#[cfg(test)]
mod tests;
