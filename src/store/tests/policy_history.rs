//! Versions of policies that were changed.

use serde_json::json;

use super::policy::{by_anna, fleet, settings};
use crate::store::query::PageRequest;
use crate::store::testing::Fleet;
use crate::store::{POLICY_VERSIONS_MAX, StoreError};
use crate::wire::api::{ChangedKey, PolicyVersion};
use crate::wire::limits::SETTINGS_BYTES_MAX;
use crate::wire::time::WallTime;

/// All versions of the kiosk's policy in a group, two at a time.
fn versions(fleet: &Fleet, group: &str) -> Vec<PolicyVersion> {
    let mut all = Vec::new();
    let mut page = PageRequest { limit: 2, cursor: None };
    loop {
        let found = fleet.policies().history(group, "kiosk", &page).unwrap();
        all.extend(found.items);
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            return all;
        }
    }
}

fn set(fleet: &Fleet, value: &serde_json::Value, locks: &[&str]) {
    fleet.policies().set("/shops", "kiosk", settings(value, locks), by_anna()).unwrap();
}

#[test]
fn each_version_of_a_policy_is_kept_and_goes_with_its_group() {
    let fleet = fleet();
    assert_eq!(versions(&fleet, "/shops"), []);
    set(&fleet, &json!({"lines": 40}), &[]);
    set(&fleet, &json!({"lines": 41}), &["lines"]);
    fleet.policies().preview("/shops", "kiosk", settings(&json!({}), &[]), by_anna()).unwrap();
    fleet.policies().preview_removal("/shops", "kiosk", by_anna()).unwrap();
    fleet.policies().remove("/shops", "kiosk", by_anna()).unwrap();
    let kept = versions(&fleet, "/shops");
    let told: Vec<_> = kept.iter().map(|one| (json!(one.settings), one.locks.len())).collect();
    assert_eq!(told, [(json!(null), 0), (json!({"lines": 41}), 1), (json!({"lines": 40}), 0)]);
    assert!(kept.iter().all(|one| one.changed_by == "user anna" && one.changed_at == by_anna().at.into()));

    fleet.devices().move_group("/shops", "/branches", false).unwrap();
    assert_eq!(versions(&fleet, "/branches"), kept);
    fleet.devices().remove_group("/branches", true, false, WallTime(0)).unwrap();
    let page = PageRequest { limit: 2, cursor: None };
    let gone = fleet.policies().history("/branches", "kiosk", &page);
    assert_eq!(gone, Err(StoreError::NoGroup("/branches".into())));
    fleet.devices().set_group("/branches", crate::store::GroupChange::default()).unwrap();
    assert_eq!(versions(&fleet, "/branches"), [], "one of the same path is another group");
    let foreign = PageRequest { limit: 2, cursor: Some("YQ".into()) };
    assert!(matches!(
        fleet.policies().history("/", "kiosk", &foreign),
        Err(StoreError::BadCursor(cursor)) if cursor == "YQ"
    ));
}

#[test]
fn the_oldest_versions_go_when_there_are_too_many_or_they_are_too_long() {
    let fleet = fleet();
    let most = u64::from(POLICY_VERSIONS_MAX);
    for lines in 0..most + 3 {
        set(&fleet, &json!({"lines": lines}), &[]);
    }
    let kept = versions(&fleet, "/shops");
    let lines: Vec<_> = kept.iter().map(|one| one.settings.as_ref().unwrap()["lines"].as_u64()).collect();
    assert_eq!(lines, (3..most + 3).rev().map(Some).collect::<Vec<_>>());
    // Eight of the longest have room.
    let long = "x".repeat(SETTINGS_BYTES_MAX - 20);
    for number in 0..10 {
        set(&fleet, &json!({"x": format!("{number}{long}")}), &[]);
    }
    assert_eq!(versions(&fleet, "/shops").len(), 8);
}

#[test]
fn a_preview_says_which_keys_of_which_device_would_be_different() {
    let fleet = fleet();
    set(&fleet, &json!({"lines": 40, "tax": 19}), &["tax"]);
    let own = settings(&json!({"lines": 60}), &[]);
    fleet.policies().set_own(fleet.devices[0], "kiosk", own, by_anna().at).unwrap();
    let new = settings(&json!({"lines": 41, "tax": 20}), &[]);
    let preview = fleet.policies().preview("/shops", "kiosk", new, by_anna()).unwrap();
    assert_eq!(preview.devices, fleet.devices[..2]);
    let key = |key: &str, before: i32, after: i32| ChangedKey {
        key: key.to_owned(),
        before: Some(before.into()),
        after: Some(after.into()),
    };
    let names: Vec<_> = preview.examples.iter().map(|(_, keys)| keys.clone()).collect();
    assert_eq!(names, [vec![key("tax", 19, 20)], vec![key("lines", 40, 41), key("tax", 19, 20)]]);

    let preview = fleet.policies().preview_removal("/shops", "kiosk", by_anna()).unwrap();
    let (_, keys) = &preview.examples[0];
    assert_eq!(keys[..], [ChangedKey { key: "tax".into(), before: Some(19.into()), after: None }]);
    let preview = fleet.policies().preview_removal_own(fleet.devices[0], "kiosk").unwrap();
    assert_eq!(preview.examples[0].1, [key("lines", 60, 40)]);
    assert_eq!(fleet.policies().own(fleet.devices[0], "kiosk").unwrap().unwrap().set.settings["lines"], 60);
}

#[test]
fn rules_of_status_are_changed_for_the_devices_that_are_judged_by_them() {
    let fleet = fleet();
    let rules = |percent: u8| settings(&json!({"status": {"disk": {"warning_below": percent}}}), &[]);
    fleet.policies().set_own(fleet.devices[0], "muster", rules(5), by_anna().at).unwrap();
    let preview = fleet.policies().preview("/shops", "muster", rules(20), by_anna()).unwrap();
    assert_eq!(preview.devices, fleet.devices[1..2], "the first one has rules of its own");
    let after = ChangedKey { key: "status.disk.warning_below".into(), before: None, after: Some(20.into()) };
    assert_eq!(preview.examples[0].1, [after]);
    let changed = fleet.policies().set("/shops", "muster", rules(20), by_anna()).unwrap();
    assert_eq!(changed.devices, preview.devices);
    let preview = fleet.policies().preview("/shops", "muster", rules(20), by_anna()).unwrap();
    assert_eq!(preview.devices, []);
    let preview = fleet.policies().preview_removal("/shops", "muster", by_anna()).unwrap();
    assert_eq!(preview.devices, changed.devices);
}
