//! State that lives in memory, written back in batches: when devices were last seen, how they are reached,
//! and the last sequence number of each. And the way back, at start.

use std::net::{IpAddr, Ipv6Addr};

use rusqlite::{Connection, Row, params};

use super::error::StoreError;
use super::table::DeviceTable;
use super::values::{time_from_sql, time_to_sql};
use super::{group, meta};
use crate::machine::device_state::DeviceState;
use crate::machine::reach::UdpReach;
use crate::wire::datagram::NoticeKind;
use crate::wire::digest::Digest;
use crate::wire::id::{CertificateHash, DeviceId, Epoch};
use crate::wire::presence::Presence;
use crate::wire::section::{Section, SectionState};
use crate::wire::time::WallTime;

/// Writes these records' times, sequence numbers and ways back. Devices that are gone are passed over.
pub(super) fn record(
    connection: &Connection,
    records: &[DeviceState],
    position: Option<u64>,
) -> Result<(), StoreError> {
    let sql =
        "UPDATE device_states SET spool_epoch = ?2, last_sequence = ?3, last_crc = ?4, last_seen_at = ?5,
        last_sync_at = ?6, due_seconds = ?7, boot = ?8, notice_counter = ?9, wake_counter = ?10, address = ?11,
        udp_port = ?12, udp_reach = ?13, departure = ?14, presence = ?15, status = ?16,
        last_position = ?17
        WHERE device = (SELECT number FROM devices WHERE id = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    for record in records {
        statement.execute(params![
            record.device.0.cast_signed(),
            record.spool_epoch.0.cast_signed(),
            record.last_sequence.cast_signed(),
            record.last_crc,
            time_to_sql(record.last_seen),
            time_to_sql(record.last_sync),
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
    let mut given = std::collections::HashMap::new();
    let mut groups = connection.prepare("SELECT id FROM groups")?;
    for id in groups.query_map([], |row| row.get::<_, i64>(0))? {
        let id = id?;
        given.insert(id, group::inherited(connection, id)?);
    }
    let sql = "SELECT d.id, c.hash, d.removed_at IS NOT NULL, d.interval_seconds, d.group_id, d.keep_connected,
            s.agent_epoch, s.inventory_digest, s.inventory_revision, s.host_digest, s.host_revision,
            s.conditions_digest, s.conditions_revision, s.spool_epoch, s.last_sequence, s.last_crc,
            s.last_seen_at, s.last_sync_at, s.due_seconds, s.boot, s.notice_counter, s.wake_counter, s.address,
            s.udp_port, s.udp_reach, s.departure, s.presence, s.orders_digest, s.status, s.last_position
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
        let inherited = given.get(&row.get::<_, i64>(4)?).copied().unwrap_or_default();
        let interval = row.get::<_, Option<u32>>(3)?.or(inherited.interval_seconds);
        let mut record = DeviceState::new(device, interval.unwrap_or(default_interval_seconds));
        let keep_connected = row.get::<_, Option<bool>>(5)?.or(inherited.keep_connected);
        record.keep_connected = keep_connected.unwrap_or(false);
        record.agent_epoch = Epoch(number(row, 6)?);
        for section in Section::ALL {
            let at = 7 + 2 * section.index();
            let state = SectionState { digest: Digest(number(row, at)?), revision: number(row, at + 1)? };
            record.set_section(section, state);
        }
        record.spool_epoch = Epoch(number(row, 13)?);
        record.last_sequence = number(row, 14)?;
        record.last_crc = row.get(15)?;
        record.last_seen = time_from_sql(row.get(16)?);
        record.last_sync = time_from_sql(row.get(17)?);
        record.set_last_position(number(row, 29)?);
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
    record.boot = row.get(19)?;
    record.notice_counter = row.get(20)?;
    record.wake_counter = row.get(21)?;
    record.address = address_from_sql(row.get::<_, Option<String>>(22)?.as_deref());
    record.udp_port = row.get(23)?;
    record.udp_reach = UdpReach::from_number(row.get(24)?);
    record.departure = row.get::<_, Option<u8>>(25)?.and_then(NoticeKind::from_number);
    // A name that a newer muster gave says at least that it was here.
    record.announced = row.get::<_, String>(26)?.parse().unwrap_or(Presence::Idle);
    record.desired_digest = Digest(number(row, 27)?);
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

fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(at)?.cast_unsigned())
}
