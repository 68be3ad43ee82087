//! Artifacts, part by part, over links that end at any moment.

use super::testing::{actions, at, in_sync, said};
use super::*;
use crate::wire::artifact::{ArtifactPart, Fetch};
use crate::wire::id::ArtifactHash;
use crate::wire::message::{ErrorCode, ErrorReport, Later, ToAgent};

const HASH: ArtifactHash = ArtifactHash([0xab; 32]);

fn machine() -> AgentMachine {
    let spool = SpoolState { epoch: Epoch(7), highest: 0, forgotten_through: 0 };
    AgentMachine::new(AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 })
}

fn from(offset: u64) -> Fetch {
    Fetch { hash: HASH, offset }
}

fn part(offset: u64) -> ArtifactPart {
    ArtifactPart { hash: HASH, offset, bytes: vec![7; 10], again_seconds: None, refusal: None }
}

fn hear(machine: &mut AgentMachine, now: &Now, part: ArtifactPart) -> Vec<Action> {
    machine.message(now, ToAgent::ArtifactPart(part));
    actions(machine, now)
}

fn asks(offset: u64) -> String {
    format!("fetch {HASH} from {offset}")
}

/// Syncs on a new link, and wants the part.
fn fetching(keep_seconds: Option<u32>, offset: u64) -> AgentMachine {
    let mut machine = machine();
    connect(&mut machine, &at(0));
    machine.set_fetch(Some(from(offset)));
    assert_eq!(actions(&mut machine, &at(0)), [], "the sync has not ended");
    machine.message(&at(0), in_sync(keep_seconds));
    assert_eq!(said(&actions(&mut machine, &at(0))), [asks(offset)]);
    machine
}

fn connect(machine: &mut AgentMachine, now: &Now) {
    assert_eq!(actions(machine, now).last(), Some(&Action::Connect));
    machine.connected(now);
    let first = said(&actions(machine, now));
    assert!(first.iter().any(|message| message.starts_with("sync ")), "{first:?}");
}

#[test]
fn parts_are_asked_for_one_after_the_other_and_the_link_stays_for_them() {
    for keep_seconds in [None, Some(300)] {
        let mut machine = fetching(keep_seconds, 0);
        for offset in [0, 10, 20] {
            machine.set_fetch(Some(from(offset)));
            assert_eq!(actions(&mut machine, &at(1)), [], "it was asked for");
            assert_eq!(hear(&mut machine, &at(2), part(offset)), [Action::TakeArtifactPart(part(offset))]);
            assert_eq!(actions(&mut machine, &at(2)), [], "nothing is wanted before it is kept");
            machine.set_fetch(Some(from(offset + 10)));
            assert_eq!(said(&actions(&mut machine, &at(2))), [asks(offset + 10)]);
        }
        hear(&mut machine, &at(2), part(30));
        machine.set_fetch(None);
        let last = [actions(&mut machine, &at(2)), actions(&mut machine, &at(4))].concat();
        assert_eq!(last.contains(&Action::CloseLink(LinkEnd::Done)), keep_seconds.is_none());
    }
}

#[test]
fn answers_to_what_was_not_asked_change_nothing() {
    let mut machine = fetching(Some(300), 10);
    let other = ArtifactPart { hash: ArtifactHash([1; 32]), ..part(10) };
    for wrong in [part(0), part(20), other] {
        assert_eq!(hear(&mut machine, &at(1), wrong), []);
    }
    assert_eq!(hear(&mut machine, &at(1), part(10)).len(), 1);
    assert_eq!(hear(&mut machine, &at(1), part(10)), [], "a second one");
}

#[test]
fn another_artifact_waits_until_the_answer_to_the_first_has_come() {
    let mut machine = fetching(Some(300), 0);
    let other = Fetch { hash: ArtifactHash([1; 32]), offset: 5 };
    machine.set_fetch(Some(other));
    assert_eq!(actions(&mut machine, &at(1)), []);
    assert_eq!(said(&hear(&mut machine, &at(1), part(0))), [format!("fetch {} from 5", other.hash)]);
    machine.set_fetch(None);
    let answer = ArtifactPart { hash: other.hash, ..part(5) };
    assert_eq!(hear(&mut machine, &at(1), answer), [], "nobody wants it any more");
}

#[test]
fn a_refusal_is_told() {
    let mut machine = fetching(Some(300), 0);
    let refused = ArtifactPart { bytes: Vec::new(), refusal: Some("no run needs it".into()), ..part(0) };
    assert_eq!(hear(&mut machine, &at(1), refused.clone()), [Action::TakeArtifactPart(refused)]);
    assert_eq!(actions(&mut machine, &at(2)), []);
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_said_so() {
    for (keep_seconds, again_seconds) in [(Some(300), 20), (None, 20), (Some(300), 100), (None, 100)] {
        let mut machine = fetching(keep_seconds, 0);
        let later = ArtifactPart { bytes: Vec::new(), again_seconds: Some(again_seconds), ..part(0) };
        assert_eq!(hear(&mut machine, &at(0), later), []);
        let time = u64::from(again_seconds);
        let before = [actions(&mut machine, &at(1)), actions(&mut machine, &at(time - 1))].concat();
        assert!(said(&before).iter().all(|message| message.starts_with("ping ")), "{before:?}");
        if keep_seconds.is_none() && again_seconds == 100 {
            assert_eq!(before, [Action::CloseLink(LinkEnd::Done)], "a link costs the server more by then");
            assert_eq!(machine.next_timeout(), Some(at(time).moment));
            connect(&mut machine, &at(time));
            machine.message(&at(time), in_sync(keep_seconds));
        } else if keep_seconds.is_none() {
            assert_eq!(machine.next_timeout(), Some(at(time).moment));
        }
        assert_eq!(said(&actions(&mut machine, &at(time))).last(), Some(&asks(0)));
    }
}

#[test]
fn a_broken_link_costs_the_part_that_was_under_way_and_no_more() {
    for keep_seconds in [None, Some(300)] {
        let mut machine = fetching(keep_seconds, 0);
        hear(&mut machine, &at(1), part(0));
        machine.set_fetch(Some(from(10)));
        actions(&mut machine, &at(1));
        machine.disconnected(&at(2), "reset");
        let failed = actions(&mut machine, &at(2));
        assert!(failed.iter().all(|action| matches!(action, Action::SyncFinished(_))), "{failed:?}");
        let next = at(500);
        connect(&mut machine, &next);
        assert_eq!(hear(&mut machine, &next, part(10)), [], "it was not asked on this link");
        machine.message(&next, in_sync(keep_seconds));
        assert_eq!(said(&actions(&mut machine, &next)), [asks(10)]);
    }
}

#[test]
fn a_part_that_does_not_come_ends_the_link() {
    let mut machine = fetching(None, 0);
    assert_eq!(machine.next_timeout(), Some(at(ANSWER_SECONDS_MAX).moment));
    assert_eq!(actions(&mut machine, &at(ANSWER_SECONDS_MAX - 1)), []);
    let ended = actions(&mut machine, &at(ANSWER_SECONDS_MAX));
    assert!(ended.contains(&Action::CloseLink(LinkEnd::Silent)), "{ended:?}");
    connect(&mut machine, &at(900));
    machine.message(&at(900), in_sync(None));
    assert_eq!(said(&actions(&mut machine, &at(900))), [asks(0)]);
}

#[test]
fn a_server_that_does_not_know_artifacts_is_asked_again_later_on_the_same_link() {
    for code in [ErrorCode::UnknownKind, ErrorCode::Unexpected, ErrorCode::Internal] {
        let mut machine = fetching(Some(300), 0);
        machine.message(&at(0), ToAgent::Error(ErrorReport { code, message: "what?".into() }));
        assert_eq!(actions(&mut machine, &at(1)), [], "{code:?}");
        assert!(machine.is_connected());
        let again = said(&actions(&mut machine, &at(60)));
        assert!(again.contains(&asks(0)), "{again:?}");
    }
}

#[test]
fn a_server_that_sends_the_device_away_is_not_asked_before() {
    let mut machine = fetching(None, 0);
    machine.message(&at(0), ToAgent::Later(Later { seconds: 100, only_events: false }));
    assert_eq!(actions(&mut machine, &at(0)), [Action::CloseLink(LinkEnd::Later)]);
    assert_eq!(machine.next_timeout(), Some(at(100).moment));
    connect(&mut machine, &at(100));
    machine.message(&at(100), in_sync(None));
    assert_eq!(said(&actions(&mut machine, &at(100))), [asks(0)]);
}

/// The device had events to deliver, and no sync to make.
#[test]
fn a_link_without_a_sync_has_one_first() {
    let mut machine = fetching(None, 0);
    hear(&mut machine, &at(0), part(0));
    machine.set_fetch(None);
    assert_eq!(actions(&mut machine, &at(5)), [Action::CloseLink(LinkEnd::Done)]);
    machine.events_available(1);
    assert_eq!(actions(&mut machine, &at(6)), [Action::Connect]);
    machine.connected(&at(6));
    machine.set_fetch(Some(from(10)));
    assert_eq!(said(&actions(&mut machine, &at(6))), ["sync Reconnected"]);
    machine.message(&at(6), in_sync(None));
    assert_eq!(said(&actions(&mut machine, &at(6))), [asks(10)]);
}

#[test]
fn a_renewal_and_a_part_are_never_under_way_together() {
    let mut machine = fetching(Some(300), 0);
    machine.message(&at(0), ToAgent::RenewNow);
    assert_eq!(actions(&mut machine, &at(0)), []);
    assert!(machine.next_timeout() > Some(at(0).moment), "it does not spin");
    assert_eq!(hear(&mut machine, &at(0), part(0)), [Action::TakeArtifactPart(part(0)), Action::MakeRequest]);
    machine.set_fetch(Some(from(10)));
    machine.request_made(&at(0), vec![1; 200]);
    assert_eq!(said(&actions(&mut machine, &at(0))), ["renew 200"]);
    assert!(machine.next_timeout() > Some(at(0).moment), "it does not spin");
    machine.renewal_failed("no");
    assert_eq!(said(&actions(&mut machine, &at(0))), [asks(10)]);
}

#[test]
fn an_agent_that_ends_fetches_no_more() {
    let mut machine = fetching(None, 0);
    machine.end(&at(0));
    hear(&mut machine, &at(0), part(0));
    machine.set_fetch(Some(from(10)));
    assert_eq!(actions(&mut machine, &at(0)), []);
    assert_eq!(machine.next_timeout(), None);
}
