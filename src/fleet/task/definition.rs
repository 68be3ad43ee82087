//! Rules of a task's definition: what is allowed, and what its rate and its end mean.

use super::schedule::Schedule;
use super::window::Window;
use crate::fleet::filter::Filter;
use crate::wire::api::{TaskDefinition, TaskTargets};
use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::named::ParseError;
use crate::wire::printable::is_name;

/// Most devices that a task may name; more of them are a group.
pub const DEVICES_MAX: usize = 1_000;

/// Shortest time for which a run waits for its device.
pub const EXPIRES_SECONDS_MIN: u32 = 60;

/// And at most: 30 days.
pub const EXPIRES_SECONDS_MAX: u32 = 30 * 86_400;

/// Longest execution that a task may allow: a day.
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

impl TaskDefinition {
    /// Judges it.
    ///
    /// # Errors
    /// When a part of it is not allowed. The error names the part and what is allowed.
    pub fn validate(&self) -> Result<(), ParseError> {
        if let Some(name) = &self.name {
            validate_name("name", name)?;
        }
        match &self.targets {
            TaskTargets::Devices(devices) if devices.is_empty() => {
                return Err("'targets' names no device: name one, a group, or all".to_owned().into());
            }
            TaskTargets::Devices(devices) if devices.len() > DEVICES_MAX => {
                let count = devices.len();
                return Err(format!(
                    "'targets' names {count} devices: at most {DEVICES_MAX}, or put them into a group"
                )
                .into());
            }
            TaskTargets::Devices(_) | TaskTargets::Filter(_) if self.continuous => {
                let message = "'continuous' is for a group or all: named devices, and those that a filter lets through \
                     when the task is made, stay the same";
                return Err(message.to_owned().into());
            }
            TaskTargets::Group(group) => validate_name("targets: group", group)?,
            TaskTargets::Filter(text) => {
                let filter = text.parse::<Filter>();
                filter.map(drop).map_err(|error| format!("'targets: where': {error}"))?;
            }
            TaskTargets::Devices(_) | TaskTargets::All => {}
        }
        self.schedule()?;
        self.window()?;
        validate_name("time_zone", self.time_zone())?;
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
    pub fn schedule(&self) -> Result<Schedule, ParseError> {
        self.schedule.parse().map_err(|error| format!("'schedule': {error}").into())
    }

    /// Its window, when it has one.
    ///
    /// # Errors
    /// When it is none.
    pub fn window(&self) -> Result<Option<Window>, ParseError> {
        let window = self.window.as_deref().map(str::parse).transpose();
        window.map_err(|error: ParseError| format!("'window': {error}").into())
    }
}

fn validate_name(part: &str, name: &str) -> Result<(), ParseError> {
    if is_name(name) {
        return Ok(());
    }
    Err(format!(
        "'{part}' is not a name: 1 to {NAME_BYTES_MAX} bytes, no blanks around it, no control or invisible characters"
    )
    .into())
}

fn within(part: &str, value: u32, lowest: u32, highest: u32) -> Result<(), ParseError> {
    if (lowest..=highest).contains(&value) {
        return Ok(());
    }
    Err(format!("'{part}' is {value}, and has to be from {lowest} to {highest}").into())
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
