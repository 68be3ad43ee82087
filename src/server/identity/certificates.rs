//! Certificates: made at the first start, checked at each start, issued to devices.

use std::path::Path;

use aws_lc_rs::{hkdf, signature};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};

use super::files::{self, Contents};
use super::{Identity, IdentityError, SERVER_SECRET_BYTES};
use crate::wire::certificate;
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::limits::CERTIFICATE_BYTES_MAX;
use crate::wire::time::WallTime;

/// Validity of a device's certificate. The server knows devices by the hash of their certificate and
/// withdraws them by removing the device, so this is a bound against forgotten keys, not the means of
/// revocation.
pub const DEVICE_CERTIFICATE_DAYS: i64 = 3_650;

/// Days by which a certificate's validity begins before now: a device's clock may be behind ours.
const BACKDATED_DAYS: i64 = 1;

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

fn crypto(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}

/// Until when a device's certificate is good that is issued now: the beginning of a day (UTC), as its last
/// moment is written.
pub fn expiry_of_issued(now: WallTime) -> WallTime {
    const DAY_MILLISECONDS: u64 = 86_400_000;
    let days = now.0 / DAY_MILLISECONDS + DEVICE_CERTIFICATE_DAYS.unsigned_abs();
    WallTime(days.saturating_mul(DAY_MILLISECONDS))
}

/// Year, month and day `days` days from now. A clock beyond the calendar is taken for the year 5000: a wrong
/// clock is a status, never a reason not to start.
fn date(now: WallTime, days: i64) -> (i32, u8, u8) {
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    let moved = seconds.saturating_add(days.saturating_mul(86_400));
    let day = jiff::Timestamp::from_second(moved).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
    match day {
        // X.509 has room for the years from 1950 to 9999 (RFC 5280 section 4.1.2.5).
        Ok(day) if (1950..=9999).contains(&day.year()) => {
            (i32::from(day.year()), day.month().unsigned_abs(), day.day().unsigned_abs())
        }
        _ => (5000, 1, 1),
    }
}

/// A serial number of its own, which says the how manieth certificate of its device this is; 0: of no device.
fn serial(counter: u32) -> Result<SerialNumber, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; certificate::SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)?;
    bytes[0] = certificate::SERIAL_MARK;
    bytes[1..5].copy_from_slice(&counter.to_be_bytes());
    Ok(SerialNumber::from_slice(&bytes))
}

/// Properties that all certificates of ours share. `until` is a date.
fn parameters(
    name: &str,
    now: WallTime,
    until: (i32, u8, u8),
    usage: KeyUsagePurpose,
) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::default();
    let (year, month, day) = date(now, -BACKDATED_DAYS);
    parameters.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = until;
    parameters.not_after = date_time_ymd(year, month, day);
    parameters.serial_number = Some(serial(0).map_err(|_| rcgen::Error::RingUnspecified)?);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.key_usages = vec![usage];
    Ok(parameters)
}

/// No end: the date that means so (RFC 5280 section 4.1.2.5). Devices compare the certificate with their
/// copy, byte for byte, so its age proves nothing, and a fleet must not stop on a day that nobody remembers.
const NO_END: (i32, u8, u8) = (9999, 12, 31);

/// Makes a whole new identity.
pub(super) fn generate(now: WallTime) -> Result<Contents, IdentityError> {
    let ca_key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)?;
    let mut ca = parameters("muster CA", now, NO_END, KeyUsagePurpose::KeyCertSign).map_err(crypto)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_certificate = ca.self_signed(&ca_key).map_err(crypto)?.der().to_vec();
    let ca_key_der = ca_key.serialize_der();

    let server_key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)?;
    let mut server =
        parameters("muster server", now, NO_END, KeyUsagePurpose::DigitalSignature).map_err(crypto)?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.subject_alt_names = vec![SanType::DnsName("muster".try_into().map_err(crypto)?)];
    let issuer = Issuer::new(ca, ca_key);
    let server_certificate = server.signed_by(&server_key, &issuer).map_err(crypto)?.der().to_vec();

    let mut secret = vec![0; SERVER_SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut secret).map_err(crypto)?;
    secret.extend_from_slice(&crc32c::crc32c(&secret).to_be_bytes());
    Ok(Contents {
        ca_certificate,
        ca_key: ca_key_der,
        server_certificate,
        server_key: server_key.serialize_der(),
        server_secret: secret,
    })
}

/// Checks that the files belong together, so that a damaged one is told at start and not by the fleet.
pub(super) fn check(directory: &Path, contents: Contents) -> Result<Identity, IdentityError> {
    let damaged = |name: &str, what| IdentityError::Damaged { path: directory.join(name), what };
    let key = |name, der: &[u8]| {
        KeyPair::try_from(der)
            .ok()
            .filter(|key| key.is_compatible(&rcgen::PKCS_ED25519))
            .ok_or_else(|| damaged(name, "it is not an Ed25519 key"))
    };
    let ca_key = key(files::CA_KEY, &contents.ca_key)?;
    let server_key = key(files::SERVER_KEY, &contents.server_key)?;
    for (name, certificate, key, what) in [
        (
            files::CA_CERTIFICATE,
            &contents.ca_certificate,
            &ca_key,
            "it is not the certificate of the key in ca-key.pem",
        ),
        (
            files::SERVER_CERTIFICATE,
            &contents.server_certificate,
            &server_key,
            "it is not the certificate of the key in server-key.pem",
        ),
    ] {
        if !certificate::is_signed_by(certificate, ca_key.public_key_raw()) {
            return Err(damaged(name, "it is not signed by the key in ca-key.pem"));
        }
        if certificate::ed25519_key(certificate) != Some(key.public_key_raw()) {
            return Err(damaged(name, what));
        }
    }
    let secret = contents
        .server_secret
        .split_last_chunk::<4>()
        .filter(|(secret, check)| {
            secret.len() == SERVER_SECRET_BYTES && crc32c::crc32c(secret).to_be_bytes() == **check
        })
        .map(|(secret, _)| secret)
        .ok_or_else(|| damaged(files::SERVER_SECRET, "its check does not match"))?;
    let datagram_root = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    let issuer = Issuer::from_ca_cert_der(&contents.ca_certificate.as_slice().into(), ca_key)
        .map_err(|_| damaged(files::CA_CERTIFICATE, "it is not a certificate"))?;
    Ok(Identity {
        issuer,
        server_key,
        certificate_hash: CertificateHash::of(&contents.server_certificate),
        server_certificate_der: contents.server_certificate,
        datagram_root,
    })
}

/// Issues a device's certificate.
pub(super) fn issue(
    issuer: &Issuer<'static, KeyPair>,
    request_der: &[u8],
    device: DeviceId,
    counter: u32,
    now: WallTime,
) -> Result<Vec<u8>, IssueError> {
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
    if *algorithm == rcgen::PKCS_ED25519 {
        verification = &signature::ED25519;
    } else if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        // The algorithm names only the hash: a key on another curve with SHA-256 ends in the check below.
        verification = &signature::ECDSA_P256_SHA256_ASN1;
    } else {
        return Err(IssueError::KeyKind);
    }
    signature::ParsedPublicKey::new(verification, request.public_key.der_bytes())
        .map_err(|_| IssueError::KeyKind)?;
    let until = date(now, DEVICE_CERTIFICATE_DAYS);
    let mut certificate = parameters(&device.to_string(), now, until, KeyUsagePurpose::DigitalSignature)
        .map_err(|_| IssueError::Signing)?;
    certificate.serial_number = Some(serial(counter).map_err(|_| IssueError::Signing)?);
    certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    request.params = certificate;
    request.signed_by(issuer).map(|signed| signed.der().to_vec()).map_err(|_| IssueError::Signing)
}
