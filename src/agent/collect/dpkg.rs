//! What dpkg installed: `/var/lib/dpkg/status`, stanzas in the format of deb822(5).

use std::io::{self, BufRead};

use super::clipped;
use super::lines::each_line;
use crate::wire::inventory::Application;
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Where the database is, under the root.
pub const STATUS_FILE: &str = "var/lib/dpkg/status";

#[derive(Default)]
struct Stanza {
    package: String,
    version: String,
    maintainer: String,
    architecture: String,
    is_installed: bool,
}

/// Reads a status file: every package that is installed, whatever was selected for it (`hold ok installed` is installed
/// too). A package of another architecture than the machine's own is named `name:architecture`; the machine's own is that
/// of dpkg itself.
///
/// At most [`INVENTORY_ENTRIES_MAX`] packages are read, the rest is left out.
///
/// # Errors
/// When reading fails. Content never does: what is no stanza is skipped.
pub fn parse(reader: impl BufRead) -> io::Result<Vec<Application>> {
    let mut found = Vec::new();
    let mut native = None;
    let mut stanza = Stanza::default();
    let mut finish = |stanza: &mut Stanza| {
        let stanza = std::mem::take(stanza);
        if !stanza.is_installed || stanza.package.is_empty() || found.len() >= INVENTORY_ENTRIES_MAX {
            return;
        }
        if stanza.package == "dpkg" {
            native = Some(stanza.architecture.clone());
        }
        let application =
            Application { name: stanza.package, version: stanza.version, publisher: stanza.maintainer };
        found.push((application, stanza.architecture));
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
                "Status" => stanza.is_installed = is_installed(value),
                _ => {}
            }
        }
    })?;
    finish(&mut stanza);
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

/// `WANT FLAG STATUS`, dpkg-query(1): a package whose flag is not `ok` has to be installed again.
fn is_installed(status: &str) -> bool {
    let mut words = status.split_ascii_whitespace();
    matches!((words.next(), words.next(), words.next()), (Some(_), Some("ok"), Some("installed")))
}
