//! One device's link: the socket, the channel over it, and what is left of a message that has not come whole.

use std::io;

use mio::net::TcpStream;
use muster::reactor::channel::{Channel, ChannelError, ClientTls, HandshakeCost, ReadOutcome};

use super::counters::{Counters, add};
use super::stream::Counted;

/// A link, in whatever state.
pub(crate) enum Link {
    Down,
    Connecting(TcpStream),
    Open(Box<Open>),
}

/// A link whose TCP connection stands.
pub(crate) struct Open {
    socket: TcpStream,
    pub(super) channel: Channel,
    /// The beginning of a message; empty nearly always.
    pub(super) partial: Vec<u8>,
    /// Whether the handshake was seen to be finished.
    is_up: bool,
}

impl Link {
    pub(crate) fn is_down(&self) -> bool {
        matches!(self, Self::Down)
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self, Self::Open(open) if open.is_up)
    }

    /// Whether the TCP connection stands by now; `tls` is asked for only then.
    pub(crate) fn establish(
        &mut self,
        tls: impl FnOnce() -> Result<ClientTls, ChannelError>,
    ) -> Result<bool, String> {
        match std::mem::replace(self, Self::Down) {
            Self::Connecting(socket) => {
                if let Ok(Some(error)) | Err(error) = socket.take_error() {
                    return Err(error.to_string());
                }
                match socket.peer_addr() {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                        *self = Self::Connecting(socket);
                        return Ok(false);
                    }
                    Err(error) => return Err(error.to_string()),
                }
                let channel =
                    tls().and_then(|tls| Channel::client(&tls)).map_err(|error| error.to_string())?;
                *self = Self::Open(Box::new(Open { socket, channel, partial: Vec::new(), is_up: false }));
                Ok(true)
            }
            other => {
                *self = other;
                Ok(!self.is_down())
            }
        }
    }

    /// Says close_notify, as far as the socket takes it at once, and closes.
    pub(crate) fn close(&mut self, counters: &Counters) {
        if let Self::Open(open) = self {
            open.channel.close_notify();
            // A server that does not hear it sees the end of the connection.
            let _ = open.flush(counters);
        }
        *self = Self::Down;
    }
}

impl Open {
    /// Reads what there is behind the beginning of a message that came before, and answers with how that
    /// ended.
    pub(crate) fn read(
        &mut self,
        plain: &mut Vec<u8>,
        counters: &Counters,
    ) -> Result<ReadOutcome, ChannelError> {
        plain.clear();
        plain.append(&mut self.partial);
        let mut counted = Counted::new(&mut self.socket);
        let outcome = loop {
            match self.channel.read_from(&mut counted, plain) {
                Ok(ReadOutcome::More) => {}
                outcome => break outcome,
            }
        };
        add(&counters.wire_received, counted.received);
        outcome
    }

    /// Cost of the handshake, when it has just been finished.
    pub(crate) fn came_up(&mut self) -> Option<HandshakeCost> {
        if self.is_up || self.channel.is_handshaking() {
            return None;
        }
        self.is_up = true;
        self.channel.handshake_cost().or(Some(HandshakeCost::Full))
    }

    /// Writes what the socket takes. A full socket is told by the poll.
    pub(crate) fn flush(&mut self, counters: &Counters) -> Result<(), ChannelError> {
        if !self.channel.wants_write() {
            return Ok(());
        }
        let mut counted = Counted::new(&mut self.socket);
        let outcome = self.channel.flush_to(&mut counted);
        add(&counters.wire_sent, counted.sent);
        outcome.map(drop)
    }
}
