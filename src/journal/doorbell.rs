//! Wakes a thread that waits. Rings while it is awake are remembered, any number of them as one.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

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

    /// Looks for so long whether it is rung, without going to sleep: whether it was. Whoever else wants the processor has it meanwhile. The ring stays
    /// for [`wait`](Self::wait).
    pub(crate) fn look_out(&self, time: Duration) -> bool {
        let since = Instant::now();
        while !self.rung.load(Ordering::Acquire) {
            if since.elapsed() >= time {
                return false;
            }
            thread::yield_now();
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_out_leaves_the_ring_for_whoever_waits() {
        let bell = Doorbell::default();
        assert!(!bell.look_out(Duration::ZERO));
        bell.ring();
        // Would take an hour if it did not see the ring; the wait would take for ever if it took it away.
        assert!(bell.look_out(Duration::from_secs(3_600)));
        bell.wait(None);
        assert!(!bell.rung.load(Ordering::Acquire));
    }
}
