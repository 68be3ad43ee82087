//! Connections to the file: one that writes, any number that read, one that only checkpoints.

use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::{self, LOCK_MILLISECONDS_MAX};
use super::error::StoreError;
use super::generation;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "muster.db";

/// Prepared statements that each connection keeps: all that this module has.
const STATEMENTS_MAX: usize = 128;

/// Pages that the write connection keeps in memory while there is something to write, in KiB (negative:
/// SQLite's sign for KiB). The dictionary's pages that are used again and again fit; what it misses the
/// system's page cache has. When nothing waits to be written they are freed: a fleet's times, written back
/// every few seconds, fill whatever is allowed here.
const WRITER_CACHE_KIBIBYTES: i64 = -4 * 1024;

/// The same while the device table is loaded, in KiB, negative as above. Each page is read once; what was
/// kept of them would stand between the pieces of the table, where its memory can't be given back.
const LOAD_CACHE_KIBIBYTES: i64 = -256;

/// Pages that each read connection keeps in memory, in KiB. Small: what it misses the system's page cache
/// has.
const READER_CACHE_KIBIBYTES: i64 = -256;

/// Longest wait of a connection for another one's lock. Only an administrator's own tool holds one for long;
/// a checkpoint does so for [`LOCK_MILLISECONDS_MAX`] at most.
const LOCK_WAIT_MILLISECONDS: u64 = 5_000;

/// Idle read connections that are kept, in connections: more than workers and administration use at once.
const IDLE_READERS_MAX: usize = 8;

/// Opens the file for writing; makes it, with mode 0600, when it isn't there.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    // SQLite would make the file with the umask's mode; -wal and -shm take theirs from it.
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(error.to_string()))?;
    // A good end leaves no log.
    let was_cut_off = checkpoint::length(&checkpoint::log_of(path)) > 0;
    if was_cut_off {
        generation::check(path)?;
    }
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if was_cut_off {
        let started = std::time::Instant::now();
        // A file that is refused stays as it is: the last connection to be closed would copy the log back.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        check(&connection, path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let (path, took) = (path.display(), started.elapsed().as_millis());
        log::info!("{path} was not closed at its last end; it is whole (checked in {took} ms)");
    }
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| failed(error.to_string()))?;
    if mode != "wal" {
        return Err(failed(format!("it cannot be used in WAL mode (SQLite chose '{mode}')")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 0)?;
    connection.pragma_update(None, "cache_size", LOAD_CACHE_KIBIBYTES)?;
    Ok(connection)
}

/// Whether the pages of the file, with those of its log, make a whole database (PRAGMA quick_check).
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: path.display().to_string(), what };
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| damaged(error.to_string()))?;
    // The first line names the database, the second what is wrong.
    if found == "ok" { Ok(()) } else { Err(damaged(found.replace('\n', " "))) }
}

/// Pages that were read once at the start have been read: from now on the writer works with the same pages
/// again and again.
pub(super) fn begin_writing(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "cache_size", WRITER_CACHE_KIBIBYTES)?;
    Ok(())
}

/// Opens the file for checkpoints, beside the writer.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_millis(LOCK_MILLISECONDS_MAX))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", READER_CACHE_KIBIBYTES)?;
    Ok(connection)
}

pub(super) fn open(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| StoreError::Open { path: path.display().to_string(), reason: error.to_string() })?;
    connection.busy_timeout(Duration::from_millis(LOCK_WAIT_MILLISECONDS))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Frees what a connection keeps in memory of the file (PRAGMA shrink_memory). Not within a transaction.
pub(super) fn empty_cache(connection: &Connection) {
    if let Err(error) = connection.execute_batch("PRAGMA shrink_memory") {
        log::debug!("the store's cache stays as it is: {error}");
    }
}

/// Read connections that wait to be used.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, idle: Mutex::new(Vec::new()) })
    }

    /// Closes those that nobody uses now: each has a third of a megabyte of the file, its schema and its
    /// statements in memory. A connection that is needed is opened again, in less than a millisecond.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock());
        // Closed without the lock.
        drop(idle);
    }

    pub(super) fn take(self: &Arc<Self>) -> Result<Reader, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let connection = open(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                connection.pragma_update(None, "cache_size", READER_CACHE_KIBIBYTES)?;
                connection
            }
        };
        Ok(Reader { connection: Some(connection), home: Arc::clone(self) })
    }
}

/// A read connection. It sees what is committed, and goes back to the store when dropped. For one thread at a
/// time.
#[derive(Debug)]
pub struct Reader {
    /// There until it is dropped.
    connection: Option<Connection>,
    home: Arc<Readers>,
}

impl Deref for Reader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("the connection leaves only when the reader is dropped")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock();
        if idle.len() < IDLE_READERS_MAX {
            idle.extend(self.connection.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_nobody_uses_are_closed_and_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let writer = open_writer(&path).unwrap();
        begin_writing(&writer).unwrap();
        writer.execute_batch("CREATE TABLE things (id INTEGER)").unwrap();
        let readers = Readers::new(path);
        let count = |reader: &Reader| {
            reader.query_row("SELECT count(*) FROM things", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let used = readers.take().unwrap();
        drop(readers.take().unwrap());
        readers.close_idle();
        assert_eq!(readers.idle.lock().len(), 0);
        assert_eq!(count(&used), 0, "one that is in use stays");
        drop(used);
        assert_eq!(readers.idle.lock().len(), 1);
        empty_cache(&writer);
        writer.execute_batch("INSERT INTO things VALUES (1)").unwrap();
        assert_eq!(count(&readers.take().unwrap()), 1);
    }
}
