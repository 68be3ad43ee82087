//! Tokens, enrolment, changes, write-back, and the writer's promises.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::machine::device_state::CertificateStatus;
use crate::machine::device_state::DeviceState;
use crate::machine::wall_clock::Stretch;
use crate::store::table::SHARDS;
use crate::store::testing::{Fleet, enrolment, token, wait};
use crate::store::{
    CreatedToken, DeviceChange, EnrolledDevice, FILE_NAME, GroupChange, NewToken, Store, StoreError,
    TokenRefusal, query,
};
use crate::wire::api::TokenState;
use crate::wire::id::{CertificateHash, DeviceId, Epoch, TokenId};
use crate::wire::time::WallTime;

const NEVER: Stretch = Stretch { since: WallTime(0), until: WallTime(0) };

#[test]
fn a_store_opens_again_with_the_same_epoch_and_draws_another_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let epoch = Store::open(directory.path()).unwrap().server_epoch().unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.server_epoch().unwrap(), epoch);
    let renewed = wait(|done| store.renew_server_epoch(done)).unwrap();
    assert_ne!(renewed, epoch);
    assert_eq!(store.server_epoch().unwrap(), renewed);
    let mode = std::fs::metadata(directory.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_of_another_program_or_a_newer_muster_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::Open { .. })));
    std::fs::remove_file(&path).unwrap();
    drop(Store::open(directory.path()).unwrap());
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = Store::open(directory.path());
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 99, .. })));
    std::fs::write(&path, b"This is no database, whatever its name says. ".repeat(100)).unwrap();
    assert!(Store::open(directory.path()).is_err());
}

#[test]
fn a_token_lets_in_until_its_time_its_uses_or_an_administrator_end_it() {
    let fleet = Fleet::new(1);
    let token = token(&fleet, 1);
    let check =
        |secret, now| fleet.devices().check_token(token.token.id, secret, "a", WallTime(now)).map(drop);
    let refused = |refusal: TokenRefusal| Err(StoreError::Token(refusal));
    assert_eq!(check(&token.secret, 1_999), Ok(()));
    assert_eq!(check(&token.secret, 2_000), refused(TokenRefusal::Expired));
    let is_open = |now| fleet.devices().is_enrolment_open(WallTime(now));
    assert_eq!((is_open(1_999), is_open(2_000)), (true, false));
    assert_eq!(check(&[0; 24], 1_500), refused(TokenRefusal::Unknown));
    let unknown = fleet.devices().check_token(TokenId(7), &token.secret, "a", WallTime(1_500)).map(drop);
    assert_eq!(unknown, refused(TokenRefusal::Unknown));
    fleet.enrol(&token, DeviceId(1), "a").unwrap();
    assert_eq!(check(&token.secret, 1_500), refused(TokenRefusal::UsedUp));
    assert!(!is_open(1_500));
    assert_eq!(fleet.enrol(&token, DeviceId(2), "b").map(drop), refused(TokenRefusal::UsedUp));
    let other = self::token(&fleet, 1);
    assert!(is_open(1_500));
    fleet.devices().revoke_token(other.token.id, WallTime(1_600)).unwrap();
    assert!(!is_open(1_500));
    let revoked = fleet.devices().revoke_token(token.token.id, WallTime(1_600)).unwrap();
    assert_eq!((revoked.used, revoked.state), (1, TokenState::Revoked));
    assert_eq!(check(&token.secret, 1_500), refused(TokenRefusal::Revoked));
    let missing = fleet.devices().revoke_token(TokenId(7), WallTime(1));
    assert_eq!(missing, Err(StoreError::NoToken(TokenId(7))));
}

#[test]
fn a_clock_that_was_ahead_leaves_no_token_longer_than_its_life_and_one_that_is_set_back_wakes_none() {
    let fleet = Fleet::new(0);
    let old = token(&fleet, 1);
    let ahead = NewToken {
        group: "/".into(),
        created_at: WallTime(900_000_000),
        expires_at: WallTime(900_003_600),
        uses_max: 1,
        ..NewToken::default()
    };
    let ahead = fleet.devices().create_token(ahead).unwrap();
    let check = |token: &CreatedToken, now| {
        fleet.devices().check_token(token.token.id, &token.secret, "a", WallTime(now)).map(drop)
    };
    let is_open = |now| fleet.devices().is_enrolment_open(WallTime(now));
    let expired = Err(StoreError::Token(TokenRefusal::Expired));
    // It was 5,000 by a clock that was right, and is 1,500 now.
    wait(|done| fleet.devices().correct_tokens(WallTime(5_000), NEVER, WallTime(1_500), done)).unwrap();
    assert_eq!(check(&old, 1_500), expired, "over is over");
    assert_eq!((check(&ahead, 1_500 + 3_599), check(&ahead, 1_500 + 3_600)), (Ok(()), expired.clone()));
    assert_eq!((is_open(1_500 + 3_599), is_open(1_500 + 3_600)), (true, false));
    // A clock that was never believed ends nothing.
    let new = token(&fleet, 1);
    wait(|done| fleet.devices().correct_tokens(WallTime(1_500), NEVER, WallTime(900_000_000), done)).unwrap();
    assert_eq!((check(&new, 900_000_000), check(&new, 1_999)), (expired, Ok(())));
}

#[test]
fn of_devices_that_race_for_a_token_exactly_its_uses_win() {
    let fleet = Fleet::new(0);
    let token = Arc::new(token(&fleet, 3));
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (1..=8)
            .map(|id| {
                let (store, token) = (fleet.clone(), Arc::clone(&token));
                scope.spawn(move || {
                    wait(|done| store.devices().enrol(enrolment(&token, DeviceId(id), "racer"), done))
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let mut names: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).map(|e| e.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["racer", "racer-2", "racer-3"]);
    assert_eq!(fleet.table().len(), 3);
    let used_up = outcomes.iter().filter(|o| **o == Err(StoreError::Token(TokenRefusal::UsedUp))).count();
    assert_eq!(used_up, 5);
}

#[test]
fn one_that_fails_takes_no_other_with_it() {
    let fleet = Fleet::new(1);
    let token = token(&fleet, 100);
    let (sender, receiver) = crossbeam_channel::unbounded();
    for number in 0..40_u64 {
        // Every other one asks for an id that is taken: its use of the token is undone with it.
        let id = if number % 2 == 0 { fleet.devices[0] } else { DeviceId(1_000 + number) };
        let sender = sender.clone();
        let mut enrolment = enrolment(&token, id, "n");
        enrolment.certificate.hash = CertificateHash::of(&number.to_be_bytes());
        fleet.devices().enrol(enrolment, move |outcome: Result<EnrolledDevice, StoreError>| {
            sender.send((number, outcome.map(drop))).unwrap();
        });
    }
    for (number, outcome) in receiver.iter().take(40) {
        let expected = if number % 2 == 0 { Err(StoreError::IdTaken) } else { Ok(()) };
        assert_eq!(outcome, expected, "{number}");
    }
    let uses = fleet.devices().revoke_token(token.token.id, WallTime(1)).unwrap().used;
    assert_eq!((uses, fleet.table().len()), (20, 21));
    assert_eq!(fleet.counters().refused.load(Ordering::Relaxed), 20);
}

#[test]
fn ten_thousand_of_one_name_stay_apart() {
    let fleet = Fleet::new(300);
    let reader = fleet.reader().unwrap();
    let names: i64 =
        reader.query_row("SELECT count(DISTINCT name) FROM devices", [], |row| row.get(0)).unwrap();
    assert_eq!(names, 300);
}

#[test]
fn a_change_is_in_force_in_the_table_and_after_a_reopening() {
    let mut fleet = Fleet::new(2);
    let [a, b] = [fleet.devices[0], fleet.devices[1]];
    let interval = |seconds| GroupChange { interval_seconds: Some(seconds), ..GroupChange::default() };
    fleet.devices().set_group("/berlin", interval(Some(60))).unwrap();
    let change = DeviceChange {
        name: Some("kiosk".into()),
        group: Some("berlin/kiosks".into()),
        keep_connected: Some(Some(true)),
        interval_seconds: None,
    };
    let settings = fleet.devices().change(a, change.clone()).unwrap().settings;
    assert_eq!((settings.interval_seconds, settings.keep_connected), (Some(60), true));
    assert_eq!(fleet.devices().change(b, change), Err(StoreError::NameTaken("kiosk".into())));
    for _ in 0..2 {
        let record = fleet.table().get(a).unwrap();
        assert_eq!((record.interval_seconds(), record.keep_connected), (60, true));
        assert_eq!(fleet.table().get(b).unwrap().interval_seconds(), 900);
        fleet.reopen();
    }
    fleet.devices().set_group("/berlin", interval(None)).unwrap();
    fleet.devices().set_default_interval(30).unwrap();
    assert_eq!(fleet.table().get(a).unwrap().interval_seconds(), 30);
    let own = DeviceChange { interval_seconds: Some(Some(5)), ..DeviceChange::default() };
    fleet.devices().change(a, own).unwrap();
    assert_eq!(fleet.table().get(a).unwrap().interval_seconds(), 5);
    let bad = DeviceChange { name: Some(" ".into()), ..DeviceChange::default() };
    assert_eq!(fleet.devices().change(a, bad), Err(StoreError::BadName(" ".into())));
}

#[test]
fn a_removed_device_is_known_as_removed_and_its_name_is_free() {
    let mut fleet = Fleet::new(1);
    let device = fleet.devices[0];
    let certificate = CertificateHash::of(&device.0.to_be_bytes());
    assert_eq!(fleet.table().by_certificate(&certificate), CertificateStatus::Known(device));
    assert!(fleet.devices().remove(device, WallTime(5)).unwrap().is_some());
    for _ in 0..2 {
        assert_eq!(fleet.table().by_certificate(&certificate), CertificateStatus::Removed(device));
        assert_eq!(fleet.devices().remove(device, WallTime(5)), Err(StoreError::DeviceRemoved(device)));
        fleet.reopen();
    }
    let token = token(&fleet, 1);
    let enrolled = fleet.enrol(&token, DeviceId(9), "device").unwrap();
    assert_eq!(enrolled.name, "device");
}

#[test]
fn sequence_numbers_come_back_with_their_position() {
    let mut fleet = Fleet::new(3);
    let device = fleet.devices[1];
    fleet.table().with(device, |record| {
        record.note_appended(Epoch(4), 17, 0xffff_0001, 640);
        record.last_seen = WallTime(99);
    });
    let unrecorded = |store: &Store| -> Vec<DeviceState> {
        let everywhere = |shard| store.table().unrecorded_in(shard, 0, WallTime(u64::MAX));
        (0..SHARDS).flat_map(everywhere).collect()
    };
    let records = unrecorded(&fleet);
    assert_eq!(records.len(), 1);
    wait(|done| fleet.devices().record_sequences(records, Some(600), done)).unwrap();
    fleet.reopen();
    assert_eq!(fleet.devices().journal_position().unwrap(), 600);
    let record = fleet.table().get(device).unwrap();
    assert_eq!((record.spool_epoch, record.last_sequence, record.last_crc), (Epoch(4), 17, 0xffff_0001));
    assert_eq!((record.last_position(), record.last_seen), (640, WallTime(99)));
}

#[test]
fn a_token_that_is_long_over_is_forgotten_when_another_is_made() {
    let fleet = Fleet::new(0);
    let first = token(&fleet, 1);
    let later = WallTime(2_001 + 30 * 24 * 3_600 * 1_000);
    let new = NewToken {
        group: "/x".into(),
        created_at: later,
        expires_at: later,
        uses_max: 1,
        ..NewToken::default()
    };
    assert_eq!(fleet.devices().create_token(new).unwrap().token.group, "/x");
    assert_eq!(fleet.counts().tokens, 1);
    let refused = fleet.devices().check_token(first.token.id, &first.secret, "a", later).map(drop);
    assert_eq!(refused, Err(StoreError::Token(TokenRefusal::Unknown)));
}

#[test]
fn a_completion_may_hold_the_last_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let held = store.clone();
    let (gone_sender, gone) = crossbeam_channel::bounded::<()>(0);
    let (ended_sender, ended) = crossbeam_channel::bounded(1);
    store.renew_server_epoch(move |outcome| {
        // Returns when the other clone is gone.
        let _ = gone.recv();
        drop(held);
        ended_sender.send(outcome).unwrap();
    });
    drop(store);
    drop(gone_sender);
    let epoch = ended.recv().unwrap().unwrap();
    assert_eq!(Store::open(directory.path()).unwrap().server_epoch().unwrap(), epoch);
}

#[test]
fn a_name_cannot_take_what_is_meant_for_the_id_of_another_device() {
    let fleet = Fleet::new(1);
    let meant = fleet.devices[0];
    let token = token(&fleet, 20);
    let enrol = |id: u64, name: &str| fleet.enrol(&token, DeviceId(id), name).unwrap().name;
    let upper = meant.to_string().to_uppercase();
    assert_eq!(enrol(51, &meant.to_string()), format!("device-{meant}"));
    assert_eq!(
        enrol(52, &format!("\u{200b}{upper}\n")),
        format!("device-{upper}-2"),
        "the same but for case"
    );
    assert_eq!(enrol(53, "0123456789abcde"), "0123456789abcde", "15 digits are no id");
    let rename = |device, name: &str| {
        let change = DeviceChange { name: Some(name.into()), ..DeviceChange::default() };
        fleet.devices().change(DeviceId(device), change)
    };
    for name in [&meant.to_string(), &upper, "ffffFFFFffffFFFF"] {
        let refused = rename(53, name).unwrap_err();
        assert_eq!(refused, StoreError::BadName(name.to_owned()));
        assert!(refused.to_string().contains("16 hexadecimal digits"), "{refused}");
    }
    // Nor what stands for the server in lists.
    assert_eq!(enrol(54, " (server)\n"), "device-(server)");
    assert_eq!(enrol(55, "Device:shop"), "device-Device:shop");
    for name in ["(server)", "device:shop"] {
        let refused = rename(53, name).unwrap_err();
        assert_eq!(refused, StoreError::BadName(name.to_owned()));
        assert!(refused.to_string().contains("brackets"), "{refused}");
    }
}

#[test]
fn an_id_wins_over_the_name_of_another_device_even_when_its_own_device_is_gone() {
    let fleet = Fleet::new(3);
    let [meant, removed, other] = fleet.devices[..] else { panic!() };
    fleet.devices().remove(removed, WallTime(9)).unwrap();
    let name = |device: DeviceId, name: String| {
        // As an earlier muster allowed it.
        let sql = "UPDATE devices SET name = ?2 WHERE id = ?1";
        let set = move |connection: &rusqlite::Connection| {
            Ok(connection.execute(sql, rusqlite::params![device.0.cast_signed(), name])?)
        };
        assert_eq!(fleet.database().call(set), Ok(1));
    };
    let find = |text: &str| query::device_id(&fleet.reader().unwrap(), text);
    name(other, meant.to_string().to_uppercase());
    assert_eq!(find(&meant.to_string()), Ok(meant));
    assert_eq!(find(&meant.to_string().to_uppercase()), Ok(meant));
    name(other, removed.to_string());
    assert_eq!(find(&removed.to_string()), Err(StoreError::DeviceRemoved(removed)));
    name(other, "feedfeedfeedfeed".into());
    assert_eq!(find("FEEDfeedfeedfeed"), Ok(other), "no device ever had that id");
}

#[test]
fn names_have_nothing_that_is_not_seen() {
    let fleet = Fleet::new(1);
    let token = token(&fleet, 20);
    let wanted = "\u{feff}kio\u{202e}sk\u{1b}[2J\u{2066}\u{200d}\u{9b}7\u{200f}";
    let enrolled = fleet.enrol(&token, DeviceId(51), wanted).unwrap();
    assert_eq!(enrolled.name, "kiosk[2J7");
    for hidden in "\0\u{1b}\u{7f}\u{85}\u{9b}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}"
        .chars()
    {
        let name = format!("a{hidden}b");
        let change = DeviceChange { name: Some(name.clone()), ..DeviceChange::default() };
        let refused = fleet.devices().change(fleet.devices[0], change);
        assert_eq!(refused, Err(StoreError::BadName(name.clone())), "{name:?}");
        let group = fleet.devices().set_group(&format!("/{name}"), GroupChange::default());
        assert!(matches!(group, Err(StoreError::BadGroup(_))), "{name:?}");
    }
}
