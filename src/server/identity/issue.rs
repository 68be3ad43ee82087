//! Certificates that are issued to devices.

use std::time::Duration;

use aws_lc_rs::signature;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, date_time_ymd,
};

use super::certificates::{date, parameters, serial};
use crate::wire::certificate::{BACKDATED_MILLISECONDS, KeyType};
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::limits::CERTIFICATE_BYTES_MAX;
use crate::wire::time::WallTime;

const SECONDS_PER_DAY: u64 = 86_400;

/// Why no certificate was issued. The text is for the device's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Larger than the wire allows.
    #[error("the certificate request has {0} bytes, at most {CERTIFICATE_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// It is no PKCS #10 request, or its signature is not by its own key.
    #[error("the certificate request is malformed or not signed by its own key")]
    Malformed,
    /// Neither Ed25519 nor P-256.
    #[error("the certificate request has a key of another kind than Ed25519 or P-256")]
    KeyKind,
    /// The cryptographic library failed.
    #[error("the certificate could not be signed")]
    Signing,
}

/// A certificate that is wanted for a device.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Whose.
    pub device: DeviceId,
    /// Its number among those of the device.
    pub counter: u32,
    /// Its life.
    pub life_milliseconds: u64,
}

/// A certificate that was issued to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// Its SHA-256.
    pub hash: CertificateHash,
    /// Its number among those of the device.
    pub counter: u32,
    /// When it was made, to the second.
    pub issued_at: WallTime,
    /// Until when it is good, as it says itself.
    pub expires_at: WallTime,
    /// Kind of its key.
    pub key_type: KeyType,
}

/// Issues a device's certificate.
pub(super) fn issue(
    issuer: &Issuer<'static, KeyPair>,
    request_der: &[u8],
    wanted: Wanted,
    now: WallTime,
) -> Result<IssuedCertificate, IssueError> {
    if request_der.len() > CERTIFICATE_BYTES_MAX {
        return Err(IssueError::TooLarge(request_der.len()));
    }
    // Parsing verifies the request's signature with its own key.
    let mut request =
        CertificateSigningRequestParams::from_der(&request_der.into()).map_err(|error| match error {
            rcgen::Error::UnsupportedSignatureAlgorithm => IssueError::KeyKind,
            _ => IssueError::Malformed,
        })?;
    let algorithm = PublicKeyData::algorithm(&request.public_key);
    let verification: &'static dyn signature::VerificationAlgorithm;
    let key_type;
    if *algorithm == rcgen::PKCS_ED25519 {
        (verification, key_type) = (&signature::ED25519, KeyType::Ed25519);
    } else if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        // The algorithm names only the hash: a key on another curve with SHA-256 ends in the check below.
        (verification, key_type) = (&signature::ECDSA_P256_SHA256_ASN1, KeyType::P256);
    } else {
        return Err(IssueError::KeyKind);
    }
    signature::ParsedPublicKey::new(verification, request.public_key.der_bytes())
        .map_err(|_| IssueError::KeyKind)?;
    let Wanted { device, counter, life_milliseconds } = wanted;
    let until = WallTime(now.0.saturating_add(life_milliseconds));
    let mut certificate =
        parameters(&device.to_string(), now, date(now, 1), KeyUsagePurpose::DigitalSignature)
            .map_err(|_| IssueError::Signing)?;
    certificate.serial_number = Some(serial(counter).map_err(|_| IssueError::Signing)?);
    let backdated = WallTime(now.0.saturating_sub(BACKDATED_MILLISECONDS));
    [certificate.not_before, certificate.not_after] = [backdated, until].map(|at| {
        let (year, month, day) = date(at, 0);
        date_time_ymd(year, month, day) + Duration::from_secs(at.0 / 1_000 % SECONDS_PER_DAY)
    });
    certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    request.params = certificate;
    let signed = request.signed_by(issuer).map_err(|_| IssueError::Signing)?;
    let der = signed.der().to_vec();
    let hash = CertificateHash::of(&der);
    let (issued_at, expires_at) = (to_the_second(now), to_the_second(until));
    Ok(IssuedCertificate { der, hash, counter, issued_at, expires_at, key_type })
}

/// A certificate's dates have no milliseconds.
fn to_the_second(time: WallTime) -> WallTime {
    WallTime(time.0 - time.0 % 1_000)
}
