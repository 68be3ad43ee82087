//! The agent's end of a link: a socket that never blocks, the channel over it, and the frames in that.

use std::io::{Read, Write};

use crate::reactor::channel::{Channel, ChannelError, ClientTls, ReadOutcome};
use crate::wire::frame::{self, FrameError};
use crate::wire::message::{MessageError, ToAgent};

/// Why a link is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// TLS, the certificate match, or the socket.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A frame that can't be.
    #[error("the server sent what is no frame: {0}")]
    Frame(#[from] FrameError),
    /// A message that can't be. An unknown kind is none of these: it is skipped.
    #[error("the server sent what is no message: {0}")]
    Message(MessageError),
    /// The server said close_notify.
    #[error("the server closed the connection")]
    Closed,
}

/// A link over a socket `S`, whose reads and writes don't block.
#[derive(Debug)]
pub struct Link<S> {
    socket: S,
    channel: Channel,
    plain: Vec<u8>,
    taken: usize,
    /// Why nothing more comes; what came before it is handed out first.
    end: Option<LinkError>,
}

impl<S: Read + Write> Link<S> {
    /// A link over a connected socket. The handshake begins with the first [`pump`](Self::pump).
    ///
    /// # Errors
    /// When the TLS configuration can't be used.
    pub fn new(socket: S, tls: &ClientTls) -> Result<Self, LinkError> {
        Ok(Self { socket, channel: Channel::client(tls)?, plain: Vec::new(), taken: 0, end: None })
    }

    /// The socket, to be watched.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether the handshake is done, so that messages can travel.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.channel.is_handshaking()
    }

    /// The name of the key exchange that was agreed on, such as `X25519MLKEM768`.
    #[must_use]
    pub fn key_exchange(&self) -> Option<String> {
        self.channel.key_exchange()
    }

    /// The server's certificate, DER, once it has shown it.
    #[must_use]
    pub fn server_certificate(&self) -> Option<&[u8]> {
        self.channel.peer_certificate()
    }

    /// Whether something waits for the socket to take it.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.channel.wants_write()
    }

    /// Bytes that the socket has not taken yet.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.channel.unsent_bytes()
    }

    /// Writes as much as the socket takes. A failure is told by [`next_message`](Self::next_message).
    pub fn flush(&mut self) {
        if let Err(error) = self.channel.flush_to(&mut self.socket) {
            self.end.get_or_insert(error.into());
        }
    }

    /// Keeps a framed message for sending.
    ///
    /// # Errors
    /// When more waits than is kept.
    pub fn send(&mut self, framed: &[u8]) -> Result<(), LinkError> {
        Ok(self.channel.write_plain(framed)?)
    }

    /// Says close_notify, as far as the socket takes it at once.
    pub fn close(&mut self) {
        self.channel.close_notify();
        let _ = self.channel.flush_to(&mut self.socket);
    }

    /// Reads and writes as much as the socket gives and takes. Returns whether there may be more to read
    /// though the socket won't say so again.
    pub fn pump(&mut self) -> bool {
        let has_more = self.read();
        self.flush();
        has_more
    }

    fn read(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let end = match self.channel.read_from(&mut self.socket, &mut self.plain) {
            Ok(ReadOutcome::Drained) => return false,
            Ok(ReadOutcome::More) => return true,
            Ok(ReadOutcome::Closed) => LinkError::Closed,
            Err(error) => error.into(),
        };
        self.end = Some(end);
        false
    }

    /// The next message that has arrived; `None` when there is none yet. A kind that this version does not
    /// know is skipped.
    ///
    /// # Errors
    /// Once everything that came has been handed out: why nothing more will.
    pub fn next_message(&mut self) -> Result<Option<ToAgent>, LinkError> {
        while let Some((body, length)) = frame::split(&self.plain[self.taken..])? {
            let message = ToAgent::from_body(body);
            self.taken += length;
            match message {
                Ok(message) => return Ok(Some(message)),
                Err(MessageError::UnknownKind(kind)) => log::debug!("message kind {kind} is not known here"),
                Err(error) => return Err(LinkError::Message(error)),
            }
        }
        self.plain.drain(..self.taken);
        self.taken = 0;
        if self.plain.is_empty() {
            self.plain = Vec::new();
        }
        self.end.clone().map_or(Ok(None), Err)
    }
}
