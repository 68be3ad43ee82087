//! Seeds of the keys of session tickets.

use std::fmt;

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::error::StoreError;
use crate::wire::time::WallTime;

/// Length of the name that a key's tickets begin with.
pub const TICKET_NAME_BYTES: usize = 16;

/// Length of a seed: that of the key which comes of it.
pub const TICKET_SEED_BYTES: usize = 32;

/// Seed of a key of session tickets. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSeed {
    /// First bytes of the key's tickets.
    pub name: [u8; TICKET_NAME_BYTES],
    /// Random bytes.
    pub seed: Zeroizing<[u8; TICKET_SEED_BYTES]>,
    /// When it was drawn.
    pub made_at: WallTime,
}

impl fmt::Debug for TicketSeed {
    /// Without the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSeed").field("made_at", &self.made_at).finish_non_exhaustive()
    }
}

pub(super) fn all(connection: &Connection) -> Result<Vec<TicketSeed>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, seed, made_at FROM ticket_seeds ORDER BY number")?;
    let rows = statement.query_map([], |row| {
        Ok(TicketSeed {
            name: row.get(0)?,
            seed: Zeroizing::new(row.get(1)?),
            made_at: WallTime(row.get::<_, i64>(2)?.cast_unsigned()),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn replace(connection: &Connection, seeds: &[TicketSeed]) -> Result<(), StoreError> {
    for known in all(connection)? {
        if seeds.iter().all(|seed| seed.name != known.name) {
            // A row that is deleted leaves its bytes behind in the file.
            connection
                .prepare_cached("UPDATE ticket_seeds SET seed = zeroblob(?2) WHERE name = ?1")?
                .execute(params![known.name, i64::try_from(TICKET_SEED_BYTES).unwrap_or(0)])?;
            connection.prepare_cached("DELETE FROM ticket_seeds WHERE name = ?1")?.execute([known.name])?;
        }
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO ticket_seeds (name, seed, made_at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
    )?;
    for seed in seeds {
        insert.execute(params![seed.name, *seed.seed, seed.made_at.0.cast_signed()])?;
    }
    Ok(())
}
