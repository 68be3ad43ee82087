//! Counts of the fleet, groups, tokens.

use rusqlite::{Connection, Row, params};

use super::{Page, PageRequest, cursor};
use crate::store::error::StoreError;
use crate::store::group::Group;
use crate::store::token::{self, Token};
use crate::wire::id::TokenId;

/// Counts of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetCounts {
    /// Devices, without removed ones.
    pub devices: u64,
    /// Groups.
    pub groups: u64,
    /// Join tokens that are stored, whether they let anyone in or not.
    pub tokens: u64,
    /// Entries of the dictionary of applications.
    pub applications: u64,
    /// Sets that inventories share.
    pub inventory_bases: u64,
    /// Length of the file, without its write-ahead log.
    pub file_bytes: u64,
}

/// Counts the fleet. Costs a walk over the index of device names.
///
/// # Errors
/// When the file cannot be read.
pub fn counts(connection: &Connection) -> Result<FleetCounts, StoreError> {
    let sql = "SELECT (SELECT count(*) FROM devices WHERE removed_at IS NULL), (SELECT count(*) FROM groups),
        (SELECT count(*) FROM tokens), (SELECT count(*) FROM applications), (SELECT count(*) FROM inventory_bases),
        (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)";
    let count = |value: i64| value.cast_unsigned();
    Ok(connection.prepare_cached(sql)?.query_row([], |row| {
        Ok(FleetCounts {
            devices: count(row.get(0)?),
            groups: count(row.get(1)?),
            tokens: count(row.get(2)?),
            applications: count(row.get(3)?),
            inventory_bases: count(row.get(4)?),
            file_bytes: count(row.get(5)?),
        })
    })?)
}

/// Numbers of devices by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusCounts {
    /// Nothing is known against them.
    pub ok: u64,
    /// Somebody should look at them.
    pub warning: u64,
    /// Somebody must look at them.
    pub critical: u64,
}

/// Counts devices by their status, as it was judged last.
///
/// # Errors
/// When the file cannot be read.
pub fn status_counts(connection: &Connection) -> Result<StatusCounts, StoreError> {
    let sql = "SELECT (SELECT count(*) FROM devices WHERE removed_at IS NULL),
        (SELECT count(*) FROM status_reasons WHERE status = 'warning'),
        (SELECT count(*) FROM status_reasons WHERE status = 'critical')";
    let count = |row: &Row<'_>, at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
    Ok(connection.prepare_cached(sql)?.query_row([], |row| {
        let (warning, critical) = (count(row, 1)?, count(row, 2)?);
        Ok(StatusCounts { ok: count(row, 0)?.saturating_sub(warning + critical), warning, critical })
    })?)
}

/// The groups, by path.
///
/// # Errors
/// When the cursor is none, or the file cannot be read.
pub fn groups(connection: &Connection, page: &PageRequest) -> Result<Page<Group>, StoreError> {
    let after = page.cursor.as_deref().map(|text| cursor::read::<1>('g', text)).transpose()?;
    let after = after.map_or(String::new(), |[path]| path);
    let sql = "SELECT g.path, g.interval_seconds, g.keep_connected,
            (SELECT count(*) FROM devices d WHERE d.group_id = g.id AND d.removed_at IS NULL)
        FROM groups g WHERE g.path > ?1 ORDER BY g.path LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(page.items() + 1).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, limit], |row| {
        Ok(Group {
            path: row.get(0)?,
            interval_seconds: row.get(1)?,
            keep_connected: row.get(2)?,
            devices: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    })?;
    let items = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(items, |group| cursor::write('g', &[&group.path])))
}

/// The join tokens, by id.
///
/// # Errors
/// When the cursor is none, or the file cannot be read.
pub fn tokens(connection: &Connection, page: &PageRequest) -> Result<Page<Token>, StoreError> {
    let after = match page.cursor.as_deref() {
        None => None,
        Some(text) => {
            let [id] = cursor::read::<1>('t', text)?;
            let id: TokenId = id.parse().map_err(|_| StoreError::BadCursor(text.to_owned()))?;
            Some(id.0.cast_signed())
        }
    };
    let sql = format!(
        "SELECT {} FROM tokens t JOIN groups g ON g.id = t.group_id
         WHERE ?1 IS NULL OR t.id > ?1 ORDER BY t.id LIMIT ?2",
        token::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(page.items() + 1).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![after, limit], token::from_row)?;
    let items = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(page.page(items, |token| cursor::write('t', &[&token.id.to_string()])))
}
