use proptest::prelude::*;

use super::*;
use crate::machine::command::Command;
use crate::machine::device_state::DeviceState;
use crate::machine::session::testing::{self, DEVICE, at};
use crate::machine::session::{Session, SyncPolicy};
use crate::wire::digest::Digest;
use crate::wire::id::Epoch;
use crate::wire::message::{
    ErrorReport, EventItem, Events, MessageError, NamedSection, Part, PartContent, Ping, Probe, Reach, Renew,
    Sync, SyncReason, ToAgent,
};
use crate::wire::section::Section;
use crate::wire::statistics::Statistics;
use crate::wire::task::RunUpdates;
use crate::wire::time::WallTime;

const SECOND: u64 = 1_000_000;
fn policy() -> SyncPolicy {
    SyncPolicy { peer: Some([192, 0, 2, 7].into()), ..testing::policy() }
}

/// A device, its record and a server that does what its sessions want.
struct World {
    record: DeviceState,
    sessions: Vec<Session>,
    now: u64,
    datagrams: usize,
    answers: usize,
    jobs: usize,
    events: usize,
}

impl World {
    fn new(links: usize) -> Self {
        let sessions = (0..links).map(|_| Session::new(&at(0), Some(DEVICE))).collect();
        let record = DeviceState::new(DEVICE, 900);
        Self { record, sessions, now: 0, datagrams: 0, answers: 0, jobs: 0, events: 0 }
    }

    /// A message comes on a link; what the server has done, or until when the message waits.
    fn try_say<'b>(&mut self, link: usize, message: ToServer<'b>) -> Result<Vec<Command<'b>>, Moment> {
        let now = at(self.now);
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        let cost_microseconds = cost_microseconds(Some(&message), bytes.len());
        self.sessions[link].admit(&now, &mut self.record, cost_microseconds)?;
        let mut out = Vec::new();
        self.sessions[link].handle(&now, message, Some(&mut self.record), &policy(), &mut out);
        for command in &out {
            match command {
                Command::Append { spool_epoch, sequence, crc, .. } => {
                    self.events += 1;
                    self.record.note_appended(*spool_epoch, *sequence, *crc, 0);
                }
                Command::Probe { .. } => self.datagrams += 1,
                Command::Send(_) => self.answers += 1,
                Command::Job(_) => self.jobs += 1,
                _ => {}
            }
        }
        Ok(out)
    }

    fn say<'b>(&mut self, link: usize, message: ToServer<'b>) -> Vec<Command<'b>> {
        self.try_say(link, message).expect("an honest device does not meet its rate")
    }
}

fn probe(udp_port: u16) -> ToServer<'static> {
    ToServer::Probe(Probe { udp_port })
}

fn sync(udp_port: u16) -> ToServer<'static> {
    ToServer::Sync(Sync {
        agent_epoch: Epoch(0),
        server_epoch: Epoch(3),
        reason: SyncReason::Scheduled,
        clock: WallTime(0),
        sections: Vec::new(),
        reach: Some(Reach { udp_port, wake_counter: 0, notice_counter: 0, boot: 1 }),
        identity: None,
    })
}

fn events(from: u64, count: u64) -> ToServer<'static> {
    let items = (from..from + count).map(|sequence| EventItem { sequence, body: b"an event" }).collect();
    let highest = from + count - 1;
    ToServer::Events(Events { spool_epoch: Epoch(1), highest, items, ..Events::default() })
}

fn part(index: u32, is_last: bool) -> ToServer<'static> {
    ToServer::Part(Box::new(Part {
        section: Section::Inventory,
        revision: 1,
        digest: Digest(9),
        base: None,
        index,
        is_last,
        content: PartContent::default(),
    }))
}

fn refusal(commands: &[Command<'_>]) -> Option<String> {
    match commands {
        [Command::Send(ToAgent::Error(ErrorReport { message, .. }))] => Some(message.clone()),
        _ => None,
    }
}

#[test]
fn wakes_to_a_port_of_the_devices_choosing_are_six_a_minute_over_all_its_links() {
    let mut world = World::new(60);
    let mut refusals = Vec::new();
    for frame in 0..1_200_usize {
        // Full speed from sixty links, for a minute.
        world.now = frame as u64 * SECOND / 20;
        if let Ok(commands) = world.try_say(frame % 60, probe(9_000)) {
            refusals.extend(refusal(&commands));
        }
    }
    assert!((6..=12).contains(&world.datagrams), "{} datagrams", world.datagrams);
    let expected = "a device may have 6 wakes a minute sent to it for a check: try again in ";
    assert!(refusals[0].starts_with(expected), "{}", refusals[0]);
}

#[test]
fn another_port_with_each_sync_is_no_way_around_it() {
    let mut world = World::new(1);
    for number in 0..6_000_u16 {
        world.now = u64::from(number) * SECOND / 100;
        let _ = world.try_say(0, sync(1_000 + number));
    }
    assert!((3..=9).contains(&world.datagrams), "{} datagrams", world.datagrams);
}

#[test]
fn wakes_that_are_used_up_leave_everything_else_alone() {
    let mut world = World::new(2);
    while refusal(&world.say(0, probe(9_000))).is_none() {}
    (0..1_000).for_each(|number| drop(world.say(1, events(1 + number * 64, 64))));
    assert_eq!(world.events, 64_000);
    world.now = 20 * SECOND;
    assert_eq!(refusal(&world.say(0, probe(9_000))), None, "some have come back");
}

#[test]
fn a_check_after_the_other_is_served() {
    let mut world = World::new(2);
    for check in 0..10 {
        world.now = check * 15 * SECOND;
        // Two for the device and its clock, a look every 20 ms for two seconds, and a wake.
        (0..102).for_each(|_| assert_eq!(refusal(&world.say(0, probe(0))), None));
        assert_eq!(refusal(&world.say(0, probe(9_000))), None, "check {check}");
    }
}

#[test]
fn a_large_inventory_a_long_spool_and_reconnections_do_not_meet_it() {
    let mut world = World::new(0);
    // A network that breaks every 100 ms for a minute.
    for number in 0..600 {
        world.now = number * SECOND / 10;
        world.sessions = vec![Session::new(&at(world.now), Some(DEVICE))];
        world.say(0, sync(9_000));
    }
    let differing = NamedSection {
        section: Section::Inventory.number(),
        digest: Digest(9),
        revision: 1,
        confirmed_revision: None,
    };
    let ToServer::Sync(whole) = sync(9_000) else { unreachable!() };
    world.say(0, ToServer::Sync(Sync { sections: vec![differing], ..whole }));
    (0..1_000).for_each(|index| drop(world.say(0, part(index, false))));
    (0..10_000).for_each(|number| drop(world.say(0, events(1 + number * 64, 64))));
    assert_eq!(world.events, 640_000);
}

#[test]
fn a_single_device_may_use_the_full_speed_of_a_server() {
    let mut world = World::new(1);
    // 50,000 single events a second, as they come from the fastest disk, for as long as it likes.
    for number in 0..20_000_u64 {
        world.now = number * 1_000;
        (0..50).for_each(|event| drop(world.say(0, events(1 + number * 50 + event, 1))));
    }
    assert_eq!(world.events, 1_000_000);
}

#[test]
fn notices_are_one_a_second_for_long() {
    let mut world = World::new(1);
    let taken =
        (0..600_000_u64).filter(|number| world.record.allowance.take_notice(Moment(number * SECOND / 1_000)));
    assert!((675..=676).contains(&taken.count()), "75 ahead and 600 in as many seconds");
}

#[test]
fn a_link_that_says_little_is_counted_all_the_same() {
    let mut record = DeviceState::new(DEVICE, 900);
    let before = record.allowance;
    let mut session = Session::new(&at(SECOND), Some(DEVICE));
    session.admit(&at(SECOND), &mut record, 2).unwrap();
    assert_ne!(record.allowance, before);
}

#[test]
fn strangers_that_say_what_nobody_knows_are_hung_up_on() {
    let mut session = Session::new(&at(0), None);
    let mut out = Vec::new();
    for _ in 0..100 {
        session.handle_undecodable(&MessageError::UnknownKind(99), &mut out);
    }
    let closes = out.iter().filter(|command| matches!(command, Command::Close(_))).count();
    assert_eq!((out.len(), closes), (9, 1), "eight answers and the end");
}

fn hostile() -> impl Strategy<Value = ToServer<'static>> {
    prop_oneof![
        any::<u16>().prop_map(probe),
        any::<u16>().prop_map(sync),
        (1_u64..1_000, 0_u64..64).prop_map(|(from, count)| match count {
            0 => ToServer::Events(Events {
                spool_epoch: Epoch(1),
                highest: from,
                acknowledged: Some(u64::MAX),
                ..Events::default()
            }),
            count => events(from, count),
        }),
        (0_u32..3, any::<bool>()).prop_map(|(index, is_last)| part(index, is_last)),
        Just(ToServer::Ping(Ping { next_seconds: None })),
        Just(ToServer::Statistics(Statistics::default())),
        Just(ToServer::Renew(Renew { request: vec![0x30; 300] })),
        Just(ToServer::Runs(RunUpdates { updates: Vec::new() })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Two seconds' work is never done in one, beyond what was saved up.
    #[test]
    fn whatever_the_messages_the_work_in_a_time_is_bounded(
        messages in proptest::collection::vec((0_usize..8, hostile()), 1..40),
        seconds in 1_u64..300,
        is_used_up in any::<bool>(),
    ) {
        let mut world = World::new(8);
        // Cheap messages are too many to use the allowance up: then notices have done so before.
        let mut ahead_microseconds = WORK_AHEAD_MICROSECONDS;
        while is_used_up && world.record.allowance.take_notice(Moment(0)) {
            ahead_microseconds = 0;
        }
        let (mut link_count, mut said) = (0_usize, 0);
        // As fast as the server takes them: when it holds a link, the time goes on to where it reads again.
        'outer: while said < 60_000 {
            for (link, message) in &messages {
                // Each is closed now and then, and comes anew.
                link_count += 1;
                if link_count.is_multiple_of(5) {
                    world.sessions[*link] = Session::new(&at(world.now), Some(DEVICE));
                }
                loop {
                    match world.try_say(*link, message.clone()) {
                        Ok(_) => break,
                        Err(until) => {
                            prop_assert!(until.0 > world.now);
                            world.now = until.0;
                        }
                    }
                    if world.now > seconds * SECOND {
                        break 'outer;
                    }
                }
                said += 1;
            }
        }
        let allowed = ahead_microseconds + world.now + 2 * SECOND;
        let wakes = (WAKES_AHEAD_MICROSECONDS + world.now) / WAKE_MICROSECONDS + 1;
        prop_assert!(world.datagrams as u64 <= wakes, "{} datagrams", world.datagrams);
        prop_assert!(world.jobs as u64 * JOB_MICROSECONDS <= allowed, "{} jobs", world.jobs);
        prop_assert!(world.answers as u64 * PING_MICROSECONDS <= allowed, "{} answers", world.answers);
        prop_assert!(world.events as u64 * EVENT_MICROSECONDS <= allowed, "{} events", world.events);
    }
}
