//! A device is told what to trust, and its answer counts once it is stored.

use super::testing::{DEVICE, now, policy};
use super::*;
use crate::wire::message::{Sync, SyncIdentity, SyncReason, Trust};
use crate::wire::time::WallTime;

const LABEL: u64 = 7;

struct Side {
    session: Session,
    record: DeviceState,
    policy: SyncPolicy,
}

impl Side {
    fn new() -> Self {
        let policy = SyncPolicy { trust_label: LABEL, ..policy() };
        Self { session: Session::new(&now(0), Some(DEVICE)), record: DeviceState::new(DEVICE, 900), policy }
    }

    fn sync(&mut self, named: Option<u64>) -> Vec<Command<'static>> {
        let sync = ToServer::Sync(Sync {
            agent_epoch: Epoch(5),
            server_epoch: Epoch(3),
            reason: SyncReason::Scheduled,
            clock: WallTime(0),
            sections: Vec::new(),
            reach: None,
            identity: named.map(|trust_label| SyncIdentity { trust_label, machine: 0 }),
        });
        let mut out = Vec::new();
        self.session.handle(&now(1), sync, Some(&mut self.record), &self.policy, &mut out);
        out
    }

    fn done(&mut self, outcome: JobOutcome) -> Vec<Command<'static>> {
        let mut out = Vec::new();
        self.session.job_done(&now(2), outcome, Some(&mut self.record), &self.policy, &mut out);
        out
    }
}

fn job(job: Job) -> Command<'static> {
    Command::Job(Box::new(job))
}

fn is_in_sync(commands: &[Command<'_>]) -> bool {
    commands.iter().any(|command| matches!(command, Command::Send(ToAgent::InSync(_))))
}

fn trust() -> Box<Trust> {
    Box::new(Trust {
        label: LABEL,
        pins: vec![vec![1]],
        voucher_floor: 2,
        wake_key: [3; 32],
        notice_key: [4; 32],
    })
}

#[test]
fn one_that_names_something_else_is_told_before_its_sync_ends_and_noted_when_it_names_that() {
    let mut side = Side::new();
    assert_eq!(side.sync(Some(0)), [job(Job::Trust(DEVICE))]);
    let answer = side.done(JobOutcome::Trust(Some(trust())));
    assert_eq!(answer[0], Command::Send(ToAgent::Trust(trust())));
    assert!(is_in_sync(&answer[1..]), "{answer:?}");
    assert!(!side.record.has_trust());
    let named = side.sync(Some(LABEL));
    assert_eq!(named[0], job(Job::NoteTrust(DEVICE, LABEL)));
    assert!(is_in_sync(&named), "it does not wait for that");
    assert!(!side.record.has_trust(), "not before it is stored");
    side.record.set_trust(true);
    assert!(side.done(JobOutcome::TrustNoted).is_empty());
    for named in [None, Some(LABEL)] {
        let next = side.sync(named);
        assert!(is_in_sync(&next) && !next.iter().any(|command| matches!(command, Command::Job(_))));
    }
}

#[test]
fn what_changes_while_the_link_is_open_is_told_with_the_next_sync() {
    let mut side = Side::new();
    side.record.set_trust(true);
    assert!(is_in_sync(&side.sync(Some(LABEL))));
    side.policy.trust_label = 8;
    side.record.set_trust(false);
    assert_eq!(side.sync(None), [job(Job::Trust(DEVICE))]);
    // It could not be worked out: the sync ends all the same, and the next one tries again.
    assert!(is_in_sync(&side.done(JobOutcome::Trust(None))));
    assert_eq!(side.sync(None), [job(Job::Trust(DEVICE))]);
}

#[test]
fn one_that_names_nothing_is_told_nothing() {
    let mut side = Side::new();
    assert!(is_in_sync(&side.sync(None)));
    side.policy.trust_label = 0;
    assert!(is_in_sync(&side.sync(Some(5))));
}

#[test]
fn without_room_the_sync_goes_on_and_nothing_is_told() {
    let mut side = Side::new();
    side.policy.has_room = false;
    for named in [Some(0), Some(LABEL)] {
        let answer = side.sync(named);
        assert!(is_in_sync(&answer) && !answer.iter().any(|command| matches!(command, Command::Job(_))));
    }
    side.policy.has_room = true;
    assert_eq!(side.sync(Some(0)), [job(Job::Trust(DEVICE))]);
}
