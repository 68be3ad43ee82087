//! Why a server can't go on: the first failure of any of its threads, a panic among them.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, bounded};

/// A failure that a server can't go on after, as a line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerFailure {
    /// The journal can't be written.
    #[error("the journal failed: {0}; start the server again, it reads what is there")]
    Journal(String),
    /// A thread that serves devices.
    #[error("a reactor has failed: {0}")]
    Reactor(String),
    /// The thread of notices and wakes.
    #[error("the UDP port has failed: {0}")]
    UdpPort(String),
    /// The thread that serves administrators.
    #[error("the administration has ended: {0}")]
    Administration(String),
    /// The data directory may be another server's by now: this process must end at once, without a drain,
    /// which would write.
    #[error("{0}")]
    Lease(String),
    /// A thread, by its name.
    #[error("{0} has panicked; the log says where")]
    Panic(String),
}

/// Takes the failures of threads. The first is the reason for the server's end; what follows from it is
/// logged. Cheap to clone.
#[derive(Clone)]
pub(super) struct Failures {
    first: Arc<OnceLock<ServerFailure>>,
    sender: Sender<ServerFailure>,
}

impl Failures {
    /// With the receiver, which gets the first failure.
    pub(super) fn new() -> (Self, Receiver<ServerFailure>) {
        let (sender, receiver) = bounded(1);
        (Self { first: Arc::default(), sender }, receiver)
    }

    /// Something has failed that the server can't go on without.
    pub(super) fn tell(&self, failure: ServerFailure) {
        log::error!("{failure}");
        if self.first.set(failure.clone()).is_ok() {
            // The receiver may be gone: the failure is told at the end all the same.
            let _ = self.sender.try_send(failure);
        }
    }

    /// The first failure, also when the receiver was given it already.
    pub(super) fn first(&self) -> Option<&ServerFailure> {
        self.first.get()
    }

    /// The failure of a thread that panicked.
    pub(super) fn tell_panic(&self, thread: &str) {
        self.tell(ServerFailure::Panic(thread.to_owned()));
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
        failures.tell(ServerFailure::Reactor("first".into()));
        failures.tell(ServerFailure::UdpPort("second".into()));
        assert_eq!(failures.first(), Some(&ServerFailure::Reactor("first".into())));
    }
}
