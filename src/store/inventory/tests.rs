//! Random histories of inventories, against plain sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::machine::command::{JobOutcome, SectionChange, SectionUpdate};
use crate::store::testing::{Fleet, application};
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::inventory::{Application, InventoryChange, digest_of};
use crate::wire::section::Section;

fn update(
    device: DeviceId,
    revision: u64,
    old: Option<&[Application]>,
    new: &[Application],
) -> SectionUpdate {
    SectionUpdate {
        device,
        section: Section::Inventory,
        agent_epoch: Epoch(1),
        revision,
        digest: digest_of(new),
        base: old.map(digest_of),
        change: SectionChange::Inventory(InventoryChange::between(old.unwrap_or_default(), new)),
    }
}

#[test]
fn a_set_is_stored_whole_then_by_difference() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let old: Vec<_> = (0..200).map(application).collect();
    let mut new = old.clone();
    new.retain(|entry| entry.name != old[7].name);
    new.push(application(500));
    new.sort();
    assert!(matches!(fleet.apply(update(device, 1, None, &old)), JobOutcome::Stored { .. }));
    assert!(matches!(fleet.apply(update(device, 2, Some(&old), &new)), JobOutcome::Stored { .. }));
    assert_eq!(fleet.inventory_of(device), new);
    let record = fleet.store.table().get(device).unwrap();
    assert_eq!(record.section(Section::Inventory).digest, digest_of(&new));
    assert_eq!(record.section(Section::Inventory).revision, 2);
}

#[test]
fn a_difference_from_another_base_is_told_so() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let sets: Vec<Vec<_>> = [3, 4, 5].map(|count| (0..count).map(application).collect()).into();
    assert!(matches!(fleet.apply(update(device, 1, None, &sets[0])), JobOutcome::Stored { .. }));
    let outcome = fleet.apply(update(device, 2, Some(&sets[1]), &sets[2]));
    assert_eq!(outcome, JobOutcome::BaseUnknown(Section::Inventory));
    assert_eq!(fleet.inventory_of(device), sets[0]);
}

#[test]
fn what_does_not_lead_to_its_digest_is_not_stored() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let old: Vec<_> = (0..20).map(application).collect();
    let new: Vec<_> = (1..21).map(application).collect();
    fleet.apply(update(device, 1, None, &old));
    let good = update(device, 2, Some(&old), &new);
    let mut wrong_digest = good.clone();
    wrong_digest.digest = Digest(wrong_digest.digest.0 ^ 1);
    let with = |change: InventoryChange| {
        let mut update = good.clone();
        update.digest = change.removed.iter().fold(digest_of(&old), |sum, entry| sum.without(*entry));
        update.digest = change.added.iter().fold(update.digest, |sum, entry| sum.with(entry.digest()));
        update.change = SectionChange::Inventory(change);
        update
    };
    let stranger = InventoryChange { added: vec![], removed: vec![application(99).digest()] };
    let twice = InventoryChange { added: vec![application(50), application(50)], removed: vec![] };
    let already = InventoryChange { added: vec![application(5)], removed: vec![] };
    let out_twice = InventoryChange { added: vec![], removed: vec![application(5).digest(); 2] };
    for bad in [wrong_digest, with(stranger), with(twice), with(already), with(out_twice)] {
        assert_eq!(fleet.apply(bad), JobOutcome::DigestMismatch(Section::Inventory));
    }
    assert_eq!(fleet.inventory_of(device), old);
    fleet.check_counts(&BTreeMap::from([(device, old.into_iter().collect())]));
    assert!(matches!(fleet.apply(good), JobOutcome::Stored { .. }));
}

#[test]
fn alike_devices_share_a_base_and_the_last_takes_it_along() {
    let fleet = Fleet::new(50);
    let common: Vec<_> = (0..300).map(application).collect();
    for (index, device) in fleet.devices.iter().enumerate() {
        let mut own = common.clone();
        own.push(application(1_000 + u32::try_from(index).unwrap()));
        own.sort();
        fleet.apply(update(*device, 1, None, &own));
    }
    let counts = fleet.counts();
    assert_eq!((counts.inventory_bases, counts.applications), (1, 350));
    for device in &fleet.devices {
        fleet.store.remove_device(*device, crate::wire::time::WallTime(1)).unwrap();
    }
    fleet.wait_until(|counts| counts.inventory_bases == 0 && counts.applications == 0);
}

#[test]
fn kinds_of_device_that_share_most_of_their_applications_get_a_base_each() {
    let fleet = Fleet::new(90);
    for (number, device) in (0..).zip(&fleet.devices) {
        let kind: u32 = number % 30;
        let own = (0..40).map(|at| 200 + kind * 40 + at);
        // Each device of a kind lacks another one of what they share, and has one of its own.
        let mut set: Vec<_> = (0..160).filter(|at| *at != number).chain(own).map(application).collect();
        set.push(application(5_000 + number));
        set.sort();
        fleet.apply(update(*device, 1, None, &set));
    }
    assert_eq!(fleet.counts().inventory_bases, 30);
}

#[derive(Debug, Clone)]
enum Step {
    /// A device has this set now: a range of applications without some, sent whole or as a difference.
    Set { device: usize, from: u32, count: u32, without: Vec<u32>, is_whole: bool },
    /// The store is closed and opened.
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let set = (
        0..6_usize,
        0..4_u32,
        prop_oneof![0..12_u32, 40..60_u32],
        prop::collection::vec(0..60_u32, 0..12),
        any::<bool>(),
    )
        .prop_map(|(device, from, count, without, is_whole)| Step::Set {
            device,
            from,
            count,
            without,
            is_whole,
        });
    prop_oneof![12 => set, 1 => Just(Step::Reopen)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_store_agrees_with_plain_sets(steps in prop::collection::vec(any_step(), 1..30)) {
        let mut fleet = Fleet::new(6);
        let mut model: BTreeMap<DeviceId, BTreeSet<Application>> = BTreeMap::new();
        for (revision, step) in (1..).zip(steps) {
            match step {
                Step::Reopen => fleet.reopen(),
                Step::Set { device, from, count, without, is_whole } => {
                    let device = fleet.devices[device];
                    let new: BTreeSet<Application> = (from..from + count)
                        .filter(|number| !without.contains(number)).map(application).collect();
                    let sorted: Vec<_> = new.iter().cloned().collect();
                    let old: Vec<_> = model.entry(device).or_default().iter().cloned().collect();
                    let base = (!is_whole).then_some(old.as_slice());
                    let outcome = fleet.apply(update(device, revision, base, &sorted));
                    let is_stored = matches!(outcome, JobOutcome::Stored { .. });
                    prop_assert!(is_stored, "{:?}", outcome);
                    model.insert(device, new);
                }
            }
        }
        for (device, set) in &model {
            prop_assert_eq!(fleet.inventory_of(*device), set.iter().cloned().collect::<Vec<_>>());
        }
        fleet.check_counts(&model);
    }
}
