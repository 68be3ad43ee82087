//! The schema and its versions. `user_version` (SQLite's own header field) says which one a file has.

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// The steps from each version to the next; the first makes an empty file version 1. A step is never changed once
/// released: a new one is added.
const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
];

/// Marks the file as muster's: `application_id`, "mstr" in ASCII.
const APPLICATION_ID: i64 = 0x6d73_7472;

/// The version that this muster writes.
pub(super) fn newest_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the file to the newest version, each step in a transaction of its own.
///
/// # Errors
/// When the file is newer than this muster, belongs to another program, or SQLite fails.
pub(super) fn migrate(connection: &mut Connection, path: &str) -> Result<(), StoreError> {
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let owner: i64 = transaction.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let is_fresh = version == 0 && owner == 0 && tables == 0;
        if !is_fresh && owner != APPLICATION_ID {
            let reason = "it is an SQLite file, but not muster's: choose another data directory".to_owned();
            return Err(StoreError::Open { path: path.to_owned(), reason });
        }
        let known = newest_version();
        if version > known {
            return Err(StoreError::NewerSchema { path: path.to_owned(), found: version, known });
        }
        let Some(step) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version)) else {
            return Ok(());
        };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}
