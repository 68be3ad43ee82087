//! Selections of devices: what a question sees of changes, orders, and what is looked up in the file.

use std::collections::BTreeSet;

use crate::machine::device_state::DeviceState;
use crate::store::query::{self, ApplicationFilter, PageRequest};
use crate::store::testing::{self, Fleet, all, application, into, pages, wait};
use crate::store::{DeviceChange, Verdict};
use crate::wire::api::DeviceColumn;
use crate::wire::id::DeviceId;
use crate::wire::section::HostFacts;
use crate::wire::status::Status;
use crate::wire::time::WallTime;

fn named(fleet: &Fleet, at: usize, name: &str) {
    let change = DeviceChange { name: Some(name.into()), ..DeviceChange::default() };
    fleet.devices().change(fleet.devices[at], change).unwrap();
}

#[test]
fn a_question_sees_every_change_that_was_made_before() {
    let mut fleet = Fleet::new(4);
    assert_eq!(fleet.names(""), ["device", "device-2", "device-3", "device-4"]);
    named(&fleet, 1, "Kiosk");
    assert_eq!(fleet.names("kiosk"), ["Kiosk"]);
    assert_eq!(fleet.names("-kiosk"), ["device", "device-3", "device-4"]);
    fleet.devices().change(fleet.devices[2], into("/shops/berlin")).unwrap();
    assert_eq!(fleet.names("group:/shops"), ["device-3"]);
    fleet.devices().move_group("/shops", "/stores", false).unwrap();
    assert_eq!(fleet.page("group:/stores/berlin", "name", &all()).unwrap().items[0].group, "/stores/berlin");
    fleet.devices().remove_group("/stores", true, false, WallTime(1)).unwrap();
    assert_eq!(fleet.page("device-3", "name", &all()).unwrap().items[0].group, "/");
    let facts = HostFacts {
        hostname: "counter-7.example.org".into(),
        os_id: "debian".into(),
        os_name: "Debian GNU/Linux 12 (bookworm)".into(),
        agent_version: "0.1.9".into(),
        ..HostFacts::default()
    };
    fleet.store(testing::host(fleet.devices[3], facts));
    for filter in ["COUNTER", "host:counter-?.*", "os:debian", "os:bookworm", "version:<0.2"] {
        assert_eq!(fleet.names(filter), ["device-4"], "{filter}");
    }
    let verdict = Verdict { device: fleet.devices[0], status: Status::Critical, reasons: Vec::new() };
    wait(|done| fleet.devices().set_statuses(vec![verdict], WallTime(7), done)).unwrap();
    let critical = fleet.page("status:critical", "name", &all()).unwrap().items;
    assert_eq!((critical[0].name.as_str(), critical[0].device_status.since), ("device", Some(WallTime(7))));
    fleet.devices().remove(fleet.devices[0], WallTime(1)).unwrap();
    assert_eq!(fleet.names("status:critical"), [""; 0]);
    let token = testing::token(&fleet, 1);
    fleet.enrol(&token, DeviceId(77), "newcomer").unwrap();
    assert_eq!(fleet.names("new"), ["newcomer"]);
    let before = fleet.page("", "id", &all()).unwrap();
    fleet.selection().free_unused();
    fleet.reopen();
    assert_eq!(fleet.page("", "id", &all()).unwrap(), before, "an index that is read anew says the same");
}

#[test]
fn more_changes_than_are_noted_are_seen_too() {
    let fleet = Fleet::new(3);
    assert_eq!(fleet.names("").len(), 3);
    let memory = fleet.devices().memory();
    named(&fleet, 0, "kiosk");
    (0..3_000).for_each(|id| memory.listed.note(DeviceId(id)));
    assert_eq!(fleet.names("kiosk"), ["kiosk"]);
}

#[test]
fn lists_are_sorted_by_any_column_in_pages_of_any_size() {
    let fleet = Fleet::new(23);
    for (at, device) in fleet.devices.iter().enumerate() {
        fleet.devices().change(*device, into(["/a", "/B", "/c/d"][at % 3])).unwrap();
        fleet.table().with(*device, |record| {
            record.set_interval_seconds([60, 900][at % 2]);
            record.last_seen = WallTime(at as u64 % 5);
            record.last_sync = WallTime(at as u64 % 4);
        });
    }
    let key = |column, row: &query::DeviceRow| -> (u64, String) {
        let record: DeviceState = fleet.table().get(row.device).unwrap();
        match column {
            DeviceColumn::Name => (0, row.name.to_lowercase()),
            DeviceColumn::Group => (0, row.group.to_lowercase()),
            // Those that were heard are lost by now; the others were never seen, which comes after that.
            DeviceColumn::Presence => (u64::from(record.last_seen == WallTime(0)), String::new()),
            DeviceColumn::Status => (row.device_status.status as u64, String::new()),
            DeviceColumn::LastSeen => (record.last_seen.0, String::new()),
            DeviceColumn::LastSync => (record.last_sync.0, String::new()),
            DeviceColumn::Interval => (record.interval_seconds().into(), String::new()),
            DeviceColumn::Id => (row.device.0, String::new()),
        }
    };
    for column in DeviceColumn::ALL {
        let sorted = fleet.page("", column.name(), &all()).unwrap().items;
        let keys: Vec<_> = sorted.iter().map(|row| (key(column, row), row.name.clone())).collect();
        assert!(keys.is_sorted(), "{column}: {keys:?}");
        for sort in [column.to_string(), format!("-{column}")] {
            let mut paged = pages(4, |page| fleet.page("", &sort, page));
            if sort.starts_with('-') {
                paged.reverse();
            }
            assert_eq!(paged, sorted, "{sort}");
        }
    }
    let one = PageRequest { limit: 1, cursor: None };
    assert_eq!(fleet.page("name:device-1?", "-name", &one).unwrap().items[0].name, "device-19");
}

/// As [`query::installations`] has it, which reads neither bases nor differences by device.
#[test]
fn devices_are_found_by_their_applications() {
    let fleet = Fleet::new(40);
    for (at, device) in fleet.devices.iter().enumerate() {
        let at = u32::try_from(at).unwrap();
        // Alike, but for one that is missing and one that only some have: bases with differences.
        let set = (0..30).filter(|number| *number != at % 7).chain((at % 3 == 0).then_some(100 + at % 5));
        let set: Vec<_> = set.map(application).collect();
        fleet.store(testing::inventory(*device, 1, None, &set));
    }
    let reader = fleet.reader().unwrap();
    for text in
        ["package-0003", "package-000*", "package-010?", "package-0003<1.4", "package-00*>=1.6", "none"]
    {
        let (name, version) = text.split_at(text.find(['<', '>']).unwrap_or(text.len()));
        let version = (!version.is_empty()).then(|| version.parse().unwrap());
        let filter = ApplicationFilter { name: Some(name.into()), version, ..ApplicationFilter::default() };
        let having = pages(100, |page| query::installations(&reader, &filter, page));
        let having: BTreeSet<String> = having.into_iter().map(|row| row.device).collect();
        let found: BTreeSet<String> = fleet.names(&format!("app:{text}")).into_iter().collect();
        assert_eq!(found, having, "{text}");
        assert_eq!(fleet.names(&format!("-app:{text}")).len(), 40 - found.len(), "{text}");
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let fleet = Fleet::new(1);
    let refused = |filter: &str| fleet.page(filter, "name", &all()).unwrap_err().to_string();
    assert_eq!(refused("device or group:/shop"), "there is no group '/shop'");
    assert!(refused("group:/a/../b").contains("is not a group path"));
    assert_eq!(fleet.names("device"), ["device"], "and the next question is answered");
}
