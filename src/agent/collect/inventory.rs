//! The inventory: what all package systems of the machine have installed, together.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{apk, dpkg, pkg, rpm};
use crate::agent::application::Definition;
use crate::agent::open;
use crate::agent::settings::CollectSettings;
use crate::wire::inventory::Application;
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Fingerprint of a file's state, without reading it: inode, size and time of the last change. Another one
/// when it was replaced, written or resized.
type Stamp = (u64, u64, Option<SystemTime>);

/// The state of every package database: a changed one is a reason to read them.
pub type Fingerprint = Vec<Option<Stamp>>;

/// The databases that `settings` asks to look at, there or not.
#[must_use]
pub fn database_files(settings: &CollectSettings) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if settings.dpkg {
        files.push(settings.root.join(dpkg::STATUS_FILE));
    }
    if settings.apk {
        files.push(settings.root.join(apk::INSTALLED_FILE));
    }
    if settings.rpm {
        for file in rpm::DATABASE_FILES {
            files.push(settings.root.join(file));
            // SQLite may not yet have moved all into its file.
            if file.ends_with(".sqlite") {
                files.push(settings.root.join(format!("{file}-wal")));
            }
        }
    }
    if settings.pkg {
        files.push(settings.root.join(pkg::DATABASE_FILE));
    }
    files
}

/// The state of the databases, without reading them: a few stat(2) calls.
#[must_use]
pub fn fingerprint(settings: &CollectSettings) -> Fingerprint {
    let noted = settings.dpkg.then(|| settings.root.join(dpkg::UPDATES_DIRECTORY));
    database_files(settings)
        .iter()
        .chain(&noted)
        .map(|file| fs::metadata(file).ok().map(|data| (data.ino(), data.len(), data.modified().ok())))
        .collect()
}

/// The entries, sorted and each once, and the sources that could not be read.
#[derive(Debug, Default)]
pub struct Collected {
    /// The applications.
    pub applications: Vec<Application>,
    /// For each database that could not be read: why. With one of these the rest must not be taken for all
    /// there is.
    pub problems: Vec<String>,
}

/// Reads every database that is there; the applications of the program that embeds the agent are among the
/// rest. May take seconds when rpm or pkg is asked: not for the loop's thread.
#[must_use]
pub fn collect(settings: &CollectSettings, embedded: &[Definition]) -> Collected {
    let mut collected = Collected::default();
    collected.applications.extend(embedded.iter().filter_map(Definition::installed));
    let read = |file: PathBuf, parse: fn(BufReader<File>) -> std::io::Result<Vec<Application>>| {
        if !file.exists() {
            return Ok(Vec::new());
        }
        open::file(&file)
            .and_then(|open| parse(BufReader::new(open)))
            .map_err(|error| format!("{}: {error}", file.display()))
    };
    let mut take = |found: Result<Vec<Application>, String>| match found {
        Ok(found) => collected.applications.extend(found),
        Err(problem) => collected.problems.push(problem),
    };
    if settings.dpkg {
        let file = settings.root.join(dpkg::STATUS_FILE);
        if file.exists() {
            take(dpkg::read(&settings.root).map_err(|error| format!("{}: {error}", file.display())));
        }
    }
    if settings.apk {
        take(read(settings.root.join(apk::INSTALLED_FILE), apk::parse));
    }
    if settings.rpm
        && let Some(database) = rpm::DATABASE_FILES.iter().find(|file| settings.root.join(file).exists())
    {
        take(rpm::query(&settings.root, database).map_err(|error| error.to_string()));
    }
    if settings.pkg && settings.root.join(pkg::DATABASE_FILE).exists() {
        take(pkg::query(&settings.root).map_err(|error| error.to_string()));
    }
    collected.applications.sort_unstable();
    collected.applications.dedup();
    if collected.applications.len() > INVENTORY_ENTRIES_MAX {
        log::warn!(
            "{} applications are installed, the first {INVENTORY_ENTRIES_MAX} are reported",
            collected.applications.len()
        );
        collected.applications.truncate(INVENTORY_ENTRIES_MAX);
    }
    collected.applications.shrink_to_fit();
    collected
}
