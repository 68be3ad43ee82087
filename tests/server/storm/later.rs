//! Devices that are asked to come again later, and their times.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::kit::{Connection, Musterd, eventually, sync};
use muster::machine::close::CloseReason;
use muster::reactor::channel::HandshakeCost;
use muster::store::DeviceChange;
use muster::wire::id::Epoch;
use muster::wire::message::{ErrorCode, ToAgent, ToServer};
use rustix::process::Signal;

use super::crowd::{rush, server};

fn seconds_of(answer: &ToAgent) -> Option<u32> {
    match answer {
        ToAgent::Later(later) => Some(later.seconds),
        _ => None,
    }
}

/// Twenty handshakes a second are allowed, and devices for fifteen seconds come at once, with tickets. Those
/// that have waited for ten are asked to come later, but not the one whose link is to stay.
#[test]
fn an_overloaded_server_sends_those_away_who_only_come_by() {
    const DEVICES: usize = 300;
    let mut fixture = server(|_| {});
    let address = fixture.address();
    let devices = fixture.enrol_many(DEVICES);
    devices.iter().for_each(|device| device.connect(address).greet());
    let keep = DeviceChange { keep_connected: Some(Some(true)), ..DeviceChange::default() };
    let kept = devices.last().unwrap().enrolled.device;
    fixture.server.store().devices().change(kept, keep).unwrap();
    fixture.limit_handshakes(20);

    let begun = Instant::now();
    let mut connections = rush(address, &devices);
    println!("{DEVICES} devices were answered within {:.2?}", begun.elapsed());
    let all_resumed = |(connection, _): &(Connection, ToAgent)| {
        connection.channel.handshake_cost() == Some(HandshakeCost::Resumed)
    };
    assert!(connections.iter().all(all_resumed));
    assert_eq!(connections.pop().unwrap().1, ToAgent::Pong, "it would only come again the sooner");
    let away: Vec<u32> = connections.iter().filter_map(|(_, answer)| seconds_of(answer)).collect();
    let served = connections.iter().filter(|(_, answer)| *answer == ToAgent::Pong).count();
    assert_eq!(away.len() + served, DEVICES - 1, "everybody was answered");
    assert!(served > 150, "only {served} were served");
    assert!(away.len() > 10, "only {} were sent away", away.len());
    assert_eq!(fixture.server.counters().closes(CloseReason::Overloaded), away.len() as u64);
    // At a quarter of ten a second each reactor has forty turns in ten seconds.
    assert!(away.iter().all(|seconds| (5..60).contains(seconds)), "{away:?}");
    assert!(away.iter().copied().collect::<BTreeSet<_>>().len() > 4, "they are spread: {away:?}");
    fixture.server.drain().unwrap();
}

#[test]
fn a_device_hears_over_how_many_seconds_to_spread_and_nothing_when_it_may_come_at_once() {
    let mut fixture = server(|_| {});
    let device = fixture.enrol("kiosk");
    let address = fixture.address();
    let ask = || {
        let mut connection = device.connect(address);
        let answer = connection.ask(&ToServer::Sync(sync(Epoch(0), None))).unwrap();
        let ToAgent::InSync(in_sync) = answer else { panic!("nothing is there to sync") };
        in_sync.reconnect_seconds
    };
    assert_eq!(ask(), None);
    fixture.limit_handshakes(1);
    assert!(matches!(ask(), Some(1..=3)), "one link or two, at one a second");
    fixture.server.drain().unwrap();
}

/// Every device is told when to come again, and those that do not listen, or never said a word, do not hold
/// the end up.
#[test]
fn a_server_that_is_stopped_says_when_to_come_again_and_ends_in_time() {
    const DEVICES: usize = 150;
    let directory = tempfile::tempdir().unwrap();
    let mut process = Musterd::start(directory.path(), "");
    let address = process.address;
    let devices = process.enrol_many(DEVICES);
    let mut connections = rush(address, &devices);
    let silent: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let deaf = connections.split_off(DEVICES - 20);
    eventually("the links", || process.status().links.open >= (DEVICES + silent.len()) as u64);

    let begun = Instant::now();
    process.signal(Signal::TERM);
    let mut seconds = Vec::new();
    for (connection, _) in &mut connections {
        let told = connection.read();
        seconds.push(seconds_of(&told).unwrap_or_else(|| panic!("{told:?}")));
        let ToAgent::Error(report) = connection.read() else { panic!("the reason was due") };
        assert_eq!(report.code, ErrorCode::Stopping);
    }
    assert_eq!(process.process().wait().code(), Some(0));
    println!("{DEVICES} devices were told, and the server had ended after {:.2?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:.2?}", begun.elapsed());
    assert!(seconds.iter().all(|seconds| (1..=5).contains(seconds)), "{seconds:?}");
    assert_eq!(seconds.iter().copied().collect::<BTreeSet<_>>().len(), 5, "spread over all of it");
    drop((silent, deaf));
}

/// The more devices there are for what the server can take, the longer is the time over which they come back.
#[test]
fn the_time_to_come_back_grows_with_the_fleet() {
    const DEVICES: usize = 60;
    let mut fixture = server(|_| {});
    let devices = fixture.enrol_many(DEVICES);
    let mut connections = rush(fixture.address(), &devices);
    fixture.limit_handshakes(2);
    let draining = std::thread::spawn(move || fixture.server.drain());
    let mut seconds: Vec<u32> =
        connections.iter_mut().map(|(connection, _)| seconds_of(&connection.read()).unwrap()).collect();
    drop(connections);
    draining.join().unwrap().unwrap();
    seconds.sort_unstable();
    // Sixty at two a second, and a fifth more.
    assert!(seconds[DEVICES - 1] <= 37 && seconds[DEVICES - 1] > 24, "{seconds:?}");
    assert!(seconds[DEVICES / 2] > 10, "{seconds:?}");
}
