//! The loads' view of a protocol: bytes to begin with, bytes of one more message, and the number of
//! acknowledgements in bytes.
//!
//! One value speaks for one link. It is told plaintext and answers with plaintext; it knows no socket, no TLS
//! and no clock.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::failure::Failure;

/// Payload of a message: the size that the comparison asks for.
pub(crate) const PAYLOAD_BYTES: usize = 200;

/// Messages that were heard on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) acks: u64,
    /// The server has answered the hello: the link may be used.
    pub(crate) is_ready: bool,
}

/// Why a link is of no use any more.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// In its words.
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("the server put the link off: come again in {seconds} s")]
    PutOff { seconds: u32 },
    #[error("the server said something that was not due: {0}")]
    Unexpected(String),
}

/// One link's words.
pub(crate) trait Protocol: Send {
    /// The first bytes inside TLS. The answer to them makes the link ready.
    fn hello(&mut self, out: &mut Vec<u8>);

    /// Appends one message that asks for an acknowledgement.
    fn message(&mut self, out: &mut Vec<u8>);

    fn messages(&mut self, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.message(out);
        }
    }

    /// Takes what has come, up to the last whole word of it, and returns how many bytes that were. `answer`
    /// gets the bytes to send back.
    fn take(&mut self, plain: &[u8], heard: &mut Heard, answer: &mut Vec<u8>)
    -> Result<usize, ProtocolError>;
}

/// Whether a link may resume an earlier session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tickets {
    /// Every handshake is full.
    None,
    /// Links that share the configuration share its tickets.
    Kept,
}

/// Frames into which messages that may leave together are put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Packing {
    /// Each in a frame, command or packet of its own.
    Each,
    /// All in one frame, where the protocol has such a thing.
    Together,
}

/// One server under comparison: how to reach it, who connects, and what it says it has stored.
pub(crate) trait Peer: Sync {
    fn address(&self) -> SocketAddr;

    /// Whether it speaks first, before TLS begins.
    fn greets_in_clear(&self) -> bool {
        false
    }

    /// Makes the server ready for `clients` clients with numbers from 0; the state of an earlier call stays.
    fn prepare(&self, clients: usize) -> Result<(), Failure>;

    fn tls(&self, client: usize, tickets: Tickets) -> Result<Arc<ClientConfig>, Failure>;

    /// A new link's words.
    fn protocol(&self, client: usize, packing: Packing) -> Box<dyn Protocol>;

    /// Whether it has a frame for several messages.
    fn packs(&self) -> bool {
        false
    }

    /// Number of messages that the server says it holds; `None` when it can't tell.
    fn stored(&self) -> Result<Option<u64>, Failure>;
}

/// Splits off the first line without its CR LF, and how many bytes it took. `None` when it is not whole yet.
pub(crate) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], end + 2))
}

/// Text for an error message: what can't be shown is replaced, and it is cut.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Feeds bytes in two pieces, cut at every place, and returns what was heard in all; it must be the same
    /// at every cut.
    pub(crate) fn heard_at_every_cut(
        bytes: &[u8],
        make: impl Fn() -> Box<dyn Protocol>,
    ) -> Result<(Heard, Vec<u8>), ProtocolError> {
        let mut first = None;
        for cut in 0..=bytes.len() {
            let (mut protocol, mut heard, mut answer) = (make(), Heard::default(), Vec::new());
            let mut inbox = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                inbox.extend_from_slice(piece);
                let taken = protocol.take(&inbox, &mut heard, &mut answer)?;
                inbox.drain(..taken);
            }
            assert!(inbox.is_empty(), "cut at {cut}: {} bytes were left", inbox.len());
            let now = (heard, answer);
            assert_eq!(first.get_or_insert(now.clone()), &now, "cut at {cut}");
        }
        first.ok_or_else(|| ProtocolError::Unexpected("nothing".into()))
    }

    #[test]
    fn a_line_ends_with_both_characters() {
        assert_eq!(line(b"+OK\r\nmore"), Some((&b"+OK"[..], 5)));
        assert_eq!(line(b"+OK\r"), None);
        assert_eq!(line(b"+OK\n"), None);
    }
}
