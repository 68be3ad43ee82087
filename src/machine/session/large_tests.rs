//! A desired state that is more than is said at once.

use super::testing::{DEVICE, now, policy};
use super::*;
use crate::machine::command::{DesiredState, DesiredStateAfter};
use crate::wire::digest::Digest;
use crate::wire::id::RunId;
use crate::wire::message::{NamedSection, Sync, SyncReason};
use crate::wire::section::{Section, SectionState};
use crate::wire::settings::{Drift, SETTINGS_SECTION, SettingsOrder};
use crate::wire::task::{RUNS_SECTION, RunList};
use crate::wire::time::WallTime;

/// A device whose sections are in sync and that lacks what it is to have.
fn lacking() -> (Session, DeviceState) {
    let mut record = DeviceState::new(DEVICE, 900);
    record.desired_digest = Digest(9);
    let named = |section, digest| NamedSection { section, digest, revision: 4, confirmed_revision: None };
    let mut sections: Vec<_> =
        Section::ALL.map(|section| named(section.number(), Digest(0xd))).into_iter().collect();
    sections.extend([named(SETTINGS_SECTION, Digest(1)), named(RUNS_SECTION, Digest(2))]);
    for section in Section::ALL {
        record.set_section(section, SectionState { digest: Digest(0xd), revision: 4 });
    }
    let sync = Sync {
        agent_epoch: record.agent_epoch,
        server_epoch: Epoch(3),
        reason: SyncReason::Scheduled,
        clock: WallTime(0),
        sections,
        reach: None,
        identity: None,
    };
    let (mut session, mut out) = (Session::new(&now(0), Some(DEVICE)), Vec::new());
    session.handle(&now(0), ToServer::Sync(sync), Some(&mut record), &policy(), &mut out);
    assert_eq!(out, [Command::Job(Box::new(Job::DesiredState(DEVICE)))]);
    (session, record)
}

fn settings(application: &str) -> SettingsOrder {
    SettingsOrder {
        application: application.into(),
        revision: 1,
        settings: Some("{}".into()),
        drift: Drift::Repair,
    }
}

fn some(application: &str) -> JobOutcome {
    let desired_state = DesiredState { settings: vec![settings(application)], ..DesiredState::default() };
    let told = DesiredStateAfter::Application(application.into());
    JobOutcome::DesiredState(DesiredStateOutcome::Part(Box::new(desired_state), told))
}

#[test]
fn the_next_of_what_a_device_is_told_is_worked_out_when_it_has_been_sent_the_first() {
    let (mut session, mut record) = lacking();
    for application in ["a", "b", "c"] {
        let mut out = Vec::new();
        session.job_done(&now(1), some(application), Some(&mut record), &policy(), &mut out);
        let order = Box::new(settings(application));
        assert_eq!(out, [Command::Send(ToAgent::Settings(order))], "no list, no end of the sync");
        assert!(session.waits_to_be_sent() && !session.has_job());
        // It may take its time, as long as it takes some.
        session.took_some(&now(1_000));
        assert!(session.deadline() > now(1_000).moment);
        let mut out = Vec::new();
        session.sent(&now(1_000), &mut out);
        let more = Job::MoreDesiredState(DEVICE, DesiredStateAfter::Application(application.into()));
        assert_eq!(out, [Command::Job(Box::new(more))]);
        assert!(!session.waits_to_be_sent() && session.has_job());
        session.sent(&now(1_000), &mut out);
        assert_eq!(out.len(), 1, "once");
    }
    let mut out = Vec::new();
    let rest = DesiredState { list: vec![RunId(4)], ..DesiredState::default() };
    session.job_done(
        &now(1_001),
        JobOutcome::DesiredState(DesiredStateOutcome::All(Box::new(rest))),
        Some(&mut record),
        &policy(),
        &mut out,
    );
    assert_eq!(out[0], Command::Send(ToAgent::Runs(RunList { runs: vec![RunId(4)] })));
    assert!(matches!(out[1], Command::Send(ToAgent::InSync(_))), "{out:?}");
    assert!(!session.has_job() && !session.waits_to_be_sent());
}

#[test]
fn what_can_not_be_worked_out_is_put_off() {
    let (mut session, mut record) = lacking();
    let mut out = Vec::new();
    session.job_done(&now(1), some("a"), Some(&mut record), &policy(), &mut out);
    session.sent(&now(1), &mut out);
    let Some(Command::Job(job)) = out.last() else { panic!("{out:?}") };
    let failure = job.failure();
    let mut out = Vec::new();
    session.job_done(&now(2), failure, Some(&mut record), &policy(), &mut out);
    assert!(matches!(out[0], Command::Send(ToAgent::Later(_))), "{out:?}");
    assert!(!session.has_job() && !session.waits_to_be_sent());
}

#[test]
fn a_stranger_is_not_kept_for_what_it_takes() {
    let mut session = Session::new(&now(0), None);
    let deadline = session.deadline();
    session.took_some(&now(19));
    assert_eq!(session.deadline(), deadline);
}
