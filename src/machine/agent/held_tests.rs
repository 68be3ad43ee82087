//! When the server takes no more events for a while.

use super::testing::{at, in_sync, said};
use super::*;
use crate::wire::message::{Ack, Later, ToAgent};

/// All that it does, and in words what of it is said; a spool of nine events is read for it.
fn doing(machine: &mut AgentMachine, now: &Now) -> (Vec<Action>, Vec<String>) {
    let mut done = Vec::new();
    while let Some(action) = machine.poll(now) {
        if let Action::ReadSpool { after_sequence, .. } = action {
            let events: Vec<_> = (after_sequence + 1..=9).map(|number| (number, vec![0xa0])).collect();
            machine.spool_read(now, &events);
        }
        done.push(action);
    }
    let said = said(&done);
    (done, said)
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
    assert_eq!(said, ["sync Started", "events [1, 2, 3, 4, 5, 6, 7, 8, 9] of 7"]);
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
    assert_eq!(doing(&mut machine, &at(2)).1, ["sync Asked"], "a sync does not wait");
    machine.message(&at(2), in_sync(Some(300)));
    machine.events_available(9);
    assert!(doing(&mut machine, &at(31)).1.iter().all(|said| said.starts_with("ping")));
    assert_eq!(machine.next_timeout(), Some(at(32).moment));
    assert_eq!(doing(&mut machine, &at(32)).1, ["events [5, 6, 7, 8, 9] of 7 again"]);
    machine.message(&at(33), ToAgent::Later(Later::with_events(32)));
    let (actions, _) = doing(&mut machine, &at(33));
    assert!(actions.is_empty(), "it was said already, for all that waits: {actions:?}");
    assert_eq!(doing(&mut machine, &at(65)).1, ["events [5, 6, 7, 8, 9] of 7 again"]);
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
    assert_eq!(doing(&mut machine, &at(32)).1, ["events [1, 2, 3, 4, 5, 6, 7, 8, 9] of 7 again"]);
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
    assert_eq!(doing(&mut machine, &at(2)).1, ["sync Woken"]);
    assert_eq!(machine.status(&at(2)).events_held_until, Some(at(86_400).moment), "a day, whatever is said");
}
