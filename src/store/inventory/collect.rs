//! Entries of the dictionary that no set has any more are removed in the background, a few at a time, when
//! nothing else waits.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

use super::dictionary;
use super::ids::ApplicationId;
use crate::store::error::StoreError;

/// Entries looked at in one transaction: about a millisecond that a write may have to wait.
const STEP_ENTRIES: usize = 256;

/// Entries remembered as perhaps of no use, in entries. Sets that are passed over are found at the next
/// start.
const ORPHANS_MAX: usize = 65_536;

/// Entries that some set has lost: perhaps of no use now.
#[derive(Clone, Default)]
pub(in crate::store) struct Orphans(Arc<Mutex<Vec<ApplicationId>>>);

impl Orphans {
    pub(super) fn add(&self, ids: &[ApplicationId]) {
        if ids.is_empty() {
            return;
        }
        let mut orphans = self.0.lock();
        let room = ORPHANS_MAX.saturating_sub(orphans.len());
        orphans.extend(ids.iter().take(room));
    }

    fn take(&self, most: usize) -> Vec<ApplicationId> {
        let mut orphans = self.0.lock();
        let from = orphans.len().saturating_sub(most);
        orphans.split_off(from)
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// Removes what is of no use: once everything, after the start, then what sets have lost.
pub(in crate::store) struct Collector {
    orphans: Orphans,
    /// Progress of the walk over everything; `None`: it is done.
    walk: Option<ApplicationId>,
}

impl Collector {
    pub(in crate::store) fn new(orphans: Orphans) -> Self {
        Self { orphans, walk: Some(0) }
    }

    pub(in crate::store) fn has_more(&self) -> bool {
        self.walk.is_some() || !self.orphans.is_empty()
    }

    /// Does a little; whether there is more to do.
    pub(in crate::store) fn step(&mut self, connection: &mut Connection) -> bool {
        let mut ids = self.orphans.take(STEP_ENTRIES);
        let outcome = (|| -> Result<(), StoreError> {
            if ids.is_empty()
                && let Some(from) = self.walk
            {
                let sql = "SELECT id FROM applications WHERE id > ?1 ORDER BY id LIMIT ?2";
                let limit = i64::try_from(STEP_ENTRIES).unwrap_or(i64::MAX);
                let mut statement = connection.prepare_cached(sql)?;
                let rows = statement.query_map([i64::from(from), limit], |row| row.get(0))?;
                ids = rows.collect::<Result<_, _>>()?;
                self.walk = ids.last().copied();
            }
            if !ids.is_empty() {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for id in &ids {
                    dictionary::collect(&transaction, *id)?;
                }
                transaction.commit()?;
            }
            Ok(())
        })();
        if let Err(error) = outcome {
            // The rest is found at the next start; trying at once again would only spin.
            log::warn!("unused applications were not removed: {error}");
            self.walk = None;
        }
        self.has_more()
    }
}
