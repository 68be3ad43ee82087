//! Reach of a device, across restarts.

use std::net::Ipv6Addr;

use rusqlite::Connection;

use crate::machine::device_state::DeviceState;
use crate::machine::reach::UdpReach;
use crate::store::table::SHARDS;
use crate::store::testing::{Fleet, wait};
use crate::store::{FILE_NAME, Store};
use crate::wire::datagram::NoticeKind;
use crate::wire::presence::Presence;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

fn news(store: &Store) -> Vec<DeviceState> {
    (0..SHARDS).flat_map(|shard| store.table().unrecorded_in(shard, 0, WallTime(u64::MAX))).collect()
}

#[test]
fn how_a_device_is_reached_survives_a_restart() {
    let mut fleet = Fleet::new(3);
    let addresses: [Ipv6Addr; 3] =
        ["::ffff:192.0.2.7", "2001:db8::7", "::"].map(|address| address.parse().unwrap());
    let mut expected = Vec::new();
    for (number, (device, address)) in (0u8..).zip(fleet.devices.iter().zip(addresses)) {
        fleet.table().with(*device, |record| {
            record.last_sync = WallTime(5_000);
            record.set_due_seconds(1_234 + u32::from(number));
            record.boot = 0xfff0 + u16::from(number);
            record.machine = 0xffe0 + u16::from(number);
            record.notice_counter = u32::MAX;
            record.wake_counter = 1_795_514_400;
            record.address = address;
            record.udp_port = 65_000 + u16::from(number);
            record.udp_reach = UdpReach::from_number(1 + number);
            record.departure = NoticeKind::from_number(number);
            record.announced = Presence::ALL[usize::from(number)];
            record.status = Status::ALL[usize::from(number)];
            expected.push(*record);
            if let Some(expected) = expected.last_mut() {
                // Wakes may have been sent since, of which nothing was stored.
                expected.skip_wake_counters();
            }
            record.has_news = true;
        });
    }
    let records = news(&fleet);
    assert_eq!((records.len(), news(&fleet).len()), (3, 0), "news is told once");
    wait(|done| fleet.devices().record_sequences(records, None, done)).unwrap();
    let shown: String = fleet
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
        assert_eq!(fleet.table().get(expected.device), Some(expected));
    }
}

#[test]
fn news_that_could_not_be_written_is_told_again() {
    let fleet = Fleet::new(1);
    fleet.table().with(fleet.devices[0], |record| record.has_news = true);
    let records = news(&fleet);
    let broken = Connection::open(fleet.directory.path().join(FILE_NAME)).unwrap();
    broken.execute_batch("ALTER TABLE device_states RENAME TO elsewhere").unwrap();
    assert!(wait(|done| fleet.devices().record_sequences(records, None, done)).is_err());
    assert_eq!(news(&fleet).len(), 1);
}
