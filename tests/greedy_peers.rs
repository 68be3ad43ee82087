//! Peers that want more than their part of the server: strangers, who have no certificate, and devices.
#![cfg(all(feature = "server", feature = "agent"))]
#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

#[allow(dead_code, reason = "each test lives in a part of the house")]
mod road;

use std::net::TcpStream;

use muster::agent::address::ServerAddress;
use muster::agent::enroll::enroll;
use muster::agent::identity::KeyType;
use muster::machine::admission::strangers::places;
use muster::machine::close::CloseReason;
use muster::reactor::Clock;
use muster::reactor::channel::{ClientTls, ExpectedServer};
use muster::store::NewToken;
use muster::wire::id::Epoch;
use muster::wire::inventory::Application;
use muster::wire::message::{ErrorCode, Part, PartContent, Ping, ToAgent, ToServer};
use muster::wire::section::Section;
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;
use road::{House, Wire, eventually};

/// Most links of the servers here.
const LINKS_MAX: usize = 40;

fn small_house() -> House {
    House::start_with(|config| {
        config.links.max = LINKS_MAX;
        config.reactors = Some(1);
    })
}

fn stranger(house: &House) -> Wire {
    let tls = ClientTls::new(ExpectedServer::Hash(house.server.certificate()), None).unwrap();
    Wire::connect(house, &tls)
}

/// Peers that have shaken hands without a certificate, and say nothing.
fn strangers(house: &House, count: usize) -> Vec<Wire> {
    let begun = house.server.counters().handshakes_full.get();
    let mut wires: Vec<_> = (0..count).map(|_| stranger(house)).collect();
    wires.iter_mut().for_each(Wire::shake_hands);
    eventually("all of them have shaken hands", || {
        house.server.counters().handshakes_full.get() >= begun + count as u64
    });
    wires
}

#[test]
fn as_many_strangers_as_there_are_links_keep_no_device_out() {
    let house = small_house();
    let _valid = house.token(1);
    let device = house.enrol("kiosk");
    let strangers = strangers(&house, LINKS_MAX);
    device.connect(&house).sync_inventory(&device, 1);
    drop(strangers);
}

#[test]
fn as_many_silent_connections_as_there_are_links_keep_no_device_out() {
    let house = small_house();
    let device = house.enrol("kiosk");
    let silent: Vec<_> = (0..LINKS_MAX).map(|_| TcpStream::connect(house.address()).unwrap()).collect();
    eventually("they are accepted", || house.server.counters().links_open.get() >= LINKS_MAX as u64);
    device.connect(&house).sync_inventory(&device, 1);
    drop(silent);
}

#[test]
fn more_strangers_than_there_are_places_leave_room_for_one_that_enrols() {
    let house = small_house();
    let token = house.token(1);
    let places = places(LINKS_MAX as u64, 1);
    let twice = usize::try_from(2 * places).unwrap();
    let strangers = strangers(&house, twice);
    let counters = house.server.counters();
    eventually("the oldest have gone", || counters.closes(CloseReason::StrangerEvicted) >= places);
    assert!(counters.links_of_strangers.get() <= places);
    house.try_enrol(&token, "kiosk").unwrap();
    drop(strangers);
    eventually("all have gone", || counters.links_of_strangers.get() == 0 && counters.links_open.get() == 0);
    assert_eq!(counters.links_of_devices.get(), 0);
}

#[test]
fn many_devices_enrol_at_once_through_the_smallest_pool() {
    let house = small_house();
    let token = house.token(16);
    std::thread::scope(|scope| {
        let enrol = |number| {
            let (house, token) = (&house, &token);
            scope.spawn(move || house.try_enrol(token, &format!("kiosk-{number}")).unwrap())
        };
        let threads: Vec<_> = (0..16).map(enrol).collect();
        threads.into_iter().for_each(|thread| drop(thread.join().unwrap()));
    });
}

/// What a stranger is told at once, before it has said anything.
fn refusal(house: &House) -> Option<String> {
    let mut wire = stranger(house);
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
    let mut house = House::start();
    let words = refusal(&house).unwrap();
    assert!(words.contains("no join token is valid") && words.contains("musterctl token create"), "{words}");
    assert_eq!(house.server.counters().closes(CloseReason::NoValidToken), 1);

    let token = house.token(2);
    assert_eq!(refusal(&house), None, "as soon as it is there");
    house.try_enrol(&token, "one").unwrap();
    assert_eq!(refusal(&house), None, "it has another use");
    house.restart();
    assert_eq!(refusal(&house), None, "after a restart, too");
    house.try_enrol(&token, "two").unwrap();
    assert!(refusal(&house).is_some(), "it is used up");
    house.restart();
    assert!(refusal(&house).is_some(), "after a restart, too");

    let withdrawn = house.token(1);
    assert_eq!(refusal(&house), None);
    house.server.store().revoke_token(withdrawn.id, WallTime(5)).unwrap();
    assert!(refusal(&house).is_some(), "it was revoked");

    let now = Clock::new().now().wall;
    let expires_at = WallTime(now.0 + 2_000);
    let short = NewToken { group: "/".into(), created_at: now, expires_at, uses_max: 1 };
    house.server.store().create_token(short).unwrap();
    eventually("its time is over", || refusal(&house).is_some());
    assert!(Clock::new().now().wall >= expires_at);
}

#[test]
fn an_agent_that_enrols_with_an_old_token_says_what_to_do() {
    let house = House::start();
    let old = house.token(1);
    house.try_enrol(&old, "first").unwrap();
    let server: ServerAddress = house.address().to_string().parse().unwrap();
    let old = JoinToken { server_certificate: house.server.certificate(), ..old };
    let error = enroll(&server, &old, "second", KeyType::default(), WallTime(1)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the server refused: no join token is valid at this server now: those that were made have expired, are \
         used up or were revoked; make one with 'musterctl token create'"
    );
}

#[test]
fn a_stranger_that_says_nothing_is_closed_within_seconds_and_one_that_sends_rubbish_leaves_nothing() {
    let house = small_house();
    let _valid = house.token(1);
    let silent = strangers(&house, 3);
    let counters = house.server.counters();
    eventually("silence", || counters.closes(CloseReason::SilentStranger) == 3);
    drop(silent);
    for _ in 0..3 * LINKS_MAX {
        let mut socket = TcpStream::connect(house.address()).unwrap();
        let _ = std::io::Write::write_all(&mut socket, b"GET / HTTP/1.1\r\n\r\n");
        // The server waits for this end in vain.
        std::mem::forget(socket);
    }
    eventually("rubbish", || counters.closes(CloseReason::NotTls) == 3 * LINKS_MAX as u64);
    assert!(counters.links_of_strangers.get() <= places(LINKS_MAX as u64, 1));
}

#[test]
fn sixty_links_of_one_identity_are_its_own_and_two() {
    let house = House::start();
    let device = house.enrol("kiosk");
    let mut own = device.connect(&house);
    own.sync_inventory(&device, 1);
    let counters = house.server.counters();
    let begun = counters.handshakes_full.get() + counters.handshakes_resumed.get();
    let mut silent: Vec<_> = (0..60).map(|_| device.connect(&house)).collect();
    silent.iter_mut().for_each(Wire::shake_hands);
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

/// Begins an upload of about a megabyte, and leaves it there.
fn half_upload(house: &House, device: &road::Device) -> Wire {
    let mut wire = device.connect(house);
    assert!(matches!(wire.sync(device, 7), ToAgent::Want(_)));
    for index in 0..16 {
        let entry = |number: u32| Application {
            name: format!("{index}-{number}-{}", "x".repeat(180)),
            version: String::new(),
            publisher: String::new(),
        };
        let added: Vec<_> = (0..250).map(entry).collect();
        let part = Part {
            section: Section::Inventory,
            revision: 7,
            digest: road::digest_of_inventory(7),
            base: None,
            index,
            is_last: false,
            content: PartContent { added, ..PartContent::default() },
        };
        if wire.try_send(&ToServer::Part(Box::new(part))).is_err() {
            break;
        }
    }
    wire
}

#[test]
fn half_uploads_of_many_devices_do_not_use_up_the_memory_and_an_honest_one_lives_on() {
    const HOSTILE: usize = 40;
    let house = House::start_with(|config| {
        config.reactors = Some(1);
        config.links.buffer_bytes = Some(16 << 20);
    });
    let honest = house.enrol("honest");
    let mut wire = honest.connect(&house);
    wire.sync_inventory(&honest, 1);
    let hostile: Vec<_> = (0..HOSTILE).map(|number| house.enrol(&format!("hostile-{number}"))).collect();
    let wires: Vec<_> = hostile.iter().map(|device| half_upload(&house, device)).collect();
    let counters = house.server.counters();
    eventually("those that are too many have gone", || {
        counters.closes(CloseReason::HeldMost) >= HOSTILE as u64 - 16
    });
    wire.sync_inventory(&honest, 300);
    wire.send_events(Epoch(1), 1..=1);
    wire.wait_for_ack(1);
    assert!(counters.links_of_devices.get() <= 17);
    drop(wires);
}
