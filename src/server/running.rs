//! The running parts of a server: each from the moment it was started, and the end of all of them in the
//! order in which data goes round.
//!
//! A start puts every part in here at once. When the next one can't be started, what is dropped ends the
//! parts that were, as a drain does.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::backend::LiveBackend;
use super::backup::BackupService;
use super::calls::CallThread;
use super::control::ControlThread;
use super::data_directory::DataDirectory;
use super::panic_guard::{Failures, ServerFailure};
use super::presence::Announcer;
use super::scheduler::SchedulerThread;
use crate::concurrency::reactors::ReactorMailboxes;
use crate::journal::{FileStorage, Threads};

/// Pause until a reactor that has too much to do is told once more to end.
const TELL_AGAIN: Duration = Duration::from_millis(10);

/// The parts that run. Dropping it ends them.
pub(super) struct Running {
    pub(super) failures: Failures,
    pub(super) announcer: Option<Announcer>,
    pub(super) mailboxes: Option<ReactorMailboxes>,
    pub(super) reactors: Vec<JoinHandle<()>>,
    pub(super) scheduler: Option<SchedulerThread>,
    pub(super) call_thread: Option<CallThread>,
    /// The last sender of work when the reactors have ended.
    pub(super) backend: Option<Arc<LiveBackend>>,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) backups: Option<Arc<BackupService>>,
    pub(super) control: Option<ControlThread>,
    pub(super) journal_threads: Option<Threads<FileStorage>>,
    /// The last field: let go of when everything in it is closed.
    pub(super) data_directory: Option<DataDirectory>,
}

impl Running {
    pub(super) fn nothing(failures: Failures) -> Self {
        Self {
            failures,
            announcer: None,
            mailboxes: None,
            reactors: Vec::new(),
            scheduler: None,
            call_thread: None,
            backend: None,
            workers: Vec::new(),
            backups: None,
            control: None,
            journal_threads: None,
            data_directory: None,
        }
    }

    /// Ends what runs: no more links are accepted, what is in flight is finished, devices are told to come
    /// again, the journal is made durable. Failures meanwhile are with the others.
    pub(super) fn end(&mut self) {
        if let Some(announcer) = &self.announcer {
            announcer.stop();
        }
        if let Some(mailboxes) = self.mailboxes.take() {
            // One that has ended can't be told, and need not be.
            while !mailboxes.drain_all() && !self.reactors.iter().all(JoinHandle::is_finished) {
                std::thread::sleep(TELL_AGAIN);
            }
        }
        self.join("a reactor", |running| &mut running.reactors);
        if let Some(scheduler) = self.scheduler.take() {
            scheduler.stop();
        }
        if let Some(call_thread) = self.call_thread.take() {
            call_thread.stop();
        }
        drop(self.backend.take());
        self.join("a worker", |running| &mut running.workers);
        if let Some(backups) = &self.backups {
            backups.begin_to_stop();
        }
        // The control thread writes back once more, for which the journal must still become durable.
        if let Some(control) = self.control.take() {
            control.stop();
        }
        // Its readers are gone with the control thread.
        if let Some(backups) = self.backups.take() {
            backups.join();
        }
        if let Some(threads) = self.journal_threads.take()
            && let Err(error) = threads.stop()
            && self.failures.first().is_none()
        {
            self.failures.tell(ServerFailure::Journal(error.0.clone()));
        }
    }

    fn join(&mut self, who: &str, threads: impl FnOnce(&mut Self) -> &mut Vec<JoinHandle<()>>) {
        for thread in std::mem::take(threads(self)) {
            if thread.join().is_err() && self.failures.first().is_none() {
                self.failures.tell_panic(who);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::panic_guard::PanicGuard;
    use super::*;

    #[test]
    fn a_thread_that_panics_while_the_server_ends_is_its_failure() {
        for has_timer in [true, false] {
            let (failures, receiver) = Failures::new();
            // Nobody reads it any more: what happens at the end counts all the same.
            drop(receiver);
            let mut running = Running::nothing(failures.clone());
            let of_thread = failures.clone();
            running.reactors.push(std::thread::spawn(move || {
                let _guard = has_timer.then(|| PanicGuard::new("a reactor", of_thread));
                panic!("as it is meant to");
            }));
            drop(running);
            assert_eq!(failures.first(), Some(&ServerFailure::Panic("a reactor".into())));
        }
    }
}
