//! Whether what is handed in is stored, and whether the write-ahead log can begin anew: for `status` and the
//! log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::StoreError;

/// Pause before the log repeats that nothing can be stored.
const REPEAT_SECONDS: u64 = 10;

/// The store can't store.
#[derive(Clone, Debug)]
pub struct Failing {
    /// Why the last attempt failed.
    pub error: StoreError,
    /// Since when no attempt has succeeded.
    pub since: Instant,
    /// Operations that were not stored since then.
    pub operations: u64,
}

/// Somebody reads the database and does not end, so that the write-ahead log grows.
#[derive(Clone, Debug)]
pub struct LogBlocked {
    /// Since when.
    pub since: Instant,
    /// The processes that read, as far as the system tells.
    pub by: String,
}

/// The faults of the moment.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The common case is asked for after every commit, without the lock.
    is_failing: AtomicBool,
    failing: Mutex<Option<(Failing, Instant)>>,
    log_blocked: Mutex<Option<LogBlocked>>,
}

impl Health {
    pub(super) fn failing(&self) -> Option<Failing> {
        self.failing.lock().as_ref().map(|(failing, _)| failing.clone())
    }

    pub(super) fn log_blocked(&self) -> Option<LogBlocked> {
        self.log_blocked.lock().clone()
    }

    pub(super) fn set_log_blocked(&self, blocked: Option<LogBlocked>) {
        *self.log_blocked.lock() = blocked;
    }

    /// Operations were not stored, and so will others fare.
    pub(super) fn note_failed(&self, error: &StoreError, operations: u64) {
        let mut failing = self.failing.lock();
        let now = Instant::now();
        match &mut *failing {
            Some((failing, said)) => {
                failing.operations = failing.operations.saturating_add(operations);
                let is_other = std::mem::replace(&mut failing.error, error.clone()) != *error;
                if !is_other && now.duration_since(*said) < Duration::from_secs(REPEAT_SECONDS) {
                    return;
                }
                *said = now;
                let seconds = now.duration_since(failing.since).as_secs();
                log::error!("{} operations were not stored in {seconds} s: {error}", failing.operations);
            }
            none => {
                log::error!("{operations} operations were not stored: {error}");
                *none = Some((Failing { error: error.clone(), since: now, operations }, now));
                self.is_failing.store(true, Ordering::Release);
            }
        }
    }

    /// Something was stored.
    pub(super) fn note_stored(&self) {
        if !self.is_failing.load(Ordering::Acquire) {
            return;
        }
        if let Some((failing, _)) = self.failing.lock().take() {
            self.is_failing.store(false, Ordering::Release);
            log::info!(
                "the store takes changes again after {} s; {} operations were not stored meanwhile",
                failing.since.elapsed().as_secs(),
                failing.operations
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fails_from_the_first_failure_to_the_next_success() {
        let health = Health::default();
        health.note_stored();
        assert!(health.failing().is_none());
        health.note_failed(&StoreError::Full, 2);
        health.note_failed(&StoreError::Medium("x".into()), 3);
        let failing = health.failing().unwrap();
        assert_eq!((failing.error, failing.operations), (StoreError::Medium("x".into()), 5));
        health.note_stored();
        assert!(health.failing().is_none());
    }
}
