//! Bases: the sets that devices share, and which one suits a set.
//!
//! A base never changes, and its id is never used again, so that a choice made outside the writer's
//! transaction is either still right or seen to be gone. Alike sets are found by sketches, each made of some
//! min-hashes: for a hash function, the least hash of all entries. Two sets that share a fraction *j* of
//! their entries (Jaccard) agree in each with probability *j* (Broder 1997, "On the resemblance and
//! containment of documents").

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::ids::{self, ApplicationId};
use crate::machine::random::Random;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::wire::digest::Digest;

const SKETCHES: u64 = 8;

/// Min-hashes that one sketch is made of. A single one is not enough: most kinds of device share most of
/// their applications, and would be candidates for each other. Sets that share 96 % meet in a sketch with
/// probability 0.78 and in none of eight once in 180,000 times; sets that share 65 % meet in a sketch with
/// probability 0.08.
const MIN_HASHES: u64 = 6;

/// Bases looked at for one sketch, in bases; the newest, because fleets drift forward.
const CANDIDATES_PER_SKETCH: i64 = 16;

/// Bases whose content is compared, in bases.
const COMPARED_MAX: usize = 4;

/// A difference of this many entries is always kept: a base of its own would cost more.
const DIFFERENCE_ENTRIES_MIN: usize = 8;

/// Beyond this part of the set (1/16), a device gets another base.
const DIFFERENCE_DIVISOR: usize = 16;

/// A set as its difference from a base.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Placement {
    /// The base; `None`: the empty set.
    pub(super) base: Option<i64>,
    /// Has these though the base has not.
    pub(super) added: Vec<ApplicationId>,
    /// Lacks these though the base has them.
    pub(super) removed: Vec<ApplicationId>,
}

/// Place of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Place(Placement),
    /// No base suits: the set becomes one.
    NewBase,
}

fn difference_max(entries: usize) -> usize {
    DIFFERENCE_ENTRIES_MIN.max(entries / DIFFERENCE_DIVISOR)
}

pub(super) fn content(connection: &Connection, base: i64) -> Result<Option<Vec<ApplicationId>>, StoreError> {
    let sql = "SELECT content FROM inventory_bases WHERE id = ?1";
    let bytes: Option<Vec<u8>> = connection.perhaps(sql, [base], |row| row.get(0))?;
    bytes.map(|bytes| ids::decode(&bytes).ok_or_else(|| damaged("inventory_bases", base))).transpose()
}

pub(super) fn damaged(table: &str, id: i64) -> StoreError {
    StoreError::Database(format!("{table}, row {id}: the set is damaged; restore the file from a copy"))
}

/// Chooses where to place a set. `current`: the base that the device has.
pub(super) fn choose(
    connection: &Connection,
    set: &[ApplicationId],
    digest: Digest,
    current: Option<i64>,
) -> Result<Choice, StoreError> {
    if set.len() <= DIFFERENCE_ENTRIES_MIN {
        return Ok(Choice::Place(Placement { base: None, added: set.to_vec(), removed: Vec::new() }));
    }
    let enough = difference_max(set.len());
    if let Some(current) = current
        && let Some(content) = content(connection, current)?
    {
        let (added, removed) = ids::difference(&content, set);
        if added.len() + removed.len() <= enough {
            return Ok(Choice::Place(Placement { base: Some(current), added, removed }));
        }
    }
    let mut best = closest(connection, set, with_digest(connection, digest)?, enough)?;
    if best.is_none() {
        best = closest(connection, set, alike(connection, set)?, enough)?;
    }
    Ok(best.map_or(Choice::NewBase, Choice::Place))
}

/// The bases with this digest: one at most, unless sets were made to have the digest of another. They are
/// taken for nothing but what is worth a look.
fn with_digest(connection: &Connection, digest: Digest) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT id FROM inventory_bases WHERE digest = ?1 ORDER BY id DESC LIMIT ?2";
    connection.all(sql, (digest, CANDIDATES_PER_SKETCH), |row| row.get(0))
}

/// The placement on that of these bases from which the set differs least, if that is little enough.
fn closest(
    connection: &Connection,
    set: &[ApplicationId],
    bases: Vec<i64>,
    enough: usize,
) -> Result<Option<Placement>, StoreError> {
    let mut best: Option<Placement> = None;
    for base in bases {
        let Some(content) = content(connection, base)? else { continue };
        let (added, removed) = ids::difference(&content, set);
        let size = added.len() + removed.len();
        if size <= enough && best.as_ref().is_none_or(|best| size < best.added.len() + best.removed.len()) {
            best = Some(Placement { base: Some(base), added, removed });
        }
        if size == 0 {
            break;
        }
    }
    Ok(best)
}

fn alike(connection: &Connection, set: &[ApplicationId]) -> Result<Vec<i64>, StoreError> {
    let mut votes: HashMap<i64, usize> = HashMap::new();
    let sql = "SELECT base FROM base_sketches WHERE sketch = ?1 ORDER BY base DESC LIMIT ?2";
    for sketch in sketches(set) {
        for base in connection.all(sql, [sketch, CANDIDATES_PER_SKETCH], |row| row.get(0))? {
            *votes.entry(base).or_default() += 1;
        }
    }
    let mut votes: Vec<(usize, i64)> = votes.into_iter().map(|(base, votes)| (votes, base)).collect();
    votes.sort_unstable_by(|a, b| b.cmp(a));
    Ok(votes.into_iter().take(COMPARED_MAX).map(|(_, base)| base).collect())
}

/// The sketches of a set, each with its number in the upper byte.
fn sketches(set: &[ApplicationId]) -> impl Iterator<Item = i64> {
    (0..SKETCHES).map(move |sketch| {
        let functions = sketch * MIN_HASHES..(sketch + 1) * MIN_HASHES;
        let hash = functions.fold(0, |hash, function| {
            let least = set.iter().map(|id| mix(u64::from(*id) ^ (function << 32))).min();
            mix(hash ^ least.unwrap_or_default())
        });
        ((sketch << 56) | (hash >> 8)).cast_signed()
    })
}

fn mix(value: u64) -> u64 {
    Random::new(value).next_u64()
}

pub(super) fn create(
    connection: &Connection,
    set: &[ApplicationId],
    digest: Digest,
) -> Result<i64, StoreError> {
    let sql = "INSERT INTO inventory_bases (digest, entries, content) VALUES (?1, ?2, ?3)";
    connection.run(sql, (digest, set.len(), ids::encode(set)))?;
    let base = connection.last_insert_rowid();
    let sql = "INSERT INTO base_applications (application, base) VALUES (?1, ?2)";
    let mut statement = connection.prepare_cached(sql)?;
    for id in set {
        statement.execute(params![id, base])?;
    }
    for sketch in sketches(set) {
        connection.run("INSERT INTO base_sketches (sketch, base) VALUES (?1, ?2)", [sketch, base])?;
    }
    Ok(base)
}

pub(super) fn take(connection: &Connection, base: i64) -> Result<(), StoreError> {
    let sql = "UPDATE inventory_bases SET devices = devices + 1 WHERE id = ?1";
    connection.run(sql, [base]).map(drop)
}

/// One device less has this base; the last one takes it along. The entries that may be of no use now.
pub(super) fn release(connection: &Connection, base: i64) -> Result<Vec<ApplicationId>, StoreError> {
    let sql = "UPDATE inventory_bases SET devices = devices - 1 WHERE id = ?1 RETURNING devices";
    if connection.perhaps(sql, [base], |row| row.get(0))? != Some(0) {
        return Ok(Vec::new());
    }
    let set = content(connection, base)?.unwrap_or_default();
    let mut statement =
        connection.prepare_cached("DELETE FROM base_applications WHERE application = ?1 AND base = ?2")?;
    for id in &set {
        statement.execute(params![id, base])?;
    }
    for sketch in sketches(&set) {
        connection.run("DELETE FROM base_sketches WHERE sketch = ?1 AND base = ?2", [sketch, base])?;
    }
    connection.run("DELETE FROM inventory_bases WHERE id = ?1", [base])?;
    Ok(set)
}

pub(super) fn exists(connection: &Connection, base: i64) -> Result<bool, StoreError> {
    connection.has_row("SELECT 1 FROM inventory_bases WHERE id = ?1", [base])
}
