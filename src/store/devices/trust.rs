//! Trust of devices: which set of the server's certificates each named last, and how many have the current
//! one.

use rusqlite::{Connection, params_from_iter};

use super::Devices;
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::writer::Origin;
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// Number of devices by what they trust.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TrustCounts {
    /// All of them.
    pub devices: u64,
    /// Those that have what they are to trust now.
    pub ready: u64,
    /// Of the others those that know the recovery key.
    pub recoverable: u64,
}

impl Devices {
    /// From now on devices are to trust what has this label, and to know a next pin since `prepared_at`.
    ///
    /// # Errors
    /// When the file cannot be read: then each device says anew what it has.
    pub fn begin_trust(&self, label: u64, prepared_at: Option<WallTime>) -> Result<(), StoreError> {
        let table = self.table();
        table.set_trust(label, prepared_at);
        let sql = "SELECT d.id FROM device_states s JOIN devices d ON d.number = s.device
            WHERE s.trust_label = ?1 AND d.removed_at IS NULL";
        for device in self.database.reader()?.all(sql, [label.cast_signed()], |row| row.get(0))? {
            table.note_trust(device, label);
        }
        Ok(())
    }

    /// Stores that the device trusts what has this label. `done` is called when it is durable.
    pub fn note_trust(
        &self,
        device: DeviceId,
        label: u64,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let table = self.table().clone();
        let sql = "UPDATE device_states SET trust_label = ?2
            WHERE device = (SELECT number FROM devices WHERE id = ?1)";
        self.database.writer.submit(
            Origin::Device,
            0,
            move |connection| connection.run(sql, (device, label.cast_signed())).map(drop),
            move |result| {
                if result.is_ok() && table.note_trust(device, label) {
                    table.mark(device);
                }
                done(result);
            },
        );
    }

    /// Counts the devices that trust what has this label; those that named one of `recovery` know the
    /// recovery key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn trust_counts(&self, label: u64, recovery: &[u64]) -> Result<TrustCounts, StoreError> {
        let sql = format!(
            "SELECT count(*), coalesce(sum(s.trust_label = ?1), 0),
                coalesce(sum(s.trust_label <> ?1 AND s.trust_label IN ({})), 0)
             FROM devices d JOIN device_states s ON s.device = d.number WHERE d.removed_at IS NULL",
            places(recovery)
        );
        self.database.reader()?.one(&sql, params_from_iter(numbers(label, recovery)), |row| {
            Ok(TrustCounts { devices: row.number(0)?, ready: row.number(1)?, recoverable: row.number(2)? })
        })
    }

    /// Names of the first devices that neither trust what has this label nor know the recovery key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn without_trust(
        &self,
        label: u64,
        recovery: &[u64],
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        let sql = format!(
            "SELECT d.name FROM devices d JOIN device_states s ON s.device = d.number
             WHERE d.removed_at IS NULL AND s.trust_label <> ?1 AND s.trust_label NOT IN ({})
             ORDER BY d.name LIMIT {most}",
            places(recovery)
        );
        let reader = self.database.reader()?;
        let connection: &Connection = &reader;
        connection.all(&sql, params_from_iter(numbers(label, recovery)), |row| row.get(0))
    }
}

fn places(recovery: &[u64]) -> String {
    let places: Vec<String> = (2..recovery.len() + 2).map(|at| format!("?{at}")).collect();
    places.join(", ")
}

fn numbers(label: u64, recovery: &[u64]) -> impl Iterator<Item = i64> {
    std::iter::once(label).chain(recovery.iter().copied()).map(u64::cast_signed)
}
