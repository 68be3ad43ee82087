//! Policies and own settings: what devices should have after each change.

use serde_json::json;

use crate::fleet::settings::{parse, parse_locks};
use crate::machine::command::DesiredStateOutcome;
use crate::store::testing::{self, Fleet, into};
use crate::store::{Author, GroupOutcome, NewSettings, StoreError};
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::limits::{DESIRED_STATE_BYTES_TARGET, SETTINGS_BYTES_MAX};
use crate::wire::section::{ApplicationCondition, Condition, HostFacts};
use crate::wire::settings::{Declaration, Drift, SettingsOrder, SettingsReport, SettingsState};
use crate::wire::time::WallTime;

const NOW: WallTime = WallTime(1_795_514_400_000);

pub(super) fn by_anna() -> Author {
    Author { name: "user anna".to_owned(), at: NOW }
}

pub(super) fn settings(value: &serde_json::Value, locks: &[&str]) -> NewSettings {
    let settings = parse(&value.to_string()).unwrap();
    let locks = locks.iter().map(|lock| (*lock).to_owned()).collect::<Vec<_>>();
    NewSettings { locks: parse_locks(&locks, &settings).unwrap(), settings, drift: None }
}

/// The device says that it takes settings for the kiosk.
fn declare(fleet: &Fleet, device: DeviceId, schema: &str) {
    declare_as(fleet, device, "kiosk", schema);
}

fn declare_as(fleet: &Fleet, device: DeviceId, application: &str, schema: &str) {
    let declaration = Declaration {
        application: application.into(),
        takes_settings: true,
        settings_schema: schema.into(),
        kinds: Vec::new(),
    };
    let facts = HostFacts { declarations: vec![declaration], ..HostFacts::default() };
    fleet.store(testing::host(device, facts));
}

fn report(fleet: &Fleet, device: DeviceId, order: &SettingsOrder) {
    let condition = ApplicationCondition {
        settings: Some(SettingsReport {
            revision: order.revision,
            digest: order.digest(),
            state: SettingsState::Applied,
            applied_revision: order.revision,
            since: NOW,
            detail: String::new(),
        }),
        ..testing::condition("kiosk", Condition::Running)
    };
    fleet.store(testing::conditions(device, 1, vec![condition]));
}

fn desired_state(fleet: &Fleet, device: DeviceId) -> Vec<SettingsOrder> {
    match fleet.desired_state(device, None, NOW) {
        DesiredStateOutcome::All(desired_state) => desired_state.settings,
        other => panic!("{other:?}"),
    }
}

/// Three devices, the first two of them in /shops/berlin, the third in the root.
pub(super) fn fleet() -> Fleet {
    let fleet = Fleet::new(3);
    for device in &fleet.devices {
        declare(&fleet, *device, "");
    }
    for device in &fleet.devices[..2] {
        fleet.devices().change(*device, into("/shops/berlin")).unwrap();
    }
    fleet
}

#[test]
fn a_policy_reaches_the_devices_below_it_once_and_is_told_until_they_have_it() {
    let mut fleet = fleet();
    let (a, c) = (fleet.devices[0], fleet.devices[2]);
    let change =
        fleet.policies().set("/shops", "kiosk", settings(&json!({"lines": 40}), &[]), by_anna()).unwrap();
    assert_eq!(change.devices.len(), 2);
    assert!(!change.devices.contains(&c));
    let [order] = &desired_state(&fleet, a)[..] else { panic!("one order") };
    assert_eq!((order.settings.as_deref(), order.revision), (Some("{\"lines\":40}"), change.revision));
    assert_eq!(fleet.table().get(a).unwrap().desired_digest, order.digest());
    assert_eq!(desired_state(&fleet, c), []);
    report(&fleet, a, order);
    assert_eq!(desired_state(&fleet, a), []);
    let again =
        fleet.policies().set("/shops", "kiosk", settings(&json!({"lines": 40}), &[]), by_anna()).unwrap();
    assert_eq!(
        (again.revision, again.devices),
        (change.revision + 1, vec![]),
        "the same settings are no news"
    );
    let before = fleet.table().get(a).unwrap().desired_digest;
    fleet.reopen();
    assert_eq!(fleet.table().get(a).unwrap().desired_digest, before);
    let removed = fleet.policies().remove("/shops", "kiosk", by_anna()).unwrap();
    assert_eq!(removed.devices.len(), 2);
    let [order] = &desired_state(&fleet, a)[..] else { panic!("one order") };
    assert_eq!(order.settings, None, "nothing is ordered any more");
    assert_eq!(fleet.table().get(a).unwrap().desired_digest, Digest::EMPTY);
}

#[test]
fn own_settings_come_last_except_what_is_locked() {
    let fleet = fleet();
    let a = fleet.devices[0];
    fleet
        .policies()
        .set("/", "kiosk", settings(&json!({"currency": "EUR"}), &["currency"]), by_anna())
        .unwrap();
    let own = settings(&json!({"currency": "USD", "lines": 60}), &[]);
    let change = fleet.policies().set_own(a, "kiosk", own, NOW).unwrap();
    assert_eq!(change.devices, [a]);
    assert_eq!(desired_state(&fleet, a)[0].settings.as_deref(), Some("{\"currency\":\"EUR\",\"lines\":60}"));
    let explained = fleet.policies().explain(a, "kiosk").unwrap();
    assert_eq!((explained[0].locked_by.as_deref(), explained[0].refused.len()), (Some("/"), 1));
    let desired = fleet.policies().desired(a).unwrap();
    assert_eq!((desired.len(), desired[0].revision), (1, change.revision));
    let report_it = NewSettings { drift: Some(Drift::Report), ..settings(&json!({"lines": 60}), &[]) };
    fleet.policies().set_own(a, "kiosk", report_it, NOW).unwrap();
    assert_eq!(desired_state(&fleet, a)[0].drift, Drift::Report);
    fleet.policies().remove_own(a, "kiosk").unwrap();
    assert_eq!(desired_state(&fleet, a)[0].settings.as_deref(), Some("{\"currency\":\"EUR\"}"));
    let nothing = fleet.policies().remove_own(a, "kiosk").unwrap_err().to_string();
    assert!(nothing.starts_with("nothing is set for 'kiosk' in "), "{nothing}");
}

#[test]
fn what_no_device_would_take_is_refused_and_nothing_is_changed() {
    let fleet = Fleet::new(1);
    let a = fleet.devices[0];
    let set = |application: &str, value: &serde_json::Value| {
        let done = fleet.policies().set("/", application, settings(value, &[]), by_anna());
        done.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(
        set("kiosk", &json!({})),
        Err("no device takes settings for 'kiosk'; known are: muster".into())
    );
    declare(&fleet, a, r#"{"properties": {"lines": {"type": "integer"}}, "required": ["currency"]}"#);
    assert_eq!(
        set("kiosk", &json!({"lines": "many"})),
        Err("settings of 'kiosk': 'lines': a string is not allowed, integer is".into())
    );
    assert_eq!(set("kiosk", &json!({"lines": 4})), Ok(()), "what is required others may bring");
    assert_eq!(
        set("shop", &json!({})),
        Err("no device takes settings for 'shop'; known are: kiosk, muster".into())
    );
    assert!(set("ti\u{202e}ll", &json!({})).unwrap_err().contains("no control or invisible characters"));
    assert!(
        set("muster", &json!({"status": {"no_such_rule": 1}}))
            .unwrap_err()
            .starts_with("settings of 'muster': ")
    );
    assert_eq!(fleet.policies().list(None).unwrap().len(), 1);
}

#[test]
fn a_device_that_declares_the_servers_own_application_gets_none_of_its_settings() {
    let fleet = fleet();
    let a = fleet.devices[0];
    let rules = settings(&json!({"status": {}}), &[]);
    fleet.policies().set("/", "muster", rules, by_anna()).unwrap();
    declare_as(&fleet, a, "muster", "");
    assert_eq!(desired_state(&fleet, a), [], "the rules for devices are the server's");
    declare_as(&fleet, a, "Muster ", "");
    let error = fleet.policies().set("/", "Muster ", settings(&json!({}), &[]), by_anna()).unwrap_err();
    assert_eq!(error.to_string(), "no device takes settings for 'Muster '; known are: kiosk, muster");
}

#[test]
fn a_group_moves_with_all_that_is_in_it_and_is_removed_safely() {
    let fleet = fleet();
    let a = fleet.devices[0];
    fleet.policies().set("/shops/berlin", "kiosk", settings(&json!({"city": "B"}), &[]), by_anna()).unwrap();
    fleet.devices().set_group("/germany", crate::store::GroupChange::default()).unwrap();
    fleet.policies().set("/germany", "kiosk", settings(&json!({"tax": 19}), &[]), by_anna()).unwrap();
    let tried = fleet.devices().move_group("/shops", "/germany/shops", true);
    assert_eq!(tried, Ok(GroupOutcome::DryRun { devices: 2 }));
    assert_eq!(
        desired_state(&fleet, a)[0].settings.as_deref(),
        Some("{\"city\":\"B\"}"),
        "it was only tried"
    );
    let moved = fleet.devices().move_group("/shops", "/germany/shops", false).unwrap();
    assert!(matches!(moved, GroupOutcome::Changed(change) if change.devices.len() == 2));
    assert_eq!(desired_state(&fleet, a)[0].settings.as_deref(), Some("{\"city\":\"B\",\"tax\":19}"));
    let refused = |done: Result<GroupOutcome, StoreError>| done.unwrap_err().to_string();
    assert_eq!(
        refused(fleet.devices().move_group("/germany", "/germany/shops/x", false)),
        "/germany/shops/x lies within /germany: it can't be moved there"
    );
    assert_eq!(refused(fleet.devices().move_group("/", "/x", false)), "the root can't be moved");
    assert_eq!(refused(fleet.devices().move_group("/none", "/x", false)), "there is no group '/none'");
    assert!(
        refused(fleet.devices().remove_group("/germany/shops", false, false, NOW))
            .starts_with("/germany/shops has 2 devices and 1 group below it")
    );
    let removed = fleet.devices().remove_group("/germany/shops", true, false, NOW).unwrap();
    assert!(matches!(removed, GroupOutcome::Changed(change) if change.devices.len() == 2));
    assert_eq!(desired_state(&fleet, a)[0].settings.as_deref(), Some("{\"tax\":19}"));
    assert_eq!(fleet.policies().list(Some("kiosk")).unwrap().len(), 1);
}

/// Such levels can be set while no device takes them.
#[test]
fn a_device_whose_levels_are_too_long_together_says_of_itself_what_it_has_to_say() {
    let fleet = Fleet::new(2);
    let (a, b) = (fleet.devices[0], fleet.devices[1]);
    declare(&fleet, b, "");
    fleet.devices().change(a, into("/x")).unwrap();
    let long = |key: &str| settings(&json!({ key: "x".repeat(20_000) }), &[]);
    fleet.policies().set("/", "kiosk", long("a"), by_anna()).unwrap();
    fleet.policies().set("/x", "kiosk", long("b"), by_anna()).unwrap();
    declare(&fleet, a, "");
    assert_eq!(desired_state(&fleet, a), []);
    let refused = fleet.devices().change(b, into("/x")).unwrap_err().to_string();
    assert!(refused.contains("at most 32768 are allowed"), "{refused}");
}

#[test]
fn what_a_device_takes_for_the_first_time_has_the_newest_revision_also_when_it_is_its_own() {
    let fleet = Fleet::new(2);
    let (a, b) = (fleet.devices[0], fleet.devices[1]);
    declare(&fleet, b, "");
    let change = fleet.policies().set_own(a, "kiosk", settings(&json!({"lines": 1}), &[]), NOW).unwrap();
    assert_eq!(change.devices, []);
    declare(&fleet, a, "");
    assert_eq!(desired_state(&fleet, a)[0].revision, change.revision);
}

#[test]
fn more_settings_than_are_told_at_a_time_come_in_portions_that_leave_nothing_out() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let names: Vec<String> = (0..45).map(|number| format!("app-{number:02}")).collect();
    let declare = |name: &String| Declaration {
        application: name.clone(),
        takes_settings: true,
        settings_schema: String::new(),
        kinds: Vec::new(),
    };
    let facts = HostFacts { declarations: names.iter().map(declare).collect(), ..HostFacts::default() };
    fleet.store(testing::host(device, facts));
    for name in &names {
        let long = settings(&json!({ "text": "x".repeat(31_000) }), &[]);
        fleet.policies().set("/", name, long, by_anna()).unwrap();
    }
    let (mut after, mut told, mut portions) = (None, Vec::new(), 0);
    loop {
        let (desired_state, next) = match fleet.desired_state(device, after.take(), NOW) {
            DesiredStateOutcome::All(desired_state) => (desired_state, None),
            DesiredStateOutcome::Part(desired_state, next) => (desired_state, Some(next)),
            other => panic!("{other:?}"),
        };
        let bytes: usize =
            desired_state.settings.iter().flat_map(|order| &order.settings).map(String::len).sum();
        assert!(bytes < DESIRED_STATE_BYTES_TARGET + SETTINGS_BYTES_MAX, "{bytes}");
        told.extend(desired_state.settings.into_iter().map(|order| order.application));
        portions += 1;
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(told, names);
    assert!(portions > 8, "{portions}");
}
