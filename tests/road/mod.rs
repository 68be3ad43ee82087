//! A server in this process, and a small device that speaks the wire to it.

use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use muster::reactor::channel::{
    Channel, ChannelError, ClientIdentity, ClientTls, ExpectedServer, ReadOutcome,
};
use muster::server::Server;
use muster::server::config::Config;
use muster::store::NewToken;
use muster::wire::digest::Digest;
use muster::wire::event::{Event, Severity};
use muster::wire::frame;
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::inventory::{self, Application};
use muster::wire::message::{
    Enrol, Enrolled, ErrorReport, EventItem, Events, NamedSection, Part, PartContent, Reach, Sync,
    SyncReason, ToAgent, ToServer,
};
use muster::wire::section::Section;
use muster::wire::time::WallTime;
use muster::wire::token::JoinToken;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

/// How long anything may take before a test gives up. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many silent connections this process may open: 5,000, or fewer where descriptors are short.
pub(crate) fn silent_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(20_000);
    // Both ends are in this process.
    let possible = usize::try_from(limit.saturating_sub(500) / 2).unwrap();
    if possible < 5_000 {
        println!("only {possible} of 5,000 silent connections: needs 'ulimit -n 10500'");
    }
    possible.min(5_000)
}

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) directory: tempfile::TempDir,
    config: Config,
}

impl House {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::in_directory(directory.path());
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.journal.segment_bytes = 1 << 20;
        config.journal.retention_bytes = 64 << 20;
        change(&mut config);
        Self { server: Server::start(config.clone()).unwrap(), directory, config }
    }

    /// Drains the server and starts another on the same directory.
    pub(crate) fn restart(&mut self) {
        let placeholder = tempfile::tempdir().unwrap();
        let mut other = Config::in_directory(placeholder.path());
        other.listen = self.config.listen;
        other.journal.segment_bytes = 1 << 20;
        other.journal.retention_bytes = 64 << 20;
        let old = std::mem::replace(&mut self.server, Server::start(other).unwrap());
        old.drain().unwrap();
        let other = std::mem::replace(&mut self.server, Server::start(self.config.clone()).unwrap());
        other.drain().unwrap();
    }

    /// Where devices connect to; with all addresses listened on, over IPv4.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.server.addresses()[0];
        if address.ip().is_unspecified() { ([127, 0, 0, 1], address.port()).into() } else { address }
    }

    pub(crate) fn token(&self, uses_max: u32) -> JoinToken {
        let new = NewToken {
            group: "/".into(),
            created_at: WallTime(1),
            expires_at: WallTime(u64::MAX >> 2),
            uses_max,
        };
        let created = self.server.store().create_token(new).unwrap();
        JoinToken {
            id: created.token.id,
            secret: created.secret,
            server_certificate: self.server.certificate(),
        }
    }

    pub(crate) fn enrol(&self, name: &str) -> Device {
        self.try_enrol(&self.token(1), name).unwrap()
    }

    pub(crate) fn try_enrol(&self, token: &JoinToken, name: &str) -> Result<Device, ErrorReport> {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let tls = ClientTls::new(ExpectedServer::Hash(token.server_certificate), None).unwrap();
        let mut wire = Wire::connect(self, &tls);
        wire.send(&ToServer::Enrol(Enrol {
            token: token.id,
            secret: token.secret,
            request,
            name: name.into(),
        }));
        let enrolled = match wire.read() {
            ToAgent::Enrolled(enrolled) => *enrolled,
            ToAgent::Error(report) => return Err(report),
            other => panic!("{other:?}"),
        };
        let key = key.serialize_der();
        let tls = tls_of(&enrolled, &key);
        Ok(Device { id: enrolled.device, enrolled, key, tls })
    }
}

/// The digest that a device of ours names with so many applications.
pub(crate) fn digest_of_inventory(count: u32) -> Digest {
    inventory::digest_of(&Device::inventory(count))
}

fn tls_of(enrolled: &Enrolled, key: &[u8]) -> ClientTls {
    let identity = ClientIdentity { certificate: &enrolled.certificate, private_key: key };
    ClientTls::new(ExpectedServer::Pins(enrolled.pins.clone()), Some(identity)).unwrap()
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) enrolled: Enrolled,
    key: Vec<u8>,
    tls: ClientTls,
}

impl Device {
    /// With the tickets of earlier connections.
    pub(crate) fn connect(&self, house: &House) -> Wire {
        Wire::connect(house, &self.tls)
    }

    /// A configuration without tickets.
    pub(crate) fn fresh_tls(&self) -> ClientTls {
        tls_of(&self.enrolled, &self.key)
    }

    fn inventory(count: u32) -> Vec<Application> {
        let application = |number| Application {
            name: format!("application-{number}"),
            version: "1.0".into(),
            publisher: "somebody".into(),
        };
        (0..count).map(application).collect()
    }
}

pub(crate) struct Wire {
    pub(crate) channel: Channel,
    pub(crate) plain_bytes: usize,
    socket: TcpStream,
    inbox: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(house: &House, tls: &ClientTls) -> Self {
        let socket = TcpStream::connect(house.address()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { channel: Channel::client(tls).unwrap(), plain_bytes: 0, socket, inbox: Vec::new() }
    }

    /// Reads until the server has proved who it is.
    pub(crate) fn shake_hands(&mut self) {
        while self.channel.handshake_cost().is_none() {
            self.fill().unwrap();
        }
    }

    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.plain_bytes += bytes.len();
        self.channel.write_plain(bytes)?;
        self.channel.flush_to(&mut self.socket).map(drop)
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap();
    }

    pub(crate) fn send(&mut self, message: &ToServer<'_>) {
        self.try_send(message).unwrap();
    }

    pub(crate) fn try_send(&mut self, message: &ToServer<'_>) -> Result<(), ChannelError> {
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        self.try_send_raw(&bytes)
    }

    /// Reads once from the socket.
    fn fill(&mut self) -> Result<(), ChannelError> {
        self.channel.flush_to(&mut self.socket)?;
        let mut once = Once { socket: &mut self.socket, read: false };
        let before = self.inbox.len();
        let outcome = self.channel.read_from(&mut once, &mut self.inbox)?;
        self.plain_bytes += self.inbox.len() - before;
        self.channel.flush_to(&mut self.socket)?;
        match outcome {
            ReadOutcome::Closed if self.inbox.is_empty() => Err(ChannelError::Truncated),
            _ => Ok(()),
        }
    }

    fn try_read(&mut self) -> Result<ToAgent, ChannelError> {
        loop {
            if let Some((body, length)) = frame::split(&self.inbox).unwrap() {
                let message = ToAgent::from_body(body).unwrap();
                self.inbox.drain(..length);
                return Ok(message);
            }
            self.fill()?;
        }
    }

    pub(crate) fn read(&mut self) -> ToAgent {
        self.try_read().unwrap()
    }

    /// The next error that the server reports.
    pub(crate) fn read_error(&mut self) -> ErrorReport {
        loop {
            if let ToAgent::Error(report) = self.read() {
                return report;
            }
        }
    }

    pub(crate) fn read_until_error(&mut self) -> ChannelError {
        loop {
            if let Err(error) = self.try_read() {
                // The alert that says so.
                let _ = self.channel.flush_to(&mut self.socket);
                return error;
            }
        }
    }

    /// Says where the inventory stands, and reads the answer.
    pub(crate) fn sync(&mut self, device: &Device, count: u32) -> ToAgent {
        self.sync_as(device, count, SyncReason::Started, None)
    }

    /// The same, for a reason, from a device that is reached by datagrams.
    pub(crate) fn sync_as(
        &mut self,
        device: &Device,
        count: u32,
        reason: SyncReason,
        reach: Option<Reach>,
    ) -> ToAgent {
        let _ = device;
        let digest = digest_of_inventory(count);
        let section = NamedSection {
            section: Section::Inventory.number(),
            digest,
            revision: u64::from(count),
            confirmed_revision: None,
        };
        self.send(&ToServer::Sync(Sync {
            agent_epoch: Epoch(1),
            server_epoch: Epoch(0),
            reason,
            clock: WallTime(1),
            sections: vec![section],
            reach,
        }));
        self.read()
    }

    /// Brings the inventory over, if it is wanted.
    pub(crate) fn sync_inventory(&mut self, device: &Device, count: u32) -> Digest {
        let added = Device::inventory(count);
        let digest = inventory::digest_of(&added);
        match self.sync(device, count) {
            ToAgent::InSync(_) => return digest,
            ToAgent::Want(_) => {}
            other => panic!("{other:?}"),
        }
        self.send(&ToServer::Part(Box::new(Part {
            section: Section::Inventory,
            revision: u64::from(count),
            digest,
            base: None,
            index: 0,
            is_last: true,
            content: PartContent { added, ..PartContent::default() },
        })));
        let answer = self.read();
        assert!(matches!(answer, ToAgent::InSync(_)), "{answer:?}");
        digest
    }

    pub(crate) fn send_events(&mut self, spool_epoch: Epoch, sequences: RangeInclusive<u64>) {
        let highest = *sequences.end();
        let event = |sequence: u64| Event {
            severity: Severity::Info,
            application: "shop".into(),
            kind: "test".into(),
            message: format!("event {sequence}"),
            occurred_at: WallTime(sequence),
            fields: Vec::new(),
        };
        let bodies: Vec<_> =
            sequences.map(|sequence| (sequence, event(sequence).to_bytes().unwrap())).collect();
        let items = bodies.iter().map(|(sequence, body)| EventItem { sequence: *sequence, body }).collect();
        self.send(&ToServer::Events(Events {
            spool_epoch,
            highest,
            items,
            acknowledged: None,
            sent_through: None,
            begins_again: false,
        }));
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

    /// Says something and goes, all in one.
    pub(crate) fn leave_with(mut self, message: &ToServer<'_>) {
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        self.channel.write_plain(&bytes).unwrap();
        self.leave();
    }

    pub(crate) fn leave(mut self) {
        self.channel.close_notify();
        // The server may have hung up first.
        let _ = self.channel.flush_to(&mut self.socket);
    }
}

/// A blocking socket, of which each call reads once: then it says that there is no more for now.
struct Once<'a> {
    socket: &'a mut TcpStream,
    read: bool,
}

impl std::io::Read for Once<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if std::mem::replace(&mut self.read, true) {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        match self.socket.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server says nothing"))
            }
            other => other,
        }
    }
}
