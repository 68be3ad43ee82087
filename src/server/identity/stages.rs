//! Stages of the server's key: made ready, spread to the devices, in use, let go; and the recovery key, whose
//! private part is never kept here. All of it is worked out on [`Contents`], which are then written whole.
//!
//! ```text
//!            prepare            switch              retire
//! current A ────────▶ A, next B ───────▶ B, former A ───────▶ B
//! pins      A         A, B               B, A                 B         and the recovery key in each
//! ```

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::hkdf;
use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber, SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use super::certificates::{self, NO_END, crypto, parameters_between};
use super::files::{
    Contents, FORMER_CERTIFICATE, FORMER_KEY, FORMER_SECRET, FORMER_VOUCHER, Left, NEXT_CERTIFICATE,
    NEXT_KEY, NEXT_VOUCHER, RECOVERY_CERTIFICATE, RECOVERY_VOUCHER, key_from_pem,
};
use super::{IdentityError, Recovery, secret_of};
use crate::wire::api::Timestamp;
use crate::wire::certificate::{SERIAL_BYTES, VOUCHER_MARK, ed25519_key, public_key_info};
use crate::wire::time::WallTime;

/// Number of a voucher that the server's own key signs: it is not the recovery key's, whose numbers rise.
const OWN_NUMBER: u32 = u32::MAX;

/// Labels that are remembered, of as many changes of what devices are to trust.
const LABELS_MAX: usize = 16;

/// Beginning of vouchers and of the recovery key's certificate: before any clock that is right.
const NO_BEGINNING: (i32, u8, u8) = (2020, 1, 1);

/// First part of HKDF's `info` for the part of a label that stands for the server's secret.
const LABEL_OF_SECRET: &[u8] = b"muster trust v1";

/// Why the server's key does not come to another stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// There is a next key already.
    #[error(
        "the next certificate is prepared already: 'musterctl certificate status' says what share of the fleet has its pin, 'certificate switch' comes next"
    )]
    Prepared,
    /// The one before is not done.
    #[error(
        "the former certificate is still pinned: end that rotation first with 'musterctl certificate retire'"
    )]
    Former,
    /// There is no next key.
    #[error("no next certificate is prepared: 'musterctl certificate prepare' comes first")]
    NotPrepared,
    /// There is no former key.
    #[error(
        "there is no former certificate: 'musterctl certificate prepare' and 'certificate switch' come first"
    )]
    NotSwitched,
    /// No recovery key is pinned.
    #[error(
        "there is no recovery key here: 'musterd recovery-key create' makes one; prepare without it, or create it first"
    )]
    NoRecoveryKey,
    /// It is not the one.
    #[error(
        "this is not the recovery key that devices know: its public part is not that of recovery-certificate.pem"
    )]
    WrongRecoveryKey,
    /// It is no key.
    #[error(
        "this is no recovery key: a file as 'musterd recovery-key create' printed it is needed, '-----BEGIN PRIVATE KEY-----' and what follows"
    )]
    NoKey,
    /// A former secret is still good.
    #[error("the former secret is still in use: end that rotation first with 'musterctl certificate retire'")]
    FormerSecret,
}

/// Reads a recovery key.
pub(super) fn recovery_key(pem: &str) -> Result<KeyPair, IdentityError> {
    let der = key_from_pem(pem).ok_or(StageError::NoKey)?;
    let key = KeyPair::try_from(der.as_slice()).map_err(|_| StageError::NoKey)?;
    if key.is_compatible(&rcgen::PKCS_ED25519) { Ok(key) } else { Err(StageError::NoKey.into()) }
}

/// The recovery key's certificate: the same bytes for the same key, whenever it is made.
fn recovery_certificate(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    let mut certificate =
        parameters_between("muster recovery", NO_BEGINNING, NO_END, KeyUsagePurpose::KeyCertSign)?;
    certificate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let mut serial = [0x42; SERIAL_BYTES];
    serial[1..].copy_from_slice(&digest(&SHA256, key.public_key_raw()).as_ref()[..SERIAL_BYTES - 1]);
    certificate.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(certificate.self_signed(key).map_err(crypto)?.der().to_vec())
}

/// A voucher for the key of `certificate`.
fn voucher(certificate: &[u8], number: u32, by: &KeyPair, name: &str) -> Result<Vec<u8>, IdentityError> {
    let of = public_key_info(certificate).ok_or_else(|| crypto("it is no certificate"))?;
    let of = SubjectPublicKeyInfo::from_der(of).map_err(crypto)?;
    let mut serial = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).map_err(crypto)?;
    serial[0] = VOUCHER_MARK;
    serial[1..5].copy_from_slice(&number.to_be_bytes());
    let usage = KeyUsagePurpose::DigitalSignature;
    let mut parameters = parameters_between("muster voucher", NO_BEGINNING, NO_END, usage)?;
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
    let issuer = parameters_between(name, NO_BEGINNING, NO_END, KeyUsagePurpose::KeyCertSign)?;
    let signed = parameters.signed_by(&of, &Issuer::new(issuer, by)).map_err(crypto)?;
    Ok(signed.der().to_vec())
}

/// A voucher by the server's own key for that of another certificate of this server.
pub(super) fn own_voucher(certificate: &[u8], server_key: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let key = KeyPair::try_from(server_key).map_err(crypto)?;
    voucher(certificate, OWN_NUMBER, &key, "muster server")
}

/// The number of the recovery key's next voucher: it rises with the clock, so that it does so after a restore
/// of a copy, too, in minutes; and by itself, whatever the clock says.
fn next_number(last: u32, now: WallTime) -> u32 {
    let minutes = u32::try_from(now.0 / 60_000).unwrap_or(u32::MAX);
    minutes.max(last.saturating_add(1)).min(OWN_NUMBER - 1)
}

/// Makes the next key. With the recovery key devices that are away until it is in use know it all the same.
/// Once more with the recovery key is allowed.
pub(super) fn prepare(
    contents: &mut Contents,
    recovery: Option<&KeyPair>,
    now: WallTime,
) -> Result<(), IdentityError> {
    if contents.get(FORMER_CERTIFICATE).is_some() {
        return Err(StageError::Former.into());
    }
    let is_prepared = contents.get(NEXT_CERTIFICATE).is_some();
    if is_prepared && recovery.is_none() {
        return Err(StageError::Prepared.into());
    }
    if let Some(recovery) = recovery {
        match contents.get(RECOVERY_CERTIFICATE) {
            None => return Err(StageError::NoRecoveryKey.into()),
            Some(known) if known != recovery_certificate(recovery)? => {
                return Err(StageError::WrongRecoveryKey.into());
            }
            Some(_) => {}
        }
    }
    if !is_prepared {
        let (certificate, key) = certificates::server(&contents.ca_certificate, &contents.ca_key, now)?;
        contents.more.insert(NEXT_CERTIFICATE, certificate.into());
        contents.more.insert(NEXT_KEY, key);
        contents.stages.prepared_at = Some(Timestamp(now));
    }
    if let (Some(recovery), Some(next)) = (recovery, contents.get(NEXT_CERTIFICATE)) {
        let number = next_number(contents.stages.voucher_number, now);
        let voucher = voucher(next, number, recovery, "muster recovery")?;
        contents.stages.voucher_number = number;
        contents.more.insert(NEXT_VOUCHER, voucher.into());
    }
    note_label(contents);
    Ok(())
}

/// Puts the next key into use. The former one stays pinned, and vouches for it.
pub(super) fn switch(contents: &mut Contents, now: WallTime) -> Result<(), IdentityError> {
    let next = (contents.more.remove(NEXT_CERTIFICATE), contents.more.remove(NEXT_KEY));
    let (Some(mut certificate), Some(key)) = next else { return Err(StageError::NotPrepared.into()) };
    let former = std::mem::replace(&mut contents.server_certificate, std::mem::take(&mut *certificate));
    let former_key = std::mem::replace(&mut contents.server_key, key);
    let voucher = own_voucher(&contents.server_certificate, &former_key)?;
    contents.more.insert(FORMER_CERTIFICATE, former.into());
    contents.more.insert(FORMER_KEY, former_key);
    contents.more.insert(FORMER_VOUCHER, voucher.into());
    if let Some(voucher) = contents.more.remove(NEXT_VOUCHER) {
        contents.more.insert(RECOVERY_VOUCHER, voucher);
    }
    contents.stages.prepared_at = None;
    contents.stages.switched_at = Some(Timestamp(now));
    note_label(contents);
    Ok(())
}

/// Lets the former key and the former secret go.
pub(super) fn retire(contents: &mut Contents) -> Result<(), IdentityError> {
    let had_secret = contents.more.remove(FORMER_SECRET).is_some();
    let had_certificate = contents.more.remove(FORMER_CERTIFICATE).is_some();
    if !had_certificate && !had_secret {
        return Err(StageError::NotSwitched.into());
    }
    contents.more.remove(FORMER_KEY);
    contents.more.remove(FORMER_VOUCHER);
    let current = public_key_info(&contents.server_certificate);
    if contents.get(RECOVERY_VOUCHER).is_some_and(|voucher| public_key_info(voucher) != current) {
        // It was for the former key.
        contents.more.remove(RECOVERY_VOUCHER);
    }
    if had_certificate {
        contents.stages.switched_at = None;
    }
    note_label(contents);
    Ok(())
}

/// Draws another secret; the former one is heard until it is retired.
pub(super) fn rotate_secret(contents: &mut Contents) -> Result<(), IdentityError> {
    if contents.get(FORMER_SECRET).is_some() {
        return Err(StageError::FormerSecret.into());
    }
    let former = std::mem::replace(&mut contents.server_secret, certificates::secret()?);
    contents.more.insert(FORMER_SECRET, former);
    note_label(contents);
    Ok(())
}

/// Has devices know another recovery key. A voucher of the one before stays for those that know only that.
pub(super) fn set_recovery(
    contents: &mut Contents,
    key: &KeyPair,
    now: WallTime,
) -> Result<(), IdentityError> {
    contents.more.insert(RECOVERY_CERTIFICATE, recovery_certificate(key)?.into());
    contents.stages.recovery_since = Some(Timestamp(now));
    contents.stages.recovery_labels.clear();
    note_label(contents);
    Ok(())
}

/// A new identity that devices accept by the recovery key; `left` is what is known of the one before. The
/// authority stays when it is whole: devices whose certificates the store does not know, as it was restored
/// from a copy, are known by its signature. When it is stolen nothing stays.
pub(super) fn recovered(
    key: &KeyPair,
    left: Left,
    recovery: Recovery,
    now: WallTime,
) -> Result<Contents, IdentityError> {
    let Left { stages, recovery_certificate: known, authority } = left;
    let certificate = recovery_certificate(key)?;
    if known.is_some_and(|known| known != certificate) {
        return Err(StageError::WrongRecoveryKey.into());
    }
    // One that is not whole signs nothing that passes.
    let kept = authority.filter(|_| !recovery.is_stolen).filter(|(certificate, key)| {
        let key = KeyPair::try_from(key.as_slice()).ok();
        key.is_some_and(|key| ed25519_key(certificate) == Some(key.public_key_raw()))
    });
    let mut contents = match kept {
        Some(authority) => certificates::generate_with(authority, now)?,
        None => certificates::generate(now)?,
    };
    let number = next_number(stages.voucher_number.max(recovery.above), now);
    let voucher = voucher(&contents.server_certificate, number, key, "muster recovery")?;
    contents.more.insert(RECOVERY_CERTIFICATE, certificate.into());
    contents.more.insert(RECOVERY_VOUCHER, voucher.into());
    contents.stages = super::files::Stages {
        voucher_number: number,
        recovery_since: stages.recovery_since.or(Some(Timestamp(now))),
        recovery_labels: stages.recovery_labels,
        ..Default::default()
    };
    note_label(&mut contents);
    Ok(contents)
}

/// A new recovery key, PKCS #8.
pub(super) fn new_recovery_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(crypto)
}

/// The certificates that devices are to accept, the current one first.
pub(super) fn pins(contents: &Contents) -> Vec<Vec<u8>> {
    let others = [NEXT_CERTIFICATE, FORMER_CERTIFICATE, RECOVERY_CERTIFICATE];
    let others = others.iter().filter_map(|name| contents.get(name)).map(<[u8]>::to_vec);
    std::iter::once(contents.server_certificate.clone()).chain(others).collect()
}

/// Certificates that the server shows behind its own: vouchers, and the former certificate, which join tokens
/// may still name.
pub(super) fn behind(contents: &Contents) -> Vec<Vec<u8>> {
    let shown = [RECOVERY_VOUCHER, FORMER_VOUCHER, FORMER_CERTIFICATE];
    shown.iter().filter_map(|name| contents.get(name)).map(<[u8]>::to_vec).collect()
}

/// Names what devices are to trust: by its content, so that a server that was restored from a copy does not
/// give one name to two things. Never 0.
pub(super) fn label(contents: &Contents) -> Result<u64, IdentityError> {
    let mut pins = pins(contents);
    pins.sort();
    let mut hash = Context::new(&SHA256);
    for pin in pins {
        hash.update(&(pin.len() as u64).to_be_bytes());
        hash.update(&pin);
    }
    hash.update(&contents.stages.voucher_number.to_be_bytes());
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret_of(&contents.server_secret)?);
    let mut of_secret = Zeroizing::new([0; 32]);
    root.expand(&[LABEL_OF_SECRET], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *of_secret))
        .map_err(|_| crypto("no key could be derived"))?;
    hash.update(&*of_secret);
    let first = hash.finish().as_ref()[..8].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    Ok(u64::max(first, 1))
}

/// Remembers a label as one that goes with the recovery key.
fn note_label(contents: &mut Contents) {
    let Ok(label) = label(contents) else { return };
    if contents.get(RECOVERY_CERTIFICATE).is_none() {
        return;
    }
    let labels = &mut contents.stages.recovery_labels;
    let label = format!("{label:016x}");
    labels.retain(|before| *before != label);
    labels.push(label);
    let excess = labels.len().saturating_sub(LABELS_MAX);
    labels.drain(..excess);
}
