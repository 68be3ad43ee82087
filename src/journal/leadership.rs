//! Flush leadership: the journal's own thread flushes, or one that has appended and would only wait for it.
//!
//! To wake another thread and to be woken by it takes as long as the write itself where processors sleep
//! meanwhile. So a thread that has nothing else to do takes the leadership for one write, and records that
//! others append meanwhile go with the next: a group commit with a leader.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Instant;

use parking_lot::MutexGuard;

use super::flusher::{FlushError, Flusher};
use super::handle::Shared;
use super::layout::Position;
use super::storage::Storage;
use super::threads::Notice;

/// The appending thread waits for a durable write that takes no longer than this. While it takes longer, a
/// thread with sockets has something better to do.
const FAST_MICROSECONDS_MAX: u64 = 500;

/// Outcome of a request to flush on the calling thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flushed {
    /// All that was appended before is durable, or the journal has failed; the callback was called.
    Done,
    /// Others are at it, perhaps without what was appended last. When they are done there is a notice
    /// ([`Notice::Durable`]): then it can be tried again.
    ByOthers,
    /// It is not done: the disk takes its time, or nobody has the leadership. The journal's thread is for
    /// that.
    NotHere,
}

/// The flusher, and whom to tell. Its holder flushes.
pub(crate) struct Leadership<S: Storage> {
    flusher: Flusher<S>,
    on_notice: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl<S: Storage> Leadership<S> {
    pub(crate) fn new(flusher: Flusher<S>, on_notice: Arc<dyn Fn(Notice) + Send + Sync>) -> Self {
        Self { flusher, on_notice }
    }

    /// Flushes once. Returns the notice to give of it.
    fn flush(&mut self) -> (Result<(), FlushError>, Option<Notice>) {
        let (before, had_failed) = (self.flusher.shared.catalog.durable(), self.flusher.has_failed());
        let since = Instant::now();
        match self.flusher.flush_once() {
            Ok(durable) if durable.0 > before => {
                self.flusher.shared.pace.note(since.elapsed().as_micros().try_into().unwrap_or(u64::MAX));
                (Ok(()), Some(Notice::Durable(durable)))
            }
            Ok(_) => (Ok(()), None),
            Err(error) => (Err(error.clone()), (!had_failed).then_some(Notice::Failed(error))),
        }
    }
}

impl<S: Storage> Shared<S> {
    /// Takes the leadership, if nobody has it. Otherwise asks to be notified when it is free.
    pub(crate) fn try_lead(&self) -> Option<MutexGuard<'_, Option<Leadership<S>>>> {
        self.leadership.try_lock().or_else(|| {
            self.is_leadership_wanted.store(true, Ordering::Relaxed);
            // With the one below: either this sees that the leadership is free, or who gives it back sees
            // that it is wanted.
            fence(Ordering::SeqCst);
            self.leadership.try_lock()
        })
    }

    /// Flushes once, unless everything before `wanted` is durable, and tells of it when the next one can have
    /// the leadership: who has found it taken and is told so finds it free.
    pub(crate) fn flush(
        &self,
        mut held: MutexGuard<'_, Option<Leadership<S>>>,
        wanted: Position,
    ) -> Result<(), FlushError> {
        let Some(leadership) = &mut *held else { return Ok(()) };
        let is_durable = self.catalog.durable() >= wanted.0;
        let (result, notice) = if is_durable { (Ok(()), None) } else { leadership.flush() };
        let on_notice = Arc::clone(&leadership.on_notice);
        drop(held);
        fence(Ordering::SeqCst);
        let is_wanted = self.is_leadership_wanted.load(Ordering::Relaxed)
            && self.is_leadership_wanted.swap(false, Ordering::Relaxed);
        // There may have been nothing to write, and somebody who has appended since.
        let free = || is_wanted.then(|| Notice::Durable(Position(self.catalog.durable())));
        if let Some(notice) = notice.or_else(free) {
            on_notice(notice);
        }
        result
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

    use std::sync::mpsc;

    use super::super::handle::Shared;
    use super::super::sim::{LossyDisk, WriteFault};
    use super::super::{Journal, Opened, Options, Position, Record, Threads};
    use super::*;

    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

    struct Fixture {
        disk: LossyDisk,
        journal: Journal<LossyDisk>,
        shared: Arc<Shared<LossyDisk>>,
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
        let shared = Arc::clone(&flusher.shared);
        let (tell, notices) = mpsc::channel();
        let threads = Threads::spawn("test", flusher, preallocator, move |notice| {
            let _ = tell.send(notice);
        })
        .unwrap();
        Fixture { disk, journal, shared, threads, notices }
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
        let Fixture { journal, shared, threads, .. } = fixture();
        let end = append(&journal);
        let others = shared.leadership.lock();
        assert_eq!((journal.flush_here(), journal.is_flushing()), (Flushed::ByOthers, true));
        drop(others);
        assert!(journal.durable() < end);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert_eq!(journal.durable(), end);
        threads.stop().unwrap();
    }

    #[test]
    fn who_found_the_leadership_taken_is_told_when_it_is_free_though_nothing_was_written() {
        let Fixture { journal, shared, threads, notices, .. } = fixture();
        let end = append(&journal);
        let is_told = || matches!(notices.recv().unwrap(), Notice::Durable(position) if position == end);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert!(is_told());
        let others = shared.leadership.lock();
        assert_eq!(journal.flush_here(), Flushed::ByOthers);
        shared.flush(others, Position(u64::MAX)).unwrap();
        assert!(is_told());
        let others = shared.leadership.lock();
        assert_eq!(journal.flush_here(), Flushed::ByOthers);
        drop(others);
        assert_eq!(journal.flush_here(), Flushed::Done);
        assert!(is_told(), "who has the leadership next tells");
        threads.stop().unwrap();
        assert!(notices.try_recv().is_err(), "once");
    }

    #[test]
    fn nobody_who_waits_for_others_waits_for_ever() {
        let disk = LossyDisk::new(1, 64 << 20);
        let options = Options { keep_free_bytes: 0, ..Options::server() };
        let Opened { journal, flusher, preallocator, .. } =
            Journal::open(disk, options, Position(0), 0, |_| {}).unwrap();
        let told = Arc::new((parking_lot::Mutex::new(0_u64), parking_lot::Condvar::new()));
        let tell = Arc::clone(&told);
        let threads = Threads::spawn("test", flusher, preallocator, move |_| {
            *tell.0.lock() += 1;
            tell.1.notify_all();
        })
        .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let end = append(&journal);
                        while journal.durable() < end {
                            let before = *told.0.lock();
                            match journal.flush_here() {
                                Flushed::Done => {}
                                Flushed::NotHere => journal.notify(),
                                Flushed::ByOthers => {
                                    let mut notices = told.0.lock();
                                    let is_over = *notices == before
                                        && told.1.wait_for(&mut notices, TIMEOUT).timed_out();
                                    assert!(!is_over, "nobody has told that the leadership is free");
                                }
                            }
                        }
                    }
                });
            }
        });
        threads.stop().unwrap();
    }

    #[test]
    fn a_slow_disk_is_left_to_the_journals_thread() {
        let Fixture { journal, shared, threads, notices, .. } = fixture();
        shared.pace.note(1_000_000);
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
        let Fixture { journal, shared, threads, .. } = fixture();
        threads.stop().unwrap();
        drop(journal);
        assert_eq!(Arc::strong_count(&shared), 1);
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
