//! What the user sees while a run goes on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Shows progress, unless nobody wants to see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    is_quiet: bool,
}

impl Steps {
    pub(crate) fn new(is_quiet: bool) -> Self {
        Self { is_quiet }
    }

    /// A phase of so many steps begins.
    pub(crate) fn phase(self, name: &str, total: u64) -> Phase {
        if !self.is_quiet {
            eprintln!("{name} {total}");
        }
        Phase { done: AtomicU64::new(0) }
    }
}

/// A phase that goes on until it is dropped.
pub(crate) struct Phase {
    done: AtomicU64,
}

impl Phase {
    pub(crate) fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
}
