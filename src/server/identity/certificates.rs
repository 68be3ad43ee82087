//! Certificates: made at the first start, checked at each start, issued to devices.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use zeroize::Zeroizing;

use super::files::{self, Contents, Stages};
use super::{IdentityError, SERVER_SECRET_BYTES, secret_of};
use crate::wire::certificate;
use crate::wire::time::WallTime;

/// Days by which a certificate's validity begins before now: a device's clock may be behind ours.
const BACKDATED_DAYS: i64 = 1;

pub(super) fn crypto(error: impl std::fmt::Display) -> IdentityError {
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

/// Properties that certificates of ours share which are made at a certain time. `until` is a date.
pub(super) fn parameters(
    name: &str,
    now: WallTime,
    until: (i32, u8, u8),
    usage: KeyUsagePurpose,
) -> Result<CertificateParams, IdentityError> {
    parameters_between(name, date(now, -BACKDATED_DAYS), until, usage)
}

/// Properties that all certificates of ours share.
pub(super) fn parameters_between(
    name: &str,
    (year, month, day): (i32, u8, u8),
    until: (i32, u8, u8),
    usage: KeyUsagePurpose,
) -> Result<CertificateParams, IdentityError> {
    let mut parameters = CertificateParams::default();
    parameters.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = until;
    parameters.not_after = date_time_ymd(year, month, day);
    parameters.serial_number = Some(serial(0).map_err(crypto)?);
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.key_usages = vec![usage];
    Ok(parameters)
}

/// No end: the date that means so (RFC 5280 section 4.1.2.5). Devices compare the certificate with their
/// copy, byte for byte, so its age proves nothing, and a fleet must not stop on a day that nobody remembers.
pub(super) const NO_END: (i32, u8, u8) = (9999, 12, 31);

/// Makes a whole new identity.
pub(super) fn generate(now: WallTime) -> Result<Contents, IdentityError> {
    generate_with(authority(now)?, now)
}

/// An authority's certificate and key.
pub(super) type Authority = (Vec<u8>, Zeroizing<Vec<u8>>);

fn authority(now: WallTime) -> Result<Authority, IdentityError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)?;
    let mut ca = parameters("muster CA", now, NO_END, KeyUsagePurpose::KeyCertSign)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_certificate = ca.self_signed(&key).map_err(crypto)?.der().to_vec();
    Ok((ca_certificate, Zeroizing::new(key.serialize_der())))
}

/// Makes an identity with this authority.
pub(super) fn generate_with(
    (ca_certificate, ca_key): Authority,
    now: WallTime,
) -> Result<Contents, IdentityError> {
    let (server_certificate, server_key) = server(&ca_certificate, &ca_key, now)?;
    Ok(Contents {
        ca_certificate,
        ca_key,
        server_certificate,
        server_key,
        server_secret: secret()?,
        more: BTreeMap::new(),
        stages: Stages::default(),
    })
}

/// Makes a key of the server, and has the authority sign a certificate for it.
pub(super) fn server(
    ca_certificate: &[u8],
    ca_key: &[u8],
    now: WallTime,
) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), IdentityError> {
    let ca_key = KeyPair::try_from(ca_key).map_err(crypto)?;
    let issuer = Issuer::from_ca_cert_der(&ca_certificate.into(), ca_key).map_err(crypto)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)?;
    let mut server = parameters("muster server", now, NO_END, KeyUsagePurpose::DigitalSignature)?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.subject_alt_names = vec![SanType::DnsName("muster".try_into().map_err(crypto)?)];
    let certificate = server.signed_by(&key, &issuer).map_err(crypto)?.der().to_vec();
    Ok((certificate, Zeroizing::new(key.serialize_der())))
}

/// Draws a secret of the server, with its check behind it.
pub(super) fn secret() -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let mut secret = Zeroizing::new(vec![0; SERVER_SECRET_BYTES + 4]);
    let (drawn, check) = secret.split_at_mut(SERVER_SECRET_BYTES);
    aws_lc_rs::rand::fill(drawn).map_err(crypto)?;
    check.copy_from_slice(&crc32c::crc32c(drawn).to_be_bytes());
    Ok(secret)
}

/// Checks that the files belong together, so that a damaged one is told at start and not by the fleet.
/// Returns the authority.
pub(super) fn check(
    directory: &Path,
    contents: &Contents,
) -> Result<Issuer<'static, KeyPair>, IdentityError> {
    let damaged = |name: &str, what| IdentityError::Damaged { path: directory.join(name), what };
    let key = |name, der: &[u8]| {
        KeyPair::try_from(der)
            .ok()
            .filter(|key| key.is_compatible(&rcgen::PKCS_ED25519))
            .ok_or_else(|| damaged(name, "it is not an Ed25519 key"))
    };
    let ca_key = key(files::CA_KEY, &contents.ca_key)?;
    let is_of = |certificate: &[u8], key: &KeyPair| {
        certificate::ed25519_key(certificate) == Some(key.public_key_raw())
    };
    let pairs = [
        (
            files::SERVER_CERTIFICATE,
            Some(contents.server_certificate.as_slice()),
            files::SERVER_KEY,
            Some(contents.server_key.as_slice()),
            "it is not the certificate of the key in server-key.pem",
        ),
        (
            files::NEXT_CERTIFICATE,
            contents.get(files::NEXT_CERTIFICATE),
            files::NEXT_KEY,
            contents.get(files::NEXT_KEY),
            "it is not the certificate of the key in next-key.pem",
        ),
        (
            files::FORMER_CERTIFICATE,
            contents.get(files::FORMER_CERTIFICATE),
            files::FORMER_KEY,
            contents.get(files::FORMER_KEY),
            "it is not the certificate of the key in former-key.pem",
        ),
    ];
    let not_signed = "it is not signed by the key in ca-key.pem";
    if !certificate::is_signed_by(&contents.ca_certificate, ca_key.public_key_raw()) {
        return Err(damaged(files::CA_CERTIFICATE, not_signed));
    }
    if !is_of(&contents.ca_certificate, &ca_key) {
        return Err(damaged(files::CA_CERTIFICATE, "it is not the certificate of the key in ca-key.pem"));
    }
    for (name, certificate, key_name, key_der, what) in pairs {
        match (certificate, key_der) {
            (Some(certificate), Some(key_der)) => {
                let key = key(key_name, key_der)?;
                if !certificate::is_signed_by(certificate, ca_key.public_key_raw()) {
                    return Err(damaged(name, not_signed));
                }
                if !is_of(certificate, &key) {
                    return Err(damaged(name, what));
                }
            }
            (None, None) => {}
            (None, _) => return Err(IdentityError::Missing { path: directory.join(name) }),
            (_, None) => return Err(IdentityError::Missing { path: directory.join(key_name) }),
        }
    }
    if let Some(recovery) = contents.get(files::RECOVERY_CERTIFICATE) {
        let is_self_signed =
            certificate::ed25519_key(recovery).is_some_and(|key| certificate::is_signed_by(recovery, key));
        if !is_self_signed {
            return Err(damaged(files::RECOVERY_CERTIFICATE, "it is not the certificate of a recovery key"));
        }
    }
    for (name, secret) in [
        (files::SERVER_SECRET, Some(contents.server_secret.as_slice())),
        (files::FORMER_SECRET, contents.get(files::FORMER_SECRET)),
    ] {
        if secret.is_some_and(|secret| secret_of(secret).is_err()) {
            return Err(damaged(name, "its check does not match"));
        }
    }
    Issuer::from_ca_cert_der(&contents.ca_certificate.as_slice().into(), ca_key)
        .map_err(|_| damaged(files::CA_CERTIFICATE, "it is not a certificate"))
}
