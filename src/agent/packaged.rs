//! Whether a package manager has the agent's program.

use std::path::{Path, PathBuf};

use super::open;

/// Marks of a package that has the agent, by paths in a machine's root.
const PACKAGED: [&str; 3] = [
    "usr/lib/systemd/system/muster-agent.service",
    "lib/systemd/system/muster-agent.service",
    "usr/lib/opkg/info/muster-agent.control",
];

/// Packages that apk(8) has installed, and the line of ours.
const APK: (&str, &str) = ("lib/apk/db/installed", "P:muster-agent");

/// Largest list of packages that is looked through: one of ten thousand packages has 20 MiB.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// The mark of a package that has the agent, of those in the machine with this root.
///
/// # Errors
/// When it can't be found out.
pub fn mark(root: &Path) -> Result<Option<PathBuf>, String> {
    let there = |path: &str| Some(root.join(path)).filter(|path| path.symlink_metadata().is_ok());
    if let Some(mark) = PACKAGED.iter().find_map(|path| there(path)) {
        return Ok(Some(mark));
    }
    let list = root.join(APK.0);
    let text = open::if_there(open::text(&list, LIST_BYTES_MAX))
        .map_err(|error| format!("can't read {}: {error}", list.display()))?;
    Ok(text.is_some_and(|text| text.lines().any(|line| line == APK.1)).then_some(list))
}
