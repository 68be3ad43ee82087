//! Session tickets across the end of the server's process.

use muster::reactor::channel::HandshakeCost;
use muster::wire::message::{Ping, ToAgent, ToServer};

use super::process::Process;
use crate::common::{Connection, Device};

/// Connects, says something, and tells how the handshake went.
fn visit(server: &Process, device: &Device) -> Option<HandshakeCost> {
    let mut connection = Connection::open(server.address, &device.tls);
    connection.send(&ToServer::Ping(Ping::default()));
    assert_eq!(connection.receive().unwrap(), ToAgent::Pong);
    connection.channel.handshake_cost()
}

#[test]
fn a_ticket_is_good_after_the_server_was_killed_and_not_without_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path(), "");
    let device = Device::enrol(server.address, &server.token(1), "kiosk").unwrap();
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Full));
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Resumed));
    server.kill();

    let server = Process::start(directory.path(), "");
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Resumed));
    let links = server.status().links;
    assert_eq!((links.handshakes, links.handshakes_resumed), (1, 1), "the server says so too");
    server.kill();

    // The same identity and devices, with a ticket key of its own: the handshake is a full one, and nothing
    // fails.
    let database = directory.path().join("data/store/muster.db");
    let sql = "DELETE FROM ticket_seeds";
    rusqlite::Connection::open(&database).unwrap().execute(sql, []).unwrap();
    let server = Process::start(directory.path(), "");
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Full));
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Resumed));
}
