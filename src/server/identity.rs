//! The server's identity: its certificate authority, its certificate, and the secret from which the keys of
//! datagrams and tickets come.
//!
//! PEM files (RFC 7468) of mode 0600 in a directory of mode 0700, written whole or not at all: the next
//! contents are made ready in a directory of another name, made durable, and take the other's place. Losing
//! them locks the fleet out that has no recovery key, because every device has stored the server certificate;
//! so nothing here is ever made anew by itself while anything of an older server is there.
//!
//! | file | what |
//! |---|---|
//! | `ca-certificate.pem`, `ca-key.pem` | Ed25519 authority that signs every certificate of the fleet |
//! | `server-certificate.pem`, `server-key.pem` | Ed25519 certificate that devices store a copy of |
//! | `server-secret.pem` | 32 random bytes and their CRC-32C: the root of every datagram key, and half of every ticket key |
//! | `next-certificate.pem`, `next-key.pem` | the next ones, from *prepare* until *switch* |
//! | `former-certificate.pem`, `former-key.pem`, `former-voucher.pem` | those before, from *switch* until *retire*, and the former key's voucher for the current one |
//! | `former-secret.pem` | the secret before, until *retire* |
//! | `recovery-certificate.pem` | the recovery key's public part; the private one is never here |
//! | `recovery-voucher.pem`, `next-recovery-voucher.pem` | its vouchers for the current and for the next key |
//! | `stages.json` | which of these are there, and since when |
//!
//! Keys and secrets can be kept under a [`Passphrase`]: then their files say `MUSTER SEALED KEY`.

mod browser;
mod certificates;
mod files;
mod issue;
mod passphrase;
mod stages;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf;
use parking_lot::{Mutex, RwLock};
use rcgen::{Issuer, KeyPair};
use zeroize::Zeroizing;

pub use files::NamedFile;
pub use issue::{IssueError, IssuedCertificate, Wanted};
pub use passphrase::{Passphrase, PassphraseError};
pub use stages::StageError;

use crate::reactor::channel::TICKET_KEY_BYTES;
use crate::store::TICKET_SEED_BYTES;
use crate::wire::certificate::{self, Issued};
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::limits::DATAGRAM_KEY_BYTES;
use crate::wire::message::Trust;
use crate::wire::time::WallTime;

/// Length of the server secret: the block that HKDF-SHA256 yields (RFC 5869).
const SERVER_SECRET_BYTES: usize = 32;

/// The first part of HKDF's `info` for keys of session tickets. None of the datagrams' begins with it.
const TICKET_LABEL: &[u8] = b"muster ticket v1";

/// Name of the directory in which an identity is kept that another took the place of.
pub const REPLACED: &str = "identity.replaced";

/// The first part of HKDF's `info` for ids of devices. None of the others begins with it.
const DEVICE_LABEL: &[u8] = b"muster device v1";

/// The same for the key that browsers are shown.
const BROWSER_LABEL: &[u8] = b"muster browser v1";

/// Purpose of a datagram key. Keys of different purpose have nothing to do with each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramPurpose {
    /// Datagrams in which the server calls a device.
    Wake,
    /// Datagrams in which a device says that it shuts down.
    Notice,
}

impl DatagramPurpose {
    /// The first part of HKDF's `info` (RFC 5869 section 3.2). Neither is the beginning of the other.
    fn label(self) -> &'static [u8] {
        match self {
            Self::Wake => b"muster wake v1",
            Self::Notice => b"muster notice v1",
        }
    }
}

/// Why there is no identity to start with. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The operating system refused.
    #[error("can't {what} {}: {error}", path.display())]
    Io {
        /// The attempt.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Others than the owner may read or change it.
    #[error("{} has mode {mode:03o}, so others can reach the server's keys: run 'chmod {allowed:03o} {}'", path.display(), path.display())]
    Permissions {
        /// Which file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        allowed: u32,
    },
    /// One of the files is not there, others are.
    #[error(
        "{} is missing while the rest of the server's identity is there: restore it from a backup, or have devices come back by the recovery key with 'musterd recovery-key use' (a new identity would lock out every enrolled device)",
        path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// There is no identity, but something that an earlier server left.
    #[error(
        "{} is missing, but {} is there: restore the directory from a backup, have devices come back by the recovery key with 'musterd recovery-key use', or start on an empty data directory (a new identity would lock out every enrolled device)",
        directory.display(), evidence.display()
    )]
    Lost {
        /// The identity's directory.
        directory: PathBuf,
        /// The file that shows that there was one.
        evidence: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged ({what}): restore it from a backup, or have devices come back by the recovery key with 'musterd recovery-key use'", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The fault.
        what: &'static str,
    },
    /// Its private keys are under a passphrase, and there is none here.
    #[error(
        "{} is under a passphrase: say where that is ([identity] passphrase_file in the configuration)",
        .0.display()
    )]
    Sealed(PathBuf),
    /// Its private keys are under another passphrase.
    #[error("{} is under another passphrase than this one, or was changed", .0.display())]
    WrongPassphrase(PathBuf),
    /// The passphrase can't be had.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The cryptographic library failed.
    #[error("can't make the server's keys: {0}")]
    Crypto(String),
    /// The server's key is in another stage, or the recovery key is another.
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// The place of an identity, and the passphrase that its private keys are under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    directory: PathBuf,
    passphrase: Option<Passphrase>,
}

impl Place {
    /// In this directory, with private keys under the passphrase, if there is one.
    #[must_use]
    pub fn new(directory: PathBuf, passphrase: Option<Passphrase>) -> Self {
        Self { directory, passphrase }
    }
}

impl From<&Path> for Place {
    fn from(directory: &Path) -> Self {
        Self::new(directory.to_owned(), None)
    }
}

impl From<&PathBuf> for Place {
    fn from(directory: &PathBuf) -> Self {
        directory.as_path().into()
    }
}

/// Circumstances of a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Somebody else has the files, too: the authority is made anew as well.
    pub is_stolen: bool,
    /// The voucher's number lies above this: devices were told of one that is not known here, as the identity
    /// was restored from a copy and a clock was ahead before that.
    pub above: u32,
}

/// The server's identity, in memory. Can be shared between threads.
pub struct Identity {
    place: Place,
    issuer: Issuer<'static, KeyPair>,
    current: RwLock<Arc<Current>>,
}

/// The parts that a rotation changes.
struct Current {
    server_key: Zeroizing<Vec<u8>>,
    certificate_hash: CertificateHash,
    pins: Vec<Vec<u8>>,
    behind: Vec<Vec<u8>>,
    datagram_root: hkdf::Prk,
    former_root: Option<hkdf::Prk>,
    facts: TrustFacts,
}

/// Content of the devices' trust, and the stage of the server's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustFacts {
    /// Names what they are to trust; never 0.
    pub label: u64,
    /// The lowest number of a voucher of the recovery key that they accept.
    pub voucher_floor: u32,
    /// The next certificate, once it is prepared.
    pub next: Option<CertificateHash>,
    /// Since when.
    pub prepared_at: Option<WallTime>,
    /// The former certificate, until it is retired.
    pub former: Option<CertificateHash>,
    /// Since when it is the former one.
    pub switched_at: Option<WallTime>,
    /// The recovery key's certificate.
    pub recovery: Option<CertificateHash>,
    /// Since when devices are told of it.
    pub recovery_since: Option<WallTime>,
    /// Whether the recovery key vouches for the current key.
    pub is_vouched: bool,
    /// Whether it vouches for the next one.
    pub is_next_vouched: bool,
    /// Whether a former secret of datagrams is still in use.
    pub has_former_secret: bool,
    /// Devices that named one of these know the recovery key.
    pub recovery_labels: Vec<u64>,
}

/// A step of the server's key to another stage.
pub enum Step<'k> {
    /// Make the next key; with the recovery key in PEM, if at hand.
    Prepare(Option<&'k str>),
    /// Put it into use.
    Switch,
    /// Let the former key, and a former secret, go.
    Retire,
    /// Draw another secret of datagrams.
    RotateSecret,
}

/// One change of an identity or copy of its files at a time in this process.
static CHANGES: Mutex<()> = Mutex::new(());

/// The secret in a file, without its check.
fn secret_of(file: &[u8]) -> Result<&[u8], IdentityError> {
    let matches = |(secret, check): &(&[u8], &[u8; 4])| {
        secret.len() == SERVER_SECRET_BYTES && crc32c::crc32c(secret).to_be_bytes() == **check
    };
    let parts = file.split_last_chunk::<4>().filter(matches);
    parts.map(|(secret, _)| secret).ok_or_else(|| IdentityError::Crypto("the secret's check".to_owned()))
}

fn root_of(file: &[u8]) -> Result<hkdf::Prk, IdentityError> {
    Ok(hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret_of(file)?))
}

impl Current {
    fn of(contents: &files::Contents) -> Result<Self, IdentityError> {
        let hash_of = |name| contents.get(name).map(CertificateHash::of);
        let stages = &contents.stages;
        let number = |label: &String| u64::from_str_radix(label, 16).ok();
        Ok(Self {
            server_key: contents.server_key.clone(),
            certificate_hash: CertificateHash::of(&contents.server_certificate),
            pins: stages::pins(contents),
            behind: stages::behind(contents),
            datagram_root: root_of(&contents.server_secret)?,
            former_root: contents.get(files::FORMER_SECRET).map(root_of).transpose()?,
            facts: TrustFacts {
                label: stages::label(contents)?,
                voucher_floor: stages.voucher_number,
                next: hash_of(files::NEXT_CERTIFICATE),
                prepared_at: stages.prepared_at.map(|at| at.0),
                former: hash_of(files::FORMER_CERTIFICATE),
                switched_at: stages.switched_at.map(|at| at.0),
                recovery: hash_of(files::RECOVERY_CERTIFICATE),
                recovery_since: stages.recovery_since.map(|at| at.0),
                is_vouched: contents.get(files::RECOVERY_VOUCHER).is_some(),
                is_next_vouched: contents.get(files::NEXT_VOUCHER).is_some(),
                has_former_secret: contents.get(files::FORMER_SECRET).is_some(),
                recovery_labels: stages.recovery_labels.iter().filter_map(number).collect(),
            },
        })
    }
}

impl Identity {
    /// Opens the identity in `place`, or makes one when there is none; puts private keys under the passphrase
    /// that are not yet. `evidence` are paths (database, journal) of which the first one that exists proves
    /// that there was an identity before: then none is made.
    ///
    /// # Errors
    /// When a file is missing, damaged or open to others, when there is evidence of a lost identity, or when
    /// the system refuses to read or write.
    pub fn open_or_create(
        place: impl Into<Place>,
        evidence: &[&Path],
        now: WallTime,
    ) -> Result<Self, IdentityError> {
        let changes = CHANGES.lock();
        let place = place.into();
        files::settle(&place.directory)?;
        if !files::exists(&place.directory)? {
            if let Some(evidence) = evidence.iter().find(|path| path.exists()) {
                return Err(IdentityError::Lost {
                    directory: place.directory,
                    evidence: (*evidence).to_owned(),
                });
            }
            files::write(&place, &certificates::generate(now)?, None, || ())?;
        } else if place.passphrase.is_some() && !files::is_sealed(&place.directory)? {
            let contents = files::read(&place)?;
            files::write(&place, &contents, None, || ())?;
            log::info!(
                "the private keys in {} are under the passphrase from now on",
                place.directory.display()
            );
        }
        drop(changes);
        Self::open(place)
    }

    /// Makes a whole new identity in `directory`, in place of one that is lost or stolen: devices that know
    /// the recovery key (PEM) accept it. The authority stays unless it is damaged or stolen. The files that
    /// were there are kept as `identity.replaced`, under the passphrase when there is one.
    ///
    /// # Errors
    /// When it is not the recovery key, or the system refuses.
    pub fn recover(
        place: impl Into<Place>,
        recovery_key: &str,
        recovery: Recovery,
        now: WallTime,
    ) -> Result<Self, IdentityError> {
        let changes = CHANGES.lock();
        let place = place.into();
        let key = stages::recovery_key(recovery_key)?;
        files::settle(&place.directory)?;
        let contents = stages::recovered(&key, files::read_what_is_left(&place), recovery, now)?;
        files::write(&place, &contents, Some(&place.directory.with_file_name(REPLACED)), || ())?;
        drop(changes);
        Self::open(place)
    }

    /// Puts the private keys in `old` under another passphrase, or under none.
    ///
    /// # Errors
    /// As [`Identity::open`]; then all is as before.
    pub fn reseal(old: impl Into<Place>, passphrase: Option<Passphrase>) -> Result<(), IdentityError> {
        let _changes = CHANGES.lock();
        let old = old.into();
        files::settle(&old.directory)?;
        let contents = files::read(&old)?;
        files::write(&Place::new(old.directory, passphrase), &contents, None, || ())
    }

    /// Opens the identity in `directory`.
    ///
    /// # Errors
    /// When it is not there, a file is missing, damaged or open to others, or can't be read.
    pub fn open(place: impl Into<Place>) -> Result<Self, IdentityError> {
        let place = place.into();
        let contents = files::read(&place)?;
        let issuer = certificates::check(&place.directory, &contents)?;
        let current = RwLock::new(Arc::new(Current::of(&contents)?));
        Ok(Self { place, issuer, current })
    }

    /// Opens the identity in `directory`, and returns its files with their names, all from one moment.
    ///
    /// # Errors
    /// As [`Identity::open`].
    pub fn copy(place: &Place) -> Result<(Self, Vec<NamedFile>), IdentityError> {
        let _changes = CHANGES.lock();
        Ok((Self::open(place.clone())?, files::copy(&place.directory)?))
    }

    /// Takes a step, on disk and then here.
    ///
    /// # Errors
    /// When the key is in a stage that does not allow it, or the system refuses; then all is as before.
    pub fn take(&self, step: &Step<'_>, now: WallTime) -> Result<(), IdentityError> {
        self.change(|contents| match step {
            Step::Prepare(recovery) => {
                let key = recovery.map(stages::recovery_key).transpose()?;
                stages::prepare(contents, key.as_ref(), now)
            }
            Step::Switch => stages::switch(contents, now),
            Step::Retire => stages::retire(contents),
            Step::RotateSecret => stages::rotate_secret(contents),
        })
    }

    /// Makes a recovery key, which takes the place of one that was there. Its private part, in PEM, is
    /// returned and not stored.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create_recovery_key(&self, now: WallTime) -> Result<Zeroizing<String>, IdentityError> {
        let key = stages::new_recovery_key()?;
        self.change(|contents| stages::set_recovery(contents, &key, now))?;
        Ok(files::key_to_pem(&Zeroizing::new(key.serialize_der())))
    }

    fn change(
        &self,
        change: impl FnOnce(&mut files::Contents) -> Result<(), IdentityError>,
    ) -> Result<(), IdentityError> {
        let _changes = CHANGES.lock();
        let mut contents = files::read(&self.place)?;
        change(&mut contents)?;
        certificates::check(&self.place.directory, &contents)?;
        let current = Current::of(&contents)?;
        files::write(&self.place, &contents, None, || ())?;
        *self.current.write() = Arc::new(current);
        Ok(())
    }

    /// Its place.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }

    /// The device to which this authority has issued a certificate (DER), and its number; `None`: it has not
    /// issued it.
    #[must_use]
    pub fn issued(&self, certificate: &[u8]) -> Option<Issued> {
        certificate::issued(certificate, self.issuer.key().public_key_raw())
    }

    /// The certificates that the server shows of itself, DER: its own, and those behind it.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        let current = self.current();
        current.pins.iter().take(1).chain(&current.behind).cloned().collect()
    }

    /// The certificates that it shows behind another one, such as of `[tls]` files: that one, a voucher
    /// for it by the server's own key, and the chain of that.
    ///
    /// # Errors
    /// When its key is of a kind that can't be vouched for.
    pub fn chain_behind(&self, certificate: &[u8]) -> Result<Vec<Vec<u8>>, IdentityError> {
        let voucher = stages::own_voucher(certificate, &self.current().server_key)?;
        Ok([certificate.to_vec(), voucher].into_iter().chain(self.chain()).collect())
    }

    /// The server's private key, PKCS #8 DER (RFC 5958).
    #[must_use]
    pub fn server_private_key_der(&self) -> Zeroizing<Vec<u8>> {
        self.current().server_key.clone()
    }

    /// The certificate that browsers are shown, DER, and its private key, PKCS #8 DER. The same as long as
    /// the server secret is.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn browser_certificate(&self) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), IdentityError> {
        let key = Zeroizing::new(derive(&self.current().datagram_root, BROWSER_LABEL, &[]));
        browser::certificate(&key, &self.issuer)
    }

    /// SHA-256 of the server's certificate: what join tokens carry.
    #[must_use]
    pub fn certificate_hash(&self) -> CertificateHash {
        self.current().certificate_hash
    }

    /// The certificates that devices store, DER, the current one first.
    #[must_use]
    pub fn pins(&self) -> Vec<Vec<u8>> {
        self.current().pins.clone()
    }

    /// Content of the devices' trust, and the stage of the server's key.
    #[must_use]
    pub fn trust_facts(&self) -> TrustFacts {
        self.current().facts.clone()
    }

    /// All that a device is to trust.
    #[must_use]
    pub fn trust(&self, device: DeviceId) -> Trust {
        let current = self.current();
        let key = |purpose: DatagramPurpose| {
            derive(&current.datagram_root, purpose.label(), &device.0.to_be_bytes())
        };
        Trust {
            label: current.facts.label,
            pins: current.pins.clone(),
            voucher_floor: current.facts.voucher_floor,
            wake_key: key(DatagramPurpose::Wake),
            notice_key: key(DatagramPurpose::Notice),
        }
    }

    /// Issues a device's certificate. Of the request (PKCS #10, RFC 2986, DER) only the public key is used;
    /// the subject is the device's id.
    ///
    /// # Errors
    /// When it is no request, its signature is not by its own key, or the key is neither Ed25519 nor P-256.
    pub fn issue(
        &self,
        request_der: &[u8],
        wanted: Wanted,
        now: WallTime,
    ) -> Result<IssuedCertificate, IssueError> {
        issue::issue(&self.issuer, request_der, wanted, now)
    }

    /// The key of the datagrams of one purpose to or from one device: HKDF-SHA256 (RFC 5869) of the server
    /// secret, without salt, with `purpose label ‖ device id (u64, big-endian)` as info.
    #[must_use]
    pub fn datagram_key(&self, purpose: DatagramPurpose, device: DeviceId) -> [u8; DATAGRAM_KEY_BYTES] {
        derive(&self.current().datagram_root, purpose.label(), &device.0.to_be_bytes())
    }

    /// The same of the former secret; `None`: there is none.
    #[must_use]
    pub fn former_datagram_key(
        &self,
        purpose: DatagramPurpose,
        device: DeviceId,
    ) -> Option<[u8; DATAGRAM_KEY_BYTES]> {
        self.current().former_root.as_ref().map(|root| derive(root, purpose.label(), &device.0.to_be_bytes()))
    }

    /// The id of the device that asks with this certificate request, each time: one whose answer was lost
    /// asks with the same. HKDF-SHA256 of the server secret, so that nobody else can choose it; never 0.
    #[must_use]
    pub fn device_of(&self, request: &[u8]) -> DeviceId {
        let key = derive(&self.current().datagram_root, DEVICE_LABEL, digest(&SHA256, request).as_ref());
        DeviceId(key.iter().take(size_of::<u64>()).fold(0, |id, byte| id << 8 | u64::from(*byte)).max(1))
    }

    /// The key of session tickets that a seed stands for: HKDF-SHA256 (RFC 5869) of the server secret,
    /// without salt, with `label ‖ seed` as info.
    #[must_use]
    pub fn ticket_key(&self, seed: &[u8; TICKET_SEED_BYTES]) -> Zeroizing<[u8; TICKET_KEY_BYTES]> {
        let mut key = Zeroizing::new([0; TICKET_KEY_BYTES]);
        let info = [TICKET_LABEL, &seed[..]];
        let current = self.current();
        // As below.
        let filled =
            current.datagram_root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *key));
        debug_assert!(filled.is_ok());
        key
    }
}

fn derive(root: &hkdf::Prk, label: &[u8], of: &[u8]) -> [u8; DATAGRAM_KEY_BYTES] {
    let mut key = [0; DATAGRAM_KEY_BYTES];
    let info = [label, of];
    // Both calls fail only for more than 255 blocks; a key is one.
    let filled = root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
    debug_assert!(filled.is_ok());
    key
}

impl std::fmt::Debug for Identity {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate_hash()).finish_non_exhaustive()
    }
}
