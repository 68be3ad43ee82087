//! Admission when more come than can be served at a time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::kit::{Musterd, eventually, wait_for};
use muster::machine::admission::HANDSHAKES_UNDER_WAY_MAX;
use muster::machine::close::CloseReason;
use muster::reactor::channel::Channel;
use muster::wire::message::ToAgent;

use super::crowd::{deliver, rush, server};

/// Sixty handshakes a second are allowed, and three hundred devices come at once.
#[test]
fn everybody_gets_in_and_a_live_link_is_served_meanwhile() {
    const DEVICES: usize = 300;
    const PER_SECOND: usize = 60;
    let mut fixture = server(|_| {});
    let mut devices = fixture.enrol_many(DEVICES + 1);
    let publisher = devices.pop().unwrap();
    fixture.limit_handshakes(PER_SECOND);
    let address = fixture.address();
    let mut live = publisher.connect(address);
    live.greet();

    let counters = fixture.server.counters().clone();
    let before = (counters.handshakes_full.get(), counters.handshakes_held_back.get());
    let closes_before = counters.all_closes();
    let is_over = AtomicBool::new(false);
    let connections = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut delays = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                delays.push(deliver(&mut live, delays.len() as u64 + 1));
            }
            delays
        });
        let begun = Instant::now();
        let connections = rush(address, &devices);
        let took = begun.elapsed();
        is_over.store(true, Ordering::Relaxed);
        let mut delays = publisher.join().unwrap();
        delays.sort();
        println!(
            "{DEVICES} devices in {took:.2?}; meanwhile {} events, acknowledged within {:.2?} (median), {:.2?} (99 %), {:.2?} (all)",
            delays.len(),
            delays[delays.len() / 2],
            delays[delays.len() * 99 / 100],
            delays[delays.len() - 1]
        );
        // The allowance of a tenth of a second may come at once, and the two reactors have not the same
        // number of devices.
        assert!(
            took > Duration::from_secs_f64(0.8 * DEVICES as f64 / PER_SECOND as f64),
            "the limit was kept"
        );
        assert!(delays.len() > 100, "the link was served all the time: {}", delays.len());
        connections
    });
    assert!(connections.iter().all(|(_, answer)| *answer == ToAgent::Pong));
    assert_eq!(counters.handshakes_full.get() - before.0, DEVICES as u64, "nobody had to come twice");
    assert!(counters.handshakes_held_back.get() > before.1);
    assert_eq!(counters.all_closes(), closes_before, "nobody was turned away");
    assert_eq!(counters.handshakes_under_way.get(), 0);
    fixture.server.drain().unwrap();
}

/// Connections on which nothing is said, or whose handshake is left half way, hold every place, and more of
/// them wait before the device does.
#[test]
fn silent_connections_and_half_handshakes_lose_their_places_to_a_device() {
    for is_half in [false, true] {
        let fixture = server(|config| {
            config.reactors = Some(1);
            // Without eviction the device would have to wait for that.
            config.links.handshake_deadline = Duration::from_secs(120);
        });
        let device = fixture.enrol("kiosk");
        let mut hello = Vec::new();
        Channel::client(&device.tls).unwrap().flush_to(&mut hello).unwrap();
        let connect = |_| {
            let mut socket = TcpStream::connect(fixture.address()).unwrap();
            socket.write_all(if is_half { &hello } else { &[] }).unwrap();
            socket
        };
        let waiting: Vec<_> = (0..HANDSHAKES_UNDER_WAY_MAX + 200).map(connect).collect();
        let counters = fixture.server.counters();
        eventually("all places are taken", || {
            counters.handshakes_under_way.get() >= HANDSHAKES_UNDER_WAY_MAX as u64
        });
        device.connect(&fixture).greet();
        assert!(counters.closes(CloseReason::HandshakeEvicted) >= 200);
        assert!(counters.closes(CloseReason::HandshakeTimeout) == 0);
        drop(waiting);
        fixture.server.drain().unwrap();
    }
}

/// No place is left, and the last one that becomes free does so where the reactor that has a connection
/// waiting is not told.
#[test]
fn a_place_that_becomes_free_elsewhere_is_noticed() {
    // Nothing else is going on that could wake the reactor.
    let fixture = server(|config| config.reactors = Some(1));
    let counters = fixture.server.counters();
    // As if other reactors had them.
    let elsewhere = 1 << 40;
    counters.links_open.add(elsewhere);
    let waiting = TcpStream::connect(fixture.address()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(counters.links_accepted.get(), 0, "it waits in the backlog");
    counters.links_open.add(0_u64.wrapping_sub(elsewhere));
    eventually("the connection to be accepted", || counters.links_accepted.get() == 1);
    drop(waiting);
    fixture.server.drain().unwrap();
}

/// The handbook's figures for the memory of handshakes that are left half way, and of connections on which
/// nothing is said.
#[test]
fn what_a_half_handshake_takes() {
    const COUNT: u64 = 400;
    let directory = tempfile::tempdir().unwrap();
    let settings = "[server]\nreactors = 1\n[links]\nhandshake_deadline = \"2m\"\n";
    let server = Musterd::start(directory.path(), settings);
    let device = server.enrol("kiosk");
    device.connect(server.address).greet();
    let under_way = |count| {
        eventually("handshakes", || server.status().links.handshakes_under_way == count);
    };
    let connect = |count| (0..count).map(|_| TcpStream::connect(server.address).unwrap()).collect::<Vec<_>>();
    let begin = |socket: &mut TcpStream| {
        let mut hello = Vec::new();
        Channel::client(&device.fresh_tls()).unwrap().flush_to(&mut hello).unwrap();
        socket.write_all(&hello).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(socket.read(&mut [0; 64]).unwrap() > 0, "the server has answered");
    };
    // Memory that is allocated once is there afterwards.
    let mut first = connect(10);
    first.iter_mut().for_each(begin);
    let before = server.memory_bytes("VmRSS");
    let each = || server.memory_bytes("VmRSS").saturating_sub(before) / COUNT;
    let mut sockets = connect(COUNT);
    under_way(COUNT + 10);
    let silent = each();
    sockets.iter_mut().for_each(begin);
    let half = each();

    // The beginning of a message that has as many bytes as TLS allows, in records of 1,000 bytes.
    let begin_long = |socket: &mut TcpStream, records: usize| {
        let (record, message) = ([0x16, 3, 1, 3, 0xe8], [1, 0, 0xff, 0xff]);
        let mut bytes = Vec::new();
        for number in 0..records {
            bytes.extend(record);
            bytes.extend(if number == 0 { &message[..] } else { &[] });
            bytes.resize((number + 1) * (record.len() + 1_000), 0);
        }
        // The server may have had enough.
        let _ = socket.write_all(&bytes);
    };
    let before_long = server.memory_bytes("VmRSS");
    let mut seven = connect(COUNT);
    seven.iter_mut().for_each(|socket| begin_long(socket, 7));
    let grown = |bytes| (server.memory_bytes("VmRSS") > before_long + COUNT * bytes).then_some(());
    wait_for("it is kept", || grown(7_000));
    let long = server.memory_bytes("VmRSS").saturating_sub(before_long) / COUNT;
    drop(seven);
    under_way(COUNT + 10);
    let mut whole = connect(COUNT);
    whole.iter_mut().for_each(|socket| begin_long(socket, 60));
    let is_over = || (server.status().links.handshakes_under_way == COUNT + 10).then_some(());
    wait_for("it is refused, or kept", || is_over().or_else(|| grown(40_000)));
    let longest = server.memory_bytes("VmRSS").saturating_sub(before_long) / COUNT;
    println!(
        "in bytes: nothing was said {silent}, half way {half}, beginning of a long message {long}, of the longest {longest}"
    );
    assert!(silent < 6_000 && half < 16_000 && long < 27_000, "{silent} {half} {long}");
    assert!(longest < 27_000, "{longest}");
}
