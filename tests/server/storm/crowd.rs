//! Many devices at once, in a few threads.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use muster::server::Server;
use muster::server::config::Config;
use muster::wire::event::{Event, Severity};
use muster::wire::id::Epoch;
use muster::wire::message::{Ack, EventItem, Events, Ping, ToAgent, ToServer};
use muster::wire::time::WallTime;

use crate::common::{Connection, Device, token};

/// A server on a free port of this machine.
pub(crate) fn server(directory: &std::path::Path, change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::in_directory(directory);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.journal.segment_bytes = 1 << 20;
    config.reactors = Some(2);
    config.process.raise_descriptor_limit = true;
    change(&mut config);
    Server::start(config).unwrap()
}

/// Enrols devices. Each has no ticket yet.
pub(crate) fn enrol(server: &Server, count: usize) -> Vec<Device> {
    let token = token(server, u32::try_from(count).unwrap());
    let address = server.addresses()[0];
    (0..count).map(|number| Device::enrol(address, &token, &format!("kiosk-{number}")).unwrap()).collect()
}

/// Says something and waits for the answer.
pub(crate) fn greet(connection: &mut Connection) {
    connection.send(&ToServer::Ping(Ping::default()));
    assert_eq!(connection.receive().unwrap(), ToAgent::Pong);
}

/// All of them connect at once and say something. Their connections, and what they were answered.
pub(crate) fn rush(address: SocketAddr, devices: &[Device]) -> Vec<(Connection, ToAgent)> {
    let open = |device: &Device| {
        let mut connection = Connection::open(address, &device.tls);
        connection.send(&ToServer::Ping(Ping::default()));
        connection
    };
    let connections: Vec<_> = devices.iter().map(open).collect();
    let answered = |mut connection: Connection| {
        let answer = connection.receive().unwrap();
        (connection, answer)
    };
    connections.into_iter().map(answered).collect()
}

/// Sends an event and waits until it is durable.
pub(crate) fn deliver(connection: &mut Connection, sequence: u64) -> Duration {
    let event = Event {
        severity: Severity::Info,
        application: "test".into(),
        kind: "test.event".into(),
        message: format!("number {sequence}"),
        occurred_at: WallTime(sequence),
        fields: vec![],
    };
    let body = event.to_bytes().unwrap();
    let begun = Instant::now();
    let items = vec![EventItem { sequence, body: &body }];
    connection.send(&ToServer::Events(Events {
        spool_epoch: Epoch(5),
        highest: sequence,
        items,
        acknowledged: None,
        sent_through: None,
        begins_again: false,
    }));
    loop {
        match connection.receive().unwrap() {
            ToAgent::Ack(Ack { through, .. }) if through >= sequence => return begun.elapsed(),
            ToAgent::Ack(_) => {}
            other => panic!("an acknowledgement was due, {other:?} came"),
        }
    }
}
