//! The files: read and written, with the modes that they must have.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificates::Authority;
use super::passphrase::{Passphrase, Unsealed};
use super::{IdentityError, Place};
use crate::wire::api::Timestamp;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Largest file that is read. Ours are below 1,000.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Characters in a line of PEM (RFC 7468 section 2).
const PEM_LINE_CHARACTERS: usize = 64;

/// Contents of the files: DER, or for secrets their bytes and check.
pub(super) struct Contents {
    pub(super) ca_certificate: Vec<u8>,
    pub(super) ca_key: Zeroizing<Vec<u8>>,
    pub(super) server_certificate: Vec<u8>,
    pub(super) server_key: Zeroizing<Vec<u8>>,
    pub(super) server_secret: Zeroizing<Vec<u8>>,
    /// Those of a rotation and of the recovery key, by name.
    pub(super) more: BTreeMap<&'static str, Zeroizing<Vec<u8>>>,
    pub(super) stages: Stages,
}

/// Facts that are no keys: which files belong to the identity beside the five, and since when.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stages {
    pub(super) files: Vec<String>,
    pub(super) prepared_at: Option<Timestamp>,
    pub(super) switched_at: Option<Timestamp>,
    pub(super) recovery_since: Option<Timestamp>,
    /// The highest number of a voucher that the recovery key has signed.
    pub(super) voucher_number: u32,
    /// Labels of what devices were to trust since the recovery key is what it is: those that named one of
    /// them know it.
    pub(super) recovery_labels: Vec<String>,
}

pub(super) const CA_CERTIFICATE: &str = "ca-certificate.pem";
pub(super) const CA_KEY: &str = "ca-key.pem";
pub(super) const SERVER_CERTIFICATE: &str = "server-certificate.pem";
pub(super) const SERVER_KEY: &str = "server-key.pem";
pub(super) const SERVER_SECRET: &str = "server-secret.pem";
pub(super) const NEXT_CERTIFICATE: &str = "next-certificate.pem";
pub(super) const NEXT_KEY: &str = "next-key.pem";
pub(super) const NEXT_VOUCHER: &str = "next-recovery-voucher.pem";
pub(super) const FORMER_CERTIFICATE: &str = "former-certificate.pem";
pub(super) const FORMER_KEY: &str = "former-key.pem";
pub(super) const FORMER_VOUCHER: &str = "former-voucher.pem";
pub(super) const FORMER_SECRET: &str = "former-secret.pem";
pub(super) const RECOVERY_CERTIFICATE: &str = "recovery-certificate.pem";
pub(super) const RECOVERY_VOUCHER: &str = "recovery-voucher.pem";
const STAGES: &str = "stages.json";

/// The files that are not always there.
const MORE: [&str; 9] = [
    NEXT_CERTIFICATE,
    NEXT_KEY,
    NEXT_VOUCHER,
    FORMER_CERTIFICATE,
    FORMER_KEY,
    FORMER_VOUCHER,
    FORMER_SECRET,
    RECOVERY_CERTIFICATE,
    RECOVERY_VOUCHER,
];

const LABEL_CERTIFICATE: &str = "CERTIFICATE";
const LABEL_KEY: &str = "PRIVATE KEY";
const LABEL_SECRET: &str = "MUSTER SERVER SECRET";

const LABEL_SEALED: &str = "MUSTER SEALED KEY";

fn is_secret(name: &str) -> bool {
    label_of(name) != LABEL_CERTIFICATE
}

fn label_of(name: &str) -> &'static str {
    match name {
        CA_KEY | SERVER_KEY | NEXT_KEY | FORMER_KEY => LABEL_KEY,
        SERVER_SECRET | FORMER_SECRET => LABEL_SECRET,
        _ => LABEL_CERTIFICATE,
    }
}

impl Contents {
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.more.get(name).map(|bytes| bytes.as_slice())
    }

    /// The files in PEM, and the one that lists them when there are more than the five.
    fn texts(
        &self,
        passphrase: Option<&Passphrase>,
    ) -> Result<Vec<(&'static str, Zeroizing<String>)>, IdentityError> {
        let text_of = |(name, bytes): (&'static str, &[u8])| {
            let sealed =
                passphrase.filter(|_| is_secret(name)).map(|passphrase| seal(passphrase, name, bytes));
            Ok((name, sealed.unwrap_or_else(|| Ok(to_pem(label_of(name), bytes)))?))
        };
        let five: [(&'static str, &[u8]); 5] = [
            (CA_CERTIFICATE, &self.ca_certificate),
            (CA_KEY, &self.ca_key),
            (SERVER_CERTIFICATE, &self.server_certificate),
            (SERVER_KEY, &self.server_key),
            (SERVER_SECRET, &self.server_secret),
        ];
        let more = self.more.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
        let mut texts =
            five.into_iter().chain(more).map(text_of).collect::<Result<Vec<_>, IdentityError>>()?;
        let files = self.more.keys().map(|name| (*name).to_owned()).collect();
        let stages = Stages { files, ..self.stages.clone() };
        if stages != Stages::default() {
            // Nothing in it that could not be written.
            let text = serde_json::to_string_pretty(&stages).unwrap_or_default();
            texts.push((STAGES, Zeroizing::new(text + "\n")));
        }
        Ok(texts)
    }
}

fn seal(passphrase: &Passphrase, name: &str, content: &[u8]) -> Result<Zeroizing<String>, IdentityError> {
    let sealed = passphrase.seal(name, content).map_err(super::certificates::crypto)?;
    Ok(to_pem(LABEL_SEALED, &sealed))
}

/// Puts the keys in a directory that nobody reads any more under the passphrase, as far as they are in clear
/// and whole.
fn seal_plain(directory: &Path, passphrase: &Passphrase) -> Result<(), IdentityError> {
    for name in [CA_KEY, SERVER_KEY, SERVER_SECRET].into_iter().chain(MORE).filter(|name| is_secret(name)) {
        let path = directory.join(name);
        // One that can't be read is lost: that is why another identity was made.
        let text = fs::read_to_string(&path).map(Zeroizing::new).unwrap_or_default();
        let Some(key) = from_pem(label_of(name), &text).map(Zeroizing::new) else { continue };
        let sealed = seal(passphrase, name, &key)?;
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(sealed.as_bytes())?;
            file.sync_all()
        });
        written.map_err(io("write", &path))?;
    }
    Ok(())
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> IdentityError + use<'a> {
    move |error| IdentityError::Io { what, path: path.to_owned(), error }
}

pub(super) fn exists(path: &Path) -> Result<bool, IdentityError> {
    path.try_exists().map_err(io("look for", path))
}

/// The directory in which the next contents are made ready, and the name of the former ones while they are
/// replaced.
fn beside(directory: &Path) -> (PathBuf, PathBuf) {
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |what| directory.with_file_name(format!("{name}.{what}"));
    (beside("unfinished"), beside("former"))
}

fn parent_of(directory: &Path) -> &Path {
    directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn rename(from: &Path, to: &Path) -> Result<(), IdentityError> {
    fs::rename(from, to).map_err(io("replace", to))?;
    sync_directory(parent_of(to))
}

fn remove(directory: &Path) -> Result<(), IdentityError> {
    if exists(directory)? {
        fs::remove_dir_all(directory).map_err(io("remove", directory))?;
    }
    Ok(())
}

/// Ends a [`write()`] that was interrupted: the directory holds what it held before, or what was to be
/// written, whole.
pub(super) fn settle(directory: &Path) -> Result<(), IdentityError> {
    let (unfinished, former) = beside(directory);
    if !exists(directory)? && exists(&former)? {
        // The former contents are put aside only when the next ones are whole.
        let whole = if exists(&unfinished)? { &unfinished } else { &former };
        rename(whole, directory)?;
    }
    remove(&unfinished)?;
    remove(&former)
}

/// Gives the directory these contents, whole or not at all: they are made ready beside it and durable, and
/// then take its place. `aside` is what the former contents are called afterwards, their keys under the
/// passphrase, when there is one; `None`: they go. `after` is called after each step, for tests.
pub(super) fn write(
    place: &Place,
    contents: &Contents,
    aside: Option<&Path>,
    mut after: impl FnMut(),
) -> Result<(), IdentityError> {
    settle(&place.directory)?;
    let texts = contents.texts(place.passphrase.as_ref())?;
    // A link to elsewhere stays one.
    let real = place.directory.canonicalize().unwrap_or_else(|_| place.directory.clone());
    let directory = real.as_path();
    let (unfinished, former) = beside(directory);
    DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .recursive(true)
        .create(&unfinished)
        .map_err(io("create", &unfinished))?;
    after();
    for (name, text) in texts {
        let path = unfinished.join(name);
        let mut write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
            after();
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(io("write", &path))?;
        after();
    }
    sync_directory(&unfinished)?;
    sync_directory(parent_of(directory))?;
    if exists(directory)? {
        rename(directory, &former)?;
        after();
    }
    rename(&unfinished, directory)?;
    after();
    match aside {
        Some(aside) if exists(&former)? => {
            remove(aside)?;
            if let Some(passphrase) = &place.passphrase {
                seal_plain(&former, passphrase)?;
            }
            rename(&former, aside)
        }
        _ => remove(&former),
    }
}

/// A file with its name.
pub type NamedFile = (String, Zeroizing<Vec<u8>>);

/// The files as they are, for a backup.
pub(super) fn copy(directory: &Path) -> Result<Vec<NamedFile>, IdentityError> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let files = entries.map_err(io("read", directory))?.into_iter().filter(|entry| entry.path().is_file());
    files
        .map(|entry| {
            let bytes = fs::read(entry.path()).map_err(io("read", &entry.path()))?;
            Ok((entry.file_name().to_string_lossy().into_owned(), Zeroizing::new(bytes)))
        })
        .collect()
}

fn sync_directory(path: &Path) -> Result<(), IdentityError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io("make durable", path))
}

/// Reads all of them, having looked at the modes.
pub(super) fn read(place: &Place) -> Result<Contents, IdentityError> {
    let (directory, passphrase) = (&place.directory, place.passphrase.as_ref());
    check_mode(directory, DIRECTORY_MODE)?;
    let read = |name| read_one(&directory.join(name), name, passphrase);
    let stages = read_stages(&directory.join(STAGES))?;
    let is_listed = |name: &&str| stages.files.iter().any(|file| file == name);
    let more = MORE.into_iter().filter(is_listed).map(|name| Ok((name, Zeroizing::new(read(name)?))));
    Ok(Contents {
        ca_certificate: read(CA_CERTIFICATE)?,
        ca_key: read(CA_KEY)?.into(),
        server_certificate: read(SERVER_CERTIFICATE)?,
        server_key: read(SERVER_KEY)?.into(),
        server_secret: read(SERVER_SECRET)?.into(),
        more: more.collect::<Result<_, IdentityError>>()?,
        stages,
    })
}

/// The rest of an identity that is not whole.
pub(super) struct Left {
    pub(super) stages: Stages,
    pub(super) recovery_certificate: Option<Vec<u8>>,
    /// Both of them; whether they belong together is not known.
    pub(super) authority: Option<Authority>,
}

pub(super) fn read_what_is_left(place: &Place) -> Left {
    let read = |name| read_one(&place.directory.join(name), name, place.passphrase.as_ref()).ok();
    Left {
        stages: read_stages(&place.directory.join(STAGES)).unwrap_or_default(),
        recovery_certificate: read(RECOVERY_CERTIFICATE),
        authority: read(CA_CERTIFICATE).zip(read(CA_KEY).map(Zeroizing::new)),
    }
}

fn read_stages(path: &Path) -> Result<Stages, IdentityError> {
    if !exists(path)? {
        return Ok(Stages::default());
    }
    let damaged = |_| IdentityError::Damaged { path: path.to_owned(), what: "it is not what was written" };
    let text = read_text(path)?;
    let stages: Stages = serde_json::from_slice(&text).map_err(damaged)?;
    Ok(stages)
}

fn check_mode(path: &Path, allowed: u32) -> Result<(), IdentityError> {
    let mode = fs::metadata(path).map_err(io("read", path))?.mode() & 0o777;
    match mode & !allowed {
        0 => Ok(()),
        _ => Err(IdentityError::Permissions { path: path.to_owned(), mode, allowed }),
    }
}

/// Whether the private keys are under a passphrase.
pub(super) fn is_sealed(directory: &Path) -> Result<bool, IdentityError> {
    let path = directory.join(SERVER_KEY);
    Ok(exists(&path)? && read_text(&path)?.starts_with(format!("-----BEGIN {LABEL_SEALED}").as_bytes()))
}

fn read_one(path: &Path, name: &str, passphrase: Option<&Passphrase>) -> Result<Vec<u8>, IdentityError> {
    if !exists(path)? {
        return Err(IdentityError::Missing { path: path.to_owned() });
    }
    let text = read_text(path)?;
    let damaged =
        || IdentityError::Damaged { path: path.to_owned(), what: "it is not PEM of the right kind" };
    let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
    let Some(sealed) = from_pem(LABEL_SEALED, text).filter(|_| is_secret(name)) else {
        return from_pem(label_of(name), text).ok_or_else(damaged);
    };
    let passphrase = passphrase.ok_or_else(|| IdentityError::Sealed(path.to_owned()))?;
    match passphrase.unseal(name, &sealed) {
        Ok(mut content) => Ok(std::mem::take(&mut *content)),
        Err(Unsealed::Refused) => Err(IdentityError::WrongPassphrase(path.to_owned())),
        Err(Unsealed::Malformed) => Err(damaged()),
    }
}

fn read_text(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    check_mode(path, FILE_MODE)?;
    let mut text = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text))
        .map_err(io("read", path))?;
    Ok(text)
}

/// The private key in PEM.
pub(super) fn key_to_pem(key: &[u8]) -> Zeroizing<String> {
    to_pem(LABEL_KEY, key)
}

/// The private key that PEM text holds, PKCS #8 (RFC 5958), DER.
pub(super) fn key_from_pem(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    from_pem(LABEL_KEY, text).map(Zeroizing::new)
}

fn to_pem(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(bytes));
    // Large enough at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * encoded.len() + 128));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for (index, letter) in encoded.chars().enumerate() {
        if index > 0 && index % PEM_LINE_CHARACTERS == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}
