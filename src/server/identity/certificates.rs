//! Certificates: made at the first start, checked at each start, issued to devices.

use std::path::Path;

use aws_lc_rs::hkdf;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

use super::files::{self, Contents};
use super::{Identity, IdentityError, SERVER_SECRET_BYTES};
use crate::wire::certificate;
use crate::wire::id::CertificateHash;
use crate::wire::time::WallTime;

/// Days by which a certificate's validity begins before now: a device's clock may be behind ours.
const BACKDATED_DAYS: i64 = 1;

fn crypto(error: impl std::fmt::Display) -> IdentityError {
    IdentityError::Crypto(error.to_string())
}

/// Year, month and day `days` days from now. A clock beyond the calendar is taken for the year 5000: a wrong
/// clock is a status, never a reason not to start.
pub(super) fn date(now: WallTime, days: i64) -> (i32, u8, u8) {
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

/// A serial number of its own, which says the number of the certificate among those of its device; 0: of
/// none.
pub(super) fn serial(counter: u32) -> Result<SerialNumber, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; certificate::SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)?;
    bytes[0] = certificate::SERIAL_MARK;
    bytes[1..5].copy_from_slice(&counter.to_be_bytes());
    Ok(SerialNumber::from_slice(&bytes))
}

/// Properties that all certificates of ours share. `until` is a date.
pub(super) fn parameters(
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
