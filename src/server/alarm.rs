//! Says that a thread panicked, when it does: the server can't go on without it.

use crossbeam_channel::Sender;

/// Lives as long as the thread.
pub(super) struct Alarm {
    who: &'static str,
    failed: Sender<String>,
}

impl Alarm {
    pub(super) fn new(who: &'static str, failed: Sender<String>) -> Self {
        Self { who, failed }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second failure would say nothing new.
            let _ = self.failed.try_send(format!("{} has panicked; the log says where", self.who));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_heard_of_and_one_that_ends_is_not() {
        for panics in [false, true] {
            let (failed, failures) = crossbeam_channel::bounded(1);
            let thread = std::thread::spawn(move || {
                let _alarm = Alarm::new("a thread", failed);
                assert!(!panics, "as it is meant to");
            });
            assert_eq!(thread.join().is_err(), panics);
            assert_eq!(failures.recv().is_ok(), panics);
        }
    }
}
