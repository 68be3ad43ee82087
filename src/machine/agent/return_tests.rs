//! When an agent comes back to a server that it has lost.

use super::testing::{actions as drain, at, in_sync, told};
use super::*;
use crate::wire::id::RunId;
use crate::wire::message::{Ack, ErrorCode, ErrorReport, InSync, Later, Resend, ToAgent};
use crate::wire::task::RunStage;

/// An agent on a link that is to stay, which has been told over how many seconds to spread.
fn persistent(seed: u64, reconnect_seconds: Option<u32>) -> AgentMachine {
    let reach = Reach { udp_port: 0, wake_counter: 0, notice_counter: 0, boot: 0 };
    let spool = SpoolState { epoch: Epoch(1), highest: 0, forgotten_through: 0 };
    let mut machine = AgentMachine::new(AgentStart { state: None, base: None, spool, reach, seed });
    connect(&mut machine, &at(0));
    machine.message(&at(0), ToAgent::InSync(InSync { reconnect_seconds, ..told(Some(300)) }));
    drain(&mut machine, &at(0));
    machine
}

fn connect(machine: &mut AgentMachine, now: &Now) {
    assert!(drain(machine, now).contains(&Action::Connect));
    machine.connected(now);
    drain(machine, now);
}

/// In how many seconds it comes again, by itself.
fn returns_after_seconds(machine: &AgentMachine, now: &Now) -> f64 {
    let next = machine.next_timeout().expect("it comes again");
    std::time::Duration::from_micros(next.microseconds_since(now.moment)).as_secs_f64()
}

#[test]
fn a_lost_link_comes_back_within_the_time_that_was_announced_and_spread_over_it() {
    let returns = |reconnect_seconds| {
        let mut returns: Vec<f64> = (0..400)
            .map(|seed| {
                let mut machine = persistent(seed, reconnect_seconds);
                machine.disconnected(&at(10), "the server was killed");
                returns_after_seconds(&machine, &at(10))
            })
            .collect();
        returns.sort_by(f64::total_cmp);
        returns
    };
    let large = returns(Some(60));
    assert!(large[399] <= 60.0 && large[399] > 55.0);
    for (tenth, seconds) in large.iter().step_by(40).enumerate() {
        let expected = 6.0 * tenth as f64;
        assert!((seconds - expected).abs() < 6.0, "tenth {tenth} after {seconds} s");
    }
    assert!(returns(None)[399] <= 1.0, "a small fleet comes back at once");
}

#[test]
fn a_spool_of_a_lower_epoch_than_the_server_knows_begins_a_higher_one_at_once() {
    let mut machine = persistent(3, None);
    let known = Epoch(u64::MAX / 2);
    machine.message(&at(1), ToAgent::Resend(Resend { spool_epoch: known, after: 77 }));
    let conflict =
        ErrorReport { code: ErrorCode::SpoolEpochConflict, message: "a later one is known".into() };
    machine.message(&at(1), ToAgent::Error(conflict));
    let begun = drain(&mut machine, &at(1)).into_iter().find_map(|action| match action {
        Action::NewSpoolEpoch { epoch } => Some(epoch),
        _ => None,
    });
    assert!(begun.is_some_and(|begun| begun > known), "{begun:?}");
}

#[test]
fn a_device_that_waits_for_approval_looks_each_minute_whether_it_is_let_in() {
    let mut machine = persistent(5, Some(600));
    for minute in 0..20 {
        let now = at(minute * 60);
        drain(&mut machine, &now);
        if !machine.is_connected() {
            machine.connected(&now);
        }
        drain(&mut machine, &now);
        let waiting = ErrorReport { code: ErrorCode::WaitingForApproval, message: "wait".into() };
        machine.message(&now, ToAgent::Error(waiting));
        drain(&mut machine, &now);
        assert!(machine.status(&now).waits_for_approval);
        let seconds = returns_after_seconds(&machine, &now);
        assert!((seconds - 60.0).abs() < 0.01, "after {seconds} s in minute {minute}");
    }
    // Approved, as one knows who asks for a sync at the device.
    let now = at(19 * 60 + 5);
    machine.asked_to_sync(&now);
    connect(&mut machine, &now);
    machine.message(&now, in_sync(None));
    assert!(!machine.status(&now).waits_for_approval);
}

#[test]
fn attempts_that_fail_meanwhile_spread_no_less() {
    let mut latest: f64 = 0.0;
    for seed in 0..100 {
        let mut machine = persistent(seed, Some(60));
        machine.disconnected(&at(10), "the server was killed");
        let first = Now { moment: machine.next_timeout().expect("it comes again"), ..at(10) };
        assert!(drain(&mut machine, &first).contains(&Action::Connect));
        machine.disconnected(&first, "refused");
        latest = latest.max(returns_after_seconds(&machine, &first));
    }
    assert!(latest > 50.0, "the second attempt came within {latest} s");
}

#[test]
fn whose_server_stops_comes_back_when_it_was_told_to() {
    let mut machine = persistent(1, Some(60));
    machine.message(&at(10), ToAgent::Later(Later::with_all(7)));
    machine
        .message(&at(10), ToAgent::Error(ErrorReport { code: ErrorCode::Stopping, message: "stops".into() }));
    drain(&mut machine, &at(10));
    assert!(!machine.is_connected());
    let seconds = returns_after_seconds(&machine, &at(10));
    assert!((seconds - 7.0).abs() < 0.01, "not at its next sync: after {seconds} s");
    connect(&mut machine, &at(17));
    assert!(machine.is_connected());
}

#[test]
fn what_the_server_refuses_is_said_ever_less_often_though_each_sync_succeeds() {
    let mut machine = persistent(7, None);
    machine.report_run(RunUpdate::new(RunId(1), 1, RunStage::Running));
    let (mut links, mut second) = (0, 1);
    while second < 7_200 {
        drain(&mut machine, &at(second));
        machine.connected(&at(second));
        drain(&mut machine, &at(second));
        machine.message(&at(second), in_sync(Some(300)));
        let report = ErrorReport { code: ErrorCode::Malformed, message: "strange".into() };
        machine.message(&at(second), ToAgent::Error(report));
        links += 1;
        drain(&mut machine, &at(second));
        let next = machine.next_timeout().expect("it comes again");
        second += next.microseconds_since(at(second).moment).div_ceil(1_000_000).max(1);
    }
    assert!((10..80).contains(&links), "{links} links in two hours");
}

#[test]
fn events_that_were_dropped_behind_the_last_that_was_acknowledged_make_no_further_link() {
    let mut machine = persistent(7, None);
    machine.events_available(4);
    drain(&mut machine, &at(1));
    machine.spool_read(&at(1), &[(2, vec![2])]);
    drain(&mut machine, &at(1));
    machine.spool_read(&at(1), &[]);
    machine.message(&at(1), ToAgent::Ack(Ack { spool_epoch: Epoch(1), through: 2 }));
    assert!(machine.has_delivered());
    machine.disconnected(&at(2), "reset");
    assert!(machine.has_delivered(), "nothing is left to be read");
    machine.events_available(5);
    assert_eq!((machine.has_delivered(), machine.status(&at(2)).unacknowledged), (false, 1));
}
