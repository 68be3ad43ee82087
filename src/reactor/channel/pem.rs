//! Certificates and keys as other programs write them: PEM (RFC 7468).

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// The first certificate in a text, DER.
///
/// # Errors
/// In words: why there is none.
pub fn certificate_from_pem(text: &[u8]) -> Result<Vec<u8>, String> {
    let first = CertificateDer::pem_slice_iter(text).next().ok_or_else(|| "there is none".to_owned())?;
    first.map(|certificate| certificate.to_vec()).map_err(|error| error.to_string())
}

/// The certificates of a text behind the first, DER: those that lead to an authority.
///
/// # Errors
/// In words: why one can't be read.
pub fn further_certificates_from_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let further = CertificateDer::pem_slice_iter(text).skip(1);
    further.map(|one| one.map(|one| one.to_vec()).map_err(|error| error.to_string())).collect()
}

/// The first private key in a text: PKCS #8, PKCS #1 or SEC 1, DER.
///
/// # Errors
/// In words: why there is none.
pub fn private_key_from_pem(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(key.secret_der().to_vec()))
}
