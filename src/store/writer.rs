//! The one thread that writes.
//!
//! It takes everything that waits, up to [`BATCH_OPERATIONS_MAX`], into one transaction, each operation under
//! a savepoint of its own, so that one that fails takes no other with it; commits, which makes all of them
//! durable with one sync; then runs the completions. A commit that fails fails all of the batch: each is
//! told, nothing of it is kept, and the next batch begins anew. Reads are done elsewhere
//! ([`Reader`](super::Reader)).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, SendError, Sender};
use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;
use super::health::Health;

/// Most operations in one transaction. Beyond a thousand the sync no longer weighs, and the first of the
/// batch would wait for the last.
pub const BATCH_OPERATIONS_MAX: usize = 1_000;

/// Most operations of devices that wait for the writer. Four batches: about 0.1 s of work.
pub const WAITING_OPERATIONS_MAX: usize = 4_000;

/// Most memory that waiting operations of devices hold. Whole inventories are the heavy ones; the largest has
/// 50,000 entries, about 10 MB.
pub const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room beyond that for administrators and the server itself: whatever devices hand in, there is some.
pub const RESERVED_OPERATIONS: usize = 256;

/// Room beyond that for administrators and the server itself: some of the largest requests, and the
/// write-back of a hundred thousand devices.
pub const RESERVED_BYTES: usize = 32 * 1024 * 1024;

/// Least memory that an operation holds; a rough figure.
pub(super) const SMALL_OPERATION_BYTES: usize = 512;

/// Origin of an operation: how much of the room it may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A device, or one that wants to become one.
    Device,
    /// An administrator, or the server itself.
    Server,
}

impl Origin {
    /// Numbers of operations, and of bytes, that may wait with one of its own.
    fn limits(self) -> (usize, usize) {
        match self {
            Self::Device => (WAITING_OPERATIONS_MAX, WAITING_BYTES_MAX),
            Self::Server => {
                (WAITING_OPERATIONS_MAX + RESERVED_OPERATIONS, WAITING_BYTES_MAX + RESERVED_BYTES)
            }
        }
    }
}

/// Something to do in a transaction, and somebody to tell.
trait Operation: Send {
    /// Runs inside the transaction; says whether it succeeded. Keeps the result for later.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// After the commit, or after it failed (`failure`).
    fn complete(self: Box<Self>, failure: Option<&StoreError>);
}

struct Pending<T, F, D> {
    action: Option<F>,
    result: Option<Result<T, StoreError>>,
    done: D,
}

impl<T, F, D> Operation for Pending<T, F, D>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    D: FnOnce(Result<T, StoreError>) + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let Some(action) = self.action.take() else { return Err(StoreError::Stopped) };
        let result = action(connection);
        let outcome = result.as_ref().map(drop).map_err(Clone::clone);
        self.result = Some(result);
        outcome
    }

    fn complete(self: Box<Self>, failure: Option<&StoreError>) {
        let result = match (self.result, failure) {
            // An operation that failed by itself keeps its own reason.
            (Some(Err(error)), _) => Err(error),
            (_, Some(failure)) => Err(failure.clone()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Stopped),
        };
        (self.done)(result);
    }
}

struct Waiting {
    operation: Box<dyn Operation>,
    bytes: usize,
}

/// The writer's counters, for status and tests.
#[derive(Debug, Default)]
pub struct WriterCounters {
    /// Transactions that were committed.
    pub commits: AtomicU64,
    /// Operations in them that succeeded.
    pub operations: AtomicU64,
    /// Operations that failed by themselves.
    pub refused: AtomicU64,
    /// Transactions that could not be committed.
    pub failed_commits: AtomicU64,
    /// Operations turned away because too much waited.
    pub turned_away: AtomicU64,
    pub(super) health: Health,
    bytes: AtomicUsize,
}

/// The end at which operations are handed in.
#[derive(Clone)]
pub(super) struct WriterQueue {
    sender: Sender<Waiting>,
    counters: Arc<WriterCounters>,
}

/// The other end, for the thread.
pub(super) struct WriterInbox {
    receiver: Receiver<Waiting>,
    counters: Arc<WriterCounters>,
}

/// The one who hands in counts what waits: a channel with a limit has all of its room from the start.
pub(super) fn queue() -> (WriterQueue, WriterInbox) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let counters = Arc::new(WriterCounters::default());
    (WriterQueue { sender, counters: Arc::clone(&counters) }, WriterInbox { receiver, counters })
}

impl WriterQueue {
    pub(super) fn counters(&self) -> &Arc<WriterCounters> {
        &self.counters
    }

    /// Number of operations that wait.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn waiting(&self) -> usize {
        self.sender.len()
    }

    /// Hands an operation in. `done` is called once in every case: by the writer's thread after the commit,
    /// or at once, by this thread, when there is no room; threads that hand in at the same moment may go
    /// beyond it by one each. `bytes`: about how much memory it holds.
    pub(super) fn submit<T, F, D>(&self, origin: Origin, bytes: usize, action: F, done: D)
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        D: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        let bytes = bytes.saturating_add(SMALL_OPERATION_BYTES);
        let operation = Box::new(Pending { action: Some(action), result: None, done });
        let (operations_max, bytes_max) = origin.limits();
        let before = self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One that is over the limit by itself may still go when nothing else waits.
        let is_too_much = before > 0 && before.saturating_add(bytes) > bytes_max;
        let outcome = if is_too_much || self.sender.len() >= operations_max {
            Err((Waiting { operation, bytes }, StoreError::Busy))
        } else {
            let stopped = |SendError(waiting)| (waiting, StoreError::Stopped);
            self.sender.send(Waiting { operation, bytes }).map_err(stopped)
        };
        if let Err((waiting, error)) = outcome {
            self.counters.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            waiting.operation.complete(Some(&error));
        }
    }
}

/// Work of the thread besides operations.
pub(super) trait BetweenBatches {
    /// After each batch, with whether anything waits. Whether there is more to do of its own.
    fn after_batch(&mut self, connection: &mut Connection, is_idle: bool) -> bool;
}

/// Works until every queue is gone and nothing waits.
pub(super) fn run(mut connection: Connection, inbox: &WriterInbox, mut between: impl BetweenBatches) {
    let mut batch = Vec::with_capacity(BATCH_OPERATIONS_MAX);
    let mut has_own_work = true;
    loop {
        let first = if has_own_work { inbox.receiver.try_recv().ok() } else { inbox.receiver.recv().ok() };
        match first {
            Some(first) => {
                batch.push(first);
                batch.extend(inbox.receiver.try_iter().take(BATCH_OPERATIONS_MAX - 1));
                commit(&mut connection, &mut batch, &inbox.counters);
            }
            None if !has_own_work => return,
            None => {}
        }
        has_own_work = between.after_batch(&mut connection, inbox.receiver.is_empty());
    }
}

fn commit(connection: &mut Connection, batch: &mut Vec<Waiting>, counters: &WriterCounters) {
    let outcome = transact(connection, batch);
    let failure = match outcome {
        Ok(Transacted { succeeded, refused, failure }) => {
            counters.commits.fetch_add(1, Ordering::Relaxed);
            counters.operations.fetch_add(succeeded, Ordering::Relaxed);
            counters.refused.fetch_add(refused, Ordering::Relaxed);
            match &failure {
                Some(failure) => counters.health.note_failed(failure, refused),
                None if succeeded > 0 => counters.health.note_stored(),
                None => {}
            }
            None
        }
        Err(error) => {
            counters.failed_commits.fetch_add(1, Ordering::Relaxed);
            counters.health.note_failed(&error, batch.len() as u64);
            Some(error)
        }
    };
    for waiting in batch.drain(..) {
        counters.bytes.fetch_sub(waiting.bytes, Ordering::Relaxed);
        waiting.operation.complete(failure.as_ref());
    }
}

/// The outcome of a batch that was committed.
#[derive(Default)]
struct Transacted {
    succeeded: u64,
    refused: u64,
    /// Why, when that was not for what an operation asked but for want of room or a disk that fails.
    failure: Option<StoreError>,
}

/// Runs the batch in one transaction, which ends rolled back unless it is committed.
fn transact(connection: &mut Connection, batch: &mut [Waiting]) -> Result<Transacted, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut transacted = Transacted::default();
    for waiting in batch {
        transaction.prepare_cached("SAVEPOINT operation")?.execute([])?;
        match waiting.operation.run(&transaction) {
            Ok(()) => transacted.succeeded += 1,
            // After SQLITE_FULL and some IO errors SQLite has rolled the whole transaction back by itself.
            Err(error) if transaction.is_autocommit() => return Err(error),
            Err(error) => {
                transacted.refused += 1;
                if matches!(error, StoreError::Full | StoreError::Medium(_)) {
                    transacted.failure = Some(error);
                }
                transaction.prepare_cached("ROLLBACK TO operation")?.execute([])?;
            }
        }
        transaction.prepare_cached("RELEASE operation")?.execute([])?;
    }
    transaction.commit()?;
    Ok(transacted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands in `count` operations that hold `bytes` each, and counts those that are turned away.
    fn turned_away(queue: &WriterQueue, origin: Origin, count: usize, bytes: usize) -> u64 {
        let before = queue.counters.turned_away.load(Ordering::Relaxed);
        (0..count).for_each(|_| queue.submit(origin, bytes, |_| Ok(()), |_: Result<(), _>| {}));
        queue.counters.turned_away.load(Ordering::Relaxed) - before
    }

    #[test]
    fn devices_leave_room_for_administrators_however_many_operations_they_hand_in() {
        let (queue, inbox) = queue();
        assert_eq!(turned_away(&queue, Origin::Device, WAITING_OPERATIONS_MAX + 5, 0), 5);
        assert_eq!(turned_away(&queue, Origin::Server, RESERVED_OPERATIONS + 3, 0), 3);
        assert_eq!(queue.waiting(), WAITING_OPERATIONS_MAX + RESERVED_OPERATIONS);
        drop(inbox);
    }

    #[test]
    fn devices_leave_room_for_administrators_however_much_memory_they_hold() {
        let (queue, inbox) = queue();
        assert_eq!(
            turned_away(&queue, Origin::Device, 9, WAITING_BYTES_MAX / 8),
            2,
            "one of eight is just too much"
        );
        assert_eq!(
            turned_away(&queue, Origin::Server, 5, RESERVED_BYTES / 2),
            3,
            "two halves of what is kept for them"
        );
        drop(inbox);
    }
}
