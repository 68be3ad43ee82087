//! Peers that want more than their part of the server: strangers, who have no certificate, and devices.

use std::net::TcpStream;

use crate::kit::{Connection, Device, Fixture, digest_of_inventory, eventually, now, part};
use muster::machine::admission::strangers::places;
use muster::machine::close::CloseReason;
use muster::store::NewToken;
use muster::wire::id::Epoch;
use muster::wire::inventory::Application;
use muster::wire::message::{ErrorCode, Ping, ToAgent, ToServer};
use muster::wire::time::WallTime;

/// Most links of the servers here.
const LINKS_MAX: usize = 40;

fn small_fixture() -> Fixture {
    Fixture::start_with(|config| {
        config.links.max = LINKS_MAX;
        config.reactors = Some(1);
    })
}

/// Peers that have shaken hands without a certificate, and say nothing.
fn strangers(fixture: &Fixture, count: usize) -> Vec<Connection> {
    let begun = fixture.server.counters().handshakes_full.get();
    let mut wires: Vec<_> = (0..count).map(|_| fixture.stranger()).collect();
    wires.iter_mut().for_each(Connection::shake_hands);
    eventually("all of them have shaken hands", || {
        fixture.server.counters().handshakes_full.get() >= begun + count as u64
    });
    wires
}

#[test]
fn more_strangers_than_there_are_places_leave_room_for_one_that_enrols() {
    let fixture = small_fixture();
    let token = fixture.token(1);
    let places = places(LINKS_MAX as u64, 1);
    let twice = usize::try_from(2 * places).unwrap();
    let strangers = strangers(&fixture, twice);
    let counters = fixture.server.counters();
    eventually("the oldest have gone", || counters.closes(CloseReason::StrangerEvicted) >= places);
    assert!(counters.links_of_strangers.get() <= places);
    fixture.try_enrol(&token, "kiosk").unwrap();
    drop(strangers);
    eventually("all have gone", || counters.links_of_strangers.get() == 0 && counters.links_open.get() == 0);
    assert_eq!(counters.links_of_devices.get(), 0);
}

#[test]
fn many_devices_enrol_at_once_through_the_smallest_pool() {
    let fixture = small_fixture();
    let token = fixture.token(16);
    std::thread::scope(|scope| {
        let enrol = |number| {
            let (fixture, token) = (&fixture, &token);
            scope.spawn(move || fixture.try_enrol(token, &format!("kiosk-{number}")).unwrap())
        };
        let threads: Vec<_> = (0..16).map(enrol).collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
}

/// The message that a stranger gets at once, before it has said anything.
fn refusal(fixture: &Fixture) -> Option<String> {
    let mut wire = fixture.stranger();
    wire.shake_hands();
    wire.send(&ToServer::Ping(Ping::default()));
    let report = wire.read_error();
    match report.code {
        ErrorCode::TokenUnknown => Some(report.message),
        ErrorCode::NotEnrolled => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn while_no_join_token_is_valid_a_stranger_is_told_so_at_once() {
    let mut fixture = Fixture::start();
    let words = refusal(&fixture).unwrap();
    assert!(words.contains("no join token is valid") && words.contains("musterctl token create"), "{words}");
    assert_eq!(fixture.server.counters().closes(CloseReason::NoValidToken), 1);

    let token = fixture.token(2);
    assert_eq!(refusal(&fixture), None, "as soon as it is there");
    fixture.try_enrol(&token, "one").unwrap();
    assert_eq!(refusal(&fixture), None, "it has another use");
    fixture.restart();
    assert_eq!(refusal(&fixture), None, "after a restart, too");
    fixture.try_enrol(&token, "two").unwrap();
    assert!(refusal(&fixture).is_some(), "it is used up");
    fixture.restart();
    assert!(refusal(&fixture).is_some(), "after a restart, too");

    let withdrawn = fixture.token(1);
    assert_eq!(refusal(&fixture), None);
    fixture.server.store().devices().revoke_token(withdrawn.id, WallTime(5)).unwrap();
    assert!(refusal(&fixture).is_some(), "it was revoked");

    let created_at = now();
    let expires_at = WallTime(created_at.0 + 2_000);
    let short = NewToken { group: "/".into(), created_at, expires_at, uses_max: 1, ..NewToken::default() };
    fixture.server.store().devices().create_token(short).unwrap();
    eventually("its time is over", || refusal(&fixture).is_some());
    assert!(now() >= expires_at);
}

#[test]
fn a_stranger_that_says_nothing_is_closed_within_seconds_and_one_that_sends_rubbish_leaves_nothing() {
    let fixture = small_fixture();
    let _valid = fixture.token(1);
    let silent = strangers(&fixture, 3);
    let counters = fixture.server.counters();
    eventually("silence", || counters.closes(CloseReason::SilentStranger) == 3);
    drop(silent);
    for _ in 0..3 * LINKS_MAX {
        let mut socket = TcpStream::connect(fixture.address()).unwrap();
        let _ = std::io::Write::write_all(&mut socket, b"GET / HTTP/1.1\r\n\r\n");
        // The server waits for this end in vain.
        std::mem::forget(socket);
    }
    eventually("rubbish", || counters.closes(CloseReason::NotTls) == 3 * LINKS_MAX as u64);
    assert!(counters.links_of_strangers.get() <= places(LINKS_MAX as u64, 1));
}

#[test]
fn sixty_links_of_one_identity_are_its_own_and_two() {
    let fixture = Fixture::start();
    let device = fixture.enrol("kiosk");
    let mut own = device.connect(&fixture);
    own.sync_inventory(1);
    let counters = fixture.server.counters();
    let begun = counters.handshakes_full.get() + counters.handshakes_resumed.get();
    let mut silent: Vec<_> = (0..60).map(|_| device.connect(&fixture)).collect();
    silent.iter_mut().for_each(Connection::shake_hands);
    eventually("all of them have shaken hands", || {
        counters.handshakes_full.get() + counters.handshakes_resumed.get() >= begun + 60
    });
    eventually("all but the last two have gone", || counters.links_of_devices.get() == 3);
    assert_eq!(counters.closes(CloseReason::ExtraLink), 58);
    own.send_events(Epoch(1), 1..=1);
    own.wait_for_ack(1);
    drop(silent);
    eventually("its own is left", || counters.links_of_devices.get() == 1);
}

/// A server with 16 MiB for its links, and one of an honest device.
fn with_little_memory() -> (Fixture, Connection) {
    let fixture = Fixture::start_with(|config| {
        config.reactors = Some(1);
        config.links.buffer_bytes = Some(16 << 20);
    });
    let honest = fixture.enrol("honest");
    let mut wire = honest.connect(&fixture);
    wire.sync_inventory(1);
    (fixture, wire)
}

/// Begins an upload of about a megabyte, and leaves it there.
fn half_upload(fixture: &Fixture, device: &Device) -> Connection {
    let mut wire = device.connect(fixture);
    assert!(matches!(wire.sync(7), ToAgent::Want(_)));
    for index in 0..16 {
        let entry = |number: u32| Application {
            name: format!("{index}-{number}-{}", "x".repeat(180)),
            version: String::new(),
            publisher: String::new(),
        };
        let part = part(7, digest_of_inventory(7), index, (0..250).map(entry).collect());
        if wire.try_send(&ToServer::Part(Box::new(part))).is_err() {
            break;
        }
    }
    wire
}

#[test]
fn half_uploads_of_many_devices_do_not_use_up_the_memory_and_an_honest_one_lives_on() {
    const HOSTILE: usize = 40;
    let (fixture, mut wire) = with_little_memory();
    let hostile: Vec<_> = (0..HOSTILE).map(|number| fixture.enrol(&format!("hostile-{number}"))).collect();
    let wires: Vec<_> = hostile.iter().map(|device| half_upload(&fixture, device)).collect();
    let counters = fixture.server.counters();
    eventually("those that are too many have gone", || {
        counters.closes(CloseReason::HeldMost) >= HOSTILE as u64 - 16
    });
    wire.sync_inventory(300);
    wire.send_events(Epoch(1), 1..=1);
    wire.wait_for_ack(1);
    assert!(counters.links_of_devices.get() <= 17);
    drop(wires);
}

/// A device that reads nothing from now on. Little of what it is sent lies in the kernel: its segments are
/// short, and so is its window.
fn deaf(fixture: &Fixture, device: &Device) -> Connection {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&fixture.address().into()).unwrap();
    let mut wire = Connection::over(socket.into(), &device.fresh_tls());
    wire.shake_hands();
    wire
}

#[test]
fn devices_that_ask_for_much_and_read_nothing_are_closed_oldest_first_beside_an_honest_one() {
    const DEAF: usize = 28;
    const REQUESTS: u64 = 10_000;
    let (fixture, mut wire) = with_little_memory();
    let counters = fixture.server.counters();
    // Nobody has asked for it, so that each is answered with words.
    let part = part(7, digest_of_inventory(7), 0, Vec::new());
    let mut frames = Vec::new();
    (0..1_000).for_each(|_| ToServer::Part(Box::new(part.clone())).write_to(&mut frames));
    let (mut wires, mut devices) = (Vec::new(), Vec::new());
    for number in 1..=DEAF as u64 {
        let device = fixture.enrol(&format!("deaf-{number}"));
        let mut deaf = deaf(&fixture, &device);
        let before = counters.messages_received.get();
        for _ in 0..REQUESTS / 1_000 {
            // One that was closed asks in vain.
            let _ = deaf.try_send_bytes(&frames);
        }
        eventually("its requests are worked on", || {
            counters.messages_received.get() >= before + REQUESTS || !has_link(&fixture, &device)
        });
        wire.send_events(Epoch(1), number..=number);
        wire.wait_for_ack(number);
        wires.push(deaf);
        devices.push(device);
    }
    let open = || -> Vec<bool> { devices.iter().map(|device| has_link(&fixture, device)).collect() };
    eventually("those that held most for longest have gone", || {
        counters.closes(CloseReason::HeldMost) >= 8 && open().iter().filter(|open| !**open).count() >= 8
    });
    let open = open();
    let is_in_order = open[..6].iter().all(|open| !open) && open[DEAF - 8..].iter().all(|open| *open);
    assert!(is_in_order, "the oldest first, the newest not: {open:?}");
    assert_eq!(counters.closes(CloseReason::SlowReader), 0);
    let last = DEAF as u64 + 1;
    wire.send_events(Epoch(1), last..=last);
    wire.wait_for_ack(last);
    drop(wires);
}

fn has_link(fixture: &Fixture, device: &Device) -> bool {
    fixture.server.store().table().get(device.id).unwrap().link.is_some()
}
