//! Strangers: peers without a certificate of this server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::kit::{Connection, eventually};
use muster::reactor::channel::{ClientTls, ExpectedServer};
use muster::wire::datagram::{Notice, NoticeKind};
use muster::wire::limits::DATAGRAM_KEY_BYTES;
use muster::wire::message::{Enrol, ToAgent, ToServer};

use super::scene::Scene;

/// Waits that the server has an answer for are shorter than this.
const HOLDS: Duration = Duration::from_secs(3);

/// Opens connections as fast as the server takes them up. Those it has no room for are not a failure of the
/// attack.
fn connect(scene: &Scene, count: usize) -> Vec<TcpStream> {
    (0..count).filter_map(|_| TcpStream::connect(scene.server.address).ok()).collect()
}

pub(crate) fn silent(scene: &Scene) {
    let connections = connect(scene, 1_000);
    std::thread::sleep(HOLDS);
    assert_eq!(connections.len(), 1_000);
}

/// Says hello, and stops when the server has answered.
pub(crate) fn half(scene: &Scene) {
    let hello = client_hello(scene);
    let mut connections = connect(scene, 1_000);
    for connection in &mut connections {
        let _ = connection.write_all(&hello);
    }
    std::thread::sleep(HOLDS);
}

/// The first bytes of a handshake, as a client of this kind sends them.
fn client_hello(scene: &Scene) -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Connection::open(listener.local_addr().unwrap(), &without_certificate(scene));
    client.send_bytes(b"x");
    let (mut accepted, _) = listener.accept().unwrap();
    let mut hello = vec![0; 16 * 1024];
    let length = accepted.read(&mut hello).unwrap();
    hello.truncate(length);
    hello
}

fn without_certificate(scene: &Scene) -> ClientTls {
    ClientTls::new(ExpectedServer::Hash(scene.token.server_certificate), None).unwrap()
}

/// Ends the handshake, and then says nothing: more often than there may be links.
pub(crate) fn idle(scene: &Scene) {
    let tls = without_certificate(scene);
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..200 {
        let Ok(mut connection) = Connection::try_open(scene.server.address, &tls) else { continue };
        // Nothing but the handshake: the first read carries it to its end.
        let _ = connection.read_once();
        let _ = connection.read_once();
        connections.push(connection);
    }
    std::thread::sleep(HOLDS);
}

pub(crate) fn guesses(scene: &Scene) {
    let tls = without_certificate(scene);
    let guess = |number: u64| {
        let mut secret = scene.token.secret;
        secret[..8].copy_from_slice(&number.to_le_bytes());
        let (token, request, name) = (scene.token.id, vec![0; 1_000], "guess".into());
        ToServer::Enrol(Enrol { token, secret, request, name })
    };
    for number in 0..300 {
        let Ok(mut connection) = Connection::try_open(scene.server.address, &tls) else { continue };
        connection.send(&guess(number));
        let answer = connection.receive();
        assert!(matches!(answer, Ok(ToAgent::Error(_) | ToAgent::Later(_)) | Err(_)), "{answer:?}");
        // A second one on the same connection.
        connection.send(&guess(number + 1_000));
        let answer = connection.receive();
        assert!(answer.is_err(), "one for each handshake: {answer:?}");
    }
}

pub(crate) fn datagrams(scene: &Scene) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = scene.server.status().datagrams.address.parse().unwrap();
    let mut bytes = [0; 56];
    for number in 0..100_000_u64 {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let _ = socket.send_to(&bytes, address);
    }
    // As the honest device would send it, but for its key.
    let device = scene.honest.enrolled.device;
    let mut counter = 0;
    eventually("datagrams that were made up are dropped", || {
        counter += 1;
        let notice = Notice { device, kind: NoticeKind::Shutdown, counter, boot: 7 };
        let _ = socket.send_to(&notice.seal(&[7; DATAGRAM_KEY_BYTES]), address);
        let seen = scene.server.status().datagrams;
        assert_eq!(seen.notices, 0, "{seen:?}");
        seen.dropped.iter().any(|dropped| dropped.reason == "forged")
    });
}
