//! Effective settings: policies of groups from the root down, each over the one above it, then the device's
//! own; except what is locked.
//!
//! Objects are merged key by key; everything else is replaced as a whole. A lock freezes a key, and all below
//! it, as it is at the level that locks it: levels below can neither change it, nor add to it, nor replace an
//! object that it is in.

mod changes;
mod explain;
mod merge;
mod path;
pub mod strict;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use changes::{changed_version, changes};
pub use explain::explain;
pub use merge::{Merged, merge};
pub use path::KeyPath;

use crate::wire::limits::SETTINGS_BYTES_MAX;
use crate::wire::named::ParseError;
use crate::wire::settings::Drift;

/// Deepest nesting of settings, in levels.
pub const DEPTH_MAX: usize = 32;

/// Most locks of one policy.
pub const LOCKS_MAX: usize = 256;

/// Settings of one level: a group's policy, or a device's own.
#[derive(Clone, Copy, Debug)]
pub struct Level<'a> {
    /// The group's path, or what stands for the device.
    pub from: &'a str,
    /// Its settings.
    pub settings: &'a Map<String, Value>,
    /// Keys of its settings that levels below may not change.
    pub locks: &'a [KeyPath],
    /// Its rule for drift; `None`: it has none.
    pub drift: Option<Drift>,
}

/// Why settings or locks are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not JSON.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The fault.
        reason: String,
    },
    /// JSON, and no object.
    #[error("settings are one JSON object, such as {{\"port\": 80}}")]
    NotAnObject,
    /// Too much.
    #[error("{bytes} bytes of settings, at most {SETTINGS_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size, in bytes of JSON without blanks.
        bytes: usize,
    },
    /// Nested too deep.
    #[error("'{0}' is nested deeper than {DEPTH_MAX} levels")]
    TooDeep(String),
    /// A name of a key is empty.
    #[error("a key of '{0}' has an empty name")]
    EmptyName(String),
    /// A lock that is no path.
    #[error(transparent)]
    BadPath(#[from] ParseError),
    /// A lock on what is not there.
    #[error("'{0}' can't be locked: the settings have no such key")]
    NoSuchKey(String),
    /// Too many locks.
    #[error("more than {LOCKS_MAX} locks")]
    TooManyLocks,
}

/// Reads settings.
///
/// # Errors
/// When they are no JSON object, too large, or nested too deep: where.
pub fn parse(text: &str) -> Result<Map<String, Value>, SettingsError> {
    let settings = parse_object(text)?;
    check(&settings)?;
    Ok(settings)
}

/// Reads one JSON object, and asks no more of it: for what is not merged, level by level.
///
/// # Errors
/// When it is none, has a key twice, or a number that would be changed: where.
pub fn parse_object(text: &str) -> Result<Map<String, Value>, SettingsError> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        // serde_json says the place once more at the end.
        let said = error.to_string();
        let reason = said.split(" at line ").next().unwrap_or_default().to_owned();
        SettingsError::Syntax { line: error.line(), column: error.column(), reason }
    })?;
    strict::check(text)?;
    match value {
        Value::Object(settings) => Ok(settings),
        _ => Err(SettingsError::NotAnObject),
    }
}

/// Checks settings that were decoded already.
///
/// # Errors
/// As [`parse`].
pub fn check(settings: &Map<String, Value>) -> Result<(), SettingsError> {
    check_depth(settings, &mut Vec::new())?;
    let bytes = serde_json::to_string(settings).map_or(usize::MAX, |text| text.len());
    if bytes > SETTINGS_BYTES_MAX { Err(SettingsError::TooLarge { bytes }) } else { Ok(()) }
}

fn check_depth(map: &Map<String, Value>, path: &mut Vec<String>) -> Result<(), SettingsError> {
    if path.len() >= DEPTH_MAX {
        return Err(SettingsError::TooDeep(KeyPath::new(path).to_string()));
    }
    for (name, value) in map {
        if name.is_empty() {
            return Err(SettingsError::EmptyName(KeyPath::new(path).to_string()));
        }
        if let Value::Object(below) = value {
            path.push(name.clone());
            check_depth(below, path)?;
            path.pop();
        }
    }
    Ok(())
}

/// Reads the locks of a policy, sorted, each once.
///
/// # Errors
/// When one is no path, or the settings do not have it.
pub fn parse_locks(locks: &[String], settings: &Map<String, Value>) -> Result<Vec<KeyPath>, SettingsError> {
    if locks.len() > LOCKS_MAX {
        return Err(SettingsError::TooManyLocks);
    }
    let mut paths = Vec::new();
    for text in locks {
        let path: KeyPath = text.parse()?;
        if path.find(settings).is_none() {
            return Err(SettingsError::NoSuchKey(text.clone()));
        }
        paths.push(path);
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}
