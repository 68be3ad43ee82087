//! The server's memory of itself, by key.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::StoreError;
use crate::wire::id::Epoch;
use crate::wire::time::WallTime;

const SERVER_EPOCH: &str = "server_epoch";
/// Written to see whether anything can be.
pub(super) const PROBE: &str = "probe";
const JOURNAL_POSITION: &str = "journal_position";
const WALL_TIME: &str = "wall_time";

pub(super) fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

pub(super) fn set(connection: &Connection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![key, value])?;
    Ok(())
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

/// The last wall time that was known for certain.
pub(super) fn wall_time(connection: &Connection) -> Result<Option<WallTime>, StoreError> {
    Ok(number(connection, WALL_TIME)?.map(WallTime))
}

pub(super) fn set_wall_time(connection: &Connection, wall: WallTime) -> Result<(), StoreError> {
    set(connection, WALL_TIME, &wall.0.to_be_bytes())
}

/// A random number that is not 0, which stands for "none yet".
pub(super) fn random_number() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| StoreError::Database("the system gives no random numbers".into()))?;
    Ok(u64::from_be_bytes(bytes).max(1))
}
