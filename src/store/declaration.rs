//! What devices declare of their managed applications, kept once for all that declare the same.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::StoreError;
use crate::wire::digest::Digest;
use crate::wire::event::{SERVER_NAME, looks_like};
use crate::wire::settings::Declaration;

/// Keeps what is declared; its id, or `None` when nothing is. What no device declares any more goes.
pub(super) fn keep(connection: &Connection, declared: &[Declaration]) -> Result<Option<i64>, StoreError> {
    if declared.is_empty() {
        return Ok(None);
    }
    // Texts, numbers and bools can always be written.
    let content = serde_json::to_string(declared).unwrap_or_default();
    let digest = Digest::of_bytes(content.as_bytes()).0.cast_signed();
    let sql = "SELECT id FROM declarations WHERE digest = ?1";
    let known = connection.prepare_cached(sql)?.query_row([digest], |row| row.get(0)).optional()?;
    if known.is_some() {
        return Ok(known);
    }
    // The rare moment to clear away: a new one comes when something was installed or changed.
    let sql = "DELETE FROM declarations WHERE id NOT IN
        (SELECT declarations FROM host_facts WHERE declarations IS NOT NULL)";
    connection.prepare_cached(sql)?.execute([])?;
    connection
        .prepare_cached("INSERT INTO declarations (digest, content) VALUES (?1, ?2)")?
        .execute(params![digest, content])?;
    Ok(Some(connection.last_insert_rowid()))
}

/// Whether settings are kept for what is declared: those of the server's own application go to no device,
/// also not to one that claims to be it.
pub(super) fn may_take_settings(declaration: &Declaration) -> bool {
    declaration.takes_settings && !looks_like(&declaration.application, SERVER_NAME)
}

/// Reads what [`keep`] wrote. Whoever edited it by hand sees nothing declared until the device declares anew.
pub(super) fn parse(content: &str) -> Vec<Declaration> {
    serde_json::from_str(content).unwrap_or_default()
}
