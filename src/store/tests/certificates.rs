//! Certificates of devices: renewed, proved, restored from copies.

use rusqlite::Connection;

use crate::fleet::renewal::Life;
use crate::fleet::status::{Cause, Reason};
use crate::machine::clones::StoredWatch;
use crate::machine::device_state::CertificateStatus;
use crate::store::testing::{Fleet, wait};
use crate::store::{DeviceCertificate, FILE_NAME, Store, StoreError, Verdict};
use crate::wire::certificate::KeyType;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::status::Status;
use crate::wire::time::WallTime;

const NOW: WallTime = WallTime(1_795_514_400_000);

fn certificate(counter: u32) -> DeviceCertificate {
    DeviceCertificate {
        hash: CertificateHash::of(&counter.to_be_bytes()),
        counter,
        key_type: KeyType::P256,
        life: Some(Life { issued_at: NOW, expires_at: WallTime(NOW.0 + 1_000) }),
    }
}

fn first(device: DeviceId) -> CertificateHash {
    CertificateHash::of(&device.0.to_be_bytes())
}

fn renew(fleet: &Fleet, counter: u32) -> Result<(), StoreError> {
    let device = fleet.devices[0];
    wait(|done| fleet.devices().renew_certificate(device, certificate(counter), done))
}

/// Waits until everything that was handed in before is done.
fn settle(store: &Store) {
    store.devices().remove(DeviceId(999), NOW).unwrap_err();
}

fn known(store: &Store, hashes: &[CertificateHash]) -> Vec<bool> {
    let is_known = |hash| matches!(store.table().by_certificate(hash), CertificateStatus::Known(_));
    hashes.iter().map(is_known).collect()
}

#[test]
fn a_renewed_certificate_stands_beside_the_one_in_use_until_it_is_shown_also_after_a_restart() {
    let mut fleet = Fleet::new(2);
    let device = fleet.devices[0];
    let hashes = [first(device), certificate(2).hash, certificate(3).hash];
    renew(&fleet, 2).unwrap();
    assert_eq!(known(&fleet, &hashes), [true, true, false]);
    renew(&fleet, 3).unwrap();
    assert_eq!(known(&fleet, &hashes), [true, true, true]);
    assert_eq!(renew(&fleet, 3), Err(StoreError::IdTaken));
    fleet.reopen();
    assert_eq!(known(&fleet, &hashes), [true, true, true]);
    // The old one is shown: nothing is forgotten. The new one is: the old one goes.
    fleet.devices().certificate_shown(device, hashes[0], |_| panic!("it is not the newest"));
    settle(&fleet);
    assert_eq!(known(&fleet, &hashes), [true, true, true]);
    fleet.table().with(device, |record| record.set_to_renew(true));
    let newest = wait(|done| fleet.devices().certificate_shown(device, hashes[2], done));
    assert_eq!((newest, known(&fleet, &hashes)), (3, vec![false, false, true]));
    assert!(!fleet.table().get(device).unwrap().is_to_renew(), "it is done");
    assert_eq!(fleet.devices().newest_certificate(device).unwrap(), (Some(certificate(3)), 4));
    // With one alone a handshake asks nobody.
    fleet.devices().certificate_shown(device, hashes[2], |_| panic!("there is one alone"));
    fleet.reopen();
    assert_eq!(known(&fleet, &hashes), [false, false, true]);
    assert_eq!(known(&fleet, &[first(fleet.devices[1])]), [true], "another device's is its own");
}

#[test]
fn of_many_renewed_ones_that_were_never_shown_the_oldest_makes_room() {
    let fleet = Fleet::new(1);
    (2..9).for_each(|counter| renew(&fleet, counter).unwrap());
    let hashes: Vec<_> = (2..9).map(|counter| certificate(counter).hash).collect();
    assert_eq!(known(&fleet, &[first(fleet.devices[0])]), [true], "the one in use");
    assert_eq!(known(&fleet, &hashes), [false, false, false, false, true, true, true]);
}

/// The server was restored: the device renews on the very link on which its certificate was noted.
#[test]
fn the_certificate_in_use_stays_when_the_server_knew_only_an_older_one() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    fleet.devices().admit_certificate(device, certificate(5), |_| {});
    renew(&fleet, 6).unwrap();
    let hashes = [first(device), certificate(5).hash, certificate(6).hash];
    assert_eq!(known(&fleet, &hashes), [false, true, true]);
    // The device was restored: it shows an older one than the newest.
    fleet.devices().admit_certificate(device, certificate(4), |_| {});
    renew(&fleet, 7).unwrap();
    assert_eq!(known(&fleet, &[certificate(4).hash]), [true]);
}

#[test]
fn what_is_shown_while_a_newer_one_is_being_stored_forgets_nothing() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    renew(&fleet, 2).unwrap();
    fleet.devices().certificate_shown(device, certificate(2).hash, |_| {});
    renew(&fleet, 3).unwrap();
    settle(&fleet);
    let hashes = [first(device), certificate(2).hash, certificate(3).hash];
    assert_eq!(known(&fleet, &hashes), [false, true, true]);
}

#[test]
fn a_certificate_of_before_or_after_a_restore_is_let_in_and_few_of_one_device_are_kept() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    assert_eq!(fleet.table().by_number(device, 7), CertificateStatus::Known(device));
    let in_use = wait(|done| fleet.devices().admit_certificate(device, certificate(7), done));
    assert_eq!(in_use, 1);
    assert_eq!(known(&fleet, &[certificate(7).hash]), [true]);
    for counter in 8..20 {
        let counter = 27 - counter;
        fleet.devices().admit_certificate(device, certificate(counter), |_| {});
        assert_eq!(known(&fleet, &[certificate(counter).hash]), [true], "at once");
    }
    settle(&fleet);
    let hashes: Vec<_> = (7..20).map(|counter| certificate(counter).hash).collect();
    let count = known(&fleet, &hashes).iter().filter(|is_known| **is_known).count();
    assert_eq!(count, 4, "of thirteen");
    assert_eq!(renew(&fleet, 20), Ok(()));
    assert_eq!(wait(|done| fleet.devices().certificate_shown(device, certificate(20).hash, done)), 20);
    assert_eq!(known(&fleet, &hashes), [false; 13]);
}

/// The server was restored from a copy that is older than a take-over: the other machine's certificate says
/// so.
#[test]
fn what_died_with_a_take_over_that_is_not_known_any_more_dies_again_when_the_other_machine_comes() {
    let mut fleet = Fleet::new(1);
    let device = fleet.devices[0];
    renew(&fleet, 2).unwrap();
    let hashes = [first(device), certificate(3).hash, certificate(0x5_0003).hash];
    let watch = StoredWatch { remembered_until: NOW, forks_until: NOW, history: vec![1] };
    wait(|done| fleet.devices().set_clone_watch(vec![(device, Some(watch))], done)).unwrap();
    let reasons = vec![Reason { level: Status::Warning, cause: Cause::EventsHeld { since: NOW } }];
    let verdict = Verdict { device, status: Status::Warning, reasons };
    wait(|done| fleet.devices().set_statuses(vec![verdict], NOW, done)).unwrap();
    let against = |fleet: &Fleet| {
        let judged = fleet.devices().facts_of(&[device], NOW).unwrap();
        (fleet.devices().clone_watch().unwrap().len(), judged[0].device_status.reasons.len())
    };
    fleet.devices().admit_certificate(device, certificate(3), |_| {});
    settle(&fleet);
    assert_eq!((against(&fleet), fleet.table().has_taken_over(device, 0x5_0003)), ((1, 1), true));
    fleet.devices().admit_certificate(device, certificate(0x5_0003), |_| {});
    settle(&fleet);
    for _ in 0..2 {
        assert_eq!((against(&fleet), fleet.table().has_taken_over(device, 0x5_0007)), ((0, 0), false));
        assert_eq!(known(&fleet, &hashes), [false, false, true]);
        for dead in [2, 3, 0x4_ffff] {
            assert_eq!(fleet.table().by_number(device, dead), CertificateStatus::Superseded(device));
        }
        assert_eq!(fleet.table().by_number(device, 0x5_0000), CertificateStatus::Known(device));
        fleet.reopen();
    }
}

#[test]
fn certificates_of_a_removed_device_and_dead_ones_stay_out_also_after_a_restart() {
    let mut fleet = Fleet::new(2);
    let [removed, taken_over] = [fleet.devices[0], fleet.devices[1]];
    fleet.devices().remove(removed, NOW).unwrap();
    let sql = "UPDATE devices SET certificate_floor = 3 WHERE id = ?1";
    let file = Connection::open(fleet.directory.path().join(FILE_NAME)).unwrap();
    file.execute(sql, [taken_over]).unwrap();
    drop(file);
    assert_eq!(fleet.table().by_number(removed, 9), CertificateStatus::Removed(removed));
    fleet.reopen();
    assert_eq!(fleet.table().by_number(removed, 9), CertificateStatus::Removed(removed));
    assert_eq!(fleet.table().by_number(taken_over, 2), CertificateStatus::Superseded(taken_over));
    assert_eq!(fleet.table().by_number(taken_over, 3), CertificateStatus::Known(taken_over));
    assert_eq!(fleet.table().by_number(DeviceId(999), 1), CertificateStatus::Unknown);
}
