//! Checkpoints: the write-ahead log goes back into the file, on a connection and a thread of their own, so that no commit waits for
//! it (<https://www.sqlite.org/wal.html>).

use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use rusqlite::Connection;

/// Length of the log from which on it is copied back, in bytes: about 1,000 pages, SQLite's own default.
const LOG_BYTES_TARGET: u64 = 4 * 1024 * 1024;

/// Length of the log from which on the writer is held up for a moment so that the log begins anew, in bytes. Reached only when
/// some reader was always in the way.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Rings the checkpointer.
pub(super) struct Doorbell {
    sender: Sender<u64>,
    log: PathBuf,
    reported: u64,
}

/// The checkpointer's end.
pub(super) struct Rings(Receiver<u64>);

/// A doorbell for the file at `path`.
pub(super) fn doorbell(path: &Path) -> (Doorbell, Rings) {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    (Doorbell { sender, log: log.into(), reported: 0 }, Rings(receiver))
}

impl Doorbell {
    /// After a commit: rings when the log has grown by enough since the last ring. (The write connection cuts a log that begins
    /// anew, so that the file's length is the log's.)
    pub(super) fn after_commit(&mut self) {
        let Ok(file) = std::fs::metadata(&self.log) else { return };
        let length = file.len();
        if length < self.reported {
            self.reported = 0;
        }
        if length < self.reported + LOG_BYTES_TARGET {
            return;
        }
        match self.sender.try_send(length) {
            Ok(()) => self.reported = length,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Works until the doorbell is gone; then copies all of the log back and empties it.
pub(super) fn run(connection: &Connection, rings: &Rings) {
    for length in &rings.0 {
        checkpoint(connection, if length > LOG_BYTES_MAX { "TRUNCATE" } else { "PASSIVE" });
    }
    checkpoint(connection, "TRUNCATE");
}

fn checkpoint(connection: &Connection, mode: &str) {
    let outcome: rusqlite::Result<(i64, i64, i64)> =
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
    match outcome {
        Ok((blocked, log, copied)) => {
            log::debug!("checkpoint ({mode}): {copied} of {log} pages copied back, blocked: {blocked}");
        }
        // Nothing is lost: the log stays as it is, and the next checkpoint tries again.
        Err(error) => log::warn!("checkpoint ({mode}) failed, the log stays: {error}"),
    }
}
