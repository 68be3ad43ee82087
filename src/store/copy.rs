//! A copy of the database: one moment of it, page by page, while it may be written to.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::connection::{self, FILE_NAME};
use super::error::StoreError;
use super::{meta, schema, sessions};
use crate::wire::id::Epoch;

/// Pages that are copied at a time, in pages of 4 KiB.
const STEP_PAGES: i32 = 256;

/// Copies the database of a connection, as it is when the call begins, into a new file of mode 0600, and
/// makes it durable. An old file of that name is overwritten. Writers go on meanwhile; only the write-ahead
/// log can't begin anew until the copy is made.
pub(super) fn copy(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Open { path: target.display().to_string(), reason };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target);
    let file = file.map_err(|error| failed(error.to_string()))?;
    let mut copied = Connection::open(target).map_err(|error| failed(error.to_string()))?;
    // Nothing of it counts before it is whole, and it is made durable once, below.
    copied.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    // One read transaction around all steps: without it the copy begins again whenever somebody writes
    // between two of them.
    let moment = source.unchecked_transaction()?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let backup = Backup::new(&moment, &mut copied)?;
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::Done => break,
            StepResult::More => {}
            _ => return Err(failed("somebody has it locked".into())),
        }
    }
    drop(backup);
    moment.finish()?;
    copied.close().map_err(|(_, error)| error)?;
    file.sync_all().map_err(|error| failed(error.to_string()))
}

/// Makes what was made, renamed or deleted in the directory of a file durable.
pub(super) fn sync_directory_of(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| StoreError::Open {
        path: directory.display().to_string(),
        reason: error.to_string(),
    })
}

/// The contents of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// The server's epoch.
    pub server_epoch: Epoch,
    /// Devices that are enrolled.
    pub devices: u64,
}

/// Copies the database of a stopped server; what its log holds is in the copy.
///
/// # Errors
/// When there is none, it can't be read, or the copy can't be written.
pub fn copy_stopped(directory: &Path, target: &Path) -> Result<(), StoreError> {
    let path = directory.join(FILE_NAME);
    super::generation::check(&path)?;
    copy(&connection::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, target)
}

/// Makes a copy a file that needs no log beside it, and checks it.
///
/// # Errors
/// [`StoreError::Damaged`] when it is no whole database.
pub fn seal_copy(path: &Path) -> Result<Copied, StoreError> {
    let copied = connection::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // The header says that there is a log; the check is of the file alone.
    copied.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    connection::check(&copied, path)?;
    let count = "SELECT count(*) FROM devices WHERE removed_at IS NULL";
    let devices = copied.query_row(count, [], |row| row.get::<_, i64>(0))?;
    Ok(Copied { server_epoch: meta::server_epoch(&copied)?, devices: u64::try_from(devices).unwrap_or(0) })
}

/// Makes a restored copy another server's: it draws a new epoch.
///
/// # Errors
/// When it is none that this muster can read, is damaged, or can't be written.
pub fn begin_anew(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(FILE_NAME);
    let restored = connection::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection::check(&restored, &path)?;
    schema::check_version(&restored, &path)?;
    restored.pragma_update(None, "synchronous", "FULL")?;
    sessions::forget(&restored)?;
    meta::renew_server_epoch(&restored).map(drop)
}
