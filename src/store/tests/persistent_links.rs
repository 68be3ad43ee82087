//! Devices that are kept connected: own setting, group's setting, and the limit.

use std::sync::atomic::Ordering;

use crate::store::testing::{Fleet, into};
use crate::store::{
    DeviceChange, DeviceChanged, GroupChange, NewToken, PersistentLinkChanges, Store, StoreError,
};
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

fn keep(keep: Option<bool>) -> DeviceChange {
    DeviceChange { keep_connected: Some(keep), ..DeviceChange::default() }
}

fn group_keeps(keep: Option<bool>) -> GroupChange {
    GroupChange { keep_connected: Some(keep), ..GroupChange::default() }
}

fn persistent(store: &Store, devices: &[DeviceId]) -> Vec<bool> {
    let persistent: Vec<bool> =
        devices.iter().map(|device| store.table().get(*device).unwrap().keep_connected).collect();
    assert_eq!(
        store.table().persistent(),
        persistent.iter().filter(|persistent| **persistent).count() as u64
    );
    persistent
}

fn too_many(persistent: u64, more: u64, max: u64) -> StoreError {
    StoreError::TooManyPersistent { persistent, more, max }
}

fn enrol_into(fleet: &Fleet, group: &str, device: DeviceId) {
    let (created_at, expires_at) = (WallTime(1_000), WallTime(2_000));
    let new = NewToken { group: group.into(), created_at, expires_at, uses_max: 1, ..NewToken::default() };
    let token = fleet.devices().create_token(new).unwrap();
    fleet.enrol(&token, device, "late").unwrap();
}

#[test]
fn a_device_goes_by_its_own_setting_then_by_the_nearest_groups() {
    let mut fleet = Fleet::new(3);
    let [a, b, c] = [fleet.devices[0], fleet.devices[1], fleet.devices[2]];
    fleet.devices().change(a, into("/berlin/kiosks")).unwrap();
    fleet.devices().change(b, into("/berlin/kiosks/old")).unwrap();
    let changes = fleet.devices().set_group("/berlin", group_keeps(Some(true))).unwrap();
    assert_eq!(changes, PersistentLinkChanges { on: vec![a, b], off: vec![] });
    assert_eq!(persistent(&fleet, &[a, b, c]), [true, true, false]);
    let changes = fleet.devices().set_group("/berlin/kiosks/old", group_keeps(Some(false))).unwrap();
    assert_eq!(changes, PersistentLinkChanges { on: vec![], off: vec![b] });
    let DeviceChanged { settings, persistent: changes, .. } =
        fleet.devices().change(b, keep(Some(true))).unwrap();
    assert_eq!((settings.keep_connected, changes.on), (true, vec![b]));
    fleet.devices().change(a, keep(Some(false))).unwrap();
    fleet.devices().set_group("/", group_keeps(Some(true))).unwrap();
    for _ in 0..2 {
        assert_eq!(persistent(&fleet, &[a, b, c]), [false, true, true]);
        fleet.reopen();
    }
    fleet.devices().change(a, keep(None)).unwrap();
    fleet.devices().change(b, keep(None)).unwrap();
    fleet.devices().set_group("/", group_keeps(None)).unwrap();
    assert_eq!(persistent(&fleet, &[a, b, c]), [true, false, false]);
    fleet.devices().set_group("/berlin", group_keeps(None)).unwrap();
    assert_eq!(persistent(&fleet, &[a, b, c]), [false, false, false], "off at the root");
}

#[test]
fn what_would_keep_too_many_is_refused_before_anything_is_stored() {
    let mut fleet = Fleet::new(4);
    let devices = fleet.devices.clone();
    fleet.devices().set_persistent_max(2).unwrap();
    fleet.devices().change(devices[0], keep(Some(true))).unwrap();
    fleet.devices().change(devices[1], keep(Some(true))).unwrap();
    // By itself, together with another change, by a group, by a move into one that is kept connected.
    let with_name = DeviceChange { name: Some("renamed".into()), ..keep(Some(true)) };
    assert_eq!(fleet.devices().change(devices[2], with_name), Err(too_many(2, 1, 2)));
    assert_eq!(fleet.devices().set_group("/", group_keeps(Some(true))), Err(too_many(2, 2, 2)));
    fleet.devices().set_group("/persistent", group_keeps(Some(true))).unwrap();
    assert_eq!(fleet.devices().change(devices[3], into("/persistent")), Err(too_many(2, 1, 2)));
    for _ in 0..2 {
        assert_eq!(persistent(&fleet, &devices), [true, true, false, false]);
        let reader = fleet.reader().unwrap();
        let named: i64 = reader
            .query_row("SELECT count(*) FROM devices WHERE name = 'renamed'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(named, 0);
        drop(reader);
        fleet.reopen();
        fleet.devices().set_persistent_max(2).unwrap();
    }
    // A device that is kept connected already may change, and a change that makes room may take it.
    fleet.devices().change(devices[1], into("/persistent")).unwrap();
    fleet.devices().change(devices[0], keep(Some(false))).unwrap();
    fleet.devices().change(devices[2], keep(Some(true))).unwrap();
    assert_eq!(persistent(&fleet, &devices), [false, true, true, false]);
    let text = too_many(300, 1, 300).to_string();
    assert_eq!(
        text,
        "300 devices are kept connected and max_persistent_connections is 300: raise [links] max_persistent_connections or turn it off \
         for others"
    );
    assert!(
        too_many(290, 12, 300)
            .to_string()
            .starts_with("290 devices are kept connected, 12 more would be and")
    );
}

#[test]
fn a_device_that_enrols_when_there_is_no_room_waits_for_it() {
    let mut fleet = Fleet::new(1);
    let (old, late, later) = (fleet.devices[0], DeviceId(7 << 33), DeviceId(8 << 33));
    fleet.devices().set_group("/persistent", group_keeps(Some(true))).unwrap();
    fleet.devices().change(old, keep(Some(true))).unwrap();
    fleet.devices().set_persistent_max(1).unwrap();
    enrol_into(&fleet, "/persistent", late);
    enrol_into(&fleet, "/persistent", later);
    let all = [old, late, later];
    for _ in 0..2 {
        assert_eq!(persistent(&fleet, &all), [true, false, false]);
        assert!(fleet.devices().waits_for_room(late) && !fleet.devices().waits_for_room(old));
        // It may be changed, but not be asked for by name.
        let renamed = DeviceChange { name: Some("waits".into()), ..DeviceChange::default() };
        fleet.devices().change(late, renamed).unwrap();
        assert_eq!(fleet.devices().change(late, keep(Some(true))), Err(too_many(1, 1, 1)));
        fleet.reopen();
        fleet.devices().set_persistent_max(1).unwrap();
    }
    // The first to come is let in first: by a higher limit, when another is turned off, when one is removed.
    assert_eq!(fleet.devices().set_persistent_max(2).unwrap().on, [late]);
    assert_eq!(persistent(&fleet, &all), [true, true, false]);
    let changes = fleet.devices().change(old, keep(None)).unwrap().persistent;
    assert_eq!((changes.off, changes.on), (vec![old], vec![later]));
    fleet.devices().set_persistent_max(1).unwrap();
    assert_eq!(
        persistent(&fleet, &all),
        [false, true, false],
        "a lowered limit leaves those that enrolled first"
    );
    fleet.devices().remove(late, WallTime(5)).unwrap();
    assert_eq!(persistent(&fleet, &[old, later]), [false, true]);
    enrol_into(&fleet, "/persistent", DeviceId(9 << 33));
    fleet.devices().set_group("/persistent", group_keeps(None)).unwrap();
    assert!(!fleet.devices().waits_for_room(DeviceId(9 << 33)), "nobody wants it any more");
    assert_eq!(fleet.table().persistent(), 0);
}

#[test]
fn of_changes_that_race_for_the_last_room_exactly_as_many_win_as_there_is_room() {
    let fleet = Fleet::new(64);
    fleet.devices().set_persistent_max(10).unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = fleet
            .devices
            .iter()
            .map(|device| scope.spawn(|| fleet.devices().change(*device, keep(Some(true)))))
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((won, fleet.table().persistent()), (10, 10));
    let refused =
        |outcome: &&Result<_, StoreError>| matches!(outcome, Err(StoreError::TooManyPersistent { .. }));
    assert_eq!(outcomes.iter().filter(refused).count(), 54);
    let reader = fleet.reader().unwrap();
    let stored: i64 =
        reader.query_row("SELECT count(*) FROM devices WHERE keep_connected", [], |row| row.get(0)).unwrap();
    assert_eq!(stored, 10);
    assert_eq!(fleet.counters().refused.load(Ordering::Relaxed), 54);
}
