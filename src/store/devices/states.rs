//! State that lives in memory, written back in batches: when devices were last seen, how they are reached,
//! and the last sequence number of each. And the way back, at start.

use std::net::{IpAddr, Ipv6Addr};

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::table::DeviceTable;
use super::{Devices, group, id_of};
use crate::machine::command::SectionUpdate;
use crate::machine::device_state::DeviceState;
use crate::machine::reach::UdpReach;
use crate::store::error::StoreError;
use crate::store::meta;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::writer::Origin;
use crate::wire::datagram::NoticeKind;
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::presence::Presence;
use crate::wire::section::{Section, SectionState};
use crate::wire::time::WallTime;

impl Devices {
    /// The journal position before which every event's sequence number is in the table as it was loaded: at
    /// start, the journal is replayed from there, by the same rule as for events that arrive.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn journal_position(&self) -> Result<u64, StoreError> {
        meta::journal_position(&*self.database.reader()?)
    }

    /// Writes records' times and sequence numbers back. The order of a round: read the journal's durable
    /// position P; collect [`DeviceTable::unrecorded_in`] of every shard; wait until the journal is durable
    /// up to the highest `last_position` among them (else a sequence number could outlive its event); hand
    /// them in, shard by shard, the last call with `Some(P)`. Records that could not be written have news
    /// again.
    pub fn record_sequences(
        &self,
        records: Vec<DeviceState>,
        position: Option<u64>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let bytes = records.len() * size_of::<DeviceState>();
        let devices: Vec<DeviceId> = records.iter().map(|record| record.device).collect();
        let table = Arc::clone(self.table());
        self.database.writer.submit(
            Origin::Server,
            bytes,
            move |connection| record(connection, &records, position),
            move |result| {
                if result.is_err() {
                    // Their news counted as told when it was collected.
                    for device in devices {
                        table.with(device, |record| record.has_news = true);
                    }
                }
                done(result);
            },
        );
    }
}

/// Writes these records' times, sequence numbers and ways back. Devices that are gone are passed over.
fn record(connection: &Connection, records: &[DeviceState], position: Option<u64>) -> Result<(), StoreError> {
    let sql =
        "UPDATE device_states SET spool_epoch = ?2, last_sequence = ?3, last_crc = ?4, last_seen_at = ?5,
        last_sync_at = ?6, due_seconds = ?7, boot = ?8, notice_counter = ?9, wake_counter = ?10, address = ?11,
        udp_port = ?12, udp_reach = ?13, departure = ?14, presence = ?15, status = ?16,
        last_position = ?17, machine = ?18
        WHERE device = (SELECT number FROM devices WHERE id = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    for record in records {
        statement.execute(params![
            record.device,
            record.spool_epoch,
            record.last_sequence.cast_signed(),
            record.last_crc,
            record.last_seen,
            record.last_sync,
            record.due_seconds(),
            record.boot,
            record.notice_counter,
            record.wake_counter,
            address_to_sql(record.address),
            record.udp_port,
            record.udp_reach.number(),
            record.departure.map(NoticeKind::number),
            record.announced.name(),
            record.status.name(),
            record.last_position().cast_signed(),
            record.machine,
        ])?;
    }
    if let Some(position) = position {
        meta::set_journal_position(connection, position)?;
    }
    Ok(())
}

/// Writes a section's new state.
pub(in crate::store) fn set_section(
    connection: &Connection,
    number: i64,
    update: &SectionUpdate,
) -> Result<(), StoreError> {
    // Revisions of another history mean nothing any more; 1 says that there is content.
    let sql = "UPDATE device_states SET agent_epoch = ?2, inventory_revision = inventory_revision <> 0,
        host_revision = host_revision <> 0, conditions_revision = conditions_revision <> 0
        WHERE device = ?1 AND agent_epoch <> ?2";
    connection.run(sql, (number, update.agent_epoch))?;
    let sql = match update.section {
        Section::Inventory => {
            "UPDATE device_states SET inventory_digest = ?2, inventory_revision = ?3 WHERE device = ?1"
        }
        Section::Host => "UPDATE device_states SET host_digest = ?2, host_revision = ?3 WHERE device = ?1",
        Section::Conditions => {
            "UPDATE device_states SET conditions_digest = ?2, conditions_revision = ?3 WHERE device = ?1"
        }
    };
    connection.run(sql, (number, update.digest, update.revision.cast_signed())).map(drop)
}

/// Writes the digest of all that a device is to have; the device when that is another.
pub(in crate::store) fn set_desired_digest(
    connection: &Connection,
    number: i64,
    digest: Digest,
) -> Result<Option<DeviceId>, StoreError> {
    let sql = "UPDATE device_states SET orders_digest = ?2 WHERE device = ?1 AND orders_digest <> ?2";
    if connection.run(sql, (number, digest))? == 0 { Ok(None) } else { id_of(connection, number).map(Some) }
}

/// Fills the table from the file.
pub(super) fn load(
    connection: &Connection,
    table: &DeviceTable,
    default_interval_seconds: u32,
) -> Result<(), StoreError> {
    let mut given = std::collections::HashMap::new();
    for id in connection.all("SELECT id FROM groups", [], |row| row.get::<_, i64>(0))? {
        given.insert(id, group::inherited(connection, id)?);
    }
    let sql = "SELECT d.id, c.hash, d.removed_at IS NOT NULL, d.interval_seconds, d.group_id, d.keep_connected,
            s.agent_epoch, s.inventory_digest, s.inventory_revision, s.host_digest, s.host_revision,
            s.conditions_digest, s.conditions_revision, s.spool_epoch, s.last_sequence, s.last_crc,
            s.last_seen_at, s.last_sync_at, s.due_seconds, s.boot, s.notice_counter, s.wake_counter, s.address,
            s.udp_port, s.udp_reach, s.departure, s.presence, s.orders_digest, s.status, s.last_position,
            d.waiting_since IS NOT NULL, d.certificate_floor, s.machine
        FROM certificates c JOIN devices d ON d.number = c.device LEFT JOIN device_states s ON s.device = d.number";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (device, certificate) = (row.get(0)?, row.get(1)?);
        if row.get(2)? {
            table.note_certificate(device, &certificate);
            continue;
        }
        let inherited = given.get(&row.get::<_, i64>(4)?).copied().unwrap_or_default();
        let interval = row.get::<_, Option<u32>>(3)?.or(inherited.interval_seconds);
        let mut record = DeviceState::new(device, interval.unwrap_or(default_interval_seconds));
        let keep_connected = row.get::<_, Option<bool>>(5)?.or(inherited.keep_connected);
        record.set_waiting(row.get(30)?);
        record.keep_connected = keep_connected.unwrap_or(false) && !record.is_waiting();
        table.note_floor(device, row.get(31)?);
        record.agent_epoch = row.get(6)?;
        for section in Section::ALL {
            let at = 7 + 2 * section.index();
            let state = SectionState { digest: row.get(at)?, revision: row.number(at + 1)? };
            record.set_section(section, state);
        }
        record.spool_epoch = row.get(13)?;
        record.last_sequence = row.number(14)?;
        record.last_crc = row.get(15)?;
        record.last_seen = row.get(16)?;
        record.last_sync = row.get(17)?;
        record.set_last_position(row.number(29)?);
        load_reach(row, &mut record)?;
        record.skip_wake_counters();
        table.insert(record, &certificate);
    }
    Ok(())
}

/// Reach of the device, and its announced presence.
fn load_reach(row: &Row<'_>, record: &mut DeviceState) -> rusqlite::Result<()> {
    record.set_due_seconds(row.get(18)?);
    if record.due_seconds() == 0 && record.last_sync != WallTime(0) {
        // Version 1 of the file did not keep it. No slot is farther away than this.
        record.set_due_seconds(record.interval_seconds().saturating_add(record.interval_seconds() / 2));
    }
    (record.boot, record.machine) = (row.get(19)?, row.get(32)?);
    record.notice_counter = row.get(20)?;
    record.wake_counter = row.get(21)?;
    record.address = address_from_sql(row.get::<_, Option<String>>(22)?.as_deref());
    record.udp_port = row.get(23)?;
    record.udp_reach = UdpReach::from_number(row.get(24)?);
    record.departure = row.get::<_, Option<u8>>(25)?.and_then(NoticeKind::from_number);
    // A name that a newer muster gave says at least that it was here.
    record.announced = row.get::<_, String>(26)?.parse().unwrap_or(Presence::Idle);
    record.desired_digest = row.get(27)?;
    record.status = row.get::<_, String>(28)?.parse().unwrap_or_default();
    Ok(())
}

/// As people read it: an IPv4 address as one. None: not known.
fn address_to_sql(address: Ipv6Addr) -> Option<String> {
    (!address.is_unspecified()).then(|| IpAddr::V6(address).to_canonical().to_string())
}

fn address_from_sql(text: Option<&str>) -> Ipv6Addr {
    match text.map(str::parse) {
        Some(Ok(IpAddr::V4(address))) => address.to_ipv6_mapped(),
        Some(Ok(IpAddr::V6(address))) => address,
        Some(Err(_)) | None => Ipv6Addr::UNSPECIFIED,
    }
}
