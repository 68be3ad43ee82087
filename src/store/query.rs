//! Reads of administration: pages of lists, one device whole, counts. Nothing here loads a whole list.
//! Devices are selected and listed by [`Selection`](super::Selection).

use rusqlite::Connection;

use super::error::StoreError;
use super::sql::{Columns as _, Sql as _};

pub use super::devices::list::{
    DeviceDetail, DeviceKey, DeviceRow, device, device_id, group, group_of, groups, name_if_enrolled,
    name_of, token, tokens,
};
pub use super::inventory::applications::{ApplicationFilter, applications, installations};
pub use super::page::{PAGE_ITEMS_MAX, Page, PageRequest};
pub use super::tasks::list::{RunFilter, TaskFilter, open_runs, run, runs, task, tasks};

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
    connection.one(sql, [], |row| {
        Ok(FleetCounts {
            devices: row.number(0)?,
            groups: row.number(1)?,
            tokens: row.number(2)?,
            applications: row.number(3)?,
            inventory_bases: row.number(4)?,
            file_bytes: row.number(5)?,
        })
    })
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
    connection.one(sql, [], |row| {
        let (warning, critical) = (row.number(1)?, row.number(2)?);
        Ok(StatusCounts { ok: row.number(0)?.saturating_sub(warning + critical), warning, critical })
    })
}
