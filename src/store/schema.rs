//! The schema and its versions. `user_version` (SQLite's own header field) says which one a file has.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::copy;
use super::error::StoreError;

/// The steps from each version to the next; the first makes an empty file version 1. A step is never changed
/// once released: a new one is added.
const MIGRATIONS: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")];

/// Marks the file as muster's: `application_id`, "mstr" in ASCII.
const APPLICATION_ID: i64 = 0x6d73_7472;

/// Brings the file to the newest version: all steps or none. Of one that has something in it a copy is kept
/// first, beside it ([`copy_path`]); it is the administrator's to delete.
///
/// # Errors
/// When the file is newer than this muster, belongs to another program, or a step fails; the file is as it
/// was.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    migrate_by(connection, path, MIGRATIONS)
}

/// Whether this muster can read the file, as it is or after a migration.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    version(connection, path, i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)).map(drop)
}

/// The copy of a database that is kept before it is brought from `version` to a newer one.
fn copy_path(path: &Path, version: i64) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.version-{version}"))
}

fn migrate_by(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), StoreError> {
    let refused = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let found = version(connection, path, known)?;
    if found == known {
        return Ok(());
    }
    let kept = copy_path(path, found);
    if found > 0 {
        keep_copy(connection, &kept).map_err(|error| {
            refused(format!(
                "it has version {found}, not {known}, and no copy of it can be kept before: {error}; \
                 it is as it was"
            ))
        })?;
    }
    let run = |connection: &mut Connection| -> Result<(), StoreError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in steps.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", known)?;
        Ok(transaction.commit()?)
    };
    run(connection).map_err(|error| match found {
        0 => error,
        _ => refused(format!(
            "it can't be brought from version {found} to {known}: {error}; it is as it was, the musterd that wrote it \
             can go on with it"
        )),
    })?;
    if found > 0 {
        log::info!(
            "{} was brought from version {found} to {known}; what it was before is in {}: delete that when all is well",
            path.display(),
            kept.display()
        );
    }
    Ok(())
}

/// The version that a file has; 0: there is nothing in it yet.
fn version(connection: &Connection, path: &Path, known: i64) -> Result<i64, StoreError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (version, owner) = (number("PRAGMA user_version")?, number("PRAGMA application_id")?);
    let is_fresh = version == 0 && owner == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
    let path = || path.display().to_string();
    if !is_fresh && (owner != APPLICATION_ID || version < 1) {
        let reason = "it is an SQLite file, but not muster's: choose another data directory".to_owned();
        return Err(StoreError::Open { path: path(), reason });
    }
    if version > known {
        return Err(StoreError::NewerSchema { path: path(), found: version, known });
    }
    Ok(version)
}

/// Under another name first, so that what has the name is whole.
fn keep_copy(connection: &Connection, kept: &Path) -> Result<(), StoreError> {
    let unfinished = kept.with_extension("unfinished");
    let copied = copy::copy(connection, &unfinished).and_then(|()| {
        std::fs::rename(&unfinished, kept)
            .map_err(|error| StoreError::Open { path: kept.display().to_string(), reason: error.to_string() })
    });
    if copied.is_err() {
        // The next attempt overwrites the rest of it.
        let _ = std::fs::remove_file(&unfinished);
    }
    copied.and_then(|()| copy::sync_directory_of(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::connection;

    /// Steps that a later muster might have: the last of its steps can fail.
    const NEXT: &str = "ALTER TABLE groups ADD COLUMN colour TEXT; UPDATE groups SET colour = 'red';";
    const LAST: &str =
        "INSERT INTO meta (key, value) SELECT 'x' || path, x'00' FROM groups WHERE path <> '/full';
        INSERT INTO meta (key, value) SELECT 'twice', x'00' FROM groups;";

    fn open(directory: &Path, steps: &[&str]) -> (PathBuf, Connection, Result<(), StoreError>) {
        let path = directory.join(connection::FILE_NAME);
        let mut connection = connection::open_writer(&path).unwrap();
        let migrated = migrate_by(&mut connection, &path, steps);
        (path, connection, migrated)
    }

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_copy_is_kept_before_a_migration() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (path, old, _) = open(directory.path(), &MIGRATIONS[..1]);
        assert!(!copy_path(&path, 0).exists(), "there was nothing to keep");
        drop(old);
        let steps = [MIGRATIONS[0], NEXT, LAST];
        let (_, new, migrated) = open(directory.path(), &steps);
        migrated.unwrap();
        assert_eq!(number(&new, "PRAGMA user_version"), 3);
        assert_eq!(number(&new, "SELECT count(*) FROM groups WHERE colour = 'red'"), 1);
        let kept = copy_path(&path, 1);
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        let before = Connection::open(&kept).unwrap();
        assert_eq!(number(&before, "PRAGMA user_version"), 1);
        assert_eq!(number(&before, "SELECT count(*) FROM groups"), 1);
        assert!(before.prepare("SELECT colour FROM groups").is_err());
        // An older muster says so and changes nothing.
        let (_, _, refused) = open(directory.path(), &steps[..2]);
        assert!(matches!(refused, Err(StoreError::NewerSchema { found: 3, known: 2, .. })), "{refused:?}");
    }

    #[test]
    fn policies_of_before_have_a_first_version() {
        let directory = tempfile::tempdir().unwrap();
        let (_, old, _) = open(directory.path(), &MIGRATIONS[..1]);
        let sql = "INSERT INTO policies VALUES (1, 'kiosk', '{}', '[]', 'report', 7, 1000)";
        old.execute_batch(sql).unwrap();
        drop(old);
        let (_, new, migrated) = open(directory.path(), MIGRATIONS);
        migrated.unwrap();
        let sql = "SELECT count(*) FROM policy_versions WHERE group_id = 1 AND application = 'kiosk' AND settings = '{}'
            AND locks = '[]' AND drift = 'report' AND revision = 7 AND changed_at = 1000 AND changed_by = ''";
        assert_eq!(number(&new, sql), 1);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_old_database_usable() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old, _) = open(directory.path(), &MIGRATIONS[..1]);
        old.execute_batch("INSERT INTO groups (path) VALUES ('/full')").unwrap();
        drop(old);
        let (_, connection, failed) = open(directory.path(), &[MIGRATIONS[0], NEXT, LAST]);
        let said = failed.unwrap_err().to_string();
        assert!(
            said.contains("can't be brought from version 1 to 3") && said.contains("as it was"),
            "{said}"
        );
        assert_eq!(number(&connection, "PRAGMA user_version"), 1, "not even the step that succeeded");
        drop(connection);
        let (_, old, opened) = open(directory.path(), &MIGRATIONS[..1]);
        opened.unwrap();
        assert_eq!(number(&old, "SELECT count(*) FROM groups"), 2);
        drop(old);
        // No room for the copy: nothing is tried.
        let kept = copy_path(&path, 1);
        std::fs::remove_file(&kept).unwrap();
        std::fs::create_dir(&kept).unwrap();
        let (_, connection, failed) = open(directory.path(), &[MIGRATIONS[0], NEXT]);
        assert!(failed.unwrap_err().to_string().contains("no copy of it can be kept before"));
        assert_eq!(number(&connection, "PRAGMA user_version"), 1);
    }
}
