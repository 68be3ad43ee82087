//! The last configuration that an agent ran with, kept in the data directory: a file that goes wrong must not
//! take the device from its server.

use std::io;
use std::path::{Path, PathBuf};

use super::checksummed;
use super::settings::{self, Settings};

/// Its name in the data directory.
const FILE_NAME: &str = "muster-agent.toml.last-good";

/// The directory that a service manager gives a service (systemd.exec(5), `StateDirectory=`).
const STATE_VARIABLE: &str = "STATE_DIRECTORY";

/// Data directory of a service, as the unit and the configuration that come with it say.
pub const SYSTEM_DATA: &str = "/var/lib/muster-agent";

fn heading(of: &Path) -> String {
    format!("# What {} said when the agent last ran with it. Kept by the agent: do not edit.\n", of.display())
}

/// Keeps `text`, which `of` says, in the data directory. Writes only what has changed.
///
/// # Errors
/// When the system refuses.
pub fn keep(directory: &Path, of: &Path, text: &str) -> io::Result<()> {
    let whole = heading(of) + text;
    let path = directory.join(FILE_NAME);
    if settings::text(&path).is_ok_and(|kept| kept == whole) {
        return Ok(());
    }
    checksummed::write_bytes(&path, whole.as_bytes())
}

/// The last good copy of `of`, and its data directory: the one that was named, the one that the wrong file
/// still says, the service's.
#[must_use]
pub fn find(named: Option<&Path>, of: &Path) -> Option<(PathBuf, Settings)> {
    let said = settings::text(of).ok().and_then(|text| data_of(&text));
    let given = std::env::var_os(STATE_VARIABLE).map(PathBuf::from);
    let places = [named.map(Path::to_owned), said, given, Some(SYSTEM_DATA.into())];
    places.into_iter().flatten().chain(of.parent().map(Path::to_owned)).find_map(|directory| {
        let path = directory.join(FILE_NAME);
        let text = settings::text(&path).ok()?;
        let text = text.strip_prefix(&heading(of))?;
        let settings = Settings::parse(text, &path).ok()?;
        Some((directory, settings))
    })
}

/// The data directory that a file names which may be wrong elsewhere: before its first table, on a line of
/// its own.
fn data_of(text: &str) -> Option<PathBuf> {
    let mut lines = text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
    lines.find_map(|line| {
        let table: toml::Table = line.starts_with("data").then(|| line.parse().ok())??;
        table.get("data")?.as_str().map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_for_that_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let file = directory.path().join("agent.toml");
        let text = format!("data = {data:?}\n[wake]\nport = 7\n");
        keep(&data, &file, &text).unwrap();
        // Wrong twice: a key that is none, and a line that is no TOML.
        std::fs::write(&file, format!("prot = 1\ndata = {data:?} # here\n[wake\nport = \n")).unwrap();
        let (found, settings) = find(None, &file).unwrap();
        assert_eq!((found, settings.wake.port), (data.clone(), 7));
        assert!(find(Some(&data), &directory.path().join("other.toml")).is_none());
        std::fs::remove_file(&file).unwrap();
        assert!(find(None, &file).is_none(), "nothing says where");
        assert_eq!(find(Some(&data), &file).unwrap().1.wake.port, 7);
    }

    #[test]
    fn a_data_directory_is_read_from_a_wrong_file() {
        assert_eq!(data_of("a = \n data = \"/x\" # why\n"), Some("/x".into()));
        assert_eq!(data_of("#data = \"/x\"\n[socket]\ndata = \"/y\"\n"), None);
        assert_eq!(data_of("database = \"/x\"\ndata = 3\n"), None);
    }
}
