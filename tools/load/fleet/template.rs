//! What a server of `--self` had after its devices were enrolled, kept for the next run: identity and database, before the first event,
//! and the devices' identities beside them. Each run works on a copy.

use std::io;
use std::path::{Path, PathBuf};

use muster::agent::identity::Identity;

use super::cache;
use crate::failure::Failure;

/// What is kept of a server's data directory. The journal is empty, and made again.
const PARTS: [&str; 2] = ["identity", "store"];

/// The folder with what the same server had when half of the devices were enrolled.
const HALF: &str = "half";

const IDENTITIES: &str = "devices.identities";

/// Where the kept server of one group is.
pub(crate) fn folder(cache: &Path, group: &str) -> PathBuf {
    // A later version may store what this one does not understand.
    cache.join(format!("self-{}-{group}", env!("CARGO_PKG_VERSION")))
}

/// Puts the kept server's data where a new one looks for it. Its devices; `None` when there is none, or it is damaged.
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

/// Keeps a server that was ended in order, and its devices; `half`: where [`note_half`] has put what it had with half of them.
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
        return renamed
            .map_err(Failure::when(format!("write {} (--no-cache does without)", folder.display())));
    }
    forget(&beside);
    written
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
        let folder = folder(&directory.path().join("cache"), "kept");
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
}
