//! A device that has enrolled, and its messages.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use muster::reactor::channel::{ClientIdentity, ClientTls, ExpectedServer};
use muster::wire::digest::Digest;
use muster::wire::event::{Event, Severity};
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::inventory::{self, Application};
use muster::wire::message::{
    Enrol, Enrolled, ErrorReport, EventItem, Events, NamedSection, Part, PartContent, Ping, Reach, Sync,
    SyncReason, ToAgent, ToServer,
};
use muster::wire::section::Section;
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

use super::Connection;

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) enrolled: Enrolled,
    /// With the tickets of earlier connections.
    pub(crate) tls: ClientTls,
    key: Vec<u8>,
}

impl Device {
    /// Enrols over the wire.
    pub(crate) fn enrol(
        server: impl Into<SocketAddr>,
        token: &JoinToken,
        name: &str,
    ) -> Result<Self, ErrorReport> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let tls = ClientTls::new(ExpectedServer::Hash(token.server_certificate), None).unwrap();
        let (secret, name) = (token.secret, name.into());
        let enrol = ToServer::Enrol(Enrol { token: token.id, secret, request, name });
        let enrolled = match Connection::open(server, &tls).ask(&enrol).unwrap() {
            ToAgent::Enrolled(enrolled) => *enrolled,
            ToAgent::Error(report) => return Err(report),
            other => panic!("{other:?}"),
        };
        let key = key.serialize_der();
        let tls = tls_of(&enrolled, &key);
        Ok(Self { id: enrolled.device, enrolled, tls, key })
    }

    /// Enrols `kiosk-0` and so on.
    pub(crate) fn enrol_many(server: SocketAddr, token: &JoinToken, count: usize) -> Vec<Self> {
        (0..count).map(|number| Self::enrol(server, token, &format!("kiosk-{number}")).unwrap()).collect()
    }

    pub(crate) fn connect(&self, server: impl Into<SocketAddr>) -> Connection {
        Connection::open(server, &self.tls)
    }

    /// A configuration without tickets.
    pub(crate) fn fresh_tls(&self) -> ClientTls {
        tls_of(&self.enrolled, &self.key)
    }
}

fn tls_of(enrolled: &Enrolled, key: &[u8]) -> ClientTls {
    let identity = ClientIdentity { certificate: &enrolled.certificate, private_key: key };
    ClientTls::new(ExpectedServer::of_pins(enrolled.pins.clone()), Some(identity)).unwrap()
}

fn applications(count: u32) -> Vec<Application> {
    let application = |number| Application {
        name: format!("application-{number}"),
        version: "1.0".into(),
        publisher: "somebody".into(),
    };
    (0..count).map(application).collect()
}

/// The digest that a device of ours names with that many applications.
pub(crate) fn digest_of_inventory(count: u32) -> Digest {
    inventory::digest_of(&applications(count))
}

/// A part of an inventory that has more.
pub(crate) fn part(revision: u64, digest: Digest, index: u32, added: Vec<Application>) -> Part {
    Part {
        section: Section::Inventory,
        revision,
        digest,
        base: None,
        index,
        is_last: false,
        content: PartContent { added, ..PartContent::default() },
    }
}

/// Says which revision of the inventory the device has, and its digest.
pub(crate) fn sync(server_epoch: Epoch, inventory: Option<(u64, Digest)>) -> Sync {
    let section = |(revision, digest)| NamedSection {
        section: Section::Inventory.number(),
        digest,
        revision,
        confirmed_revision: None,
    };
    Sync {
        agent_epoch: Epoch(1),
        server_epoch,
        reason: SyncReason::Started,
        clock: WallTime(1),
        sections: inventory.map(section).into_iter().collect(),
        reach: None,
        identity: None,
    }
}

/// One of the shop.
pub(crate) fn event(severity: Severity, message: impl Into<String>) -> Event {
    Event {
        severity,
        application: "shop".into(),
        kind: "test".into(),
        message: message.into(),
        occurred_at: WallTime(1),
        fields: Vec::new(),
    }
}

impl Connection {
    /// Says something and waits for the answer.
    pub(crate) fn greet(&mut self) {
        assert_eq!(self.ask(&ToServer::Ping(Ping::default())).unwrap(), ToAgent::Pong);
    }

    /// Says where the inventory stands, and reads the answer.
    pub(crate) fn sync(&mut self, applications: u32) -> ToAgent {
        self.sync_as(applications, SyncReason::Started, None)
    }

    /// The same, for a reason, from a device that is reached by datagrams.
    pub(crate) fn sync_as(&mut self, applications: u32, reason: SyncReason, reach: Option<Reach>) -> ToAgent {
        let inventory = (u64::from(applications), digest_of_inventory(applications));
        self.ask(&ToServer::Sync(Sync { reason, reach, ..sync(Epoch(0), Some(inventory)) })).unwrap()
    }

    /// Brings the inventory over, if it is wanted.
    pub(crate) fn sync_inventory(&mut self, count: u32) -> Digest {
        let digest = digest_of_inventory(count);
        match self.sync(count) {
            ToAgent::InSync(_) => return digest,
            ToAgent::Want(_) => {}
            other => panic!("{other:?}"),
        }
        let part = Part { is_last: true, ..part(u64::from(count), digest, 0, applications(count)) };
        let answer = self.ask(&ToServer::Part(Box::new(part))).unwrap();
        assert!(matches!(answer, ToAgent::InSync(_)), "{answer:?}");
        digest
    }

    /// Sends the same event under each of these numbers.
    pub(crate) fn send_copies(&mut self, spool_epoch: Epoch, sequences: RangeInclusive<u64>, event: &Event) {
        let highest = *sequences.end();
        self.send_numbered(spool_epoch, highest, sequences.map(|sequence| (sequence, event.clone())));
    }

    pub(crate) fn send_events(&mut self, spool_epoch: Epoch, sequences: RangeInclusive<u64>) {
        self.send_copies(spool_epoch, sequences, &event(Severity::Info, "an event"));
    }

    /// Sends events with their numbers, of a device that has given out those up to `highest`.
    pub(crate) fn send_numbered(
        &mut self,
        spool_epoch: Epoch,
        highest: u64,
        events: impl Iterator<Item = (u64, Event)>,
    ) {
        let bodies: Vec<_> = events.map(|(sequence, event)| (sequence, event.to_bytes().unwrap())).collect();
        let items = bodies.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
        let (acknowledged, sent_through, begins_again) = (None, None, false);
        let events = Events { spool_epoch, highest, items, acknowledged, sent_through, begins_again };
        self.send(&ToServer::Events(events));
    }

    /// Up to which number events are durable, at least this one; `None`: the server has gone, or has too much
    /// to do.
    pub(crate) fn acknowledged(&mut self, through: u64) -> Option<u64> {
        loop {
            match self.receive() {
                Ok(ToAgent::Ack(ack)) if ack.through >= through => return Some(ack.through),
                Ok(ToAgent::Ack(_)) => {}
                Ok(ToAgent::Later(_)) | Err(_) => return None,
                Ok(other) => panic!("an acknowledgement was due, {other:?} came"),
            }
        }
    }

    pub(crate) fn wait_for_ack(&mut self, through: u64) {
        loop {
            match self.read() {
                ToAgent::Ack(ack) if ack.through >= through => return,
                ToAgent::Ack(_) | ToAgent::Later(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
