//! A few threads for what touches the disk, so that the control thread never waits for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::ApiError;
use crate::wire::api::ErrorCode;

/// Blocking threads that administration uses at once. A small server's disk gives no more to more, and
/// devices go first.
pub(super) const THREADS_MAX: usize = 4;

/// Longest wait of a request for a thread. The client's own timeout is longer, so that it hears why.
const WAIT_SECONDS_MAX: u64 = 10;

/// The permits for blocking threads.
pub(super) struct Pool {
    permits: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(threads: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads)) }
    }

    /// Runs `work` on a blocking thread. A client that goes away meanwhile leaves the permit with the work.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let waited = Duration::from_secs(WAIT_SECONDS_MAX);
        let permit = tokio::time::timeout(waited, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let text = "too many requests are being worked on: try again later";
            return Err(ApiError::new(ErrorCode::Busy, text));
        };
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(permit);
            outcome
        });
        done.await.unwrap_or_else(|error| Err(ApiError::internal(format!("a request failed: {error}"))))
    }
}
