//! The way to the server: its addresses, the attempt, the link.

use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::agent::address::ServerAddress;
use crate::agent::link::{Link, LinkError};
use crate::agent::race::{ADDRESS_SECONDS_MAX, Race, RaceStatus};
use crate::reactor::channel::{ChannelError, ClientTls};
use crate::wire::message::ToAgent;
use crate::wire::time::Moment;

/// Bytes that the system keeps of a link beyond those that it can send now.
#[cfg(target_os = "linux")]
const NOT_SENT_BYTES: u32 = 32 * 1024;

/// Progress of the connection since the last look.
pub(super) enum Progress {
    /// The link stands, and the server is the right one.
    Open,
    /// A message has come.
    Message(ToAgent),
    /// It is over; why.
    Over(String),
    /// It is over, as the server does not know the device's certificate; in its words.
    Refused(String),
}

enum State {
    Down,
    Resolving,
    Connecting(Box<Race>),
    /// The others go on when this one is of no use.
    Handshaking(Box<Handshake>),
    Up(Box<Link<TcpStream>>),
}

struct Handshake {
    link: Link<TcpStream>,
    address: SocketAddr,
    deadline: Moment,
    race: Box<Race>,
}

/// The connection, in whatever state.
pub(super) struct Connection {
    server: ServerAddress,
    tls: ClientTls,
    state: State,
    token: Token,
    /// Address at which the server was reached last.
    reached: Option<SocketAddr>,
    /// Address at which it was last tried to be reached, or to which its name leads.
    last_address: Option<SocketAddr>,
    /// There may be more to read though the socket won't say so again.
    pub(super) has_more: bool,
}

impl Connection {
    pub(super) fn new(server: ServerAddress, tls: ClientTls, token: Token) -> Self {
        let (reached, last_address) = (None, None);
        Self { server, tls, state: State::Down, token, reached, last_address, has_more: false }
    }

    pub(super) fn server(&self) -> &ServerAddress {
        &self.server
    }

    /// Settings of the next link: the certificate that it shows, and the server that it accepts.
    pub(super) fn set_tls(&mut self, tls: ClientTls) {
        self.tls = tls;
    }

    pub(super) fn set_server(&mut self, server: ServerAddress) {
        if self.server != server {
            (self.reached, self.last_address) = (None, None);
        }
        self.server = server;
    }

    /// Address at which the server was last reached, or tried to be: known without asking the resolver, which
    /// may be gone when the system shuts down.
    pub(super) fn last_address(&self) -> Option<SocketAddr> {
        self.reached.or(self.last_address)
    }

    /// The server's name leads here.
    pub(super) fn found(&mut self, addresses: &[SocketAddr]) {
        self.reached = self.reached.filter(|reached| addresses.contains(reached));
        self.last_address = self.last_address.or(addresses.first().copied());
    }

    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.state, State::Resolving)
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    pub(super) fn set_resolving(&mut self) {
        self.state = State::Resolving;
    }

    /// Begins to connect to these addresses, with the next [`progress`](Self::progress).
    pub(super) fn connect(&mut self, addresses: &[SocketAddr]) {
        self.state = State::Connecting(Box::new(Race::new(addresses, self.reached)));
    }

    /// The addresses that are tried, and what became of each; empty when none is.
    pub(super) fn told(&self) -> String {
        match &self.state {
            State::Connecting(race) => race.told(),
            State::Handshaking(handshake) => {
                let before = handshake.race.told();
                let separator = if before.is_empty() { "" } else { ", " };
                format!("{before}{separator}{}: no answer to the handshake", handshake.address)
            }
            State::Down | State::Resolving | State::Up(_) => String::new(),
        }
    }

    /// When [`progress`](Self::progress) has something to do by itself.
    pub(super) fn next_timeout(&self) -> Option<Moment> {
        match &self.state {
            State::Connecting(race) => race.next_timeout(),
            State::Handshaking(handshake) => Some(handshake.deadline),
            State::Down | State::Resolving | State::Up(_) => None,
        }
    }

    /// Keeps a whole frame for sending.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        match &mut self.state {
            State::Up(link) => link.send(frame),
            _ => Err(LinkError::Closed),
        }
    }

    /// Offers the socket what waits for it. Returns the bytes that are left then.
    pub(super) fn flush(&mut self) -> usize {
        match &mut self.state {
            State::Up(link) => {
                link.flush();
                link.unsent_bytes()
            }
            _ => 0,
        }
    }

    /// Bytes that the socket has not taken.
    pub(super) fn unsent_bytes(&self) -> usize {
        if let State::Up(link) = &self.state { link.unsent_bytes() } else { 0 }
    }

    /// Reads, writes, and tells what came of it, one thing at a time, until there is nothing more to tell.
    pub(super) fn progress(&mut self, now: Moment, registry: &Registry) -> Option<Progress> {
        self.has_more = false;
        loop {
            match std::mem::replace(&mut self.state, State::Down) {
                idle @ (State::Down | State::Resolving) => {
                    self.state = idle;
                    return None;
                }
                State::Connecting(mut race) => match self.run(&mut race, now, registry) {
                    RaceStatus::Open => {
                        self.state = State::Connecting(race);
                        return None;
                    }
                    RaceStatus::Lost(why) if why.is_empty() => {
                        return Some(Progress::Over("the server has no address".to_owned()));
                    }
                    RaceStatus::Lost(why) => return Some(Progress::Over(why)),
                    RaceStatus::Won(stream, address) => {
                        // Acks and events are small; neither should wait for the other (RFC 896).
                        let _ = stream.set_nodelay(true);
                        // On a slow network what waits is then seen to wait, instead of megabytes of it
                        // counting as sent (tcp(7), TCP_NOTSENT_LOWAT). A system without it takes what it
                        // likes.
                        #[cfg(target_os = "linux")]
                        let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_BYTES);
                        let deadline = now.plus_seconds(ADDRESS_SECONDS_MAX);
                        match Link::new(stream, &self.tls) {
                            Ok(link) => {
                                let handshake = Handshake { link, address, deadline, race };
                                self.state = State::Handshaking(Box::new(handshake));
                            }
                            Err(error) => return Some(Progress::Over(error.to_string())),
                        }
                    }
                },
                State::Handshaking(mut handshake) => {
                    let link = &mut handshake.link;
                    self.has_more = link.pump();
                    self.last_address = Some(handshake.address);
                    if link.is_open() {
                        self.state = State::Up(Box::new(handshake.link));
                        self.reached = self.last_address;
                        return Some(Progress::Open);
                    }
                    let failure = match link.next_message() {
                        Ok(_) if now < handshake.deadline => {
                            self.state = State::Handshaking(handshake);
                            return None;
                        }
                        Ok(_) => format!("no answer to the handshake within {ADDRESS_SECONDS_MAX} s"),
                        Err(error) => error.to_string(),
                    };
                    let Handshake { address, mut race, .. } = *handshake;
                    race.failed(address, &failure);
                    self.state = State::Connecting(race);
                }
                State::Up(mut link) => {
                    self.has_more |= link.pump();
                    return match link.next_message() {
                        Ok(message) => {
                            self.state = State::Up(link);
                            message.map(Progress::Message)
                        }
                        Err(
                            error @ LinkError::Channel(
                                ChannelError::ForeignCertificate | ChannelError::NotEnrolledAnyMore,
                            ),
                        ) => Some(Progress::Refused(error.to_string())),
                        Err(error) => Some(Progress::Over(error.to_string())),
                    };
                }
            }
        }
    }

    fn run(&mut self, race: &mut Race, now: Moment, registry: &Registry) -> RaceStatus {
        let (token, last_address) = (self.token, &mut self.last_address);
        race.step(now, |address| {
            *last_address = Some(address);
            let mut stream = TcpStream::connect(address)?;
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        })
    }

    /// Ends whatever there is, with a goodbye when there is somebody to hear it.
    pub(super) fn close(&mut self) {
        match &mut self.state {
            State::Up(link) => link.close(),
            State::Handshaking(handshake) => handshake.link.close(),
            State::Down | State::Resolving | State::Connecting(_) => {}
        }
        self.state = State::Down;
        self.has_more = false;
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

    use super::*;
    use crate::reactor::Clock;
    use crate::reactor::channel::{
        CertificateStatus, ExpectedServer, Membership, ReadOutcome, ServerChannel, ServerTls,
    };
    use crate::wire::id::CertificateHash;

    struct Nobody;

    impl Membership for Nobody {
        fn certificate_status(&self, _: &CertificateHash) -> CertificateStatus {
            CertificateStatus::Unknown
        }
    }

    /// A server that shakes hands, and how to know it.
    fn serve() -> (SocketAddr, ClientTls) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new(vec!["muster".into()]).unwrap().self_signed(&key).unwrap();
        let certificate = certificate.der().to_vec();
        let tls = ServerTls::new(&certificate, &key.serialize_der(), Arc::new(Nobody)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut plain) = (stream.unwrap(), Vec::new());
                stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                let mut channel = ServerChannel::new(&tls).unwrap();
                while channel
                    .read_from(&mut stream, &mut plain)
                    .is_ok_and(|outcome| !matches!(outcome, ReadOutcome::Closed))
                {
                    let _ = channel.flush_to(&mut stream);
                }
            }
        });
        (address, ClientTls::new(ExpectedServer::of_pins(vec![certificate]), None).unwrap())
    }

    #[test]
    fn the_next_attempt_begins_where_the_server_was_reached() {
        let (address, tls) = serve();
        let (poll, clock) = (mio::Poll::new().unwrap(), Clock::new());
        let mut connection = Connection::new("server.example.org:1".parse().unwrap(), tls, Token(1));
        let mut attempt = |addresses: &[SocketAddr]| {
            connection.connect(addresses);
            loop {
                match connection.progress(clock.now().moment, poll.registry()) {
                    Some(Progress::Open) => break,
                    Some(Progress::Over(why)) => panic!("{why}"),
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            connection.close();
        };
        attempt(&[address]);
        // One that is there, and comes first in the name's addresses now.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        attempt(&[other.local_addr().unwrap(), address]);
        assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was not asked");
    }
}
