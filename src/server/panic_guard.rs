//! Why a server can't go on: the first failure of any of its threads, a panic among them.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Takes the failures of threads. The first is the reason for the server's end; what follows from it is
/// logged. Cheap to clone.
#[derive(Clone)]
pub(super) struct Failures {
    first: Arc<OnceLock<String>>,
    sender: Sender<String>,
}

impl Failures {
    /// With the receiver, which gets the first failure.
    pub(super) fn new() -> (Self, Receiver<String>) {
        let (sender, receiver) = bounded(1);
        (Self { first: Arc::default(), sender }, receiver)
    }

    /// Something has failed that the server can't go on without.
    pub(super) fn tell(&self, failure: impl Into<String>) {
        let failure = failure.into();
        log::error!("{failure}");
        if self.first.set(failure.clone()).is_ok() {
            // The receiver may be gone: the failure is told at the end all the same.
            let _ = self.sender.try_send(failure);
        }
    }

    /// The first failure, also when the receiver was given it already.
    pub(super) fn first(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }

    /// The failure of a thread that panicked.
    pub(super) fn tell_panic(&self, thread: &str) {
        self.tell(format!("{thread} has panicked; the log says where"));
    }
}

/// Tells that a thread panicked, when it does. Lives as long as the thread.
pub(super) struct PanicGuard {
    who: &'static str,
    failures: Failures,
}

impl PanicGuard {
    pub(super) fn new(who: &'static str, failures: Failures) -> Self {
        Self { who, failures }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failures.tell_panic(self.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_heard_of_and_one_that_ends_is_not() {
        for panics in [false, true] {
            let (failures, receiver) = Failures::new();
            let of_thread = failures.clone();
            let thread = std::thread::spawn(move || {
                let _guard = PanicGuard::new("a thread", of_thread);
                assert!(!panics, "as it is meant to");
            });
            assert_eq!(thread.join().is_err(), panics);
            assert_eq!(receiver.try_recv().is_ok(), panics);
            assert_eq!(failures.first().is_some(), panics, "also after it was received");
        }
    }

    #[test]
    fn the_first_failure_counts_whether_anybody_listens_or_not() {
        let (failures, receiver) = Failures::new();
        drop(receiver);
        failures.tell("first");
        failures.tell("second");
        assert_eq!(failures.first(), Some("first"));
    }
}
