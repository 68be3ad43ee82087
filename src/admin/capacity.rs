//! Shares of the administration socket, by kind of client.
//!
//! ```text
//! CONNECTIONS_MAX ─┬─ FOLLOWERS_MAX  streams of events, without end
//!                  ├─ WAITS_MAX      answers that wait for devices, up to an hour
//!                  └─ the rest       requests that are answered at once: status, lists, changes;
//!                                    UPLOADS_MAX of them may be uploads, which take their time
//! ```

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use crate::wire::api::{ErrorCode, Limit};

/// Clients at once. Each costs a few kilobytes; people and scripts need a handful, followers one each.
pub const CONNECTIONS_MAX: usize = 64;

/// Followers of events at once: programs that pass events on, and people who watch.
pub const FOLLOWERS_MAX: usize = 32;

/// Requests that wait for devices at once, in requests.
pub const WAITS_MAX: usize = 16;

/// Uploads at once, in requests: more would only share the disk.
pub const UPLOADS_MAX: usize = 4;

/// Places for everybody else, in connections.
const RESERVE: usize = 16;

const _: () = assert!(FOLLOWERS_MAX + WAITS_MAX + RESERVE <= CONNECTIONS_MAX);
const _: () = assert!(UPLOADS_MAX < RESERVE);

/// The places, free and taken. Clones share them.
#[derive(Clone)]
pub(super) struct Capacity {
    pub(super) connections: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Capacity {
    pub(super) fn new() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            connections: semaphore(CONNECTIONS_MAX),
            followers: semaphore(FOLLOWERS_MAX),
            waits: semaphore(WAITS_MAX),
            uploads: semaphore(UPLOADS_MAX),
        }
    }

    /// A follower's place, until it is dropped.
    pub(super) fn follower(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        place(&self.followers).ok_or_else(|| {
            let text = format!(
                "{FOLLOWERS_MAX} clients follow the events already, and no more may: end one of them, or read what is stored \
                 with 'musterctl event list'"
            );
            ApiError::new(ErrorCode::Busy, text)
        })
    }

    /// The place of a request that waits for devices, until it is dropped.
    pub(super) fn wait(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        place(&self.waits).ok_or_else(|| {
            let text = format!(
                "{WAITS_MAX} requests wait for devices already, and no more may: end one of them, or ask without waiting"
            );
            ApiError::new(ErrorCode::Busy, text)
        })
    }

    /// The place of an upload, until it is dropped.
    pub(super) fn upload(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        place(&self.uploads).ok_or_else(|| {
            let text =
                format!("{UPLOADS_MAX} artifacts are being added already, and no more may: try again later");
            ApiError::new(ErrorCode::Busy, text)
        })
    }

    /// The limits, and how far they are used.
    pub(super) fn limits(&self) -> [Limit; 4] {
        let limit = |name: &str, max: usize, left: &Semaphore| {
            let used = max.saturating_sub(left.available_permits()) as u64;
            Limit { name: name.to_owned(), value: max as u64, used: Some(used) }
        };
        [
            limit("administrators", CONNECTIONS_MAX, &self.connections),
            limit("event followers", FOLLOWERS_MAX, &self.followers),
            limit("waiting requests", WAITS_MAX, &self.waits),
            limit("uploads", UPLOADS_MAX, &self.uploads),
        ]
    }
}

fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().ok()
}
