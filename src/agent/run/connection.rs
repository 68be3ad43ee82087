//! The way to the server: its addresses, the attempt, the link.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::agent::address::ServerAddress;
use crate::agent::link::{Link, LinkError};
use crate::reactor::channel::ClientTls;
use crate::wire::message::ToAgent;

/// What the system keeps of a link beyond what it can send now, in bytes.
#[cfg(target_os = "linux")]
const NOT_SENT_BYTES: u32 = 32 * 1024;

/// What has become of the connection since the last look.
pub(super) enum Progress {
    /// The link stands, and the server is the right one.
    Open,
    /// A message has come.
    Message(ToAgent),
    /// It is over; why.
    Over(String),
}

enum State {
    Down,
    Resolving,
    Connecting(TcpStream, SocketAddr),
    Handshaking(Box<Link<TcpStream>>),
    Up(Box<Link<TcpStream>>),
}

/// The connection, in whatever state.
pub(super) struct Connection {
    server: ServerAddress,
    tls: ClientTls,
    state: State,
    token: Token,
    /// Attempts since the server was reached: each begins with another one of its addresses.
    attempts: usize,
    /// Where the server was reached last.
    reached: Option<SocketAddr>,
    /// Where it was last tried to be reached, or where its name leads.
    last_address: Option<SocketAddr>,
    has_more: bool,
}

impl Connection {
    pub(super) fn new(server: ServerAddress, tls: ClientTls, token: Token) -> Self {
        let (reached, last_address) = (None, None);
        Self { server, tls, state: State::Down, token, attempts: 0, reached, last_address, has_more: false }
    }

    pub(super) fn server(&self) -> &ServerAddress {
        &self.server
    }

    pub(super) fn set_server(&mut self, server: ServerAddress) {
        if self.server != server {
            (self.reached, self.last_address, self.attempts) = (None, None, 0);
        }
        self.server = server;
    }

    /// Where the server was last reached, or tried to be: known without asking the resolver, which may be gone when the system
    /// shuts down.
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

    /// Whether there may be more to read though the socket won't say so again.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Begins to connect to one of these addresses.
    pub(super) fn connect(&mut self, addresses: &[SocketAddr], registry: &Registry) -> Result<(), String> {
        self.state = State::Down;
        let Some(address) = choice(addresses, self.reached, self.attempts) else {
            return Err("the server has no address".to_owned());
        };
        self.attempts = self.attempts.wrapping_add(1);
        self.last_address = Some(address);
        let fail = |error: io::Error| format!("{address}: {error}");
        let mut stream = TcpStream::connect(address).map_err(fail)?;
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE).map_err(fail)?;
        self.state = State::Connecting(stream, address);
        Ok(())
    }

    /// Keeps a whole frame for sending.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        match &mut self.state {
            State::Up(link) => link.send(frame),
            _ => Err(LinkError::Closed),
        }
    }

    /// Offers the socket what waits for it. What is left then, in bytes.
    pub(super) fn flush(&mut self) -> usize {
        match &mut self.state {
            State::Up(link) => {
                link.flush();
                link.unsent_bytes()
            }
            _ => 0,
        }
    }

    /// What the socket has not taken, in bytes.
    pub(super) fn unsent_bytes(&self) -> usize {
        if let State::Up(link) = &self.state { link.unsent_bytes() } else { 0 }
    }

    /// Reads, writes, and tells what came of it, one thing at a time, until there is nothing more to tell.
    pub(super) fn progress(&mut self) -> Option<Progress> {
        self.has_more = false;
        loop {
            match std::mem::replace(&mut self.state, State::Down) {
                State::Down => return None,
                State::Resolving => {
                    self.state = State::Resolving;
                    return None;
                }
                State::Connecting(stream, address) => {
                    if let Ok(Some(error)) | Err(error) = stream.take_error() {
                        return Some(Progress::Over(format!("{address}: {error}")));
                    }
                    if stream.peer_addr().is_err() {
                        self.state = State::Connecting(stream, address);
                        return None;
                    }
                    // Acks and events are small; neither should wait for the other (RFC 896).
                    let _ = stream.set_nodelay(true);
                    keep_little_in_the_system(&stream);
                    match Link::new(stream, &self.tls) {
                        Ok(link) => self.state = State::Handshaking(Box::new(link)),
                        Err(error) => return Some(Progress::Over(error.to_string())),
                    }
                }
                State::Handshaking(mut link) => {
                    self.has_more = link.pump();
                    if link.is_open() {
                        self.state = State::Up(link);
                        (self.reached, self.attempts) = (self.last_address, 0);
                        return Some(Progress::Open);
                    }
                    match link.next_message() {
                        Ok(_) => self.state = State::Handshaking(link),
                        Err(error) => return Some(Progress::Over(error.to_string())),
                    }
                    return None;
                }
                State::Up(mut link) => {
                    self.has_more |= link.pump();
                    return match link.next_message() {
                        Ok(message) => {
                            self.state = State::Up(link);
                            message.map(Progress::Message)
                        }
                        Err(error) => Some(Progress::Over(error.to_string())),
                    };
                }
            }
        }
    }

    /// Ends whatever there is, with a farewell when there is somebody to hear it.
    pub(super) fn close(&mut self) {
        if let State::Up(link) | State::Handshaking(link) = &mut self.state {
            link.close();
        }
        self.state = State::Down;
        self.has_more = false;
    }
}

/// Has the system take no more than a little beyond what it can send now (tcp(7), TCP_NOTSENT_LOWAT): on a slow network what waits is then
/// seen to wait, instead of megabytes of it counting as sent. Where there is no such option it takes what it likes.
#[cfg(target_os = "linux")]
fn keep_little_in_the_system(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT_BYTES);
}

#[cfg(not(target_os = "linux"))]
fn keep_little_in_the_system(_: &TcpStream) {}

/// Which of the server's addresses an attempt goes to: first where it was reached last, so that a device that is called does not wait
/// for one that leads nowhere; then to the others in turn.
fn choice(addresses: &[SocketAddr], reached: Option<SocketAddr>, attempts: usize) -> Option<SocketAddr> {
    let first = addresses.iter().position(|address| Some(*address) == reached).unwrap_or_default();
    let count = addresses.len().max(1);
    addresses.get((first + attempts % count) % count).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_begins_where_the_server_was_reached_and_leaves_no_address_out() {
        let addresses: Vec<SocketAddr> = ["[2001:db8::7]:13000", "192.0.2.7:13000", "192.0.2.8:13000"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let tried = |reached: Option<SocketAddr>| -> Vec<usize> {
            let place = |address| addresses.iter().position(|other| *other == address).unwrap();
            (0..4).map(|attempts| place(choice(&addresses, reached, attempts).unwrap())).collect()
        };
        assert_eq!(tried(None), [0, 1, 2, 0]);
        assert_eq!(tried(Some(addresses[1])), [1, 2, 0, 1]);
        assert_eq!(tried("192.0.2.99:1".parse().ok()), [0, 1, 2, 0], "it has moved");
        assert_eq!(choice(&[], None, usize::MAX), None);
        assert!(choice(&addresses, Some(addresses[2]), usize::MAX).is_some());
    }
}
