//! nats-server: publishing to a JetStream with a reply subject, on which the stream's acknowledgement comes:
//! written to the stream's file, not synced.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::certificates::ClientFiles;
use crate::failure::Failure;
use crate::protocol::{Heard, PAYLOAD_BYTES, Packing, Peer, Protocol, ProtocolError, Tickets, line, shown};
use crate::talk::Talk;

/// Longest message to a client that is taken for one: a description of the stream has some 600.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"lang\":\"rust\",\
                       \"version\":\"0\",\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\n";

pub(crate) struct NatsPeer {
    pub(crate) address: SocketAddr,
    pub(crate) files: ClientFiles,
}

impl NatsPeer {
    /// Asks the JetStream API, and returns its answer.
    fn ask(&self, subject: &str, body: &str) -> Result<serde_json::Value, Failure> {
        let mut talk = Talk::open(self.address, &self.files.config(Tickets::None)?, true)?;
        let length = body.len();
        talk.say(
            format!("{CONNECT}SUB _INBOX.a 1\r\nPUB {subject} _INBOX.a {length}\r\n{body}\r\n").as_bytes(),
        )?;
        let answer = talk.listen(answer_in)?;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer).map_err(Failure::when("read JetStream's answer"))?;
        match answer.get("error") {
            Some(error) => Err(Failure(format!("JetStream refused {subject}: {error}"))),
            None => Ok(answer),
        }
    }
}

/// The body of the first message among what has come.
fn answer_in(plain: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let mut at = 0;
    while let Some((word, length)) = word(&plain[at..])? {
        if let Word::Message(body) = word {
            return Ok(Some(body.to_vec()));
        }
        at += length;
    }
    Ok(None)
}

impl Peer for NatsPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn greets_in_clear(&self) -> bool {
        true
    }

    fn prepare(&self, _clients: usize) -> Result<(), Failure> {
        // Made once; the same again is no error.
        let stream =
            r#"{"name":"S","subjects":["m"],"storage":"file","retention":"limits","num_replicas":1}"#;
        self.ask("$JS.API.STREAM.CREATE.S", stream).map(drop)
    }

    fn tls(&self, _client: usize, tickets: Tickets) -> Result<Arc<ClientConfig>, Failure> {
        self.files.config(tickets)
    }

    fn protocol(&self, client: usize, _packing: Packing) -> Box<dyn Protocol> {
        Box::new(Nats::new(client))
    }

    fn stored(&self) -> Result<Option<u64>, Failure> {
        let answer = self.ask("$JS.API.STREAM.INFO.S", "")?;
        Ok(answer.pointer("/state/messages").and_then(serde_json::Value::as_u64))
    }
}

struct Nats {
    client: usize,
    message: Vec<u8>,
}

impl Nats {
    fn new(client: usize) -> Self {
        let mut message = format!("PUB m _INBOX.{client} {PAYLOAD_BYTES}\r\n").into_bytes();
        message.extend_from_slice(&[b'x'; PAYLOAD_BYTES]);
        message.extend_from_slice(b"\r\n");
        Self { client, message }
    }
}

impl Protocol for Nats {
    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{CONNECT}SUB _INBOX.{} 1\r\nPING\r\n", self.client).as_bytes());
    }

    fn message(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.message);
    }

    fn take(
        &mut self,
        plain: &[u8],
        heard: &mut Heard,
        answer: &mut Vec<u8>,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while let Some((word, length)) = word(&plain[taken..])? {
            match word {
                Word::Message(body) if is_ack(body) => heard.acks += 1,
                Word::Message(body) => return Err(ProtocolError::Refused(shown(body))),
                Word::Ping => answer.extend_from_slice(b"PONG\r\n"),
                Word::Pong => heard.is_ready = true,
                Word::Nothing => {}
            }
            taken += length;
        }
        Ok(taken)
    }
}

/// JetStream's answer to a message that it has taken: its stream and number. An error comes in the same
/// place.
fn is_ack(body: &[u8]) -> bool {
    const ERROR: &[u8] = b"\"error\"";
    body.starts_with(b"{\"stream\":") && !body.windows(ERROR.len()).any(|window| window == ERROR)
}

/// Message of the server.
#[derive(PartialEq, Eq, Debug)]
enum Word<'a> {
    /// The body of a message to this client.
    Message(&'a [u8]),
    Ping,
    Pong,
    /// Nothing that matters here.
    Nothing,
}

/// The first whole word, and how many bytes it takes.
fn word(bytes: &[u8]) -> Result<Option<(Word<'_>, usize)>, ProtocolError> {
    let Some((head, length)) = line(bytes) else { return Ok(None) };
    let mut fields = head.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
    let word = match fields.next() {
        Some(b"PING") => Word::Ping,
        Some(b"PONG") => Word::Pong,
        Some(b"INFO" | b"+OK") => Word::Nothing,
        Some(b"-ERR") => return Err(ProtocolError::Refused(shown(head))),
        Some(verb @ (b"MSG" | b"HMSG")) => {
            let number = fields.next_back().and_then(|number| std::str::from_utf8(number).ok());
            let number: Option<usize> = number.and_then(|number| number.parse().ok());
            let number = number
                .filter(|number| *number <= MESSAGE_BYTES_MAX)
                .ok_or_else(|| ProtocolError::Unexpected(shown(head)))?;
            let whole = length + number + 2;
            let Some(body) = bytes.get(length..whole) else { return Ok(None) };
            let Some(body) = body.strip_suffix(b"\r\n") else {
                return Err(ProtocolError::Unexpected(shown(body)));
            };
            if verb == b"HMSG" {
                // Headers come with a status alone: nobody listens on the subject.
                return Err(ProtocolError::Refused(shown(body)));
            }
            return Ok(Some((Word::Message(body), whole)));
        }
        _ => return Err(ProtocolError::Unexpected(shown(head))),
    };
    Ok(Some((word, length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::heard_at_every_cut;

    fn link() -> Box<dyn Protocol> {
        Box::new(Nats::new(7))
    }

    #[test]
    fn acknowledgements_are_counted_and_pings_answered_wherever_they_are_cut() {
        let bytes = b"PONG\r\nMSG _INBOX.7 1 24\r\n{\"stream\":\"S\",\"seq\":123}\r\nPING\r\nINFO {}\r\n\
                      MSG _INBOX.7 1 24\r\n{\"stream\":\"S\",\"seq\":124}\r\n+OK\r\n";
        let (heard, answer) = heard_at_every_cut(bytes, link).unwrap();
        assert_eq!(heard, Heard { acks: 2, is_ready: true });
        assert_eq!(answer, b"PONG\r\n");
    }

    #[test]
    fn refusals_of_server_and_stream_are_named() {
        let take = |bytes: &[u8]| link().take(bytes, &mut Heard::default(), &mut Vec::new());
        let body = "{\"stream\":\"S\",\"error\":{\"code\":503,\"description\":\"insufficient resources\"}}";
        let text = format!("MSG _INBOX.7 1 {}\r\n{body}\r\n", body.len());
        for refused in [
            &b"-ERR 'Authorization Violation'\r\n"[..],
            text.as_bytes(),
            b"HMSG _INBOX.7 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
        ] {
            assert!(matches!(take(refused), Err(ProtocolError::Refused(_))), "{}", shown(refused));
        }
        for wrong in
            [&b"MSG a 1 x\r\n"[..], b"MSG a 1 99999999\r\n", b"\r\n", b"MSG a 1 1\r\nabc", b"FOO\r\n"]
        {
            assert!(matches!(take(wrong), Err(ProtocolError::Unexpected(_))), "{}", shown(wrong));
        }
    }
}
