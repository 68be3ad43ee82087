//! mosquitto: MQTT 3.1.1, QoS 1. The acknowledgement means that the broker has the message in memory, where
//! it waits for a subscriber that is away; with persistence it is written to a file now and then.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::certificates::ClientFiles;
use crate::failure::Failure;
use crate::protocol::{Heard, PAYLOAD_BYTES, Packing, Peer, Protocol, ProtocolError, Tickets, shown};
use crate::talk::Talk;

/// The topic that everybody publishes to.
const TOPIC: &str = "m";

/// Number of messages that the broker holds; it says so once a second, and to a new subscriber at once.
const STORED_TOPIC: &str = "$SYS/broker/store/messages/count";

/// Longest silence of a client: longer than any load.
const KEEP_ALIVE_SECONDS: u16 = 600;

/// Longest packet to a client that is taken for one.
const PACKET_BYTES_MAX: usize = 64 * 1024;

pub(crate) struct MqttPeer {
    address: SocketAddr,
    files: ClientFiles,
    /// Messages that the broker held before the first of ours: its own statistics.
    before: OnceLock<u64>,
}

impl MqttPeer {
    pub(crate) fn new(address: SocketAddr, files: ClientFiles) -> Self {
        Self { address, files, before: OnceLock::new() }
    }

    fn talk(&self) -> Result<Talk, Failure> {
        Talk::open(self.address, &self.files.config(Tickets::None)?, false)
    }

    fn held(&self) -> Result<u64, Failure> {
        let mut talk = self.talk()?;
        talk.say(&[connect("count", true), subscribe(STORED_TOPIC, 0)].concat())?;
        let text = talk.listen(published_in)?;
        text.parse().map_err(Failure::when(format_args!("read '{text}' as a count")))
    }
}

/// The content of the first message among what has come.
fn published_in(plain: &[u8]) -> Result<Option<String>, Failure> {
    let mut at = 0;
    while let Some((kind, body, length)) = packet(&plain[at..])? {
        check_connack(kind, body)?;
        if kind >> 4 == 3 {
            let [high, low, rest @ ..] = body else {
                return Err(Failure("a message without a topic".into()));
            };
            let topic = usize::from(u16::from_be_bytes([*high, *low]));
            return Ok(Some(shown(rest.get(topic..).unwrap_or_default())));
        }
        at += length;
    }
    Ok(None)
}

impl Peer for MqttPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn prepare(&self, _clients: usize) -> Result<(), Failure> {
        if self.before.get().is_some() {
            return Ok(());
        }
        // A subscriber that goes away: what is published from now on is kept for it.
        let mut talk = self.talk()?;
        talk.say(&[connect("keeper", false), subscribe(TOPIC, 1)].concat())?;
        talk.listen(|plain| {
            let mut at = 0;
            while let Some((kind, body, length)) = packet(&plain[at..])? {
                if matches!((kind, body), (0x90, [_, _, 1])) {
                    return Ok(Some(()));
                }
                check_connack(kind, body)?;
                at += length;
            }
            Ok(None)
        })?;
        talk.say(&[0xe0, 0])?;
        let held = self.held()?;
        self.before.get_or_init(|| held);
        Ok(())
    }

    fn tls(&self, _client: usize, tickets: Tickets) -> Result<Arc<ClientConfig>, Failure> {
        self.files.config(tickets)
    }

    fn protocol(&self, client: usize, _packing: Packing) -> Box<dyn Protocol> {
        Box::new(Mqtt::new(client))
    }

    fn stored(&self) -> Result<Option<u64>, Failure> {
        // The broker counts once a second.
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        Ok(Some(self.held()?.saturating_sub(self.before.get().copied().unwrap_or(0))))
    }
}

/// A CONNECT packet (section 3.1).
fn connect(name: &str, is_clean: bool) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.push(if is_clean { 0x02 } else { 0x00 });
    body.extend_from_slice(&KEEP_ALIVE_SECONDS.to_be_bytes());
    append_text(&mut body, name);
    whole(0x10, &body)
}

/// A SUBSCRIBE packet (section 3.8).
fn subscribe(topic: &str, quality: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    append_text(&mut body, topic);
    body.push(quality);
    whole(0x82, &body)
}

fn append_text(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// The fixed header (section 2.2), with the length in groups of seven bits, and the body.
fn whole(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let group = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        packet.push(if length == 0 { group } else { group | 0x80 });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

struct Mqtt {
    client: usize,
    message: Vec<u8>,
    /// Offset of the packet identifier in it.
    identifier_at: usize,
    next: u16,
    acknowledged: u16,
}

impl Mqtt {
    fn new(client: usize) -> Self {
        let mut body = Vec::new();
        append_text(&mut body, TOPIC);
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&[b'x'; PAYLOAD_BYTES]);
        let message = whole(0x32, &body);
        let identifier_at = message.len() - PAYLOAD_BYTES - 2;
        Self { client, message, identifier_at, next: 1, acknowledged: 0 }
    }
}

/// Identifiers go round, without zero (section 2.3.1).
fn after(identifier: u16) -> u16 {
    identifier.checked_add(1).unwrap_or(1)
}

impl Protocol for Mqtt {
    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&connect(&format!("c{}", self.client), true));
    }

    fn message(&mut self, out: &mut Vec<u8>) {
        let at = out.len() + self.identifier_at;
        out.extend_from_slice(&self.message);
        out[at..at + 2].copy_from_slice(&self.next.to_be_bytes());
        self.next = after(self.next);
    }

    fn take(
        &mut self,
        plain: &[u8],
        heard: &mut Heard,
        _answer: &mut Vec<u8>,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        while let Some((kind, body, length)) = packet(&plain[taken..])? {
            match (kind, body) {
                (0x20, _) => {
                    check_connack(kind, body)?;
                    heard.is_ready = true;
                }
                (0x40, [high, low]) => {
                    let identifier = u16::from_be_bytes([*high, *low]);
                    if identifier != after(self.acknowledged) {
                        let text = format!("message {identifier} acknowledged after {}", self.acknowledged);
                        return Err(ProtocolError::Unexpected(text));
                    }
                    self.acknowledged = identifier;
                    heard.acks += 1;
                }
                _ => {
                    return Err(ProtocolError::Unexpected(format!(
                        "packet {kind:#x} of {} bytes",
                        body.len()
                    )));
                }
            }
            taken += length;
        }
        Ok(taken)
    }
}

/// A packet: its first byte, its body and how many bytes it takes in all.
type Packet<'a> = (u8, &'a [u8], usize);

/// The first whole packet.
fn packet(bytes: &[u8]) -> Result<Option<Packet<'_>>, ProtocolError> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (index, byte) in rest.iter().enumerate().take(4) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if length > PACKET_BYTES_MAX {
                break;
            }
            let body = rest.get(index + 1..index + 1 + length);
            return Ok(body.map(|body| (*kind, body, 2 + index + length)));
        }
    }
    if rest.len() < 4 && length <= PACKET_BYTES_MAX {
        return Ok(None);
    }
    Err(ProtocolError::Unexpected(format!("packet {kind:#x} of more than {PACKET_BYTES_MAX} bytes")))
}

/// Whether a CONNACK (section 3.2) lets the client in.
fn check_connack(kind: u8, body: &[u8]) -> Result<(), ProtocolError> {
    let reason = match (kind, body) {
        (0x20, [_, 0]) => return Ok(()),
        (0x20, [_, 1]) => "unacceptable protocol version",
        (0x20, [_, 2]) => "client identifier rejected",
        (0x20, [_, 3]) => "server unavailable",
        (0x20, [_, 4]) => "bad user name or password",
        (0x20, [_, 5]) => "not authorized",
        (0x20, _) => "CONNACK with an unknown code",
        _ => return Ok(()),
    };
    Err(ProtocolError::Refused(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::heard_at_every_cut;

    fn link() -> Box<dyn Protocol> {
        Box::new(Mqtt::new(7))
    }

    #[test]
    fn acknowledgements_are_counted_wherever_they_are_cut() {
        let bytes = [0x20, 2, 0, 0, 0x40, 2, 0, 1, 0x40, 2, 0, 2];
        let (heard, _) = heard_at_every_cut(&bytes, link).unwrap();
        assert_eq!(heard, Heard { acks: 2, is_ready: true });
    }

    #[test]
    fn refusals_gaps_and_what_is_no_packet_are_named() {
        let take = |bytes: &[u8]| link().take(bytes, &mut Heard::default(), &mut Vec::new());
        let refused = take(&[0x20, 2, 0, 5]).unwrap_err();
        assert_eq!(refused.to_string(), "the server refused: not authorized");
        for wrong in [&[0x40, 2, 0, 2][..], &[0x40, 1, 0], &[0x30, 0xff, 0xff, 0xff, 0x7f], &[0xd0, 0]] {
            assert!(matches!(take(wrong), Err(ProtocolError::Unexpected(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_message_has_its_identifier_and_identifiers_skip_zero() {
        let mut mqtt = Mqtt::new(7);
        mqtt.next = u16::MAX;
        let mut out = Vec::new();
        mqtt.messages(2, &mut out);
        let (kind, body, length) = packet(&out).unwrap().unwrap();
        assert_eq!((kind, &body[..5]), (0x32, &b"\x00\x01m\xff\xff"[..]));
        let (_, body, _) = packet(&out[length..]).unwrap().unwrap();
        assert_eq!((&body[..5], body.len()), (&b"\x00\x01m\x00\x01"[..], 5 + PAYLOAD_BYTES));
    }

    #[test]
    fn a_length_takes_as_many_groups_as_it_needs() {
        assert_eq!(whole(0x32, &[0; 321])[..3], [0x32, 0xc1, 0x02], "the example of section 2.2.3");
        assert_eq!(packet(&whole(0x32, &[0; 321])).unwrap().unwrap().2, 324);
    }

    #[test]
    fn the_count_is_found_behind_the_answers() {
        let mut bytes = vec![0x20, 2, 0, 0, 0x90, 3, 0, 1, 0];
        bytes.extend_from_slice(&whole(0x31, b"\x00\x02$S1234"));
        assert_eq!(published_in(&bytes).unwrap().as_deref(), Some("1234"));
        assert_eq!(published_in(&bytes[..bytes.len() - 1]).unwrap(), None);
    }
}
