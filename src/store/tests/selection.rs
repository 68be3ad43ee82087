//! Selections of devices: what a question sees of changes, orders, and what is looked up in the file.

use std::collections::BTreeSet;

use crate::fleet::filter::Filter;
use crate::fleet::status::{Cause, Reason};
use crate::machine::device_state::{DeviceState, LinkRef};
use crate::store::query::{self, ApplicationFilter, PageRequest};
use crate::store::testing::{self, Fleet, all, application, into, pages, wait};
use crate::store::{DeviceChange, LABELS_MAX, Moment, StoreError, Verdict};
use crate::wire::api::{DeviceColumn, FacetValue, Facets};
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
            DeviceColumn::Why => {
                let worst = row.device_status.reasons.first();
                (0, worst.map(|reason| reason.text(WallTime(0)).to_lowercase()).unwrap_or_default())
            }
        }
    };
    let verdicts = fleet.devices.iter().enumerate().map(|(at, device)| {
        let cause = match at % 4 {
            0 => Cause::Disk { free_percent: 3.0 },
            1 => Cause::Lost { since: WallTime(at as u64) },
            2 => Cause::Rules { why: format!("rule {}", at % 3) },
            _ => return Verdict { device: *device, status: Status::Ok, reasons: Vec::new() },
        };
        let (worst, other) = (Reason { level: Status::Critical, cause }, Cause::Disk { free_percent: 9.0 });
        let reasons = vec![worst, Reason { level: Status::Warning, cause: other }];
        Verdict { device: *device, status: Status::Critical, reasons }
    });
    let verdicts: Vec<_> = verdicts.collect();
    wait(|done| fleet.devices().set_statuses(verdicts, WallTime(7), done)).unwrap();
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

#[test]
fn tags_are_given_taken_and_follow_their_rules() {
    let mut fleet = Fleet::new(4);
    let [a, b, c, d] = fleet.devices[..] else { panic!() };
    let tag =
        |fleet: &Fleet, devices: &[DeviceId], takes| fleet.selection().tag("Kiosk", devices.to_vec(), takes);
    assert_eq!(tag(&fleet, &[a], true), Err(StoreError::NoLabel { kind: "tag", name: "Kiosk".into() }));
    assert_eq!(tag(&fleet, &[a, b, b, DeviceId(9)], false), Ok(2));
    assert_eq!(tag(&fleet, &[b, c], false), Ok(1), "one has it already");
    assert_eq!(tag(&fleet, &[b, d], true), Ok(1));
    let rule: Filter = "name:counter-*".parse().unwrap();
    fleet.selection().set_rule("old", Some(&rule)).unwrap();
    fleet.selection().save_view("shop", &"tag:kiosk or tag:old".parse().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(fleet.names("tag:kiosk"), ["device", "device-3"]);
        assert_eq!(fleet.names("-tag:k*"), ["device-2", "device-4"]);
        assert_eq!(fleet.names("tag:old"), [""; 0]);
        assert_eq!(fleet.names("view:SHOP"), ["device", "device-3"]);
        fleet.reopen();
    }
    named(&fleet, 3, "counter-4");
    assert_eq!(fleet.names("tag:old"), ["counter-4"], "it has come under the rule");
    assert_eq!(fleet.names("view:shop").len(), 3);
    let moment = Moment { now: WallTime(5), present_since: WallTime(0) };
    assert_eq!(fleet.selection().tags_of(d, moment).unwrap(), ["old"]);
    assert_eq!(fleet.selection().tags_of(a, moment).unwrap(), ["Kiosk"]);
    assert_eq!(tag(&fleet, &[d], false), Ok(1));
    assert_eq!(fleet.selection().tags_of(d, moment).unwrap(), ["Kiosk", "old"]);
    assert_eq!(tag(&fleet, &[d], true), Ok(1));
    named(&fleet, 3, "another");
    assert_eq!(fleet.selection().tags_of(d, moment).unwrap(), [""; 0]);
    fleet.devices().remove(a, WallTime(1)).unwrap();
    let counts: Vec<_> =
        fleet.selection().tags(moment).unwrap().into_iter().map(|tag| (tag.name, tag.devices)).collect();
    assert_eq!(counts, [("Kiosk".into(), 1), ("old".into(), 0)]);
    fleet.selection().remove_tag("kiosk").unwrap();
    let gone = StoreError::NoLabel { kind: "tag", name: "kiosk".into() };
    assert_eq!(fleet.page("view:shop", "name", &all()), Err(gone), "a view says what it lacks");
    fleet.selection().remove_view("shop").unwrap();
    assert_eq!(fleet.selection().views().unwrap(), []);
}

#[test]
fn labels_are_bounded_and_none_hangs_on_itself() {
    let fleet = Fleet::new(1);
    let selection = fleet.selection();
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    for name in ["", "a b", "a:b", "\"a\"", "(a)", "a*", &"x".repeat(65)] {
        let refused = selection.save_view(name, &filter("a")).unwrap_err().to_string();
        assert!(refused.contains("can be no name of a tag or a view"), "{refused}");
        assert!(selection.tag(name, Vec::new(), false).is_err(), "{name}");
    }
    assert!(selection.save_view("a", &filter("b or view:a")).is_err());
    assert!(selection.set_rule("a", Some(&filter("b -tag:a"))).is_err());
    assert!(selection.set_rule("a", Some(&filter("view:b"))).is_err());
    for number in 0..LABELS_MAX {
        selection.save_view(&format!("view-{number}"), &filter("a")).unwrap();
        selection.tag(&format!("tag-{number}"), Vec::new(), false).unwrap();
    }
    let full = |kind| StoreError::TooManyLabels { kind, count: LABELS_MAX };
    assert_eq!(selection.save_view("one-more", &filter("a")), Err(full("view")));
    assert_eq!(selection.tag("one-more", Vec::new(), false), Err(full("tag")));
    selection.save_view("view-7", &filter("another")).unwrap();
    assert_eq!(selection.set_rule("tag-7", Some(&filter("a"))), Ok(()));
}

#[test]
fn a_selection_is_counted_by_what_its_devices_are() {
    let fleet = Fleet::new(5);
    let devices = &fleet.devices;
    let facts = |name: &str| HostFacts { os_name: name.into(), ..HostFacts::default() };
    for (device, os) in devices.iter().zip(["Debian", "Debian", "Alpine"]) {
        fleet.store(testing::host(*device, facts(os)));
    }
    fleet.devices().change(devices[0], into("/shops")).unwrap();
    fleet.selection().tag("kiosk", devices[1..4].to_vec(), false).unwrap();
    fleet.selection().set_rule("old", Some(&"os:alpine".parse().unwrap())).unwrap();
    let count = |filter: &str| {
        let moment = Moment { now: WallTime(5), present_since: WallTime(0) };
        let facets = fleet.selection().facets(&filter.parse().unwrap(), moment).unwrap();
        let named = |values: Vec<FacetValue>| {
            let values = values.into_iter().map(|value| format!("{} {}", value.value, value.devices));
            values.collect::<Vec<_>>().join(", ")
        };
        let Facets { devices, presence, status, os, group, tag } = facets;
        [devices.to_string(), named(presence), named(status), named(os), named(group), named(tag)]
    };
    let all = ["5", "never_seen 5", "ok 5", "Debian 2, Alpine 1", "/ 4, /shops 1", "kiosk 3, old 1"];
    assert_eq!(count(""), all);
    assert_eq!(
        count("tag:kiosk"),
        ["3", "never_seen 3", "ok 3", "Alpine 1, Debian 1", "/ 3", "kiosk 3, old 1"]
    );
    assert_eq!(count("os:debian"), ["2", "never_seen 2", "ok 2", "Debian 2", "/ 1, /shops 1", "kiosk 1"]);
    assert_eq!(count("nobody"), ["0", "", "", "", "", ""]);
}

#[test]
fn all_devices_of_a_selection_are_changed_or_none() {
    let fleet = Fleet::new(3);
    let change = DeviceChange { interval_seconds: Some(Some(60)), ..into("/shops") };
    let gone = DeviceId(9);
    let devices = vec![fleet.devices[0], gone, fleet.devices[2]];
    fleet.devices().change_all(devices.clone(), change).unwrap();
    assert_eq!(fleet.names("group:/shops"), ["device", "device-3"]);
    assert_eq!(fleet.table().get(fleet.devices[2]).unwrap().interval_seconds(), 60);
    assert!(fleet.devices().change_all(devices.clone(), into("a//b")).is_err());
    fleet.devices().set_persistent_max(1).unwrap();
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..into("/kept") };
    let refused = fleet.devices().change_all(devices, keep);
    assert!(matches!(refused, Err(StoreError::TooManyPersistent { .. })), "{refused:?}");
    assert_eq!(fleet.names("group:/shops"), ["device", "device-3"], "nothing is changed");
}

#[test]
fn all_devices_of_a_selection_are_removed_or_none() {
    let mut fleet = Fleet::new(4);
    fleet.devices().remove(fleet.devices[1], WallTime(1)).unwrap();
    let link = LinkRef::new(1, 2, 3).unwrap();
    fleet.table().with(fleet.devices[2], |record| record.link = Some(link));
    let broken = "CREATE TRIGGER broken BEFORE UPDATE OF removed_at ON devices WHEN NEW.name = 'device-4'
        BEGIN SELECT RAISE(ABORT, 'broken'); END";
    fleet.devices().database().call(move |connection| Ok(connection.execute_batch(broken)?)).unwrap();
    let all = [&fleet.devices[..], &[DeviceId(99)]].concat();
    fleet.devices().remove_all(all.clone(), WallTime(2)).unwrap_err();
    assert_eq!((fleet.names("").len(), fleet.table().len()), (3, 3));
    let unbroken = "DROP TRIGGER broken";
    fleet.devices().database().call(move |connection| Ok(connection.execute_batch(unbroken)?)).unwrap();
    let removed = fleet.devices().remove_all(all, WallTime(2)).unwrap();
    let removed: Vec<_> = removed.iter().map(|record| (record.device, record.link)).collect();
    let devices = fleet.devices.clone();
    assert_eq!(removed, [(devices[0], None), (devices[2], Some(link)), (devices[3], None)]);
    for _ in 0..2 {
        assert_eq!((fleet.names("").len(), fleet.table().len()), (0, 0));
        fleet.reopen();
    }
}
