//! The machine alone, spoken to by hand.

use std::sync::Arc;

use super::testing::{actions, at, in_sync, said, told};
use super::*;
use crate::wire::frame;
use crate::wire::id::RunId;
use crate::wire::message::{
    Ack, ErrorCode, ErrorReport, InSync, Later, Resend, SyncNow, ToAgent, ToServer, Want, WantedSection,
};
use crate::wire::section::Section;
use crate::wire::settings::{Drift, SettingsOrder};
use crate::wire::task::{RunAck, RunList, RunStage, RunsStored};

fn inventory(names: &[&str]) -> SectionContent {
    let application =
        |name: &&str| Application { name: (*name).into(), version: "1".into(), publisher: String::new() };
    SectionContent::Inventory(names.iter().map(application).collect())
}

fn machine(highest: u64, forgotten_through: u64) -> AgentMachine {
    let spool = SpoolState { epoch: Epoch(7), highest, forgotten_through };
    let mut machine =
        AgentMachine::new(AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 });
    machine.section_changed(inventory(&["a", "b"]));
    machine
}

fn want(base: Option<Digest>) -> ToAgent {
    ToAgent::Want(Want { sections: vec![WantedSection { section: Section::Inventory, base }] })
}

fn error(code: ErrorCode) -> ToAgent {
    ToAgent::Error(ErrorReport { code, message: "no".into() })
}

fn connect(machine: &mut AgentMachine, now: &Now) -> Vec<Action> {
    assert_eq!(actions(machine, now), [Action::Connect]);
    machine.connected(now);
    actions(machine, now)
}

/// Connects and syncs; the server asks for the inventory.
fn sync(machine: &mut AgentMachine, now: &Now, keep_seconds: Option<u32>) -> Vec<Action> {
    connect(machine, now);
    machine.message(now, want(None));
    actions(machine, now);
    machine.message(now, in_sync(keep_seconds));
    actions(machine, now)
}

#[test]
fn the_first_sync_sends_everything_and_the_link_ends() {
    let mut machine = machine(0, 0);
    let first = connect(&mut machine, &at(0));
    assert!(matches!(&first[0], Action::SaveState(state) if state.sections[0].revision == 1));
    assert_eq!(said(&first), ["sync Started"]);
    machine.message(&at(1), want(None));
    assert_eq!(said(&actions(&mut machine, &at(1))), ["inventory +2 -0"]);
    machine.message(&at(1), in_sync(None));
    let last = actions(&mut machine, &at(1));
    assert!(matches!(&last[0], Action::SaveBase(base) if base.len() == 2));
    assert!(matches!(&last[1], Action::SaveState(state) if state.sections[0].confirmed_revision == 1));
    assert!(matches!(&last[2], Action::SyncFinished(SyncResult::InSync { uploaded }) if uploaded.len() == 1));
    assert_eq!(last[3], Action::CloseLink(LinkEnd::Done));
    assert_eq!(machine.next_timeout(), Some(at(901).moment));
    assert_eq!(actions(&mut machine, &at(900)), []);
    assert_eq!(said(&connect(&mut machine, &at(901))), ["sync Scheduled"]);
}

#[test]
fn a_change_travels_as_a_difference_also_after_a_restart() {
    let mut before = machine(0, 0);
    let saved = sync(&mut before, &at(0), None);
    let Action::SaveState(state) = &saved[1] else { panic!("{saved:?}") };
    let Action::SaveBase(base) = &saved[0] else { panic!("{saved:?}") };
    let state = AgentState::from_bytes(&state.to_bytes()).unwrap();
    let spool = SpoolState { epoch: Epoch(7), highest: 0, forgotten_through: 0 };
    let start = AgentStart {
        state: Some(state),
        base: Some(Arc::clone(base)),
        spool,
        reach: Reach::default(),
        seed: 2,
    };
    let mut machine = AgentMachine::new(start);
    machine.section_changed(inventory(&["b", "c"]));
    connect(&mut machine, &at(10));
    machine.message(&at(10), want(Some(inventory(&["a", "b"]).digest())));
    assert_eq!(said(&actions(&mut machine, &at(10))), ["inventory +1 -1"]);
}

#[test]
fn a_change_in_the_middle_of_a_sync_leads_to_another() {
    let mut machine = machine(0, 0);
    connect(&mut machine, &at(0));
    machine.section_changed(inventory(&["a", "b", "c"]));
    machine.message(&at(0), want(None));
    assert_eq!(said(&actions(&mut machine, &at(0))), ["inventory +2 -0"], "what the sync began with");
    machine.message(&at(0), in_sync(None));
    assert_eq!(said(&actions(&mut machine, &at(0))), ["sync Changed"]);
}

#[test]
fn events_travel_in_order_and_are_forgotten_when_acknowledged() {
    let mut machine = machine(3, 1);
    let first = connect(&mut machine, &at(0));
    assert!(first.contains(&Action::ReadSpool {
        after_sequence: 1,
        max_bytes: EVENT_BATCH_BYTES_TARGET,
        max_events: EVENTS_PER_MESSAGE_MAX
    }));
    machine.spool_read(&at(0), &[(2, vec![2]), (3, vec![3])]);
    assert_eq!(said(&actions(&mut machine, &at(0))), ["events [2, 3] of 7"]);
    machine.message(&at(0), in_sync(None));
    assert!(!actions(&mut machine, &at(0)).contains(&Action::CloseLink(LinkEnd::Done)), "not acknowledged");
    machine.message(&at(1), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 3 }));
    assert_eq!(actions(&mut machine, &at(1)), [Action::ForgetThrough { sequence: 3 }]);
    assert_eq!(machine.next_timeout(), Some(at(2).moment), "more may follow soon");
    assert_eq!(actions(&mut machine, &at(2)), [Action::CloseLink(LinkEnd::Done)]);
}

#[test]
fn the_next_event_of_a_burst_needs_no_handshake() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), None);
    machine.events_available(1);
    connect(&mut machine, &at(5));
    for (sequence, second) in [(1, 5), (2, 6)] {
        machine.events_available(sequence);
        actions(&mut machine, &at(second));
        machine.spool_read(&at(second), &[(sequence, vec![0])]);
        assert_eq!(said(&actions(&mut machine, &at(second))), [format!("events [{sequence}] of 7")]);
        machine.message(&at(second), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: sequence }));
        assert_eq!(actions(&mut machine, &at(second)), [Action::ForgetThrough { sequence }]);
    }
    assert_eq!(actions(&mut machine, &at(7)), [Action::CloseLink(LinkEnd::Done)]);
    assert_eq!(machine.next_timeout(), Some(at(900).moment));
}

#[test]
fn an_event_makes_an_idle_agent_connect_without_a_sync() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), None);
    machine.events_available(1);
    let first = connect(&mut machine, &at(5));
    assert_eq!((said(&first).len(), matches!(first[0], Action::ReadSpool { .. })), (0, true));
    machine.spool_read(&at(5), &[(1, vec![1])]);
    assert_eq!(said(&actions(&mut machine, &at(5))), ["events [1] of 7"]);
    machine.disconnected(&at(6), "reset");
    let later = connect(&mut machine, &at(8));
    assert_eq!(
        said(&later),
        ["sync Reconnected"],
        "the server may have forgotten what it had only in memory"
    );
    assert!(matches!(later.last(), Some(Action::ReadSpool { after_sequence: 0, .. })), "{later:?}");
}

#[test]
fn what_was_dropped_meanwhile_does_not_keep_the_agent_awake() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), None);
    machine.events_available(4);
    connect(&mut machine, &at(5));
    machine.spool_read(&at(5), &[]);
    assert_eq!(actions(&mut machine, &at(5)), [Action::CloseLink(LinkEnd::Done)]);
    assert_eq!(actions(&mut machine, &at(6)), []);
}

/// Of the one message of events among the actions, the number that it says was acknowledged, and its events'
/// numbers.
fn claimed(actions: &[Action]) -> (Option<u64>, Vec<u64>) {
    let [Action::Send(bytes), ..] = actions else { panic!("{actions:?}") };
    let (body, _) = frame::split(bytes).unwrap().unwrap();
    let ToServer::Events(events) = ToServer::from_body(body).unwrap() else { panic!("{actions:?}") };
    (events.acknowledged, events.items.iter().map(|item| item.sequence).collect())
}

fn resend(after: u64) -> ToAgent {
    ToAgent::Resend(Resend { spool_epoch: Epoch(7), after })
}

#[test]
fn what_the_server_lost_is_read_again_once_and_is_no_longer_claimed() {
    let mut machine = machine(9, 0);
    connect(&mut machine, &at(0));
    machine.spool_read(&at(0), &[(1, vec![1]), (5, vec![5])]);
    machine.message(&at(0), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 5 }));
    actions(&mut machine, &at(0));
    machine.spool_read(&at(0), &[(6, vec![6])]);
    assert_eq!(claimed(&actions(&mut machine, &at(0))), (Some(5), vec![6]));
    machine.message(&at(0), resend(2));
    machine.message(&at(0), resend(2));
    let recalled = actions(&mut machine, &at(0));
    let read = Action::ReadSpool {
        after_sequence: 2,
        max_bytes: EVENT_BATCH_BYTES_TARGET,
        max_events: EVENTS_PER_MESSAGE_MAX,
    };
    assert_eq!(recalled, [Action::Recall { after_sequence: 2 }, read], "each message was answered");
    machine.spool_read(&at(0), &[(5, vec![5]), (6, vec![6])]);
    assert_eq!(claimed(&actions(&mut machine, &at(0))), (Some(2), vec![5, 6]));
    machine.message(&at(0), ToAgent::Resend(Resend { spool_epoch: Epoch(6), after: 0 }));
    assert!(!said(&actions(&mut machine, &at(0))).iter().any(|said| said.starts_with("events")), "left");
}

#[test]
fn a_server_that_has_begun_another_history_is_told_at_once_what_was_acknowledged() {
    let mut machine = machine(3, 0);
    connect(&mut machine, &at(0));
    machine.spool_read(&at(0), &[(3, vec![3])]);
    machine.message(&at(0), in_sync(None));
    machine.message(&at(0), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 3 }));
    actions(&mut machine, &at(0));
    machine.disconnected(&at(0), "restored");
    let InSync { server_epoch, .. } = told(None);
    for epoch in [server_epoch, Epoch(server_epoch.0 + 1)] {
        machine.asked_to_sync(&at(1));
        if !machine.is_connected() {
            connect(&mut machine, &at(1));
        }
        actions(&mut machine, &at(1));
        machine.message(&at(1), ToAgent::InSync(InSync { server_epoch: epoch, ..told(None) }));
        let all = actions(&mut machine, &at(1));
        let sent: Vec<_> = all.into_iter().filter(|action| matches!(action, Action::Send(_))).collect();
        match epoch == server_epoch {
            true => assert_eq!(sent, []),
            false => assert_eq!(claimed(&sent), (Some(3), vec![])),
        }
    }
    machine.message(&at(1), resend(1));
    assert!(actions(&mut machine, &at(1)).contains(&Action::Recall { after_sequence: 1 }));
}

#[test]
fn what_another_server_acknowledged_is_neither_claimed_nor_sent_again() {
    let mut machine = machine(9, 6);
    connect(&mut machine, &at(0));
    machine.spool_read(&at(0), &[(7, vec![7])]);
    assert_eq!(claimed(&actions(&mut machine, &at(0))), (None, vec![7]));
    machine.message(&at(0), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 7 }));
    actions(&mut machine, &at(0));
    machine.message(&at(0), resend(0));
    assert!(actions(&mut machine, &at(0)).contains(&Action::Recall { after_sequence: 6 }));
}

#[test]
fn a_server_is_told_when_the_last_events_turn_out_to_be_dropped() {
    let mut machine = machine(4, 0);
    connect(&mut machine, &at(0));
    machine.spool_read(&at(0), &[(2, vec![2])]);
    assert_eq!(said(&actions(&mut machine, &at(0))), ["events [2] of 7"]);
    machine.spool_read(&at(0), &[]);
    let all = actions(&mut machine, &at(0));
    let [Action::Send(bytes)] = &all[..] else { panic!("{all:?}") };
    let (body, _) = frame::split(bytes).unwrap().unwrap();
    let ToServer::Events(end) = ToServer::from_body(body).unwrap() else { panic!("{all:?}") };
    assert_eq!((end.items.len(), end.sent_through), (0, Some(4)));
}

#[test]
fn a_rolled_back_spool_begins_a_higher_epoch_on_a_new_link() {
    for message in
        [error(ErrorCode::SpoolEpochConflict), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 9 })]
    {
        let mut machine = machine(3, 0);
        connect(&mut machine, &at(0));
        machine.spool_read(&at(0), &[(1, vec![1])]);
        machine.message(&at(0), message);
        let all = actions(&mut machine, &at(0));
        let new = all.iter().find_map(|action| match action {
            Action::NewSpoolEpoch { epoch } => Some(*epoch),
            _ => None,
        });
        assert!(
            new.is_some_and(|epoch| epoch > Epoch(7))
                && all.contains(&Action::CloseLink(LinkEnd::NewSpoolEpoch))
        );
        assert_eq!(new, Some(machine.events.highest_epoch()));
    }
}

#[test]
fn a_rolled_back_agent_draws_a_new_epoch_and_syncs_on() {
    let mut machine = machine(0, 0);
    connect(&mut machine, &at(0));
    machine.message(&at(0), error(ErrorCode::AgentEpochConflict));
    let next = actions(&mut machine, &at(0));
    assert!(matches!(next[0], Action::SaveState(_)));
    assert_eq!(said(&next), ["sync Started"]);
}

#[test]
fn a_persistent_link_stays_is_pinged_and_given_up_when_silent() {
    let mut machine = machine(0, 0);
    let last = sync(&mut machine, &at(0), Some(60));
    assert!(!last.contains(&Action::CloseLink(LinkEnd::Done)));
    assert_eq!(machine.next_timeout(), Some(at(30).moment));
    assert_eq!(said(&actions(&mut machine, &at(30))), ["ping Some(30)"]);
    machine.message(&at(31), ToAgent::Pong);
    assert_eq!(said(&actions(&mut machine, &at(60))), ["ping Some(30)"]);
    assert_eq!(actions(&mut machine, &at(79)), []);
    assert_eq!(actions(&mut machine, &at(80))[0], Action::CloseLink(LinkEnd::Silent));
    assert_eq!(said(&connect(&mut machine, &at(83))), ["sync Reconnected"]);
}

#[test]
fn the_servers_word_delays_even_who_asks_a_failure_does_not() {
    let mut machine = machine(0, 0);
    connect(&mut machine, &at(0));
    machine.message(&at(0), ToAgent::Later(Later::with_all(30)));
    let told = [Action::SyncFinished(SyncResult::Later { seconds: 30 }), Action::CloseLink(LinkEnd::Later)];
    assert_eq!(actions(&mut machine, &at(0)), told);
    machine.asked_to_sync(&at(10));
    assert_eq!(actions(&mut machine, &at(10)), [Action::SyncFinished(SyncResult::Later { seconds: 20 })]);
    assert_eq!(actions(&mut machine, &at(30)), [Action::Connect]);
    machine.disconnected(&at(30), "connection refused");
    assert!(
        matches!(&actions(&mut machine, &at(30))[0], Action::SyncFinished(SyncResult::Failed { reason }) if reason == "connection refused")
    );
    machine.asked_to_sync(&at(30));
    assert_eq!(actions(&mut machine, &at(30)), [Action::Connect]);
}

#[test]
fn a_wake_overrides_whatever_kept_the_agent_away() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), None);
    assert_eq!(actions(&mut machine, &at(10)), []);
    machine.woken(&at(10), WakeReason::Probe);
    assert_eq!(actions(&mut machine, &at(10)), [], "a probe is only noted");
    machine.woken(&at(10), WakeReason::Sync);
    assert_eq!(said(&connect(&mut machine, &at(10))), ["sync Woken"]);
    machine.message(&at(10), ToAgent::Later(Later::with_all(600)));
    actions(&mut machine, &at(10));
    machine.woken(&at(20), WakeReason::Stay);
    assert_eq!(said(&connect(&mut machine, &at(20))), ["sync Woken"]);
}

#[test]
fn the_server_calls_on_the_link_and_a_call_during_a_sync_is_answered_by_the_next() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), Some(60));
    machine.message(&at(5), ToAgent::SyncNow(SyncNow { is_fresh: false }));
    assert_eq!(said(&actions(&mut machine, &at(5))), ["sync Forced"]);
    machine.message(&at(5), ToAgent::SyncNow(SyncNow { is_fresh: false }));
    assert_eq!(said(&actions(&mut machine, &at(5))), [""; 0]);
    machine.message(&at(6), in_sync(Some(60)));
    assert_eq!(said(&actions(&mut machine, &at(6))), ["sync Forced"]);
    machine.message(&at(6), in_sync(Some(60)));
    actions(&mut machine, &at(6));
    machine.message(&at(7), ToAgent::SyncNow(SyncNow { is_fresh: true }));
    assert_eq!(actions(&mut machine, &at(7)), [Action::LookAnew(SyncReason::Forced)]);
    machine.called(&at(8), SyncReason::Forced);
    assert_eq!(said(&actions(&mut machine, &at(8))), ["sync Forced"]);
}

#[test]
fn an_agent_that_ends_delivers_its_events_and_leaves_the_link_for_a_notice() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), None);
    machine.events_available(1);
    assert_eq!(actions(&mut machine, &at(1)), [Action::Connect]);
    machine.disconnected(&at(1), "connection refused");
    machine.end(&at(1));
    assert!(!machine.has_delivered());
    let asked = connect(&mut machine, &at(1));
    assert!(matches!(asked[0], Action::ReadSpool { .. }), "no sync: {asked:?}");
    machine.spool_read(&at(1), &[(1, vec![0xa0])]);
    assert_eq!(said(&actions(&mut machine, &at(1))), ["events [1] of 7"]);
    machine.message(&at(1), ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 1 }));
    assert_eq!(actions(&mut machine, &at(1)), [Action::ForgetThrough { sequence: 1 }]);
    assert!(machine.has_delivered() && machine.is_connected());
    assert_eq!(machine.next_timeout(), None);
}

#[test]
fn a_device_that_slept_gives_up_its_link_and_says_that_it_is_back() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), Some(60));
    machine.resumed(&at(9_000));
    let all = actions(&mut machine, &at(9_000));
    assert_eq!(all[0], Action::CloseLink(LinkEnd::Silent));
    assert!(all.contains(&Action::Connect), "{all:?}");
}

#[test]
fn another_wake_port_is_said_at_once_though_it_changed_in_the_middle_of_a_sync() {
    let mut machine = machine(0, 0);
    let reach = |udp_port| Reach { udp_port, ..Reach::default() };
    sync(&mut machine, &at(0), None);
    machine.set_reach(Reach { wake_counter: 5, ..reach(0) });
    assert_eq!(actions(&mut machine, &at(1)), [], "a counter is no news");
    machine.set_reach(reach(15_000));
    assert_eq!(said(&connect(&mut machine, &at(1))), ["sync Changed"]);
    machine.set_reach(reach(15_001));
    machine.message(&at(1), in_sync(None));
    assert_eq!(said(&actions(&mut machine, &at(1))), ["sync Changed"]);
    machine.message(&at(1), in_sync(None));
    assert!(actions(&mut machine, &at(1)).contains(&Action::CloseLink(LinkEnd::Done)));
}

#[test]
fn a_device_that_was_rolled_back_takes_its_notice_back_with_a_second_sync() {
    let mut machine = machine(0, 0);
    connect(&mut machine, &at(0));
    let ToAgent::InSync(answer) = in_sync(None) else { unreachable!() };
    machine.message(&at(0), ToAgent::InSync(InSync { notice_counter: Some(40), ..answer }));
    let next = actions(&mut machine, &at(0));
    assert!(next.contains(&Action::RaiseNoticeCounter { counter: 40 }));
    assert_eq!(said(&next), ["sync Reconnected"]);
}

fn run_update(serial: u32, stage: RunStage) -> RunUpdate {
    RunUpdate::new(RunId(1), serial, stage)
}

#[test]
fn news_of_a_run_makes_an_idle_agent_connect_and_is_said_until_it_is_stored() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), None);
    machine.report_run(run_update(1, RunStage::Accepted));
    assert_eq!(said(&connect(&mut machine, &at(5))), ["runs [(1, 1)]"]);
    machine.disconnected(&at(6), "reset");
    machine.report_run(run_update(2, RunStage::Succeeded));
    assert_eq!(said(&connect(&mut machine, &at(9))), ["sync Reconnected", "runs [(1, 2)]"]);
    machine.message(&at(9), in_sync(None));
    let acks = vec![RunAck { run: RunId(1), serial: 2 }];
    machine.message(&at(9), ToAgent::RunsStored(RunsStored { acks: acks.clone() }));
    let next = actions(&mut machine, &at(9));
    assert!(next.contains(&Action::RunsStored(acks)), "{next:?}");
    assert!(actions(&mut machine, &at(11)).contains(&Action::CloseLink(LinkEnd::Done)));
}

#[test]
fn a_report_that_stays_unanswered_is_made_again() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), Some(300));
    machine.report_run(run_update(1, RunStage::Failed));
    assert_eq!(said(&actions(&mut machine, &at(1))), ["runs [(1, 1)]"]);
    assert_eq!(machine.next_timeout(), Some(at(31).moment));
    assert_eq!(said(&actions(&mut machine, &at(31))), ["runs [(1, 1)]"]);
}

#[test]
fn a_sync_names_what_was_ordered_and_brings_the_numbers_once() {
    let mut machine = machine(0, 0);
    machine.set_desired_digests(Digest(3), Digest(4));
    machine.set_statistics(Statistics::default());
    let first = connect(&mut machine, &at(0));
    let Action::Send(bytes) = &first[first.len() - 1] else { panic!("{first:?}") };
    let (statistics, whole) = frame::split(bytes).unwrap().unwrap();
    assert!(matches!(ToServer::from_body(statistics), Ok(ToServer::Statistics(_))));
    let (body, _) = frame::split(&bytes[whole..]).unwrap().unwrap();
    let Ok(ToServer::Sync(sync)) = ToServer::from_body(body) else { panic!("no sync") };
    assert_eq!(sync.desired_digest(), Some(Digest(7)));
    machine.message(&at(0), in_sync(Some(60)));
    machine.asked_to_sync(&at(1));
    assert_eq!(said(&actions(&mut machine, &at(1))), ["sync Asked"]);
}

#[test]
fn numbers_go_with_what_is_due_or_asked_for_and_otherwise_once_in_an_interval() {
    let mut machine = machine(0, 0);
    machine.set_statistics(Statistics::default());
    assert_eq!(said(&connect(&mut machine, &at(0))), ["statistics 0"]);
    machine.message(&at(0), in_sync(Some(60)));
    machine.set_statistics(Statistics::default());
    let mut sync = |seconds: u64, what: &dyn Fn(&mut AgentMachine)| {
        what(&mut machine);
        let said = said(&actions(&mut machine, &at(seconds)));
        machine.message(&at(seconds), in_sync(Some(60)));
        said
    };
    assert_eq!(sync(1, &|machine| machine.section_changed(inventory(&["a"]))), ["sync Changed"]);
    assert_eq!(sync(2, &|machine| machine.asked_to_sync(&at(2))), ["statistics 0"]);
    let change = |machine: &mut AgentMachine, name: &str| {
        machine.set_statistics(Statistics::default());
        machine.section_changed(inventory(&[name]));
    };
    assert_eq!(sync(3, &|machine| change(machine, "b")), ["sync Changed"]);
    assert_eq!(sync(901, &|machine| change(machine, "c")), ["sync Changed"]);
    assert_eq!(sync(902, &|machine| change(machine, "d")), ["statistics 0"]);
}

#[test]
fn desired_state_is_handed_on_in_their_order_and_the_devices_own_interval_counts_when_it_is_shorter() {
    let mut machine = machine(0, 0);
    machine.set_own_interval(&at(0), Some(60));
    connect(&mut machine, &at(0));
    let order =
        SettingsOrder { application: "shop".into(), revision: 1, settings: None, drift: Drift::Repair };
    machine.message(&at(0), ToAgent::Settings(Box::new(order.clone())));
    machine.message(&at(0), ToAgent::Runs(RunList { runs: vec![RunId(4)] }));
    machine.message(&at(0), in_sync(None));
    let next = actions(&mut machine, &at(0));
    let desired_digests = [Action::TakeSettings(Box::new(order)), Action::TakeRunList(vec![RunId(4)])];
    assert_eq!(next[..2], desired_digests);
    assert_eq!(machine.next_timeout(), Some(at(60).moment));
}

#[test]
fn what_the_server_said_during_a_pause_is_heard_before_its_silence_is_judged() {
    let mut machine = machine(0, 0);
    sync(&mut machine, &at(0), Some(30));
    assert_eq!(said(&actions(&mut machine, &at(30))), ["ping Some(30)"]);
    // The process stood still for 25 s, in which the answer would have been due.
    machine.judge_from(at(80).moment);
    assert_eq!(actions(&mut machine, &at(55)), []);
    assert_eq!(machine.next_timeout(), Some(at(60).moment), "the next ping");
    machine.message(&at(56), ToAgent::Pong);
    assert_eq!(said(&actions(&mut machine, &at(60))), ["ping Some(30)"]);
    // A server that stays silent is given up all the same.
    assert_eq!(actions(&mut machine, &at(79)), []);
    assert_eq!(actions(&mut machine, &at(80)), [Action::CloseLink(LinkEnd::Silent)]);
}

#[test]
fn an_attempt_that_stood_still_with_the_process_goes_on() {
    let mut machine = machine(0, 0);
    assert_eq!(actions(&mut machine, &at(0)), [Action::Connect]);
    machine.judge_from(at(60).moment);
    assert_eq!(actions(&mut machine, &at(CONNECT_SECONDS_MAX + 1)), []);
    assert_eq!(machine.next_timeout(), Some(at(60).moment));
    machine.connected(&at(40));
    assert_eq!(said(&actions(&mut machine, &at(40))), ["sync Started"]);
}

#[test]
fn each_link_names_the_identity_once_and_again_when_it_has_changed() {
    let marks = |trust_label| SyncIdentity { trust_label, machine: 7 };
    let mut machine = machine(0, 0);
    machine.set_identity(marks(1));
    assert_eq!(said(&connect(&mut machine, &at(0))), ["sync Started, trusts 1"]);
    machine.message(&at(0), want(None));
    actions(&mut machine, &at(0));
    machine.message(&at(0), in_sync(Some(300)));
    actions(&mut machine, &at(0));
    let mut next = |seconds, trust_label| {
        machine.set_identity(marks(trust_label));
        machine.called(&at(seconds), SyncReason::Forced);
        let said = said(&actions(&mut machine, &at(seconds)));
        machine.message(&at(seconds), in_sync(Some(300)));
        said
    };
    assert_eq!(next(1, 1), ["sync Forced"]);
    assert_eq!(next(2, 2), ["sync Forced, trusts 2"]);
    assert_eq!(next(3, 2), ["sync Forced"]);
    machine.disconnected(&at(4), "lost");
    actions(&mut machine, &at(4));
    assert_eq!(said(&connect(&mut machine, &at(64))), ["sync Reconnected, trusts 2"]);
}
