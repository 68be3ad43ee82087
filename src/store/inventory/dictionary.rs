//! The dictionary: each application that some device has, once. Entries that no set has any more are removed
//! in the background, a few at a time, when nothing else waits.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};

use super::ids::ApplicationId;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::wire::digest::Digest;
use crate::wire::inventory::Application;

/// Entries looked at in one transaction: about a millisecond that a write may have to wait.
const STEP_ENTRIES: u32 = 256;

/// Entries remembered as perhaps of no use, in entries. Sets that are passed over are found at the next
/// start.
const ORPHANS_MAX: usize = 65_536;

/// The entries with this digest: one, or more when somebody took the trouble to make others.
pub(super) fn by_digest(connection: &Connection, digest: Digest) -> Result<Vec<ApplicationId>, StoreError> {
    connection.all("SELECT id FROM applications WHERE digest = ?1", [digest], |row| row.get(0))
}

/// The entry of an application. The digest leads to it; that it is the one is seen by all that it says.
pub(super) fn find(
    connection: &Connection,
    application: &Application,
    digest: Digest,
) -> Result<Option<ApplicationId>, StoreError> {
    let sql =
        "SELECT id FROM applications WHERE digest = ?1 AND name = ?2 AND version = ?3 AND publisher = ?4";
    let key = (digest, &application.name, &application.version, &application.publisher);
    connection.perhaps(sql, key, |row| row.get(0))
}

/// The entry of an application; made when it isn't there.
pub(super) fn intern(
    connection: &Connection,
    application: &Application,
    digest: Digest,
) -> Result<ApplicationId, StoreError> {
    if let Some(id) = find(connection, application, digest)? {
        return Ok(id);
    }
    let sql =
        "INSERT INTO applications (digest, name, version, publisher) VALUES (?1, ?2, ?3, ?4) RETURNING id";
    let values = (digest, &application.name, &application.version, &application.publisher);
    connection.one(sql, values, |row| row.get(0))
}

pub(super) fn exists(connection: &Connection, id: ApplicationId) -> Result<bool, StoreError> {
    connection.has_row("SELECT 1 FROM applications WHERE id = ?1", [id])
}

/// Removes the entry if no set has it.
fn collect(connection: &Connection, id: ApplicationId) -> Result<(), StoreError> {
    let sql = "DELETE FROM applications WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM base_applications WHERE application = ?1)
        AND NOT EXISTS (SELECT 1 FROM inventory_differences WHERE application = ?1)";
    connection.run(sql, [id]).map(drop)
}

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

impl Default for Collector {
    fn default() -> Self {
        Self { orphans: Orphans::default(), walk: Some(0) }
    }
}

impl Collector {
    pub(in crate::store) fn orphans(&self) -> &Orphans {
        &self.orphans
    }

    pub(in crate::store) fn has_more(&self) -> bool {
        self.walk.is_some() || !self.orphans.is_empty()
    }

    /// Does a little; whether there is more to do.
    pub(in crate::store) fn step(&mut self, connection: &mut Connection) -> bool {
        let mut ids = self.orphans.take(STEP_ENTRIES as usize);
        let outcome = (|| -> Result<(), StoreError> {
            if ids.is_empty()
                && let Some(from) = self.walk
            {
                let sql = "SELECT id FROM applications WHERE id > ?1 ORDER BY id LIMIT ?2";
                ids = connection.all(sql, (from, STEP_ENTRIES), |row| row.get(0))?;
                self.walk = ids.last().copied();
            }
            if !ids.is_empty() {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                for id in &ids {
                    collect(&transaction, *id)?;
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
