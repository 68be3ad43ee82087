//! The five files: read and written, with the modes that they must have.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::IdentityError;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Largest file that is read. Ours are below 1,000.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Characters in a line of PEM (RFC 7468 section 2).
const PEM_LINE_CHARACTERS: usize = 64;

/// Contents of the five files: DER, or for the secret its bytes and their check.
pub(super) struct Contents {
    pub(super) ca_certificate: Vec<u8>,
    pub(super) ca_key: Vec<u8>,
    pub(super) server_certificate: Vec<u8>,
    pub(super) server_key: Vec<u8>,
    pub(super) server_secret: Vec<u8>,
}

pub(super) const CA_CERTIFICATE: &str = "ca-certificate.pem";
pub(super) const CA_KEY: &str = "ca-key.pem";
pub(super) const SERVER_CERTIFICATE: &str = "server-certificate.pem";
pub(super) const SERVER_KEY: &str = "server-key.pem";
pub(super) const SERVER_SECRET: &str = "server-secret.pem";

const LABEL_CERTIFICATE: &str = "CERTIFICATE";
const LABEL_KEY: &str = "PRIVATE KEY";
const LABEL_SECRET: &str = "MUSTER SERVER SECRET";

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> IdentityError + use<'a> {
    move |error| IdentityError::Io { what, path: path.to_owned(), error }
}

pub(super) fn exists(path: &Path) -> Result<bool, IdentityError> {
    path.try_exists().map_err(io("look for", path))
}

/// Fills a directory beside the wanted one, makes it durable, and gives it its name.
pub(super) fn create(directory: &Path, contents: &Contents) -> Result<(), IdentityError> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unfinished = directory.with_file_name(format!("{name}.unfinished"));
    if exists(&unfinished)? {
        fs::remove_dir_all(&unfinished).map_err(io("remove", &unfinished))?;
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .recursive(true)
        .create(&unfinished)
        .map_err(io("create", &unfinished))?;
    for (name, label, bytes) in [
        (CA_CERTIFICATE, LABEL_CERTIFICATE, &contents.ca_certificate),
        (CA_KEY, LABEL_KEY, &contents.ca_key),
        (SERVER_CERTIFICATE, LABEL_CERTIFICATE, &contents.server_certificate),
        (SERVER_KEY, LABEL_KEY, &contents.server_key),
        (SERVER_SECRET, LABEL_SECRET, &contents.server_secret),
    ] {
        let path = unfinished.join(name);
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
            file.write_all(to_pem(label, bytes).as_bytes())?;
            file.sync_all()
        };
        write().map_err(io("write", &path))?;
    }
    sync_directory(&unfinished)?;
    fs::rename(&unfinished, directory).map_err(io("create", directory))?;
    sync_directory(parent)
}

fn sync_directory(path: &Path) -> Result<(), IdentityError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io("make durable", path))
}

/// Reads all five, having looked at the modes.
pub(super) fn read(directory: &Path) -> Result<Contents, IdentityError> {
    check_mode(directory, DIRECTORY_MODE)?;
    let read = |name, label| read_one(&directory.join(name), label);
    Ok(Contents {
        ca_certificate: read(CA_CERTIFICATE, LABEL_CERTIFICATE)?,
        ca_key: read(CA_KEY, LABEL_KEY)?,
        server_certificate: read(SERVER_CERTIFICATE, LABEL_CERTIFICATE)?,
        server_key: read(SERVER_KEY, LABEL_KEY)?,
        server_secret: read(SERVER_SECRET, LABEL_SECRET)?,
    })
}

fn check_mode(path: &Path, allowed: u32) -> Result<(), IdentityError> {
    let mode = fs::metadata(path).map_err(io("read", path))?.mode() & 0o777;
    match mode & !allowed {
        0 => Ok(()),
        _ => Err(IdentityError::Permissions { path: path.to_owned(), mode, allowed }),
    }
}

fn read_one(path: &Path, label: &'static str) -> Result<Vec<u8>, IdentityError> {
    if !exists(path)? {
        return Err(IdentityError::Missing { path: path.to_owned() });
    }
    check_mode(path, FILE_MODE)?;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text))
        .map_err(io("read", path))?;
    let damaged =
        || IdentityError::Damaged { path: path.to_owned(), what: "it is not PEM of the right kind" };
    std::str::from_utf8(&text).ok().and_then(|text| from_pem(label, text)).ok_or_else(damaged)
}

fn to_pem(label: &str, bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
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
