//! A data directory is made of a backup.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::Path;

use super::{BackupError, Contents, PARTS, WARNINGS, archive};
use crate::journal::{self, SegmentHeader};
use crate::server::config::Config;
use crate::server::data_directory::{DataDirectory, UNFINISHED};
use crate::server::identity::{Identity, IdentityError};
use crate::store;

/// Zeros that are written at a time behind a segment that was cut.
const ZERO_BYTES: usize = 256 * 1024;

/// Makes a data directory of a backup, in an empty or a new directory, and checks all of it. Until it is
/// whole a server refuses to start there, also after a kill in the middle. A restored server has another
/// epoch than the one that the backup is of.
///
/// The result names damage of the journal: that was there when the backup was made.
///
/// # Errors
/// [`BackupError`]; the directory is empty then, as far as the system allows.
pub fn restore(path: &Path, directory: &Path) -> Result<Contents, BackupError> {
    // First, so that nothing is made when there is no such file.
    let file = File::open(path).map_err(BackupError::io("read", path))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(BackupError::io("make", directory))?;
    let _locked = DataDirectory::lock_to_restore(directory)?;
    let listed = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let listed = listed.map_err(BackupError::io("read", directory))?;
    // A file system of its own has that in its root.
    if listed.iter().any(|entry| entry.file_name() != "lost+found") {
        return Err(BackupError::NotEmpty(directory.to_owned()));
    }
    let restored = fill(path, &file, directory);
    if restored.is_err() {
        for part in PARTS {
            let _ = fs::remove_dir_all(directory.join(part));
        }
        let _ = fs::remove_file(directory.join(UNFINISHED));
    }
    restored
}

fn fill(path: &Path, file: &File, directory: &Path) -> Result<Contents, BackupError> {
    let mark = directory.join(UNFINISHED);
    fs::write(&mark, b"").map_err(BackupError::io("write", &mark))?;
    sync(directory)?;
    for part in PARTS {
        let made = directory.join(part);
        DirBuilder::new().mode(0o700).create(&made).map_err(BackupError::io("make", &made))?;
    }
    let contents = archive::read(path, file, |name, _, content| {
        let target = directory.join(name);
        let is_segment = name.starts_with("journal/") || name.starts_with(WARNINGS);
        extract(&target, is_segment, content).map_err(BackupError::io("write", &target))
    })?;
    let config = Config::in_directory(directory);
    match Identity::open(&config.identity_directory()) {
        // The start of the server, which has the passphrase, tells whether the keys are whole.
        Ok(_) | Err(IdentityError::Sealed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    store::begin_anew(&config.store_directory())?;
    journal::verify(&config.journal_directory())?;
    if contents.journal.warnings > 0 {
        journal::verify(&config.warnings_directory())?;
    } else {
        // Made with the first warning that is copied to it.
        let empty = config.warnings_directory();
        fs::remove_dir_all(&empty).map_err(BackupError::io("remove", &empty))?;
    }
    for part in PARTS.into_iter().filter(|part| directory.join(part).exists()) {
        give_to_owner(directory, &directory.join(part))?;
        sync(&directory.join(part))?;
    }
    sync(directory)?;
    fs::remove_file(&mark).map_err(BackupError::io("remove", &mark))?;
    sync(directory)?;
    Ok(contents)
}

/// Writes a part. A segment that was cut gets its length back, in zeros that are on the disk: appends go into
/// them.
fn extract(target: &Path, is_segment: bool, content: &mut dyn Read) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(target)?;
    let written = io::copy(content, &mut file)?;
    if is_segment {
        let mut header = vec![0; usize::try_from(written.min(journal::HEADER_BLOCK_BYTES)).unwrap_or(0)];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut header, 0)?;
        let zeros = vec![0; ZERO_BYTES];
        let mut left =
            SegmentHeader::decode(&header).map_or(0, |header| header.bytes.saturating_sub(written));
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZERO_BYTES);
            file.write_all(&zeros[..piece])?;
            left -= piece as u64;
        }
    }
    file.sync_all()
}

/// Restored by root, it belongs to the user whose directory it is, as whom the server runs.
fn give_to_owner(directory: &Path, part: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(directory).map_err(BackupError::io("read", directory))?;
    let is_own = owner.uid() == rustix::process::geteuid().as_raw();
    if is_own || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let give = |path: &Path| {
        let failed = BackupError::io("change the owner of", path);
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed)
    };
    for entry in fs::read_dir(part).map_err(BackupError::io("read", part))? {
        give(&entry.map_err(BackupError::io("read", part))?.path())?;
    }
    give(part)
}

fn sync(directory: &Path) -> Result<(), BackupError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(BackupError::io("write", directory))
}
