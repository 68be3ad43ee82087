//! Contents that authentic records may bring, and those that they may not.

use super::reference::{ALERT, Brought, DATA, HANDSHAKE, open_one, peers, sealed};
use crate::record_layer::{Alert, OpenError, Suite};

/// The error that this content ends a fresh link with.
fn refusal(content_type: u8, content: &[u8]) -> OpenError {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    open_one(&mut link, &up.seal(content_type, content, 3)).unwrap_err()
}

#[test]
fn content_of_other_kinds_is_refused() {
    for kind in (1..=u8::MAX).filter(|kind| ![DATA, HANDSHAKE, ALERT].contains(kind)) {
        assert_eq!(refusal(kind, b"\x01"), OpenError::ContentType, "{kind}");
        assert_eq!(refusal(kind, b""), OpenError::ContentType, "{kind}");
    }
    assert_eq!(OpenError::ContentType.alert(), Alert::UNEXPECTED_MESSAGE);
}

#[test]
fn nothing_but_padding_is_refused() {
    for inner in [&[][..], &[0], &[0; 1_000]] {
        let (mut link, mut up, _) = peers(Suite::Aes256Gcm);
        assert_eq!(open_one(&mut link, &up.seal_inner(inner)), Err(OpenError::NoContentType));
    }
}

#[test]
fn data_may_end_in_zeros() {
    let (mut link, mut up, _) = peers(Suite::Aes256Gcm);
    let data = [7, 0, 0, 0];
    assert_eq!(open_one(&mut link, &up.seal(DATA, &data, 5)), Ok(Brought::Data(data.to_vec())));
    assert_eq!(open_one(&mut link, &up.seal(DATA, &[0; 9], 0)), Ok(Brought::Data(vec![0; 9])));
}

#[test]
fn alerts_are_two_bytes() {
    assert_eq!(refusal(ALERT, b""), OpenError::EmptyMessage);
    for content in [&[1][..], &[0], &[1, 0, 1], &[1, 0, 1, 0]] {
        assert_eq!(refusal(ALERT, content), OpenError::AlertLength);
    }
    assert_eq!(OpenError::EmptyMessage.alert(), Alert::UNEXPECTED_MESSAGE);
    assert_eq!(OpenError::AlertLength.alert(), Alert::DECODE_ERROR);
}

#[test]
fn handshake_messages_other_than_a_key_update_are_refused() {
    // A ClientHello, a NewSessionTicket, a Certificate, a CertificateRequest, a Finished, and what does not
    // exist.
    for kind in (0..=u8::MAX).filter(|kind| *kind != 24) {
        assert_eq!(refusal(HANDSHAKE, &[kind, 0, 0, 1, 0]), OpenError::UnexpectedHandshake, "{kind}");
        assert_eq!(refusal(HANDSHAKE, &[kind]), OpenError::UnexpectedHandshake, "{kind}");
    }
}

#[test]
fn a_key_update_is_whole_and_alone_in_its_record() {
    let whole = [24, 0, 0, 1, 1];
    assert_eq!(refusal(HANDSHAKE, b""), OpenError::EmptyMessage);
    for length in 1..whole.len() {
        assert_eq!(refusal(HANDSHAKE, &whole[..length]), OpenError::KeyUpdateSplit);
    }
    for more in [&[24][..], &[0], &whole] {
        assert_eq!(refusal(HANDSHAKE, &[&whole, more].concat()), OpenError::KeyUpdateNotLast);
    }
    for length in [[0, 0, 0], [0, 0, 2], [0, 1, 1], [1, 0, 1], [255; 3]] {
        let [a, b, c] = length;
        assert_eq!(refusal(HANDSHAKE, &[24, a, b, c, 0]), OpenError::KeyUpdateLength);
        assert_eq!(refusal(HANDSHAKE, &[24, a, b, c]), OpenError::KeyUpdateLength);
    }
    for wanted in 2..=u8::MAX {
        assert_eq!(refusal(HANDSHAKE, &[24, 0, 0, 1, wanted]), OpenError::KeyUpdateRequest);
    }
    assert_eq!(OpenError::KeyUpdateRequest.alert(), Alert::ILLEGAL_PARAMETER);
    assert_eq!(OpenError::KeyUpdateLength.alert(), Alert::DECODE_ERROR);
    for error in [OpenError::KeyUpdateSplit, OpenError::KeyUpdateNotLast, OpenError::UnexpectedHandshake] {
        assert_eq!(error.alert(), Alert::UNEXPECTED_MESSAGE);
    }
}

#[test]
fn a_key_update_that_wants_none_is_not_answered() {
    let (mut link, mut up, mut down) = peers(Suite::Aes128Gcm);
    assert_eq!(open_one(&mut link, &up.seal_key_update(0)), Ok(Brought::KeyUpdate));
    assert!(!link.owes_key_update());
    assert_eq!(open_one(&mut link, &up.seal(DATA, b"new", 0)), Ok(Brought::Data(b"new".to_vec())));
    assert_eq!(down.open_all(&sealed(&mut link, b"x")), [(DATA, b"x".to_vec())]);
}

#[test]
fn a_key_update_that_wants_one_is_answered_once_before_the_next_data() {
    for suite in Suite::ALL {
        let (mut link, mut up, mut down) = peers(suite);
        // Several while nothing is said are answered by one.
        for _ in 0..3 {
            assert_eq!(open_one(&mut link, &up.seal_key_update(1)), Ok(Brought::KeyUpdate));
        }
        assert_eq!(open_one(&mut link, &up.seal_key_update(0)), Ok(Brought::KeyUpdate));
        assert!(link.owes_key_update());
        assert!(sealed(&mut link, b"").is_empty(), "no data, no hurry");
        let answer = (HANDSHAKE, vec![24, 0, 0, 1, 0]);
        assert_eq!(down.open_all(&sealed(&mut link, b"x")), [answer, (DATA, b"x".to_vec())]);
        assert!(!link.owes_key_update());
        assert_eq!(down.open_all(&sealed(&mut link, b"y")), [(DATA, b"y".to_vec())]);
        assert_eq!(open_one(&mut link, &up.seal(DATA, b"new", 0)), Ok(Brought::Data(b"new".to_vec())));
    }
}

#[test]
fn an_answer_may_go_at_once_and_does_not_ask() {
    let (mut link, mut up, mut down) = peers(Suite::Aes128Gcm);
    open_one(&mut link, &up.seal_key_update(1)).unwrap();
    let mut out = Vec::new();
    link.sealing_burst().key_update(true, &mut out).unwrap();
    assert_eq!(down.open_all(&out), [(HANDSHAKE, vec![24, 0, 0, 1, 0])]);
    assert_eq!(down.open_all(&sealed(&mut link, b"x")), [(DATA, b"x".to_vec())]);
}

#[test]
fn the_peer_is_asked_once_until_it_has_answered() {
    let (mut link, mut up, mut down) = peers(Suite::Aes128Gcm);
    let mut wanted = |link: &mut crate::record_layer::SlimLink| {
        let mut out = Vec::new();
        link.sealing_burst().key_update(true, &mut out).unwrap();
        down.open_all(&out)[0].1[4]
    };
    assert_eq!((wanted(&mut link), wanted(&mut link)), (1, 0));
    open_one(&mut link, &up.seal_key_update(0)).unwrap();
    assert_eq!(wanted(&mut link), 1);
}
