//! A directory that is there for one run.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::Failure;

/// Prefix of the names of such directories, before the number of the process that made them.
const PREFIX: &str = "muster-load-";

/// A directory for one run, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `parent`, or where the system keeps such things.
    pub(crate) fn make(parent: Option<&Path>) -> Result<Self, Failure> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Failure::when(format!("make {} (name another place with --data)", path.display())))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// This directory, and those that the same process made beside it.
pub(crate) fn of_same_run(directory: &Path) -> Vec<PathBuf> {
    let mut all = vec![directory.to_owned()];
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let (Some((run, _)), Some(parent)) = (name.rsplit_once('-'), directory.parent())
        && run.starts_with(PREFIX)
        && let Ok(beside) = std::fs::read_dir(parent)
    {
        let is_of_run = |name: &str| name.rsplit_once('-').is_some_and(|(other, _)| other == run);
        let beside = beside.filter_map(Result::ok);
        all.extend(beside.filter(|it| it.file_name().to_str().is_some_and(is_of_run)).map(|it| it.path()));
    }
    all
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_it() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) =
            (Scratch::make(Some(parent.path())).unwrap(), Scratch::make(Some(parent.path())).unwrap());
        assert_ne!(one.path(), other.path());
        std::fs::write(one.path().join("file"), "x").unwrap();
        drop((one, other));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        let error = Scratch::make(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(error.message.contains("--data"), "{error}");
    }
}
