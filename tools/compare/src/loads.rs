//! Which loads there are, how large they are, and their order.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::closed::{ClosedLoop, Throughput};
use crate::failure::Failure;
use crate::handshakes::{self, HandshakeCost};
use crate::held::{self, Held};
use crate::link::Records;
use crate::low::{self, LowLoad};
use crate::process::Process;
use crate::protocol::{Packing, Peer, Tickets};
use crate::storm::{Storm, Weather};
use crate::swarm::Swarm;

/// Handshakes under way at a time when their cost is measured: the server is never idle, and never crowded.
const HANDSHAKES_UNDER_WAY: usize = 4;

/// Publishers in the storm, their messages a second, and handshakes under way: the load that the issue names.
const STORM_PUBLISHERS: usize = 64;
const STORM_MESSAGES_PER_SECOND: u64 = 6_400;
const STORM_ARRIVING: usize = 256;

/// Clients for each of those handshakes: one comes again when its last link is long gone.
const STORM_TURNS: usize = 4;

/// A load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Load {
    /// Connections held: memory each.
    Held,
    /// Full and resumed handshakes: processor time each.
    Handshakes,
    /// Small durable messages.
    Messages,
    /// Acknowledgements while handshakes arrive.
    Storm,
    /// One message at a time, beside a durable write.
    Low,
}

/// Sizes of the loads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    held_fewer: usize,
    held_more: usize,
    held_after: Duration,
    handshakes: u64,
    many_links: usize,
    warm_up: Duration,
    measured: Duration,
    quiet: Duration,
    storm: Duration,
    storm_arriving: usize,
    timeout: Duration,
    rounds: u64,
}

impl Sizes {
    /// Those that figures are taken from.
    pub(crate) fn full() -> Self {
        Self {
            held_fewer: 1_000,
            held_more: 9_000,
            held_after: Duration::from_secs(5),
            handshakes: 2_000,
            many_links: 1_000,
            warm_up: Duration::from_millis(700),
            measured: Duration::from_secs(3),
            quiet: Duration::from_secs(3),
            storm: Duration::from_secs(6),
            storm_arriving: STORM_ARRIVING,
            timeout: Duration::from_secs(10),
            rounds: 500,
        }
    }

    /// Those that show that everything works.
    pub(crate) fn quick() -> Self {
        Self {
            held_fewer: 200,
            held_more: 1_000,
            held_after: Duration::from_secs(1),
            handshakes: 400,
            many_links: 200,
            warm_up: Duration::from_millis(300),
            measured: Duration::from_millis(900),
            quiet: Duration::from_secs(1),
            storm: Duration::from_secs(2),
            storm_arriving: STORM_ARRIVING,
            timeout: Duration::from_secs(3),
            rounds: 100,
        }
    }
}

/// Measurements of one server.
#[derive(Serialize, Default)]
pub(crate) struct Report {
    server_threads: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_handshakes: Option<HandshakeCost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_handshakes: Option<HandshakeCost>,
    messages: Vec<NamedThroughput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<Weather>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<LowLoad>,
    /// All messages that the server acknowledged.
    acknowledged: u64,
    /// All that it says it holds; left out when it can't tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<u64>,
}

#[derive(Serialize)]
struct NamedThroughput {
    name: &'static str,
    #[serde(flatten)]
    throughput: Throughput,
}

/// Links, messages in flight on each, and how they are cut and packed.
struct Shape {
    name: &'static str,
    links: usize,
    in_flight: usize,
    records: Records,
    packing: Packing,
}

/// The shapes of small messages.
fn shapes(many_links: usize) -> [Shape; 5] {
    let shape = |name, links, in_flight, records, packing| Shape { name, links, in_flight, records, packing };
    [
        shape("many_links", many_links, 1, Records::Few, Packing::Each),
        shape("links_64", 64, 1, Records::Few, Packing::Each),
        shape("one_write", 1, 64, Records::Few, Packing::Each),
        shape("record_each", 1, 64, Records::Each, Packing::Each),
        shape("one_frame", 1, 64, Records::Few, Packing::Together),
    ]
}

/// Runs the loads, one after the other, and asks the server at the end what it holds: no less than it
/// acknowledged.
pub(crate) fn run(
    peer: &dyn Peer,
    server: &Process,
    loads: &[Load],
    sizes: &Sizes,
    directory: &Path,
) -> Result<Report, Failure> {
    let begun = Instant::now();
    let says = |what: &str| eprintln!("  {:5.1} s  {what}", begun.elapsed().as_secs_f64());
    let mut report = Report::default();
    peer.prepare(1)?;
    if loads.contains(&Load::Held) {
        says("connections held");
        let (fewer, more) = (sizes.held_fewer, sizes.held_more);
        report.held = Some(held::measure(peer, server, fewer, more, sizes.held_after)?);
    }
    if loads.contains(&Load::Handshakes) {
        says("handshakes");
        peer.prepare(HANDSHAKES_UNDER_WAY)?;
        let measure =
            |tickets| handshakes::measure(peer, server, tickets, sizes.handshakes, HANDSHAKES_UNDER_WAY);
        report.full_handshakes = Some(measure(Tickets::None)?);
        report.resumed_handshakes = Some(measure(Tickets::Kept)?);
    }
    if loads.contains(&Load::Messages) {
        for shape in shapes(sizes.many_links) {
            if shape.packing == Packing::Together && !peer.packs() {
                continue;
            }
            says(shape.name);
            let throughput = messages(peer, server, sizes, &shape)?;
            report.acknowledged += throughput.sent;
            report.messages.push(NamedThroughput { name: shape.name, throughput });
        }
    }
    if loads.contains(&Load::Storm) {
        says("storm");
        let clients = STORM_TURNS * sizes.storm_arriving;
        peer.prepare(STORM_PUBLISHERS + clients)?;
        let storm = Storm {
            publishers: STORM_PUBLISHERS,
            per_second: STORM_MESSAGES_PER_SECOND,
            quiet: sizes.quiet,
            storm: sizes.storm,
            timeout: sizes.timeout,
            arriving: sizes.storm_arriving,
            clients,
        };
        let weather = storm.run(peer, server)?;
        report.acknowledged += weather.sent - weather.quiet.given_up - weather.storm.given_up;
        report.storm = Some(weather);
    }
    if loads.contains(&Load::Low) {
        says("low load");
        let mut swarm = Swarm::new(peer)?;
        swarm.connect(0, 1, Packing::Each)?;
        let low = low::run(&mut swarm, sizes.rounds, directory)?;
        swarm.close_all();
        report.acknowledged += low.sent;
        report.low = Some(low);
    }
    report.server_threads = server.threads()?;
    report.stored = peer.stored()?;
    if let Some(stored) = report.stored.filter(|stored| *stored < report.acknowledged) {
        let acknowledged = report.acknowledged;
        return Err(Failure(format!("the server acknowledged {acknowledged} messages and holds {stored}")));
    }
    says("done");
    Ok(report)
}

fn messages(peer: &dyn Peer, server: &Process, sizes: &Sizes, shape: &Shape) -> Result<Throughput, Failure> {
    peer.prepare(shape.links)?;
    let mut swarm = Swarm::new(peer)?;
    swarm.connect(0, shape.links, shape.packing)?;
    let load = ClosedLoop {
        in_flight: shape.in_flight,
        records: shape.records,
        warm_up: sizes.warm_up,
        measured: sizes.measured,
    };
    let throughput = load.run(&mut swarm, server)?;
    swarm.close_all();
    Ok(throughput)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ::muster::client::Address;
    use ::muster::server::Server;
    use ::muster::server::config::Config;

    use super::*;
    use crate::certificates::KeyExchange;
    use crate::muster::MusterPeer;

    /// Every load, small, against a server in this process: what the engines count must be what the server
    /// has stored.
    #[test]
    fn all_loads_run_and_the_server_holds_what_it_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::in_directory(directory.path().join("data"));
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.journal.segment_bytes = 1 << 20;
        config.reactors = Some(1);
        let admin = Address::Socket(config.admin_socket());
        let server = Server::start(config).unwrap();
        let peer = MusterPeer::new(server.addresses()[0], admin, KeyExchange::X25519).unwrap();
        let sizes = Sizes {
            held_fewer: 2,
            held_more: 6,
            held_after: Duration::from_millis(10),
            handshakes: 20,
            many_links: 8,
            warm_up: Duration::from_millis(50),
            measured: Duration::from_millis(200),
            quiet: Duration::from_millis(200),
            storm: Duration::from_millis(300),
            storm_arriving: 8,
            timeout: Duration::from_secs(20),
            rounds: 5,
        };
        let loads = [Load::Held, Load::Handshakes, Load::Messages, Load::Storm, Load::Low];
        let process = Process::of(std::process::id());
        let report = run(&peer, &process, &loads, &sizes, directory.path()).unwrap();
        server.drain().unwrap();

        assert_eq!(report.stored, Some(report.acknowledged));
        let resumed = report.resumed_handshakes.unwrap().rotated;
        // Four are under way at a time, and the last of them may end together.
        assert!((20..24).contains(&resumed.done) && resumed.failed == 0, "{resumed:?}");
        assert!(resumed.resumed >= 16, "{resumed:?}");
        assert_eq!(report.full_handshakes.unwrap().rotated.resumed, 0);
        assert_eq!(report.messages.len(), 5);
        assert!(report.messages.iter().all(|named| named.throughput.ack.count > 0));
        let storm = report.storm.unwrap();
        assert_eq!((storm.quiet.ack.count, storm.storm.ack.count), (1_280, 1_920));
        assert!(storm.handshakes.done > 0, "{storm:?}");
        assert_eq!(report.low.unwrap().ack.count, 5);
        let json = serde_json::to_value(&report).unwrap();
        assert!(json.pointer("/messages/0/server_microseconds_each").is_some(), "{json}");
    }
}
