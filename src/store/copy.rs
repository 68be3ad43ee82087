//! A copy of the database: one moment of it, page by page, while it may be written to.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// Pages that are copied at a time, in pages of 4 KiB.
const STEP_PAGES: i32 = 256;

/// Copies the database of a connection, as it is when the call begins, into a new file of mode 0600, and makes it durable. An old file of
/// that name is overwritten. Writers go on meanwhile; only the write-ahead log can't begin anew until the copy is made.
pub(super) fn copy(source: &mut Connection, target: &Path) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Open { path: target.display().to_string(), reason };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target);
    let file = file.map_err(|error| failed(error.to_string()))?;
    let mut copied = Connection::open(target).map_err(|error| failed(error.to_string()))?;
    // Nothing of it counts before it is whole, and it is made durable once, below.
    copied.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    // One read transaction around all steps: without it the copy begins again whenever somebody writes between two of them.
    let moment = source.transaction_with_behavior(TransactionBehavior::Deferred)?;
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
