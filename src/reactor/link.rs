//! One TCP connection and what belongs to it.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;

use super::channel::{ChannelError, ServerChannel};
use crate::machine::admission::Progress;
use crate::machine::close::CloseReason;
use crate::machine::endpoint::{Connection, entry_bytes};
use crate::wire::time::{CoarseMoment, Moment};

/// Time that a link that was closed here stays to hear the peer's own goodbye: a socket that is closed with
/// bytes unread is reset by the kernel, and the peer would lose our last bytes.
pub(super) const GOODBYE_MILLISECONDS: u64 = 2_000;

/// Most bytes that are read and thrown away while the peer's goodbye is waited for.
const GOODBYE_BYTES_MAX: usize = 1024 * 1024;

/// As what a link is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// As a handshake: it is under way.
    Handshake,
    /// As a device's.
    Device,
    /// Among the strangers ([`Strangers`](crate::machine::admission::strangers::Strangers)).
    Stranger,
}

/// Stage of a link.
pub(super) enum Stage<'a> {
    /// The handshake is under way.
    Handshaking(&'a Arriving),
    /// The peer is known, and messages are exchanged.
    Live,
    /// It was closed here; what is ready is still sent, and the peer's goodbye awaited.
    Leaving(&'a Leaving),
}

/// State of a link before and behind its time.
pub(super) enum Transition {
    Handshaking(Arriving),
    Leaving(Leaving),
}

pub(super) struct Arriving {
    pub(super) peer: SocketAddr,
    pub(super) deadline: Moment,
    /// Progress of it, for [`Admission`](crate::machine::admission::Admission).
    pub(super) progress: Progress,
}

pub(super) struct Leaving {
    /// Bytes thrown away so far.
    pub(super) discarded: usize,
    /// The last byte is sent, and the peer has been told so (FIN).
    pub(super) is_sent: bool,
    pub(super) deadline: Moment,
}

/// State of a link that is not idle.
#[derive(Default)]
pub(super) struct Pending {
    /// Bytes of a frame that is not whole, or that there was no room for.
    pub(super) inbox: Vec<u8>,
    /// The deadline of a peer that takes nothing of what is ready for it.
    pub(super) write_deadline: Option<Moment>,
    /// There while it is not live.
    pub(super) transition: Option<Transition>,
}

/// A link. There is one for each connected device, and most of them are idle: what an idle one does not need
/// is in a box that is not there, or asked of the system.
pub(super) struct Link {
    pub(super) channel: ServerChannel,
    /// There while it holds something.
    pub(super) pending: Option<Box<Pending>>,
    /// When something was last heard, or taken after a wait.
    pub(super) heard: CoarseMoment,
    /// Its entry among the timers.
    pub(super) armed: CoarseMoment,
    pub(super) socket: TcpStream,
    pub(super) place: Place,
    /// In the list of links to be read.
    pub(super) is_ready: bool,
    /// In the list of links that wait for room; not read meanwhile.
    pub(super) is_blocked: bool,
    /// In the list of links to be flushed.
    pub(super) is_dirty: bool,
}

/// Most memory of a link while it is idle: with its deadline, its device's record and the index of both it is
/// to stay below 512.
pub(super) const LINK_BYTES_MAX: usize = 224 + DEBUG_BYTES;

/// Bytes that a socket takes more in builds with debug assertions, in which it remembers its poll, with its
/// alignment.
const DEBUG_BYTES: usize = if cfg!(debug_assertions) { 16 } else { 0 };

const _: () = assert!(LINK_BYTES <= LINK_BYTES_MAX);

/// Bytes that a link takes of a reactor's table.
pub const LINK_BYTES: usize = entry_bytes::<Link>();

/// A segment of links with what the allocator puts before it: whole pages, as it has pages of its own.
const SEGMENT_BYTES: usize = 256 * 1024;

/// Most bytes that the allocator puts before a segment.
const ALLOCATION_BYTES: usize = 32;

/// Links of one segment.
pub(super) const SEGMENT_LINKS: usize = (SEGMENT_BYTES - ALLOCATION_BYTES) / LINK_BYTES;

/// Bytes that its deadline takes beside it.
#[cfg(feature = "internals")]
pub const DEADLINE_BYTES: usize = size_of::<(CoarseMoment, u32)>();

impl Connection for Link {
    fn peer(&self) -> Option<IpAddr> {
        // IPv4 as IPv4, whatever the listener makes of it.
        self.address().map(|address| address.ip().to_canonical())
    }
}

impl Link {
    pub(super) fn stage(&self) -> Stage<'_> {
        match self.pending.as_ref().and_then(|pending| pending.transition.as_ref()) {
            None => Stage::Live,
            Some(Transition::Handshaking(arriving)) => Stage::Handshaking(arriving),
            Some(Transition::Leaving(leaving)) => Stage::Leaving(leaving),
        }
    }

    pub(super) fn arriving(&mut self) -> Option<&mut Arriving> {
        match self.pending.as_mut()?.transition.as_mut()? {
            Transition::Handshaking(arriving) => Some(arriving),
            Transition::Leaving(_) => None,
        }
    }

    pub(super) fn leaving(&mut self) -> Option<&mut Leaving> {
        match self.pending.as_mut()?.transition.as_mut()? {
            Transition::Leaving(leaving) => Some(leaving),
            Transition::Handshaking(_) => None,
        }
    }

    /// Its handshake has ended.
    pub(super) fn begin(&mut self) {
        self.pending().transition = None;
        self.tidy();
    }

    /// Its address, as far as the system still knows.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self.stage() {
            Stage::Handshaking(arriving) => Some(arriving.peer),
            Stage::Live | Stage::Leaving(_) => self.socket.peer_addr().ok(),
        }
    }

    /// Memory that it holds beside what it takes idle and what its session holds.
    pub(super) fn held_bytes(&self) -> usize {
        let inbox = self.pending.as_ref().map_or(0, |pending| pending.inbox.capacity());
        self.channel.held_bytes() + inbox
    }

    pub(super) fn pending(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    pub(super) fn write_deadline(&self) -> Option<Moment> {
        self.pending.as_ref()?.write_deadline
    }

    pub(super) fn has_inbox(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| !pending.inbox.is_empty())
    }

    /// Gives the memory back of what is empty.
    pub(super) fn tidy(&mut self) {
        self.pending.take_if(|pending| {
            pending.inbox.is_empty() && pending.write_deadline.is_none() && pending.transition.is_none()
        });
    }

    /// Reads and throws away after we closed. `true`: the peer has closed too, or will never stop.
    pub(super) fn discard(&mut self, scratch: &mut [u8]) -> bool {
        let Some(Pending { transition: Some(Transition::Leaving(leaving)), .. }) =
            self.pending.as_deref_mut()
        else {
            return false;
        };
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return true,
                Ok(read) => {
                    leaving.discarded += read;
                    if leaving.discarded > GOODBYE_BYTES_MAX {
                        return true;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }
}

/// A socket until it has nothing more. A read that does not fill its buffer has emptied it (epoll(7),
/// question 9), so that no other is made to hear that; what comes later is reported anew. Only an end that
/// was reported before is read for until it is found.
pub(super) struct UntilDrained<'a> {
    socket: &'a mut TcpStream,
    to_its_end: bool,
    is_drained: bool,
}

impl<'a> UntilDrained<'a> {
    pub(super) fn new(socket: &'a mut TcpStream, to_its_end: bool) -> Self {
        Self { socket, to_its_end, is_drained: false }
    }
}

impl Read for UntilDrained<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.is_drained {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let read = self.socket.read(buffer)?;
        self.is_drained = read < buffer.len() && !self.to_its_end;
        Ok(read)
    }
}

/// The named reason of a failure of the channel.
pub(super) fn reason_of(error: &ChannelError) -> CloseReason {
    match error {
        ChannelError::NoSharedVersion => CloseReason::TlsVersion,
        ChannelError::WrongProtocol => CloseReason::NoProtocol,
        ChannelError::ForeignCertificate | ChannelError::NotEnrolledAnyMore => {
            CloseReason::ForeignCertificate
        }
        ChannelError::DeviceRemoved => CloseReason::DeviceRemoved,
        ChannelError::Refused(_) => CloseReason::PeerAlert,
        ChannelError::NotTls => CloseReason::NotTls,
        ChannelError::WrongServer { .. }
        | ChannelError::ReplacedServer { .. }
        | ChannelError::BadSignature
        | ChannelError::Misbehaved(_) => CloseReason::TlsError,
        ChannelError::PeerTooSlow => CloseReason::SlowReader,
        ChannelError::Truncated | ChannelError::Reset | ChannelError::Socket(_) => CloseReason::PeerReset,
        ChannelError::Configuration(_) | ChannelError::Internal(_) => CloseReason::Internal,
    }
}
