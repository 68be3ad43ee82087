//! Every length, and records that arrive in pieces.

use super::reference::{Brought, DATA, open_one, peers, sealed};
use crate::record_layer::{
    Content, FRAGMENT_BYTES_MAX, HEADER_BYTES, OpenError, Opened, PROTECTED_BYTES_MAX, SEALED_BYTES_MORE,
    SlimLink, Suite,
};

fn pattern(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length).collect()
}

/// All lengths that are near an edge of a block or of what is allowed, and some of the others.
fn lengths() -> impl Iterator<Item = usize> {
    let middle = (65..FRAGMENT_BYTES_MAX - 64).step_by(251);
    (0..65).chain(middle).chain(FRAGMENT_BYTES_MAX - 64..=FRAGMENT_BYTES_MAX)
}

#[test]
fn every_length_goes_both_ways() {
    for suite in Suite::ALL {
        let (mut link, mut up, mut down) = peers(suite);
        for length in lengths().skip(1) {
            let plain = pattern(length);
            let padding = (FRAGMENT_BYTES_MAX - length).min(length % 7);
            assert_eq!(
                open_one(&mut link, &up.seal(DATA, &plain, padding)),
                Ok(Brought::Data(plain.clone()))
            );
            let record = sealed(&mut link, &plain);
            assert_eq!(record.len(), length + SEALED_BYTES_MORE);
            assert_eq!(down.open(&record), Some((DATA, plain)));
        }
    }
}

#[test]
fn no_data_is_no_record_and_much_data_is_several() {
    let (mut link, _, mut down) = peers(Suite::Aes128Gcm);
    assert!(sealed(&mut link, &[]).is_empty());
    for (length, records) in [
        (FRAGMENT_BYTES_MAX, 1),
        (FRAGMENT_BYTES_MAX + 1, 2),
        (3 * FRAGMENT_BYTES_MAX, 3),
        (3 * FRAGMENT_BYTES_MAX + 5, 4),
    ] {
        let plain = pattern(length);
        let contents = down.open_all(&sealed(&mut link, &plain));
        assert_eq!(contents.len(), records);
        assert_eq!(contents.into_iter().flat_map(|(_, content)| content).collect::<Vec<u8>>(), plain);
    }
}

#[test]
fn what_is_missing_of_a_record_is_told_at_every_byte() {
    let (mut link, mut up, _) = peers(Suite::ChaCha20Poly1305);
    let plain = pattern(300);
    let record = up.seal(DATA, &plain, 9);
    for arrived in 0..record.len() {
        let mut input = record[..arrived].to_vec();
        let missing = if arrived < HEADER_BYTES { HEADER_BYTES } else { record.len() } - arrived;
        assert_eq!(link.opening_burst().open(&mut input), Ok(Opened::NeedMore(missing)), "{arrived}");
        assert_eq!(input, record[..arrived], "what is not whole is not touched");
        assert_eq!(link.sequences(), (0, 0));
    }
    assert_eq!(open_one(&mut link, &record), Ok(Brought::Data(plain)));
}

#[test]
fn a_burst_opens_what_is_there_and_another_goes_on() {
    let (_, mut up, _) = peers(Suite::Aes256Gcm);
    let mut stream = Vec::new();
    for length in 1..40 {
        stream.extend(up.seal(DATA, &pattern(length), length % 3));
        if length % 10 == 0 {
            stream.extend(up.seal_key_update(0));
        }
    }
    // Wherever the stream is cut in two.
    for cut in (0..=stream.len()).step_by(7) {
        let (mut link, ..) = peers(Suite::Aes256Gcm);
        let mut plain = Vec::new();
        let consumed = open_all(&mut link, &stream[..cut], &mut plain);
        open_all(&mut link, &stream[consumed..], &mut plain);
        assert_eq!(plain, (1..40).flat_map(pattern).collect::<Vec<u8>>(), "{cut}");
    }
}

/// Opens all whole records in one burst; how many bytes that were.
fn open_all(link: &mut SlimLink, bytes: &[u8], plain: &mut Vec<u8>) -> usize {
    let mut input = bytes.to_vec();
    let mut consumed = 0;
    let mut burst = link.opening_burst();
    while let Opened::Record { bytes, content } = burst.open(&mut input[consumed..]).unwrap() {
        consumed += bytes;
        if let Content::Data(data) = content {
            plain.extend_from_slice(data);
        }
    }
    consumed
}

#[test]
fn what_is_too_long_or_too_short_is_refused() {
    let header = |length: usize| {
        let length = u16::try_from(length).unwrap().to_be_bytes();
        vec![23, 3, 3, length[0], length[1]]
    };
    for (length, expected) in [
        (0, OpenError::RecordTooShort),
        (15, OpenError::RecordTooShort),
        (PROTECTED_BYTES_MAX + 1, OpenError::RecordTooLong),
        (usize::from(u16::MAX), OpenError::RecordTooLong),
    ] {
        let (mut link, ..) = peers(Suite::Aes128Gcm);
        assert_eq!(link.opening_burst().open(&mut header(length)), Err(expected), "{length}");
    }
    let (mut link, ..) = peers(Suite::Aes128Gcm);
    let missing = Opened::NeedMore(PROTECTED_BYTES_MAX);
    assert_eq!(link.opening_burst().open(&mut header(PROTECTED_BYTES_MAX)), Ok(missing));
}

#[test]
fn padding_counts_towards_the_limit() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let full = up.seal(DATA, b"x", FRAGMENT_BYTES_MAX - 1);
    assert_eq!(open_one(&mut link, &full), Ok(Brought::Data(b"x".to_vec())));
    let too_long = up.seal(DATA, b"x", FRAGMENT_BYTES_MAX);
    assert_eq!(open_one(&mut link, &too_long), Err(OpenError::ContentTooLong));
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let too_long = up.seal(DATA, &pattern(FRAGMENT_BYTES_MAX + 1), 0);
    assert_eq!(open_one(&mut link, &too_long), Err(OpenError::ContentTooLong));
}
