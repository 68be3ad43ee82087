//! A fleet as files say it: TOML, in any number of files and folders.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::client::cli::Failure;
use crate::fleet::filter::Filter;
use crate::fleet::settings;
use crate::wire::api::{NewGroup, NewTask, View};
use crate::wire::settings::Drift;

/// Most files that are read.
const FILES_MAX: usize = 10_000;

/// Most that is read of a file: 1 MiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Deepest folder, in levels.
const DEPTH_MAX: usize = 16;

/// The beginning of the key that the TOML reader makes of a date.
const DATE_KEY: &str = "$__toml_private";

const NO_DATE: &str = "a date stands in quotes: settings are JSON";

/// All that the files say.
#[derive(Deserialize, Default, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(rename = "group")]
    pub(super) groups: Vec<NewGroup>,
    #[serde(rename = "policy")]
    pub(super) policies: Vec<WantedPolicy>,
    #[serde(rename = "tag")]
    pub(super) tags: Vec<WantedTag>,
    #[serde(rename = "view")]
    pub(super) views: Vec<View>,
    #[serde(rename = "task")]
    pub(super) tasks: Vec<NewTask>,
}

/// A group's policy for an application.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedPolicy {
    pub(super) group: String,
    pub(super) application: String,
    pub(super) settings: Map<String, Value>,
    #[serde(default)]
    pub(super) locks: Vec<String>,
    #[serde(default)]
    pub(super) drift: Option<Drift>,
}

/// A tag by rule.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedTag {
    pub(super) name: String,
    pub(super) rule: String,
}

/// Reads all files of a directory.
///
/// # Errors
/// Wrong usage: the file, and what is wrong in it.
pub(super) fn read(directory: &Path) -> Result<Wanted, Failure> {
    let mut files = Vec::new();
    find(directory, 0, &mut files)?;
    files.sort();
    if files.is_empty() {
        let text = format!("{} has no file whose name ends in .toml", directory.display());
        return Err(Failure::Usage(text));
    }
    let mut all = Wanted::default();
    // Each thing with the file that says it.
    let mut said: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        let wanted = read_file(&file)?;
        for name in wanted.names() {
            let text = format!("{}: {name} is in {} already", file.display(), {
                let before = said.get(&name).unwrap_or(&file);
                before.display()
            });
            if said.insert(name, file.clone()).is_some() {
                return Err(Failure::Usage(text));
            }
        }
        all.groups.extend(wanted.groups);
        all.policies.extend(wanted.policies);
        all.tags.extend(wanted.tags);
        all.views.extend(wanted.views);
        all.tasks.extend(wanted.tasks);
    }
    Ok(all)
}

fn find(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let wrong = |error: &dyn Display| Failure::Usage(format!("{}: {error}", directory.display()));
    if depth > DEPTH_MAX {
        return Err(wrong(&"too many folders in each other"));
    }
    for entry in std::fs::read_dir(directory).map_err(|error| wrong(&error))? {
        let entry = entry.map_err(|error| wrong(&error))?;
        let (path, name) = (entry.path(), entry.file_name());
        // Such as .git.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(|error| wrong(&error))?.is_dir() {
            find(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            if files.len() >= FILES_MAX {
                return Err(wrong(&format!("more than {FILES_MAX} files")));
            }
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Wanted, Failure> {
    let wrong = |error: &dyn Display| Failure::Usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(&format!("more than {FILE_BYTES_MAX} bytes")));
    }
    let wanted: Wanted = toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let message = error.message().replace('\n', " ");
        Failure::Usage(format!("{}:{line}: {message}", path.display()))
    })?;
    wanted.check().map_err(|error| wrong(&error))?;
    Ok(wanted)
}

impl Wanted {
    fn names(&self) -> Vec<String> {
        let groups = self.groups.iter().map(|group| format!("group {}", group.path));
        let policies =
            self.policies.iter().map(|policy| format!("policy {} on {}", policy.application, policy.group));
        let tags = self.tags.iter().map(|tag| format!("tag {}", tag.name));
        let views = self.views.iter().map(|view| format!("view {}", view.name));
        let tasks = self.tasks.iter().filter_map(|task| task.definition.name.as_deref());
        let tasks = tasks.map(|name| format!("task {name}"));
        groups.chain(policies).chain(tags).chain(views).chain(tasks).collect()
    }

    /// Finds faults that the server would refuse in the middle of the work.
    fn check(&self) -> Result<(), String> {
        for policy in &self.policies {
            let named =
                |error: &dyn Display| format!("policy {} on {}: {error}", policy.application, policy.group);
            check_settings(&policy.settings).map_err(|error| named(&error))?;
            settings::parse_locks(&policy.locks, &policy.settings).map_err(|error| named(&error))?;
        }
        for tag in &self.tags {
            tag.rule.parse::<Filter>().map_err(|error| format!("tag {}: {error}", tag.name))?;
        }
        for view in &self.views {
            view.filter.parse::<Filter>().map_err(|error| format!("view {}: {error}", view.name))?;
        }
        for task in &self.tasks {
            let Some(name) = &task.definition.name else {
                let text = format!("a task of {} has no name: by that it is known again", task.application);
                return Err(text);
            };
            if holds_date(&Value::Object(task.settings.clone())) {
                return Err(format!("task {name}: {NO_DATE}"));
            }
        }
        Ok(())
    }
}

/// Settings are JSON, which has no dates.
fn check_settings(settings: &Map<String, Value>) -> Result<(), String> {
    if holds_date(&Value::Object(settings.clone())) {
        return Err(NO_DATE.into());
    }
    settings::check(settings).map_err(|error| error.to_string())
}

fn holds_date(value: &Value) -> bool {
    match value {
        Value::Object(keys) => keys.iter().any(|(key, value)| key.starts_with(DATE_KEY) || holds_date(value)),
        Value::Array(values) => values.iter().any(holds_date),
        _ => false,
    }
}
