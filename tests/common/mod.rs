//! A device in a few lines, for tests that speak to a real server over a real socket.
#![allow(dead_code, reason = "each test uses its own part of it")]

#[cfg(all(feature = "server", feature = "agent", feature = "ctl"))]
pub(crate) mod process;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use muster::reactor::channel::{Channel, ChannelError, ClientIdentity, ClientTls, ExpectedServer};
use muster::server::Server;
use muster::server::config::Config;
use muster::store::NewToken;
use muster::wire::frame;
use muster::wire::message::{Enrol, Enrolled, ToAgent, ToServer};
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

/// Time of anything before a test gives up. Generous: the machine may be busy with other tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A server in a directory of its own, on a free port.
pub(crate) fn server(directory: &std::path::Path) -> Server {
    let mut config = Config::in_directory(directory);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.journal.segment_bytes = 1 << 20;
    config.reactors = Some(2);
    config.process.raise_descriptor_limit = true;
    Server::start(config).unwrap()
}

/// A join token for `uses` devices.
pub(crate) fn token(server: &Server, uses: u32) -> JoinToken {
    let now = muster::reactor::Clock::new().now().wall;
    let expires_at = WallTime(now.0 + 600_000);
    let new = NewToken { group: "/test".into(), created_at: now, expires_at, uses_max: uses };
    let created = server.store().devices().create_token(new).unwrap();
    JoinToken { id: created.token.id, secret: created.secret, server_certificate: server.certificate() }
}

/// Looks until `look` finds something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < TIMEOUT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One connection of a device.
pub(crate) struct Connection {
    socket: TcpStream,
    pub channel: Channel,
    plain: Vec<u8>,
    pub sent_bytes: usize,
    pub received_bytes: usize,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, tls: &ClientTls) -> Self {
        Self::try_open(address, tls).unwrap()
    }

    /// An error when nobody listens there.
    pub(crate) fn try_open(address: SocketAddr, tls: &ClientTls) -> std::io::Result<Self> {
        TcpStream::connect(address).map(|socket| Self::over(socket, tls))
    }

    /// On a connection that is there already.
    pub(crate) fn over(socket: TcpStream, tls: &ClientTls) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        socket.set_nodelay(true).unwrap();
        let channel = Channel::client(tls).unwrap();
        Self { socket, channel, plain: Vec::new(), sent_bytes: 0, received_bytes: 0 }
    }

    pub(crate) fn send(&mut self, message: &ToServer<'_>) {
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.sent_bytes += bytes.len();
        self.channel.write_plain(bytes).unwrap();
        // A server that has closed is noticed when its answer is read.
        let _ = self.channel.flush_to(&mut self.socket);
    }

    /// Sends what there is room for and waits for nothing; bytes that find no room are dropped. `false`: the
    /// server has hung up.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        self.socket.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
        while self.channel.is_handshaking() {
            if !self.read_once() {
                return false;
            }
        }
        if self.channel.unsent_bytes() == 0 {
            self.sent_bytes += bytes.len();
            self.channel.write_plain(bytes).unwrap();
        }
        self.channel.flush_to(&mut self.socket).is_ok()
    }

    /// Reads and sends until the socket has taken everything. `false`: the server has hung up.
    pub(crate) fn send_all(&mut self) -> bool {
        while self.channel.is_handshaking() || self.channel.unsent_bytes() > 0 {
            if !self.read_once() {
                return false;
            }
        }
        true
    }

    /// Reads what is there, within 5 ms, and keeps it. `false`: the server has hung up.
    pub(crate) fn read_once(&mut self) -> bool {
        let _ = self.channel.flush_to(&mut self.socket);
        let mut once = Once { socket: &mut self.socket, has_read: false };
        let outcome = self.channel.read_from(&mut once, &mut self.plain);
        let _ = self.channel.flush_to(&mut self.socket);
        matches!(outcome, Ok(outcome) if !matches!(outcome, muster::reactor::channel::ReadOutcome::Closed))
    }

    /// Takes the whole messages that were read, unseen: how many.
    pub(crate) fn take_frames(&mut self) -> u64 {
        let mut frames = 0;
        while let Some((_, length)) = frame::split(&self.plain).unwrap() {
            self.plain.drain(..length);
            frames += 1;
        }
        frames
    }

    /// The server's answer to a message.
    pub(crate) fn ask(&mut self, message: &ToServer<'_>) -> Result<ToAgent, ChannelError> {
        self.send(message);
        self.receive()
    }

    /// The next message, or why there is none.
    pub(crate) fn receive(&mut self) -> Result<ToAgent, ChannelError> {
        let start = Instant::now();
        loop {
            if let Some((body, length)) = frame::split(&self.plain).unwrap() {
                let message = ToAgent::from_body(body).unwrap();
                self.plain.drain(..length);
                return Ok(message);
            }
            assert!(start.elapsed() < TIMEOUT, "waited in vain for a message");
            let before = self.plain.len();
            let mut once = Once { socket: &mut self.socket, has_read: false };
            let outcome = self.channel.read_from(&mut once, &mut self.plain);
            let _ = self.channel.flush_to(&mut self.socket);
            self.received_bytes += self.plain.len() - before;
            match outcome? {
                muster::reactor::channel::ReadOutcome::Closed if self.plain.is_empty() => {
                    return Err(ChannelError::Truncated);
                }
                _ => {}
            }
        }
    }
}

/// A socket of which each call reads once, and then says that there is no more for now: its timeout is waited
/// for only when there is nothing.
struct Once<'a> {
    socket: &'a mut TcpStream,
    has_read: bool,
}

impl std::io::Read for Once<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if std::mem::replace(&mut self.has_read, true) {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        self.socket.read(buffer)
    }
}

/// A device that has enrolled.
pub(crate) struct Device {
    pub enrolled: Enrolled,
    pub tls: ClientTls,
    key: Vec<u8>,
}

impl Device {
    /// Enrols over the wire.
    pub(crate) fn enrol(address: SocketAddr, token: &JoinToken, name: &str) -> Result<Self, ToAgent> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let tls = ClientTls::new(ExpectedServer::Hash(token.server_certificate), None).unwrap();
        let mut connection = Connection::open(address, &tls);
        connection.send(&ToServer::Enrol(Enrol {
            token: token.id,
            secret: token.secret,
            request,
            name: name.into(),
        }));
        let enrolled = match connection.receive().unwrap() {
            ToAgent::Enrolled(enrolled) => *enrolled,
            other => return Err(other),
        };
        let key = key.serialized_der().to_vec();
        let tls = tls_of(&enrolled, &key);
        Ok(Self { enrolled, tls, key })
    }

    /// A configuration without tickets.
    pub(crate) fn fresh_tls(&self) -> ClientTls {
        tls_of(&self.enrolled, &self.key)
    }
}

fn tls_of(enrolled: &Enrolled, key: &[u8]) -> ClientTls {
    let identity = ClientIdentity { certificate: &enrolled.certificate, private_key: key };
    ClientTls::new(ExpectedServer::Pins(enrolled.pins.clone()), Some(identity)).unwrap()
}
