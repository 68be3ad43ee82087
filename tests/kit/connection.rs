//! One connection of a device, by hand.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use muster::reactor::channel::{Channel, ChannelError, ClientTls, ReadOutcome};
use muster::wire::frame;
use muster::wire::message::{ErrorReport, ToAgent, ToServer};

use super::TIMEOUT;

/// Time of one read: as long as a device looks for what has come.
const READ_TIMEOUT: Duration = Duration::from_millis(5);

pub(crate) struct Connection {
    socket: TcpStream,
    pub(crate) channel: Channel,
    plain: Vec<u8>,
    /// Bytes of messages, both ways.
    pub(crate) plain_bytes: usize,
}

impl Connection {
    pub(crate) fn open(server: impl Into<SocketAddr>, tls: &ClientTls) -> Self {
        Self::try_open(server, tls).unwrap()
    }

    /// An error when nobody listens there.
    pub(crate) fn try_open(server: impl Into<SocketAddr>, tls: &ClientTls) -> std::io::Result<Self> {
        TcpStream::connect(server.into()).map(|socket| Self::over(socket, tls))
    }

    /// On a connection that is there already.
    pub(crate) fn over(socket: TcpStream, tls: &ClientTls) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self { socket, channel: Channel::client(tls).unwrap(), plain: Vec::new(), plain_bytes: 0 }
    }

    /// Reads until the server has proved who it is.
    pub(crate) fn shake_hands(&mut self) {
        let begun = Instant::now();
        while self.channel.handshake_cost().is_none() {
            assert!(begun.elapsed() < TIMEOUT, "waited in vain for the handshake");
            self.read_channel().unwrap();
        }
    }

    pub(crate) fn send(&mut self, message: &ToServer<'_>) {
        self.send_bytes(&bytes_of(message));
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        // A server that has closed is noticed when its answer is read.
        let _ = self.try_send_bytes(bytes);
    }

    /// An error when the server has closed.
    pub(crate) fn try_send(&mut self, message: &ToServer<'_>) -> Result<(), ChannelError> {
        self.try_send_bytes(&bytes_of(message))
    }

    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.plain_bytes += bytes.len();
        self.channel.write_plain(bytes)?;
        self.channel.flush_to(&mut self.socket).map(drop)
    }

    /// Sends what there is room for and waits for nothing; bytes that find no room are dropped. `false`: the
    /// server has hung up.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        self.socket.set_write_timeout(Some(READ_TIMEOUT)).unwrap();
        while self.channel.is_handshaking() {
            if !self.read_once() {
                return false;
            }
        }
        if self.channel.unsent_bytes() == 0 {
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

    fn read_channel(&mut self) -> Result<ReadOutcome, ChannelError> {
        let _ = self.channel.flush_to(&mut self.socket);
        let before = self.plain.len();
        let mut once = Once { socket: &mut self.socket, has_read: false };
        let outcome = self.channel.read_from(&mut once, &mut self.plain);
        // Also the alert that says what was wrong.
        let _ = self.channel.flush_to(&mut self.socket);
        self.plain_bytes += self.plain.len() - before;
        outcome
    }

    /// Reads what is there, within 5 ms, and keeps it. `false`: the server has hung up.
    pub(crate) fn read_once(&mut self) -> bool {
        self.read_channel().is_ok_and(|outcome| !matches!(outcome, ReadOutcome::Closed))
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

    /// The next message, or why there is none.
    pub(crate) fn receive(&mut self) -> Result<ToAgent, ChannelError> {
        let begun = Instant::now();
        loop {
            if let Some((body, length)) = frame::split(&self.plain).unwrap() {
                let message = ToAgent::from_body(body).unwrap();
                self.plain.drain(..length);
                return Ok(message);
            }
            assert!(begun.elapsed() < TIMEOUT, "waited in vain for a message");
            if matches!(self.read_channel()?, ReadOutcome::Closed) && self.plain.is_empty() {
                return Err(ChannelError::Truncated);
            }
        }
    }

    pub(crate) fn read(&mut self) -> ToAgent {
        self.receive().unwrap()
    }

    /// The server's answer to a message.
    pub(crate) fn ask(&mut self, message: &ToServer<'_>) -> Result<ToAgent, ChannelError> {
        self.send(message);
        self.receive()
    }

    /// The next error that the server reports.
    pub(crate) fn read_error(&mut self) -> ErrorReport {
        loop {
            if let ToAgent::Error(report) = self.read() {
                return report;
            }
        }
    }

    pub(crate) fn read_until_error(&mut self) -> ChannelError {
        loop {
            if let Err(error) = self.receive() {
                return error;
            }
        }
    }

    /// Says something and goes, all in one.
    pub(crate) fn leave_with(mut self, message: &ToServer<'_>) {
        self.channel.write_plain(&bytes_of(message)).unwrap();
        self.leave();
    }

    pub(crate) fn leave(mut self) {
        self.channel.close_notify();
        // The server may have hung up first.
        let _ = self.channel.flush_to(&mut self.socket);
    }
}

fn bytes_of(message: &ToServer<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write_to(&mut bytes);
    bytes
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
