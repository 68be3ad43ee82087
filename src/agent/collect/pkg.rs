//! Packages that FreeBSD's pkg installed. Its database is SQLite's, in a form that is its keeper's alone: so
//! pkg itself is asked (pkg-query(8)).

use std::path::Path;

use super::lines::each_line;
use super::{clipped, query_keeper};
use crate::agent::process::ProcessError;
use crate::wire::inventory::Application;
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Directory of its database, under the root.
const DATABASE_DIRECTORY: &str = "var/db/pkg";

/// The database.
pub const DATABASE_FILE: &str = "var/db/pkg/local.sqlite";

/// Name, version, maintainer.
const QUERY_FORMAT: &str = "%n\t%v\t%m";

/// Asks pkg what is installed under `root`.
///
/// # Errors
/// When pkg is not there, takes too long or fails.
pub fn query(root: &Path) -> Result<Vec<Application>, ProcessError> {
    let directory = format!("PKG_DBDIR={}", root.join(DATABASE_DIRECTORY).display());
    Ok(parse(&query_keeper(&["pkg", "-o", &directory, "query", "-a", QUERY_FORMAT])?))
}

/// Reads what pkg answered: a line for each package, its parts parted by tabs.
#[must_use]
pub fn parse(output: &[u8]) -> Vec<Application> {
    let mut found = Vec::new();
    // Reading from memory can't fail.
    let _ = each_line(output, |line| {
        let mut parts = line.split('\t').map(clipped);
        let (Some(name), Some(version)) = (parts.next(), parts.next()) else { return };
        if name.is_empty() || found.len() >= INVENTORY_ENTRIES_MAX {
            return;
        }
        found.push(Application { name, version, publisher: parts.next().unwrap_or_default() });
    });
    found
}
