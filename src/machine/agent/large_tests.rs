//! Messages that are longer than the socket takes at once.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::wire::frame;
use crate::wire::limits::{FRAME_BODY_BYTES_MAX, PART_CONTENT_BYTES_TARGET};
use crate::wire::message::{ToAgent, ToServer, Want, WantedSection};
use crate::wire::section::Section;
use crate::wire::time::WallTime;

fn at(milliseconds: u64) -> Now {
    Now {
        moment: Moment(0).plus_milliseconds(1_000 + milliseconds),
        wall: WallTime(1_795_514_400_000 + milliseconds),
    }
}

fn inventory(count: usize) -> Arc<[Application]> {
    let application = |number| Application {
        name: format!("application-{number:06}"),
        version: "1.0-1".into(),
        publisher: "x".repeat(100),
    };
    (0..count).map(application).collect()
}

/// An agent on a link, of which the server wants an inventory of this size.
fn asked(count: usize) -> AgentMachine {
    let spool = SpoolState { epoch: Epoch(7), highest: 0, forgotten_through: 0 };
    let mut machine =
        AgentMachine::new(AgentStart { state: None, base: None, spool, reach: Reach::default(), seed: 1 });
    machine.section_changed(SectionContent::Inventory(inventory(count)));
    while machine.poll(&at(0)).is_some() {}
    machine.connected(&at(0));
    while machine.poll(&at(0)).is_some() {}
    let sections = vec![WantedSection { section: Section::Inventory, base: None }];
    machine.message(&at(0), ToAgent::Want(Want { sections }));
    machine
}

/// The bytes that wait, as they grow by what the machine says.
#[derive(Default)]
struct Socket {
    waits: usize,
    most: usize,
    entries: usize,
    is_whole: bool,
}

impl Socket {
    /// Lets the machine say what it has, as a caller does: it offers the socket everything when that is much,
    /// and when there is no more.
    fn take_all(&mut self, machine: &mut AgentMachine, now: &Now) {
        while let Some(action) = machine.poll(now) {
            let Action::Send(bytes) = action else { continue };
            let (body, _) = frame::split(&bytes).unwrap().unwrap();
            if let ToServer::Part(part) = ToServer::from_body(body).unwrap() {
                self.entries += part.content.added.len();
                self.is_whole = part.is_last;
            }
            self.waits += bytes.len();
            self.most = self.most.max(self.waits);
            if self.waits >= UNSENT_BYTES_TARGET {
                machine.set_unsent(now, self.waits);
            }
        }
        machine.set_unsent(now, self.waits);
    }

    fn send(&mut self, machine: &mut AgentMachine, now: &Now, bytes: usize) {
        self.waits -= bytes.min(self.waits);
        machine.set_unsent(now, self.waits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_inventory_of_any_size_goes_through_a_buffer_of_one_size(
        count in 0..20_000_usize,
        takes in prop::collection::vec(1..200_000_usize, 1..50),
    ) {
        let mut machine = asked(count);
        let (mut socket, mut now) = (Socket::default(), 0);
        let mut takes = takes.iter().cycle();
        while !socket.is_whole || socket.waits > 0 {
            socket.take_all(&mut machine, &at(now));
            prop_assert!(machine.has_room() || machine.next_timeout() > Some(at(now).moment), "it rests until the socket takes more");
            now += 10;
            socket.send(&mut machine, &at(now), *takes.next().unwrap());
        }
        prop_assert_eq!(socket.entries, count);
        prop_assert!(socket.most < UNSENT_BYTES_TARGET + PART_CONTENT_BYTES_TARGET + FRAME_BODY_BYTES_MAX);
    }
}

#[test]
fn a_slow_network_is_waited_for_and_a_dead_one_is_not() {
    let mut machine = asked(12_000);
    let (mut socket, mut seconds) = (Socket::default(), 0);
    // A kilobyte in a second: more than twenty minutes.
    while !socket.is_whole || socket.waits > 0 {
        socket.take_all(&mut machine, &at(seconds * 1_000));
        assert!(machine.is_connected(), "after {seconds} s with {} bytes left", socket.waits);
        seconds += 10;
        socket.send(&mut machine, &at(seconds * 1_000), 10_240);
    }
    assert!(seconds > 1_200, "{seconds}");
    assert_eq!(socket.entries, 12_000);

    let mut machine = asked(12_000);
    let mut socket = Socket::default();
    socket.take_all(&mut machine, &at(0));
    assert!(!machine.has_room());
    let gives_up_at = machine.next_timeout().unwrap();
    assert_eq!(gives_up_at, at(ANSWER_SECONDS_MAX * 1_000).moment);
    while machine.poll(&Now { moment: gives_up_at, ..at(0) }).is_some() {}
    assert!(!machine.is_connected());
}

#[test]
fn a_long_answer_is_waited_for_as_long_as_it_goes_on() {
    use crate::wire::settings::{Drift, SettingsOrder};
    let mut machine = asked(1);
    while machine.poll(&at(0)).is_some() {}
    for minute in 1..20 {
        let order = SettingsOrder {
            application: "shop".into(),
            revision: minute,
            settings: Some("{}".into()),
            drift: Drift::Repair,
        };
        let now = at(minute * 60_000);
        machine.message(&now, ToAgent::Settings(Box::new(order)));
        while machine.poll(&now).is_some() {}
        assert!(machine.is_connected(), "after {minute} min");
    }
}
