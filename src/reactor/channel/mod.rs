//! The protected channel of one link: plaintext on this side, TLS 1.3 records on the other.
//!
//! Nothing outside this folder knows what stands behind [`Channel`], the device's end, and [`ServerChannel`].
//! They own no socket: they are handed one for each read and each flush, so that the same types serve the
//! reactor, the agent and the tests.

mod client;
mod error;
mod handover;
#[cfg(feature = "server")]
mod pem;
mod server;
mod server_channel;
mod signature;
mod tickets;
#[cfg(feature = "console")]
mod web;

use std::io::{self, Read, Write};

use rustls::{ClientConnection, CommonState, HandshakeKind};

pub use crate::machine::device_state::CertificateStatus;
pub use client::{ClientIdentity, ClientTls, ExpectedServer};
pub use error::{Blame, ChannelError};
pub use handover::ServerHandshake;
#[cfg(feature = "server")]
pub use pem::{certificate_from_pem, further_certificates_from_pem, private_key_from_pem};
#[cfg(test)]
pub(crate) use rustls::server::ProducesTickets;
#[cfg(feature = "server")]
pub use server::AdminTls;
pub use server::{Membership, ServerTls};
pub use server_channel::{Peer, SERVER_CHANNEL_BYTES_MAX, ServerChannel};
pub use tickets::{TICKET_KEY_BYTES, TICKET_KEY_NAME_BYTES, TicketKey, TicketKeys};
#[cfg(feature = "console")]
pub use web::WebTls;

/// The application protocol that both sides must name (ALPN, RFC 7301).
pub const PROTOCOL: &[u8] = b"muster/1";

/// The application protocol of administrators: HTTP/1.1 (RFC 7301 section 6).
#[cfg(any(feature = "server", feature = "client"))]
pub const HTTP: &[u8] = b"http/1.1";

/// That of browsers: HTTP/2 (RFC 9113 section 3.1).
#[cfg(feature = "server")]
pub const HTTP_2: &[u8] = b"h2";

/// Most bytes that a channel keeps for a peer that does not read: sixteen of the largest frames. A long
/// answer is produced as the socket takes it, far below this; beyond it is a peer that asks and does not
/// read.
pub const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// Most plaintext that one call of [`Channel::read_from`] brings, so that one busy peer does not keep its
/// reactor from the others. A record (16 KiB) may go beyond it.
pub const READ_BYTES_BUDGET: usize = 64 * 1024;

/// End of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// The socket has no more for now.
    Drained,
    /// The budget is used up; there may be more, and the poll may not say so again.
    More,
    /// The peer said that it will send nothing more (`close_notify`, RFC 8446 section 6.1).
    Closed,
}

/// Cost class of a finished handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeCost {
    /// With certificates and signatures.
    Full,
    /// From a ticket of an earlier one.
    Resumed,
}

/// The device's end of a protected connection.
pub struct Channel {
    connection: ClientConnection,
    expected: ExpectedServer,
    failed: bool,
    /// Bytes that were handed over and that the socket has not taken; protection is not counted.
    unsent_bytes: usize,
}

impl Channel {
    /// One whose first bytes are ready to be flushed.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn client(config: &ClientTls) -> Result<Self, ChannelError> {
        let mut connection = ClientConnection::new(config.config(), config.name())
            .map_err(|error| ChannelError::from_tls(&error, None))?;
        connection.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Ok(Self { connection, expected: config.expected().clone(), failed: false, unsent_bytes: 0 })
    }

    /// Reads what the socket has, up to [`READ_BYTES_BUDGET`], and appends the plaintext to `plain`.
    ///
    /// # Errors
    /// When the peer misbehaves, is not who it must be, or the socket fails. An alert that says so is then
    /// ready to be flushed; nothing else may be done with the channel.
    pub fn read_from(
        &mut self,
        socket: &mut dyn Read,
        plain: &mut Vec<u8>,
    ) -> Result<ReadOutcome, ChannelError> {
        let start = plain.len();
        loop {
            match self.connection.read_tls(socket) {
                Ok(0) => return self.at_end_of_stream(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ChannelError::from_socket(&error)),
            }
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    self.failed = true;
                    return Err(ChannelError::from_tls(&error, Some(&self.expected)));
                }
            };
            if !self.connection.is_handshaking() && self.connection.alpn_protocol() != Some(PROTOCOL) {
                self.failed = true;
                return Err(ChannelError::WrongProtocol);
            }
            let ready = state.plaintext_bytes_to_read();
            if ready > 0 {
                let before = plain.len();
                plain.resize(before + ready, 0);
                let read = self.connection.reader().read(&mut plain[before..]).unwrap_or(0);
                plain.truncate(before + read);
            }
            if state.peer_has_closed() {
                return Ok(ReadOutcome::Closed);
            }
            if plain.len() - start >= READ_BYTES_BUDGET {
                return Ok(ReadOutcome::More);
            }
        }
    }

    /// The stream ended without `close_notify`: a reset in good manners, or a truncation. Either way nothing
    /// more comes.
    fn at_end_of_stream(&mut self) -> Result<ReadOutcome, ChannelError> {
        // Judge what is left, so that a peer that closed properly is not called truncated.
        match self.connection.process_new_packets() {
            Ok(state) if state.peer_has_closed() => Ok(ReadOutcome::Closed),
            _ => Err(ChannelError::Truncated),
        }
    }

    /// Protects `plain` and keeps it until it is flushed. Before the handshake is finished it is kept as it
    /// is.
    ///
    /// # Errors
    /// [`ChannelError::PeerTooSlow`] when [`UNSENT_BYTES_MAX`] wait already: then only part of it was taken,
    /// and the link must end.
    pub fn write_plain(&mut self, plain: &[u8]) -> Result<(), ChannelError> {
        self.unsent_bytes += plain.len();
        match self.connection.writer().write(plain) {
            Ok(taken) if taken == plain.len() => Ok(()),
            _ => Err(ChannelError::PeerTooSlow),
        }
    }

    /// Writes what is ready. `true`: all of it is written; `false`: the socket takes no more for now.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush_to(&mut self, socket: &mut dyn Write) -> Result<bool, ChannelError> {
        while self.connection.wants_write() {
            match self.connection.write_tls(socket) {
                Ok(0) => return Err(ChannelError::Reset),
                Ok(taken) => self.unsent_bytes = self.unsent_bytes.saturating_sub(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ChannelError::from_socket(&error)),
            }
        }
        self.unsent_bytes = 0;
        Ok(true)
    }

    /// Bytes that were handed over and that the socket has not taken yet, give or take their protection.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Says that nothing more will be sent (`close_notify`); flush afterwards. Does nothing after a failure,
    /// which has said it.
    pub fn close_notify(&mut self) {
        if !self.failed {
            self.connection.send_close_notify();
        }
    }

    /// Whether the handshake is not finished yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether there is something to flush.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// The peer's certificate, DER; on a resumed session the one that the ticket was given for. `None` while
    /// it is not known and when the peer has none.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        peer_certificate(&self.connection)
    }

    /// The cost of the handshake, once it is finished.
    #[cfg(any(test, feature = "internals"))]
    #[must_use]
    pub fn handshake_cost(&self) -> Option<HandshakeCost> {
        handshake_cost(&self.connection)
    }

    /// The name of the key exchange that was agreed on, such as `X25519MLKEM768`.
    #[must_use]
    pub fn key_exchange(&self) -> Option<String> {
        key_exchange(&self.connection)
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("handshaking", &self.is_handshaking()).finish_non_exhaustive()
    }
}

fn peer_certificate(connection: &CommonState) -> Option<&[u8]> {
    connection.peer_certificates().and_then(|chain| chain.first()).map(AsRef::as_ref)
}

fn handshake_cost(connection: &CommonState) -> Option<HandshakeCost> {
    match connection.handshake_kind()? {
        HandshakeKind::Resumed => Some(HandshakeCost::Resumed),
        HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => Some(HandshakeCost::Full),
    }
}

fn key_exchange(connection: &CommonState) -> Option<String> {
    connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()))
}
