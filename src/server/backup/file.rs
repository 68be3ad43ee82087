//! A backup as a file: there wholly or not at all, and read back before it counts.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{BackupError, Contents, archive};
use crate::wire::time::WallTime;

/// Size of one write.
const WRITE_BYTES: usize = 256 * 1024;

/// End of a backup's name until it is whole and verified.
const PARTIAL: &str = ".partial";

/// Beginning and end of the names of scheduled backups; between them is the time.
const SCHEDULED_START: &str = "muster-";
const SCHEDULED_END: &str = ".tar";

/// Name of a backup until it is whole and verified.
pub(super) fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

/// Opens the file of a backup that is being made: of mode 0600, for one process at a time.
pub(super) fn open_partial(partial: &Path) -> Result<File, BackupError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // Nobody else decides where the keys go.
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(partial)
        .map_err(BackupError::io("write", partial))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(BackupError::Busy),
        Err(fs::TryLockError::Error(error)) => Err(BackupError::io("lock", partial)(error)),
    }
}

/// Has `make` write a backup, and gives it its name once it is on disk and was read back from there. Whatever
/// ends this in between, also a kill or a power cut, leaves what had the name before.
///
/// # Errors
/// [`BackupError`], also that of `make`.
pub fn write_file(
    path: &Path,
    make: impl FnOnce(&mut dyn Write) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(BackupError::NotAFile(path.to_owned()));
    }
    let partial = partial(path);
    let file = open_partial(&partial)?;
    let written = write(path, &partial, &file, make);
    if written.is_err() {
        // The next attempt overwrites the rest of it.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write(
    path: &Path,
    partial: &Path,
    file: &File,
    make: impl FnOnce(&mut dyn Write) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    let failed = || BackupError::io("write", partial);
    file.set_len(0).map_err(failed())?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed())?;
    let mut out = BufWriter::with_capacity(WRITE_BYTES, file);
    make(&mut out)?;
    out.flush().map_err(failed())?;
    file.sync_all().map_err(failed())?;
    // So that it is read from the disk, as far as the system does what it is asked for.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    let contents = verify(partial)?;
    fs::rename(partial, path).map_err(BackupError::io("rename", partial))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(BackupError::io("write", directory))?;
    Ok(contents)
}

/// Reads a backup from beginning to end: whether it is whole, and what is in it.
///
/// # Errors
/// [`BackupError::NotWhole`] or [`BackupError::Newer`], or that it can't be read.
pub fn verify(path: &Path) -> Result<Contents, BackupError> {
    let file = File::open(path).map_err(BackupError::io("read", path))?;
    archive::read(path, &file, |_, _, _| Ok(()))
}

/// Name of a scheduled backup, from its time.
pub(super) fn scheduled_name(now: WallTime) -> String {
    let time = now.to_string();
    let digits: String =
        time.split('.').next().unwrap_or_default().chars().filter(|c| !"-:".contains(*c)).collect();
    format!("{SCHEDULED_START}{digits}Z{SCHEDULED_END}")
}

/// Scheduled backups in a directory with their times, the newest first.
pub(super) fn scheduled(directory: &Path) -> Vec<(WallTime, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((scheduled_time(path.file_name()?.to_str()?)?, path))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found
}

/// The time in the name of a scheduled backup; `None`: it is none.
fn scheduled_time(name: &str) -> Option<WallTime> {
    let digits = name.strip_prefix(SCHEDULED_START)?.strip_suffix(SCHEDULED_END)?;
    let time = format!(
        "{}-{}-{}:{}:{}",
        digits.get(..4)?,
        digits.get(4..6)?,
        digits.get(6..11)?,
        digits.get(11..13)?,
        digits.get(13..)?
    );
    time.parse().ok().filter(|time| scheduled_name(*time) == name)
}

/// Removes what killed servers left of scheduled backups: each has another name, so nothing overwrites it.
pub(super) fn remove_partial(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(PARTIAL));
        if name.and_then(scheduled_time).is_some() && open_partial(&path).is_ok() {
            log::info!("removed {}: it was never whole", path.display());
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_scheduled_backup_is_its_time() {
        let time: WallTime = "2026-11-28T03:04:05Z".parse().unwrap();
        assert_eq!(scheduled_name(time), "muster-20261128T030405Z.tar");
        assert_eq!(scheduled_time("muster-20261128T030405Z.tar"), Some(time));
        for other in
            ["muster-20261128T030405Z.tar.partial", "muster-mine.tar", "muster-20261340T030405Z.tar", "x"]
        {
            assert_eq!(scheduled_time(other), None, "{other}");
        }
    }
}
