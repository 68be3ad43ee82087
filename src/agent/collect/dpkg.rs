//! Packages that dpkg installed: `/var/lib/dpkg/status`, stanzas in the format of deb822(5), and the notes
//! beside it of a dpkg that was cut off.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::clipped;
use super::lines::each_line;
use crate::agent::open;
use crate::wire::inventory::{Application, version_in_state};
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Path of the database, under the root.
pub const STATUS_FILE: &str = "var/lib/dpkg/status";

/// Directory in which dpkg notes each step that is not in [`STATUS_FILE`] yet, under the root: files whose
/// names are digits, each with the stanza of one package as it is now. They are there while dpkg runs, and
/// after a power cut until it runs again.
pub const UPDATES_DIRECTORY: &str = "var/lib/dpkg/updates";

/// Most notes that are read, in files: dpkg merges them into the status file after 250.
const UPDATES_MAX: usize = 1_000;

#[derive(Default)]
struct Stanza {
    package: String,
    version: String,
    maintainer: String,
    architecture: String,
    status: Status,
}

impl Stanza {
    fn key(&self) -> (String, String) {
        (self.package.clone(), self.architecture.clone())
    }
}

/// Degree to which a package is installed.
#[derive(Default)]
enum Status {
    /// Nothing of it is there, or its configuration files alone.
    #[default]
    Absent,
    Installed,
    /// Its files are there, and something is missing.
    Partly(String),
}

/// Reads what is installed under `root`, whatever was selected for it (`hold ok installed` is installed too).
/// A package that is not wholly installed is named with its state behind its version, such as `1.2-3
/// (half-configured)`. A package of another architecture than the machine's own is named `name:architecture`;
/// the machine's own is that of dpkg itself.
///
/// At most [`INVENTORY_ENTRIES_MAX`] packages are read, the rest is left out.
///
/// # Errors
/// When reading fails. Content never does: what is no stanza is skipped.
pub fn read(root: &Path) -> io::Result<Vec<Application>> {
    let updates = updates(&root.join(UPDATES_DIRECTORY))?;
    merge(BufReader::new(open::file(&root.join(STATUS_FILE))?), updates)
}

/// As [`read`], of a status file alone.
///
/// # Errors
/// As [`read`].
#[cfg(any(test, feature = "internals"))]
pub fn parse(reader: impl BufRead) -> io::Result<Vec<Application>> {
    merge(reader, Vec::new())
}

/// The newest note of each package. A directory that is not there has none, and a file that goes meanwhile is
/// in the status file.
fn updates(directory: &Path) -> io::Result<Vec<Stanza>> {
    let Some(entries) = open::if_there(fs::read_dir(directory))? else { return Ok(Vec::new()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).take(UPDATES_MAX).collect();
    names.sort_unstable();
    let (mut newest, mut seen) = (Vec::new(), HashSet::new());
    for name in names.iter().rev() {
        let Some(file) = open::if_there(open::file(&directory.join(name)))? else { continue };
        each_stanza(BufReader::new(file), |stanza| {
            if seen.insert(stanza.key()) {
                newest.push(stanza);
            }
        })?;
    }
    Ok(newest)
}

fn merge(reader: impl BufRead, updates: Vec<Stanza>) -> io::Result<Vec<Application>> {
    let noted: HashSet<_> = updates.iter().map(Stanza::key).collect();
    let mut found = Vec::new();
    let mut native = None;
    let mut take = |stanza: Stanza| {
        let version = match stanza.status {
            Status::Absent => return,
            Status::Installed => stanza.version,
            Status::Partly(state) => version_in_state(&stanza.version, &state),
        };
        if stanza.package == "dpkg" {
            native = Some(stanza.architecture.clone());
        }
        if found.len() < INVENTORY_ENTRIES_MAX {
            let application = Application { name: stanza.package, version, publisher: stanza.maintainer };
            found.push((application, stanza.architecture));
        }
    };
    each_stanza(reader, |stanza| {
        if noted.is_empty() || !noted.contains(&stanza.key()) {
            take(stanza);
        }
    })?;
    updates.into_iter().for_each(&mut take);
    let is_native = |architecture: &str| {
        architecture.is_empty()
            || architecture == "all"
            || native.as_deref().is_none_or(|native| native == architecture)
    };
    Ok(found
        .into_iter()
        .map(|(mut application, architecture)| {
            if !is_native(&architecture) {
                application.name = clipped(&format!("{}:{architecture}", application.name));
            }
            application
        })
        .collect())
}

fn each_stanza(reader: impl BufRead, mut each: impl FnMut(Stanza)) -> io::Result<()> {
    let mut stanza = Stanza::default();
    let mut finish = |stanza: &mut Stanza| {
        let stanza = std::mem::take(stanza);
        if !stanza.package.is_empty() {
            each(stanza);
        }
    };
    each_line(reader, |line| {
        if line.is_empty() {
            finish(&mut stanza);
        } else if !line.starts_with([' ', '\t'])
            && let Some((field, value)) = line.split_once(':')
        {
            let value = value.trim();
            match field {
                "Package" => stanza.package = clipped(value),
                "Version" => stanza.version = clipped(value),
                "Maintainer" => stanza.maintainer = clipped(value),
                "Architecture" => stanza.architecture = clipped(value),
                "Status" => stanza.status = status(value),
                _ => {}
            }
        }
    })?;
    finish(&mut stanza);
    Ok(())
}

/// `WANT FLAG STATUS`, dpkg-query(1).
fn status(text: &str) -> Status {
    let mut words = text.split_ascii_whitespace().skip(1);
    match (words.next(), words.next()) {
        (None, _) | (_, None | Some("not-installed" | "config-files")) => Status::Absent,
        (Some("ok"), Some("installed")) => Status::Installed,
        (Some("ok"), Some(state)) => Status::Partly(state.to_owned()),
        (Some(_), Some("installed")) => Status::Partly("to be reinstalled".to_owned()),
        (Some(_), Some(state)) => Status::Partly(format!("{state}, to be reinstalled")),
    }
}
