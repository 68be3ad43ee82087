//! Closing alerts, said and heard.

use super::reference::{ALERT, Brought, DATA, HANDSHAKE, open_one, peers, sealed};
use crate::record_layer::{Alert, OpenError, SealError, Suite};

#[test]
fn what_comes_after_close_notify_is_ignored() {
    // The level means nothing.
    for level in [1, 2, 0, 77] {
        let (mut link, mut up, mut down) = peers(Suite::Aes128Gcm);
        assert_eq!(open_one(&mut link, &up.seal(ALERT, &[level, 0], 0)), Ok(Brought::CloseNotify));
        assert_eq!(open_one(&mut link, &up.seal(DATA, b"late", 0)), Ok(Brought::Ignored));
        assert_eq!(open_one(&mut link, b"not even a record"), Ok(Brought::Ignored));
        // The other direction stays open until it is closed too (RFC 8446 section 6.1).
        assert_eq!(down.open_all(&sealed(&mut link, b"still")), [(DATA, b"still".to_vec())]);
    }
}

#[test]
fn any_other_alert_ends_both_directions() {
    for description in (1..=u8::MAX).filter(|description| *description != Alert::USER_CANCELED.0) {
        let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
        // A warning is no warning (RFC 8446 section 6.2).
        assert_eq!(
            open_one(&mut link, &up.seal(ALERT, &[1, description], 0)),
            Ok(Brought::Alert(description))
        );
        assert_eq!(open_one(&mut link, &up.seal(DATA, b"late", 0)), Ok(Brought::Ignored));
        let mut out = Vec::new();
        assert_eq!(link.sealing_burst().data(b"x", &mut out), Err(SealError::Closed));
        // Nor is it answered.
        assert_eq!(link.sealing_burst().fatal_alert(Alert::INTERNAL_ERROR, &mut out), Ok(()));
        assert_eq!(link.sealing_burst().close_notify(&mut out), Ok(()));
        assert!(out.is_empty());
    }
}

#[test]
fn a_handshake_that_is_given_up_too_late_is_nothing() {
    let (mut link, mut up, _) = peers(Suite::Aes128Gcm);
    let canceled = up.seal(ALERT, &[1, Alert::USER_CANCELED.0], 0);
    assert_eq!(open_one(&mut link, &canceled), Ok(Brought::Nothing));
    assert_eq!(open_one(&mut link, &up.seal(ALERT, &[1, 0], 0)), Ok(Brought::CloseNotify));
}

#[test]
fn nothing_is_sealed_after_a_closing_alert() {
    for alert in [Alert::CLOSE_NOTIFY, Alert::DECODE_ERROR] {
        let (mut link, mut up, mut down) = peers(Suite::Aes256Gcm);
        let mut out = sealed(&mut link, b"before");
        let level = if alert == Alert::CLOSE_NOTIFY {
            link.sealing_burst().close_notify(&mut out).unwrap();
            1
        } else {
            link.sealing_burst().fatal_alert(alert, &mut out).unwrap();
            2
        };
        let said = out.len();
        link.sealing_burst().close_notify(&mut out).unwrap();
        link.sealing_burst().fatal_alert(Alert::INTERNAL_ERROR, &mut out).unwrap();
        assert_eq!(link.sealing_burst().data(b"x", &mut out), Err(SealError::Closed));
        assert_eq!(link.sealing_burst().data(b"", &mut out), Err(SealError::Closed));
        assert_eq!(link.sealing_burst().key_update(false, &mut out), Err(SealError::Closed));
        assert_eq!(out.len(), said);
        assert_eq!(down.open_all(&out), [(DATA, b"before".to_vec()), (ALERT, vec![level, alert.0])]);
        // The peer may still speak.
        assert_eq!(open_one(&mut link, &up.seal(DATA, b"last", 0)), Ok(Brought::Data(b"last".to_vec())));
    }
}

#[test]
fn who_breaks_the_protocol_is_told_so_and_nothing_else() {
    let (mut link, mut up, mut down) = peers(Suite::Aes128Gcm);
    let error = open_one(&mut link, &up.seal(HANDSHAKE, &[1], 0)).unwrap_err();
    assert_eq!(error, OpenError::UnexpectedHandshake);
    let mut out = Vec::new();
    assert_eq!(link.sealing_burst().data(b"x", &mut out), Err(SealError::Closed));
    assert_eq!(link.sealing_burst().key_update(true, &mut out), Err(SealError::Closed));
    link.sealing_burst().fatal_alert(error.alert(), &mut out).unwrap();
    assert_eq!(down.open_all(&out), [(ALERT, vec![2, 10])]);
}

#[test]
fn alerts_are_named_as_in_the_rfc() {
    assert_eq!(Alert::BAD_RECORD_MAC.to_string(), "bad_record_mac (20)");
    assert_eq!(format!("{:?}", Alert(255)), "Alert(unknown (255))");
}
