//! Parts that both sides share: the crypto provider, cut down to TLS 1.3, and the check of a handshake's
//! signature.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};

/// The provider: aws-lc-rs, X25519MLKEM768 preferred, TLS 1.3 suites alone, that with AES-128 first: a link's
/// keys are made anew for each burst of records, and its take a third of the time that those of AES-256 with
/// SHA-384 take.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            provider.cipher_suites.retain(|suite| suite.tls13().is_some());
            // The order of the others stays.
            provider
                .cipher_suites
                .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
            Arc::new(provider)
        })
        .clone()
}

/// Checks that the peer holds the key of the certificate that it shows (CertificateVerify, RFC 8446 section
/// 4.4.3).
pub(super) fn verify(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
}

/// TLS 1.2 is not spoken, so nobody can ask for this.
pub(super) fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired))
}

/// The signatures that are checked.
pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}
