//! One TCP connection and what belongs to it.

use std::io::Read;
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::channel::{ChannelError, ServerChannel};
use crate::machine::close::CloseReason;
use crate::machine::session::Session;
use crate::wire::id::DeviceId;
use crate::wire::time::Moment;

/// How long a link that was closed here is kept to hear the peer's own farewell, in milliseconds: a socket that is closed with bytes
/// unread is reset by the kernel, and the peer would lose our last words.
pub(super) const FAREWELL_MILLISECONDS: u64 = 2_000;

/// Most bytes that are read and thrown away while the peer's farewell is waited for, in bytes.
const FAREWELL_BYTES_MAX: usize = 1024 * 1024;

/// Where a link stands.
pub(super) enum Stage {
    /// The handshake is under way.
    Handshaking,
    /// The peer is who it is, and messages are exchanged.
    Live(Session),
    /// It was closed here; what is ready is still sent, and the peer's farewell awaited.
    Leaving {
        /// Bytes thrown away so far.
        discarded: usize,
        /// The last byte is sent, and the peer has been told so (FIN).
        sent: bool,
    },
}

pub(super) struct Link {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) channel: ServerChannel,
    pub(super) stage: Stage,
    /// Whose it is, as the certificate says.
    pub(super) device: Option<DeviceId>,
    /// It has become the device's, with its first word.
    pub(super) is_adopted: bool,
    /// It counts among the links that are to stay.
    pub(super) is_kept: bool,
    pub(super) generation: u32,
    /// Bytes of a frame that is not whole, or that there was no room for. Empty, and without memory, most of the time.
    pub(super) inbox: Vec<u8>,
    /// Deadline of the handshake, or of the farewell.
    pub(super) stage_deadline: Moment,
    /// Since when the peer has not read what is ready for it; its deadline.
    pub(super) write_deadline: Option<Moment>,
    /// When something was last heard.
    pub(super) heard: Moment,
    /// The earliest entry among the timers.
    pub(super) armed: Moment,
    /// In the list of links to be read.
    pub(super) is_ready: bool,
    /// In the list of links that wait for room; not read meanwhile.
    pub(super) is_blocked: bool,
    /// In the list of links to be flushed.
    pub(super) is_dirty: bool,
}

impl Link {
    /// What is thrown away after we closed. `true`: the peer has closed too, or will never stop.
    pub(super) fn discard(&mut self, scratch: &mut [u8]) -> bool {
        let Stage::Leaving { discarded, .. } = &mut self.stage else { return false };
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return true,
                Ok(read) => {
                    *discarded += read;
                    if *discarded > FAREWELL_BYTES_MAX {
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

/// The named reason of a failure of the channel.
pub(super) fn reason_of(error: &ChannelError) -> CloseReason {
    match error {
        ChannelError::NoSharedVersion => CloseReason::TlsVersion,
        ChannelError::WrongProtocol => CloseReason::NoProtocol,
        ChannelError::ForeignCertificate => CloseReason::ForeignCertificate,
        ChannelError::DeviceRemoved => CloseReason::DeviceRemoved,
        ChannelError::Refused(_) => CloseReason::PeerAlert,
        ChannelError::NotTls => CloseReason::NotTls,
        ChannelError::WrongServer { .. } | ChannelError::BadSignature | ChannelError::Misbehaved(_) => {
            CloseReason::TlsError
        }
        ChannelError::PeerTooSlow => CloseReason::SlowReader,
        ChannelError::Truncated | ChannelError::Reset | ChannelError::Socket(_) => CloseReason::PeerReset,
        ChannelError::Configuration(_) | ChannelError::Internal(_) => CloseReason::Internal,
    }
}
