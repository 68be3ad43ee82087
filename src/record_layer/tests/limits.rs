//! Acts that a peer may not do too often, and those that we may not.

use super::reference::{ALERT, Brought, DATA, HANDSHAKE, Reference, open_one, peers, peers_at, sealed};
use crate::record_layer::{
    Alert, EMPTY_RECORDS_IN_A_ROW_MAX, FRAGMENT_BYTES_MAX, KEY_UPDATES_AHEAD_MAX, OPENED_RECORDS_PER_KEY,
    OpenError, SEALED_RECORDS_MAX, SEALED_RECORDS_PER_KEY, SealError, SlimLink, Suite,
};

#[test]
fn a_link_is_its_secrets_with_keys_its_numbers_and_eight_bytes() {
    assert_eq!(size_of::<SlimLink>(), 2 * (48 + 12 + 8) + 8);
}

#[test]
fn records_that_bring_nothing_are_bounded_in_a_row() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let up_to_the_limit = |link: &mut SlimLink, up: &mut Reference| {
        for count in 0..EMPTY_RECORDS_IN_A_ROW_MAX {
            // Neither a KeyUpdate nor a warning makes them something.
            let record = match count % 4 {
                0 => up.seal(ALERT, &[1, Alert::USER_CANCELED.0], 0),
                _ => up.seal(DATA, b"", usize::from(count)),
            };
            assert_eq!(open_one(link, &record), Ok(Brought::Nothing));
        }
    };
    up_to_the_limit(&mut link, &mut up);
    assert_eq!(open_one(&mut link, &up.seal_key_update(0)), Ok(Brought::KeyUpdate));
    open_one(&mut link, &up.seal(DATA, b"x", 0)).unwrap();
    up_to_the_limit(&mut link, &mut up);
    assert_eq!(open_one(&mut link, &up.seal_key_update(0)), Ok(Brought::KeyUpdate));
    let error = open_one(&mut link, &up.seal(DATA, b"", 0)).unwrap_err();
    assert_eq!((error, error.alert()), (OpenError::TooManyEmptyRecords, Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn key_updates_are_bounded_by_the_records_with_data() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    // As many as records with data, for ever.
    for _ in 0..5 * KEY_UPDATES_AHEAD_MAX {
        assert_eq!(open_one(&mut link, &up.seal_key_update(1)), Ok(Brought::KeyUpdate));
        open_one(&mut link, &up.seal(DATA, b"x", 0)).unwrap();
    }
    for _ in 0..KEY_UPDATES_AHEAD_MAX {
        assert_eq!(open_one(&mut link, &up.seal_key_update(0)), Ok(Brought::KeyUpdate));
        // Nothing does not outweigh anything.
        if link.sequences().0 % 9 == 0 {
            open_one(&mut link, &up.seal(DATA, b"", 0)).unwrap();
        }
    }
    let error = open_one(&mut link, &up.seal_key_update(0)).unwrap_err();
    assert_eq!((error, error.alert()), (OpenError::TooManyKeyUpdates, Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn a_key_is_renewed_before_it_is_worn() {
    for suite in Suite::ALL {
        let (mut link, _, mut down) = peers_at(suite, 0, SEALED_RECORDS_PER_KEY - 2);
        let plain = vec![5; 4 * FRAGMENT_BYTES_MAX];
        let kinds: Vec<u8> =
            down.open_all(&sealed(&mut link, &plain)).iter().map(|record| record.0).collect();
        assert_eq!(kinds, [DATA, DATA, HANDSHAKE, DATA, DATA]);
        assert_eq!(link.sequences(), (0, 2));
    }
}

#[test]
fn one_key_update_both_answers_and_renews() {
    let (mut link, mut up, mut down) = peers_at(Suite::Aes128Gcm, 0, SEALED_RECORDS_PER_KEY);
    open_one(&mut link, &up.seal_key_update(1)).unwrap();
    let contents = down.open_all(&sealed(&mut link, b"x"));
    assert_eq!(contents, [(HANDSHAKE, vec![24, 0, 0, 1, 0]), (DATA, b"x".to_vec())]);
}

#[test]
fn a_peer_with_a_worn_key_is_asked_to_renew_it() {
    let (mut link, mut up, mut down) = peers_at(Suite::Aes128Gcm, OPENED_RECORDS_PER_KEY - 1, 0);
    assert_eq!(down.open_all(&sealed(&mut link, b"x")), [(DATA, b"x".to_vec())]);
    open_one(&mut link, &up.seal(DATA, b"worn", 0)).unwrap();
    let asks = (HANDSHAKE, vec![24, 0, 0, 1, 1]);
    assert_eq!(down.open_all(&sealed(&mut link, b"x")), [asks, (DATA, b"x".to_vec())]);
    assert_eq!(down.open_all(&sealed(&mut link, b"x")), [(DATA, b"x".to_vec())], "once is enough");
    open_one(&mut link, &up.seal(DATA, b"on its way", 0)).unwrap();
    open_one(&mut link, &up.seal_key_update(0)).unwrap();
    assert_eq!(link.sequences().0, 0);
    assert_eq!(down.open_all(&sealed(&mut link, b"x")), [(DATA, b"x".to_vec())]);
}

#[test]
fn nothing_is_sealed_under_a_key_that_is_used_up() {
    let (mut link, _, mut down) = peers_at(Suite::ChaCha20Poly1305, 0, SEALED_RECORDS_MAX - 1);
    let mut out = Vec::new();
    // The last number is enough to say so, and to renew the key.
    link.sealing_burst().data(b"x", &mut out).unwrap();
    assert_eq!(down.open_all(&out), [(HANDSHAKE, vec![24, 0, 0, 1, 0]), (DATA, b"x".to_vec())]);

    for sequence in [SEALED_RECORDS_MAX, u64::MAX] {
        let (mut link, ..) = peers_at(Suite::Aes128Gcm, 0, sequence);
        out.clear();
        assert_eq!(link.sealing_burst().data(b"x", &mut out), Err(SealError::KeyUsedUp));
        assert_eq!(link.sealing_burst().key_update(false, &mut out), Err(SealError::KeyUsedUp));
        assert_eq!(link.sealing_burst().close_notify(&mut out), Err(SealError::KeyUsedUp));
        assert_eq!((out.len(), link.sequences().1), (0, sequence));
    }
}

#[test]
fn the_last_number_of_all_is_not_used() {
    let (mut link, mut up, _) = peers_at(Suite::Aes128Gcm, u64::MAX - 1, 0);
    assert_eq!(open_one(&mut link, &up.seal(DATA, b"x", 0)), Ok(Brought::Data(b"x".to_vec())));
    let mut any = [23, 3, 3, 0, 17].to_vec();
    any.resize(5 + 17, 0);
    assert_eq!(open_one(&mut link, &any), Err(OpenError::NumbersUsedUp));
}

#[test]
fn a_burst_that_is_forgotten_has_counted() {
    let (mut link, mut up, mut down) = peers(Suite::Aes128Gcm);
    let mut out = Vec::new();
    let mut burst = link.sealing_burst();
    burst.data(b"one", &mut out).unwrap();
    std::mem::forget(burst);
    let mut record = up.seal(DATA, b"two", 0);
    let mut burst = link.opening_burst();
    burst.open(&mut record).unwrap();
    std::mem::forget(burst);
    assert_eq!(link.sequences(), (1, 1));
    out.extend(sealed(&mut link, b"three"));
    assert_eq!(down.open_all(&out), [(DATA, b"one".to_vec()), (DATA, b"three".to_vec())]);
}
