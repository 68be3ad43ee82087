//! Checkpoints: the write-ahead log goes back into the file, on a connection and a thread of their own, so
//! that no commit waits for it (<https://www.sqlite.org/wal.html>).
//!
//! A passive checkpoint takes no lock that a writer wants, but the log begins anew only when nobody reads it
//! any more. That takes the write lock; it is asked for only when everything is copied back already, waits
//! [`LOCK_MILLISECONDS_MAX`] at most for readers to end, and is tried again ever more rarely. A read
//! transaction that does not end (an SQLite shell that was left open) then costs disk, and is named; it never
//! costs an operation.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rusqlite::Connection;

use super::connection::open_checkpointer;
use super::health::LogBlocked;
use super::writer::WriterCounters;
use crate::file_locks::{self, Kind};

/// Length of the log from which on it is copied back: about 1,000 pages, SQLite's own default.
const LOG_BYTES_TARGET: u64 = 4 * 1024 * 1024;

/// Length of the log from which on it is made to begin anew. Reached only when some reader was always in the
/// way.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest wait of a checkpoint for readers while it has the write lock.
pub(super) const LOCK_MILLISECONDS_MAX: u64 = 50;

/// Pause after the log could not begin anew; doubled each time, up to [`PAUSE_SECONDS_MAX`].
const PAUSE_SECONDS_MIN: u64 = 1;

/// Longest such pause.
const PAUSE_SECONDS_MAX: u64 = 60;

/// The bytes of the `-shm` file that readers of the log lock: WAL_READ_LOCK(0) to (4) of
/// <https://www.sqlite.org/walformat.html#wal_locks>.
const READ_LOCK_BYTES: std::ops::RangeInclusive<u64> = 123..=127;

/// Notifies the checkpointer.
pub(super) struct Notifier {
    sender: Sender<()>,
    log: PathBuf,
    reported: u64,
}

/// The checkpointer's end.
pub(super) struct Notifications {
    receiver: Receiver<()>,
    path: PathBuf,
}

/// The write-ahead log of the file at `path`.
pub(super) fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Length of a file, in bytes; 0 when it is not there.
pub(super) fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// A notifier for the file at `path`.
pub(super) fn notifier(path: &Path) -> (Notifier, Notifications) {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    (Notifier { sender, log: log_of(path), reported: 0 }, Notifications { receiver, path: path.to_owned() })
}

impl Notifier {
    /// After a commit: notifies when the log has grown by enough since the last notification. (The write
    /// connection cuts a log that begins anew, so that the file's length is the log's.)
    pub(super) fn after_commit(&mut self) {
        let length = length(&self.log);
        if length < self.reported {
            self.reported = 0;
        }
        if length < self.reported + LOG_BYTES_TARGET {
            return;
        }
        match self.sender.try_send(()) {
            Ok(()) => self.reported = length,
            Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// Works until the notifier is gone; then copies all of the log back and empties it.
///
/// The connection is there while it works: it has a fifth of a megabyte in memory, and is opened in less than
/// a millisecond.
pub(super) fn run(notifications: &Notifications, counters: &Arc<WriterCounters>) {
    let path = &notifications.path;
    let mut stuck: Option<Stuck> = None;
    loop {
        let notified = match &stuck {
            None => notifications.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(stuck) => notifications.receiver.recv_deadline(stuck.next_try),
        };
        let is_over = notified == Err(RecvTimeoutError::Disconnected);
        match open_checkpointer(path) {
            Ok(connection) if is_over => drop(copy_back(&connection, "TRUNCATE")),
            Ok(connection) => {
                let log_max = LOG_BYTES_MAX;
                let mut checkpointer =
                    Checkpointer { connection: &connection, path, log_max, counters, stuck: stuck.take() };
                checkpointer.turn(Instant::now());
                stuck = checkpointer.stuck;
            }
            // As when a checkpoint fails.
            Err(error) => log::warn!("no checkpoint, the log stays: {error}"),
        }
        if is_over {
            return;
        }
    }
}

/// Some reader is always in the way.
struct Stuck {
    since: Instant,
    /// Before this the log is not made to begin anew.
    next_try: Instant,
    pause: Duration,
    /// Length of the log when the log of the server last told of it, in bytes.
    told: u64,
}

struct Checkpointer<'a> {
    connection: &'a Connection,
    path: &'a Path,
    /// As [`LOG_BYTES_MAX`].
    log_max: u64,
    counters: &'a Arc<WriterCounters>,
    stuck: Option<Stuck>,
}

impl Checkpointer<'_> {
    fn turn(&mut self, now: Instant) {
        let Some((log, copied)) = copy_back(self.connection, "PASSIVE") else { return };
        let length = length(&log_of(self.path));
        if length <= self.log_max {
            return self.unstick();
        }
        if self.stuck.as_ref().is_some_and(|stuck| now < stuck.next_try) {
            return;
        }
        // While somebody reads an older state there is no need to ask for the lock.
        if copied >= log && copy_back(self.connection, "TRUNCATE").is_some_and(|(log, _)| log == 0) {
            return self.unstick();
        }
        self.remain_stuck(now, length);
    }

    fn remain_stuck(&mut self, now: Instant, length: u64) {
        let megabytes = length >> 20;
        match &mut self.stuck {
            Some(stuck) => {
                stuck.pause = (stuck.pause * 2).min(Duration::from_secs(PAUSE_SECONDS_MAX));
                stuck.next_try = now + stuck.pause;
                if length >= stuck.told.saturating_mul(2) {
                    stuck.told = length;
                    log::warn!("the log of {} has {megabytes} MiB now", self.path.display());
                }
            }
            none => {
                let by = reader_of(self.path);
                log::warn!(
                    "the log of {} has {megabytes} MiB and can't begin anew: {by} reads the database and does not end. It grows \
                     until that is closed (an SQLite shell that was left open?)",
                    self.path.display()
                );
                let pause = Duration::from_secs(PAUSE_SECONDS_MIN);
                *none = Some(Stuck { since: now, next_try: now + pause, pause, told: length });
                self.counters.health.set_log_blocked(Some(LogBlocked { since: now, by }));
            }
        }
    }

    fn unstick(&mut self) {
        if let Some(stuck) = self.stuck.take() {
            let (path, seconds) = (self.path.display(), stuck.since.elapsed().as_secs());
            log::info!("the log of {path} begins anew after {seconds} s");
            self.counters.health.set_log_blocked(None);
        }
    }
}

/// Processes that read the database, for people.
fn reader_of(path: &Path) -> String {
    // Only its metadata: to close the file would end SQLite's own locks on it (fcntl(2)).
    let Ok(index) = std::fs::metadata(beside(path, "-shm")) else { return "somebody".into() };
    let own = std::process::id();
    let others: Vec<_> = file_locks::holders(&index, Kind::Range, &READ_LOCK_BYTES)
        .into_iter()
        .filter(|process| *process != own)
        .map(file_locks::process_name)
        .collect();
    if others.is_empty() { "somebody (perhaps this server itself)".into() } else { others.join(", ") }
}

/// Pages in the log, and pages of them that are copied back.
fn copy_back(connection: &Connection, mode: &str) -> Option<(i64, i64)> {
    let outcome: rusqlite::Result<(i64, i64, i64)> =
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
    match outcome {
        Ok((blocked, log, copied)) => {
            log::debug!("checkpoint ({mode}): {copied} of {log} pages copied back, blocked: {blocked}");
            Some((log, copied))
        }
        // Nothing is lost: the log stays as it is, and the next checkpoint tries again.
        Err(error) => {
            log::warn!("checkpoint ({mode}) failed, the log stays: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::connection;

    const INSERT: &str = "INSERT INTO things VALUES (randomblob(20000))";

    /// A writer that waits a second for the lock, beside checkpoints that a reader is in the way of.
    fn write_beside_checkpoints(reader_is_behind: bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(connection::FILE_NAME);
        let writer = connection::open_writer(&path).unwrap();
        writer.execute_batch("CREATE TABLE things (thing BLOB)").unwrap();
        writer.busy_timeout(Duration::from_secs(1)).unwrap();
        let reader = Connection::open(&path).unwrap();
        if !reader_is_behind {
            writer.execute_batch(INSERT).unwrap();
        }
        reader.execute_batch("BEGIN; SELECT count(*) FROM things").unwrap();
        if reader_is_behind {
            writer.execute_batch(INSERT).unwrap();
        }
        let own = connection::open_checkpointer(&path).unwrap();
        let counters = Arc::default();
        let mut checkpointer =
            Checkpointer { connection: &own, path: &path, log_max: 0, counters: &counters, stuck: None };
        let written = AtomicU64::new(0);
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        std::thread::scope(|scope| {
            let (written, writer) = (&written, writer);
            let writing = scope.spawn(move || {
                while stopped.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
                    writer.execute_batch(INSERT)?;
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, rusqlite::Error>(writer)
            });
            for turn in 1..=5 {
                checkpointer.turn(Instant::now() + Duration::from_secs(100 * turn));
                assert!(counters.health.log_blocked().is_some());
                let before = written.load(Ordering::Relaxed);
                while written.load(Ordering::Relaxed) == before && !writing.is_finished() {
                    std::thread::yield_now();
                }
            }
            drop(stop);
            let writer = writing.join().unwrap().expect("an operation was lost");
            assert_eq!(checkpointer.stuck.as_ref().unwrap().pause, Duration::from_secs(16));
            reader.execute_batch("COMMIT").unwrap();
            checkpointer.turn(Instant::now() + Duration::from_secs(10_000));
            assert_eq!(length(&log_of(&path)), 0);
            assert!(checkpointer.stuck.is_none() && counters.health.log_blocked().is_none());
            drop(writer);
        });
    }

    #[test]
    fn a_reader_that_does_not_end_costs_no_operation() {
        write_beside_checkpoints(false);
        write_beside_checkpoints(true);
    }
}
