//! Many devices at once, in a few threads.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use muster::server::config::Config;
use muster::wire::id::Epoch;
use muster::wire::message::{Ping, ToAgent, ToServer};

use crate::kit::{Connection, Device, Fixture};

/// A server with two reactors.
pub(crate) fn server(change: impl FnOnce(&mut Config)) -> Fixture {
    Fixture::start_with(|config| {
        config.reactors = Some(2);
        change(config);
    })
}

/// All of them connect at once and say something. Their connections, and what they were answered.
pub(crate) fn rush(address: SocketAddr, devices: &[Device]) -> Vec<(Connection, ToAgent)> {
    let open = |device: &Device| {
        let mut connection = device.connect(address);
        connection.send(&ToServer::Ping(Ping::default()));
        connection
    };
    let connections: Vec<_> = devices.iter().map(open).collect();
    let answered = |mut connection: Connection| {
        let answer = connection.read();
        (connection, answer)
    };
    connections.into_iter().map(answered).collect()
}

/// Sends an event and waits until it is durable.
pub(crate) fn deliver(connection: &mut Connection, sequence: u64) -> Duration {
    let begun = Instant::now();
    connection.send_events(Epoch(5), sequence..=sequence);
    connection.acknowledged(sequence).expect("it is not sent away");
    begun.elapsed()
}
