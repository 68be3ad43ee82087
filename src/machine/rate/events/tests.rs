use proptest::prelude::*;

use super::*;
use crate::machine::command::Command;
use crate::machine::device_state::DeviceState;
use crate::machine::session::{Session, SyncPolicy, testing};
use crate::wire::event::Event;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::message::{Events, Later, Ping, ToAgent, ToServer};
use crate::wire::time::{Now, WallTime};

const SECOND: u64 = 1_000_000;
const KIB: u64 = 1 << 10;
const RATE: EventRate = EventRate { bytes_per_second: 8 * KIB, burst_bytes: 1 << 20 };

fn event(severity: Severity, bytes: usize) -> Vec<u8> {
    let event = Event {
        severity,
        application: "shop".into(),
        kind: "test".into(),
        message: "x".repeat(bytes),
        occurred_at: WallTime(1),
        fields: Vec::new(),
    };
    event.to_bytes().unwrap()
}

/// A device with links, and a server whose journal takes everything.
struct World {
    now: u64,
    rate: EventRate,
    record: DeviceState,
    sessions: Vec<Session>,
    stored_bytes: u64,
}

/// The server's answer to a message: the events that it stored, and the time for which it takes no more.
type Taken = (Vec<u64>, Option<u32>);

impl World {
    fn new(rate: EventRate, links: usize) -> Self {
        let (device, now) = (DeviceId(7), Now { moment: Moment(SECOND), wall: WallTime(1_000) });
        let sessions = (0..links).map(|_| Session::new(&now, Some(device))).collect();
        Self { now: SECOND, rate, record: DeviceState::new(device, 900), sessions, stored_bytes: 0 }
    }

    fn now(&self) -> Now {
        Now { moment: Moment(self.now), wall: WallTime(self.now / 1_000) }
    }

    fn say<'b>(&mut self, link: usize, message: ToServer<'b>) -> Vec<Command<'b>> {
        let (now, rate) = (self.now(), self.rate);
        let policy = SyncPolicy { keep_seconds: Some(60), event_rate: rate, ..testing::policy() };
        let mut out = Vec::new();
        self.sessions[link].handle(&now, message, Some(&mut self.record), &policy, &mut out);
        let (mut events, mut bytes) = (0, 0);
        for command in &out {
            if let Command::Append { spool_epoch, sequence, crc, body } = command {
                self.record.note_appended(*spool_epoch, *sequence, *crc, 0);
                (events, bytes) = (events + 1, bytes + body.len() as u64);
            }
        }
        self.sessions[link].note_appended(&now, &mut self.record, rate, events, bytes);
        self.stored_bytes += bytes + events * EVENT_OVERHEAD_BYTES;
        out
    }

    fn send(&mut self, link: usize, from: u64, bodies: &[&[u8]], begins_again: bool) -> Taken {
        let items: Vec<_> =
            (from..).zip(bodies).map(|(sequence, body)| EventItem { sequence, body }).collect();
        let highest = items.last().map_or(from, |item| item.sequence);
        let (spool_epoch, highest) = (Epoch(9), highest + 1_000_000);
        let events = Events { spool_epoch, highest, items, begins_again, ..Events::default() };
        let out = self.say(link, ToServer::Events(events));
        let stored = out.iter().filter_map(|command| match command {
            Command::Append { sequence, .. } => Some(*sequence),
            _ => None,
        });
        let held = out.iter().find_map(|command| match command {
            Command::Send(ToAgent::Later(Later { seconds, only_events: true })) => Some(*seconds),
            _ => None,
        });
        (stored.collect(), held)
    }

    /// Sends messages of 64 events of a kind until they are put off.
    fn fill(&mut self, severity: Severity) -> u32 {
        let (body, before) = (event(severity, 200), self.stored_bytes);
        loop {
            assert!(self.stored_bytes <= before + 2 * self.rate.burst_bytes, "nothing is put off");
            let from = self.record.last_sequence + 1;
            let (stored, held) = self.send(0, from, &[&body[..]; 64], true);
            if let Some(seconds) = held {
                assert!(stored.is_empty(), "{stored:?}");
                return seconds;
            }
        }
    }
}

#[test]
fn a_flood_of_info_takes_a_burst_and_the_rate_of_the_log_and_no_more() {
    let (mut world, body) = (World::new(RATE, 1), event(Severity::Info, 200));
    let (mut sent_until, mut refusals) = (0, 0);
    let allowed = RATE.burst_bytes + RATE.bytes_per_second * 3_600;
    // An honest agent with an endless spool, for an hour.
    while world.now < 3_600 * SECOND && world.stored_bytes <= 2 * allowed {
        let from = world.record.last_sequence + 1;
        match world.send(0, from, &[&body[..]; 64], sent_until == world.now) {
            (_, Some(seconds)) => {
                world.now += u64::from(seconds) * SECOND;
                (sent_until, refusals) = (world.now, refusals + 1);
            }
            (stored, None) => {
                assert_eq!(stored.len(), 64);
                world.now += SECOND / 1_000;
                sent_until = 0;
            }
        }
    }
    assert!(world.stored_bytes <= allowed + 64 * KIB, "{} of {allowed} bytes", world.stored_bytes);
    assert!(world.stored_bytes >= allowed * 9 / 10, "{} of {allowed} bytes", world.stored_bytes);
    assert!((100..=120).contains(&refusals), "{refusals}: about every 32 s");
}

#[test]
fn behind_an_event_that_was_put_off_none_is_taken_until_the_device_begins_again() {
    let (mut world, body) = (World::new(RATE, 2), event(Severity::Info, 200));
    let seconds = world.fill(Severity::Info);
    let next = world.record.last_sequence + 1;
    // Events that were under way come when there is room again: the network is slow.
    world.now += u64::from(seconds + 100) * SECOND;
    assert_eq!(world.send(0, next + 64, &[&body], false), (vec![], None), "{next} would be lost");
    assert_eq!(world.send(0, next, &[&body], true), (vec![next], None));
    assert_eq!(world.send(0, next + 1, &[&body], false), (vec![next + 1], None));
    // Another link begins with the first event that is not acknowledged in any case.
    world.fill(Severity::Info);
    world.now += 100 * SECOND;
    let next = world.record.last_sequence + 1;
    assert_eq!(world.send(1, next, &[&body], false), (vec![next], None));
}

#[test]
fn all_but_events_goes_on() {
    let mut world = World::new(RATE, 1);
    world.fill(Severity::Info);
    let out = world.say(0, ToServer::Ping(Ping { next_seconds: None }));
    assert_eq!(out, [Command::Send(ToAgent::Pong)]);
}

#[test]
fn a_message_that_is_looked_at_again_is_not_taken_for_one_behind_it() {
    let (mut world, body) = (World::new(RATE, 1), event(Severity::Info, 200));
    world.fill(Severity::Info);
    world.sessions[0].look_again();
    let next = world.record.last_sequence + 1;
    assert!(world.send(0, next, &[&body], false).1.is_some(), "it is told when to come");
}

#[test]
fn a_warning_is_taken_though_info_waits_and_takes_along_what_stands_before_it_in_its_message() {
    let (mut world, info) = (World::new(RATE, 1), event(Severity::Info, 200));
    world.fill(Severity::Info);
    let bad = [Severity::Warning, Severity::Error, Severity::Critical].map(|it| event(it, 200));
    let next = world.record.last_sequence + 1;
    let (stored, held) = world.send(0, next, &[&info, &bad[0], &info, &info], true);
    assert_eq!((stored, held.is_some()), (vec![next, next + 1], true));
    let (stored, held) = world.send(0, next + 2, &[&info, &bad[1], &bad[2]], true);
    assert_eq!((stored.len(), held), (3, None));
    world.fill(Severity::Critical);
    let allowed = RATE.burst_bytes * 5 / 4 + 128 * KIB;
    assert!(world.stored_bytes <= allowed, "{} bytes: what is bad is bounded as well", world.stored_bytes);
    let next = world.record.last_sequence + 1;
    assert_eq!(world.send(0, next, &[b"\xa0"], true).0, [0; 0], "what can't be read is not taken for bad");
}

#[test]
fn a_device_that_was_away_for_long_brings_all_that_its_spool_holds_at_once() {
    let (mut world, body) = (World::new(EventRate::default(), 1), event(Severity::Info, 200));
    // Four severities of 4 MiB, twice over, as the first half is gone when the second comes.
    while world.stored_bytes < 32 << 20 {
        let from = world.record.last_sequence + 1;
        assert_eq!(world.send(0, from, &[&body[..]; 128], false).1, None);
    }
}

#[test]
fn devices_are_told_a_time_that_makes_sense_at_any_rate() {
    let told = |bytes_per_second| World::new(EventRate { bytes_per_second, ..RATE }, 1).fill(Severity::Info);
    for (bytes_per_second, seconds) in [(64, 300), (KIB, 256), (8 * KIB, 32), (KIB * KIB, 5)] {
        let told = told(bytes_per_second);
        assert!((seconds..=seconds + seconds / 8).contains(&told), "{bytes_per_second}: {told} s");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_a_device_sends_on_however_many_links_the_bytes_in_a_time_are_bounded(
        messages in prop::collection::vec(
            (0..4_usize, 0..200_u64, prop::sample::select(&Severity::ALL[..]), 1..64_usize, 0..400_usize, any::<bool>()),
            1..30,
        ),
        pause_microseconds in prop_oneof![Just(0), 1..50_000_u64],
    ) {
        let mut world = World::new(RATE, 4);
        let mut link_count = 0_usize;
        for _ in 0..60 {
            for (link, skip, severity, count, bytes, begins_again) in &messages {
                link_count += 1;
                if link_count.is_multiple_of(7) {
                    let now = world.now();
                    world.sessions[*link] = Session::new(&now, Some(DeviceId(7)));
                }
                let (body, before) = (event(*severity, *bytes), world.record.last_sequence);
                let bodies = vec![&body[..]; *count];
                let (stored, _) = world.send(*link, before + 1 + skip, &bodies, *begins_again);
                prop_assert!(stored.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(stored.first().is_none_or(|first| *first > before));
                world.now += pause_microseconds;
            }
        }
        let burst = RATE.burst_bytes + RATE.burst_bytes / RESERVE_DIVISOR;
        let allowed = burst + RATE.bytes_per_second * (world.now / SECOND) + 64 * KIB;
        prop_assert!(world.stored_bytes <= allowed, "{} of {allowed} bytes", world.stored_bytes);
    }
}
