//! The certificate for browsers: they take no Ed25519. It is made of the server secret alone, so that it is
//! the same after each start, and people confirm it once; nothing of it is on the disk.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber};
use zeroize::Zeroizing;

use super::IdentityError;
use super::certificates::{NO_END, crypto, parameters_between};

/// Day of the begin of its validity: any that has passed, and always the same.
const BEGIN: (i32, u8, u8) = (2025, 1, 1);

/// Bytes of a serial number.
const SERIAL_BYTES: usize = 16;

/// A certificate and its private key, PKCS #8 (RFC 5958), for the scalar `key` of P-256. Signed by the
/// fleet's authority, whose signatures of the same are the same (RFC 8032).
pub(super) fn certificate(
    key: &[u8; 32],
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), IdentityError> {
    let public = PrivateKey::from_private_key(&ECDH_P256, key).and_then(|key| Ok(key.compute_public_key()?));
    let public = public.map_err(crypto)?;
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, key, public.as_ref());
    let private = pair.map_err(crypto)?.to_pkcs8v1().map_err(crypto)?;
    let pair = KeyPair::try_from(private.as_ref()).map_err(crypto)?;
    let mut console = parameters_between("muster console", BEGIN, NO_END, KeyUsagePurpose::DigitalSignature)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public.as_ref());
    let mut serial = [0; SERIAL_BYTES];
    // Positive, and of no device: theirs begin with a mark.
    serial[1..].copy_from_slice(&digest.as_ref()[..SERIAL_BYTES - 1]);
    serial[0] = 1;
    console.serial_number = Some(SerialNumber::from_slice(&serial));
    console.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    console.subject_alt_names = vec![SanType::DnsName("muster".try_into().map_err(crypto)?)];
    let certificate = console.signed_by(&pair, issuer).map_err(crypto)?.der().to_vec();
    Ok((certificate, Zeroizing::new(private.as_ref().to_vec())))
}
