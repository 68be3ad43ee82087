//! muster: a fleet of devices that enrolled beforehand, and say their events as agents do. The
//! acknowledgement means that the event's journal write is synced.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::muster::agent::enroll::{EnrollError, enroll};
use ::muster::agent::identity::{Identity, KeyType};
use ::muster::client::{Address, Client};
use ::muster::wire::api::NewToken;
use ::muster::wire::event::{Event, Severity};
use ::muster::wire::frame;
use ::muster::wire::id::Epoch;
use ::muster::wire::message::{Ack, EventItem, Events, Sync as SyncMessage, SyncReason, ToAgent, ToServer};
use ::muster::wire::time::WallTime;
use ::muster::wire::token::JoinToken;
use parking_lot::RwLock;
use rustls::ClientConfig;

use crate::certificates::{ClientFiles, KeyExchange};
use crate::failure::Failure;
use crate::protocol::{Heard, PAYLOAD_BYTES, Packing, Peer, Protocol, ProtocolError, Tickets};

/// Devices that enrol at a time, in threads: they wait for the server's disk, not for a core.
const ENROLLERS: usize = 16;

/// Time for which one device tries to enrol.
const ENROL_TIMEOUT: Duration = Duration::from_secs(60);

/// A muster server and the devices that belong to it.
pub(crate) struct MusterPeer {
    address: SocketAddr,
    admin: Address,
    key_exchange: KeyExchange,
    devices: RwLock<Vec<Identity>>,
    payload: Arc<[u8]>,
    /// Every link counts its events in a history of its own, later than those before.
    epoch: AtomicU64,
}

impl MusterPeer {
    pub(crate) fn new(
        address: SocketAddr,
        admin: Address,
        key_exchange: KeyExchange,
    ) -> Result<Self, Failure> {
        let payload = payload()?.into();
        Ok(Self {
            address,
            admin,
            key_exchange,
            devices: RwLock::default(),
            payload,
            epoch: AtomicU64::new(1),
        })
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::new(self.admin.clone()).map_err(Failure::when("ask muster's administrators' socket"))
    }

    /// Enrols devices until there are `count`, over the wire, as an agent does.
    fn enrol_up_to(&self, count: usize) -> Result<(), Failure> {
        let first = self.devices.read().len();
        if count <= first {
            return Ok(());
        }
        // One that is hung up on may have spent a use.
        let uses = u32::try_from(2 * (count - first)).map_err(Failure::when("enrol that many devices"))?;
        let new = NewToken { uses: Some(uses), ..NewToken::default() };
        let token = self.client()?.create_token(&new).map_err(Failure::when("make a join token"))?.token;
        let token: JoinToken = token.parse().map_err(Failure::when("read the join token"))?;
        let server = self.address.to_string();
        let next = AtomicUsize::new(first);
        let enrol = || -> Result<Vec<(usize, Identity)>, Failure> {
            let mut mine = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(mine);
                }
                mine.push((number, enrol_one(&server, &token, number)?));
            }
        };
        let mut made = Vec::with_capacity(count - first);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..ENROLLERS).map(|_| scope.spawn(enrol)).collect();
            for thread in threads {
                match thread.join() {
                    Ok(mine) => made.extend(mine?),
                    Err(_) => return Err(Failure("a thread that enrolled devices panicked".into())),
                }
            }
            Ok(())
        })?;
        made.sort_unstable_by_key(|(number, _)| *number);
        self.devices.write().extend(made.into_iter().map(|(_, identity)| identity));
        Ok(())
    }
}

fn enrol_one(server: &str, token: &JoinToken, number: usize) -> Result<Identity, Failure> {
    let address = server.parse().map_err(Failure::when("enrol a device"))?;
    let begun = Instant::now();
    loop {
        match enroll(&address, token, &format!("device-{number}"), KeyType::Ed25519, None, WallTime(1)) {
            Ok(new) => return Ok(new.identity),
            // It has more to do than it can, and says so or hangs up.
            Err(EnrollError::Later(_) | EnrollError::Link { .. }) if begun.elapsed() < ENROL_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(Failure(format!("can't enrol device {number}: {error}"))),
        }
    }
}

/// An event that is as long as a message is.
fn payload() -> Result<Vec<u8>, Failure> {
    for length in 0..PAYLOAD_BYTES {
        let event = Event {
            severity: Severity::Info,
            application: "load".into(),
            kind: "load.message".into(),
            message: "x".repeat(length),
            occurred_at: WallTime(1_795_514_400_000),
            fields: Vec::new(),
        };
        let bytes = event.to_bytes().map_err(Failure::when("make an event"))?;
        if bytes.len() == PAYLOAD_BYTES {
            return Ok(bytes);
        }
    }
    Err(Failure(format!("no event is {PAYLOAD_BYTES} bytes long")))
}

impl Peer for MusterPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn prepare(&self, clients: usize) -> Result<(), Failure> {
        self.enrol_up_to(clients)
    }

    fn tls(&self, client: usize, tickets: Tickets) -> Result<Arc<ClientConfig>, Failure> {
        let devices = self.devices.read();
        let device = devices
            .get(client)
            .ok_or_else(|| Failure(format!("device {client} was not enrolled before its link was opened")))?;
        let files = ClientFiles::of_device(
            device.private_key.clone(),
            device.certificate.clone(),
            device.pins.clone(),
            self.key_exchange,
        );
        files?.config(tickets)
    }

    fn protocol(&self, _client: usize, packing: Packing) -> Box<dyn Protocol> {
        let epoch = Epoch(self.epoch.fetch_add(1, Ordering::Relaxed));
        Box::new(MusterLink { epoch, sent: 0, acknowledged: 0, packing, payload: Arc::clone(&self.payload) })
    }

    fn packs(&self) -> bool {
        true
    }

    fn stored(&self) -> Result<Option<u64>, Failure> {
        let status = self.client()?.status().map_err(Failure::when("ask muster for its status"))?;
        Ok(Some(status.events.stored))
    }
}

/// One link of a device.
struct MusterLink {
    epoch: Epoch,
    sent: u64,
    acknowledged: u64,
    packing: Packing,
    payload: Arc<[u8]>,
}

impl MusterLink {
    /// One frame with the next `count` events.
    fn frame(&mut self, count: u64, out: &mut Vec<u8>) {
        let first = self.sent + 1;
        self.sent += count;
        let items = (first..=self.sent).map(|sequence| EventItem { sequence, body: &self.payload }).collect();
        ToServer::Events(Events {
            spool_epoch: self.epoch,
            highest: self.sent,
            items,
            acknowledged: None,
            sent_through: None,
            begins_again: false,
        })
        .write_to(out);
    }
}

impl Protocol for MusterLink {
    fn hello(&mut self, out: &mut Vec<u8>) {
        let sync = SyncMessage {
            agent_epoch: Epoch(1),
            server_epoch: Epoch(0),
            reason: SyncReason::Started,
            clock: WallTime(1),
            sections: Vec::new(),
            reach: None,
            identity: None,
        };
        ToServer::Sync(sync).write_to(out);
    }

    fn message(&mut self, out: &mut Vec<u8>) {
        self.frame(1, out);
    }

    fn messages(&mut self, count: usize, out: &mut Vec<u8>) {
        match self.packing {
            Packing::Together => self.frame(count as u64, out),
            Packing::Each => (0..count).for_each(|_| self.frame(1, out)),
        }
    }

    fn take(
        &mut self,
        plain: &[u8],
        heard: &mut Heard,
        _answer: &mut Vec<u8>,
    ) -> Result<usize, ProtocolError> {
        let mut taken = 0;
        let unexpected = |error: &dyn std::fmt::Display| ProtocolError::Unexpected(error.to_string());
        while let Some((body, length)) = frame::split(&plain[taken..]).map_err(|error| unexpected(&error))? {
            match ToAgent::from_body(body).map_err(|error| unexpected(&error))? {
                ToAgent::Ack(Ack { spool_epoch, through }) if spool_epoch == self.epoch => {
                    if through > self.sent {
                        let text = format!("event {through} was acknowledged, {} were sent", self.sent);
                        return Err(ProtocolError::Unexpected(text));
                    }
                    heard.acks += through.saturating_sub(self.acknowledged);
                    self.acknowledged = self.acknowledged.max(through);
                }
                ToAgent::InSync(_) => heard.is_ready = true,
                ToAgent::Later(later) => return Err(ProtocolError::PutOff { seconds: later.seconds }),
                ToAgent::Error(report) => return Err(ProtocolError::Refused(report.message)),
                ToAgent::SyncNow(_) | ToAgent::Pong => {}
                other => return Err(ProtocolError::Unexpected(format!("{other:?}"))),
            }
            taken += length;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use ::muster::wire::message::{ErrorCode, ErrorReport, InSync, Later};

    use super::*;
    use crate::protocol::tests::heard_at_every_cut;

    fn link() -> MusterLink {
        let payload = payload().unwrap().into();
        MusterLink { epoch: Epoch(3), sent: 9, acknowledged: 0, packing: Packing::Each, payload }
    }

    fn bytes(messages: &[ToAgent]) -> Vec<u8> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| message.write_to(&mut bytes));
        bytes
    }

    fn ack(epoch: u64, through: u64) -> ToAgent {
        ToAgent::Ack(Ack { spool_epoch: Epoch(epoch), through })
    }

    #[test]
    fn acknowledgements_count_what_is_new_wherever_they_are_cut() {
        let in_sync = InSync {
            server_epoch: Epoch(1),
            next_seconds: 900,
            interval_seconds: 900,
            keep_seconds: None,
            notice_port: None,
            notice_counter: None,
            reconnect_seconds: None,
        };
        let bytes = bytes(&[ToAgent::InSync(in_sync), ack(3, 4), ack(3, 9)]);
        let (heard, _) = heard_at_every_cut(&bytes, || Box::new(link())).unwrap();
        assert_eq!(heard, Heard { acks: 9, is_ready: true });
    }

    #[test]
    fn what_was_not_sent_is_not_acknowledged_and_refusals_are_named() {
        let take = |message| link().take(&bytes(&[message]), &mut Heard::default(), &mut Vec::new());
        assert!(matches!(take(ack(3, 10)), Err(ProtocolError::Unexpected(_))));
        assert!(matches!(take(ack(2, 4)), Err(ProtocolError::Unexpected(_))), "of another history");
        let later = take(ToAgent::Later(Later::with_all(5)));
        assert_eq!(later, Err(ProtocolError::PutOff { seconds: 5 }));
        let report = ErrorReport { code: ErrorCode::Superseded, message: "another link".into() };
        let refused = take(ToAgent::Error(report)).unwrap_err();
        assert_eq!(refused.to_string(), "the server refused: another link");
        assert!(link().take(&[0xff; 8], &mut Heard::default(), &mut Vec::new()).is_err());
    }

    #[test]
    fn events_have_the_size_of_a_message_and_go_each_or_together() {
        let (mut each, mut together) = (Vec::new(), Vec::new());
        link().messages(3, &mut each);
        MusterLink { packing: Packing::Together, ..link() }.messages(3, &mut together);
        let frames = |mut bytes: &[u8]| {
            let mut sequences = Vec::new();
            while let Some((body, length)) = frame::split(bytes).unwrap() {
                let ToServer::Events(events) = ToServer::from_body(body).unwrap() else {
                    panic!("no events")
                };
                assert!(events.items.iter().all(|item| item.body.len() == PAYLOAD_BYTES));
                sequences.push(events.items.iter().map(|item| item.sequence).collect::<Vec<_>>());
                bytes = &bytes[length..];
            }
            sequences
        };
        assert_eq!(frames(&each), [[10], [11], [12]]);
        assert_eq!(frames(&together), [[10, 11, 12]]);
    }
}
