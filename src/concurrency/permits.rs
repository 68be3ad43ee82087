//! A bounded right to have work done. Taken before the work is accepted, so that no queue overflows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many permits; whoever takes one gives it back. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Permits {
    free: Arc<AtomicUsize>,
    total: usize,
}

impl Permits {
    /// `total` permits, all of them free.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(total)), total }
    }

    /// Takes one, if one is free.
    #[must_use]
    pub fn try_take(&self) -> bool {
        let less_one = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less_one).is_ok()
    }

    /// Gives one back.
    pub fn give_back(&self) {
        let before = self.free.fetch_add(1, Ordering::AcqRel);
        debug_assert!(before < self.total, "a permit was given back that nobody took");
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.total.saturating_sub(self.free())
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_there_are() {
        let permits = Permits::new(2);
        assert!(permits.try_take() && permits.try_take() && !permits.try_take());
        permits.give_back();
        assert_eq!((permits.free(), permits.taken()), (1, 1));
    }
}
