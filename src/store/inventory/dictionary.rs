//! The dictionary: each application that some device has, once.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::ids::ApplicationId;
use crate::store::error::StoreError;
use crate::wire::digest::Digest;
use crate::wire::inventory::Application;

/// The entries with this digest: one, or more when somebody took the trouble to make others.
pub(super) fn by_digest(connection: &Connection, digest: Digest) -> Result<Vec<ApplicationId>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM applications WHERE digest = ?1")?;
    let ids = statement.query_map([digest.0.cast_signed()], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The entry of an application. The digest leads to it; that it is the one is seen by all that it says.
pub(super) fn find(
    connection: &Connection,
    application: &Application,
    digest: Digest,
) -> Result<Option<ApplicationId>, StoreError> {
    let sql =
        "SELECT id FROM applications WHERE digest = ?1 AND name = ?2 AND version = ?3 AND publisher = ?4";
    let key = params![digest.0.cast_signed(), application.name, application.version, application.publisher];
    Ok(connection.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
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
    Ok(connection.prepare_cached(sql)?.query_row(
        params![digest.0.cast_signed(), application.name, application.version, application.publisher],
        |row| row.get(0),
    )?)
}

/// Whether the entry is still there.
pub(super) fn exists(connection: &Connection, id: ApplicationId) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached("SELECT 1 FROM applications WHERE id = ?1")?.exists([id])?)
}

/// Removes the entry if no set has it.
pub(super) fn collect(connection: &Connection, id: ApplicationId) -> Result<bool, StoreError> {
    let sql = "DELETE FROM applications WHERE id = ?1
        AND NOT EXISTS (SELECT 1 FROM base_applications WHERE application = ?1)
        AND NOT EXISTS (SELECT 1 FROM inventory_differences WHERE application = ?1)";
    Ok(connection.prepare_cached(sql)?.execute([id])? == 1)
}
