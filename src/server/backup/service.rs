//! Backups of a running server: those that are asked for, and those that are due.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{BackupError, Source, file, make, write_file};
use crate::admin::{Backups, BackupsBusy};
use crate::server::ServerError;
use crate::server::config::BackupConfig;
use crate::server::presence::{Announcer, own_event};
use crate::wire::api::BackupStatus;
use crate::wire::event::Severity;
use crate::wire::time::WallTime;

/// Size of the pieces that go to a client. Three of them are in memory at most.
const PIECE_BYTES: usize = 256 * 1024;

/// Pause after a backup that failed.
const RETRY_SECONDS: u64 = 600;

/// Pause between two looks whether a backup is due.
const LOOK_SECONDS: u64 = 20;

/// Time between backups that are made at a time of day; when the last is older at start, the next is due at
/// once.
const DAY: Duration = Duration::from_secs(86_400);

/// Longest message of such an event: a path can be long.
const MESSAGE_CHARACTERS_MAX: usize = 500;

/// A minute.
const MINUTE_MILLISECONDS: u64 = 60_000;

/// Kind of the events that say whether scheduled backups are made.
const EVENT_KIND: &str = "backup";

/// Makes backups, one at a time.
pub(in crate::server) struct BackupService {
    shared: Arc<Shared>,
    /// Gone when the server stops.
    wake: Mutex<Option<Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    source: Source,
    config: Mutex<BackupConfig>,
    announcer: Announcer,
    clock: fn() -> WallTime,
    is_busy: AtomicBool,
    is_stopping: AtomicBool,
    rounds: Mutex<Rounds>,
}

/// The state of the scheduled ones.
#[derive(Default)]
struct Rounds {
    last: Option<Made>,
    /// Since when they fail, and why the last attempt did.
    failing: Option<(WallTime, String)>,
    next: Option<Instant>,
}

struct Made {
    at: WallTime,
    path: PathBuf,
    bytes: u64,
}

impl BackupService {
    /// Starts the thread that makes backups when they are due.
    pub(in crate::server) fn start(
        source: Source,
        config: BackupConfig,
        announcer: Announcer,
        clock: fn() -> WallTime,
    ) -> Result<Self, ServerError> {
        let shared = Arc::new(Shared {
            source,
            config: Mutex::new(config),
            announcer,
            clock,
            is_busy: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            rounds: Mutex::default(),
        });
        let (wake, woken) = bounded(1);
        let service = Self { shared, wake: Mutex::new(Some(wake)), threads: Mutex::default() };
        let shared = service.shared.clone();
        let thread = Builder::new().name("backup".into()).spawn(move || shared.keep_making(&woken));
        service.threads.lock().push(thread.map_err(ServerError::when("start the thread for backups"))?);
        service.shared.plan();
        Ok(service)
    }

    /// Other settings are in force.
    pub(in crate::server) fn set_config(&self, config: &BackupConfig) {
        if std::mem::replace(&mut *self.shared.config.lock(), config.clone()) != *config {
            self.shared.plan();
        }
        if let Some(wake) = &*self.wake.lock() {
            // One that is full wakes it just as well.
            let _ = wake.try_send(());
        }
    }

    /// Ends what is under way at its next piece.
    pub(in crate::server) fn begin_to_stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.wake.lock().take();
    }

    /// Waits until that has ended.
    pub(in crate::server) fn join(&self) {
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                log::error!("the thread for backups panicked");
            }
        }
    }
}

impl Backups for BackupService {
    fn send_to(&self, sink: mpsc::Sender<Bytes>) -> Result<(), BackupsBusy> {
        let turn = self.shared.turn().ok_or(BackupsBusy)?;
        let shared = self.shared.clone();
        let work = move || {
            let _turn = turn;
            let pieces = Pieces { sink, shared: &shared };
            let mut out = BufWriter::with_capacity(PIECE_BYTES, pieces);
            let made = make(&shared.source, (shared.clock)(), &mut out);
            match made.and_then(|()| out.flush().map_err(BackupError::Output)) {
                Ok(()) => log::info!("a backup was sent"),
                Err(error) => log::warn!("a backup was not sent to its end: {error}"),
            }
        };
        let thread = Builder::new().name("backup-sent".into()).spawn(work).map_err(|_| BackupsBusy)?;
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    fn status(&self) -> BackupStatus {
        let shared = &self.shared;
        let directory = shared.config.lock().directory.clone();
        let rounds = shared.rounds.lock();
        let now = (shared.clock)();
        let from_now = |next: Instant| {
            let wait = next.saturating_duration_since(Instant::now());
            WallTime(now.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
        };
        BackupStatus {
            next_at: rounds.next.filter(|_| directory.is_some()).map(|next| from_now(next).into()),
            directory: directory.map(|directory| directory.display().to_string()),
            last_at: rounds.last.as_ref().map(|made| made.at.into()),
            last_file: rounds.last.as_ref().map(|made| made.path.display().to_string()),
            last_bytes: rounds.last.as_ref().map(|made| made.bytes),
            failing_since: rounds.failing.as_ref().map(|(since, _)| (*since).into()),
            reason: rounds.failing.as_ref().map(|(_, reason)| reason.clone()),
        }
    }
}

/// Held while a backup is made.
struct Turn(Arc<Shared>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
    }
}

impl Shared {
    fn turn(self: &Arc<Self>) -> Option<Turn> {
        (!self.is_busy.swap(true, Ordering::Acquire)).then(|| Turn(self.clone()))
    }

    fn stopped(&self) -> io::Result<()> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the server stops"));
        }
        Ok(())
    }

    fn keep_making(self: &Arc<Self>, woken: &Receiver<()>) {
        loop {
            let look = Duration::from_secs(LOOK_SECONDS);
            let next = self.rounds.lock().next;
            let wait = next.map_or(look, |next| next.saturating_duration_since(Instant::now()).min(look));
            if woken.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            let config = self.config.lock().clone();
            let Some(directory) = &config.directory else { continue };
            if !self.is_due(&config) {
                continue;
            }
            let Some(_turn) = self.turn() else {
                // One that was asked for is being made.
                self.rounds.lock().next = Some(Instant::now() + look);
                continue;
            };
            self.make_one(directory, &config);
        }
    }

    fn is_due(&self, config: &BackupConfig) -> bool {
        let mut rounds = self.rounds.lock();
        let Some(next) = rounds.next else { return false };
        let now = Instant::now();
        if next <= now {
            return true;
        }
        // The wall clock may have been set since; then the time of day is sooner.
        if let Some(wait) = config.until_time_of_day((self.clock)()) {
            rounds.next = Some(next.min(now + wait));
        }
        false
    }

    /// When the next one is due: after those that are in the directory.
    fn plan(&self) {
        let config = self.config.lock().clone();
        let Some(directory) = &config.directory else {
            *self.rounds.lock() = Rounds::default();
            return;
        };
        let last = file::scheduled(directory).into_iter().next();
        let now = (self.clock)();
        let last = last.map(|(at, path)| Made {
            bytes: std::fs::metadata(&path).map_or(0, |file| file.len()),
            at,
            path,
        });
        // One from the future was made while a clock lied: nobody knows how old it is.
        let age = last.as_ref().map(|last| Duration::from_millis(now.0.saturating_sub(last.at.0)));
        let wait = match age {
            None => Duration::ZERO,
            Some(age) if config.at.is_some() && age >= DAY => Duration::ZERO,
            Some(age) => config.every.saturating_sub(age),
        };
        let mut rounds = self.rounds.lock();
        rounds.next =
            Some(Instant::now() + config.until_time_of_day(now).filter(|_| !wait.is_zero()).unwrap_or(wait));
        rounds.last = last;
    }

    fn make_one(&self, directory: &Path, config: &BackupConfig) {
        let now = (self.clock)();
        let made = self.make_file(directory, now);
        let mut rounds = self.rounds.lock();
        let wait = match &made {
            // The clocks may not agree to the second: that is today's.
            Ok(_) => config
                .until_time_of_day(WallTime(now.0 + MINUTE_MILLISECONDS))
                .map_or(config.every, |wait| wait + Duration::from_millis(MINUTE_MILLISECONDS)),
            Err(_) => Duration::from_secs(RETRY_SECONDS).min(config.every),
        };
        rounds.next = Some(Instant::now() + wait);
        match made {
            Ok(made) => {
                let kept = file::scheduled(directory);
                let others = kept.into_iter().map(|(_, path)| path).filter(|path| *path != made.path);
                for old in others.skip(config.keep.saturating_sub(1)) {
                    match std::fs::remove_file(&old) {
                        Ok(()) => log::info!("the old backup {} was deleted", old.display()),
                        Err(error) => log::warn!("the old backup {} was not deleted: {error}", old.display()),
                    }
                }
                log::info!("a backup was made and verified: {}, {} bytes", made.path.display(), made.bytes);
                rounds.last = Some(made);
                if rounds.failing.take().is_some() {
                    self.say(now, Severity::Info, "scheduled backups are made again");
                }
            }
            Err(error) if self.is_stopping.load(Ordering::Relaxed) => {
                log::info!("no backup was made: {error}");
            }
            Err(error) => {
                let reason = format!("the scheduled backup was not made: {error}");
                log::error!("{reason}");
                match &mut rounds.failing {
                    Some((_, last)) => *last = reason,
                    none => {
                        self.say(now, Severity::Error, &reason);
                        *none = Some((now, reason));
                    }
                }
            }
        }
    }

    fn say(&self, now: WallTime, severity: Severity, message: &str) {
        let shortened = message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
        let event = own_event(severity, EVENT_KIND, shortened, now, []);
        if !self.announcer.say_of_server(&event, now) {
            log::warn!("there is no room for an event that says so: {message}");
        }
    }

    fn make_file(&self, directory: &Path, now: WallTime) -> Result<Made, BackupError> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(BackupError::io("make", directory))?;
        file::remove_partial(directory);
        let path = directory.join(file::scheduled_name(now));
        let contents = write_file(&path, |out| {
            let mut out = Stoppable { out, shared: self };
            make(&self.source, now, &mut out)
        })?;
        Ok(Made { at: now, bytes: contents.bytes, path })
    }
}

/// Ends a backup when the server stops.
struct Stoppable<'a> {
    out: &'a mut dyn Write,
    shared: &'a Shared,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.stopped()?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hands pieces to the client's connection; waits for it.
struct Pieces<'a> {
    sink: mpsc::Sender<Bytes>,
    shared: &'a Shared,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.stopped()?;
        let piece = Bytes::copy_from_slice(&bytes[..bytes.len().min(PIECE_BYTES)]);
        let length = piece.len();
        self.sink.blocking_send(piece).map_err(|_| io::Error::other("the client is gone"))?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
