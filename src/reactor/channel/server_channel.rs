//! The server's end: a handshake of the TLS library first, and then a link that does without it.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};

use super::error::ChannelError;
use super::handover::ServerHandshake;
use super::{HandshakeCost, READ_BYTES_BUDGET, ReadOutcome, ServerTls, UNSENT_BYTES_MAX};
use crate::record_layer::{Content, OpenError, Opened, RECORD_BYTES_MAX, SealError, SlimLink};

thread_local! {
    /// Bytes of one read, behind those that an earlier one left. One for each reactor, for its life.
    static ARRIVED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server's end of a protected connection.
///
/// While nothing is under way it is the secrets of the link and nothing else: no buffer, no key, nothing on
/// the heap.
pub struct ServerChannel {
    stage: Stage,
    /// There while it holds something.
    side: Option<Box<Side>>,
}

/// Most memory of an idle link's channel.
pub const SERVER_CHANNEL_BYTES_MAX: usize = 152;

const _: () = assert!(size_of::<ServerChannel>() <= SERVER_CHANNEL_BYTES_MAX);

enum Stage {
    Handshaking(Box<ServerHandshake>),
    Established(SlimLink),
    /// The handshake failed: what it said last is still sent.
    Failed,
}

#[derive(Default)]
struct Side {
    /// The beginning of a record, of which the rest has not arrived.
    received: Vec<u8>,
    /// Protected bytes in their order, and how many of them the socket has taken.
    unsent: Vec<u8>,
    sent: usize,
    peer: Option<Peer>,
}

/// The peer at the other end, and how it was identified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its certificate, DER; on a resumed session the one that the ticket was given for. `None`: it has none.
    pub certificate: Option<Vec<u8>>,
    /// The cost of the handshake.
    pub cost: Option<HandshakeCost>,
    /// The name of the key exchange that was agreed on, such as `X25519MLKEM768`.
    pub key_exchange: Option<String>,
}

impl ServerChannel {
    /// One of which nothing has arrived yet.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn new(tls: &ServerTls) -> Result<Self, ChannelError> {
        Ok(Self { stage: Stage::Handshaking(Box::new(ServerHandshake::new(tls)?)), side: None })
    }

    /// Reads what the socket has, up to [`READ_BYTES_BUDGET`], and appends the plaintext to `plain`.
    ///
    /// # Errors
    /// When the peer misbehaves, may not come in, or the socket fails. An alert that says so is then ready to
    /// be flushed; nothing else may be done with the channel.
    pub fn read_from(
        &mut self,
        socket: &mut dyn Read,
        plain: &mut Vec<u8>,
    ) -> Result<ReadOutcome, ChannelError> {
        let outcome = ARRIVED.with_borrow_mut(|arrived| self.read_all(socket, plain, arrived));
        self.tidy();
        outcome
    }

    fn read_all(
        &mut self,
        socket: &mut dyn Read,
        plain: &mut Vec<u8>,
        arrived: &mut Vec<u8>,
    ) -> Result<ReadOutcome, ChannelError> {
        arrived.resize(RECORD_BYTES_MAX + READ_BYTES_BUDGET, 0);
        let mut budget = READ_BYTES_BUDGET;
        while budget > 0 {
            let kept = self.side.as_ref().map_or(0, |side| side.received.len());
            let read = match socket.read(&mut arrived[kept..kept + budget]) {
                // Nothing more comes, and nobody has said so: a reset in good manners, or a truncation.
                Ok(0) => return Err(ChannelError::Truncated),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadOutcome::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ChannelError::from_socket(&error)),
            };
            budget -= read;
            if let Some(side) = &mut self.side {
                arrived[..kept].copy_from_slice(&side.received);
                side.received = Vec::new();
            }
            if self.take(&mut arrived[..kept + read], plain)? {
                return Ok(ReadOutcome::Closed);
            }
        }
        Ok(ReadOutcome::More)
    }

    /// Takes what has arrived, and keeps a record that is not whole. Whether the peer has said that nothing
    /// more comes.
    fn take(&mut self, arrived: &mut [u8], plain: &mut Vec<u8>) -> Result<bool, ChannelError> {
        let of_handshake = self.shake_hands(arrived)?;
        let arrived = &mut arrived[of_handshake..];
        let Stage::Established(link) = &mut self.stage else { return Ok(false) };
        match open_all(link, arrived, plain) {
            Ok(Some(whole)) => {
                if whole < arrived.len() {
                    self.side.get_or_insert_default().received = arrived[whole..].to_vec();
                }
                Ok(false)
            }
            Ok(None) => Ok(true),
            Err(failure) => {
                if let Failure::Broken(error) = &failure {
                    let side = self.side.get_or_insert_default();
                    // Should it fail, the peer is not told, and is left all the same.
                    let _ = link.sealing_burst().fatal_alert(error.alert(), &mut side.unsent);
                }
                Err(failure.into())
            }
        }
    }

    /// Goes on with the handshake, if it is not finished. Returns the number of bytes that it has taken.
    fn shake_hands(&mut self, arrived: &mut [u8]) -> Result<usize, ChannelError> {
        let Stage::Handshaking(handshake) = &mut self.stage else { return Ok(0) };
        let side = self.side.get_or_insert_default();
        match handshake.read(arrived, &mut side.unsent) {
            Ok(taken) if !handshake.is_finished() => Ok(taken),
            Ok(taken) => {
                side.peer = Some(handshake.peer());
                let Stage::Handshaking(handshake) = std::mem::replace(&mut self.stage, Stage::Failed) else {
                    return Ok(taken);
                };
                self.stage = Stage::Established(handshake.finish(&mut side.unsent)?);
                Ok(taken)
            }
            Err(error) => {
                self.stage = Stage::Failed;
                Err(error)
            }
        }
    }

    /// Protects `plain` and keeps it until it is flushed.
    ///
    /// # Errors
    /// [`ChannelError::PeerTooSlow`] when [`UNSENT_BYTES_MAX`] would wait then, and an error when the
    /// handshake is not finished or the link has failed: then the link must end.
    pub fn write_plain(&mut self, plain: &[u8]) -> Result<(), ChannelError> {
        let Stage::Established(link) = &mut self.stage else {
            return Err(ChannelError::Internal("there is no link yet, or no more".into()));
        };
        let side = self.side.get_or_insert_default();
        if side.unsent.len() - side.sent + plain.len() > UNSENT_BYTES_MAX {
            return Err(ChannelError::PeerTooSlow);
        }
        link.sealing_burst().data(plain, &mut side.unsent).map_err(|error| match error {
            SealError::Closed => ChannelError::Reset,
            SealError::KeyUsedUp | SealError::Crypto => ChannelError::Internal(error.to_string()),
        })
    }

    /// Writes what is ready. `true`: all of it is written; `false`: the socket takes no more for now.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush_to(&mut self, socket: &mut dyn Write) -> Result<bool, ChannelError> {
        let Some(side) = &mut self.side else { return Ok(true) };
        while side.sent < side.unsent.len() {
            match socket.write(&side.unsent[side.sent..]) {
                Ok(0) => return Err(ChannelError::Reset),
                Ok(written) => side.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Sent bytes are dropped when they are most of the buffer.
                    if side.sent > side.unsent.len() / 2 {
                        side.unsent.drain(..side.sent);
                        side.sent = 0;
                        side.unsent.shrink_to(2 * side.unsent.len());
                    }
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ChannelError::from_socket(&error)),
            }
        }
        (side.unsent, side.sent) = (Vec::new(), 0);
        self.tidy();
        Ok(true)
    }

    /// Says that nothing more will be sent (`close_notify`); flush afterwards. Does nothing after a failure,
    /// which has said it, and in a handshake, whose keys only the library has: it says no close_notify there.
    pub fn close_notify(&mut self) {
        let side = self.side.get_or_insert_default();
        match &mut self.stage {
            Stage::Established(link) => {
                // Should it fail, the peer is not told, and is left all the same.
                let _ = link.sealing_burst().close_notify(&mut side.unsent);
            }
            Stage::Handshaking(_) | Stage::Failed => {}
        }
        self.tidy();
    }

    /// Whether the handshake is not finished yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Handshaking(_))
    }

    /// Whether there is something to flush.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.unsent_bytes() > 0
    }

    /// Protected bytes that the socket has not taken yet.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.side.as_ref().map_or(0, |side| side.unsent.len() - side.sent)
    }

    /// Memory that it holds beside what it takes idle, or what a handshake takes at least.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let of_handshake =
            if let Stage::Handshaking(handshake) = &self.stage { handshake.kept_bytes() } else { 0 };
        of_handshake + self.side.as_ref().map_or(0, |side| side.unsent.capacity() + side.received.capacity())
    }

    /// The peer at the other end: once, after the handshake has finished. It is kept until it is asked for.
    pub fn take_peer(&mut self) -> Option<Peer> {
        let peer = self.side.as_mut()?.peer.take();
        self.tidy();
        peer
    }

    /// Gives the memory back of what is empty.
    fn tidy(&mut self) {
        let is_empty = |side: &mut Box<Side>| {
            side.received.is_empty() && side.sent == side.unsent.len() && side.peer.is_none()
        };
        self.side.take_if(is_empty);
    }
}

/// Why nothing more is opened.
enum Failure {
    /// The peer ended the connection, with this alert.
    Refused(String),
    Broken(OpenError),
}

impl From<Failure> for ChannelError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(alert) => Self::Refused(alert),
            Failure::Broken(OpenError::NotProtected | OpenError::RecordVersion) => Self::NotTls,
            Failure::Broken(error @ OpenError::Crypto) => Self::Internal(error.to_string()),
            Failure::Broken(error) => Self::Misbehaved(error.to_string()),
        }
    }
}

/// Opens every whole record. Returns the number of those bytes; `None`: the peer has said that nothing more
/// comes.
fn open_all(link: &mut SlimLink, arrived: &mut [u8], plain: &mut Vec<u8>) -> Result<Option<usize>, Failure> {
    let mut burst = link.opening_burst();
    let mut at = 0;
    loop {
        match burst.open(&mut arrived[at..]).map_err(Failure::Broken)? {
            Opened::NeedMore(_) => return Ok(Some(at)),
            Opened::Record { bytes, content } => {
                match content {
                    Content::Data(data) => plain.extend_from_slice(data),
                    Content::Nothing | Content::KeyUpdate => {}
                    Content::CloseNotify => return Ok(None),
                    Content::Alert(alert) => return Err(Failure::Refused(alert.to_string())),
                }
                at += bytes;
            }
            Opened::Closed => return Ok(None),
        }
    }
}

impl fmt::Debug for ServerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerChannel").field("handshaking", &self.is_handshaking()).finish_non_exhaustive()
    }
}
