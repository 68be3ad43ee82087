//! Private keys on the disk under a passphrase: a reader of the files without it has nothing.
//!
//! The passphrase comes from a file of the administrator's own, so that anything that can make one at start
//! will do: `LoadCredentialEncrypted=` of systemd, a program that has the TPM unseal it into a directory in
//! memory, standard input. The key is derived with PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2), the content is
//! sealed with AES-256-GCM (NIST SP 800-38D), with the file's name, so that none can take another's place.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1..5 | iterations of PBKDF2, u32, big-endian |
//! | 5..21 | salt |
//! | 21..33 | nonce |
//! | 33.. | the content, sealed, and 16 bytes of its tag |

use std::io::{self, IsTerminal as _, Read, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{pbkdf2, rand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::paths::{CREDENTIALS_VARIABLE, open_private};

const VERSION: u8 = 1;
const SALT: std::ops::Range<usize> = 5..21;
const NONCE: std::ops::Range<usize> = 21..33;
const HEADER_BYTES: usize = 33;

/// Iterations for what is sealed now: a tenth of a second of one core.
#[cfg(not(test))]
const ITERATIONS: u32 = 600_000;
#[cfg(test)]
const ITERATIONS: u32 = 1_000;

/// Most iterations that are done for a file that asks for them: a few seconds.
const ITERATIONS_MAX: u32 = 20_000_000;

/// Longest passphrase; a file that is longer is another one.
const PASSPHRASE_BYTES_MAX: usize = 4_096;

/// Beginning of a setting that names a credential.
const CREDENTIAL: &str = "credential:";

/// Words under which private keys are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Why there is no passphrase to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// The file can't be read.
    #[error("the passphrase of the server's identity can't be read from {from}: {error}")]
    Io {
        /// As people name it.
        from: String,
        /// The system's error.
        error: io::Error,
    },
    /// systemd has given none.
    #[error(
        "the passphrase of the server's identity is the credential '{0}', and there is no {CREDENTIALS_VARIABLE}: start musterd \
         with systemd and LoadCredentialEncrypted={0}:FILE in its unit"
    )]
    NoCredentials(String),
    /// It is empty, or far too long.
    #[error(
        "the passphrase of the server's identity, from {0}, has no line of 1 to {PASSPHRASE_BYTES_MAX} bytes"
    )]
    Length(String),
}

/// Why a file's content could not be unsealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsealed {
    /// Not of this form.
    Malformed,
    /// Another passphrase, another file, or a changed byte.
    Refused,
}

impl Passphrase {
    /// These words.
    #[must_use]
    pub fn new(words: &[u8]) -> Self {
        Self(Zeroizing::new(words.to_vec()))
    }

    /// Whether it is read from a file of the administrator's own: no standard input, no credential.
    #[must_use]
    pub fn is_file(from: &Path) -> bool {
        from != Path::new("-") && !from.to_str().is_some_and(|text| text.starts_with(CREDENTIAL))
    }

    /// Reads the first line of a file, which nobody else may read. `-` is standard input, where a person is
    /// asked; `credential:NAME` is a credential of the unit that this process was started by.
    ///
    /// # Errors
    /// When there is no such file, or nothing of use in it.
    pub fn read(from: &Path) -> Result<Self, PassphraseError> {
        let shown = if from == Path::new("-") { "standard input".into() } else { from.display().to_string() };
        let failed = |error| PassphraseError::Io { from: shown.clone(), error };
        let line = match from.to_str() {
            Some("-") => ask().map_err(failed)?,
            _ => first_line(open_private(&path_of(from)?).map_err(failed)?).map_err(failed)?,
        };
        match line.is_empty() || line.len() >= PASSPHRASE_BYTES_MAX {
            true => Err(PassphraseError::Length(shown)),
            false => Ok(Self(line)),
        }
    }

    /// Seals what the file of this name is to hold.
    pub(super) fn seal(&self, name: &str, content: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + content.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&ITERATIONS.to_be_bytes());
        sealed.resize(HEADER_BYTES, 0);
        rand::fill(&mut sealed[SALT.start..])?;
        let (key, nonce) = self.key(&sealed)?;
        let mut sealing = Zeroizing::new(content.to_vec());
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(name), &mut sealing)?;
        sealed.extend_from_slice(&sealing);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// The content of the file of this name.
    pub(super) fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unsealed> {
        let (header, content) = sealed.split_at_checked(HEADER_BYTES).ok_or(Unsealed::Malformed)?;
        if header[0] != VERSION || content.len() < AES_256_GCM.tag_len() {
            return Err(Unsealed::Malformed);
        }
        let (key, nonce) = self.key(header).map_err(|_| Unsealed::Malformed)?;
        let mut opened = Zeroizing::new(content.to_vec());
        let length =
            key.open_in_place(nonce, Aad::from(name), &mut opened).map_err(|_| Unsealed::Refused)?.len();
        opened.truncate(length);
        Ok(opened)
    }

    /// The key and the nonce that a header stands for.
    fn key(&self, header: &[u8]) -> Result<(LessSafeKey, Nonce), aws_lc_rs::error::Unspecified> {
        let asked = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let iterations = NonZeroU32::new(asked).filter(|asked| asked.get() <= ITERATIONS_MAX);
        let iterations = iterations.ok_or(aws_lc_rs::error::Unspecified)?;
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &header[SALT], &self.0, &mut *key);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&header[NONCE]);
        let key = UnboundKey::new(&AES_256_GCM, &*key)?;
        Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
    }
}

fn path_of(from: &Path) -> Result<PathBuf, PassphraseError> {
    let Some(name) = from.to_str().and_then(|text| text.strip_prefix(CREDENTIAL)) else {
        return Ok(from.to_owned());
    };
    let directory = std::env::var_os(CREDENTIALS_VARIABLE);
    directory
        .map(|directory| Path::new(&directory).join(name))
        .ok_or(PassphraseError::NoCredentials(name.into()))
}

/// Asks the person at the terminal, without showing the answer.
fn ask() -> io::Result<Zeroizing<Vec<u8>>> {
    let input = io::stdin();
    if !input.is_terminal() {
        return first_line(input);
    }
    let mut error_output = io::stderr();
    error_output.write_all(b"passphrase of the server's identity: ")?;
    let before = tcgetattr(&input)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &hidden)?;
    let line = first_line(&input);
    tcsetattr(&input, OptionalActions::Flush, &before)?;
    error_output.write_all(b"\n")?;
    line
}

/// Byte by byte: a person who types need not end the input, and no buffer keeps a copy.
fn first_line(mut from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX));
    let mut byte = Zeroizing::new([0]);
    while line.len() < PASSPHRASE_BYTES_MAX && from.read(&mut *byte)? > 0 && *byte != *b"\n" {
        line.push(byte[0]);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NAME: &str = "server-key.pem";

    #[test]
    fn what_is_sealed_is_there_again_for_its_passphrase_and_its_name_alone() {
        let right = Passphrase::new(b"correct horse");
        let sealed = right.seal(NAME, b"the key").unwrap();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"the key"));
        assert_eq!(right.unseal(NAME, &sealed).unwrap().as_slice(), b"the key");
        assert_ne!(right.seal(NAME, b"the key").unwrap(), sealed, "neither salt nor nonce comes twice");
        assert_eq!(Passphrase::new(b"correct hors").unseal(NAME, &sealed), Err(Unsealed::Refused));
        assert_eq!(right.unseal("ca-key.pem", &sealed), Err(Unsealed::Refused));
    }

    #[test]
    fn no_changed_byte_passes_and_no_number_of_iterations_stops_the_server() {
        let right = Passphrase::new(b"x");
        let sealed = right.seal(NAME, b"the key").unwrap();
        for at in (0..sealed.len()).filter(|at| !(1..4).contains(at)) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(right.unseal(NAME, &changed).is_err(), "byte {at}");
            assert!(right.unseal(NAME, &sealed[..at]).is_err(), "{at} bytes");
        }
        for iterations in [0, ITERATIONS_MAX + 1, u32::MAX] {
            let mut changed = sealed.clone();
            changed[1..5].copy_from_slice(&iterations.to_be_bytes());
            assert_eq!(right.unseal(NAME, &changed), Err(Unsealed::Malformed));
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passphrase");
        std::fs::write(&path, "anybody's").unwrap();
        let error = Passphrase::read(&path).unwrap_err().to_string();
        assert!(error.contains("it has mode 6") && error.contains("run 'chmod 6"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for (text, words) in [("two words\n", "two words"), ("a\r\nb\n", "a"), (" a ", " a ")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Passphrase::read(&path).unwrap(), Passphrase::new(words.as_bytes()), "{text:?}");
        }
        for text in [String::new(), "\n".into(), "x".repeat(5_000)] {
            std::fs::write(&path, &text).unwrap();
            let error = Passphrase::read(&path).unwrap_err().to_string();
            assert!(
                error.contains("passphrase has no line") || error.contains("has no line of 1 to"),
                "{error}"
            );
        }
        let error = Passphrase::read(Path::new("credential:muster")).unwrap_err().to_string();
        assert!(error.contains("LoadCredentialEncrypted=muster:FILE"), "{error}");
        let error = Passphrase::read(&directory.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
