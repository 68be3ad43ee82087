//! What lives in memory, written back in batches: when devices were last seen, and the last sequence number of each. And the way back,
//! at start.

use rusqlite::{Connection, Row, params};

use super::error::StoreError;
use super::table::DeviceTable;
use super::values::{time_from_sql, time_to_sql};
use super::{group, meta};
use crate::machine::hot::HotRecord;
use crate::wire::digest::Digest;
use crate::wire::id::{CertificateHash, DeviceId, Epoch};
use crate::wire::section::SectionState;

/// Writes these records' times and sequence numbers back. Devices that are gone are passed over.
pub(super) fn record(
    connection: &Connection,
    records: &[HotRecord],
    position: Option<u64>,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE device_states SET spool_epoch = ?2, last_sequence = ?3, last_crc = ?4, last_seen_at = ?5,
        last_sync_at = ?6 WHERE device = (SELECT number FROM devices WHERE id = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    for record in records {
        statement.execute(params![
            record.device.0.cast_signed(),
            record.spool_epoch.0.cast_signed(),
            record.last_sequence.cast_signed(),
            record.last_crc,
            time_to_sql(record.last_seen),
            time_to_sql(record.last_sync),
        ])?;
    }
    if let Some(position) = position {
        meta::set_journal_position(connection, position)?;
    }
    Ok(())
}

/// Fills the table from the file.
pub(super) fn load(
    connection: &Connection,
    table: &DeviceTable,
    default_interval_seconds: u32,
) -> Result<(), StoreError> {
    let mut intervals = std::collections::HashMap::new();
    let mut groups = connection.prepare("SELECT id FROM groups")?;
    for id in groups.query_map([], |row| row.get::<_, i64>(0))? {
        let id = id?;
        intervals.insert(id, group::interval_of(connection, id)?.unwrap_or(default_interval_seconds));
    }
    let sql = "SELECT d.id, c.hash, d.removed_at IS NOT NULL, d.interval_seconds, d.group_id, d.keep_connected,
            s.agent_epoch, s.inventory_digest, s.inventory_revision, s.host_digest, s.host_revision,
            s.conditions_digest, s.conditions_revision, s.spool_epoch, s.last_sequence, s.last_crc,
            s.last_seen_at, s.last_sync_at
        FROM certificates c JOIN devices d ON d.number = c.device LEFT JOIN device_states s ON s.device = d.number";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let device = DeviceId(number(row, 0)?);
        let certificate = CertificateHash(row.get(1)?);
        if row.get(2)? {
            table.note_certificate(device, &certificate);
            continue;
        }
        let own: Option<u32> = row.get(3)?;
        let inherited = intervals.get(&row.get::<_, i64>(4)?).copied().unwrap_or(default_interval_seconds);
        let mut record = HotRecord::new(device, own.unwrap_or(inherited));
        record.keep_connected = row.get(5)?;
        record.agent_epoch = Epoch(number(row, 6)?);
        for (index, section) in record.sections.iter_mut().enumerate() {
            let at = 7 + 2 * index;
            *section = SectionState { digest: Digest(number(row, at)?), revision: number(row, at + 1)? };
        }
        record.spool_epoch = Epoch(number(row, 13)?);
        record.last_sequence = number(row, 14)?;
        record.last_crc = row.get(15)?;
        record.last_seen = time_from_sql(row.get(16)?);
        record.last_sync = time_from_sql(row.get(17)?);
        table.insert(record, &certificate);
    }
    Ok(())
}

fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(at)?.cast_unsigned())
}
