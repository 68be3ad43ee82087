//! Tokens that are bound, records that are taken over, devices that wait for approval.

use crate::fleet::filter::Filter;
use crate::fleet::status::{Cause, Reason};
use crate::machine::clones::StoredWatch;
use crate::machine::device_state::CertificateStatus;
use crate::store::query::{self, DeviceKey};
use crate::store::testing::{Fleet, all, application, enrolment, inventory, token, wait};
use crate::store::{
    Among, CreatedToken, DeviceCertificate, DeviceChange, EnrolledDevice, Enrolment, GroupChange, Invited,
    Moment, NewToken, StoreError, TokenRefusal, UNKNOWN_MAX, UnknownDevice, Verdict, WAITING_MAX,
};
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::status::Status;
use crate::wire::time::WallTime;

const NOW: WallTime = WallTime(1_500);

fn new(uses_max: u32) -> NewToken {
    let (created_at, expires_at) = (WallTime(1_000), WallTime(2_000));
    NewToken { group: "/shops".into(), created_at, expires_at, uses_max, ..NewToken::default() }
}

fn of_names(fleet: &Fleet, names: &str) -> CreatedToken {
    let new = NewToken { names: Some(names.into()), ..new(10) };
    fleet.devices().create_token(new).unwrap()
}

fn for_approval(fleet: &Fleet, uses_max: u32) -> CreatedToken {
    fleet.devices().create_token(NewToken { approval: true, ..new(uses_max) }).unwrap()
}

fn re_enrolment(fleet: &Fleet, device: DeviceId) -> CreatedToken {
    fleet.devices().create_token(NewToken { device: Some(device), ..new(1) }).unwrap()
}

#[test]
fn a_token_for_certain_names_lets_no_other_in_and_nobody_under_a_number() {
    let fleet = Fleet::new(0);
    let token = of_names(&fleet, "kiosk-1?");
    let refused = |name: &str| {
        let (names, name) = ("kiosk-1?".to_owned(), name.to_owned());
        Err(StoreError::Token(TokenRefusal::Name { names, name }))
    };
    for name in ["desk-17", "kiosk-1", ""] {
        assert_eq!(fleet.enrol(&token, DeviceId(1), name).map(drop), refused(name));
        let check = fleet.devices().check_token(token.token.id, &token.secret, name, NOW);
        assert_eq!(check.map(drop), refused(name));
    }
    let enrolled = fleet.enrol(&token, DeviceId(1), "Kiosk-17").unwrap();
    assert_eq!((enrolled.name.as_str(), enrolled.group.as_str()), ("Kiosk-17", "/shops"));
    // One that was reimaged would come back as kiosk-17-2.
    let taken = fleet.enrol(&token, DeviceId(2), "kiosk-17").unwrap_err();
    assert!(taken.to_string().contains("'musterctl device re-enrol'"), "{taken}");
    let listed = query::tokens(&fleet.reader().unwrap(), &all(), NOW).unwrap().items;
    let listed = listed.iter().find(|listed| listed.id == token.token.id).unwrap();
    assert_eq!((listed.used, listed.names.as_deref()), (1, Some("kiosk-1?")), "a refusal uses nothing up");
    // A peer without the secret is not told the names.
    let stranger = fleet.devices().check_token(token.token.id, &[0; 24], "desk-17", NOW);
    assert_eq!(stranger, Err(StoreError::Token(TokenRefusal::Unknown)));
    for bad in ["", " a", "a\nb", &"x".repeat(256)] {
        let bad = NewToken { names: Some(bad.into()), ..new(1) };
        assert!(matches!(fleet.devices().create_token(bad), Err(StoreError::BadPattern(_))));
    }
}

/// The enrolment of a machine that takes the record of a device over.
fn other_machine(token: &CreatedToken, device: DeviceId, counter: u32) -> Enrolment {
    let mut enrolment = enrolment(token, device, "localhost");
    enrolment.certificate.hash = CertificateHash::of(format!("another machine {counter}").as_bytes());
    enrolment.certificate.counter = counter;
    enrolment
}

fn take_over(fleet: &Fleet, enrolment: Enrolment) -> Result<EnrolledDevice, StoreError> {
    wait(|done| fleet.devices().enrol(enrolment, done))
}

#[test]
fn a_record_that_is_taken_over_keeps_all_and_its_old_certificate_is_dead_at_that_moment() {
    let mut fleet = Fleet::new(2);
    let device = fleet.devices[0];
    fleet
        .devices()
        .change(device, DeviceChange { group: Some("/shops".into()), ..DeviceChange::default() })
        .unwrap();
    let set: Vec<_> = (0..3).map(application).collect();
    fleet.store(inventory(device, 1, None, &set));
    let old = CertificateHash::of(&device.0.to_be_bytes());
    let reasons = vec![Reason { level: Status::Warning, cause: Cause::EventsHeld { since: NOW } }];
    let verdict = Verdict { device, status: Status::Warning, reasons };
    wait(|done| fleet.devices().set_statuses(vec![verdict], NOW, done)).unwrap();
    let token = re_enrolment(&fleet, device);
    assert_eq!((token.token.device, token.token.group.as_str()), (Some(device), "/shops"));
    assert_eq!(token.token.device_name.as_deref(), Some("device"));
    let invited = fleet.devices().check_token(token.token.id, &token.secret, "localhost", NOW).unwrap();
    assert_eq!(invited, Invited { device: Some(device), counter: 1 << 16 });
    let new = other_machine(&token, device, invited.counter);
    let certificate = new.certificate.hash;
    // A counter that is not above all others would let the old machine in with it.
    let mut stale = new.clone();
    stale.certificate.counter = 1;
    assert_eq!(take_over(&fleet, stale).map(drop), Err(StoreError::CounterTaken(device)));
    assert_eq!(fleet.table().by_certificate(&old), CertificateStatus::Known(device));

    let enrolled = take_over(&fleet, new).unwrap();
    assert_eq!(
        (enrolled.device, enrolled.name.as_str(), enrolled.group.as_str()),
        (device, "device", "/shops")
    );
    for _ in 0..2 {
        assert_eq!(fleet.table().by_certificate(&old), CertificateStatus::Unknown);
        assert_eq!(fleet.table().by_certificate(&certificate), CertificateStatus::Known(device));
        assert_eq!((fleet.table().certificate_floor(device), fleet.table().len()), (invited.counter, 2));
        assert_eq!(fleet.table().certificate_floor(fleet.devices[1]), 0);
        assert_eq!(fleet.inventory_of(device).len(), 3, "its history stays");
        let judged = fleet.devices().facts_of(&[device], NOW).unwrap();
        assert_eq!(judged[0].device_status.reasons, [], "what was against the old machine");
        fleet.reopen();
    }
    // One of the old machine that came by while that was stored, as after a restore, is as dead.
    let late = DeviceCertificate { counter: 1, ..DeviceCertificate::first(CertificateHash::of(b"late")) };
    fleet.devices().admit_certificate(device, late, |_| {});
    fleet.set_meta("behind it", b"").unwrap();
    assert_eq!(fleet.table().by_certificate(&late.hash), CertificateStatus::Unknown);
    // So is one that this server does not know, as it was restored from before the old machine's renewals.
    for counter in [1, 1_000, (1 << 16) - 1] {
        assert_eq!(fleet.table().by_number(device, counter), CertificateStatus::Superseded(device));
    }
    let second = take_over(&fleet, other_machine(&token, device, invited.counter + 1));
    assert_eq!(second.map(drop), Err(StoreError::Token(TokenRefusal::UsedUp)));
    let again = re_enrolment(&fleet, device);
    let invited = fleet.devices().check_token(again.token.id, &again.secret, "", NOW).unwrap();
    assert_eq!(invited.counter, 2 << 16);
    // A device that is gone has no record to be taken over.
    fleet.devices().remove(device, NOW).unwrap();
    let gone = take_over(&fleet, other_machine(&again, device, invited.counter));
    assert_eq!(gone.map(drop), Err(StoreError::Token(TokenRefusal::Revoked)));
    assert!(!fleet.devices().is_enrolment_open(NOW), "no token lets anybody in");
}

#[test]
fn what_is_known_of_copies_is_stored_and_goes_with_the_record() {
    let mut fleet = Fleet::new(4);
    let [taken_over, removed, settled, watched] = fleet.devices[..] else { panic!("four devices") };
    let stored = |device: DeviceId| StoredWatch {
        remembered_until: WallTime(device.0),
        forks_until: NOW,
        history: device.0.to_be_bytes().to_vec(),
    };
    let set = |fleet: &Fleet, rows| wait(|done| fleet.devices().set_clone_watch(rows, done)).unwrap();
    set(&fleet, fleet.devices.iter().map(|device| (*device, Some(stored(*device)))).collect());
    let token = re_enrolment(&fleet, taken_over);
    take_over(&fleet, other_machine(&token, taken_over, 1 + (1 << 16))).unwrap();
    fleet.devices().remove(removed, NOW).unwrap();
    // A row that was on its way meanwhile comes too late for one that is gone.
    set(&fleet, vec![(settled, None), (removed, Some(stored(removed)))]);
    for _ in 0..2 {
        assert_eq!(fleet.devices().clone_watch().unwrap(), [(watched, stored(watched))]);
        fleet.reopen();
    }
}

#[test]
fn of_two_machines_with_one_token_one_takes_the_record_over() {
    let fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let token = re_enrolment(&fleet, device);
    let (sender, outcomes) = crossbeam_channel::bounded(2);
    for number in 0..2_u8 {
        // Both were issued the same counter before either was stored.
        let certificate = CertificateHash::of(&[number]);
        let mut enrolment = other_machine(&token, device, 2);
        enrolment.certificate.hash = certificate;
        let sender = sender.clone();
        fleet.devices().enrol(enrolment, move |outcome| sender.send((certificate, outcome)).unwrap());
    }
    let outcomes: Vec<_> = (0..2).map(|_| outcomes.recv().unwrap()).collect();
    for (certificate, outcome) in outcomes {
        let status = fleet.table().by_certificate(&certificate);
        match outcome {
            Ok(_) => assert_eq!(status, CertificateStatus::Known(device)),
            Err(error) => {
                assert_eq!(error, StoreError::Token(TokenRefusal::UsedUp));
                assert_eq!(status, CertificateStatus::Unknown);
            }
        }
    }
}

#[test]
fn a_device_that_waits_is_nothing_but_that_until_it_is_approved() {
    let mut fleet = Fleet::new(1);
    let change = GroupChange { keep_connected: Some(Some(true)), interval_seconds: Some(Some(60)) };
    fleet.devices().set_group("/shops", change).unwrap();
    let token = for_approval(&fleet, 3);
    let enrolled = fleet.enrol(&token, DeviceId(7), "kiosk").unwrap();
    assert!(enrolled.is_waiting);
    let certificate = CertificateHash::of(&7_u64.to_be_bytes());
    for _ in 0..2 {
        assert_eq!(fleet.table().by_certificate(&certificate), CertificateStatus::Waiting(DeviceId(7)));
        assert_eq!(fleet.table().persistent(), 0, "no room is kept for it");
        let moment = Moment { now: NOW, present_since: NOW };
        let ids = |among| fleet.selection().ids(&Filter::default(), among, moment).unwrap();
        assert_eq!(ids(Among::Approved), fleet.devices, "it is not called");
        assert_eq!(ids(Among::Waiting), [DeviceId(7)]);
        assert_eq!(ids(Among::All), [fleet.devices[0], DeviceId(7)]);
        assert_eq!(fleet.names("presence:waiting"), ["kiosk"]);
        let shown = query::device(&fleet.reader().unwrap(), &DeviceKey::Id(DeviceId(7))).unwrap();
        assert_eq!(shown.waits, Some((NOW, false)));
        let facts = fleet.devices().facts_of(&[DeviceId(7)], NOW).unwrap();
        assert_eq!(facts[0].facts.waits, Some((NOW, false)));
        fleet.reopen();
    }
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    fleet.devices().change(DeviceId(7), keep).unwrap();
    assert_eq!(fleet.table().persistent(), 0);
    assert_eq!(
        fleet.devices().create_token(NewToken { device: Some(DeviceId(7)), ..new(1) }).map(drop),
        Err(StoreError::Waits("kiosk".into()))
    );
    let approval = DeviceChange { name: Some("kiosk-17".into()), ..DeviceChange::default() };
    fleet.devices().approve(DeviceId(7), approval).unwrap();
    for _ in 0..2 {
        assert_eq!(fleet.table().by_certificate(&certificate), CertificateStatus::Known(DeviceId(7)));
        let record = fleet.table().get(DeviceId(7)).unwrap();
        assert_eq!((record.keep_connected, record.interval_seconds()), (true, 60));
        fleet.reopen();
    }
    let again = fleet.devices().approve(DeviceId(7), DeviceChange::default());
    assert_eq!(again, Err(StoreError::NotWaiting("kiosk-17".into())));
    // One that is not wanted.
    fleet.enrol(&token, DeviceId(8), "kiosk").unwrap();
    fleet.devices().remove(DeviceId(8), NOW).unwrap();
    let status = fleet.table().by_certificate(&CertificateHash::of(&8_u64.to_be_bytes()));
    assert_eq!(status, CertificateStatus::Removed(DeviceId(8)));
    let refused = fleet.devices().approve(DeviceId(8), DeviceChange::default());
    assert_eq!(refused, Err(StoreError::DeviceRemoved(DeviceId(8))));
}

#[test]
fn all_that_wait_are_approved_or_none() {
    let mut fleet = Fleet::new(1);
    let change = GroupChange { keep_connected: Some(Some(true)), ..GroupChange::default() };
    fleet.devices().set_group("/kept", change).unwrap();
    fleet.devices().set_persistent_max(1).unwrap();
    let token = for_approval(&fleet, 3);
    let waiting = [7, 8, 9].map(DeviceId);
    waiting.iter().for_each(|device| drop(fleet.enrol(&token, *device, "kiosk").unwrap()));
    let full = fleet.devices().approve_all(waiting.to_vec(), Some("/kept".into()));
    assert!(matches!(full, Err(StoreError::TooManyPersistent { .. })), "{full:?}");
    assert_eq!(fleet.names("presence:waiting").len(), 3);
    assert!(waiting.iter().all(|device| fleet.table().get(*device).unwrap().is_waiting()));
    fleet.devices().remove(waiting[1], NOW).unwrap();
    let others = [fleet.devices[0], DeviceId(77)];
    let (approved, _) =
        fleet.devices().approve_all([&others[..], &waiting].concat(), Some("/in".into())).unwrap();
    assert_eq!(approved, [waiting[0], waiting[2]], "others are passed over");
    for _ in 0..2 {
        assert_eq!(fleet.names("presence:waiting"), [""; 0]);
        assert_eq!(fleet.names("group:/in").len(), 2);
        assert!(approved.iter().all(|device| !fleet.table().get(*device).unwrap().is_waiting()));
        fleet.reopen();
    }
}

#[test]
fn ten_thousand_devices_may_wait_and_not_one_more_until_there_is_room() {
    let fleet = Fleet::new(0);
    let approved = for_approval(&fleet, u32::MAX);
    let (sender, outcomes) = crossbeam_channel::unbounded();
    let mut entered = 0;
    for batch in 0..10 {
        for number in 0..1_000_u64 {
            let device = DeviceId((1 + batch * 1_000 + number) << 33);
            let sender = sender.clone();
            let done = move |outcome: Result<EnrolledDevice, _>| sender.send(outcome.map(drop)).unwrap();
            fleet.devices().enrol(enrolment(&approved, device, "kiosk"), done);
        }
        entered += (0..1_000).filter(|_| outcomes.recv().unwrap().is_ok()).count();
    }
    assert_eq!(entered as u64, WAITING_MAX);
    let full = fleet.enrol(&approved, DeviceId(7), "kiosk").map(drop);
    assert_eq!(full, Err(StoreError::TooManyWaiting(WAITING_MAX)));
    // Those that come without waiting are let in all the same.
    fleet.enrol(&token(&fleet, 1), DeviceId(7), "kiosk").unwrap();
    fleet.devices().approve(DeviceId(1 << 33), DeviceChange::default()).unwrap();
    fleet.enrol(&approved, DeviceId(9), "kiosk").unwrap();
}

fn unknown(id: u64) -> UnknownDevice {
    let hash = CertificateHash::of(&(id << 33).to_be_bytes());
    UnknownDevice { device: DeviceId(id << 33), certificate: DeviceCertificate::first(hash), now: NOW }
}

fn offer(fleet: &Fleet, unknown: UnknownDevice) -> Result<bool, StoreError> {
    wait(|done| fleet.devices().offer(unknown, done))
}

#[test]
fn a_device_that_is_not_known_any_more_waits_and_is_itself_when_it_is_approved() {
    let mut fleet = Fleet::new(1);
    let lost = unknown(50);
    assert_eq!(offer(&fleet, lost), Ok(true));
    assert_eq!(offer(&fleet, lost), Ok(false), "it comes each minute");
    let name = format!("device-{}", lost.device);
    for _ in 0..2 {
        assert_eq!(
            fleet.table().by_certificate(&lost.certificate.hash),
            CertificateStatus::Waiting(lost.device)
        );
        let facts = fleet.devices().facts_of(&[lost.device], NOW).unwrap();
        assert_eq!(facts[0].facts.waits, Some((NOW, true)));
        let rows = fleet.page("", "name", &all()).unwrap().items;
        assert_eq!((rows[1].name.as_str(), rows[1].group.as_str()), (name.as_str(), "/"));
        fleet.reopen();
    }
    let approval = DeviceChange {
        name: Some("kiosk-17".into()),
        group: Some("/shops".into()),
        ..DeviceChange::default()
    };
    fleet.devices().approve(lost.device, approval).unwrap();
    for _ in 0..2 {
        assert_eq!(
            fleet.table().by_certificate(&lost.certificate.hash),
            CertificateStatus::Known(lost.device)
        );
        fleet.reopen();
    }
    // An older certificate of a device that was removed is a removed device's.
    fleet.devices().remove(lost.device, NOW).unwrap();
    let older =
        UnknownDevice { certificate: DeviceCertificate::first(CertificateHash::of(b"older")), ..lost };
    assert_eq!(offer(&fleet, older), Ok(false));
    for _ in 0..2 {
        assert_eq!(
            fleet.table().by_certificate(&older.certificate.hash),
            CertificateStatus::Removed(lost.device)
        );
        fleet.reopen();
    }
}

#[test]
fn a_thousand_devices_that_are_not_known_any_more_may_wait_and_one_that_is_given_up_comes_anew() {
    let fleet = Fleet::new(0);
    let (sender, outcomes) = crossbeam_channel::unbounded();
    for id in 1..=UNKNOWN_MAX {
        let sender = sender.clone();
        fleet.devices().offer(unknown(id), move |is_new| sender.send(is_new).unwrap());
    }
    (0..UNKNOWN_MAX).for_each(|_| assert_eq!(outcomes.recv().unwrap(), Ok(true)));
    let one_more = unknown(UNKNOWN_MAX + 1);
    assert_eq!(offer(&fleet, one_more), Err(StoreError::TooManyWaiting(UNKNOWN_MAX)));
    assert_eq!(fleet.table().by_certificate(&one_more.certificate.hash), CertificateStatus::Unknown);
    // Those that enrol have room of their own.
    fleet.enrol(&for_approval(&fleet, 1), DeviceId(7), "kiosk").unwrap();
    let given_up = unknown(1);
    fleet.devices().give_up_waiting(given_up.device, true, NOW).unwrap();
    assert_eq!(fleet.table().by_certificate(&given_up.certificate.hash), CertificateStatus::Unknown);
    assert_eq!(fleet.table().len() as u64, UNKNOWN_MAX);
    assert_eq!((offer(&fleet, one_more), offer(&fleet, given_up).is_err()), (Ok(true), true));
    fleet.devices().approve(one_more.device, DeviceChange::default()).unwrap();
    assert_eq!(offer(&fleet, given_up), Ok(true));
    // One that enrolled stays away for good.
    fleet.devices().give_up_waiting(DeviceId(7), false, NOW).unwrap();
    let status = fleet.table().by_certificate(&CertificateHash::of(&7_u64.to_be_bytes()));
    assert_eq!(status, CertificateStatus::Removed(DeviceId(7)));
}

/// The server was restored from before the enrolment: the machine that took the record over is offered, and
/// the one of before stays out.
#[test]
fn a_device_that_is_offered_after_a_take_over_keeps_the_machine_of_before_out() {
    let mut fleet = Fleet::new(0);
    let device = DeviceId(7);
    let hash = CertificateHash::of(b"after");
    let certificate = DeviceCertificate { counter: 0x5_0002, ..DeviceCertificate::first(hash) };
    let unknown = UnknownDevice { device, certificate, now: NOW };
    assert_eq!(wait(|done| fleet.devices().offer(unknown, done)), Ok(true));
    for _ in 0..2 {
        for dead in [1, 0x4_ffff] {
            assert_eq!(fleet.table().by_number(device, dead), CertificateStatus::Superseded(device));
        }
        assert_eq!(fleet.table().by_number(device, 0x5_0000), CertificateStatus::Waiting(device));
        fleet.reopen();
    }
}
