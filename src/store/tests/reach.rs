//! How a device is reached, across restarts and from the first version of the file.

use std::net::Ipv6Addr;

use rusqlite::Connection;

use crate::machine::hot::HotRecord;
use crate::machine::reach::UdpReach;
use crate::store::query::{self, DeviceKey};
use crate::store::table::SHARDS;
use crate::store::testing::{Fleet, wait};
use crate::store::{FILE_NAME, Store};
use crate::wire::datagram::NoticeKind;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::presence::Presence;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

fn news(store: &Store) -> Vec<HotRecord> {
    (0..SHARDS).flat_map(|shard| store.table().unrecorded_in(shard, 0, WallTime(u64::MAX))).collect()
}

#[test]
fn how_a_device_is_reached_survives_a_restart() {
    let mut fleet = Fleet::new(3);
    let addresses: [Ipv6Addr; 3] =
        ["::ffff:192.0.2.7", "2001:db8::7", "::"].map(|address| address.parse().unwrap());
    let mut expected = Vec::new();
    for (number, (device, address)) in (0u8..).zip(fleet.devices.iter().zip(addresses)) {
        fleet.store.table().with(*device, |record| {
            record.last_sync = WallTime(5_000);
            record.due_seconds = 1_234 + u32::from(number);
            record.boot = 0xffff_fff0 + u32::from(number);
            record.notice_counter = u32::MAX;
            record.wake_counter = 1_795_514_400;
            record.address = address;
            record.udp_port = 65_000 + u16::from(number);
            record.udp_reach = UdpReach::from_number(1 + number);
            record.departure = NoticeKind::from_number(number);
            record.announced = Presence::ALL[usize::from(number)];
            record.status = Status::ALL[usize::from(number)];
            expected.push(*record);
            record.has_news = true;
        });
    }
    let records = news(&fleet.store);
    assert_eq!((records.len(), news(&fleet.store).len()), (3, 0), "news is told once");
    wait(|done| fleet.store.record_sequences(records, None, done)).unwrap();
    let shown: String = fleet
        .store
        .reader()
        .unwrap()
        .query_row(
            "SELECT group_concat(name || ' ' || presence || ' ' || coalesce(address, '-'), ', ' ORDER BY name)
             FROM device_overview",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(shown, "device connected 192.0.2.7, device-2 idle 2001:db8::7, device-3 asleep -");
    fleet.reopen();
    for expected in expected {
        assert_eq!(fleet.store.table().get(expected.device), Some(expected));
    }
}

#[test]
fn news_that_could_not_be_written_is_told_again() {
    let fleet = Fleet::new(1);
    fleet.store.table().with(fleet.devices[0], |record| record.has_news = true);
    let records = news(&fleet.store);
    let broken = Connection::open(fleet.directory.path().join(FILE_NAME)).unwrap();
    broken.execute_batch("ALTER TABLE device_states RENAME TO elsewhere").unwrap();
    assert!(wait(|done| fleet.store.record_sequences(records, None, done)).is_err());
    assert_eq!(news(&fleet.store).len(), 1);
}

#[test]
fn a_file_of_version_1_is_brought_up() {
    let directory = tempfile::tempdir().unwrap();
    let (kept, idle, fresh) = (DeviceId(1 << 33), DeviceId(2 << 33), DeviceId(3 << 33));
    {
        let connection = Connection::open(directory.path().join(FILE_NAME)).unwrap();
        connection.execute_batch(include_str!("../schema.sql")).unwrap();
        connection.pragma_update(None, "application_id", 0x6d73_7472).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute_batch("INSERT INTO groups (id, path, interval_seconds) VALUES (2, '/berlin', 3600)")
            .unwrap();
        for (number, (device, is_kept, seen)) in (1..).zip([(kept, 1, 0), (idle, 0, 9_000), (fresh, 0, 0)]) {
            let sql = "INSERT INTO devices VALUES (?1, ?2, 'd' || ?1, 2, ?3, NULL, 1, NULL)";
            connection.execute(sql, [number, device.0.cast_signed(), is_kept]).unwrap();
            let hash = CertificateHash::of(&device.0.to_be_bytes()).0;
            connection.execute("INSERT INTO certificates VALUES (?1, ?2)", (hash, number)).unwrap();
            let sql = "INSERT INTO device_states (device, last_seen_at, last_sync_at) VALUES (?1, ?2, ?2)";
            connection.execute(sql, [number, seen]).unwrap();
        }
    }
    for _ in 0..2 {
        let store = Store::open(directory.path()).unwrap();
        let record = |device| store.table().get(device).unwrap();
        assert_eq!((record(kept).keep_connected, record(idle).keep_connected), (true, false));
        assert_eq!(record(idle).due_seconds, 5_400, "the farthest slot that it can have been given");
        assert_eq!(record(fresh).due_seconds, 0);
        assert_eq!((record(idle).announced, record(fresh).announced), (Presence::Idle, Presence::NeverSeen));
        let reader = store.reader().unwrap();
        let own = |device| query::device(&reader, &DeviceKey::Id(device)).unwrap().row.own_keep_connected;
        assert_eq!((own(kept), own(idle)), (Some(true), None), "nobody had said 'off'");
        let version: i64 = reader.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 6);
    }
}
