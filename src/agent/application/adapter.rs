//! Parts of a definition beyond the condition: the version, the place of settings, and the source of
//! statistics.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::definition::COMMAND_ARGUMENTS_MAX;
use super::embedded::{EmbeddedSettings, Gauge};
use super::render::Format;
use crate::fleet::schema::Schema;
use crate::wire::limits::SCHEMA_BYTES_MAX;

/// Time of the condition's, the version's and the statistics' command when the file does not say.
const QUESTION_SECONDS_DEFAULT: u64 = 10;

/// And at most: they hold up the look at all the others.
const QUESTION_SECONDS_MAX: u64 = 60;

/// Time of each command around settings when the file does not say.
const SETTINGS_SECONDS_DEFAULT: u64 = 30;

/// And at most: settings of others wait for it.
pub const SETTINGS_SECONDS_MAX: u64 = 600;

/// A program, its arguments, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program, then its arguments.
    pub arguments: Vec<String>,
    /// Its time.
    pub timeout: Duration,
}

impl Program {
    /// Its own name.
    pub(in crate::agent) fn name(&self) -> &str {
        self.arguments.first().map(String::as_str).unwrap_or_default()
    }
}

/// Place of an application's settings, and the commands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsPlace {
    /// The file that holds them, and nothing else.
    pub file: PathBuf,
    /// Their format.
    pub format: Format,
    /// Permission bits; `None`: those of the file before, or 0644.
    pub mode: Option<u32>,
    /// JSON Schema of what is allowed; empty: any object.
    pub schema: String,
    /// Judges the candidate before it is put in place.
    pub validate: Option<Program>,
    /// Judges it in its place, before the application is told.
    pub validate_in_place: Option<Program>,
    /// Tells the application.
    pub apply: Option<Program>,
    /// Tells it that the old settings are in place again.
    pub rollback: Option<Program>,
}

/// The way of settings to an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsAdapter {
    /// A file.
    File(Box<SettingsPlace>),
    /// A function of the program that embeds the agent.
    Embedded(EmbeddedSettings),
}

impl SettingsAdapter {
    /// JSON Schema of what is allowed; empty: any object.
    #[must_use]
    pub fn schema(&self) -> &str {
        match self {
            Self::File(place) => &place.schema,
            Self::Embedded(settings) => &settings.schema,
        }
    }
}

/// Source of an application's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatisticsSource {
    /// Functions of the program that embeds the agent.
    Embedded(Vec<Gauge>),
    /// A program prints them.
    Command(Program),
    /// They are in a file.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionTable {
    command: Vec<String>,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsTable {
    #[serde(deserialize_with = "absolute")]
    file: PathBuf,
    format: FormatName,
    separator: Option<String>,
    line_end: Option<String>,
    #[serde(default, deserialize_with = "mode")]
    mode: Option<u32>,
    schema: Option<toml::Table>,
    validate: Option<Vec<String>>,
    validate_in_place: Option<Vec<String>>,
    apply: Option<Vec<String>>,
    rollback: Option<Vec<String>>,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum FormatName {
    Json,
    Toml,
    KeyValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatisticsTable {
    command: Option<Vec<String>>,
    file: Option<PathBuf>,
    timeout_seconds: Option<u64>,
}

/// A command of a table.
fn program(
    table: &str,
    key: &str,
    arguments: Vec<String>,
    (seconds, max): (u64, u64),
) -> Result<Program, String> {
    if !(1..=max).contains(&seconds) {
        return Err(format!("[{table}]: timeout_seconds = {seconds} is not allowed, 1 to {max} are"));
    }
    if arguments.is_empty() || arguments.len() > COMMAND_ARGUMENTS_MAX || arguments[0].is_empty() {
        return Err(format!(
            "[{table}]: {key} must be a program and its arguments, 1 to {COMMAND_ARGUMENTS_MAX} texts"
        ));
    }
    Ok(Program { arguments, timeout: Duration::from_secs(seconds) })
}

/// The command of a table that asks something.
pub(super) fn question(table: &str, command: Vec<String>, seconds: Option<u64>) -> Result<Program, String> {
    let seconds = seconds.unwrap_or(QUESTION_SECONDS_DEFAULT);
    program(table, "command", command, (seconds, QUESTION_SECONDS_MAX))
}

impl VersionTable {
    pub(super) fn program(self) -> Result<Program, String> {
        question("version", self.command, self.timeout_seconds)
    }
}

impl StatisticsTable {
    pub(super) fn source(self) -> Result<StatisticsSource, String> {
        match (self.command, self.file) {
            (Some(command), None) => {
                question("statistics", command, self.timeout_seconds).map(StatisticsSource::Command)
            }
            (None, Some(_)) if self.timeout_seconds.is_some() => {
                Err("[statistics]: 'timeout_seconds' belongs to 'command'".to_owned())
            }
            (None, Some(file)) => Ok(StatisticsSource::File(file)),
            _ => Err("[statistics] must have one of 'command', 'file'".to_owned()),
        }
    }
}

impl SettingsTable {
    pub(super) fn place(self) -> Result<SettingsPlace, String> {
        let seconds = (self.timeout_seconds.unwrap_or(SETTINGS_SECONDS_DEFAULT), SETTINGS_SECONDS_MAX);
        let checked = |key: &str, arguments: Option<Vec<String>>| {
            arguments.map(|arguments| program("settings", key, arguments, seconds)).transpose()
        };
        if self.file.file_name().is_none() {
            return Err(format!("[settings]: '{}' names no file", self.file.display()));
        }
        if self.format != FormatName::KeyValue && (self.separator.is_some() || self.line_end.is_some()) {
            return Err(
                "[settings]: 'separator' and 'line_end' belong to the format \"key_value\"".to_owned()
            );
        }
        if self.rollback.is_some() && self.apply.is_none() {
            return Err("[settings]: 'rollback' belongs to 'apply'".to_owned());
        }
        let format = match self.format {
            FormatName::Json => Format::Json,
            FormatName::Toml => Format::Toml,
            FormatName::KeyValue => Format::KeyValue {
                separator: piece("separator", self.separator, "=", 1)?,
                line_end: piece("line_end", self.line_end, "", 0)?,
            },
        };
        let schema = self.schema.map(schema).transpose()?.unwrap_or_default();
        let apply = checked("apply", self.apply)?;
        let rollback = checked("rollback", self.rollback)?.or_else(|| apply.clone());
        Ok(SettingsPlace {
            file: self.file,
            format,
            mode: self.mode,
            schema,
            validate: checked("validate", self.validate)?,
            validate_in_place: checked("validate_in_place", self.validate_in_place)?,
            apply,
            rollback,
        })
    }
}

/// Text between or behind keys and values: a few characters on one line.
fn piece(key: &str, text: Option<String>, default: &str, min: usize) -> Result<String, String> {
    let text = text.unwrap_or_else(|| default.to_owned());
    let is_printable = text.chars().all(|character| !character.is_control() || character == '\t');
    if text.len() < min || text.len() > 8 || !is_printable {
        return Err(format!("[settings]: {key} must be {min} to 8 characters without line breaks"));
    }
    Ok(text)
}

/// The schema as JSON, once it is known to be one.
fn schema(table: toml::Table) -> Result<String, String> {
    let wrap = |error: &dyn std::fmt::Display| format!("[settings]: {error}");
    let value = serde_json::to_value(table).map_err(|error| wrap(&error))?;
    Schema::from_value(&value).map_err(|error| wrap(&error))?;
    let text = value.to_string();
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(format!(
            "[settings]: schema has {} bytes, at most {SCHEMA_BYTES_MAX} are allowed",
            text.len()
        ));
    }
    Ok(text)
}

fn absolute<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(serde::de::Error::custom(format!("'{}' is not allowed: a path from '/' on is", path.display())))
}

fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    crate::agent::settings::mode(deserializer).map(Some)
}
