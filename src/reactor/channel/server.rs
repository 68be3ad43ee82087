//! The server's side of TLS: its certificate, its tickets, and who may come in.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};

use super::error::ChannelError;
use super::handover::SecretCapture;
use super::{PROTOCOL, TicketKeys, signature};
use crate::machine::device_state::CertificateStatus;
use crate::wire::id::CertificateHash;

/// Tickets given out with each handshake: a device has one connection, and each handshake brings it a new
/// ticket.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// Looks certificates up. Being in the table is the only authority: no chain is built and no clock is asked,
/// so that an expired certificate is never an outage.
pub trait Membership: Send + Sync {
    /// Returns the status of this certificate. Called on a reactor thread: it must not wait for a disk.
    fn certificate_status(&self, certificate: &CertificateHash) -> CertificateStatus;

    /// Whether this server has issued a certificate (DER) that nobody here has seen.
    fn has_issued(&self, certificate: &[u8]) -> bool {
        let _ = certificate;
        false
    }
}

/// Everything that the server's end of a channel needs. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

/// The server's end of administrators' connections: shows a certificate of its own, speaks HTTP, and asks
/// nobody for one.
#[cfg(feature = "server")]
#[derive(Clone, Debug)]
pub struct AdminTls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    to_browsers: Arc<CertifiedKey>,
}

#[cfg(feature = "server")]
impl AdminTls {
    /// The library's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// As [`ServerTls::show`], to administrators.
    ///
    /// # Errors
    /// The same.
    pub fn show(&self, chain: Vec<Vec<u8>>, private_key: &[u8]) -> Result<(), ChannelError> {
        *self.shown.0.write() = certified(chain, private_key)?;
        Ok(())
    }

    /// SHA-256 of the certificate that browsers are shown while the other is one of Ed25519.
    #[must_use]
    pub fn to_browsers(&self) -> CertificateHash {
        CertificateHash::of(first(&self.to_browsers))
    }

    /// The certificates that are shown, DER: to most, and to those who can't read the signatures of its key.
    #[must_use]
    pub fn certificates(&self) -> [Vec<u8>; 2] {
        [first(&self.shown.0.read()), first(&self.to_browsers)].map(<[u8]>::to_vec)
    }
}

/// The certificate that the server shows, until another takes its place.
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

/// The same, or the other to those who can't read the signatures of its key.
#[cfg(feature = "server")]
#[derive(Debug)]
struct ShownToAdministrators {
    shown: Arc<Shown>,
    to_browsers: Arc<CertifiedKey>,
}

#[cfg(feature = "server")]
impl ResolvesServerCert for ShownToAdministrators {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.0.read().clone();
        let is_read = shown.key.choose_scheme(client_hello.signature_schemes()).is_some();
        Some(if is_read { shown } else { self.to_browsers.clone() })
    }
}

/// The certificate itself, without what vouches for it.
#[cfg(feature = "server")]
fn first(certified: &CertifiedKey) -> &[u8] {
    certified.cert.first().map_or(&[], |certificate| certificate)
}

fn certified(chain: Vec<Vec<u8>>, private_key: &[u8]) -> Result<Arc<CertifiedKey>, ChannelError> {
    let key = PrivateKeyDer::try_from(private_key.to_vec())
        .map_err(|error| ChannelError::Configuration(error.to_owned()))?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    CertifiedKey::from_der(chain, key, &signature::provider())
        .map(Arc::new)
        .map_err(|error| ChannelError::Configuration(error.to_string()))
}

impl ServerTls {
    /// From the server's certificate (DER) and private key (PKCS #8, RFC 5958, DER). Tickets are encrypted
    /// with a key that is drawn here, rotated every six hours, and never leaves this process; see
    /// [`ServerTls::with_tickets`].
    ///
    /// # Errors
    /// When certificate and key can't be used.
    pub fn new(
        certificate: &[u8],
        private_key: &[u8],
        members: Arc<dyn Membership>,
    ) -> Result<Self, ChannelError> {
        let unusable = |error: Error| ChannelError::Configuration(error.to_string());
        let shown = Arc::new(Shown(RwLock::new(certified(vec![certificate.to_vec()], private_key)?)));
        let mut config = ServerConfig::builder_with_provider(signature::provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(MemberVerifier { members }))
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Links are many here and few there: the server's order counts.
        config.ignore_client_order = true;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(unusable)?;
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        // A link that does without the library needs them.
        config.key_log = Arc::new(SecretCapture);
        config.enable_secret_extraction = true;
        Ok(Self { config: Arc::new(config), shown })
    }

    /// Shows these certificates (DER, the server's own first) from the next handshake on, here and in all
    /// clones. Sessions and tickets go on.
    ///
    /// # Errors
    /// When they can't be used, or the private key is not that of the first.
    pub fn show(&self, chain: Vec<Vec<u8>>, private_key: &[u8]) -> Result<(), ChannelError> {
        *self.shown.0.write() = certified(chain, private_key)?;
        Ok(())
    }

    /// With tickets that are sealed with these keys, and are good as long as those are there: after a
    /// restart, too.
    #[must_use]
    pub fn with_tickets(self, keys: TicketKeys) -> Self {
        let mut config = (*self.config).clone();
        config.ticketer = Arc::new(keys);
        Self { config: Arc::new(config), shown: self.shown }
    }

    /// For administrators. They are shown the same until another certificate is shown to them; those who
    /// can't read its signatures, which are browsers, the certificate `of_browsers` (DER) with this private
    /// key (PKCS #8, DER).
    ///
    /// # Errors
    /// When the library can't be set up, or certificate and key can't be used.
    #[cfg(feature = "server")]
    pub fn of_administrators(
        &self,
        of_browsers: Vec<u8>,
        private_key: &[u8],
    ) -> Result<AdminTls, ChannelError> {
        let to_browsers = certified(vec![of_browsers], private_key)?;
        let shown = Arc::new(Shown(RwLock::new(self.shown.0.read().clone())));
        let mut config = ServerConfig::builder_with_provider(signature::provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| ChannelError::Configuration(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ShownToAdministrators {
                shown: shown.clone(),
                to_browsers: to_browsers.clone(),
            }));
        config.alpn_protocols = vec![super::HTTP_2.to_vec(), super::HTTP.to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(AdminTls { config: Arc::new(config), shown, to_browsers })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// Lets in a peer that is in the table, and one that shows no certificate at all: that one may only enrol.
struct MemberVerifier {
    members: Arc<dyn Membership>,
}

impl fmt::Debug for MemberVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberVerifier")
    }
}

impl ClientCertVerifier for MemberVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // The errors become the alerts certificate_revoked and unknown_ca (RFC 8446 section 6.2).
        match self.members.certificate_status(&CertificateHash::of(end_entity)) {
            CertificateStatus::Removed(_) => Err(Error::InvalidCertificate(CertificateError::Revoked)),
            // Those that are not let in are told why once they have shown that the key is theirs.
            CertificateStatus::Known(_)
            | CertificateStatus::Waiting(_)
            | CertificateStatus::Superseded(_) => Ok(ClientCertVerified::assertion()),
            CertificateStatus::Unknown if self.members.has_issued(end_entity) => {
                Ok(ClientCertVerified::assertion())
            }
            CertificateStatus::Unknown => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature::schemes()
    }
}
