//! Packages that rpm installed. Its database has several formats, and librpm is their keeper: so rpm itself
//! is asked.

use std::path::Path;

use super::lines::each_line;
use super::{clipped, query_keeper};
use crate::agent::process::ProcessError;
use crate::wire::inventory::Application;
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Paths at which a database may be, under the root: each format has its own name, each age of rpm its own
/// place.
pub const DATABASE_FILES: [&str; 6] = [
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/Packages",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/Packages",
];

const QUERY_FORMAT: &str =
    "%{NAME}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{VENDOR}\\t%{PACKAGER}\\n";

/// Asks rpm what is installed under `root`, according to `database`, one of [`DATABASE_FILES`].
///
/// # Errors
/// When rpm is not there, takes too long or fails.
pub fn query(root: &Path, database: &str) -> Result<Vec<Application>, ProcessError> {
    let root = root.to_string_lossy();
    // The very database that was found: rpm's own setting may name another, as on systems where rpm is a
    // guest.
    let directory = database.rsplit_once('/').map_or("/", |(directory, _)| directory);
    let directory = format!("/{directory}");
    let mut words = vec!["rpm", "--dbpath", &directory, "-qa", "--queryformat", QUERY_FORMAT];
    // `--root` makes rpm change its root directory, which only the superuser may do: leave it out where it
    // says nothing.
    if root != "/" {
        words.extend(["--root", &root]);
    }
    let output = query_keeper(&words)?;
    let machine = rustix::system::uname();
    Ok(parse(&output, &machine.machine().to_string_lossy()))
}

/// Reads what rpm answered: a line for each package, its parts parted by tabs. A package of another
/// architecture than the system's own is named `name:architecture`. The system's own is that of rpm itself:
/// the kernel may run another (`machine`), and may name its own in another way (`x86_64` for packages of
/// `x86_64_v2`, `armv7l` for `armv7hl`, `x86_64` under a userland of `i686`).
#[must_use]
pub fn parse(output: &[u8], machine: &str) -> Vec<Application> {
    let mut found = Vec::new();
    let native = native(output);
    let native = native.as_deref().unwrap_or(machine);
    // Reading from memory can't fail.
    let _ = each_line(output, |line| {
        let mut parts = line.split('\t').map(|part| if part == "(none)" { "" } else { part });
        let (Some(name), Some(version)) = (parts.next(), parts.next()) else { return };
        let architecture = parts.next().unwrap_or_default();
        // Keys that rpm keeps beside the packages, as if they were some.
        if name.is_empty() || name == "gpg-pubkey" || found.len() >= INVENTORY_ENTRIES_MAX {
            return;
        }
        let (vendor, packager) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_native = ["", "noarch", native].contains(&architecture);
        let name = if is_native { clipped(name) } else { clipped(&format!("{name}:{architecture}")) };
        let publisher = clipped(if vendor.is_empty() { packager } else { vendor });
        found.push(Application { name, version: clipped(version), publisher });
    });
    found
}

/// The architecture of the packages that rpm itself is made of; `None` when it did not install itself.
fn native(output: &[u8]) -> Option<String> {
    let mut native = None;
    let _ = each_line(output, |line| {
        let mut parts = line.split('\t');
        if let (Some("rpm" | "rpm-libs"), Some(_), Some(architecture)) =
            (parts.next(), parts.next(), parts.next())
            && !["", "(none)", "noarch"].contains(&architecture)
        {
            native.get_or_insert_with(|| architecture.to_owned());
        }
    });
    native
}
