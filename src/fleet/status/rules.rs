//! The rules that devices are judged by: the key `status` of the effective settings of the server's own
//! application `muster`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire::limits::NAME_BYTES_MAX;
use crate::wire::status::Status;
use crate::wire::units::parse_duration;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// For how long a failed task may count at most, in milliseconds: what is older is not looked for.
pub const TASK_WITHIN_MS_MAX: u64 = 30 * DAY_MS;

/// All rules. Levels are `ok` where a rule is off; limits are `None` where they are.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rules {
    /// A device that should have come and has not.
    pub lost: LostRules,
    /// Applications that do not run.
    pub application: ApplicationRules,
    /// The same for single applications.
    pub applications: BTreeMap<String, ApplicationRules>,
    /// Tasks that failed.
    pub task: TaskRules,
    /// Settings that are not in place.
    pub settings: SettingsRules,
    /// Disks that are nearly full.
    pub disk: DiskRules,
    /// Certificates near their end.
    pub certificate: CertificateRules,
    /// Clocks that are wrong.
    pub clock: ClockRules,
}

/// For how long a device must be lost, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostRules {
    /// Until that is a warning.
    pub warning_after_ms: Option<u64>,
    /// Until that is critical.
    pub critical_after_ms: Option<u64>,
}

impl Default for LostRules {
    fn default() -> Self {
        Self { warning_after_ms: Some(0), critical_after_ms: Some(DAY_MS) }
    }
}

/// Levels of an application's conditions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApplicationRules {
    /// It failed.
    pub failed: Status,
    /// It was stopped.
    pub stopped: Status,
    /// It is not there.
    pub not_installed: Status,
    /// It could not be told.
    pub unknown: Status,
}

impl Default for ApplicationRules {
    fn default() -> Self {
        Self {
            failed: Status::Critical,
            stopped: Status::Warning,
            not_installed: Status::Warning,
            unknown: Status::Ok,
        }
    }
}

/// Level of a failed task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskRules {
    /// The latest run of a task failed or took too long.
    pub failed: Status,
    /// For how long that counts, in milliseconds.
    pub within_ms: u64,
}

impl Default for TaskRules {
    fn default() -> Self {
        Self { failed: Status::Warning, within_ms: DAY_MS }
    }
}

/// Levels of settings that are not in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SettingsRules {
    /// They could not be applied.
    pub failed: Status,
    /// They are not applied yet.
    pub pending: Status,
    /// After how long that counts, in milliseconds.
    pub pending_for_ms: u64,
    /// Somebody changed them on the device.
    pub drifted: Status,
}

impl Default for SettingsRules {
    fn default() -> Self {
        Self {
            failed: Status::Warning,
            pending: Status::Warning,
            pending_for_ms: HOUR_MS,
            drifted: Status::Warning,
        }
    }
}

/// Share of the disk that must be free, in percent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DiskRules {
    /// Less is a warning.
    pub warning_below_percent: Option<f64>,
    /// Less is critical.
    pub critical_below_percent: Option<f64>,
}

impl Default for DiskRules {
    fn default() -> Self {
        Self { warning_below_percent: Some(10.0), critical_below_percent: Some(5.0) }
    }
}

/// Time before its end at which a certificate is worth a word, in milliseconds, and a pin that is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CertificateRules {
    /// Less is a warning.
    pub warning_before_ms: Option<u64>,
    /// Less is critical, and so is an expired one.
    pub critical_before_ms: Option<u64>,
    /// The device has not stored the pin of the server's next certificate.
    pub pin_missing: Status,
    /// After how long that counts, in milliseconds.
    pub pin_missing_for_ms: u64,
}

impl Default for CertificateRules {
    fn default() -> Self {
        Self {
            warning_before_ms: Some(30 * DAY_MS),
            critical_before_ms: Some(7 * DAY_MS),
            pin_missing: Status::Warning,
            pin_missing_for_ms: DAY_MS,
        }
    }
}

/// Greatest distance of a device's clock from the server's, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockRules {
    /// More is a warning.
    pub warning_beyond_ms: Option<u64>,
    /// More is critical.
    pub critical_beyond_ms: Option<u64>,
}

impl Default for ClockRules {
    fn default() -> Self {
        Self { warning_beyond_ms: Some(300_000), critical_beyond_ms: None }
    }
}

/// Reads the keys of an object into fields; others are refused.
macro_rules! keys {
    ($value:expr, $path:expr, $rules:expr, { $($key:literal: $field:ident = $read:ident),+ $(,)? }) => {
        each_key($value, $path, |key, value, path| {
            match key {
                $($key => $rules.$field = $read(value, path)?,)+
                _ => return Err(unknown(path, &[$($key),+].join(", "))),
            }
            Ok(())
        })
    };
}

impl Rules {
    /// Reads the rules from the settings of `muster`: an object in whose key `status` they are. Keys that are
    /// left out have their defaults.
    ///
    /// # Errors
    /// When a key is unknown or a value is not allowed: its dotted path, and what is allowed.
    pub fn parse(settings: &Value) -> Result<Self, String> {
        let mut rules = Self::default();
        each_key(settings, "", |key, value, path| match key {
            "status" => rules.read(value, path),
            _ => Err(unknown(path, "status")),
        })?;
        Ok(rules)
    }

    /// The rules for an application.
    #[must_use]
    pub fn of(&self, application: &str) -> &ApplicationRules {
        self.applications.get(application).unwrap_or(&self.application)
    }

    fn read(&mut self, value: &Value, path: &str) -> Result<(), String> {
        let mut overrides = None;
        each_key(value, path, |key, value, path| match key {
            "lost" => keys!(value, path, self.lost, {
                "warning_after": warning_after_ms = duration_or_off,
                "critical_after": critical_after_ms = duration_or_off,
            }),
            "application" => self.application.read(value, path),
            "applications" => {
                // Read last: they start from what is said for all.
                overrides = Some((value, path.to_owned()));
                Ok(())
            }
            "task" => {
                keys!(value, path, self.task, { "failed": failed = level, "within": within_ms = within })
            }
            "settings" => keys!(value, path, self.settings, {
                "failed": failed = level,
                "pending": pending = level,
                "pending_for": pending_for_ms = duration,
                "drifted": drifted = level,
            }),
            "disk" => keys!(value, path, self.disk, {
                "warning_below": warning_below_percent = percent_or_off,
                "critical_below": critical_below_percent = percent_or_off,
            }),
            "certificate" => keys!(value, path, self.certificate, {
                "warning_before": warning_before_ms = duration_or_off,
                "critical_before": critical_before_ms = duration_or_off,
                "pin_missing": pin_missing = level,
                "pin_missing_for": pin_missing_for_ms = duration,
            }),
            "clock" => keys!(value, path, self.clock, {
                "warning_beyond": warning_beyond_ms = duration_or_off,
                "critical_beyond": critical_beyond_ms = duration_or_off,
            }),
            _ => Err(unknown(
                path,
                "lost, application, applications, task, settings, disk, certificate, clock",
            )),
        })?;
        let Some((value, path)) = overrides else { return Ok(()) };
        each_key(value, &path, |application, value, path| {
            if application.is_empty() || application.len() > NAME_BYTES_MAX {
                return Err(format!("{path}: this can't be the name of an application"));
            }
            let mut rules = self.application;
            rules.read(value, path)?;
            self.applications.insert(application.to_owned(), rules);
            Ok(())
        })
    }
}

impl ApplicationRules {
    fn read(&mut self, value: &Value, path: &str) -> Result<(), String> {
        keys!(value, path, self, {
            "failed": failed = level,
            "stopped": stopped = level,
            "not_installed": not_installed = level,
            "unknown": unknown = level,
        })
    }
}

/// Reads the keys of an object, each with its path.
fn each_key<'v>(
    value: &'v Value,
    path: &str,
    mut read: impl FnMut(&str, &'v Value, &str) -> Result<(), String>,
) -> Result<(), String> {
    let object = value.as_object().ok_or_else(|| match path {
        "" => "this must be an object".to_owned(),
        path => format!("{path}: this must be an object"),
    })?;
    object.iter().try_for_each(|(key, value)| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        read(key, value, &path)
    })
}

fn unknown(path: &str, known: &str) -> String {
    format!("{path}: there is no such key ({known})")
}

fn level(value: &Value, path: &str) -> Result<Status, String> {
    match value.as_str() {
        Some("off") => Ok(Status::Ok),
        Some("warning") => Ok(Status::Warning),
        Some("critical") => Ok(Status::Critical),
        _ => Err(format!("{path}: this must be \"warning\", \"critical\" or \"off\"")),
    }
}

fn duration(value: &Value, path: &str) -> Result<u64, String> {
    let text = value.as_str().ok_or_else(|| format!("{path}: this must be a duration, such as \"24h\""))?;
    let duration = parse_duration(text).map_err(|why| format!("{path}: {why}"))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn within(value: &Value, path: &str) -> Result<u64, String> {
    match duration(value, path)? {
        length if length <= TASK_WITHIN_MS_MAX => Ok(length),
        _ => Err(format!("{path}: this may be 30d at most")),
    }
}

fn duration_or_off(value: &Value, path: &str) -> Result<Option<u64>, String> {
    if value.as_str() == Some("off") { Ok(None) } else { duration(value, path).map(Some) }
}

fn percent_or_off(value: &Value, path: &str) -> Result<Option<f64>, String> {
    match value.as_f64() {
        _ if value.as_str() == Some("off") => Ok(None),
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Some(percent)),
        _ => Err(format!("{path}: this must be a number from 0 to 100, or \"off\"")),
    }
}
