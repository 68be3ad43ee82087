//! Wakes a thread that waits. Notifications while it is awake are remembered, any number of them as one.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

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
        self.waiting.get_or_init(thread::current);
        // It is cleared before the caller looks at what there is to do: the other order loses wake-ups.
        while !self.is_notified.swap(false, Ordering::AcqRel) {
            match timeout {
                Some(timeout) => {
                    thread::park_timeout(timeout);
                    self.is_notified.store(false, Ordering::Release);
                    return;
                }
                None => thread::park(),
            }
        }
    }
}
