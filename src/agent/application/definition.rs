//! `applications.d/*.toml`: one file for each managed application.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::adapter::{
    Program, SettingsAdapter, SettingsTable, StatisticsSource, StatisticsTable, VersionTable, question,
};
use super::check::AGENT_NAME;
use super::embedded::EmbeddedProbe;
use super::task_kind::{TaskKind, TaskTable};
use crate::agent::open;
use crate::agent::settings::{self, Settings};
use crate::configuration::Source;
use crate::wire::event::{SERVER_NAME, looks_like};
use crate::wire::inventory::Application;
use crate::wire::limits::{CONDITIONS_MAX, NAME_BYTES_MAX, TASK_KINDS_MAX};

/// Most arguments of a `command`.
pub const COMMAND_ARGUMENTS_MAX: usize = 64;

/// One managed application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name: what events, policies and tasks call it.
    pub name: String,
    /// The package whose version is its version.
    pub package: String,
    /// The way to tell whether it does its work.
    pub probe: Probe,
    /// Tells the version, instead of the package.
    pub version: Option<Program>,
    /// Place of its settings; `None`: it takes none.
    pub settings: Option<SettingsAdapter>,
    /// Source of its numbers.
    pub statistics: Option<StatisticsSource>,
    /// The kinds of task that it offers.
    pub tasks: Vec<TaskKind>,
}

impl Definition {
    /// An application of which nothing is known but its condition.
    #[must_use]
    pub fn new(name: String, package: String, probe: Probe) -> Self {
        Self { name, package, probe, version: None, settings: None, statistics: None, tasks: Vec::new() }
    }
}

impl Definition {
    /// An application of the program that embeds the agent, as something that is installed.
    #[must_use]
    pub fn installed(&self) -> Option<Application> {
        let Probe::Embedded(probe) = &self.probe else { return None };
        let (name, version) = (self.name.clone(), probe.version.clone());
        Some(Application { name, version, publisher: String::new() })
    }
}

/// A way to tell whether an application does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Ask systemd for this unit.
    SystemdUnit(String),
    /// A file that holds the number of a process, which must be there.
    PidFile(PathBuf),
    /// Run a program, whose exit code says it the way the `status` action of an init script does.
    Command(Program),
    /// Ask the program that embeds the agent.
    Embedded(EmbeddedProbe),
}

/// Definitions in the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    /// The applications, by name.
    pub applications: Vec<Definition>,
    /// For each file that is wrong: which, where, and what is allowed.
    pub problems: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(deserialize_with = "name")]
    name: String,
    package: Option<String>,
    condition: ConditionTable,
    version: Option<VersionTable>,
    settings: Option<SettingsTable>,
    statistics: Option<StatisticsTable>,
    #[serde(default)]
    task: Vec<TaskTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionTable {
    systemd_unit: Option<String>,
    pid_file: Option<PathBuf>,
    command: Option<Vec<String>>,
    timeout_seconds: Option<u64>,
}

impl Definitions {
    /// Finds those of the device: of the program that embeds the agent, or in the files.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        match &settings.embedded {
            Some(applications) => Self { applications: applications.to_vec(), problems: Vec::new() },
            None => Self::read(&settings.applications),
        }
    }

    /// Reads every `*.toml` of a directory. One that is not there defines nothing.
    #[must_use]
    pub fn read(directory: &Path) -> Self {
        let mut definitions = Self::default();
        let files = open::if_there(open::list(directory, "toml")).unwrap_or_else(|error| {
            definitions.problems.push(format!("{}: {error}", directory.display()));
            None
        });
        for path in files.unwrap_or_default() {
            let problem = match parse_file(&path) {
                Ok(definition) if definitions.applications.len() + 1 >= CONDITIONS_MAX => format!(
                    "{}: '{}' is one application too many, {} are allowed",
                    path.display(),
                    definition.name,
                    CONDITIONS_MAX - 1
                ),
                Ok(Definition { name, .. })
                    if definitions.applications.iter().any(|known| known.name == name) =>
                {
                    format!("{}: another file has defined '{name}' already", path.display())
                }
                Ok(definition) => {
                    definitions.applications.push(definition);
                    continue;
                }
                Err(problem) => problem,
            };
            definitions.problems.push(problem);
        }
        definitions.applications.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        definitions
    }
}

fn parse_file(path: &Path) -> Result<Definition, String> {
    parse(&settings::text(path).map_err(|error| error.to_string())?, path)
}

/// Decodes the text of a definition, said to be from `path`.
///
/// # Errors
/// When it says something that is not allowed; names the line and what is allowed.
pub fn parse(text: &str, path: &Path) -> Result<Definition, String> {
    let file: File = Source { text, path }.parse().map_err(|error| error.to_string())?;
    definition(file).map_err(|problem| format!("{}: {problem}", path.display()))
}

fn definition(file: File) -> Result<Definition, String> {
    let table = file.condition;
    if table.timeout_seconds.is_some() && table.command.is_none() {
        return Err("[condition]: 'timeout_seconds' belongs to 'command'".to_owned());
    }
    let probe = match (table.systemd_unit, table.pid_file, table.command) {
        (Some(unit), None, None) => Probe::SystemdUnit(checked_unit(unit)?),
        (None, Some(file), None) => Probe::PidFile(file),
        (None, None, Some(command)) => Probe::Command(question("condition", command, table.timeout_seconds)?),
        _ => return Err("[condition] must have one of 'systemd_unit', 'pid_file', 'command'".to_owned()),
    };
    if file.version.is_some() && file.package.is_some() {
        return Err("'package' and [version] both say where the version comes from: leave one out".to_owned());
    }
    let package = file.package.unwrap_or_else(|| file.name.clone());
    Ok(Definition {
        version: file.version.map(VersionTable::program).transpose()?,
        settings: file
            .settings
            .map(SettingsTable::place)
            .transpose()?
            .map(|place| SettingsAdapter::File(Box::new(place))),
        statistics: file.statistics.map(StatisticsTable::source).transpose()?,
        tasks: tasks(file.task)?,
        ..Definition::new(file.name, package, probe)
    })
}

fn tasks(tables: Vec<TaskTable>) -> Result<Vec<TaskKind>, String> {
    if tables.len() > TASK_KINDS_MAX {
        return Err(format!("more than {TASK_KINDS_MAX} kinds of task"));
    }
    let mut tasks: Vec<TaskKind> = tables.into_iter().map(TaskTable::checked).collect::<Result<_, _>>()?;
    tasks.sort_unstable_by(|a, b| a.declared.kind.cmp(&b.declared.kind));
    match tasks.windows(2).find(|pair| pair[0].declared.kind == pair[1].declared.kind) {
        Some(pair) => Err(format!("two [[task]] are called '{}'", pair[0].declared.kind)),
        None => Ok(tasks),
    }
}

/// A unit's name is handed to systemctl: it must not look like an option.
fn checked_unit(unit: String) -> Result<String, String> {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || ":-_.\\@".contains(character);
    if unit.is_empty()
        || unit.starts_with('-')
        || unit.len() > NAME_BYTES_MAX
        || !unit.chars().all(is_allowed)
    {
        return Err(format!("[condition]: '{unit}' is not the name of a unit (systemd.unit(5))"));
    }
    Ok(unit)
}

fn name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name == AGENT_NAME || looks_like(&name, SERVER_NAME)
    {
        return Err(serde::de::Error::custom(format!(
            "'{name}' is not allowed: 1 to {NAME_BYTES_MAX} bytes, and not '{AGENT_NAME}', which is this \
             agent, nor '{SERVER_NAME}', which is the server"
        )));
    }
    Ok(name)
}
