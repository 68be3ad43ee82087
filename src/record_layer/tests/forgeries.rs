//! Attacks on records by somebody in between: the link ends, and never takes them for what the peer said.

use super::reference::{Brought, DATA, Reference, open_one, peers};
use crate::record_layer::{Alert, OpenError, Suite};

/// Three records of the peer's.
fn records(up: &mut Reference) -> [Vec<u8>; 3] {
    [b"first", b"other", b"third"].map(|plain| up.seal(DATA, plain, 0))
}

#[test]
fn any_changed_bit_is_noticed() {
    for suite in Suite::ALL {
        let (_, mut up, _) = peers(suite);
        let record = up.seal(DATA, b"hello", 2);
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A length that names more than there is makes the record incomplete, until more comes.
            changed.resize(record.len() + usize::from(u16::MAX), 0);
            let (mut link, ..) = peers(suite);
            let error = link.opening_burst().open(&mut changed).unwrap_err();
            let expected: &[OpenError] = match bit / 8 {
                0 => &[OpenError::NotProtected],
                1 | 2 => &[OpenError::RecordVersion],
                3 | 4 => &[OpenError::RecordTooLong, OpenError::RecordTooShort, OpenError::Forged],
                _ => &[OpenError::Forged],
            };
            assert!(expected.contains(&error), "{suite:?}, bit {bit}: {error:?}");
        }
    }
}

#[test]
fn a_record_is_opened_once() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let [first, ..] = records(&mut up);
    assert_eq!(open_one(&mut link, &first), Ok(Brought::Data(b"first".to_vec())));
    assert_eq!(open_one(&mut link, &first), Err(OpenError::Forged));
}

#[test]
fn records_are_opened_in_order_and_none_is_left_out() {
    let (mut link, mut up, _) = peers(Suite::Aes256Gcm);
    let [first, second, _] = records(&mut up);
    assert_eq!(open_one(&mut link, &second), Err(OpenError::Forged));
    assert_eq!(open_one(&mut link, &first), Err(OpenError::Forged), "it does not recover");

    let (mut link, mut up, _) = peers(Suite::Aes256Gcm);
    let [first, _, third] = records(&mut up);
    assert_eq!(open_one(&mut link, &first), Ok(Brought::Data(b"first".to_vec())));
    assert_eq!(open_one(&mut link, &third), Err(OpenError::Forged));
}

#[test]
fn a_truncated_record_is_not_opened() {
    let (_, mut up, _) = peers(Suite::Aes128Gcm);
    let record = up.seal(DATA, b"a longer text than a tag is long", 0);
    for length in 0..record.len() - 5 {
        // Cut, and its header made to fit.
        let mut cut = record[..5 + length].to_vec();
        cut[4] = u8::try_from(length).unwrap();
        let (mut link, ..) = peers(Suite::Aes128Gcm);
        let expected = if length < 16 { OpenError::RecordTooShort } else { OpenError::Forged };
        assert_eq!(open_one(&mut link, &cut), Err(expected));
        assert_eq!(expected.alert(), Alert::BAD_RECORD_MAC);
    }
}

#[test]
fn our_own_records_are_not_the_peers() {
    let (mut link, _, mut down) = peers(Suite::ChaCha20Poly1305);
    assert_eq!(open_one(&mut link, &down.seal(DATA, b"echo", 0)), Err(OpenError::Forged));
}

#[test]
fn a_key_that_was_left_opens_nothing() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let mut old = Reference::new(Suite::Aes128Gcm, &[0xc1; 32], 0);
    assert_eq!(open_one(&mut link, &up.seal_key_update(0)), Ok(Brought::KeyUpdate));
    assert_eq!(open_one(&mut link, &old.seal(DATA, b"old", 0)), Err(OpenError::Forged));
}

#[test]
fn what_is_not_protected_is_not_taken() {
    // As they would be in a handshake: a change of ciphers, an alert, a handshake message; and HTTP.
    for (input, expected) in [
        (&[20, 3, 3, 0, 1, 1][..], OpenError::NotProtected),
        (&[21, 3, 3, 0, 2, 1, 0], OpenError::NotProtected),
        (&[22, 3, 3, 0, 5, 24, 0, 0, 1, 0], OpenError::NotProtected),
        (b"GET / HTTP/1.1", OpenError::NotProtected),
        (b"G", OpenError::NotProtected),
        (&[23, 3, 1, 0, 17], OpenError::RecordVersion),
        (&[23, 3, 4], OpenError::RecordVersion),
        (&[23, 2], OpenError::RecordVersion),
    ] {
        let (mut link, ..) = peers(Suite::Aes128Gcm);
        assert_eq!(link.opening_burst().open(&mut input.to_vec()), Err(expected), "{input:?}");
    }
}

#[test]
fn what_failed_fails_in_the_same_way_ever_after() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let mut burst = link.opening_burst();
    assert_eq!(burst.open(&mut [22]), Err(OpenError::NotProtected));
    let mut good = up.seal(DATA, b"good", 0);
    assert_eq!(burst.open(&mut good), Err(OpenError::NotProtected));
    assert_eq!(link.opening_burst().open(&mut []), Err(OpenError::NotProtected));
}
