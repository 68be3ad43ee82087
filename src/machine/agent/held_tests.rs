//! When the server takes no more events for a while.

use super::*;
use crate::wire::frame;
use crate::wire::message::{Ack, InSync, Later, ToAgent, ToServer};
use crate::wire::time::WallTime;

fn at(seconds: u64) -> Now {
    Now { moment: Moment(0).plus_seconds(1_000 + seconds), wall: WallTime(1_000_000 + seconds * 1_000) }
}

/// All that it does, and in words what of it is said; a spool of events of one byte is read for it.
fn doing(machine: &mut AgentMachine, now: &Now) -> (Vec<Action>, Vec<String>) {
    let (mut actions, mut said) = (Vec::new(), Vec::new());
    while let Some(action) = machine.poll(now) {
        match &action {
            Action::ReadSpool { after_sequence, .. } => {
                let events: Vec<_> = (after_sequence + 1..=9).map(|number| (number, vec![0xa0])).collect();
                machine.spool_read(now, &events);
            }
            Action::Send(bytes) => {
                let (body, _) = frame::split(bytes).unwrap().unwrap();
                said.push(match ToServer::from_body(body).unwrap() {
                    ToServer::Events(events) => {
                        let (first, last) = (events.items.first(), events.items.last());
                        let numbers = [first, last].map(|item| item.map_or(0, |item| item.sequence));
                        let again = if events.begins_again { " again" } else { "" };
                        format!("events {numbers:?}{again}")
                    }
                    ToServer::Sync(_) => "sync".into(),
                    ToServer::Ping(_) => "ping".into(),
                    other => format!("{other:?}"),
                });
            }
            _ => {}
        }
        actions.push(action);
    }
    (actions, said)
}

fn in_sync(keep_seconds: Option<u32>) -> ToAgent {
    ToAgent::InSync(InSync {
        server_epoch: Epoch(5),
        next_seconds: 900,
        interval_seconds: 900,
        keep_seconds,
        notice_port: None,
        notice_counter: None,
        reconnect_seconds: None,
    })
}

fn ack(through: u64) -> ToAgent {
    ToAgent::Ack(Ack { spool_epoch: Epoch(7), through })
}

/// In sync, with nine events under way.
fn machine(keep_seconds: Option<u32>) -> AgentMachine {
    let spool = SpoolState { epoch: Epoch(7), highest: 9, forgotten_through: 0 };
    let start = AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 };
    let mut machine = AgentMachine::new(start);
    doing(&mut machine, &at(0));
    machine.connected(&at(0));
    let (_, said) = doing(&mut machine, &at(0));
    assert_eq!(said, ["sync", "events [1, 9]"]);
    machine.message(&at(0), in_sync(keep_seconds));
    doing(&mut machine, &at(0));
    machine
}

#[test]
fn events_wait_for_the_time_that_was_said_and_all_else_goes_on_on_the_same_link() {
    let mut machine = machine(Some(300));
    machine.message(&at(0), ToAgent::Later(Later::with_events(32)));
    let (actions, said) = doing(&mut machine, &at(0));
    assert!(said.is_empty() && actions == [Action::EventsHeld { seconds: 32 }], "{actions:?}");
    // Those before the one that was put off were taken.
    machine.message(&at(1), ack(4));
    assert_eq!(doing(&mut machine, &at(1)).0, [Action::ForgetThrough { sequence: 4 }]);
    let status = machine.status(&at(1));
    assert_eq!((status.is_connected, status.unacknowledged), (true, 5));
    assert_eq!(status.events_held_until, Some(at(32).moment));
    machine.asked_to_sync(&at(2));
    assert_eq!(doing(&mut machine, &at(2)).1, ["sync"], "a sync does not wait");
    machine.message(&at(2), in_sync(Some(300)));
    machine.events_available(9);
    assert!(doing(&mut machine, &at(31)).1.iter().all(|said| said == "ping"));
    assert_eq!(machine.next_timeout(), Some(at(32).moment));
    assert_eq!(doing(&mut machine, &at(32)).1, ["events [5, 9] again"]);
    machine.message(&at(33), ToAgent::Later(Later::with_events(32)));
    let (actions, _) = doing(&mut machine, &at(33));
    assert!(actions.is_empty(), "it was said already, for all that waits: {actions:?}");
    assert_eq!(doing(&mut machine, &at(65)).1, ["events [5, 9] again"]);
    machine.message(&at(66), ack(9));
    doing(&mut machine, &at(66));
    assert!(machine.has_delivered() && machine.status(&at(66)).events_held_until.is_none());
}

#[test]
fn a_link_that_is_not_to_stay_is_not_held_open_for_events_that_wait() {
    let mut machine = machine(None);
    machine.message(&at(0), ToAgent::Later(Later::with_events(32)));
    let (actions, _) = doing(&mut machine, &at(5));
    assert!(actions.contains(&Action::CloseLink(LinkEnd::Done)), "{actions:?}");
    assert_eq!(machine.next_timeout(), Some(at(32).moment));
    assert_eq!(doing(&mut machine, &at(31)).0, []);
    assert!(doing(&mut machine, &at(32)).0.contains(&Action::Connect));
    machine.connected(&at(32));
    assert_eq!(doing(&mut machine, &at(32)).1, ["events [1, 9] again"]);
}

#[test]
fn a_link_that_breaks_meanwhile_changes_nothing_of_the_time() {
    let mut machine = machine(Some(300));
    machine.message(&at(0), ToAgent::Later(Later::with_events(100_000_000)));
    doing(&mut machine, &at(0));
    machine.disconnected(&at(1), "broken");
    machine.called(&at(2), SyncReason::Woken);
    assert!(doing(&mut machine, &at(2)).0.contains(&Action::Connect));
    machine.connected(&at(2));
    assert_eq!(doing(&mut machine, &at(2)).1, ["sync"]);
    assert_eq!(machine.status(&at(2)).events_held_until, Some(at(86_400).moment), "a day, whatever is said");
}
