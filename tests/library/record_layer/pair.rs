//! A client of rustls's and a link of ours, connected by two vectors.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use muster::record_layer::{Alert, Content, OpenError, Opened, SlimLink, Start, Suite};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    CipherSuiteCommon, ClientConfig, ClientConnection, ConnectionTrafficSecrets, Error, KeyLog,
    RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite, Tls13CipherSuite, version,
};

/// The traffic secrets of the last handshake: the client's and the server's.
#[derive(Default, Debug)]
struct Logged(Mutex<[Vec<u8>; 2]>);

impl KeyLog for Logged {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let [client, server] = &mut *self.0.lock().unwrap();
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => *client = secret.to_vec(),
            "SERVER_TRAFFIC_SECRET_0" => *server = secret.to_vec(),
            _ => {}
        }
    }
}

/// State that both sides keep between connections.
pub(super) struct Papers {
    suite: Suite,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    logged: Arc<Logged>,
}

impl Papers {
    /// With nothing but this suite on either side.
    pub(super) fn new(suite: Suite) -> Self {
        Self::with(suite, |_| {})
    }

    pub(super) fn with(suite: Suite, change: impl FnOnce(&mut ClientConfig)) -> Self {
        Self::of(suite, provider(suite), change)
    }

    /// With a client that holds its keys for worn after `records` records.
    pub(super) fn with_worn_keys_after(suite: Suite, records: u64) -> Self {
        let mut provider = provider(suite);
        for known in &mut provider.cipher_suites {
            let suite = known.tls13().unwrap();
            let common = CipherSuiteCommon { confidentiality_limit: records, ..suite.common };
            *known = SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite { common, ..*suite })));
        }
        Self::of(suite, provider, |_| {})
    }

    /// Configuration of the server's end of a handshake.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    fn of(suite: Suite, of_client: CryptoProvider, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["muster".into()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(of_client))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        change(&mut client);
        let mut server = ServerConfig::builder_with_provider(Arc::new(provider(suite)))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let logged = Arc::new(Logged::default());
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        server.send_tls13_tickets = 1;
        server.key_log = Arc::clone(&logged) as Arc<dyn KeyLog>;
        server.enable_secret_extraction = true;
        Self { suite, client: Arc::new(client), server: Arc::new(server), logged }
    }
}

pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) link: SlimLink,
    pub(super) to_client: Vec<u8>,
    pub(super) client_heard_close: bool,
    pub(super) link_heard_close: bool,
    pub(super) link_heard_alert: Option<Alert>,
}

impl Pair {
    /// A handshake of rustls with itself, after which the link takes the server's place.
    pub(super) fn connect(papers: &Papers) -> Self {
        let name = ServerName::try_from("muster").unwrap();
        let mut client = ClientConnection::new(Arc::clone(&papers.client), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&papers.server)).unwrap();
        let mut to_client = Vec::new();
        while server.is_handshaking() {
            let mut to_server = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut to_server).unwrap();
            }
            server.read_tls(&mut to_server.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut to_client).unwrap();
            }
            if server.is_handshaking() {
                client.read_tls(&mut to_client.as_slice()).unwrap();
                client.process_new_packets().unwrap();
                to_client.clear();
            }
        }
        // The ticket is still on its way.
        assert!(!to_client.is_empty());
        Self {
            client,
            link: take_over(server, papers),
            to_client,
            client_heard_close: false,
            link_heard_close: false,
            link_heard_alert: None,
        }
    }

    /// The link says something.
    pub(super) fn say(&mut self, data: &[u8]) {
        self.link.sealing_burst().data(data, &mut self.to_client).unwrap();
    }

    pub(super) fn key_update(&mut self, wants_one: bool) {
        self.link.sealing_burst().key_update(wants_one, &mut self.to_client).unwrap();
    }

    pub(super) fn close(&mut self) {
        self.link.sealing_burst().close_notify(&mut self.to_client).unwrap();
    }

    pub(super) fn fail(&mut self, alert: Alert) {
        self.link.sealing_burst().fatal_alert(alert, &mut self.to_client).unwrap();
    }

    pub(super) fn client_says(&mut self, data: &[u8]) {
        self.client.set_buffer_limit(None);
        self.client.writer().write_all(data).unwrap();
    }

    /// All that is on its way to the client arrives: the data that it brings.
    pub(super) fn heard_by_client(&mut self) -> Result<Vec<u8>, Error> {
        let on_its_way = std::mem::take(&mut self.to_client);
        let mut input = on_its_way.as_slice();
        let mut plain = Vec::new();
        while !input.is_empty() {
            self.client.read_tls(&mut input).unwrap();
            let state = self.client.process_new_packets()?;
            self.client_heard_close |= state.peer_has_closed();
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            if plain.len() > start {
                self.client.reader().read_exact(&mut plain[start..]).unwrap();
            }
        }
        Ok(plain)
    }

    pub(super) fn taken_from_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// All that the client has to send arrives at the link, at once.
    pub(super) fn heard_by_link(&mut self) -> Result<Vec<u8>, OpenError> {
        let bytes = self.taken_from_client();
        self.heard_of(&bytes)
    }

    pub(super) fn heard_of(&mut self, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (mut buffer, mut plain) = (bytes.to_vec(), Vec::new());
        let consumed = self.open_all(&mut buffer, &mut plain)?;
        assert_eq!(consumed, bytes.len(), "the client sends whole records");
        Ok(plain)
    }

    /// The same in pieces of `piece` bytes, each opened in bursts of its own.
    pub(super) fn heard_by_link_in_pieces(&mut self, piece: usize) -> Result<Vec<u8>, OpenError> {
        let bytes = self.taken_from_client();
        let (mut buffer, mut plain) = (Vec::new(), Vec::new());
        for arrived in bytes.chunks(piece) {
            buffer.extend_from_slice(arrived);
            let consumed = self.open_all(&mut buffer, &mut plain)?;
            buffer.drain(..consumed);
        }
        assert!(buffer.is_empty(), "the client sends whole records");
        Ok(plain)
    }

    fn open_all(&mut self, buffer: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, OpenError> {
        let mut burst = self.link.opening_burst();
        let mut consumed = 0;
        loop {
            match burst.open(&mut buffer[consumed..])? {
                Opened::NeedMore(_) | Opened::Closed => return Ok(consumed),
                Opened::Record { bytes, content } => {
                    consumed += bytes;
                    match content {
                        Content::Data(data) => plain.extend_from_slice(data),
                        Content::CloseNotify => self.link_heard_close = true,
                        Content::Alert(alert) => self.link_heard_alert = Some(alert),
                        Content::KeyUpdate | Content::Nothing => {}
                    }
                }
            }
        }
    }
}

fn provider(suite: Suite) -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|known| u16::from(known.suite()) == suite.number());
    provider
}

/// The link that the server's end becomes.
pub(super) fn take_over(server: ServerConnection, papers: &Papers) -> SlimLink {
    let extracted = server.dangerous_extract_secrets().unwrap();
    let [client_secret, server_secret] = &*papers.logged.0.lock().unwrap();
    let link = SlimLink::new(
        papers.suite,
        Start { secret: client_secret, sequence: extracted.rx.0 },
        Start { secret: server_secret, sequence: extracted.tx.0 },
    )
    .unwrap();
    let is_ours = |secrets: &ConnectionTrafficSecrets, compare: &dyn Fn(&[u8], &[u8]) -> bool| match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => compare(key.as_ref(), iv.as_ref()),
        _ => false,
    };
    assert!(is_ours(&extracted.rx.1, &|key, iv| link.opens_with(key, iv)));
    assert!(is_ours(&extracted.tx.1, &|key, iv| link.seals_with(key, iv)));
    assert!(!is_ours(&extracted.rx.1, &|key, iv| link.seals_with(key, iv)));
    link
}
