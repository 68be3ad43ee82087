//! A bounded right to have work done. Taken before the work is accepted, so that no queue overflows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of permits. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Permits {
    free: Arc<AtomicUsize>,
    total: usize,
}

/// The right to have one job done. It travels with the job and comes back with its outcome; dropped, it is
/// free again, whatever became of the job.
pub struct Permit {
    free: Arc<AtomicUsize>,
}

impl Permits {
    /// `total` permits, all of them free.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(total)), total }
    }

    /// Takes one, if one is free.
    #[must_use]
    pub fn try_take(&self) -> Option<Permit> {
        let less_one = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less_one).ok()?;
        Some(Permit { free: Arc::clone(&self.free) })
    }

    /// Number of free permits.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Number of taken permits.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.total.saturating_sub(self.free())
    }

    /// Number of permits, free or taken.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.free.fetch_add(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_there_are() {
        let permits = Permits::new(2);
        let (first, second) = (permits.try_take(), permits.try_take());
        assert!(first.is_some() && second.is_some() && permits.try_take().is_none());
        drop(first);
        assert_eq!((permits.free(), permits.taken()), (1, 1));
    }
}
