//! Somebody who reaches the administrators' port and has no API token that is good.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use muster::admin::capacity::FOLLOWERS_MAX;
use muster::admin::network::{CONNECTIONS_OF_ADDRESS_MAX, NETWORK_CONNECTIONS_MAX};
use muster::client::{Address, Client};
use muster::reactor::channel::{ClientTls, ExpectedServer, HTTP_2};
use muster::wire::api::{ErrorCode, NewApiToken, SignIn};
use muster::wire::role::Role;
use muster::wire::token::ApiTokenText;

use super::administrator::much_happens;
use super::scene::Scene;
use crate::kit::eventually;

/// An API token that is good; the port is open since there is one.
fn token(scene: &Scene) -> ApiTokenText {
    let root = Client::new(Address::Socket(scene.directory.path().join("data/admin.sock")));
    let new = NewApiToken { name: "anna".into(), role: Role::Reader, group: None, ttl_seconds: None };
    let token = root.unwrap().create_api_token(&new).unwrap().token.parse().unwrap();
    eventually("the port opens", || TcpStream::connect(scene.port).is_ok());
    token
}

/// A socket of another address than the others'.
fn socket_of(host: u8) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 1, host], 0)).into()).unwrap();
    socket
}

/// Connections on which nothing is said.
pub(crate) fn places(scene: &Scene) {
    token(scene);
    for _ in 0..4 {
        let streams: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(scene.port).ok()).collect();
        std::thread::sleep(Duration::from_secs(1));
        let is_open = |mut stream: &TcpStream| {
            stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let open = streams.iter().filter(|stream| is_open(stream)).count();
        assert!(open <= CONNECTIONS_OF_ADDRESS_MAX, "{open} of {}", streams.len());
    }
}

/// Requests with no token at all: on many connections, many on each.
pub(crate) fn unknown(scene: &Scene) {
    let expected = ExpectedServer::Hash(token(scene).server_certificate);
    let tls = ClientTls::of_administrator(expected).unwrap();
    for _ in 0..40 {
        let mut connection = rustls::ClientConnection::new(tls.config(), tls.name()).unwrap();
        let mut stream = TcpStream::connect(scene.port).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut stream);
        for path in ["/v1/status", "/v1/devices", "/v1/nothing", "/"].repeat(10) {
            let asked = write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            let mut answer = [0; 12];
            if asked.and_then(|()| stream.read_exact(&mut answer)).is_err() {
                break;
            }
            assert_eq!(&answer, b"HTTP/1.1 401", "{path}");
            // The rest of the answer.
            let _ = stream.read(&mut [0; 4_096]);
        }
    }
}

/// Somebody who asks for the installer without end, and for the agent without reading it.
pub(crate) fn installer(scene: &Scene) {
    let tls = ClientTls::of_administrator(ExpectedServer::Hash(token(scene).server_certificate)).unwrap();
    let ask = |host: u8, path: &str| {
        let mut connection = rustls::ClientConnection::new(tls.config(), tls.name()).unwrap();
        let socket = socket_of(host);
        socket.connect(&scene.port.into()).unwrap();
        let mut socket = TcpStream::from(socket);
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = vec![0; 8_192];
        let length = stream.read(&mut answer).unwrap();
        answer.truncate(length);
        let text = String::from_utf8_lossy(&answer).into_owned();
        (text.starts_with("HTTP/1.1 200"), text, (connection, socket))
    };
    let (_, script, _) = ask(1, "/install");
    let sha256 = script.split_once("sha256=").map(|(_, rest)| rest.trim_start_matches(['\'', '"'])).unwrap();
    let agent = format!("/install/agent/{}", &sha256[..64]);
    let scripts = (0..200).filter(|_| ask(1, "/install").0).count();
    assert!((50..150).contains(&scripts), "{scripts}");
    // Each of three addresses, none of which reads what it asked for.
    let asked: Vec<_> =
        (2..=4).flat_map(|host| (0..12).map(move |_| host)).map(|host| ask(host, &agent)).collect();
    let sent = asked.iter().filter(|(is_sent, ..)| *is_sent).count();
    assert_eq!(sent, 16, "are sent at once");
}

/// Somebody who begins to sign in at a provider, again and again, from more addresses than there is room for.
pub(crate) fn sign_ins(scene: &Scene) {
    let tls = ClientTls::of_administrator(ExpectedServer::Hash(token(scene).server_certificate)).unwrap();
    let (mut begun, mut refused) = (0, 0);
    for host in 1..=70 {
        let mut connection = rustls::ClientConnection::new(tls.config(), tls.name()).unwrap();
        let socket = socket_of(host);
        socket.connect(&scene.port.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let mut stream = rustls::Stream::new(&mut connection, &mut stream);
        for _ in 0..20 {
            stream.write_all(b"GET /openid/start HTTP/1.1\r\nhost: x\r\naccept: text/html\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            match &answer {
                b"HTTP/1.1 303" => begun += 1,
                _ => refused += 1,
            }
            // The rest of the answer.
            let _ = stream.read(&mut [0; 16_384]);
        }
    }
    assert!(begun >= 1_024 && refused > 0, "{begun} begun, {refused} refused");
}

/// A thousand clients that follow, of many addresses, with a token that is good.
pub(crate) fn followers(scene: &Scene) {
    let token = token(scene);
    let tls = ClientTls::of_administrator(ExpectedServer::Hash(token.server_certificate)).unwrap();
    let (mut clients, mut waiting) = (Vec::new(), Vec::new());
    for number in 0..1_000 {
        let host = u8::try_from(number / CONNECTIONS_OF_ADDRESS_MAX + 1).unwrap();
        let socket = socket_of(host);
        if number >= NETWORK_CONNECTIONS_MAX {
            // There is no place, in the end not even in the kernel's queue.
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&scene.port.into());
            waiting.push(socket);
            continue;
        }
        socket.connect(&scene.port.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let mut connection = rustls::ClientConnection::new(tls.config(), tls.name()).unwrap();
        let path = ["/v1/events/follow?from=0", "/events/live?from=0"][number % 2];
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        rustls::Stream::new(&mut connection, &mut stream).write_all(head.as_bytes()).unwrap();
        clients.push((connection, stream));
    }
    much_happens(&mut scene.hostile());
    std::thread::sleep(Duration::from_secs(3));
    let mut counts = [0; 2];
    for (connection, stream) in &mut clients {
        let mut head = [0; 12];
        rustls::Stream::new(connection, stream).read_exact(&mut head).unwrap();
        counts[usize::from(&head == b"HTTP/1.1 503")] += 1;
    }
    assert_eq!(counts, [FOLLOWERS_MAX, NETWORK_CONNECTIONS_MAX - FOLLOWERS_MAX], "follow; are refused");
    drop((clients, waiting));
    let mut client = Client::new(Address::Network(scene.port.to_string())).unwrap();
    client.sign_in(&token);
    eventually("the port is open to others again", || client.status().is_ok());
}

/// A head of HTTP/2 (RFC 9113 section 6.2) on this stream: GET of the API's description, which is long.
fn head(stream: u32, token: &ApiTokenText) -> Vec<u8> {
    // Names and values of RFC 7541 appendix A: 2 is GET, 7 https, 4 a path, 1 a host, 23 authorization.
    let mut block = vec![0x82, 0x87];
    for (name, value) in
        [(&[0x04][..], "/v1/openapi.json"), (&[0x01], "x"), (&[0x0f, 23 - 15], &format!("Bearer {token}"))]
    {
        block.extend_from_slice(name);
        // A length of 127 or more begins with all bits, and goes on with the rest.
        match value.len().checked_sub(127) {
            None => block.push(u8::try_from(value.len()).unwrap()),
            Some(rest) => block.extend([127, u8::try_from(rest).unwrap()]),
        }
        block.extend_from_slice(value.as_bytes());
    }
    assert!(block.len() < 256);
    // Type HEADERS; END_STREAM and END_HEADERS.
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 0x05];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

/// Somebody with a token asks for as much as there is on all connections of an address, and takes nothing.
pub(crate) fn streams(scene: &Scene) {
    let token = token(scene);
    let tls = ClientTls::of_administrator(ExpectedServer::Hash(token.server_certificate)).unwrap();
    let mut config = (*tls.config()).clone();
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    let config = std::sync::Arc::new(config);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS_OF_ADDRESS_MAX {
        let mut connection = rustls::ClientConnection::new(config.clone(), tls.name()).unwrap();
        let mut stream = TcpStream::connect(scene.port).unwrap();
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        // The preface, and SETTINGS: INITIAL_WINDOW_SIZE 0.
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0").unwrap();
        for number in 0..200 {
            tls.write_all(&head(number * 2 + 1, &token)).unwrap();
        }
        connections.push((connection, stream));
    }
    std::thread::sleep(Duration::from_secs(6));
    drop(connections);
    let mut client = Client::new(Address::Network(scene.port.to_string())).unwrap();
    client.sign_in(&token);
    eventually("the address is served again", || client.status().is_ok());
}

/// Guesses of a token, far more than are looked at.
pub(crate) fn wrong(scene: &Scene) {
    let mut guessed = token(scene);
    guessed.secret[0] ^= 1;
    let mut client = Client::new(Address::Network(scene.port.to_string())).unwrap();
    client.sign_in(&guessed);
    let codes: Vec<_> = (0..2_000).map(|_| client.status().unwrap_err().code()).collect();
    let looked_up = codes.iter().filter(|code| **code == Some(ErrorCode::Unauthenticated)).count();
    assert!((20..60).contains(&looked_up), "{looked_up} of {}", codes.len());
    assert_eq!(codes.last(), Some(&Some(ErrorCode::Busy)));
}

/// Guesses of passwords, of users who are none, on many connections at once.
pub(crate) fn passwords(scene: &Scene) {
    let expected = token(scene).server_certificate;
    let guess = |number: usize| {
        let mut client = Client::new(Address::Network(scene.port.to_string())).unwrap();
        client.expect(expected);
        let codes = (0..1_000).map(|_| {
            let user = Some(format!("user-{number}"));
            let guess = SignIn { user, link: None, password: "x".repeat(1_000) };
            client.create_token_of_user(&guess).unwrap_err().code()
        });
        codes.filter(|code| *code == Some(ErrorCode::Unauthenticated)).count()
    };
    let looked_at: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..10).map(|number| scope.spawn(move || guess(number))).collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert!((20..60).contains(&looked_at), "{looked_at}");
}
