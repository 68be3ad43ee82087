//! The server's identity: its certificate authority, its certificate, and the secret from which the keys of
//! datagrams and tickets come.
//!
//! Five PEM files (RFC 7468) of mode 0600 in a directory of mode 0700, written whole or not at all: the
//! directory is filled under another name, made durable, and renamed. Losing or changing them locks the whole
//! fleet out, because every device has stored the server certificate; so nothing here is ever made anew while
//! anything of an older server is there.
//!
//! | file | what |
//! |---|---|
//! | `ca-certificate.pem`, `ca-key.pem` | Ed25519 authority that signs every certificate of the fleet |
//! | `server-certificate.pem`, `server-key.pem` | Ed25519 certificate that devices store a copy of |
//! | `server-secret.pem` | 32 random bytes and their CRC-32C: the root of every datagram key, and half of every ticket key |

mod certificates;
mod files;
mod issue;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf;
use rcgen::{Issuer, KeyPair};
use zeroize::Zeroizing;

pub use issue::{IssueError, IssuedCertificate, Wanted};

use crate::reactor::channel::TICKET_KEY_BYTES;
use crate::store::TICKET_SEED_BYTES;
use crate::wire::certificate::{self, Issued};
use crate::wire::id::{CertificateHash, DeviceId};
use crate::wire::limits::DATAGRAM_KEY_BYTES;
use crate::wire::time::WallTime;

/// Length of the server secret: the block that HKDF-SHA256 yields (RFC 5869).
const SERVER_SECRET_BYTES: usize = 32;

/// The first part of HKDF's `info` for keys of session tickets. None of the datagrams' begins with it.
const TICKET_LABEL: &[u8] = b"muster ticket v1";

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
        "{} is missing while the rest of the server's identity is there: restore it from a backup (a new identity would lock out every enrolled device)",
        path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// There is no identity, but something that an earlier server left.
    #[error(
        "{} is missing, but {} is there: restore the directory from a backup, or start on an empty data directory (a new identity would lock out every enrolled device)",
        directory.display(), evidence.display()
    )]
    Lost {
        /// The identity's directory.
        directory: PathBuf,
        /// The file that shows that there was one.
        evidence: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("{} is damaged ({what}): restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The fault.
        what: &'static str,
    },
    /// The cryptographic library failed.
    #[error("can't make the server's keys: {0}")]
    Crypto(String),
}

/// The server's identity, in memory. Can be shared between threads.
pub struct Identity {
    issuer: Issuer<'static, KeyPair>,
    server_key: KeyPair,
    server_certificate_der: Vec<u8>,
    certificate_hash: CertificateHash,
    datagram_root: hkdf::Prk,
}

impl Identity {
    /// Opens the identity in `directory`, or makes one when there is none. `evidence` are paths (database,
    /// journal) of which the first one that exists proves that there was an identity before: then none is
    /// made.
    ///
    /// # Errors
    /// When a file is missing, damaged or open to others, when there is evidence of a lost identity, or when
    /// the system refuses to read or write.
    pub fn open_or_create(
        directory: &Path,
        evidence: &[&Path],
        now: WallTime,
    ) -> Result<Self, IdentityError> {
        if !files::exists(directory)? {
            if let Some(evidence) = evidence.iter().find(|path| path.exists()) {
                return Err(IdentityError::Lost {
                    directory: directory.to_owned(),
                    evidence: (*evidence).to_owned(),
                });
            }
            files::create(directory, &certificates::generate(now)?)?;
        }
        Self::open(directory)
    }

    /// The device to which this authority has issued a certificate (DER), and its number; `None`: it has not
    /// issued it.
    #[must_use]
    pub fn issued(&self, certificate: &[u8]) -> Option<Issued> {
        certificate::issued(certificate, self.issuer.key().public_key_raw())
    }

    /// Opens the identity in `directory`.
    ///
    /// # Errors
    /// When it is not there, a file is missing, damaged or open to others, or can't be read.
    pub fn open(directory: &Path) -> Result<Self, IdentityError> {
        certificates::check(directory, files::read(directory)?)
    }

    /// The server's certificate, DER: what devices store a copy of.
    #[must_use]
    pub fn server_certificate_der(&self) -> &[u8] {
        &self.server_certificate_der
    }

    /// The server's private key, PKCS #8 DER (RFC 5958).
    #[must_use]
    pub fn server_private_key_der(&self) -> &[u8] {
        self.server_key.serialized_der()
    }

    /// SHA-256 of the server's certificate: what join tokens carry.
    #[must_use]
    pub fn certificate_hash(&self) -> CertificateHash {
        self.certificate_hash
    }

    /// The certificates that an enrolling device stores, DER, the current one first.
    #[must_use]
    pub fn pins(&self) -> Vec<Vec<u8>> {
        vec![self.server_certificate_der.clone()]
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
        let mut key = [0; DATAGRAM_KEY_BYTES];
        let info = [purpose.label(), &device.0.to_be_bytes()];
        // Both calls fail only for more than 255 blocks; a key is one.
        let filled = self.datagram_root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
        debug_assert!(filled.is_ok());
        key
    }

    /// The key of session tickets that a seed stands for: HKDF-SHA256 (RFC 5869) of the server secret,
    /// without salt, with `label ‖ seed` as info.
    #[must_use]
    pub fn ticket_key(&self, seed: &[u8; TICKET_SEED_BYTES]) -> Zeroizing<[u8; TICKET_KEY_BYTES]> {
        let mut key = Zeroizing::new([0; TICKET_KEY_BYTES]);
        let info = [TICKET_LABEL, &seed[..]];
        // As above.
        let filled = self.datagram_root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *key));
        debug_assert!(filled.is_ok());
        key
    }
}

impl std::fmt::Debug for Identity {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate_hash).finish_non_exhaustive()
    }
}
