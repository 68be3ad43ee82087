//! Reads of administration.

use crate::machine::command::{SectionChange, SectionUpdate};
use crate::store::StoreError;
use crate::store::query::{self, ApplicationFilter, DeviceKey, PageRequest};
use crate::store::testing::{self, Fleet, all, application, into, pages};
use crate::wire::digest::Digest;
use crate::wire::id::Epoch;
use crate::wire::section::{self, ApplicationCondition, Condition, HostFacts, Section};
use crate::wire::settings::{SettingsReport, SettingsState};
use crate::wire::time::WallTime;

#[test]
fn devices_are_listed_by_name_in_pages_of_any_size() {
    let fleet = Fleet::new(25);
    for device in &fleet.devices[..10] {
        fleet.devices().change(*device, into("/berlin/kiosks")).unwrap();
    }
    fleet.devices().remove(fleet.devices[0], WallTime(1)).unwrap();
    let names = |limit, filter: &str| -> Vec<String> {
        pages(limit, |page| fleet.page(filter, "name", page)).into_iter().map(|row| row.name).collect()
    };
    let everything = names(1_000, "");
    assert_eq!(everything.len(), 24);
    assert!(everything.is_sorted());
    for limit in [1, 7, 24] {
        assert_eq!(names(limit, ""), everything);
    }
    assert_eq!(names(4, "group:/berlin").len(), 9);
    assert_eq!(names(4, "group:/").len(), 24);
    assert_eq!(fleet.page("group:/ber", "name", &all()), Err(StoreError::NoGroup("/ber".into())));
    assert_eq!(names(2, "VICE-2").len(), 7, "2 and 20 to 25");
    assert_eq!(names(2, "%").len(), 0, "a percent sign is a percent sign");
    let reader = fleet.reader().unwrap();
    let counts: Vec<_> = pages(2, |page| query::groups(&reader, page));
    let counts: Vec<_> = counts.into_iter().map(|group| (group.path, group.devices)).collect();
    assert_eq!(counts, [("/".into(), 15), ("/berlin".into(), 0), ("/berlin/kiosks".into(), 9)]);
    assert_eq!(pages(1, |page| query::tokens(&reader, page, WallTime(1))).len(), 1);
    let first = fleet.page("", "name", &PageRequest { limit: 1, cursor: None }).unwrap();
    for (sort, cursor) in [("name", Some("nonsense".into())), ("-name", first.next_cursor)] {
        let foreign = PageRequest { limit: 1, cursor };
        assert!(matches!(fleet.page("", sort, &foreign), Err(StoreError::BadCursor(_))), "{sort}");
    }
}

#[test]
fn a_device_is_shown_whole() {
    let fleet = Fleet::new(2);
    let device = fleet.devices[1];
    let host = HostFacts {
        hostname: "kiosk-17.example.org".into(),
        addresses: vec!["192.0.2.1".into(), "2001:db8::1".into()],
        ..HostFacts::default()
    };
    let conditions = vec![ApplicationCondition {
        settings: Some(SettingsReport {
            revision: 9,
            digest: Digest(u64::MAX),
            state: SettingsState::Failed,
            applied_revision: 8,
            since: WallTime(6),
            detail: "nginx: bad".into(),
        }),
        ..testing::condition("sshd", Condition::NotInstalled)
    }];
    let set: Vec<_> = (0..30).map(application).collect();
    fleet.store(testing::host(device, host.clone()));
    fleet.store(testing::conditions(device, 5, conditions.clone()));
    fleet.store(testing::inventory(device, 5, None, &set));
    let reader = fleet.reader().unwrap();
    let shown = query::device(&reader, &DeviceKey::NameOrId("DEVICE-2".into())).unwrap();
    assert_eq!((shown.row.device, &shown.host, &shown.conditions), (device, &Some(host), &conditions));
    assert_eq!((shown.applications, shown.agent_epoch), (30, Epoch(3)));
    let record = fleet.table().get(device).unwrap();
    assert_eq!((shown.sections, record.agent_epoch), (record.sections(), Epoch(3)));
    let by_id = query::device(&reader, &DeviceKey::NameOrId(device.to_string())).unwrap();
    assert_eq!(by_id, shown);
    assert_eq!(fleet.page("KIOSK", "name", &all()).unwrap().items, [shown.row]);
    let missing = query::device(&reader, &DeviceKey::NameOrId("nobody".into()));
    assert_eq!(missing, Err(StoreError::NoDevice("nobody".into())));
    // The view for people says the same.
    let by_view: i64 = reader
        .query_row("SELECT count(*) FROM device_applications WHERE device = 'device-2'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(by_view, 30);
}

#[test]
fn another_agent_epoch_makes_the_other_sections_revisions_start_low() {
    let mut fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let host = HostFacts::default();
    let digest = section::digest_of(&host);
    for (agent_epoch, section, revision) in
        [(Epoch(1), Section::Conditions, 40), (Epoch(1), Section::Host, 50), (Epoch(2), Section::Host, 1)]
    {
        let change = match section {
            Section::Host => SectionChange::Host(host.clone()),
            _ => SectionChange::Conditions(Vec::new()),
        };
        fleet.apply(SectionUpdate { device, section, agent_epoch, revision, digest, base: None, change });
    }
    for _ in 0..2 {
        let record = fleet.table().get(device).unwrap();
        assert_eq!(record.agent_epoch, Epoch(2));
        assert_eq!(record.sections().map(|section| section.revision), [0, 1, 1]);
        fleet.reopen();
    }
}

#[test]
fn applications_are_found_by_name_and_version() {
    let fleet = Fleet::new(12);
    for (index, device) in fleet.devices.iter().enumerate() {
        let count = 20 + u32::try_from(index).unwrap();
        let set: Vec<_> = (0..count).map(application).collect();
        fleet.store(testing::inventory(*device, 1, None, &set));
    }
    let reader = fleet.reader().unwrap();
    let list =
        |limit, filter: &ApplicationFilter| pages(limit, |page| query::applications(&reader, filter, page));
    let filter = ApplicationFilter::default();
    let everything = list(1_000, &filter);
    assert_eq!(everything.len(), 31);
    assert_eq!((everything[0].devices, everything[30].devices), (12, 1));
    assert_eq!(list(3, &filter), everything);
    let by_glob = ApplicationFilter { name: Some("package-002?".into()), ..ApplicationFilter::default() };
    assert_eq!(list(4, &by_glob), everything[20..30]);
    let mut by_version = by_glob.clone();
    by_version.version = Some("<1.3".parse().unwrap());
    assert_eq!(list(1, &by_version).len(), 5, "21, 22, 23, 28 and 29 have 1.0, 1.1, 1.2, 1.0 and 1.1");
    let mut on_device = by_glob.clone();
    on_device.device = Some(DeviceKey::NameOrId("device".into()));
    assert_eq!(list(2, &on_device).len(), 0);
    on_device.name = Some("*-001*".into());
    assert_eq!(list(3, &on_device), everything[10..20]);

    let who =
        |limit, filter: &ApplicationFilter| pages(limit, |page| query::installations(&reader, filter, page));
    for limit in [1, 5, 1_000] {
        let found = who(limit, &by_glob);
        let expected: u64 = everything[20..30].iter().map(|row| row.devices).sum();
        assert_eq!(found.len() as u64, expected);
        assert!(found.is_sorted_by_key(|row| (row.name.clone(), row.version.clone(), row.device_id)));
    }
    on_device.name = Some("package-0010".into());
    let found = who(5, &on_device);
    assert_eq!((found.len(), found[0].device_id), (1, fleet.devices[0]));
}
