//! Devices' declarations of their managed applications, kept once for all that declare the same.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::StoreError;
use crate::wire::digest::Digest;
use crate::wire::event::{SERVER_NAME, looks_like};
use crate::wire::settings::Declaration;

/// Keeps what is declared; its id, or `None` when nothing is. A declaration that no device makes any more
/// goes.
pub(super) fn keep(connection: &Connection, declared: &[Declaration]) -> Result<Option<i64>, StoreError> {
    if declared.is_empty() {
        return Ok(None);
    }
    // Texts, numbers and bools can always be written.
    let content = serde_json::to_string(declared).unwrap_or_default();
    let digest = Digest::of_bytes(content.as_bytes()).0.cast_signed();
    // Another content may have the same digest, made so that others get it.
    let sql = "SELECT id FROM declarations WHERE digest = ?1 AND content = ?2";
    let known =
        connection.prepare_cached(sql)?.query_row(params![digest, content], |row| row.get(0)).optional()?;
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

/// Reads what [`keep`] wrote. After an edit by hand nothing counts as declared until the device declares
/// anew.
pub(super) fn parse(content: &str) -> Vec<Declaration> {
    serde_json::from_str(content).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{connection, schema};

    #[test]
    fn what_is_declared_is_never_what_another_device_made_with_the_same_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(connection::FILE_NAME);
        let mut file = connection::open_writer(&path).unwrap();
        schema::migrate(&mut file, &path).unwrap();
        let declare = |schema: &str| Declaration {
            application: "kiosk".into(),
            takes_settings: true,
            settings_schema: schema.into(),
            kinds: Vec::new(),
        };
        let (bad, good) = ([declare("{}")], [declare("{\"type\":\"object\"}")]);
        let kept = keep(&file, &bad).unwrap().unwrap();
        // Somebody has it: only what nobody has goes.
        file.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        file.execute("INSERT INTO host_facts SELECT 1, '', '', '', '', '', '', '[]', '', '', ?1", [kept])
            .unwrap();
        let digest = Digest::of_bytes(serde_json::to_string(&good).unwrap().as_bytes()).0.cast_signed();
        assert_eq!(file.execute("UPDATE declarations SET digest = ?1", [digest]).unwrap(), 1);
        let own = keep(&file, &good).unwrap().unwrap();
        assert_ne!(own, kept);
        let sql = "SELECT content FROM declarations WHERE id = ?1";
        let content: String = file.query_row(sql, [own], |row| row.get(0)).unwrap();
        assert_eq!(parse(&content), good);
        assert_eq!(keep(&file, &good).unwrap(), Some(own), "and still once for all that declare the same");
    }
}
