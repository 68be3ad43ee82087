//! Faults of a channel, and their blame.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::client::ExpectedServer;
use crate::machine::trust::Untrusted;
use crate::wire::id::CertificateHash;

/// The side that has to change something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The other side.
    Peer,
    /// The network between.
    Network,
    /// This side: its configuration, or a bug of ours.
    Here,
}

/// Why a channel ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The peer does not speak TLS 1.3.
    #[error("the peer does not offer TLS 1.3, which is required")]
    NoSharedVersion,
    /// The peer did not name our application protocol.
    #[error("the peer does not speak 'muster/1' (ALPN)")]
    WrongProtocol,
    /// The server does not know the device's certificate.
    #[error("the device's certificate is not known to this server")]
    ForeignCertificate,
    /// The server has issued the device's certificate, and does not know the device any more.
    #[error(
        "the device is not enrolled at this server any more: the server was restored from a copy that is older than the enrolment. \
         Enrol again with 'muster-agent enroll --force'"
    )]
    NotEnrolledAnyMore,
    /// The device was removed by an administrator.
    #[error("the device was removed from this server")]
    DeviceRemoved,
    /// The server's certificate is not one of the stored copies.
    #[error(
        "the server showed certificate {seen}, expected {expected}: it is another server, or somebody in between"
    )]
    WrongServer {
        /// SHA-256 of the certificate that the server showed.
        seen: CertificateHash,
        /// The protocol that was expected, in words.
        expected: String,
    },
    /// The server's certificate is one that was replaced.
    #[error(
        "the server showed certificate {seen}, and {why}: it runs on an old copy, or somebody has stolen its key"
    )]
    ReplacedServer {
        /// SHA-256 of the certificate that the server showed.
        seen: CertificateHash,
        /// The reason.
        why: Untrusted,
    },
    /// The peer does not hold the private key of the certificate that it shows.
    #[error("the peer's handshake signature does not fit its certificate")]
    BadSignature,
    /// The peer ended the handshake or the connection with a fatal alert (RFC 8446 section 6.2).
    #[error("the peer refused the connection: TLS alert {0}")]
    Refused(String),
    /// The peer's bytes are not TLS.
    #[error("what the peer sends is not TLS")]
    NotTls,
    /// The peer breaks the protocol in another way.
    #[error("the peer breaks the TLS protocol: {0}")]
    Misbehaved(String),
    /// The peer reads too slowly: more waits for it than is kept.
    #[error("the peer does not read what is sent to it")]
    PeerTooSlow,
    /// The stream ended without a close_notify.
    #[error("the connection ended without a close_notify")]
    Truncated,
    /// The connection was reset or timed out.
    #[error("the connection was reset")]
    Reset,
    /// The socket failed in another way.
    #[error("the socket failed: {0}")]
    Socket(String),
    /// A key or certificate of ours can't be used.
    #[error("the TLS configuration can't be used: {0}")]
    Configuration(String),
    /// A bug or a lack of resources here.
    #[error("TLS failed on this side: {0}")]
    Internal(String),
}

impl ChannelError {
    /// Returns the side to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Truncated | Self::Reset | Self::Socket(_) => Blame::Network,
            Self::Configuration(_) | Self::Internal(_) => Blame::Here,
            _ => Blame::Peer,
        }
    }

    pub(super) fn from_socket(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut => Self::Reset,
            _ => Self::Socket(error.to_string()),
        }
    }

    pub(super) fn from_tls(error: &Error, expected: Option<&ExpectedServer>) -> Self {
        match error {
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::NoSharedVersion,
            Error::NoApplicationProtocol => Self::WrongProtocol,
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => Self::ForeignCertificate,
            Error::InvalidCertificate(CertificateError::Revoked) => Self::DeviceRemoved,
            Error::InvalidCertificate(CertificateError::BadSignature) => Self::BadSignature,
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match (other.0.downcast_ref::<SeenCertificate>(), expected) {
                    (Some(SeenCertificate { hash, why: Untrusted::Foreign }), Some(expected)) => {
                        Self::WrongServer { seen: *hash, expected: expected.to_string() }
                    }
                    (Some(SeenCertificate { hash, why }), _) => {
                        Self::ReplacedServer { seen: *hash, why: *why }
                    }
                    _ => Self::Misbehaved(error.to_string()),
                }
            }
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Self::NoSharedVersion,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::WrongProtocol,
            // Only the device is told so: a server's certificate is compared, never looked up.
            Error::AlertReceived(AlertDescription::UnknownCA) if expected.is_some() => {
                Self::ForeignCertificate
            }
            Error::AlertReceived(AlertDescription::AccessDenied) if expected.is_some() => {
                Self::NotEnrolledAnyMore
            }
            Error::AlertReceived(AlertDescription::CertificateRevoked) if expected.is_some() => {
                Self::DeviceRemoved
            }
            Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::General(_)
            | Error::EncryptError => Self::Internal(error.to_string()),
            _ => Self::Misbehaved(error.to_string()),
        }
    }
}

/// Carries the certificate that was seen through the TLS library's own error.
#[derive(Debug)]
pub(super) struct SeenCertificate {
    pub(super) hash: CertificateHash,
    pub(super) why: Untrusted,
}

impl std::fmt::Display for SeenCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server showed certificate {}: {}", self.hash, self.why)
    }
}

impl std::error::Error for SeenCertificate {}
