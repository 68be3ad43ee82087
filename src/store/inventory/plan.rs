//! From a change as it came to a set of ids and a place for it.

use std::collections::HashSet;
use std::hash::Hash;

use rusqlite::Connection;

use super::base::{self, Choice};
use super::dictionary;
use super::ids::{self, ApplicationId};
use crate::machine::command::SectionUpdate;
use crate::store::error::StoreError;
use crate::wire::digest::Digest;
use crate::wire::inventory::{Application, InventoryChange};
use crate::wire::limits::INVENTORY_ENTRIES_MAX;

/// Facts about a change before the writer sees it.
pub(in crate::store) struct Prepared {
    pub(super) change: InventoryChange,
    /// Of `change.added`, in its order.
    pub(super) digests: Vec<Digest>,
    pub(super) planned: Planned,
}

pub(super) enum Planned {
    /// The new set, and where to place it.
    Ready { set: Vec<ApplicationId>, choice: Choice },
    /// The base is another, or entries are not in the dictionary yet.
    Unknown,
    /// The change does not lead to the claimed digest.
    DigestMismatch,
}

/// Does what can be done without the writer.
pub(in crate::store) fn prepare(
    connection: &Connection,
    number: i64,
    update: &SectionUpdate,
    change: InventoryChange,
) -> Result<Prepared, StoreError> {
    let digests: Vec<Digest> = change.added.iter().map(Application::digest).collect();
    // One snapshot: what one statement sees, the next sees too.
    let snapshot = connection.unchecked_transaction()?;
    let planned = plan(&snapshot, number, update, &change, &digests, false)?;
    Ok(Prepared { change, digests, planned })
}

fn has_equals<T: Eq + Hash>(values: &[T]) -> bool {
    values.iter().collect::<HashSet<_>>().len() < values.len()
}

/// Plans a change. `may_intern`: entries that the dictionary lacks are made (the writer alone may).
pub(super) fn plan(
    connection: &Connection,
    number: i64,
    update: &SectionUpdate,
    change: &InventoryChange,
    digests: &[Digest],
    may_intern: bool,
) -> Result<Planned, StoreError> {
    let current = super::current(connection, number)?;
    let start = match update.base {
        None => Vec::new(),
        Some(base) if base == current.digest => super::members(connection, &current.placement)?,
        Some(_) => return Ok(Planned::Unknown),
    };
    let mut sum = update.base.unwrap_or(Digest::EMPTY);
    let mut removed = Vec::with_capacity(change.removed.len());
    for digest in &change.removed {
        let mut candidates = dictionary::by_digest(connection, *digest)?;
        candidates.retain(|id| start.binary_search(id).is_ok());
        match candidates[..] {
            [id] => removed.push(id),
            [] => return Ok(Planned::DigestMismatch),
            // The device has several of which this may mean each: it is asked for the whole.
            _ => return Ok(Planned::Unknown),
        }
        sum = sum.without(*digest);
    }
    removed.sort_unstable();
    let has_repetitions = removed.windows(2).any(|pair| pair[0] == pair[1])
        || (has_equals(digests) && has_equals(&change.added));
    sum = digests.iter().fold(sum, |sum, digest| sum.with(*digest));
    let entries = (start.len() + digests.len()).saturating_sub(removed.len());
    if has_repetitions || sum != update.digest || entries > INVENTORY_ENTRIES_MAX {
        return Ok(Planned::DigestMismatch);
    }
    let mut added = Vec::with_capacity(digests.len());
    let mut unknown = Vec::new();
    for (application, digest) in change.added.iter().zip(digests) {
        match dictionary::find(connection, application, *digest)? {
            Some(id) if start.binary_search(&id).is_ok() && removed.binary_search(&id).is_err() => {
                return Ok(Planned::DigestMismatch);
            }
            Some(id) => added.push(id),
            None => unknown.push((application, *digest)),
        }
    }
    if !unknown.is_empty() && !may_intern {
        return Ok(Planned::Unknown);
    }
    for (application, digest) in unknown {
        added.push(dictionary::intern(connection, application, digest)?);
    }
    // Taken out and put in again in one change: it stays.
    let set = ids::apply(&start, &added, &removed);
    let choice = base::choose(connection, &set, update.digest, current.placement.base)?;
    Ok(Planned::Ready { set, choice })
}
