//! Devices that two machines may use: what the next server has to know of them.

use rusqlite::{Connection, params};

use super::Devices;
use crate::machine::clones::StoredWatch;
use crate::store::error::StoreError;
use crate::store::sql::Sql as _;
use crate::store::writer::Origin;
use crate::wire::id::DeviceId;

/// Bytes that a row takes beside its history; a rough figure.
const ROW_BYTES: usize = 64;

impl Devices {
    /// All that is stored of them, the latest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn clone_watch(&self) -> Result<Vec<(DeviceId, StoredWatch)>, StoreError> {
        let sql = "SELECT d.id, w.remembered_until, w.forks_until, w.history
            FROM clone_watch w JOIN devices d ON d.number = w.device ORDER BY w.remembered_until DESC";
        self.database.reader()?.all(sql, [], |row| {
            let (remembered_until, forks_until, history) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, StoredWatch { remembered_until, forks_until, history }))
        })
    }

    /// Stores this of each device in place of what was; `None`: nothing. `done` is called when it is durable.
    pub fn set_clone_watch(
        &self,
        rows: Vec<(DeviceId, Option<StoredWatch>)>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let bytes = |row: &Option<StoredWatch>| row.as_ref().map_or(0, |stored| stored.history.len());
        let bytes = rows.iter().map(|(_, row)| ROW_BYTES + bytes(row)).sum();
        self.database.writer.submit(
            Origin::Server,
            bytes,
            move |connection| {
                rows.iter().try_for_each(|(device, row)| set(connection, *device, row.as_ref()))
            },
            done,
        );
    }
}

/// Passes over devices that are gone.
fn set(connection: &Connection, device: DeviceId, row: Option<&StoredWatch>) -> Result<(), StoreError> {
    let Some(StoredWatch { remembered_until, forks_until, history }) = row else {
        let sql = "DELETE FROM clone_watch WHERE device = (SELECT number FROM devices WHERE id = ?1)";
        return connection.run(sql, [device]).map(drop);
    };
    let sql = "INSERT OR REPLACE INTO clone_watch (device, remembered_until, forks_until, history)
        SELECT number, ?2, ?3, ?4 FROM devices WHERE id = ?1 AND removed_at IS NULL";
    connection.run(sql, params![device, remembered_until, forks_until, history]).map(drop)
}

/// Another machine is the device from now on, or none is any more.
pub(super) fn forget_device(connection: &Connection, number: i64) -> Result<(), StoreError> {
    connection.run("DELETE FROM clone_watch WHERE device = ?1", [number]).map(drop)
}
