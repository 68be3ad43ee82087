//! redis: RESP2, `XADD` to one stream. With `appendfsync always` the answer comes after the append-only file
//! is synced.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::certificates::ClientFiles;
use crate::failure::Failure;
use crate::protocol::{Heard, PAYLOAD_BYTES, Packing, Peer, Protocol, ProtocolError, Tickets, line, shown};
use crate::talk::Talk;

/// The stream that everybody adds to.
const STREAM: &str = "s";

/// Longest answer that is taken for one: entry names have some 20.
const BULK_BYTES_MAX: usize = 4096;

pub(crate) struct RespPeer {
    address: SocketAddr,
    files: ClientFiles,
    message: Arc<[u8]>,
}

impl RespPeer {
    pub(crate) fn new(address: SocketAddr, files: ClientFiles) -> Self {
        let mut message = command(&["XADD", STREAM, "*", "m"], 1);
        message.extend_from_slice(format!("${PAYLOAD_BYTES}\r\n").as_bytes());
        message.extend_from_slice(&[b'x'; PAYLOAD_BYTES]);
        message.extend_from_slice(b"\r\n");
        Self { address, files, message: message.into() }
    }
}

/// A command's array head for these words and `more` bulk strings that follow.
fn command(words: &[&str], more: usize) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len() + more);
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text.into_bytes()
}

impl Peer for RespPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn prepare(&self, _clients: usize) -> Result<(), Failure> {
        Ok(())
    }

    fn tls(&self, _client: usize, tickets: Tickets) -> Result<Arc<ClientConfig>, Failure> {
        self.files.config(tickets)
    }

    fn protocol(&self, _client: usize, _packing: Packing) -> Box<dyn Protocol> {
        Box::new(Resp { message: Arc::clone(&self.message) })
    }

    fn stored(&self) -> Result<Option<u64>, Failure> {
        let mut talk = Talk::open(self.address, &self.files.config(Tickets::None)?, false)?;
        talk.say(&command(&["XLEN", STREAM], 0))?;
        let count = talk.listen(|plain| {
            let Some((line, _)) = line(plain) else { return Ok(None) };
            let text = line.strip_prefix(b":").and_then(|number| std::str::from_utf8(number).ok());
            let count = text.and_then(|number| number.parse().ok());
            count.map(Some).ok_or_else(|| Failure(format!("XLEN was answered with {}", shown(line))))
        })?;
        Ok(Some(count))
    }
}

struct Resp {
    message: Arc<[u8]>,
}

impl Protocol for Resp {
    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&command(&["PING"], 0));
    }

    fn message(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.message);
    }

    fn take(
        &mut self,
        plain: &[u8],
        heard: &mut Heard,
        _answer: &mut Vec<u8>,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while let Some((head, length)) = line(&plain[taken..]) {
            match head.split_first() {
                Some((b'+', b"PONG")) => heard.is_ready = true,
                Some((b'-', error)) => return Err(ProtocolError::Refused(shown(error))),
                Some((b'$', number)) => {
                    let bytes = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
                    let bytes: usize = bytes
                        .filter(|bytes| *bytes <= BULK_BYTES_MAX)
                        .ok_or_else(|| ProtocolError::Unexpected(shown(head)))?;
                    // The name of the new entry, and CR LF.
                    let whole = length + bytes + 2;
                    if plain.len() - taken < whole {
                        break;
                    }
                    if !plain[taken..taken + whole].ends_with(b"\r\n") {
                        return Err(ProtocolError::Unexpected(shown(&plain[taken..taken + whole])));
                    }
                    heard.acks += 1;
                    taken += whole;
                    continue;
                }
                _ => return Err(ProtocolError::Unexpected(shown(head))),
            }
            taken += length;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::heard_at_every_cut;

    fn link() -> Box<dyn Protocol> {
        Box::new(Resp { message: Arc::from(&b"x"[..]) })
    }

    #[test]
    fn answers_are_counted_wherever_they_are_cut() {
        let bytes = b"+PONG\r\n$15\r\n1526919030474-0\r\n$16\r\n1526919030474-55\r\n";
        let (heard, answer) = heard_at_every_cut(bytes, link).unwrap();
        assert_eq!(heard, Heard { acks: 2, is_ready: true });
        assert!(answer.is_empty());
    }

    #[test]
    fn a_refusal_and_what_is_no_answer_are_named() {
        let take = |bytes: &[u8]| link().take(bytes, &mut Heard::default(), &mut Vec::new());
        let refused = take(b"-MISCONF Errors writing to the AOF file\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "the server refused: MISCONF Errors writing to the AOF file");
        for wrong in [&b"*1\r\n"[..], b"$9999999\r\n", b"$-1\r\n", b"$x\r\n", b"\r\n", b"$1\r\nabc"] {
            assert!(matches!(take(wrong), Err(ProtocolError::Unexpected(_))), "{}", shown(wrong));
        }
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(command(&["XLEN", "s"], 0), b"*2\r\n$4\r\nXLEN\r\n$1\r\ns\r\n");
    }
}
