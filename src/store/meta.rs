//! The server's memory of itself: values by key, and seeds of the keys of session tickets.

use std::fmt;

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::Store;
use super::error::StoreError;
use super::sql::Sql as _;
use crate::wire::id::Epoch;
use crate::wire::time::WallTime;

const SERVER_EPOCH: &str = "server_epoch";
/// Written to see whether anything can be.
const PROBE: &str = "probe";
const JOURNAL_POSITION: &str = "journal_position";
const WALL_TIME: &str = "wall_time";

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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSeed").field("made_at", &self.made_at).finish_non_exhaustive()
    }
}

impl Store {
    /// Tries to store something small: whether that is possible again is in [`Store::failing`] then. Waits
    /// for it.
    pub fn probe(&self) {
        // Another value each time: SQLite writes no page that stays as it is. A failure is what it is about.
        let _ = self.database().call(|connection| set(connection, PROBE, &random_number()?.to_be_bytes()));
    }

    /// The server's epoch: drawn when the file was made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn server_epoch(&self) -> Result<Epoch, StoreError> {
        server_epoch(&*self.reader()?)
    }

    /// Draws a new server epoch: the server has noticed that its state was restored from a copy. `done` gets
    /// it when it is durable.
    pub fn renew_server_epoch(&self, done: impl FnOnce(Result<Epoch, StoreError>) + Send + 'static) {
        self.database().submit(renew_server_epoch, done);
    }

    /// Remembers a value under a key. Waits until it is durable.
    ///
    /// # Errors
    /// When it could not be stored.
    #[cfg(any(test, feature = "internals"))]
    pub fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.database().call(move |connection| set(connection, &key, &value))
    }

    /// The last wall time that was known for certain when the server ran before; `None`: it never did.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_wall_time(&self) -> Result<Option<WallTime>, StoreError> {
        wall_time(&*self.reader()?)
    }

    /// Remembers the wall time for the next start. Waits for nothing: what gets lost is told by the next.
    pub fn remember_wall_time(&self, wall: WallTime) {
        self.database().submit(
            move |connection| set(connection, WALL_TIME, &wall.0.to_be_bytes()),
            |result| {
                if let Err(error) = result {
                    log::warn!("the wall time was not stored, that is tried again: {error}");
                }
            },
        );
    }

    /// Seeds of the keys of session tickets, in the order in which they were made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn ticket_seeds(&self) -> Result<Vec<TicketSeed>, StoreError> {
        ticket_seeds(&*self.reader()?)
    }

    /// These are the seeds from now on; those that are not among them are overwritten and forgotten. `done`
    /// is told when it is durable.
    pub fn set_ticket_seeds(
        &self,
        seeds: Vec<TicketSeed>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        self.database().submit(move |connection| replace_ticket_seeds(connection, &seeds), done);
    }
}

pub(super) fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    connection.perhaps("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
}

pub(super) fn set(connection: &Connection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.run(sql, params![key, value]).map(drop)
}

fn number(connection: &Connection, key: &str) -> Result<Option<u64>, StoreError> {
    let Some(value) = get(connection, key)? else { return Ok(None) };
    let bytes = value
        .try_into()
        .map_err(|_| StoreError::Database(format!("meta '{key}' is damaged: 8 bytes expected")))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

/// The server's epoch; drawn the first time.
pub(super) fn server_epoch(connection: &Connection) -> Result<Epoch, StoreError> {
    match number(connection, SERVER_EPOCH)? {
        Some(epoch) => Ok(Epoch(epoch)),
        None => renew_server_epoch(connection),
    }
}

pub(super) fn renew_server_epoch(connection: &Connection) -> Result<Epoch, StoreError> {
    let epoch = Epoch(random_number()?);
    set(connection, SERVER_EPOCH, &epoch.0.to_be_bytes())?;
    Ok(epoch)
}

/// Every sequence number of a journal record before this position is in `device_states`.
pub(super) fn journal_position(connection: &Connection) -> Result<u64, StoreError> {
    Ok(number(connection, JOURNAL_POSITION)?.unwrap_or(0))
}

pub(super) fn set_journal_position(connection: &Connection, position: u64) -> Result<(), StoreError> {
    set(connection, JOURNAL_POSITION, &position.to_be_bytes())
}

pub(super) fn wall_time(connection: &Connection) -> Result<Option<WallTime>, StoreError> {
    Ok(number(connection, WALL_TIME)?.map(WallTime))
}

/// A random number that is not 0, which stands for "none yet".
pub(super) fn random_number() -> Result<u64, StoreError> {
    Ok(u64::from_be_bytes(random_bytes()?).max(1))
}

/// Random bytes, for a secret.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| StoreError::Database("the system gives no random numbers".into()))?;
    Ok(bytes)
}

fn ticket_seeds(connection: &Connection) -> Result<Vec<TicketSeed>, StoreError> {
    connection.all("SELECT name, seed, made_at FROM ticket_seeds ORDER BY number", [], |row| {
        Ok(TicketSeed { name: row.get(0)?, seed: Zeroizing::new(row.get(1)?), made_at: row.get(2)? })
    })
}

fn replace_ticket_seeds(connection: &Connection, seeds: &[TicketSeed]) -> Result<(), StoreError> {
    for known in ticket_seeds(connection)? {
        if seeds.iter().all(|seed| seed.name != known.name) {
            // A row that is deleted leaves its bytes behind in the file.
            let sql = "UPDATE ticket_seeds SET seed = zeroblob(length(seed)) WHERE name = ?1";
            connection.run(sql, [known.name])?;
            connection.run("DELETE FROM ticket_seeds WHERE name = ?1", [known.name])?;
        }
    }
    let sql =
        "INSERT INTO ticket_seeds (name, seed, made_at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING";
    for seed in seeds {
        connection.run(sql, params![seed.name, *seed.seed, seed.made_at])?;
    }
    Ok(())
}
