//! The database as its owners see it: the one writer, read connections, and the threads behind them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::audit;
use super::checkpoint::{self, Notifier};
use super::connection::{self, Reader, Readers};
use super::error::StoreError;
use super::generation::Generations;
use super::inventory::Collector;
use super::writer::{self, BetweenBatches, Origin, WriterQueue};

/// The writer and the readers. Cheap to clone: each owner has one.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) writer: WriterQueue,
    pub(super) readers: Arc<Readers>,
}

impl Database {
    /// A read connection. It sees what is committed.
    pub(super) fn reader(&self) -> Result<Reader, StoreError> {
        self.readers.take()
    }

    /// Hands an operation of the server to the writer. `done` is called in every case, once: by the writer's
    /// thread after the commit, or by this thread at once when there is no room ([`StoreError::Busy`]).
    pub(super) fn submit<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        done: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        self.writer.submit(Origin::Server, 0, action, done);
    }

    /// Hands an operation to the writer and waits for it. Never from a completion: that would wait for
    /// itself.
    pub(super) fn call<T: Send + 'static>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call_then(action, |value| value)
    }

    /// As [`Database::call`]; `then` is called by the writer's thread after the commit, so that memory is
    /// told of changes in the order in which they were stored. The audit's row, when this thread has one to
    /// write, is part of it.
    pub(super) fn call_then<T: Send + 'static, U: Send + 'static>(
        &self,
        action: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(T) -> U + Send + 'static,
    ) -> Result<U, StoreError> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let entry = audit::take_pending();
        let is_audited = entry.is_some();
        let action = move |connection: &Connection| {
            let value = action(connection)?;
            if let Some(entry) = entry {
                audit::append(connection, &entry, audit::AUDIT_DONE)?;
            }
            Ok(value)
        };
        self.submit(action, move |result| {
            // The receiver waits below.
            let _ = sender.send(result.map(then));
        });
        let result = receiver.recv().unwrap_or(Err(StoreError::Stopped));
        if is_audited && result.is_ok() {
            audit::note_written();
        }
        result
    }
}

/// Is told which thread panicked: nothing is stored any more then. Empty until somebody listens.
pub(super) type OnPanic = Arc<OnceLock<Box<dyn Fn(&'static str) + Send + Sync>>>;

/// Lives as long as the thread.
struct PanicGuard {
    thread: &'static str,
    on_panic: OnPanic,
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

/// The writer's and the checkpointer's thread. Dropped after the last [`Database`]: it waits until all that
/// was handed in is written.
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    pub(super) on_panic: OnPanic,
    pub(super) are_statements_unwanted: Arc<AtomicBool>,
}

impl Threads {
    /// Starts both for the file at `path`, to which `connection` writes.
    pub(super) fn spawn(
        path: &Path,
        connection: Connection,
        collector: Collector,
    ) -> Result<(Self, Database), StoreError> {
        connection::begin_writing(&connection)?;
        let are_statements_unwanted = Arc::new(AtomicBool::new(false));
        // Dropped after the queue, when something fails: it waits for the writer, and that for the queue.
        let mut threads = Self {
            handles: Vec::new(),
            on_panic: OnPanic::default(),
            are_statements_unwanted: Arc::clone(&are_statements_unwanted),
        };
        let (queue, inbox) = writer::queue();
        let (notifier, notifications) = checkpoint::notifier(path);
        let housekeeping = Housekeeping {
            are_statements_unwanted,
            notifier,
            generations: Generations::new(path),
            collector,
        };
        let counters = Arc::clone(queue.counters());
        threads.start(path, "store-writer", move || writer::run(connection, &inbox, housekeeping))?;
        threads.start(path, "store-checkpoint", move || {
            checkpoint::run(&notifications, &counters);
        })?;
        Ok((threads, Database { writer: queue, readers: Readers::new(PathBuf::from(path)) }))
    }

    fn start(
        &mut self,
        path: &Path,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let guard = PanicGuard { thread: name, on_panic: Arc::clone(&self.on_panic) };
        let work = move || {
            let _guard = guard;
            work();
        };
        let spawned = std::thread::Builder::new().name(name.into()).spawn(work);
        self.handles.push(spawned.map_err(|error| StoreError::Open {
            path: path.display().to_string(),
            reason: format!("cannot start the thread '{name}': {error}"),
        })?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A completion may hold the last clone: then this is the writer's own thread, which ends by itself,
        // and the checkpointer after it. Waiting for either would be waiting for oneself.
        let current = std::thread::current().id();
        if self.handles.iter().any(|thread| thread.thread().id() == current) {
            return;
        }
        for thread in self.handles.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the store panicked");
            }
        }
    }
}

/// Work of the writer's thread between batches.
struct Housekeeping {
    /// The writer's statements are to be freed.
    are_statements_unwanted: Arc<AtomicBool>,
    notifier: Notifier,
    generations: Generations,
    collector: Collector,
}

impl BetweenBatches for Housekeeping {
    fn after_batch(&mut self, connection: &mut Connection, is_idle: bool) -> bool {
        let has_more = if is_idle { self.collector.step(connection) } else { self.collector.has_more() };
        self.generations.after_commit(connection);
        self.notifier.after_commit();
        if self.are_statements_unwanted.swap(false, Ordering::Relaxed) {
            connection.flush_prepared_statement_cache();
        }
        if is_idle && !has_more {
            connection::empty_cache(connection);
        }
        has_more
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
        let done = store.database().call::<()>(|_| panic!("as it is meant to"));
        assert!(matches!(done, Err(StoreError::Stopped)), "{done:?}");
        assert_eq!(hears.recv_timeout(Duration::from_secs(60)).unwrap(), "store-writer");
    }
}
