//! Session tickets across the end of the server's process.

use crate::kit::{Device, Musterd};
use muster::reactor::channel::HandshakeCost;

/// Connects, says something, and tells how the handshake went.
fn visit(server: &Musterd, device: &Device) -> Option<HandshakeCost> {
    let mut connection = device.connect(server);
    connection.greet();
    connection.channel.handshake_cost()
}

#[test]
fn a_ticket_is_good_after_the_server_was_killed_and_not_without_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    let device = server.enrol("kiosk");
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Full));
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Resumed));
    server.kill();

    let server = Musterd::start(directory.path(), "");
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Resumed));
    let links = server.status().links;
    assert_eq!((links.handshakes, links.handshakes_resumed), (1, 1), "the server says so too");
    server.kill();

    // The same identity and devices, with a ticket key of its own: the handshake is a full one, and nothing
    // fails.
    let database = directory.path().join("data/store/muster.db");
    let sql = "DELETE FROM ticket_seeds";
    rusqlite::Connection::open(&database).unwrap().execute(sql, []).unwrap();
    let server = Musterd::start(directory.path(), "");
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Full));
    assert_eq!(visit(&server, &device), Some(HandshakeCost::Resumed));
}
