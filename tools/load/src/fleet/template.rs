//! Data of a server of `--self` after its devices were enrolled, kept for the next run: identity and
//! database, before the first event, and the devices' identities beside them. Each run works on a copy.
//!
//! A kept server has exactly as many devices as the run: one that knows more of them plans for more, and
//! would tell those that are there to spread over a longer time.

use std::io;
use std::path::{Path, PathBuf};

use muster::agent::identity::Identity;

use super::cache;
use crate::failure::Failure;

/// Parts of a server's data directory that are kept. The journal is empty, and made again.
const PARTS: [&str; 2] = ["identity", "store"];

/// The folder with what the same server had when half of the devices were enrolled.
const HALF: &str = "half";

const IDENTITIES: &str = "devices.identities";

/// Prefix of all folders.
const PREFIX: &str = "self-";

/// Servers that are kept at most, the newest; the largest take some 14 MB.
const KEPT_MAX: usize = 6;

/// Folder of the kept server with `devices` devices of one group.
pub(crate) fn folder(cache: &Path, group: &str, devices: usize) -> PathBuf {
    // A later version may store what this one does not understand.
    cache.join(format!("{PREFIX}{}-{group}-{devices}", env!("CARGO_PKG_VERSION")))
}

/// Puts the kept server's data where a new one looks for it. Its devices; `None` when there is none, or it is
/// damaged.
pub(crate) fn take(folder: &Path, data: &Path) -> Option<Vec<Identity>> {
    let identities = cache::read(&folder.join(IDENTITIES))?;
    copy_parts(folder, data).ok()?;
    Some(identities)
}

/// Puts what it had with half of its devices where a new server looks for it. Whether that is there.
pub(crate) fn take_half(folder: &Path, data: &Path) -> bool {
    copy_parts(&folder.join(HALF), data).is_ok()
}

/// Keeps in `folder`, for [`keep`], what a server that was ended in order has with half of its devices.
pub(crate) fn note_half(folder: &Path, data: &Path) -> Result<(), Failure> {
    copy_parts(data, folder).map_err(Failure::when(format!("write {}", folder.display())))
}

/// Keeps a server that was ended in order, and its devices; `half`: where [`note_half`] has put what it had
/// with half of them.
pub(crate) fn keep(
    folder: &Path,
    data: &Path,
    half: Option<&Path>,
    identities: &[Identity],
) -> Result<(), Failure> {
    let beside = folder.with_extension(format!("new-{}", std::process::id()));
    let written = copy_parts(data, &beside)
        .and_then(|()| half.map_or(Ok(()), |half| copy_parts(half, &beside.join(HALF))))
        .map_err(Failure::when(format!("write {} (--no-cache does without)", beside.display())))
        .and_then(|()| cache::write(&beside.join(IDENTITIES), identities));
    if written.is_ok() {
        forget(folder);
        let renamed = std::fs::rename(&beside, folder);
        forget_oldest(folder);
        return renamed
            .map_err(Failure::when(format!("write {} (--no-cache does without)", folder.display())));
    }
    forget(&beside);
    written
}

/// Removes the oldest beside `folder` until no more are left than are kept. A folder that can't be looked at
/// stays.
fn forget_oldest(folder: &Path) {
    let Some(entries) = folder.parent().and_then(|cache| std::fs::read_dir(cache).ok()) else { return };
    let mut kept: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.path() != folder)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort_unstable();
    for (_, oldest) in kept.iter().take((kept.len() + 1).saturating_sub(KEPT_MAX)) {
        forget(oldest);
    }
}

/// Removes what is kept.
pub(crate) fn forget(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

fn copy_parts(from: &Path, to: &Path) -> io::Result<()> {
    PARTS.iter().try_for_each(|part| copy(&from.join(part), &to.join(part)))
}

/// Copies a folder, whose files are nobody else's business.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_server_is_taken_as_it_was_and_a_damaged_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (data, new) = (directory.path().join("data"), directory.path().join("new"));
        let folder = folder(&directory.path().join("cache"), "kept", 3);
        assert!(take(&folder, &new).is_none());
        for part in PARTS {
            std::fs::create_dir_all(data.join(part)).unwrap();
            std::fs::write(data.join(part).join("file"), part).unwrap();
        }
        keep(&folder, &data, None, &[]).unwrap();
        assert!(!take_half(&folder, &new));
        let half = directory.path().join("half");
        note_half(&half, &data).unwrap();
        keep(&folder, &data, Some(&half), &[]).unwrap();
        assert!(take_half(&folder, &directory.path().join("other")));
        assert_eq!(take(&folder, &new), Some(Vec::new()));
        assert_eq!(std::fs::read_to_string(new.join("store/file")).unwrap(), "store");
        std::fs::write(folder.join(IDENTITIES), "x").unwrap();
        assert!(take(&folder, &new).is_none());
        forget(&folder);
        assert!(!folder.exists());
    }

    #[test]
    fn the_newest_servers_are_kept_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        for part in PARTS {
            std::fs::create_dir_all(data.join(part)).unwrap();
        }
        let cache = directory.path().join("cache");
        let made: Vec<_> = (1..KEPT_MAX + 4).map(|devices| folder(&cache, "kept", devices)).collect();
        let other = cache.join("server-kept.identities");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(&other, "another server's devices").unwrap();
        for (age, folder) in made.iter().enumerate() {
            keep(folder, &data, None, &[]).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            std::fs::File::open(folder).unwrap().set_modified(time).unwrap();
        }
        let left: Vec<_> = made.iter().filter(|folder| folder.exists()).collect();
        assert_eq!(left, made[made.len() - KEPT_MAX..].iter().collect::<Vec<_>>());
        assert!(other.exists());
    }
}
