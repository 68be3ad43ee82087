//! Renewals of the device's certificate, from the server's word to the proof.

use super::testing::{actions, at, in_sync, said};
use super::*;
use crate::machine::credentials::Credential;
use crate::wire::message::{ErrorCode, ErrorReport, Renewed, ToAgent};

fn machine() -> AgentMachine {
    let spool = SpoolState { epoch: Epoch(7), highest: 0, forgotten_through: 0 };
    AgentMachine::new(AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 })
}

fn connect(machine: &mut AgentMachine, now: &Now) -> Vec<Action> {
    let first = actions(machine, now);
    assert_eq!(first.last(), Some(&Action::Connect), "{first:?}");
    machine.connected(now);
    actions(machine, now)
}

fn error(code: ErrorCode) -> ToAgent {
    ToAgent::Error(ErrorReport { code, message: "no".into() })
}

/// Syncs; the server wants a renewal.
fn asked(machine: &mut AgentMachine, now: &Now, keep_seconds: Option<u32>) -> Vec<Action> {
    connect(machine, now);
    machine.message(now, ToAgent::RenewNow);
    machine.message(now, in_sync(keep_seconds));
    actions(machine, now)
}

fn certificate() -> ToAgent {
    ToAgent::Renewed(Renewed { certificate: vec![2; 400] })
}

/// A renewal up to the certificate, before it is stored.
fn renewed(machine: &mut AgentMachine, now: &Now, keep_seconds: Option<u32>) {
    let begun = asked(machine, now, keep_seconds);
    assert!(begun.contains(&Action::MakeRequest), "{begun:?}");
    machine.request_made(now, vec![1; 200]);
    assert_eq!(said(&actions(machine, now)), ["renew 200"]);
    machine.message(now, certificate());
    assert_eq!(actions(machine, now), [Action::StoreCertificate(vec![2; 400])]);
}

#[test]
fn a_certificate_is_asked_for_stored_shown_and_proved_in_this_order() {
    for keep_seconds in [None, Some(300)] {
        let mut machine = machine();
        renewed(&mut machine, &at(0), keep_seconds);
        machine.certificate_stored();
        let ended = actions(&mut machine, &at(1));
        let expected =
            [Action::Show(Credential::Newest), Action::CloseLink(LinkEnd::NewCertificate), Action::Connect];
        assert_eq!(ended, expected);
        machine.connected(&at(1));
        assert_eq!(said(&actions(&mut machine, &at(1))), ["sync Reconnected"]);
        machine.message(&at(2), in_sync(keep_seconds));
        let proved = actions(&mut machine, &at(2));
        assert!(proved.contains(&Action::Forget(Credential::Previous)), "{proved:?}");
        assert_eq!(proved.contains(&Action::CloseLink(LinkEnd::Done)), keep_seconds.is_none());
        assert_eq!(machine.status(&at(2)).last_error, None);
    }
}

#[test]
fn a_link_that_is_not_to_stay_waits_for_its_certificate_and_no_longer_than_for_any_answer() {
    let mut machine = machine();
    let begun = asked(&mut machine, &at(0), None);
    assert!(!begun.contains(&Action::CloseLink(LinkEnd::Done)), "{begun:?}");
    machine.request_made(&at(0), vec![1]);
    actions(&mut machine, &at(0));
    assert_eq!(machine.next_timeout(), Some(at(ANSWER_SECONDS_MAX).moment));
    assert_eq!(actions(&mut machine, &at(ANSWER_SECONDS_MAX - 1)), []);
    assert_eq!(actions(&mut machine, &at(ANSWER_SECONDS_MAX)), [Action::CloseLink(LinkEnd::Done)]);
    let error = machine.renewal_error().unwrap();
    assert!(error.contains("did not answer"), "{error}");
}

#[test]
fn a_renewal_that_is_refused_leaves_link_and_certificate_as_they_are() {
    for code in [ErrorCode::Internal, ErrorCode::Unexpected, ErrorCode::Malformed, ErrorCode::UnknownKind] {
        let mut machine = machine();
        asked(&mut machine, &at(0), Some(300));
        machine.request_made(&at(0), vec![1]);
        actions(&mut machine, &at(0));
        machine.message(&at(1), error(code));
        assert_eq!(actions(&mut machine, &at(1)), [], "{code:?}");
        assert!(machine.is_connected());
        assert_eq!(machine.renewal_error(), Some("no"));
        machine.message(&at(1), certificate());
        assert_eq!(actions(&mut machine, &at(1)), [], "nobody asked any more");
    }
}

#[test]
fn a_link_that_breaks_before_the_certificate_has_come_leaves_nothing_behind() {
    let mut machine = machine();
    asked(&mut machine, &at(0), Some(300));
    machine.request_made(&at(0), vec![1]);
    actions(&mut machine, &at(0));
    machine.disconnected(&at(1), "reset");
    connect(&mut machine, &at(100));
    machine.message(&at(100), certificate());
    machine.message(&at(100), in_sync(Some(300)));
    let after = actions(&mut machine, &at(100));
    assert!(!after.iter().any(|action| matches!(action, Action::StoreCertificate(_))), "{after:?}");
    assert!(!after.contains(&Action::MakeRequest), "the server asks again");
}

#[test]
fn a_certificate_that_can_t_be_stored_is_not_shown() {
    let mut machine = machine();
    renewed(&mut machine, &at(0), Some(300));
    machine.renewal_failed("the disk is full");
    assert_eq!(actions(&mut machine, &at(0)), []);
    assert_eq!(machine.renewal_error(), Some("the disk is full"));
}

#[test]
fn a_server_that_does_not_know_the_new_certificate_is_shown_the_old_one_at_once() {
    let mut machine = machine();
    machine.set_previous_certificate(true);
    connect(&mut machine, &at(0));
    machine.certificate_refused(&at(0), "the device's certificate is not known to this server");
    let next = actions(&mut machine, &at(0));
    assert!(next.contains(&Action::Show(Credential::Previous)), "{next:?}");
    assert_eq!(next.last(), Some(&Action::Connect), "without a pause");
    machine.connected(&at(0));
    machine.message(&at(0), in_sync(Some(300)));
    actions(&mut machine, &at(0));
    machine.message(&at(1), in_sync(Some(300)));
    let mut proved = actions(&mut machine, &at(1));
    machine.asked_to_sync(&at(2));
    actions(&mut machine, &at(2));
    machine.message(&at(2), in_sync(Some(300)));
    proved.extend(actions(&mut machine, &at(2)));
    assert!(!proved.contains(&Action::Forget(Credential::Previous)), "{proved:?}");
}

#[test]
fn when_both_are_refused_the_device_tries_again_as_after_any_failure() {
    let mut machine = machine();
    machine.set_previous_certificate(true);
    connect(&mut machine, &at(0));
    machine.certificate_refused(&at(0), "unknown");
    actions(&mut machine, &at(0));
    machine.connected(&at(0));
    actions(&mut machine, &at(0));
    machine.certificate_refused(&at(0), "unknown");
    let after = actions(&mut machine, &at(0));
    assert!(
        after.contains(&Action::Show(Credential::Newest)) && !after.contains(&Action::Connect),
        "{after:?}"
    );
    assert!(machine.next_timeout().unwrap() > at(0).moment);
}

#[test]
fn a_superseded_certificate_gives_way_to_the_other_one_and_alone_it_stays_away() {
    let mut machine = machine();
    machine.set_previous_certificate(true);
    connect(&mut machine, &at(0));
    machine.message(&at(0), error(ErrorCode::CertificateSuperseded));
    assert_eq!(actions(&mut machine, &at(0)).last(), Some(&Action::Connect));
    let mut alone = self::machine();
    connect(&mut alone, &at(0));
    alone.message(&at(0), error(ErrorCode::CertificateSuperseded));
    actions(&mut alone, &at(0));
    assert_eq!(alone.next_timeout(), Some(at(REMOVED_SECONDS).moment));
}

#[test]
fn a_key_of_another_kind_than_wanted_is_renewed_behind_a_sync() {
    let mut machine = machine();
    machine.set_key_outdated(true);
    connect(&mut machine, &at(0));
    machine.message(&at(0), in_sync(Some(300)));
    assert!(actions(&mut machine, &at(0)).contains(&Action::MakeRequest));
    machine.renewal_failed("no");
    machine.set_key_outdated(false);
    machine.asked_to_sync(&at(1));
    actions(&mut machine, &at(1));
    machine.message(&at(1), in_sync(Some(300)));
    assert!(!actions(&mut machine, &at(1)).contains(&Action::MakeRequest));
}

#[test]
fn a_renewal_that_is_not_proved_is_not_overtaken_by_another() {
    let mut machine = machine();
    machine.set_previous_certificate(true);
    connect(&mut machine, &at(0));
    machine.message(&at(0), in_sync(Some(300)));
    let proved = actions(&mut machine, &at(0));
    assert!(proved.contains(&Action::Forget(Credential::Previous)), "{proved:?}");
    machine.set_previous_certificate(true);
    machine.message(&at(1), ToAgent::RenewNow);
    assert_eq!(actions(&mut machine, &at(1)), []);
}

#[test]
fn an_agent_that_ends_begins_no_renewal() {
    let mut machine = machine();
    connect(&mut machine, &at(0));
    machine.message(&at(0), ToAgent::RenewNow);
    machine.end(&at(0));
    machine.message(&at(0), in_sync(None));
    let last = actions(&mut machine, &at(0));
    assert!(!last.contains(&Action::MakeRequest), "{last:?}");
    assert_eq!(machine.next_timeout(), None);
}
