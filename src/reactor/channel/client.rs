//! The device's side of TLS: which server it accepts, and what it shows of itself.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme, version,
};

#[cfg(feature = "client")]
use super::HTTP;
use super::error::{ChannelError, SeenCertificate};
use super::{PROTOCOL, signature};
pub use crate::machine::trust::ExpectedServer;
use crate::wire::id::CertificateHash;

/// The library wants a name; ours is never sent (no SNI), never checked, and only keys the ticket store.
const SERVER_NAME: &str = "muster";

/// Servers whose tickets one configuration keeps. It has one server; the library rounds up as it needs.
const TICKET_STORE_SERVERS: usize = 1;

impl ExpectedServer {
    /// The check of a server in a handshake.
    #[must_use]
    pub fn verifier(self) -> Arc<dyn ServerCertVerifier> {
        Arc::new(PinVerifier { expected: self })
    }
}

impl fmt::Display for ExpectedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(hash) => write!(f, "{hash} (from the token)"),
            Self::Pins { pins, .. } => {
                for (index, pin) in pins.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { " or " }, CertificateHash::of(pin))?;
                }
                write!(f, " (the stored copies)")
            }
        }
    }
}

/// The device's part of the handshake.
pub struct ClientIdentity<'a> {
    /// Its certificate, DER.
    pub certificate: &'a [u8],
    /// Its private key: PKCS #8 (RFC 5958), DER.
    pub private_key: &'a [u8],
}

/// Everything that the device's end of a channel needs, and the tickets it was given. Cheap to clone; clones
/// share the tickets.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    expected: ExpectedServer,
}

impl ClientTls {
    /// For a server that must be `expected`; `identity` is `None` while enrolling.
    ///
    /// # Errors
    /// When certificate and key can't be used.
    pub fn new(expected: ExpectedServer, identity: Option<ClientIdentity<'_>>) -> Result<Self, ChannelError> {
        Self::speaking(PROTOCOL, expected, identity)
    }

    /// For an administrator, who asks a server that must be `expected` in HTTP.
    ///
    /// # Errors
    /// When the library can't be set up.
    #[cfg(feature = "client")]
    pub fn of_administrator(expected: ExpectedServer) -> Result<Self, ChannelError> {
        Self::speaking(HTTP, expected, None)
    }

    fn speaking(
        protocol: &[u8],
        expected: ExpectedServer,
        identity: Option<ClientIdentity<'_>>,
    ) -> Result<Self, ChannelError> {
        let unusable = |error: Error| ChannelError::Configuration(error.to_string());
        let builder = ClientConfig::builder_with_provider(signature::provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(expected.clone().verifier());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.private_key.to_vec())
                    .map_err(|error| ChannelError::Configuration(error.to_owned()))?;
                let chain = vec![CertificateDer::from(identity.certificate.to_vec())];
                builder.with_client_auth_cert(chain, key).map_err(unusable)?
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(TICKET_STORE_SERVERS)));
        Ok(Self { config: Arc::new(config), expected })
    }

    /// The library's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn expected(&self) -> &ExpectedServer {
        &self.expected
    }

    /// The name that the library wants.
    #[must_use]
    #[allow(clippy::unused_self, reason = "the name may become the server's own with a later protocol")]
    pub fn name(&self) -> ServerName<'static> {
        ServerName::try_from(SERVER_NAME)
            .unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Accepts one server, by its certificate's bytes or a voucher ([`trust`](crate::machine::trust)). No name,
/// no clock.
#[derive(Debug)]
struct PinVerifier {
    expected: ExpectedServer,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let behind: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        let Err(why) = self.expected.check(end_entity, &behind) else {
            return Ok(ServerCertVerified::assertion());
        };
        let seen = SeenCertificate { hash: CertificateHash::of(end_entity), why };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(seen)))))
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
