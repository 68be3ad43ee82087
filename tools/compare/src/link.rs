//! One client's link: socket, TLS and words.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use crate::certificates::server_name;
use crate::protocol::{Heard, Packing, Peer, Protocol, ProtocolError};

/// Bytes that one read takes from a socket: all that a server sends at a time.
const READ_BYTES: usize = 64 * 1024;

/// Longest greeting in clear: nats-server's has some 500.
const GREETING_BYTES_MAX: usize = 64 * 1024;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Or never took the connection.
    #[error("the server hung up while the link was {0}")]
    Closed(&'static str),
    #[error("the socket failed while the link was {0}: {1}")]
    Socket(&'static str, std::io::Error),
    #[error("TLS failed while the link was {0}: {1}")]
    Tls(&'static str, rustls::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// Buffers that all links of a thread share: none of them keeps one.
pub(crate) struct Shared {
    cipher: Vec<u8>,
    plain: Vec<u8>,
    out: Vec<u8>,
    sealed: Vec<u8>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { cipher: vec![0; READ_BYTES], plain: vec![0; READ_BYTES], out: Vec::new(), sealed: Vec::new() }
    }
}

/// Stage of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Waits for the server's greeting in clear.
    Greeting,
    Handshaking,
    /// Has said its hello.
    Saying,
    Ready,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Greeting => "waiting for a greeting",
            Self::Handshaking => "shaking hands",
            Self::Saying => "waiting for the answer to its hello",
            Self::Ready => "in use",
        }
    }
}

/// Records into which messages that leave together are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Records {
    /// As few records as hold them.
    Few,
    /// One for each message.
    Each,
}

pub(crate) struct Link {
    socket: TcpStream,
    tls: ClientConnection,
    protocol: Box<dyn Protocol>,
    stage: Stage,
    /// Part of a word of the server's, while it is not whole.
    inbox: Vec<u8>,
    /// Sealed bytes that the socket has not taken yet.
    outbox: Vec<u8>,
}

impl Link {
    /// A link that begins to connect.
    pub(crate) fn begin(
        peer: &dyn Peer,
        client: usize,
        config: &Arc<ClientConfig>,
        packing: Packing,
    ) -> Result<Self, LinkError> {
        let stage = if peer.greets_in_clear() { Stage::Greeting } else { Stage::Handshaking };
        let failed = |error| LinkError::Socket("connecting", error);
        let socket = TcpStream::connect(peer.address()).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let mut tls = ClientConnection::new(Arc::clone(config), server_name())
            .map_err(|error| LinkError::Tls("connecting", error))?;
        // Bytes to send are bounded by those in flight.
        tls.set_buffer_limit(None);
        Ok(Self {
            socket,
            tls,
            protocol: peer.protocol(client, packing),
            stage,
            inbox: Vec::new(),
            outbox: Vec::new(),
        })
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether the server has answered the hello.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Reads what has come, sends what is due, and returns what was heard.
    pub(crate) fn pump(&mut self, shared: &mut Shared) -> Result<Heard, LinkError> {
        let mut heard = Heard::default();
        loop {
            let length = match self.socket.read(&mut shared.cipher) {
                Ok(0) => return Err(LinkError::Closed(self.stage.name())),
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(LinkError::Closed(self.stage.name()));
                }
                Err(error) => return Err(LinkError::Socket(self.stage.name(), error)),
            };
            let cipher = std::mem::take(&mut shared.cipher);
            let received = self.received(&cipher[..length], &mut heard, shared);
            let is_drained = length < cipher.len();
            shared.cipher = cipher;
            received?;
            // A short read has emptied the socket; what comes later is announced anew (epoll(7)).
            if is_drained {
                break;
            }
        }
        if heard.is_ready && self.stage == Stage::Saying {
            self.stage = Stage::Ready;
        }
        if self.stage == Stage::Handshaking && !self.tls.is_handshaking() {
            self.stage = Stage::Saying;
            shared.out.clear();
            self.protocol.hello(&mut shared.out);
            self.seal(&shared.out)?;
        }
        self.flush(shared)?;
        Ok(heard)
    }

    fn received(
        &mut self,
        mut bytes: &[u8],
        heard: &mut Heard,
        shared: &mut Shared,
    ) -> Result<(), LinkError> {
        if self.stage == Stage::Greeting {
            self.inbox.extend_from_slice(bytes);
            if self.inbox.ends_with(b"\n") {
                self.inbox.clear();
                self.stage = Stage::Handshaking;
            } else if self.inbox.len() > GREETING_BYTES_MAX {
                return Err(ProtocolError::Unexpected("a greeting without end".into()).into());
            }
            return Ok(());
        }
        while !bytes.is_empty() {
            let stage = self.stage.name();
            self.tls.read_tls(&mut bytes).map_err(|error| LinkError::Socket(stage, error))?;
            let state = match self.tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The alert that says so; the link is over either way.
                    let _ = self.flush(shared);
                    return Err(LinkError::Tls(stage, error));
                }
            };
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let length = self
                    .tls
                    .reader()
                    .read(&mut shared.plain)
                    .map_err(|error| LinkError::Socket(stage, error))?;
                left = left.saturating_sub(length);
                shared.out.clear();
                let plain = &shared.plain[..length];
                if self.inbox.is_empty() {
                    let taken = self.protocol.take(plain, heard, &mut shared.out)?;
                    self.inbox.extend_from_slice(&plain[taken..]);
                } else {
                    self.inbox.extend_from_slice(plain);
                    let taken = self.protocol.take(&self.inbox, heard, &mut shared.out)?;
                    self.inbox.drain(..taken);
                }
                if !shared.out.is_empty() {
                    self.seal(&shared.out)?;
                }
            }
            if state.peer_has_closed() {
                return Err(LinkError::Closed(stage));
            }
        }
        Ok(())
    }

    /// Sends `count` messages in one write.
    pub(crate) fn send(
        &mut self,
        count: usize,
        records: Records,
        shared: &mut Shared,
    ) -> Result<(), LinkError> {
        shared.out.clear();
        match records {
            Records::Few => {
                self.protocol.messages(count, &mut shared.out);
                self.seal(&shared.out)?;
            }
            Records::Each => {
                for _ in 0..count {
                    shared.out.clear();
                    self.protocol.message(&mut shared.out);
                    self.seal(&shared.out)?;
                }
            }
        }
        self.flush(shared)
    }

    /// Says close_notify as TLS does, as far as the socket takes it, and hangs up.
    pub(crate) fn close(mut self, shared: &mut Shared) {
        self.tls.send_close_notify();
        // The server may have hung up first.
        let _ = self.flush(shared);
    }

    fn seal(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.tls.writer().write_all(bytes).map_err(|error| LinkError::Socket(self.stage.name(), error))
    }

    /// Writes what is ready, in one piece: that is cheaper than one piece for each record, and the same for
    /// every server.
    fn flush(&mut self, shared: &mut Shared) -> Result<(), LinkError> {
        let is_empty = !self.tls.wants_write() && self.outbox.is_empty();
        if is_empty || self.stage == Stage::Greeting {
            return Ok(());
        }
        let stage = self.stage.name();
        // Bytes that the socket did not take before go first.
        let mut out =
            std::mem::take(if self.outbox.is_empty() { &mut shared.sealed } else { &mut self.outbox });
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).map_err(|error| LinkError::Socket(stage, error))?;
        }
        let mut written = 0;
        let mut failed = None;
        while written < out.len() && failed.is_none() {
            match self.socket.write(&out[written..]) {
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
        }
        if written < out.len() {
            self.outbox.extend_from_slice(&out[written..]);
        }
        out.clear();
        shared.sealed = out;
        match failed {
            Some(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(LinkError::Closed(stage))
            }
            Some(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                Err(LinkError::Socket(stage, error))
            }
            _ => Ok(()),
        }
    }
}
