//! Inventories: what is installed on each device, content-addressed.
//!
//! A dictionary names each application once ([`dictionary`]); a device's set is a small difference from a
//! base that it shares with devices like it ([`base`]). "Which devices have X" is answered from the bases
//! that contain X and from the differences that name it, without reading any set.
//!
//! The heavy part, resolving a change and choosing a base, is done on the caller's thread ([`prepare`]); the
//! writer checks that nothing it rests on has changed, and does it again itself when something has
//! ([`store`]).

mod base;
mod collect;
mod dictionary;
mod ids;
mod plan;

use rusqlite::{Connection, OptionalExtension as _, params};

pub(super) use collect::{Collector, Orphans};
pub(super) use ids::ApplicationId;
pub(super) use plan::{Prepared, prepare};

use super::error::StoreError;
use crate::machine::command::SectionUpdate;
use crate::wire::digest::Digest;
use base::{Choice, Placement};
use plan::Planned;

/// The writer's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The set is stored.
    Stored,
    /// The base of the difference is not what is stored.
    BaseUnknown,
    /// The change does not lead to the claimed digest.
    DigestMismatch,
}

/// A device's set as it is stored.
struct Current {
    placement: Placement,
    digest: Digest,
}

fn current(connection: &Connection, number: i64) -> Result<Current, StoreError> {
    let sql = "SELECT s.inventory_digest, i.base, i.added, i.removed FROM device_states s
        LEFT JOIN device_inventories i ON i.device = s.device WHERE s.device = ?1";
    type Row = (i64, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);
    let (digest, base, added, removed): Row = connection
        .prepare_cached(sql)?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let set = |bytes: Option<Vec<u8>>| {
        ids::decode(&bytes.unwrap_or_default()).ok_or_else(|| base::damaged("device_inventories", number))
    };
    let placement = Placement { base, added: set(added)?, removed: set(removed)? };
    Ok(Current { placement, digest: Digest(digest.cast_unsigned()) })
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
) -> Result<Verdict, StoreError> {
    let current = current(connection, number)?;
    if update.base.is_some_and(|base| base != current.digest) {
        return Ok(Verdict::BaseUnknown);
    }
    let planned = match prepared.planned {
        Planned::Ready { set, choice } if still_holds(connection, &set, &choice, &current)? => {
            Planned::Ready { set, choice }
        }
        _ => plan::plan(connection, number, update, &prepared.change, &prepared.digests, true)?,
    };
    let (set, choice) = match planned {
        Planned::Ready { set, choice } => (set, choice),
        Planned::DigestMismatch => return Ok(Verdict::DigestMismatch),
        Planned::Unknown => return Ok(Verdict::BaseUnknown),
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
    Ok(Verdict::Stored)
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

/// Moves a device's set from one placement to another.
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
            connection
                .prepare_cached("DELETE FROM inventory_differences WHERE application = ?1 AND device = ?2")?
                .execute(params![id, number])?;
            count_difference(connection, *id, step)?;
        }
    }
    for (ids, step) in [(&added, 1), (&removed, -1)] {
        for id in ids {
            let sql = "INSERT INTO inventory_differences (application, device, is_added) VALUES (?1, ?2, ?3)";
            connection.prepare_cached(sql)?.execute(params![id, number, step > 0])?;
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
    let entries = i64::try_from(entries).unwrap_or(i64::MAX);
    connection.prepare_cached(sql)?.execute(params![
        number,
        new.base,
        entries,
        ids::encode(&new.added),
        ids::encode(&new.removed)
    ])?;
    Ok(())
}

fn count_difference(connection: &Connection, id: ApplicationId, step: i64) -> Result<(), StoreError> {
    let sql = "UPDATE applications SET difference_devices = difference_devices + ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, step])?;
    Ok(())
}

/// Removes a device's inventory.
pub(super) fn forget(connection: &Connection, number: i64, orphans: &Orphans) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM device_inventories WHERE device = ?1";
    let is_there: Option<i64> =
        connection.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?;
    if is_there.is_some() {
        let current = current(connection, number)?;
        place(connection, number, &current.placement, &Placement::default(), 0, orphans)?;
        connection.prepare_cached("DELETE FROM device_inventories WHERE device = ?1")?.execute([number])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
