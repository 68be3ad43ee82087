//! Wakes a thread that waits. Rings while it is awake are remembered, any number of them as one.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Doorbell {
    rung: AtomicBool,
    waiting: OnceLock<Thread>,
}

impl Doorbell {
    /// Makes the waiting thread go on, now or when it next waits.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.waiting.get()
        {
            thread.unpark();
        }
    }

    /// Waits until it has been rung since the last wait, or the time is over. Only one thread ever waits on a bell.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        self.waiting.get_or_init(thread::current);
        // The bell is cleared before the caller looks at what there is to do: the other order loses wake-ups.
        while !self.rung.swap(false, Ordering::AcqRel) {
            match timeout {
                Some(timeout) => {
                    thread::park_timeout(timeout);
                    self.rung.store(false, Ordering::Release);
                    return;
                }
                None => thread::park(),
            }
        }
    }
}
