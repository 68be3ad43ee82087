//! Flush leadership: the journal's own thread flushes, or one that has appended and would only wait for it.
//!
//! To wake another thread and to be woken by it takes as long as the write itself where processors sleep
//! meanwhile. So a thread that has nothing else to do takes the leadership for one write, and records that
//! others append meanwhile go with the next: a group commit with a leader.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::core::Core;
use super::layout::Position;
use super::status::Notice;
use super::storage::Storage;
use super::tail_writer::{FlushError, TailWriter};
use crate::machine::commit_delay::Flushed;
use crate::sync::{self, AtomicBool, AtomicU64, Instant, Thread, TryLock, TryLockGuard, fence};

/// The appending thread waits for a durable write that takes no longer than this. While it takes longer, a
/// thread with sockets has something better to do.
const FAST_MICROSECONDS_MAX: u64 = 500;

/// The one that flushes while no threads do it: [`Threads`](super::Threads) take it. There is one for each
/// journal.
pub struct Flusher<S: Storage> {
    pub(super) leader: Arc<Leader<S>>,
}

impl<S: Storage> Flusher<S> {
    /// Writes everything that waits, makes it durable, and returns the durable position. One durable write,
    /// as long as the disk keeps up; when a segment got full meanwhile, two more: its trailer, and what the
    /// next one holds.
    ///
    /// # Errors
    /// [`FlushError`] when a write fails or is short; from then on always, and nothing is appended any more.
    pub fn flush_once(&mut self) -> Result<Position, FlushError> {
        self.leader.led.lock().writer.flush_once()
    }

    /// Whether a write has failed, and the journal is over.
    pub(super) fn has_failed(&self) -> bool {
        self.leader.led.lock().writer.has_failed()
    }
}

/// Receives the news.
pub(super) type OnNotice = Arc<dyn Fn(Notice) + Send + Sync>;

/// The writer, and the one to tell. Its holder flushes.
struct Led<S: Storage> {
    writer: TailWriter<S>,
    /// `None`: no threads do the journal's work.
    on_notice: Option<OnNotice>,
}

/// Decides who flushes, above the core; wakes the journal's threads.
pub(crate) struct Leader<S: Storage> {
    pub(super) core: Arc<Core<S>>,
    led: TryLock<Led<S>>,
    /// Somebody has found the leadership taken.
    is_wanted: AtomicBool,
    pace: Pace,
    /// Of the thread that flushes, that makes segments, and that looks through them.
    pub(super) flush: Notifier,
    pub(super) preallocate: Notifier,
    pub(super) check: Notifier,
}

impl<S: Storage> Leader<S> {
    pub(super) fn new(core: Arc<Core<S>>, writer: TailWriter<S>) -> Self {
        Self {
            core,
            led: TryLock::new(Led { writer, on_notice: None }),
            is_wanted: AtomicBool::new(false),
            pace: Pace::default(),
            flush: Notifier::default(),
            preallocate: Notifier::default(),
            check: Notifier::default(),
        }
    }

    /// Sets the receiver of the news. Without one nobody leads.
    pub(super) fn tell(&self, on_notice: Option<OnNotice>) {
        self.led.lock().on_notice = on_notice;
    }

    /// Whether somebody is at it now.
    pub(super) fn is_flushing(&self) -> bool {
        self.led.is_locked()
    }

    /// Flushes on the calling thread what has been appended by now, without a wait for others.
    pub(super) fn flush_here(&self) -> Flushed {
        if !self.pace.is_fast() {
            return Flushed::NotHere;
        }
        let wanted = self.core.end();
        let Some(led) = self.try_lead() else { return Flushed::ByOthers };
        if led.on_notice.is_none() {
            return Flushed::NotHere;
        }
        // The holder before may have written this too. A failure is told of, once, and ends the process.
        let _ = self.flush(led, wanted);
        Flushed::Done
    }

    /// Flushes all that has been appended, once nobody else is at it.
    pub(super) fn flush_all(&self) -> Result<(), FlushError> {
        self.flush(self.led.lock(), Position(u64::MAX))
    }

    /// Takes the leadership, if nobody has it. Otherwise asks to be notified when it is free.
    fn try_lead(&self) -> Option<TryLockGuard<'_, Led<S>>> {
        self.led.try_lock().or_else(|| {
            self.is_wanted.store(true, Ordering::Relaxed);
            // With the one below: either this sees that the leadership is free, or the one that gives it back
            // sees that it is wanted.
            fence(Ordering::SeqCst);
            self.led.try_lock()
        })
    }

    /// Flushes once, unless everything before `wanted` is durable, and tells of it when the next one can have
    /// the leadership: one that has found it taken and is told so finds it free.
    fn flush(&self, mut led: TryLockGuard<'_, Led<S>>, wanted: Position) -> Result<(), FlushError> {
        let on_notice = led.on_notice.clone();
        let is_durable = self.core.catalog.durable() >= wanted.0;
        let (result, notice) = if is_durable { (Ok(()), None) } else { self.write(&mut led.writer) };
        drop(led);
        fence(Ordering::SeqCst);
        let is_wanted =
            self.is_wanted.load(Ordering::Relaxed) && self.is_wanted.swap(false, Ordering::Relaxed);
        // There may have been nothing to write, and somebody who has appended since.
        let free = || is_wanted.then(|| Notice::Durable(Position(self.core.catalog.durable())));
        if let (Some(notice), Some(tell)) = (notice.or_else(free), on_notice) {
            tell(notice);
        }
        result
    }

    /// Returns the notice to give of it.
    fn write(&self, writer: &mut TailWriter<S>) -> (Result<(), FlushError>, Option<Notice>) {
        let (before, had_failed) = (self.core.catalog.durable(), writer.has_failed());
        let since = Instant::now();
        match writer.flush_once() {
            Ok(durable) if durable.0 > before => {
                self.pace.note(since.elapsed().as_micros().try_into().unwrap_or(u64::MAX));
                (Ok(()), Some(Notice::Durable(durable)))
            }
            Ok(_) => (Ok(()), None),
            Err(error) => (Err(error.clone()), (!had_failed).then_some(Notice::Failed(error))),
        }
    }
}

/// Duration of durable writes, by the last ones.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    microseconds: AtomicU64,
}

impl Pace {
    /// A write has taken so long. One of forty times the usual counts for the next dozen; those who note are
    /// one at a time.
    pub(crate) fn note(&self, microseconds: u64) {
        let before = self.microseconds.load(Ordering::Relaxed);
        self.microseconds.store(before.saturating_mul(7).saturating_add(microseconds) / 8, Ordering::Relaxed);
    }

    /// Whether the next is likely to be over in a moment.
    pub(crate) fn is_fast(&self) -> bool {
        self.microseconds.load(Ordering::Relaxed) <= FAST_MICROSECONDS_MAX
    }
}

/// Wakes a thread that waits. Notifications while it is awake are remembered, any number of them as one.
#[derive(Default)]
pub(crate) struct Notifier {
    is_notified: AtomicBool,
    waiting: OnceLock<Thread>,
}

impl Notifier {
    /// Makes the waiting thread go on, now or when it next waits.
    pub(crate) fn notify(&self) {
        if !self.is_notified.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.waiting.get()
        {
            thread.unpark();
        }
    }

    /// Waits until it has been notified since the last wait, or the time is over. Only one thread ever waits
    /// on a notifier.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        self.waiting.get_or_init(sync::current);
        // It is cleared before the caller looks at what there is to do: the other order loses wake-ups.
        while !self.is_notified.swap(false, Ordering::AcqRel) {
            match timeout {
                Some(timeout) => {
                    sync::park_timeout(timeout);
                    // By an exchange: the caller sees all that was done before the notification.
                    self.is_notified.swap(false, Ordering::AcqRel);
                    return;
                }
                None => sync::park(),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

    use std::sync::mpsc;

    use super::super::sim::{LossyDisk, WriteFault};
    use super::super::{Journal, Opened, Options, Position, Record, Threads};
    use super::*;

    struct Fixture {
        disk: LossyDisk,
        journal: Journal<LossyDisk>,
        leader: Arc<Leader<LossyDisk>>,
        threads: Threads<LossyDisk>,
        notices: mpsc::Receiver<Notice>,
    }

    fn fixture() -> Fixture {
        let disk = LossyDisk::new(1, 64 << 20);
        let options = Options {
            keep_free_bytes: 0,
            segment_bytes: 64 * 1024,
            window_bytes: 32 * 1024,
            ..Options::server()
        };
        let Opened { journal, flusher, preallocator, .. } =
            Journal::open(disk.clone(), options, Position(0), 0, |_| {}).unwrap();
        let leader = Arc::clone(&flusher.leader);
        let (tell, notices) = mpsc::channel();
        let threads = Threads::spawn("test", flusher, preallocator, move |notice| {
            let _ = tell.send(notice);
        })
        .unwrap();
        Fixture { disk, journal, leader, threads, notices }
    }

    fn append(journal: &Journal<LossyDisk>) -> Position {
        journal.append(&Record { wall_ms: 1, device: 1, sequence: 1, payload: b"door open" }).unwrap()
    }

    #[test]
    fn who_appends_may_flush_and_what_is_durable_is_not_written_again() {
        let Fixture { disk, journal, threads, notices, .. } = fixture();
        let end = append(&journal);
        let writes = disk.writes();
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert_eq!((journal.durable(), disk.writes()), (end, writes + 1));
        assert!(matches!(notices.recv().unwrap(), Notice::Durable(position) if position == end));
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert_eq!(disk.writes(), writes + 1);
        threads.stop().unwrap();
        append(&journal);
        assert_eq!(journal.flush_here(), Flushed::NotHere, "nobody has the leadership any more");
    }

    #[test]
    fn who_finds_others_at_it_does_not_wait_for_them() {
        let Fixture { journal, leader, threads, .. } = fixture();
        let end = append(&journal);
        let others = leader.led.lock();
        assert_eq!((journal.flush_here(), journal.is_flushing()), (Flushed::ByOthers, true));
        drop(others);
        assert!(journal.durable() < end);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert_eq!(journal.durable(), end);
        threads.stop().unwrap();
    }

    #[test]
    fn who_found_the_leadership_taken_is_told_when_it_is_free_though_nothing_was_written() {
        let Fixture { journal, leader, threads, notices, .. } = fixture();
        let end = append(&journal);
        let is_told = || matches!(notices.recv().unwrap(), Notice::Durable(position) if position == end);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert!(is_told());
        let others = leader.led.lock();
        assert_eq!(journal.flush_here(), Flushed::ByOthers);
        leader.flush(others, Position(u64::MAX)).unwrap();
        assert!(is_told());
        let others = leader.led.lock();
        assert_eq!(journal.flush_here(), Flushed::ByOthers);
        drop(others);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert!(is_told(), "who has the leadership next tells");
        threads.stop().unwrap();
        assert!(notices.try_recv().is_err(), "once");
    }

    #[test]
    fn a_slow_disk_is_left_to_the_journals_thread() {
        let Fixture { journal, leader, threads, notices, .. } = fixture();
        leader.pace.note(1_000_000);
        let end = append(&journal);
        assert_eq!(journal.flush_here(), Flushed::NotHere);
        journal.notify();
        assert!(matches!(notices.recv().unwrap(), Notice::Durable(position) if position == end));
        threads.stop().unwrap();
    }

    #[test]
    fn a_failure_is_told_once_whoever_meets_it() {
        let Fixture { disk, journal, threads, notices, .. } = fixture();
        append(&journal);
        disk.fail_after(0, WriteFault::SyncError);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert!(matches!(notices.recv().unwrap(), Notice::Failed(_)));
        assert_eq!(journal.flush_here(), Flushed::Done);
        journal.notify();
        assert!(threads.stop().is_err());
        assert!(notices.try_recv().is_err(), "once");
    }

    #[test]
    fn the_journal_goes_with_its_threads() {
        let Fixture { journal, leader, threads, .. } = fixture();
        threads.stop().unwrap();
        drop(journal);
        assert_eq!(Arc::strong_count(&leader), 1);
    }

    #[test]
    fn a_disk_is_slow_for_a_while_after_a_stall() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.note(120);
            assert!(pace.is_fast());
        }
        pace.note(20_000);
        let slow = (0..100).take_while(|_| {
            pace.note(120);
            !pace.is_fast()
        });
        assert!((5..20).contains(&slow.count()), "{pace:?}");
    }

    #[test]
    fn a_slow_disk_stays_slow() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.note(5_000);
        }
        assert!(!pace.is_fast());
        pace.note(0);
        assert!(!pace.is_fast(), "one that was quick is no reason to wait for the next");
    }
}

/// Every order of threads and every value that memory may show: a notice that is lost is a deadlock.
#[cfg(all(test, loom))]
mod loom_tests {
    #![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

    use loom::sync::{Condvar, Mutex};
    use loom::thread;

    use super::super::sim::LossyDisk;
    use super::super::{Journal, Opened, Options, Position, Record};
    use super::*;

    type Told = Arc<(Mutex<u32>, Condvar)>;

    fn opened() -> Opened<LossyDisk> {
        let options =
            Options { segment_bytes: 64 * 1024, window_bytes: 16 * 1024, ..Options::spool(1 << 20) };
        Journal::open(LossyDisk::new(1, 1 << 20), options, Position(0), 0, |_| {}).unwrap()
    }

    /// Appends, and waits until that is durable, by its own write or another's.
    fn append(journal: &Journal<LossyDisk>, told: &Told) {
        let end = journal.append(&Record { wall_ms: 1, device: 1, sequence: 1, payload: b"" }).unwrap();
        while journal.durable() < end {
            let before = *told.0.lock().unwrap();
            if journal.flush_here() == Flushed::ByOthers {
                let mut notices = told.0.lock().unwrap();
                while *notices == before {
                    notices = told.1.wait(notices).unwrap();
                }
            }
        }
    }

    /// Appends beside another thread.
    fn append_beside(other: fn(&Journal<LossyDisk>, &Told)) {
        loom::model(move || {
            let Opened { journal, .. } = opened();
            let told = Told::default();
            let tell = Arc::clone(&told);
            journal.leader.tell(Some(Arc::new(move |_| {
                *tell.0.lock().unwrap() += 1;
                tell.1.notify_all();
            })));
            let beside = (journal.clone(), Arc::clone(&told));
            let beside = thread::spawn(move || other(&beside.0, &beside.1));
            append(&journal, &told);
            beside.join().unwrap();
            journal.leader.tell(None);
        });
    }

    #[test]
    fn no_appender_waits_for_another_for_ever() {
        append_beside(append);
    }

    #[test]
    fn no_appender_waits_for_ever_for_a_leader_that_finds_nothing_to_write() {
        append_beside(|journal, _| journal.leader.flush_all().unwrap());
    }

    #[test]
    fn a_notification_is_not_lost_to_a_wait_whose_time_is_over() {
        loom::model(|| {
            let shared = Arc::new((Notifier::default(), AtomicBool::new(false)));
            let (notifier, is_done) = &*Arc::clone(&shared);
            // Not joined: loom's join takes the stray wake-up that a park may leave for its own.
            thread::spawn(move || {
                shared.0.notify();
                shared.1.store(true, Ordering::Relaxed);
                shared.0.notify();
            });
            notifier.wait(Some(Duration::from_secs(1)));
            while !is_done.load(Ordering::Relaxed) {
                notifier.wait(None);
            }
        });
    }
}
