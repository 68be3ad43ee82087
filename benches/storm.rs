//! Effect of a storm of handshakes on live links, and the cost of the storm. Run: `cargo bench --bench
//! storm`.
//!
//! 64 devices each deliver an event every 100 ms and wait until it is durable; meanwhile 256 handshakes at a
//! time arrive, one after the other, in full and resumed. The clients need more of the cores than the server,
//! which is a process of its own. A delay counts from when its event was to be sent, so that a client that is
//! late hides nothing.
#![expect(clippy::unwrap_used, reason = "a bench that can't set its peers up has nothing to measure")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::{Connection, Device, Musterd, event};
use muster::wire::event::Severity;
use muster::wire::id::Epoch;
use muster::wire::message::{Ping, ToAgent, ToServer};

/// Devices that deliver events, in devices.
const PUBLISHERS: usize = 64;

/// Interval of each of them.
const INTERVAL: Duration = Duration::from_millis(100);

/// Threads that make handshakes, and how many each has under way.
const STORMERS: usize = 4;
const UNDER_WAY: usize = 64;

/// Length of each part.
const PART: Duration = Duration::from_secs(8);

/// Kind of a storm.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Storm {
    Nothing,
    FullHandshakes,
    ResumedHandshakes,
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        // `cargo test --benches` only looks whether it builds.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    let token = server.token(u32::try_from(PUBLISHERS + STORMERS * UNDER_WAY).unwrap());
    let enrol = |name: String| Device::enrol(server.address, &token, &name).unwrap();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|number| enrol(format!("publisher-{number}"))).collect();
    let stormers: Vec<_> =
        (0..STORMERS * UNDER_WAY).map(|number| enrol(format!("stormer-{number}"))).collect();
    let mut links: Vec<_> =
        publishers.iter().map(|device| Connection::open(server.address, &device.tls)).collect();
    for storm in [Storm::Nothing, Storm::FullHandshakes, Storm::ResumedHandshakes, Storm::Nothing] {
        run(&server, &mut links, &stormers, storm);
    }
}

fn run(server: &Musterd, links: &mut [Connection], stormers: &[Device], storm: Storm) {
    let before = server.status().links;
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let mut delays: Vec<Duration> = std::thread::scope(|scope| {
        let (is_over, address) = (&is_over, server.address);
        let publishers: Vec<_> = links
            .iter_mut()
            .enumerate()
            .map(|(number, link)| scope.spawn(move || publish(link, begun, number, is_over)))
            .collect();
        if storm != Storm::Nothing {
            for devices in stormers.chunks(UNDER_WAY) {
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        knock(address, devices, storm);
                    }
                });
            }
        }
        std::thread::sleep(PART);
        is_over.store(true, Ordering::Relaxed);
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    let after = server.status().links;
    println!(
        "{storm:?}: {:.0} handshakes/s ({:.0} resumed); {:.0} events/s, acknowledged within p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, \
         max {:.2} ms; {} µs a handshake since the start",
        (after.handshakes - before.handshakes) as f64 / seconds,
        (after.handshakes_resumed - before.handshakes_resumed) as f64 / seconds,
        delays.len() as f64 / seconds,
        at(50),
        at(90),
        at(99),
        at(100),
        after.handshake_microseconds,
    );
}

/// Delivers events at their times, until it is over. Returns the delay of each acknowledgement behind its
/// time.
fn publish(link: &mut Connection, begun: Instant, number: usize, is_over: &AtomicBool) -> Vec<Duration> {
    // Each part has a history of its own, higher than the one before; and the links do not beat together.
    let epoch = Epoch(muster::reactor::Clock::new().now().wall.0);
    let mut due = begun + INTERVAL * u32::try_from(number).unwrap() / u32::try_from(PUBLISHERS).unwrap();
    let mut delays = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let sequence = delays.len() as u64 + 1;
        link.send_copies(epoch, sequence..=sequence, &event(Severity::Info, "x".repeat(160)));
        while !matches!(link.receive().unwrap(), ToAgent::Ack(ack) if ack.through >= sequence) {}
        delays.push(due.elapsed());
        due += INTERVAL;
    }
    delays
}

/// Each device connects, all at a time, and hears one answer.
fn knock(address: SocketAddr, devices: &[Device], storm: Storm) {
    let mut connections: Vec<_> = devices
        .iter()
        .map(|device| {
            let fresh = (storm == Storm::FullHandshakes).then(|| device.fresh_tls());
            let mut connection = Connection::open(address, fresh.as_ref().unwrap_or(&device.tls));
            connection.send(&ToServer::Ping(Ping::default()));
            connection
        })
        .collect();
    for connection in &mut connections {
        assert_eq!(connection.receive().unwrap(), ToAgent::Pong);
    }
}
