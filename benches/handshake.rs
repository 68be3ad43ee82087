//! Cost of a handshake through our channel, beside the bare TLS library with the same suites and keys and its
//! own chain verification, and the memory of an established link. Both ends run in one thread, so that each
//! figure is client and server together.
#![expect(clippy::unwrap_used, reason = "a bench that can't set its peers up has nothing to measure")]

use std::io::{self, Read, Write};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use muster::reactor::channel::{
    CertificateStatus, Channel, ClientIdentity, ClientTls, ExpectedServer, HandshakeCost, Membership,
    ServerChannel, ServerTls,
};
use muster::server::identity::{Identity, Wanted};
use muster::wire::id::{CertificateHash, DeviceId};
use muster::wire::message::{Renew, Renewed, ToAgent, ToServer};
use muster::wire::time::WallTime;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, version,
};

/// Links that are held while their memory is measured.
const LINKS_HELD: usize = 2_000;

/// Certificates and keys of both sides, under one authority.
struct Papers {
    authority: Vec<u8>,
    server: (Vec<u8>, Vec<u8>),
    device: (Vec<u8>, Vec<u8>),
}

impl Papers {
    fn new() -> Self {
        let key = || KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key()).unwrap();
        let signed = |name: &str| {
            let key = key();
            let certificate =
                CertificateParams::new(vec![name.into()]).unwrap().signed_by(&key, &authority).unwrap();
            (certificate.der().to_vec(), key.serialize_der())
        };
        Self { server: signed("muster"), device: signed("device"), authority: authority.der().to_vec() }
    }
}

struct Everybody;

impl Membership for Everybody {
    fn certificate_status(&self, _: &CertificateHash) -> CertificateStatus {
        CertificateStatus::Known(DeviceId(1))
    }
}

/// One direction of a connection, in memory. Empty is "not now", as on a socket that does not block.
#[derive(Default)]
struct Pipe(Vec<u8>);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Ours {
    server: ServerTls,
    papers: Papers,
}

impl Ours {
    fn new() -> Self {
        let papers = Papers::new();
        let server = ServerTls::new(&papers.server.0, &papers.server.1, Arc::new(Everybody)).unwrap();
        Self { server, papers }
    }

    fn client(&self) -> ClientTls {
        let identity =
            ClientIdentity { certificate: &self.papers.device.0, private_key: &self.papers.device.1 };
        ClientTls::new(ExpectedServer::of_pins(vec![self.papers.server.0.clone()]), Some(identity)).unwrap()
    }

    /// A handshake, and the ticket brought over.
    fn connect(&self, tls: &ClientTls) -> (Channel, ServerChannel, Option<HandshakeCost>) {
        let (mut client, mut server) =
            (Channel::client(tls).unwrap(), ServerChannel::new(&self.server).unwrap());
        let (mut up, mut down, mut plain) = (Pipe::default(), Pipe::default(), Vec::new());
        while client.wants_write() || server.wants_write() {
            client.flush_to(&mut up).unwrap();
            server.read_from(&mut up, &mut plain).unwrap();
            server.flush_to(&mut down).unwrap();
            client.read_from(&mut down, &mut plain).unwrap();
        }
        let peer = server.take_peer().unwrap();
        assert!(!server.is_handshaking() && peer.certificate.is_some());
        (client, server, peer.cost)
    }

    /// A server's end that has answered a hello, all of which has left.
    fn half(&self, tls: &ClientTls) -> ServerChannel {
        let (mut client, mut server) =
            (Channel::client(tls).unwrap(), ServerChannel::new(&self.server).unwrap());
        let (mut up, mut down) = (Pipe::default(), Pipe::default());
        client.flush_to(&mut up).unwrap();
        server.read_from(&mut up, &mut Vec::new()).unwrap();
        server.flush_to(&mut down).unwrap();
        assert!(server.is_handshaking() && !down.0.is_empty());
        server
    }
}

struct Bare {
    server: Arc<ServerConfig>,
    papers: Papers,
}

impl Bare {
    fn new() -> Self {
        let papers = Papers::new();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots(&papers))).build().unwrap();
        let (certificate, key) = material(&papers.server);
        let mut server = ServerConfig::builder_with_protocol_versions(&[&version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        server.send_tls13_tickets = 1;
        Self { server: Arc::new(server), papers }
    }

    fn client(&self) -> Arc<ClientConfig> {
        let (certificate, key) = material(&self.papers.device);
        let client = ClientConfig::builder_with_protocol_versions(&[&version::TLS13])
            .with_root_certificates(roots(&self.papers))
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        Arc::new(client)
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> (ClientConnection, ServerConnection) {
        let name = ServerName::try_from("muster").unwrap();
        let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        let (mut up, mut down) = (Pipe::default(), Pipe::default());
        while client.wants_write() || server.wants_write() {
            while client.wants_write() {
                client.write_tls(&mut up).unwrap();
            }
            while server.read_tls(&mut up).is_ok() {
                server.process_new_packets().unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut down).unwrap();
            }
            while client.read_tls(&mut down).is_ok() {
                client.process_new_packets().unwrap();
            }
        }
        assert!(!server.is_handshaking());
        (client, server)
    }
}

fn roots(papers: &Papers) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(papers.authority.clone())).unwrap();
    roots
}

fn material((certificate, key): &(Vec<u8>, Vec<u8>)) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    (CertificateDer::from(certificate.clone()), PrivateKeyDer::try_from(key.clone()).unwrap())
}

fn handshakes(criterion: &mut Criterion) {
    let (ours, bare) = (Ours::new(), Bare::new());
    // First: what others have freed would be taken again, and count as nothing.
    let tls = ours.client();
    print_bytes_each("link", || ours.connect(&tls).1);
    print_bytes_each("handshake that waits for the device's last flight", || ours.half(&tls));
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("full/channel", |bencher| {
        bencher.iter_batched(|| ours.client(), |tls| ours.connect(&tls), criterion::BatchSize::SmallInput);
    });
    group.bench_function("full/bare", |bencher| {
        bencher.iter_batched(
            || bare.client(),
            |config| bare.connect(&config),
            criterion::BatchSize::SmallInput,
        );
    });
    ours.connect(&tls);
    group.bench_function("resumed/channel", |bencher| bencher.iter(|| ours.connect(&tls)));
    assert_eq!(ours.connect(&tls).2, Some(HandshakeCost::Resumed));
    let config = bare.client();
    bare.connect(&config);
    group.bench_function("resumed/bare", |bencher| bencher.iter(|| bare.connect(&config)));
    assert_eq!(bare.connect(&config).1.handshake_kind(), Some(HandshakeKind::Resumed));
    group.finish();
}

/// The server's work for a renewal, beside the full handshake that follows it, and the bytes of both ways.
fn renewals(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let now = WallTime(1_795_514_400_000);
    let identity = Identity::open_or_create(&directory.path().join("identity"), &[], now).unwrap();
    let wanted = Wanted { device: DeviceId(7), counter: 2, life_milliseconds: 86_400_000 };
    let mut group = criterion.benchmark_group("renewal");
    for (name, algorithm) in [("ed25519", &PKCS_ED25519), ("p256", &PKCS_ECDSA_P256_SHA256)] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let certificate = identity.issue(&request, wanted, now).unwrap().der;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        ToServer::Renew(Renew { request: request.clone() }).write_to(&mut up);
        ToAgent::RenewNow.write_to(&mut down);
        ToAgent::Renewed(Renewed { certificate }).write_to(&mut down);
        println!("bytes of a renewal ({name}): {} up, {} down", up.len(), down.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| identity.issue(&request, wanted, now).unwrap());
        });
    }
    group.finish();
}

/// Memory of the server's ends alone: each client is gone before the next comes.
fn print_bytes_each(what: &str, mut make: impl FnMut() -> ServerChannel) {
    // One-time costs of the first are not theirs.
    drop(make());
    let Some(before) = resident_bytes() else {
        return println!("bytes per {what}: skipped: needs /proc/self/statm");
    };
    let held: Vec<ServerChannel> = std::iter::repeat_with(&mut make).take(LINKS_HELD).collect();
    let grown = resident_bytes().unwrap_or(before).saturating_sub(before);
    println!("bytes per {what} (server's channel, {LINKS_HELD} held): {}", grown / held.len());
}

fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

criterion_group!(benches, handshakes, renewals);
criterion_main!(benches);
