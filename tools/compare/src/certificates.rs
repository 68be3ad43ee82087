//! Certificates of one kind for everybody: an authority, a server and a client. And TLS on the
//! client's side, the same for every server: TLS 1.3, AES-128-GCM, and the same key exchange.

use std::path::Path;
use std::sync::Arc;

use ::muster::reactor::channel::{ExpectedServer, PROTOCOL};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, NamedGroup, version};

use crate::failure::Failure;
use crate::protocol::Tickets;

/// Which key exchange clients offer. The peers' libraries here know no post-quantum one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum KeyExchange {
    /// X25519 alone.
    X25519,
    /// X25519MLKEM768, what muster and its agents prefer.
    Hybrid,
}

/// Which kind of key everybody has: authority, server and clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Keys {
    /// As muster makes them.
    Ed25519,
    /// ECDSA on P-256: libraries are not equally quick in both.
    P256,
}

impl Keys {
    fn draw(self) -> Result<KeyPair, Failure> {
        // RFC 8410 section 7, version 1: OpenSSL 3.0 does not read version 2, which libraries write.
        const ED25519_HEAD: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        match self {
            Self::Ed25519 => {
                let mut seed = [0; 32];
                aws_lc_rs::rand::fill(&mut seed).map_err(Failure::when("draw a key"))?;
                KeyPair::try_from([&ED25519_HEAD[..], &seed].concat())
            }
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        }
        .map_err(Failure::when("draw a key"))
    }
}

/// Makes the files that the peers' configurations name: `ca.pem`, `server.pem`, `server-key.pem`,
/// `client.pem`, `client-key.pem`.
pub(crate) fn write(directory: &Path, keys: Keys) -> Result<(), Failure> {
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).map_err(Failure::when(format_args!("write {name}")))
    };
    let made = |error: rcgen::Error| Failure(format!("can't make a certificate: {error}"));
    let mut parameters = CertificateParams::new(Vec::new()).map_err(made)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.distinguished_name.push(DnType::CommonName, "comparison authority");
    let authority = CertifiedIssuer::self_signed(parameters, keys.draw()?).map_err(made)?;
    write("ca.pem", authority.pem())?;
    let ends =
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)];
    for (name, usage) in ends {
        let key = keys.draw()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut parameters = CertificateParams::new(names).map_err(made)?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        parameters.distinguished_name.push(DnType::CommonName, name);
        let certificate = parameters.signed_by(&key, &authority).map_err(made)?;
        write(&format!("{name}.pem"), certificate.pem())?;
        write(&format!("{name}-key.pem"), key.serialize_pem())?;
    }
    Ok(())
}

/// Identity of a client, and the server that it accepts.
#[derive(Clone)]
pub(crate) struct ClientFiles {
    server: ExpectedServer,
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
    key_exchange: KeyExchange,
    protocol: Option<&'static [u8]>,
}

impl ClientFiles {
    /// From the directory that [`write()`] filled.
    pub(crate) fn read(directory: &Path, key_exchange: KeyExchange) -> Result<Self, Failure> {
        let certificate = |name: &str| {
            let read = CertificateDer::from_pem_file(directory.join(name));
            read.map_err(Failure::when(format_args!("read {name}")))
        };
        let key = PrivateKeyDer::from_pem_file(directory.join("client-key.pem"))
            .map_err(Failure::when("read client-key.pem"))?;
        Ok(Self {
            server: ExpectedServer::of_pins(vec![certificate("server.pem")?.to_vec()]),
            certificate: certificate("client.pem")?,
            key: Arc::new(key),
            key_exchange,
            protocol: None,
        })
    }

    /// From what a device of muster holds: its key (PKCS #8, DER) and certificate, and the server's.
    pub(crate) fn of_device(
        private_key: Vec<u8>,
        certificate: Vec<u8>,
        servers: Vec<Vec<u8>>,
        key_exchange: KeyExchange,
    ) -> Result<Self, Failure> {
        let key = PrivateKeyDer::try_from(private_key).map_err(Failure::when("use a device's key"))?;
        Ok(Self {
            server: ExpectedServer::of_pins(servers),
            certificate: CertificateDer::from(certificate),
            key: Arc::new(key),
            key_exchange,
            protocol: Some(PROTOCOL),
        })
    }

    /// A configuration with these; with [`Tickets::Kept`] it has a store of tickets of its own.
    pub(crate) fn config(&self, tickets: Tickets) -> Result<Arc<ClientConfig>, Failure> {
        let mut config = ClientConfig::builder_with_provider(provider(self.key_exchange))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(Failure::when("speak TLS 1.3"))?
            .dangerous()
            .with_custom_certificate_verifier(self.server.clone().verifier())
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(Failure::when("use the client's certificate"))?;
        config.alpn_protocols = self.protocol.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_sni = false;
        config.resumption = match tickets {
            Tickets::None => Resumption::disabled(),
            Tickets::Kept => Resumption::store(Arc::new(ClientSessionMemoryCache::new(1))),
        };
        Ok(Arc::new(config))
    }
}

/// The same cryptography for every server.
fn provider(key_exchange: KeyExchange) -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let group = match key_exchange {
        KeyExchange::X25519 => NamedGroup::X25519,
        KeyExchange::Hybrid => NamedGroup::X25519MLKEM768,
    };
    provider.kx_groups.retain(|offered| offered.name() == group);
    Arc::new(provider)
}

/// The name that is never sent; it keys the store of tickets.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
}
