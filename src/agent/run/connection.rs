//! The way to the server: its addresses, the attempt, the link.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::agent::address::ServerAddress;
use crate::agent::link::{Link, LinkError};
use crate::reactor::channel::ClientTls;
use crate::wire::message::ToAgent;

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
    /// Attempts so far: each begins with another one of the server's addresses.
    attempts: usize,
    /// Where the server was last tried to be reached.
    last_address: Option<SocketAddr>,
    has_more: bool,
}

impl Connection {
    pub(super) fn new(server: ServerAddress, tls: ClientTls, token: Token) -> Self {
        Self { server, tls, state: State::Down, token, attempts: 0, last_address: None, has_more: false }
    }

    pub(super) fn server(&self) -> &ServerAddress {
        &self.server
    }

    pub(super) fn set_server(&mut self, server: ServerAddress) {
        if self.server != server {
            self.last_address = None;
        }
        self.server = server;
    }

    /// Where the server was last tried to be reached: known without asking the resolver, which may be gone when the system shuts
    /// down.
    pub(super) fn last_address(&self) -> Option<SocketAddr> {
        self.last_address
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
        let Some(address) = addresses.get(self.attempts % addresses.len().max(1)) else {
            return Err("the server has no address".to_owned());
        };
        self.attempts = self.attempts.wrapping_add(1);
        self.last_address = Some(*address);
        let fail = |error: io::Error| format!("{address}: {error}");
        let mut stream = TcpStream::connect(*address).map_err(fail)?;
        registry.register(&mut stream, self.token, Interest::READABLE | Interest::WRITABLE).map_err(fail)?;
        self.state = State::Connecting(stream, *address);
        Ok(())
    }

    /// Keeps a whole frame for sending.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        match &mut self.state {
            State::Up(link) => link.send(frame),
            _ => Err(LinkError::Closed),
        }
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
                    match Link::new(stream, &self.tls) {
                        Ok(link) => self.state = State::Handshaking(Box::new(link)),
                        Err(error) => return Some(Progress::Over(error.to_string())),
                    }
                }
                State::Handshaking(mut link) => {
                    self.has_more = link.pump();
                    if link.is_open() {
                        self.state = State::Up(link);
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
