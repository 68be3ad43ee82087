//! Flushing and preallocating on threads of their own, for a journal that runs for real.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::archive::Archive;
use super::archiver::ArchiveTrouble;
use super::leader::{Flusher, Leader, OnNotice};
use super::preallocator::{Preallocated, Preallocator, Turn, system_time};
use super::status::Notice;
use super::storage::Storage;
use super::tail_writer::FlushError;

/// Time to wait before looking again whether a full disk has room.
const FULL_RETRY_MILLISECONDS: u64 = 1_000;

/// Interval of retention by age.
const AGE_CHECK_SECONDS: u64 = 60;

/// Pause after each piece of the next segment, which leaves the disk to the flusher: in times what the piece
/// took; and at most.
const PAUSE: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// While this many times as much of the next segment is made as of the current one is used, it will be there
/// in time.
const LEAD: u64 = 2;

/// Rate at which full segments are looked through, in bytes per second: a fraction of what any disk reads.
const CHECK_BYTES_PER_SECOND: f64 = 8.0 * 1024.0 * 1024.0;

/// Pause between two checks of all segments.
const CHECK_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Stack of a journal's thread; they call nothing deep.
const STACK_BYTES: usize = 256 * 1024;

/// A journal's threads: one flushes, one makes segments ahead, one looks through those that are full.
/// Dropping it stops them too, without saying whether the last flush worked.
pub struct Threads<S: Storage> {
    leader: Arc<Leader<S>>,
    stop: Arc<AtomicBool>,
    flusher: Option<JoinHandle<Result<(), FlushError>>>,
    preallocator: Option<JoinHandle<()>>,
    checker: Option<JoinHandle<()>>,
}

impl<S: Storage> Threads<S> {
    /// Starts them: the flusher (woken by [`Journal::notify`](super::Journal::notify), flushes all that
    /// waits, no lingering; a thread that has appended may do it too, see
    /// [`Journal::flush_here`](super::Journal::flush_here)); the preallocator (woken when the next segment is
    /// begun, which it makes in pieces, no faster than is needed; every second while the disk is full; every
    /// minute when retention goes by age); and one that looks through full segments for damage, slowly, from
    /// now on and then once a day. `name` is short: it begins the threads' names.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(
        name: &str,
        flusher: Flusher<S>,
        preallocator: Preallocator<S>,
        on_notice: impl Fn(Notice) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let Flusher { leader } = flusher;
        let stop = Arc::new(AtomicBool::new(false));
        let on_notice: OnNotice = Arc::new(on_notice);
        leader.tell(Some(Arc::clone(&on_notice)));
        let mut threads = Self { leader, stop, flusher: None, preallocator: None, checker: None };
        let shared = || (Arc::clone(&threads.leader), Arc::clone(&threads.stop));
        let (of_flusher, of_preallocator, of_checker) = (shared(), shared(), shared());
        let archive = preallocator.archive();
        threads.flusher =
            spawn(format!("{name}-flush"), &on_notice, move |_| run_flusher(&of_flusher.0, &of_flusher.1))?;
        threads.preallocator = spawn(format!("{name}-ahead"), &on_notice, move |tell| {
            run_preallocator(&of_preallocator.0, preallocator, &of_preallocator.1, tell);
        })?;
        threads.checker = spawn(format!("{name}-check"), &on_notice, move |tell| {
            run_checker(&of_checker.0, archive.as_ref(), &of_checker.1, tell);
        })?;
        Ok(threads)
    }

    /// Flushes what waits and ends both threads. Append nothing any more before calling it.
    ///
    /// # Errors
    /// [`FlushError`] when the last flush, or one before it, failed.
    pub fn stop(mut self) -> Result<(), FlushError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), FlushError> {
        self.stop.store(true, Ordering::Release);
        self.leader.flush.notify();
        self.leader.preallocate.notify();
        self.leader.check.notify();
        let end = |thread: Option<JoinHandle<()>>| {
            thread.map_or(Ok(()), |thread| thread.join().map_err(|_| panicked()))
        };
        let others = end(self.checker.take()).and(end(self.preallocator.take()));
        let flushed =
            self.flusher.take().map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err(panicked())));
        self.leader.tell(None);
        flushed.and(others)
    }
}

/// Starts a thread that tells when it panics.
fn spawn<T: Send + 'static>(
    name: String,
    on_notice: &OnNotice,
    work: impl FnOnce(&dyn Fn(Notice)) -> T + Send + 'static,
) -> io::Result<Option<JoinHandle<T>>> {
    let on_notice = Arc::clone(on_notice);
    let thread = Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
        let _guard = PanicGuard(&*on_notice);
        work(&*on_notice)
    })?;
    Ok(Some(thread))
}

fn panicked() -> FlushError {
    FlushError("a thread of the journal has panicked; the log says where".to_owned())
}

/// Tells that a thread panicked, when it does: nobody else would make events durable, or room for more.
struct PanicGuard<'n>(&'n dyn Fn(Notice));

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)(Notice::Failed(panicked()));
        }
    }
}

impl<S: Storage> Drop for Threads<S> {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

fn run_flusher<S: Storage>(leader: &Leader<S>, stop: &AtomicBool) -> Result<(), FlushError> {
    loop {
        leader.flush.wait(None);
        // Read before the flush: whatever was appended before the stop is in it.
        let stopping = stop.load(Ordering::Acquire);
        leader.flush_all()?;
        if stopping {
            return Ok(());
        }
    }
}

fn run_preallocator<S: Storage>(
    leader: &Leader<S>,
    mut preallocator: Preallocator<S>,
    stop: &AtomicBool,
    tell: &dyn Fn(Notice),
) {
    let core = Arc::clone(&leader.core);
    let mut full = false;
    while !stop.load(Ordering::Acquire) {
        let mut piece_since = Instant::now();
        let mut pace = |made_bytes| {
            let is_urgent = stop.load(Ordering::Acquire) || made_bytes / LEAD < core.tail.lock().used_bytes();
            if !is_urgent {
                thread::sleep((piece_since.elapsed() * PAUSE).min(PAUSE_MAX));
            }
            piece_since = Instant::now();
        };
        let is_stopping = || stop.load(Ordering::Acquire);
        let Turn { deleted, preallocated, trouble, is_waiting } = preallocator.turn(&mut pace, &is_stopping);
        if let Some(trouble) = trouble {
            tell(Notice::Archive(trouble));
        }
        match deleted {
            Ok(deleted) if deleted.is_empty() => {}
            Ok(deleted) => tell(Notice::Deleted(deleted)),
            Err(error) => tell(Notice::NotDeleted(error)),
        }
        let was_full = full;
        full = matches!(preallocated, Preallocated::NoRoom(_));
        match preallocated {
            Preallocated::NoRoom(why) if !was_full => tell(Notice::NoRoom(why)),
            Preallocated::Made if was_full => tell(Notice::RoomAgain),
            _ => {}
        }
        let timeout = if full || is_waiting {
            Some(Duration::from_millis(FULL_RETRY_MILLISECONDS))
        } else {
            let by_age = core.retention.lock().is_some_and(|retention| retention.age_ms.is_some());
            by_age.then(|| Duration::from_secs(AGE_CHECK_SECONDS))
        };
        leader.preallocate.wait(timeout);
    }
}

fn run_checker<S: Storage>(
    leader: &Leader<S>,
    archive: Option<&Archive<S>>,
    stop: &AtomicBool,
    tell: &dyn Fn(Notice),
) {
    let is_going_on = || !stop.load(Ordering::Acquire);
    while is_going_on() {
        let mut pace = |bytes| {
            let pause = Duration::from_secs_f64(bytes as f64 / CHECK_BYTES_PER_SECOND);
            leader.check.wait(Some(pause));
            is_going_on()
        };
        if leader.core.check(&mut pace, &mut |damages| tell(Notice::Damaged(damages))) {
            leader.core.catalog.set_checked(system_time().wall.0);
            if let Some(journal) = archive.and_then(Archive::journal) {
                journal.check_paced(&mut pace, &mut |damages| {
                    tell(Notice::Archive(ArchiveTrouble::Damaged(damages)));
                });
            }
            // The notification of the stop may have ended a pause of the reading.
            if is_going_on() {
                leader.check.wait(Some(CHECK_EVERY));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::sim::LossyDisk;
    use super::super::{Journal, Opened, Options, Position, Record};
    use super::*;

    #[test]
    fn a_thread_that_panics_is_a_failure_of_the_journal() {
        let disk = LossyDisk::new(1, 64 << 20);
        let options = Options { keep_free_bytes: 0, ..Options::server() };
        let Opened { journal, flusher, preallocator, .. } =
            Journal::open(disk, options, Position(0), 0, |_| {}).unwrap();
        let (tell, notices) = mpsc::channel();
        let threads = Threads::spawn("test", flusher, preallocator, move |notice| match notice {
            Notice::Durable(_) => panic!("as it is meant to"),
            Notice::Failed(error) => tell.send(error).unwrap(),
            _ => {}
        })
        .unwrap();
        journal.append(&Record { wall_ms: 1, device: 1, sequence: 1, payload: b"door open" }).unwrap();
        journal.notify();
        let error = notices.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(error.0.contains("panicked"), "{error:?}");
        assert!(threads.stop().is_err());
    }
}
