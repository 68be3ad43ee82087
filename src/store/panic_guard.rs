//! Tells of a thread of the store that panicked: without it nothing is stored any more.

use std::sync::{Arc, OnceLock};

/// Hears which thread it was. Empty until somebody listens.
pub(super) type OnPanic = Arc<OnceLock<Box<dyn Fn(&'static str) + Send + Sync>>>;

/// Lives as long as the thread.
pub(super) struct PanicGuard {
    thread: &'static str,
    on_panic: OnPanic,
}

impl PanicGuard {
    pub(super) fn new(thread: &'static str, on_panic: OnPanic) -> Self {
        Self { thread, on_panic }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(hear) = self.on_panic.get()
        {
            hear(self.thread);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use crate::store::{Store, StoreError};

    #[test]
    fn a_writer_that_panics_is_heard_of() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (heard, hears) = channel();
        store.on_panic(move |thread| heard.send(thread).unwrap());
        let done = store.call::<()>(|_| panic!("as it is meant to"));
        assert!(matches!(done, Err(StoreError::Stopped)), "{done:?}");
        assert_eq!(hears.recv_timeout(Duration::from_secs(60)).unwrap(), "store-writer");
    }
}
