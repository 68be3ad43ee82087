//! Handshakes with clients of the library's own, cut in any way, and what becomes of what comes right behind
//! them.

mod hostile;

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, ExtractedSecrets, RootCertStore, version,
};

use super::{CapturedSecrets, Cutter, ServerHandshake};
use crate::reactor::channel::{
    Blame, CertificateStatus, ChannelError, ClientIdentity, ClientTls, ExpectedServer, HandshakeCost,
    Membership, PROTOCOL, ServerTls,
};
use crate::record_layer::{Content, Opened, SlimLink, Suite};
use crate::wire::id::{CertificateHash, DeviceId};

/// Certificate and key, DER.
fn papers(name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = CertificateParams::new(vec![name.into()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().to_vec(), key.serialize_der())
}

struct Only(CertificateHash);

impl Membership for Only {
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus {
        if *certificate == self.0 {
            CertificateStatus::Known(DeviceId(1))
        } else {
            CertificateStatus::Unknown
        }
    }
}

struct Fixture {
    server: ServerTls,
    client: ClientTls,
    /// The server's.
    certificate: Vec<u8>,
    device: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let (server, device) = (papers("muster"), papers("device"));
        let members = Arc::new(Only(CertificateHash::of(&device.0)));
        let identity = ClientIdentity { certificate: &device.0, private_key: &device.1 };
        Self {
            server: ServerTls::new(&server.0, &server.1, members).unwrap(),
            client: ClientTls::new(ExpectedServer::of_pins(vec![server.0.clone()]), Some(identity)).unwrap(),
            certificate: server.0,
            device: device.0,
        }
    }

    /// Configuration of a client that shows no certificate and knows no other suite.
    fn stranger(&self, suite: Suite) -> ClientConfig {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|known| u16::from(known.suite()) == suite.number());
        self.stranger_with(provider)
    }

    /// Configuration of a client that shows no certificate.
    fn stranger_with(&self, provider: CryptoProvider) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate.clone())).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config
    }

    /// A client whose last flight is ready, and the server that waits for it.
    fn before_the_last_flight(&self) -> (ClientConnection, ServerHandshake) {
        let client = ClientConnection::new(self.client.config(), self.client.name()).unwrap();
        self.with(client)
    }

    fn with(&self, mut client: ClientConnection) -> (ClientConnection, ServerHandshake) {
        let mut server = ServerHandshake::new(&self.server).unwrap();
        let hello = sent_by(&mut client);
        let (taken, answer) = read(&mut server, &hello);
        assert_eq!(taken.unwrap(), hello.len());
        assert_eq!(hear(&mut client, &answer).unwrap(), b"");
        assert!(!client.is_handshaking() && !server.is_finished());
        (client, server)
    }
}

/// The server's reading of some bytes, and its answer.
fn read(server: &mut ServerHandshake, bytes: &[u8]) -> (Result<usize, ChannelError>, Vec<u8>) {
    let mut out = Vec::new();
    let taken = server.read(&mut bytes.to_vec(), &mut out);
    (taken, out)
}

fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn hear(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        let ready = client.process_new_packets()?.plaintext_bytes_to_read();
        let start = plain.len();
        plain.resize(start + ready, 0);
        client.reader().read_exact(&mut plain[start..]).unwrap();
    }
    Ok(plain)
}

/// The link's reading of these bytes, which are whole records: the data, and the number of KeyUpdates and
/// close_notify alerts.
fn open(link: &mut SlimLink, bytes: &[u8]) -> (Vec<u8>, usize, usize) {
    let mut input = bytes.to_vec();
    let (mut plain, mut updates, mut close_notifies, mut consumed) = (Vec::new(), 0, 0, 0);
    let mut burst = link.opening_burst();
    while let Opened::Record { bytes, content } = burst.open(&mut input[consumed..]).unwrap() {
        consumed += bytes;
        match content {
            Content::Data(data) => plain.extend_from_slice(data),
            Content::KeyUpdate => updates += 1,
            Content::CloseNotify => close_notifies += 1,
            Content::Nothing | Content::Alert(_) => panic!("{content:?}"),
        }
    }
    assert_eq!(consumed, bytes.len());
    (plain, updates, close_notifies)
}

#[test]
fn a_handshake_becomes_a_link() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.before_the_last_flight();
    let flight = sent_by(&mut client);
    let (taken, mut out) = read(&mut server, &flight);
    assert_eq!(taken.unwrap(), flight.len());
    assert!(server.is_finished());
    assert_eq!(server.peer().certificate.as_deref(), Some(&fixture.device[..]));
    assert_eq!(server.peer().cost, Some(HandshakeCost::Full));
    assert_eq!(server.peer().key_exchange.as_deref(), Some("X25519MLKEM768"));
    let mut link = server.finish(&mut out).unwrap();
    assert_eq!(link.suite(), Suite::Aes128Gcm, "what both ends prefer");
    // The ticket went before our first record.
    assert_eq!(link.sequences(), (0, 1));
    link.sealing_burst().data(b"welcome", &mut out).unwrap();
    assert_eq!(hear(&mut client, &out).unwrap(), b"welcome");
    client.writer().write_all(b"thanks").unwrap();
    assert_eq!(open(&mut link, &sent_by(&mut client)), (b"thanks".to_vec(), 0, 0));
}

#[test]
fn whatever_comes_with_the_end_of_the_handshake_is_the_links() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.before_the_last_flight();
    // In one segment: the last flight, data, a KeyUpdate, data under the new key, another, the close_notify.
    client.writer().write_all(b"first").unwrap();
    client.refresh_traffic_keys().unwrap();
    client.writer().write_all(b" second").unwrap();
    client.refresh_traffic_keys().unwrap();
    client.writer().write_all(b" third").unwrap();
    client.send_close_notify();
    let segment = sent_by(&mut client);
    let (of_handshake, mut out) = read(&mut server, &segment);
    let of_handshake = of_handshake.unwrap();
    assert!(server.is_finished() && of_handshake < segment.len());
    assert_eq!(read(&mut server, &segment[of_handshake..]).0.unwrap(), 0, "not a byte more");
    let mut link = server.finish(&mut out).unwrap();
    assert_eq!(open(&mut link, &segment[of_handshake..]), (b"first second third".to_vec(), 2, 1));
    link.sealing_burst().data(b"answer", &mut out).unwrap();
    assert_eq!(hear(&mut client, &out).unwrap(), b"answer");
}

#[test]
fn a_key_update_right_behind_the_handshake_is_followed() {
    let fixture = Fixture::new();
    let (mut client, mut server) = fixture.before_the_last_flight();
    client.refresh_traffic_keys().unwrap();
    let segment = sent_by(&mut client);
    let (of_handshake, mut out) = read(&mut server, &segment);
    let of_handshake = of_handshake.unwrap();
    let mut link = server.finish(&mut out).unwrap();
    assert_eq!(open(&mut link, &segment[of_handshake..]), (Vec::new(), 1, 0));
    assert!(link.owes_key_update());
    for round in 0..50_u8 {
        link.sealing_burst().data(&[round; 100], &mut out).unwrap();
        assert_eq!(hear(&mut client, &std::mem::take(&mut out)).unwrap(), [round; 100]);
        client.writer().write_all(&[round; 77]).unwrap();
        assert_eq!(open(&mut link, &sent_by(&mut client)).0, [round; 77]);
    }
}

#[test]
fn the_end_of_the_handshake_is_found_wherever_it_is_cut() {
    let fixture = Fixture::new();
    // One byte at a time first, then in two pieces.
    for piece in [1, 2, 3, 5, 7, 64, 400, 1_000, 5_000, 100_000] {
        let (mut client, mut server) = fixture.before_the_last_flight();
        client.writer().write_all(b"data").unwrap();
        let segment = sent_by(&mut client);
        let (mut of_handshake, mut out) = (0, Vec::new());
        for arrived in segment.chunks(piece) {
            let taken = server.read(&mut arrived.to_vec(), &mut out).unwrap();
            of_handshake += taken;
            assert!(taken == arrived.len() || server.is_finished());
        }
        let mut link = server.finish(&mut out).unwrap();
        assert_eq!(open(&mut link, &segment[of_handshake..]).0, b"data", "{piece}");
    }
}

#[test]
fn every_suite_becomes_a_link_in_full_and_resumed() {
    let fixture = Fixture::new();
    for suite in Suite::ALL {
        let config = Arc::new(fixture.stranger(suite));
        for expected in [HandshakeCost::Full, HandshakeCost::Resumed] {
            let name = ServerName::try_from("muster").unwrap();
            let client = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let (mut client, mut server) = fixture.with(client);
            let (taken, mut out) = read(&mut server, &sent_by(&mut client));
            taken.unwrap();
            assert_eq!((server.peer().cost, server.peer().certificate.as_deref()), (Some(expected), None));
            let mut link = server.finish(&mut out).unwrap();
            assert_eq!(link.suite(), suite);
            link.sealing_burst().data(b"hello", &mut out).unwrap();
            assert_eq!(hear(&mut client, &out).unwrap(), b"hello");
        }
    }
}

#[test]
fn a_client_that_guessed_another_key_exchange_becomes_a_link_all_the_same() {
    let fixture = Fixture::new();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::MLKEM1024, kx_group::SECP384R1];
    let name = ServerName::try_from("muster").unwrap();
    let mut client = ClientConnection::new(Arc::new(fixture.stranger_with(provider)), name).unwrap();
    let mut server = ServerHandshake::new(&fixture.server).unwrap();
    let mut said = 0;
    let mut out = Vec::new();
    while !server.is_finished() {
        let hello = sent_by(&mut client);
        assert!(!hello.is_empty(), "it never ends");
        let taken = server.read(&mut hello.clone(), &mut out).unwrap();
        assert_eq!(taken, hello.len());
        hear(&mut client, &std::mem::take(&mut out)).unwrap();
        said += 1;
    }
    assert_eq!(
        (said, server.peer().cost, server.peer().key_exchange.as_deref()),
        (3, Some(HandshakeCost::Full), Some("secp384r1")),
        "a hello, another (HelloRetryRequest, RFC 8446 section 4.1.4), and the last flight"
    );
    let mut link = server.finish(&mut out).unwrap();
    link.sealing_burst().data(b"hello", &mut out).unwrap();
    assert_eq!(hear(&mut client, &out).unwrap(), b"hello");
}

#[test]
fn who_may_not_come_in_is_told_so() {
    let fixture = Fixture::new();
    let (other, key) = papers("stranger");
    let identity = ClientIdentity { certificate: &other, private_key: &key };
    let tls = ClientTls::new(fixture.client.expected().clone(), Some(identity)).unwrap();
    let client = ClientConnection::new(tls.config(), tls.name()).unwrap();
    let (mut client, mut server) = fixture.with(client);
    let (error, out) = read(&mut server, &sent_by(&mut client));
    let error = error.unwrap_err();
    assert_eq!((error.clone(), error.blame()), (ChannelError::ForeignCertificate, Blame::Peer));
    assert_eq!(hear(&mut client, &out), Err(Error::AlertReceived(AlertDescription::UnknownCA)));
}

#[test]
fn who_does_not_name_our_protocol_is_told_so() {
    let fixture = Fixture::new();
    let mut config = (*fixture.client.config()).clone();
    config.alpn_protocols.clear();
    let client = ClientConnection::new(Arc::new(config), fixture.client.name()).unwrap();
    let (mut client, mut server) = fixture.with(client);
    let (_, mut out) = read(&mut server, &sent_by(&mut client));
    assert_eq!(server.finish(&mut out).unwrap_err(), ChannelError::WrongProtocol);
    let told = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(hear(&mut client, &out), Err(told));
}

#[test]
fn a_handshake_that_is_not_finished_becomes_no_link() {
    let fixture = Fixture::new();
    let (_, server) = fixture.before_the_last_flight();
    let error = server.finish(&mut Vec::new()).unwrap_err();
    assert_eq!(error.blame(), Blame::Here, "{error}");
    let mut server = ServerHandshake::new(&fixture.server).unwrap();
    assert_eq!(read(&mut server, b"GET / HTTP/1.1\r\n").0.unwrap_err(), ChannelError::NotTls);
}

#[test]
fn secrets_of_another_handshake_are_noticed() {
    let fixture = Fixture::new();
    let (_, other) = extracted(&fixture);
    let (extracted, right) = extracted(&fixture);
    assert!(right.link(Suite::Aes128Gcm, &extracted).is_ok());
    // Of either direction, of none, and of the wrong one.
    for (client, server) in [
        (&other.client, &right.server),
        (&right.client, &other.server),
        (&right.server, &right.client),
        (&right.client, &CapturedSecrets::default().server),
    ] {
        let mixed = CapturedSecrets { client: client.clone(), server: server.clone() };
        let error = mixed.link(Suite::Aes256Gcm, &extracted).unwrap_err();
        assert_eq!(error.blame(), Blame::Here, "{error}");
    }
}

#[test]
fn handshakes_that_take_turns_on_a_thread_hear_their_own_secrets() {
    let fixture = Fixture::new();
    let pairs = [0; 3].map(|_| fixture.before_the_last_flight());
    // One that fails after its secrets were logged leaves them to nobody.
    let (_, mut broken) = fixture.before_the_last_flight();
    let (error, said) = read(&mut broken, &[&[23, 3, 3, 0, 20][..], &[0; 20]].concat());
    assert!(error.unwrap_err().blame() == Blame::Peer && !said.is_empty());
    for (mut client, mut server) in pairs {
        let (_, mut out) = read(&mut server, &sent_by(&mut client));
        let mut link = server.finish(&mut out).unwrap();
        link.sealing_burst().data(b"yours", &mut out).unwrap();
        assert_eq!(hear(&mut client, &out).unwrap(), b"yours");
    }
}

/// The library's secrets of a handshake of its own, and those that were captured of it.
fn extracted(fixture: &Fixture) -> (ExtractedSecrets, CapturedSecrets) {
    let (mut client, mut server) = fixture.before_the_last_flight();
    read(&mut server, &sent_by(&mut client)).0.unwrap();
    (server.connection.dangerous_into_kernel_connection().unwrap().0, server.captured)
}

#[test]
fn records_are_cut_where_they_end_in_any_pieces() {
    // Of 7, 5, 305 and 6 bytes with their headers.
    let lengths = [2_u16, 0, 300, 1];
    let stream: Vec<u8> = lengths
        .iter()
        .flat_map(|length| {
            let [high, low] = length.to_be_bytes();
            [22, 3, 3, high, low].into_iter().chain(vec![9; usize::from(*length)])
        })
        .collect();
    let mut ends = Vec::new();
    for piece in 1..=stream.len() {
        let (mut cutter, mut at) = (Cutter::default(), 0);
        ends.clear();
        for arrived in stream.chunks(piece) {
            let mut taken = 0;
            while taken < arrived.len() {
                let cut = cutter.cut(&arrived[taken..]);
                assert!(cut > 0);
                taken += cut;
                at += cut;
                if cutter.known == 0 {
                    ends.push(at);
                }
            }
        }
        assert_eq!(ends, [7, 12, 317, 323], "{piece}");
    }
}
