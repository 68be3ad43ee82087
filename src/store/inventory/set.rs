//! Sets of applications: from a change as it came to a set of ids, a place for it, and there.

use std::collections::HashSet;
use std::hash::Hash;

use rusqlite::Connection;

use super::base::{self, Choice, Placement};
use super::ids::{self, ApplicationId};
use super::{Orphans, dictionary};
use crate::machine::command::{SectionOutcome, SectionUpdate};
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::wire::digest::Digest;
use crate::wire::inventory::{Application, InventoryChange};
use crate::wire::limits::INVENTORY_ENTRIES_MAX;
use crate::wire::section::SectionState;

struct Current {
    placement: Placement,
    digest: Digest,
}

fn current(connection: &Connection, number: i64) -> Result<Current, StoreError> {
    let sql = "SELECT s.inventory_digest, i.base, i.added, i.removed FROM device_states s
        LEFT JOIN device_inventories i ON i.device = s.device WHERE s.device = ?1";
    type Row = (Digest, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);
    let (digest, base, added, removed): Row = connection.one(sql, [number], |row| row.try_into())?;
    let set = |bytes: Option<Vec<u8>>| {
        ids::decode(&bytes.unwrap_or_default()).ok_or_else(|| base::damaged("device_inventories", number))
    };
    let placement = Placement { base, added: set(added)?, removed: set(removed)? };
    Ok(Current { placement, digest })
}

fn members(connection: &Connection, placement: &Placement) -> Result<Vec<ApplicationId>, StoreError> {
    let content = match placement.base {
        None => Vec::new(),
        Some(base) => {
            base::content(connection, base)?.ok_or_else(|| base::damaged("inventory_bases", base))?
        }
    };
    Ok(ids::apply(&content, &placement.added, &placement.removed))
}

/// The ids of the applications of a device, sorted.
pub(super) fn set_of(connection: &Connection, number: i64) -> Result<Vec<ApplicationId>, StoreError> {
    members(connection, &current(connection, number)?.placement)
}

/// Stores a device's new set, in the writer's transaction.
pub(super) fn store(
    connection: &Connection,
    number: i64,
    update: &SectionUpdate,
    prepared: Prepared,
    orphans: &Orphans,
) -> Result<SectionOutcome, StoreError> {
    let current = current(connection, number)?;
    if update.base.is_some_and(|base| base != current.digest) {
        return Ok(SectionOutcome::BaseUnknown);
    }
    let planned = match prepared.planned {
        Planned::Ready { set, choice } if still_holds(connection, &set, &choice, &current)? => {
            Planned::Ready { set, choice }
        }
        _ => plan(connection, number, update, &prepared.change, &prepared.digests, true)?,
    };
    let (set, choice) = match planned {
        Planned::Ready { set, choice } => (set, choice),
        Planned::DigestMismatch => return Ok(SectionOutcome::DigestMismatch),
        Planned::Unknown => return Ok(SectionOutcome::BaseUnknown),
    };
    let placement = match choice {
        Choice::Place(placement) => placement,
        // Another device may have brought the base since this was prepared.
        Choice::NewBase => match base::choose(connection, &set, update.digest, current.placement.base)? {
            Choice::Place(placement) => placement,
            Choice::NewBase => Placement {
                base: Some(base::create(connection, &set, update.digest)?),
                ..Placement::default()
            },
        },
    };
    place(connection, number, &current.placement, &placement, set.len(), orphans)?;
    Ok(SectionOutcome::Stored(SectionState { digest: update.digest, revision: update.revision }))
}

/// Whether everything that a plan rests on is still there. Ids are never used again and bases never change,
/// so being there is enough.
fn still_holds(
    connection: &Connection,
    set: &[ApplicationId],
    choice: &Choice,
    current: &Current,
) -> Result<bool, StoreError> {
    let named = match choice {
        Choice::Place(placement) => {
            if let Some(base) = placement.base
                && current.placement.base != Some(base)
                && !base::exists(connection, base)?
            {
                return Ok(false);
            }
            &placement.added
        }
        Choice::NewBase => set,
    };
    for id in named {
        if !dictionary::exists(connection, *id)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn place(
    connection: &Connection,
    number: i64,
    old: &Placement,
    new: &Placement,
    entries: usize,
    orphans: &Orphans,
) -> Result<(), StoreError> {
    if old.base != new.base
        && let Some(base) = new.base
    {
        base::take(connection, base)?;
    }
    let (added, no_longer_added) = ids::difference(&old.added, &new.added);
    let (removed, no_longer_removed) = ids::difference(&old.removed, &new.removed);
    for (ids, step) in [(&no_longer_added, -1), (&no_longer_removed, 1)] {
        for id in ids {
            let sql = "DELETE FROM inventory_differences WHERE application = ?1 AND device = ?2";
            connection.run(sql, (id, number))?;
            count_difference(connection, *id, step)?;
        }
    }
    for (ids, step) in [(&added, 1), (&removed, -1)] {
        for id in ids {
            let sql = "INSERT INTO inventory_differences (application, device, is_added) VALUES (?1, ?2, ?3)";
            connection.run(sql, (id, number, step > 0))?;
            count_difference(connection, *id, step)?;
        }
    }
    orphans.add(&no_longer_added);
    orphans.add(&no_longer_removed);
    if old.base != new.base
        && let Some(base) = old.base
    {
        orphans.add(&base::release(connection, base)?);
    }
    let sql =
        "INSERT INTO device_inventories (device, base, entries, added, removed) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (device) DO UPDATE SET base = excluded.base, entries = excluded.entries,
            added = excluded.added, removed = excluded.removed";
    let values = (number, new.base, entries, ids::encode(&new.added), ids::encode(&new.removed));
    connection.run(sql, values).map(drop)
}

fn count_difference(connection: &Connection, id: ApplicationId, step: i64) -> Result<(), StoreError> {
    let sql = "UPDATE applications SET difference_devices = difference_devices + ?2 WHERE id = ?1";
    connection.run(sql, (id, step)).map(drop)
}

pub(super) fn forget(connection: &Connection, number: i64, orphans: &Orphans) -> Result<(), StoreError> {
    if connection.has_row("SELECT 1 FROM device_inventories WHERE device = ?1", [number])? {
        let current = current(connection, number)?;
        place(connection, number, &current.placement, &Placement::default(), 0, orphans)?;
        connection.run("DELETE FROM device_inventories WHERE device = ?1", [number])?;
    }
    Ok(())
}

/// Facts about a change before the writer sees it.
pub(super) struct Prepared {
    change: InventoryChange,
    /// Of `change.added`, in its order.
    digests: Vec<Digest>,
    planned: Planned,
}

enum Planned {
    /// The new set, and where to place it.
    Ready { set: Vec<ApplicationId>, choice: Choice },
    /// The base is another, or entries are not in the dictionary yet.
    Unknown,
    /// The change does not lead to the claimed digest.
    DigestMismatch,
}

/// Does what can be done without the writer.
pub(super) fn prepare(
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
fn plan(
    connection: &Connection,
    number: i64,
    update: &SectionUpdate,
    change: &InventoryChange,
    digests: &[Digest],
    may_intern: bool,
) -> Result<Planned, StoreError> {
    let current = current(connection, number)?;
    let start = match update.base {
        None => Vec::new(),
        Some(base) if base == current.digest => members(connection, &current.placement)?,
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
