//! Inventories.

use rusqlite::Connection;

use super::error::StoreError;

/// Removes what is not used any more.
pub(super) struct Collector;

impl Collector {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn has_more(&self) -> bool {
        false
    }

    pub(super) fn step(&mut self, _: &mut Connection) -> bool {
        false
    }
}

/// Removes a device's inventory.
pub(super) fn forget(connection: &Connection, number: i64) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM device_inventories WHERE device = ?1")?.execute([number])?;
    Ok(())
}
