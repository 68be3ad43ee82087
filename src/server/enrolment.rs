//! A device joins the fleet: the token is judged, the request signed, the device stored, and all of that in
//! this order, so that a foreign token costs no signature and a device that is told its certificate is in the
//! store.

use std::sync::Arc;

use super::identity::{Identity, Wanted};
use crate::machine::command::EnrolmentOutcome;
use crate::store::{EnrolledBefore, EnrolledDevice, Enrolment, Store, StoreError, TokenRefusal};
use crate::wire::id::DeviceId;
use crate::wire::message::{Enrol, Enrolled, ErrorCode, ErrorReport};
use crate::wire::time::WallTime;

/// Works on one enrolment, on a worker's thread; `wanted` is its certificate when its key is that of a device
/// that is no more. `done` is called once: here when it is refused, otherwise on the store's writer, after
/// the commit. When it has taken a record over, `taken_over` is called before. A device that asks with the
/// key of before, as the answer was lost, is the same device, and has used its token once.
pub fn enrol(
    store: &Store,
    identity: &Arc<Identity>,
    request: Enrol,
    wanted: Wanted,
    now: WallTime,
    taken_over: impl FnOnce(DeviceId) + Send + 'static,
    done: impl FnOnce(EnrolmentOutcome) + Send + 'static,
) {
    let Enrol { token, secret, name, .. } = &request;
    let device = identity.device_of(&request.request);
    let wanted = match store.devices().enrolled_before(device, (*token, secret), name, now) {
        Ok(EnrolledBefore::Never) => Wanted { device, ..wanted },
        Ok(EnrolledBefore::Over) => wanted,
        Ok(EnrolledBefore::Answered { device: known, counter }) => {
            let wanted = Wanted { device, counter, ..wanted };
            return answer_again(store, identity, &request.request, *known, wanted, now, done);
        }
        Err(error) => return done(outcome_of(&error)),
    };
    let (device, counter) = match store.devices().check_token(*token, secret, name, now) {
        Ok(invited) => (invited.device.unwrap_or(wanted.device), invited.counter),
        Err(error) => return done(outcome_of(&error)),
    };
    let issued = match identity.issue(&request.request, Wanted { device, counter, ..wanted }, now) {
        Ok(issued) => issued,
        Err(error) => return done(refused(ErrorCode::Malformed, error.to_string())),
    };
    let enrolment = Enrolment {
        token: request.token,
        secret: request.secret,
        device,
        name: request.name,
        certificate: issued.to_stored(),
        now,
    };
    let (identity, wanted) = (identity.clone(), enrolment.name.clone());
    store.devices().enrol(enrolment, move |result| match result {
        Err(error) => done(outcome_of(&error)),
        Ok(enrolled) => {
            say(&enrolled, &wanted);
            if enrolled.former.is_some() {
                taken_over(enrolled.device);
            }
            done(answer(&identity, enrolled, issued.der));
        }
    });
}

fn answer(identity: &Identity, enrolled: EnrolledDevice, certificate: Vec<u8>) -> EnrolmentOutcome {
    let trust = identity.trust(enrolled.device);
    EnrolmentOutcome::Enrolled(Box::new(Enrolled {
        device: enrolled.device,
        name: enrolled.name,
        certificate,
        pins: trust.pins,
        wake_key: trust.wake_key,
        notice_key: trust.notice_key,
        trust_label: trust.label,
        voucher_floor: trust.voucher_floor,
        is_waiting: enrolled.is_waiting,
    }))
}

/// Gives a device that is enrolled another certificate for the same key: the first may have been lost.
fn answer_again(
    store: &Store,
    identity: &Arc<Identity>,
    request: &[u8],
    known: EnrolledDevice,
    wanted: Wanted,
    now: WallTime,
    done: impl FnOnce(EnrolmentOutcome) + Send + 'static,
) {
    let issued = match identity.issue(request, wanted, now) {
        Ok(issued) => issued,
        Err(error) => return done(refused(ErrorCode::Malformed, error.to_string())),
    };
    let (identity, certificate) = (identity.clone(), issued.to_stored());
    store.devices().renew_certificate(known.device, certificate, move |stored| match stored {
        Err(error) => done(outcome_of(&error)),
        Ok(()) => {
            log::info!("device {}, '{}', asked again how its enrolment ended", known.device, known.name);
            done(answer(&identity, known, issued.der));
        }
    });
}

fn say(enrolled: &EnrolledDevice, wanted: &str) {
    let EnrolledDevice { device, name, group, is_waiting, former, .. } = enrolled;
    let unmet = if wanted == name { String::new() } else { format!(" (it asked for '{wanted}')") };
    match former {
        None => {
            let waits = if *is_waiting { ", and waits for approval" } else { "" };
            log::info!("device {device} enrolled as '{name}'{unmet} into {group}{waits}");
        }
        Some(former) => log::warn!(
            "the record of device {device}, '{name}', was taken over by a machine with a token for that{unmet}: {} of the one \
             that had it before are dead",
            match former.certificates.len() {
                1 => "1 certificate".to_owned(),
                many => format!("{many} certificates"),
            }
        ),
    }
}

/// A random device id, never zero.
///
/// # Errors
/// When the system gives no randomness; enrolment then waits for a better moment.
pub fn new_device_id() -> Result<DeviceId, aws_lc_rs::error::Unspecified> {
    loop {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes)?;
        match u64::from_be_bytes(bytes) {
            0 => {}
            id => return Ok(DeviceId(id)),
        }
    }
}

fn refused(code: ErrorCode, message: String) -> EnrolmentOutcome {
    log::warn!("an enrolment was refused: {message}");
    EnrolmentOutcome::Refused(ErrorReport { code, message })
}

fn outcome_of(error: &StoreError) -> EnrolmentOutcome {
    let code = match error {
        StoreError::Token(TokenRefusal::Unknown) => ErrorCode::TokenUnknown,
        StoreError::Token(TokenRefusal::Expired) => ErrorCode::TokenExpired,
        StoreError::Token(TokenRefusal::UsedUp) => ErrorCode::TokenUsedUp,
        StoreError::Token(TokenRefusal::Revoked) => ErrorCode::TokenRevoked,
        StoreError::Token(TokenRefusal::Name { .. } | TokenRefusal::NameTaken { .. }) => {
            ErrorCode::NameRefused
        }
        StoreError::DeviceRemoved(_) => ErrorCode::TokenRevoked,
        StoreError::TooManyWaiting(_) => ErrorCode::WaitingForApproval,
        StoreError::BadName(_) => ErrorCode::Malformed,
        other => {
            log::error!("an enrolment failed: {other}");
            return EnrolmentOutcome::Failed;
        }
    };
    refused(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

    use super::*;
    use crate::machine::device_state::CertificateStatus;
    use crate::store::{CreatedToken, NewToken};
    use crate::wire::id::CertificateHash;

    const NOW: WallTime = WallTime(1_795_514_400_000);
    const DAY_MILLISECONDS: u64 = 86_400_000;

    struct Fixture {
        _directory: tempfile::TempDir,
        store: Store,
        identity: Arc<Identity>,
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let identity = Identity::open_or_create(&directory.path().join("identity"), &[], NOW).unwrap();
        Fixture { _directory: directory, store, identity: Arc::new(identity) }
    }

    fn certificate_request() -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
    }

    fn outcome(fixture: &Fixture, request: Enrol, now: WallTime) -> EnrolmentOutcome {
        let (told, outcomes) = mpsc::channel();
        let device = new_device_id().unwrap();
        let wanted = Wanted { device, counter: 1, life_milliseconds: DAY_MILLISECONDS };
        enrol(
            &fixture.store,
            &fixture.identity,
            request,
            wanted,
            now,
            |_| {},
            move |outcome| {
                told.send(outcome).unwrap();
            },
        );
        outcomes.recv().unwrap()
    }

    #[test]
    fn a_token_lets_one_device_in_and_not_a_second_one() {
        let fixture = fixture();
        let expires_at = WallTime(NOW.0 + 60_000);
        let token = fixture
            .store
            .devices()
            .create_token(NewToken {
                group: "/shops".into(),
                created_at: NOW,
                expires_at,
                uses_max: 1,
                ..NewToken::default()
            })
            .unwrap();
        let request = |secret| Enrol {
            token: token.token.id,
            secret,
            request: certificate_request(),
            name: "kiosk".into(),
        };

        let wrong = outcome(&fixture, request([0; 24]), NOW);
        assert!(matches!(wrong, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::TokenUnknown));
        let garbled = Enrol { request: vec![0x30], ..request(token.secret) };
        let garbled = outcome(&fixture, garbled, NOW);
        assert!(matches!(garbled, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::Malformed));

        let first = outcome(&fixture, request(token.secret), NOW);
        let EnrolmentOutcome::Enrolled(enrolled) = first else { panic!("{first:?}") };
        assert_eq!(enrolled.name, "kiosk");
        let hash = CertificateHash::of(&enrolled.certificate);
        assert_eq!(fixture.store.table().by_certificate(&hash), CertificateStatus::Known(enrolled.device));
        assert_eq!(enrolled.pins, fixture.identity.pins());
        assert_ne!(enrolled.wake_key, enrolled.notice_key);
        let judged = fixture.store.devices().facts_of(&[enrolled.device], NOW).unwrap();
        // The certificate has the same time that is stored: UTCTime of RFC 5280 section 4.1.2.5.1.
        let expires_at = judged[0].facts.certificate.unwrap().expires_at.to_string();
        let written: String = expires_at.chars().skip(2).take(17).filter(char::is_ascii_digit).collect();
        let written = format!("{written}Z");
        assert!(enrolled.certificate.windows(13).any(|bytes| bytes == written.as_bytes()), "{expires_at}");

        let second = outcome(&fixture, request(token.secret), NOW);
        assert!(matches!(second, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::TokenUsedUp));
    }

    #[test]
    fn who_asks_again_with_the_same_key_is_the_same_device() {
        let fixture = fixture();
        let devices = fixture.store.devices();
        let new_token = |device| {
            let expires_at = WallTime(NOW.0 + 60_000);
            let new = NewToken {
                group: "/".into(),
                created_at: NOW,
                expires_at,
                uses_max: 1,
                device,
                ..NewToken::default()
            };
            devices.create_token(new).unwrap()
        };
        let token = || new_token(None);
        let (first, request) = (token(), certificate_request());
        let ask = |token: &CreatedToken, request: &[u8], name: &str| {
            let (token, secret) = (token.token.id, token.secret);
            outcome(&fixture, Enrol { token, secret, request: request.to_vec(), name: name.into() }, NOW)
        };
        let enrolled = |outcome| match outcome {
            EnrolmentOutcome::Enrolled(enrolled) => *enrolled,
            other => panic!("{other:?}"),
        };
        let one = enrolled(ask(&first, &request, "kiosk"));
        // The answer is lost, twice; the token has one use.
        let _lost = enrolled(ask(&first, &request, "kiosk"));
        let again = enrolled(ask(&first, &request, "kiosk"));
        assert_eq!((again.device, &again.name, again.wake_key), (one.device, &one.name, one.wake_key));
        for certificate in [&one.certificate, &again.certificate] {
            let status = fixture.store.table().by_certificate(&CertificateHash::of(certificate));
            assert_eq!(status, CertificateStatus::Known(one.device));
        }
        assert_eq!(fixture.store.table().len(), 1);
        let used_up = ask(&first, &certificate_request(), "kiosk");
        assert!(
            matches!(used_up, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::TokenUsedUp)
        );
        // Not without the secret, and not with one that was withdrawn.
        let foreign = CreatedToken { secret: [0; 24], ..first.clone() };
        let refused = ask(&foreign, &request, "kiosk");
        assert!(
            matches!(refused, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::TokenUnknown)
        );
        devices.revoke_token(first.token.id, NOW).unwrap();
        let refused = ask(&first, &request, "kiosk");
        assert!(
            matches!(refused, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::TokenRevoked)
        );
        // A token that it does not need is not used up, and one that gives it another record does.
        let second = token();
        assert_eq!(enrolled(ask(&second, &request, "kiosk")).device, one.device);
        let other = enrolled(ask(&token(), &certificate_request(), "other")).device;
        assert_eq!(enrolled(ask(&new_token(Some(other)), &request, "kiosk")).device, other);
        // A key of a device that was removed makes a new one.
        devices.remove(one.device, NOW).unwrap();
        assert_ne!(enrolled(ask(&second, &request, "kiosk")).device, one.device);
    }

    #[test]
    fn a_late_token_is_told_so() {
        let fixture = fixture();
        let expires_at = WallTime(NOW.0 + 60_000);
        let token = fixture
            .store
            .devices()
            .create_token(NewToken {
                group: "/".into(),
                created_at: NOW,
                expires_at,
                uses_max: 5,
                ..NewToken::default()
            })
            .unwrap();
        let request = Enrol {
            token: token.token.id,
            secret: token.secret,
            request: certificate_request(),
            name: String::new(),
        };
        let late = outcome(&fixture, request, WallTime(NOW.0 + 60_001));
        assert!(matches!(late, EnrolmentOutcome::Refused(report) if report.code == ErrorCode::TokenExpired));
    }
}
