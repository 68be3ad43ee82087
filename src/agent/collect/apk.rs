//! Packages that apk installed: `/lib/apk/db/installed`, one letter and a colon before each value, an empty
//! line after each package (the format of APKINDEX).

use std::io::{self, BufRead};

use super::clipped;
use super::lines::each_line;
use crate::wire::inventory::Application;
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Path of the database, under the root.
pub const INSTALLED_FILE: &str = "lib/apk/db/installed";

/// Reads an installed file. At most [`INVENTORY_ENTRIES_MAX`] packages are read, the rest is left out.
///
/// # Errors
/// When reading fails. Content never does: what is no package is skipped.
pub fn parse(reader: impl BufRead) -> io::Result<Vec<Application>> {
    let mut found = Vec::new();
    let empty = || Application { name: String::new(), version: String::new(), publisher: String::new() };
    let mut package = empty();
    let mut finish = |package: &mut Application| {
        let package = std::mem::replace(package, empty());
        if !package.name.is_empty() && found.len() < INVENTORY_ENTRIES_MAX {
            found.push(package);
        }
    };
    each_line(reader, |line| match line.split_once(':') {
        None if line.is_empty() => finish(&mut package),
        Some(("P", value)) => package.name = clipped(value),
        Some(("V", value)) => package.version = clipped(value),
        Some(("m", value)) => package.publisher = clipped(value),
        _ => {}
    })?;
    finish(&mut package);
    Ok(found)
}
