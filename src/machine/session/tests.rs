use super::testing::{DEVICE, now, policy};
use super::*;
use crate::machine::command::{DesiredState, SectionUpdate};
use crate::wire::artifact::{ArtifactPart, Fetch};
use crate::wire::digest::Digest;
use crate::wire::event::{Event, Severity};
use crate::wire::id::{ArtifactHash, RunId, TokenId};
use crate::wire::inventory::{Application, digest_of};
use crate::wire::message::{
    Enrol, EventItem, Events, InSync, NamedSection, Part, PartContent, Ping, Renew, Renewed, Resend, Sync,
    SyncReason, Want, WantedSection,
};
use crate::wire::section::{Section, SectionState};
use crate::wire::settings::{Drift, SETTINGS_SECTION, SettingsOrder};
use crate::wire::task::{RUNS_SECTION, RunAck, RunList, RunUpdates, RunsStored};
use crate::wire::time::WallTime;

const PING: ToServer<'static> = ToServer::Ping(Ping { next_seconds: None });

fn record() -> DeviceState {
    let mut record = DeviceState::new(DEVICE, 900);
    record.agent_epoch = Epoch(5);
    for section in Section::ALL {
        record.set_section(section, SectionState { digest: Digest(0xd), revision: 4 });
    }
    record
}

fn sync_at(digest: Digest, revision: u64, confirmed_revision: Option<u64>) -> ToServer<'static> {
    let sections = Section::ALL.map(|section| NamedSection {
        section: section.number(),
        digest: if section == Section::Inventory { digest } else { Digest(0xd) },
        revision: if section == Section::Inventory { revision } else { 4 },
        confirmed_revision: if section == Section::Inventory { confirmed_revision } else { None },
    });
    ToServer::Sync(Sync {
        agent_epoch: Epoch(5),
        server_epoch: Epoch(3),
        reason: SyncReason::Scheduled,
        clock: WallTime(0),
        sections: sections.to_vec(),
        reach: None,
        identity: None,
    })
}

fn handle<'b>(session: &mut Session, record: &mut DeviceState, message: ToServer<'b>) -> Vec<Command<'b>> {
    let mut out = Vec::new();
    session.handle(&now(1), message, Some(record), &policy(), &mut out);
    out
}

fn job_done(session: &mut Session, record: &mut DeviceState, outcome: JobOutcome) -> Vec<Command<'static>> {
    let mut out = Vec::new();
    session.job_done(&now(2), outcome, Some(record), &policy(), &mut out);
    out
}

fn application(name: &str) -> Application {
    Application { name: name.into(), version: "1".into(), publisher: String::new() }
}

fn part(
    base: Option<Digest>,
    digest: Digest,
    index: u32,
    is_last: bool,
    names: &[&str],
) -> ToServer<'static> {
    let added = names.iter().map(|name| application(name)).collect();
    ToServer::Part(Box::new(Part {
        section: Section::Inventory,
        revision: 5,
        digest,
        base,
        index,
        is_last,
        content: PartContent { added, ..PartContent::default() },
    }))
}

fn in_sync(policy: &SyncPolicy) -> ToAgent {
    ToAgent::InSync(InSync {
        server_epoch: policy.server_epoch,
        next_seconds: policy.next_seconds,
        interval_seconds: policy.interval_seconds,
        keep_seconds: policy.keep_seconds,
        notice_port: None,
        notice_counter: None,
        reconnect_seconds: None,
    })
}

fn want(base: Option<Digest>) -> Command<'static> {
    Command::Send(ToAgent::Want(Want { sections: vec![WantedSection { section: Section::Inventory, base }] }))
}

fn error_code(command: &Command<'_>) -> Option<ErrorCode> {
    match command {
        Command::Send(ToAgent::Error(report)) => Some(report.code),
        _ => None,
    }
}

#[test]
fn a_stranger_may_enrol_and_nothing_else() {
    let mut session = Session::new(&now(0), None);
    let mut out = Vec::new();
    session.handle(&now(1), PING, None, &policy(), &mut out);
    assert_eq!(error_code(&out[0]), Some(ErrorCode::NotEnrolled));
    assert_eq!(out[1], Command::Close(CloseReason::NotEnrolled));

    let mut session = Session::new(&now(0), None);
    let enrol = Enrol { token: TokenId(1), secret: [0; 24], request: vec![1], name: "kiosk".into() };
    let mut out = Vec::new();
    session.handle(&now(1), ToServer::Enrol(enrol.clone()), None, &policy(), &mut out);
    assert_eq!(out, [Command::Job(Box::new(Job::Enrol(enrol)))]);
    assert!(session.has_job());
    let mut out = Vec::new();
    session.job_done(&now(2), JobOutcome::Enrolment(EnrolmentOutcome::Failed), None, &policy(), &mut out);
    assert_eq!(out[1], Command::Close(CloseReason::EnrolmentDone));
}

#[test]
fn a_sync_in_which_nothing_changed_is_answered_at_once() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let out = handle(&mut session, &mut record, sync_at(Digest(0xd), 4, None));
    assert_eq!(out, [Command::Send(in_sync(&policy())), Command::Synced]);
    assert_eq!(record.last_sync, now(1).wall);
}

#[test]
fn a_changed_section_is_asked_for_as_a_difference_and_stored() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let digest = digest_of(&[application("a"), application("b")]);
    let out = handle(&mut session, &mut record, sync_at(digest, 5, Some(4)));
    assert_eq!(out, [want(Some(Digest(0xd)))]);
    assert_eq!(handle(&mut session, &mut record, part(Some(Digest(0xd)), digest, 0, false, &["a"])), []);
    let out = handle(&mut session, &mut record, part(Some(Digest(0xd)), digest, 1, true, &["b"]));
    let [Command::Job(job)] = &out[..] else { panic!("{out:?}") };
    let Job::Section(SectionUpdate { revision: 5, base: Some(Digest(0xd)), change, .. }) = &**job else {
        panic!("{job:?}")
    };
    assert!(
        matches!(change, crate::machine::command::SectionChange::Inventory(change) if change.added.len() == 2)
    );

    let state = SectionState { digest, revision: 5 };
    let stored = JobOutcome::Section(Section::Inventory, SectionOutcome::Stored(state));
    let out = job_done(&mut session, &mut record, stored);
    assert_eq!(out, [Command::Send(in_sync(&policy())), Command::Synced]);
}

#[test]
fn a_difference_that_does_not_fit_is_asked_for_whole_but_not_for_ever() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let digest = Digest(0xbad);
    handle(&mut session, &mut record, sync_at(digest, 5, Some(4)));
    for round in 0..3 {
        let base = (round == 0).then_some(Digest(0xd));
        handle(&mut session, &mut record, part(base, digest, 0, true, &["a"]));
        let outcome = JobOutcome::Section(Section::Inventory, SectionOutcome::DigestMismatch);
        let out = job_done(&mut session, &mut record, outcome);
        match round {
            2 => assert_eq!(error_code(&out[0]), Some(ErrorCode::Malformed)),
            _ => assert_eq!(out, [want(None)]),
        }
    }
}

#[test]
fn parts_out_of_order_or_unasked_end_the_sync_and_not_the_link() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let out = handle(&mut session, &mut record, part(None, Digest(1), 0, true, &["a"]));
    assert_eq!(error_code(&out[0]), Some(ErrorCode::Unexpected));
    handle(&mut session, &mut record, sync_at(Digest(1), 5, Some(4)));
    let out = handle(&mut session, &mut record, part(None, Digest(1), 1, true, &["a"]));
    assert_eq!(error_code(&out[0]), Some(ErrorCode::Malformed));
    let out = handle(&mut session, &mut record, sync_at(Digest(0xd), 4, None));
    assert_eq!(out.len(), 2, "the next sync works");
}

#[test]
fn a_rolled_back_agent_and_a_restored_server_are_told_apart() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let out = handle(&mut session, &mut record, sync_at(Digest(1), 2, Some(2)));
    assert_eq!(error_code(&out[0]), Some(ErrorCode::AgentEpochConflict));
    let out = handle(&mut session, &mut record, sync_at(Digest(1), 9, Some(8)));
    assert_eq!(out, [Command::ServerRestored, want(None)]);
    record.note_appended(Epoch(9), 3, 0xc, 64);
    let mut session = Session::new(&now(0), Some(DEVICE));
    let out = handle(&mut session, &mut record, sync_at(Digest(1), 9, Some(8)));
    let resend = Command::Send(ToAgent::Resend(Resend { spool_epoch: Epoch(9), after: 3 }));
    assert_eq!(out, [Command::ServerRestored, resend, want(None)], "its events are asked for as well");
}

#[test]
fn without_room_a_device_is_sent_away_before_it_sends_anything() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let mut out = Vec::new();
    let policy = SyncPolicy { has_room: false, ..policy() };
    session.handle(&now(1), sync_at(Digest(1), 5, Some(4)), Some(&mut record), &policy, &mut out);
    assert_eq!(out, [Command::Send(ToAgent::Later(Later::with_all(LATER_SECONDS)))]);
}

fn event_bytes(message: &str) -> Vec<u8> {
    let event = Event {
        severity: Severity::Info,
        application: "a".into(),
        kind: "k".into(),
        message: message.into(),
        occurred_at: WallTime(1),
        fields: vec![],
    };
    event.to_bytes().unwrap()
}

fn events<'b>(highest: u64, items: &[(u64, &'b [u8])]) -> ToServer<'b> {
    events_behind(None, highest, items)
}

fn events_behind<'b>(acknowledged: Option<u64>, highest: u64, items: &[(u64, &'b [u8])]) -> ToServer<'b> {
    let items = items.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
    ToServer::Events(Events { spool_epoch: Epoch(9), highest, items, acknowledged, ..Events::default() })
}

#[test]
fn events_are_appended_once_and_acknowledged_together() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let (one, two) = (event_bytes("one"), event_bytes("two"));
    let out = handle(&mut session, &mut record, events(2, &[(1, &one), (2, &two)]));
    let appended =
        |sequence, body| Command::Append { spool_epoch: Epoch(9), sequence, body, crc: crc32c::crc32c(body) };
    assert_eq!(out, [appended(1, &one), appended(2, &two), Command::AckWhenDurable]);
    record.note_appended(Epoch(9), 2, crc32c::crc32c(&two), 128);

    let again = handle(&mut session, &mut record, events(2, &[(1, &one), (2, &two)]));
    assert_eq!(again, [Command::AckWhenDurable], "repeated: acknowledged, not stored");
    let before = handle(&mut session, &mut record, events(2, &[(1, &one)]));
    assert_eq!(before, [], "not acknowledged until the last one has come again");
    let conflicting = handle(&mut session, &mut record, events(2, &[(1, &one), (2, &one)]));
    assert_eq!(error_code(&conflicting[0]), Some(ErrorCode::SpoolEpochConflict));
    assert_eq!(conflicting[1], Command::Close(CloseReason::SpoolEpochConflict), "what is under way is void");
    assert_eq!(handle(&mut session, &mut record, events(3, &[(3, &one)])), [], "nothing is taken any more");
    let mut session = Session::new(&now(0), Some(DEVICE));
    let rolled_back = handle(&mut session, &mut record, events(1, &[(1, &one)]));
    assert_eq!(error_code(&rolled_back[0]), Some(ErrorCode::SpoolEpochConflict));
}

#[test]
fn a_device_with_a_lower_spool_epoch_is_told_which_is_known() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let one = event_bytes("one");
    record.note_appended(Epoch(20), 3, crc32c::crc32c(&one), 64);
    let out = handle(&mut session, &mut record, events(1, &[(1, &one)]));
    let known = Resend { spool_epoch: Epoch(20), after: 3 };
    assert_eq!(out[0], Command::Send(ToAgent::Resend(known)));
    assert_eq!(error_code(&out[1]), Some(ErrorCode::SpoolEpochConflict));
    assert_eq!(out[2..], [Command::Close(CloseReason::SpoolEpochConflict)]);
}

#[test]
fn a_server_that_knows_less_than_it_acknowledged_takes_nothing_and_asks_for_all_behind_what_it_knows() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let (three, seven) = (event_bytes("three"), event_bytes("seven"));
    record.note_appended(Epoch(9), 3, crc32c::crc32c(&three), 64);
    let resend = |spool_epoch, after| Command::Send(ToAgent::Resend(Resend { spool_epoch, after }));
    let out = handle(&mut session, &mut record, events_behind(Some(6), 7, &[(7, &seven)]));
    assert_eq!(out, [resend(Epoch(9), 3)], "an acknowledgement of 7 would cover 4 to 6");
    // The device has 5 still, and 4 not any more.
    let again = events_behind(Some(3), 7, &[(5, &three), (7, &seven)]);
    let out = handle(&mut session, &mut record, again);
    assert!(matches!(out[..2], [Command::Append { sequence: 5, .. }, Command::Append { sequence: 7, .. }]));
    assert_eq!(out[2], Command::AckWhenDurable);

    record.note_appended(Epoch(8), 100, 0, 128);
    let out = handle(&mut session, &mut record, events_behind(Some(6), 7, &[(7, &seven)]));
    assert_eq!(out, [resend(Epoch(9), 0)], "of a history that it never heard of it knows nothing");
}

#[test]
fn events_before_the_last_one_are_not_taken_for_repetitions_when_that_one_is_left_out() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let other = event_bytes("of a device that was rolled back");
    record.note_appended(Epoch(9), 5, crc32c::crc32c(&event_bytes("five")), 64);
    // It dropped its own fifth event.
    assert_eq!(handle(&mut session, &mut record, events(4, &[])).len(), 2, "its numbers lie below");
    for split in [1, 2] {
        let mut session = Session::new(&now(0), Some(DEVICE));
        let items = [(4, other.as_slice()), (6, other.as_slice())];
        let mut out = handle(&mut session, &mut record, events(6, &items[..split]));
        if split == 1 {
            assert_eq!(out, [], "the fifth may follow");
            out = handle(&mut session, &mut record, events(6, &items[split..]));
        }
        assert_eq!(error_code(&out[0]), Some(ErrorCode::SpoolEpochConflict), "4 would be lost");
    }
    let mut session = Session::new(&now(0), Some(DEVICE));
    let out = handle(&mut session, &mut record, events(6, &[(6, &other)]));
    assert_eq!(out.len(), 2, "nothing is in doubt where nothing came before");
    let mut session = Session::new(&now(0), Some(DEVICE));
    assert_eq!(handle(&mut session, &mut record, events(6, &[(4, &other)])), []);
    let ToServer::Events(end) = events(6, &[]) else { unreachable!() };
    let end = ToServer::Events(Events { sent_through: Some(6), ..end });
    let out = handle(&mut session, &mut record, end);
    assert_eq!(error_code(&out[0]), Some(ErrorCode::SpoolEpochConflict), "5 and 6 never come");
    let mut session = Session::new(&now(0), Some(DEVICE));
    let five = event_bytes("five");
    let out = handle(&mut session, &mut record, events(6, &[(4, &other), (5, &five), (6, &other)]));
    assert_eq!(out.len(), 2, "the fifth shows that they are the same");
}

#[test]
fn a_device_can_not_speak_in_the_servers_own_history() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let one = event_bytes("one");
    let items = vec![EventItem { sequence: 1, body: &one }];
    let own = ToServer::Events(Events { spool_epoch: Epoch(0), highest: 1, items, ..Events::default() });
    let out = handle(&mut session, &mut record, own);
    assert_eq!(error_code(&out[0]), Some(ErrorCode::SpoolEpochConflict));
    assert_eq!(out[1], Command::Close(CloseReason::SpoolEpochConflict));
}

#[test]
fn what_the_server_can_not_read_is_stored_as_it_came_and_acknowledged() {
    let one = event_bytes("one");
    for items in [[(1, &one[..]), (2, b"\xa0")], [(1, b"\xa0"), (2, &one)]] {
        let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
        let out = handle(&mut session, &mut record, events(2, &items));
        let appended = |number: usize| {
            let (sequence, body) = items[number];
            Command::Append { spool_epoch: Epoch(9), sequence, body, crc: crc32c::crc32c(body) }
        };
        assert_eq!(out, [appended(0), appended(1), Command::AckWhenDurable]);
    }
}

#[test]
fn events_behind_one_that_had_no_room_are_not_taken_on_the_same_link() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let one = event_bytes("one");
    handle(&mut session, &mut record, events(1, &[(1, &one)]));
    let mut out = Vec::new();
    session.append_refused(30, &mut out);
    assert_eq!(out[0], Command::Send(ToAgent::Later(Later::with_all(30))));
    assert_eq!(out[1], Command::Close(CloseReason::JournalFull));
    assert_eq!(handle(&mut session, &mut record, events(2, &[(2, &one)])), [], "the first would be lost");
}

#[test]
fn a_removed_device_is_refused_whatever_it_says() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let mut out = Vec::new();
    session.handle(&now(1), PING, None, &policy(), &mut out);
    assert_eq!(error_code(&out[0]), Some(ErrorCode::DeviceRemoved));
    assert_eq!(out[1], Command::Close(CloseReason::DeviceRemoved));
    assert_eq!(handle(&mut session, &mut record, PING), [], "nothing more once it is closing");
}

#[test]
fn malformed_messages_are_told_and_counted() {
    let mut session = Session::new(&now(0), Some(DEVICE));
    let error = MessageError::Malformed("x".into());
    let mut out = Vec::new();
    for _ in 0..MALFORMED_MAX {
        session.handle_undecodable(&MessageError::UnknownKind(99), &mut out);
        session.handle_undecodable(&error, &mut out);
    }
    assert_eq!(out.last(), Some(&Command::Close(CloseReason::Malformed)));
    assert_eq!(out.iter().filter(|command| matches!(command, Command::Close(_))).count(), 1);
}

#[test]
fn silence_ends_a_link_for_a_named_reason() {
    let mut session = Session::new(&now(0), Some(DEVICE));
    let mut out = Vec::new();
    session.handle_timeout(&now(FIRST_MESSAGE_SECONDS - 1), &mut out);
    assert_eq!(out, []);
    session.handle_timeout(&now(FIRST_MESSAGE_SECONDS), &mut out);
    assert_eq!(out, [Command::Close(CloseReason::SilentStranger)]);

    let (mut session, mut out) = (Session::new(&now(0), None), Vec::new());
    session.handle_timeout(&now(4), &mut out);
    assert_eq!(out, []);
    session.handle_timeout(&now(5), &mut out);
    assert_eq!(out, [Command::Close(CloseReason::SilentStranger)], "a peer without a certificate sooner");

    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let mut out = Vec::new();
    let kept = SyncPolicy { keep_seconds: Some(40), ..policy() };
    session.handle(&now(0), sync_at(Digest(0xd), 4, None), Some(&mut record), &kept, &mut out);
    assert_eq!(session.deadline(), now(80).moment, "as long again as it was told");
    let ping = ToServer::Ping(Ping { next_seconds: Some(10) });
    session.handle(&now(5), ping, Some(&mut record), &kept, &mut out);
    assert_eq!(session.deadline(), now(25).moment, "as long again as it said");
    out.clear();
    session.handle_timeout(&now(25), &mut out);
    assert_eq!(out, [Command::Close(CloseReason::Idle)]);
}

#[test]
fn a_stopping_server_says_when_to_come_again() {
    let mut session = Session::new(&now(0), Some(DEVICE));
    let mut out = Vec::new();
    session.stop(17, &mut out);
    assert_eq!(out[0], Command::Send(ToAgent::Later(Later::with_all(17))));
    assert_eq!(out[2], Command::Close(CloseReason::Stopping));
    let mut more = Vec::new();
    session.superseded(&mut more);
    assert_eq!(more, [], "closing once");
}

/// A sync in which the device's sections are in sync, and its desired state is that with these digests.
fn sync_with_desired_digests(settings: u64, runs: u64) -> ToServer<'static> {
    let ToServer::Sync(mut sync) = sync_at(Digest(0xd), 4, None) else { unreachable!() };
    let named = |section, digest| NamedSection {
        section,
        digest: Digest(digest),
        revision: 0,
        confirmed_revision: None,
    };
    sync.sections.extend([named(SETTINGS_SECTION, settings), named(RUNS_SECTION, runs)]);
    ToServer::Sync(sync)
}

#[test]
fn a_device_that_has_its_desired_state_is_in_sync_at_once_and_one_that_takes_none_too() {
    let mut record = record();
    record.desired_digest = Digest(7);
    let mut session = Session::new(&now(0), Some(DEVICE));
    for message in [sync_with_desired_digests(3, 4), sync_at(Digest(0xd), 4, None)] {
        let out = handle(&mut session, &mut record, message);
        assert!(matches!(out[0], Command::Send(ToAgent::InSync(_))), "{out:?}");
    }
}

#[test]
fn a_device_with_another_desired_state_gets_it_before_it_is_in_sync() {
    let mut record = record();
    record.desired_digest = Digest(7);
    let mut session = Session::new(&now(0), Some(DEVICE));
    let out = handle(&mut session, &mut record, sync_with_desired_digests(3, 5));
    assert_eq!(out, [Command::Job(Box::new(Job::DesiredState(DEVICE)))]);
    assert!(session.has_job());
    let settings = SettingsOrder {
        application: "shop".into(),
        revision: 9,
        settings: Some("{}".into()),
        drift: Drift::Repair,
    };
    let desired_state =
        DesiredState { settings: vec![settings.clone()], runs: Vec::new(), list: vec![RunId(4)] };
    let outcome = JobOutcome::DesiredState(DesiredStateOutcome::All(Box::new(desired_state)));
    let out = job_done(&mut session, &mut record, outcome);
    assert_eq!(out[0], Command::Send(ToAgent::Settings(Box::new(settings))));
    assert_eq!(out[1], Command::Send(ToAgent::Runs(RunList { runs: vec![RunId(4)] })));
    assert!(matches!(out[2], Command::Send(ToAgent::InSync(_))), "{out:?}");
    assert!(!session.has_job());
}

#[test]
fn desired_state_is_worked_out_behind_the_sections_that_they_depend_on() {
    let mut record = record();
    let mut session = Session::new(&now(0), Some(DEVICE));
    let ToServer::Sync(mut sync) = sync_with_desired_digests(0, 0) else { unreachable!() };
    sync.sections[0].digest = application("a").digest();
    sync.sections[0].revision = 5;
    sync.sections[0].confirmed_revision = Some(4);
    handle(&mut session, &mut record, ToServer::Sync(sync));
    let digest = application("a").digest();
    let out = handle(&mut session, &mut record, part(Some(Digest(0xd)), digest, 0, true, &["a"]));
    assert!(matches!(&out[0], Command::Job(job) if matches!(**job, Job::Section(_))), "{out:?}");
    // The store has found that other settings are wanted, as the device offers something else now.
    record.desired_digest = Digest(1);
    let stored = SectionOutcome::Stored(record.section(Section::Inventory));
    let out = job_done(&mut session, &mut record, JobOutcome::Section(Section::Inventory, stored));
    assert_eq!(out, [Command::Job(Box::new(Job::DesiredState(DEVICE)))]);
}

#[test]
fn reports_are_stored_beside_a_sync_and_let_go_without_room() {
    let mut record = record();
    let mut session = Session::new(&now(0), Some(DEVICE));
    let report = || ToServer::Runs(RunUpdates { updates: Vec::new() });
    let out = handle(&mut session, &mut record, report());
    assert!(matches!(&out[0], Command::Job(job) if matches!(**job, Job::Runs(DEVICE, _))), "{out:?}");
    assert!(session.has_job());
    let stored = RunsStored { acks: vec![RunAck { run: RunId(1), serial: 2 }] };
    let outcome = JobOutcome::Runs(RunsOutcome::Stored(stored.clone()));
    let out = job_done(&mut session, &mut record, outcome);
    assert_eq!(out, [Command::Send(ToAgent::RunsStored(stored))]);
    assert!(!session.has_job());
    let mut out = Vec::new();
    let full = SyncPolicy { has_room: false, ..policy() };
    session.handle(&now(2), report(), Some(&mut record), &full, &mut out);
    assert_eq!((out.len(), session.has_job()), (0, false));
}

#[test]
fn a_device_that_was_removed_meanwhile_hears_that_and_not_to_come_later() {
    for outcome in [
        JobOutcome::Section(Section::Inventory, SectionOutcome::DeviceRemoved),
        JobOutcome::DesiredState(DesiredStateOutcome::DeviceRemoved),
    ] {
        let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
        let out = job_done(&mut session, &mut record, outcome);
        assert_eq!(error_code(&out[0]), Some(ErrorCode::DeviceRemoved));
        assert_eq!(out[1], Command::Close(CloseReason::DeviceRemoved));
    }
}

#[test]
fn a_device_whose_certificate_is_due_is_asked_before_its_sync_ends_and_is_given_another() {
    let mut session = Session::new(&now(0), Some(DEVICE));
    let mut record = record();
    record.set_to_renew(true);
    let out = handle(&mut session, &mut record, sync_at(Digest(0xd), 4, None));
    let expected = [Command::Send(ToAgent::RenewNow), Command::Send(in_sync(&policy()))];
    assert_eq!(out[..2], expected, "a device whose link does not stay leaves with the second");
    let renewed = Renewed { certificate: vec![2; 400] };
    let refusal = ErrorReport { code: ErrorCode::Unexpected, message: "too soon".into() };
    for (outcome, answer) in [
        (RenewalOutcome::Issued(renewed.clone()), Some(ToAgent::Renewed(renewed))),
        (RenewalOutcome::Refused(refusal.clone()), Some(ToAgent::Error(refusal))),
        (RenewalOutcome::Failed, None),
    ] {
        let renew = Renew { request: vec![1; 200] };
        let out = handle(&mut session, &mut record, ToServer::Renew(renew.clone()));
        assert_eq!(out, [Command::Job(Box::new(Job::Renew(DEVICE, renew)))]);
        assert!(session.has_job(), "a draining server waits for it");
        let out = job_done(&mut session, &mut record, JobOutcome::Renewal(outcome));
        match answer {
            Some(answer) => assert_eq!(out, [Command::Send(answer)]),
            None => assert_eq!(error_code(&out[0]), Some(ErrorCode::Internal)),
        }
        assert!(!session.has_job());
    }
    record.set_to_renew(false);
    let out = handle(&mut session, &mut record, sync_at(Digest(0xd), 4, None));
    assert_eq!(out[0], Command::Send(in_sync(&policy())));
    let outcome = JobOutcome::Renewal(RenewalOutcome::DeviceRemoved);
    let out = job_done(&mut session, &mut record, outcome);
    assert_eq!(error_code(&out[0]), Some(ErrorCode::DeviceRemoved));
}

#[test]
fn a_part_of_an_artifact_is_under_way_alone_until_the_socket_has_taken_it() {
    let (mut session, mut record) = (Session::new(&now(0), Some(DEVICE)), record());
    let fetch = Fetch { hash: ArtifactHash([7; 32]), offset: 5 };
    let asked = |session: &mut Session, record: &mut DeviceState| {
        let mut out = handle(session, record, ToServer::Fetch(fetch));
        assert_eq!(out.len(), 1, "{out:?}");
        out.remove(0)
    };
    let job = Command::Job(Box::new(Job::Fetch(DEVICE, fetch)));
    let again = |seconds| Command::Send(ToAgent::ArtifactPart(ArtifactPart::again(fetch, seconds)));
    assert_eq!(asked(&mut session, &mut record), job);
    assert!(session.has_job(), "a draining server waits for it");
    assert_eq!(asked(&mut session, &mut record), again(1));
    let part = ArtifactPart { bytes: vec![1; 9], again_seconds: None, ..ArtifactPart::again(fetch, 0) };
    let out = job_done(&mut session, &mut record, JobOutcome::Fetch(part.clone()));
    assert_eq!(out, [Command::Send(ToAgent::ArtifactPart(part))]);
    assert!(!session.has_job() && session.waits_to_be_sent());
    assert_eq!(asked(&mut session, &mut record), again(1), "the answer is still memory");
    session.sent(&now(3), &mut Vec::new());
    assert!(!session.waits_to_be_sent());
    assert_eq!(asked(&mut session, &mut record), job);
    let full = SyncPolicy { has_fetch_room: false, ..policy() };
    let mut other = Session::new(&now(0), Some(DEVICE));
    let mut out = Vec::new();
    other.handle(&now(1), ToServer::Fetch(fetch), Some(&mut record), &full, &mut out);
    assert_eq!(out, [again(full.later_seconds)]);
}
