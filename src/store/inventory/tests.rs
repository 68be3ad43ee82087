//! Random histories of inventories, against plain sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::machine::command::{SectionChange, SectionOutcome};
use crate::store::testing::{Fleet, application, inventory as update};
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::inventory::{Application, InventoryChange, digest_of};
use crate::wire::section::Section;

#[test]
fn a_set_is_stored_whole_then_by_difference() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let old: Vec<_> = (0..200).map(application).collect();
    let mut new = old.clone();
    new.retain(|entry| entry.name != old[7].name);
    new.push(application(500));
    new.sort();
    fleet.store(update(device, 1, None, &old));
    fleet.store(update(device, 2, Some(&old), &new));
    assert_eq!(fleet.inventory_of(device), new);
    let record = fleet.table().get(device).unwrap();
    assert_eq!(record.section(Section::Inventory).digest, digest_of(&new));
    assert_eq!(record.section(Section::Inventory).revision, 2);
}

#[test]
fn a_difference_from_another_base_is_told_so() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let sets: Vec<Vec<_>> = [3, 4, 5].map(|count| (0..count).map(application).collect()).into();
    fleet.store(update(device, 1, None, &sets[0]));
    let outcome = fleet.apply(update(device, 2, Some(&sets[1]), &sets[2]));
    assert_eq!(outcome, SectionOutcome::BaseUnknown);
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
        assert_eq!(fleet.apply(bad), SectionOutcome::DigestMismatch);
    }
    assert_eq!(fleet.inventory_of(device), old);
    fleet.check_counts(&BTreeMap::from([(device, old.into_iter().collect())]));
    assert!(matches!(fleet.apply(good), SectionOutcome::Stored(_)));
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
        fleet.devices().remove(*device, crate::wire::time::WallTime(1)).unwrap();
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

/// Two applications that were made to have one digest: 2^32 tries.
fn colliding() -> [Application; 2] {
    ["giebokniacgfbjph", "lhcmnihbmadpnncj"].map(|name| Application {
        name: name.into(),
        version: "1".into(),
        publisher: String::new(),
    })
}

#[test]
fn an_application_with_the_digest_of_another_is_stored_beside_it_and_shown_as_what_it_is() {
    let mut fleet = Fleet::new(3);
    let [bad, good] = colliding();
    assert_eq!(bad.digest(), good.digest());
    let with = |more: &[&Application]| {
        let mut set: Vec<_> = (0..20).map(application).chain(more.iter().copied().cloned()).collect();
        set.sort();
        set
    };
    let devices = fleet.devices.clone();
    let (bad_set, good_set, plain) = (with(&[&bad]), with(&[&good]), with(&[]));
    let stored = |fleet: &Fleet, update| assert!(matches!(fleet.apply(update), SectionOutcome::Stored(_)));
    stored(&fleet, update(devices[0], 1, None, &bad_set));
    stored(&fleet, update(devices[1], 1, None, &plain));
    stored(&fleet, update(devices[1], 2, Some(&plain), &good_set));
    assert_eq!(fleet.inventory_of(devices[1]), good_set, "not the other's, though the digests are equal");
    assert_eq!(fleet.inventory_of(devices[0]), bad_set);
    // One device has both, and says which one goes by a digest that both have: it is asked for the whole.
    let both = with(&[&bad, &good]);
    stored(&fleet, update(devices[2], 1, None, &both));
    assert_eq!(fleet.inventory_of(devices[2]), both);
    let less = update(devices[2], 2, Some(&both), &good_set);
    assert_eq!(fleet.apply(less), SectionOutcome::BaseUnknown);
    stored(&fleet, update(devices[2], 2, None, &good_set));
    stored(&fleet, update(devices[1], 3, Some(&good_set), &plain));
    let sets = [(devices[0], &bad_set), (devices[1], &plain), (devices[2], &good_set)];
    fleet.check_counts(&sets.map(|(device, set)| (device, set.iter().cloned().collect())).into());
    fleet.reopen();
    assert_eq!((fleet.inventory_of(devices[0]), fleet.inventory_of(devices[2])), (bad_set, good_set));
}

#[test]
fn a_set_with_the_sum_of_another_does_not_keep_alike_devices_from_sharing_a_base() {
    let fleet = Fleet::new(13);
    let set: Vec<_> = (0..200).map(application).collect();
    fleet.apply(update(fleet.devices[0], 1, None, &(300..500).map(application).collect::<Vec<_>>()));
    // Sets of one sum are found in seconds, by their thousands: here the file says that they were.
    let path = fleet.directory.path().join(crate::store::FILE_NAME);
    let file = rusqlite::Connection::open(path).unwrap();
    let digest = digest_of(&set).0.cast_signed();
    assert_eq!(file.execute("UPDATE inventory_bases SET digest = ?1", [digest]).unwrap(), 1);
    for device in &fleet.devices[1..12] {
        fleet.store(update(*device, 1, None, &set));
    }
    assert_eq!(fleet.counts().inventory_bases, 2, "one for the first, one for all that are alike");
    assert_eq!(fleet.inventory_of(fleet.devices[11]), set);
    // Nor from sharing that of others who have nearly the same.
    let (other, nearly) = (fleet.devices[12], &set[1..]);
    let digest = digest_of(nearly).0.cast_signed();
    let first = "UPDATE inventory_bases SET digest = ?1 WHERE id = (SELECT min(id) FROM inventory_bases)";
    assert_eq!(file.execute(first, [digest]).unwrap(), 1);
    fleet.store(update(other, 1, None, nearly));
    assert_eq!(fleet.counts().inventory_bases, 2);
    assert_eq!(fleet.inventory_of(other), nearly);
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
                    let is_stored = matches!(outcome, SectionOutcome::Stored(_));
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
