//! Generations of the write-ahead log: whether a log that was found beside the file belongs to it.
//!
//! A log begins anew only when all of it is in the file. So a number that rises once with each log is, in the
//! file alone, that of the log beside it, or the one before. Any other says that somebody put a copy of
//! another moment there: the pages of both together would make a database that never was, and one that
//! `PRAGMA quick_check` may find in order. The number has a table, and so a page, of its own: that page never
//! moves, and half a checkpoint leaves it readable.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::checkpoint;
use super::error::StoreError;

/// Offset of the two salts of a log, which are drawn when it begins
/// (<https://www.sqlite.org/fileformat2.html#walformat>).
const SALTS_OFFSET: u64 = 16;

/// Counts the logs, from the writer's thread.
pub(super) struct Generations {
    log: PathBuf,
    file: Option<File>,
    /// Salts of the log that has its number.
    numbered: Option<[u8; 8]>,
}

impl Generations {
    /// For the file at `path`. A log that is there goes on, with its number.
    pub(super) fn new(path: &Path) -> Self {
        let mut generations = Self { log: checkpoint::log_of(path), file: None, numbered: None };
        generations.numbered = generations.salts();
        generations
    }

    /// Gives a log that has begun anew its number.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        if self.salts() == self.numbered {
            return;
        }
        match connection.execute("UPDATE log_generation SET generation = generation + 1", []) {
            // Read again: the log may have begun anew with this very number.
            Ok(_) => self.numbered = self.salts(),
            Err(error) => log::debug!("the log has no number yet: {error}"),
        }
    }

    fn salts(&mut self) -> Option<[u8; 8]> {
        if self.file.is_none() {
            self.file = File::open(&self.log).ok();
        }
        let mut salts = [0; 8];
        self.file.as_ref()?.read_exact_at(&mut salts, SALTS_OFFSET).ok().map(|()| salts)
    }
}

/// Whether the file at `path` and the log beside it are of one moment. Before any other connection is open.
///
/// # Errors
/// [`StoreError::Damaged`] when they are not.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    // A number that can't be read (a file that has nothing but its log yet, or damage) says nothing.
    let (Some(alone), Some(together)) = (generation(path, true), generation(path, false)) else {
        return Ok(());
    };
    if alone == together || alone + 1 == together {
        return Ok(());
    }
    let what = format!("the file and its -wal are of different moments, {alone} and {together}");
    Err(StoreError::Damaged { path: path.display().to_string(), what })
}

/// The number in the file, or in the file with its log.
fn generation(path: &Path, is_alone: bool) -> Option<i64> {
    let encoded: String = path.to_str()?.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let absolute = if encoded.starts_with('/') { "//" } else { "" };
    let uri = format!("file:{absolute}{encoded}{}", if is_alone { "?immutable=1" } else { "" });
    let access = if is_alone { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection = Connection::open_with_flags(uri, access | OpenFlags::SQLITE_OPEN_URI).ok()?;
    // The last connection to be closed would copy the log back into a file that it does not belong to.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok()?;
    connection.query_row("SELECT generation FROM log_generation", [], |row| row.get(0)).ok()
}
