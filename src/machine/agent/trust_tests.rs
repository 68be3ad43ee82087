//! The agent says what it trusts once a link, and again when that has changed.

use super::testing::{actions, at, in_sync};
use super::*;
use crate::wire::frame;
use crate::wire::message::{ToAgent, ToServer, Trust};

fn named(actions: &[Action]) -> Option<Option<u64>> {
    actions.iter().find_map(|action| {
        let Action::Send(bytes) = action else { return None };
        let (body, _) = frame::split(bytes).unwrap().unwrap();
        match ToServer::from_body(body).unwrap() {
            ToServer::Sync(sync) => Some(sync.identity.map(|identity| identity.trust_label)),
            _ => None,
        }
    })
}

fn connected(machine: &mut AgentMachine, seconds: u64) -> Vec<Action> {
    actions(machine, &at(seconds));
    machine.connected(&at(seconds));
    actions(machine, &at(seconds))
}

#[test]
fn what_is_trusted_is_named_once_a_link_and_when_it_was_stored() {
    let spool = SpoolState { epoch: Epoch(1), highest: 0, forgotten_through: 0 };
    let start = AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 };
    let mut machine = AgentMachine::new(start);
    machine.set_identity(SyncIdentity { trust_label: 0, machine: 9 });
    assert_eq!(named(&connected(&mut machine, 0)), Some(Some(0)));
    let trust = Box::new(Trust {
        label: 7,
        pins: vec![vec![1]],
        voucher_floor: 0,
        wake_key: [1; 32],
        notice_key: [2; 32],
    });
    machine.message(&at(1), ToAgent::Trust(trust.clone()));
    machine.message(&at(1), in_sync(Some(60)));
    let taken = actions(&mut machine, &at(1));
    assert!(taken.contains(&Action::TakeTrust(trust)), "{taken:?}");
    assert_eq!(named(&taken), None, "nothing is named that is not stored");
    machine.set_trust(7);
    assert_eq!(named(&actions(&mut machine, &at(2))), Some(Some(7)));
    machine.message(&at(2), in_sync(Some(60)));
    actions(&mut machine, &at(2));
    machine.called(&at(3), SyncReason::Forced);
    assert_eq!(named(&actions(&mut machine, &at(3))), Some(None), "a sync without changes stays short");
    machine.message(&at(3), in_sync(Some(60)));
    machine.disconnected(&at(4), "reset");
    assert_eq!(named(&connected(&mut machine, 1_000)), Some(Some(7)));
}

#[test]
fn what_was_stored_before_the_sync_ended_is_named_in_another() {
    let spool = SpoolState { epoch: Epoch(1), highest: 0, forgotten_through: 0 };
    let start = AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 };
    let mut machine = AgentMachine::new(start);
    machine.set_identity(SyncIdentity { trust_label: 1, machine: 9 });
    assert_eq!(named(&connected(&mut machine, 0)), Some(Some(1)));
    machine.set_trust(7);
    machine.message(&at(1), in_sync(Some(60)));
    assert_eq!(named(&actions(&mut machine, &at(1))), Some(Some(7)));
}
