//! The file's parts, written and read in one go, each with its hash.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use aws_lc_rs::digest;
use serde::de::DeserializeOwned;

use super::{About, BackupError, Contents, FORMAT, JournalPart, PARTS};

const ABOUT: &str = "backup.json";
const JOURNAL: &str = "journal.json";
const SUMS: &str = "SHA256SUMS";
/// Stands in place of [`SUMS`] when the server could not go on, and says why.
const FAILED: &str = "FAILED";

/// Longest part that is read into memory: a hundred thousand segments have their hashes in it.
const LISTING_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Size of one read from the file.
const READ_BYTES: usize = 256 * 1024;

/// Writes the parts of a backup.
pub(super) struct ArchiveWriter<W: Write> {
    tar: tar::Builder<W>,
    sums: String,
    /// When they were made, in seconds since 1970.
    seconds: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins with what the backup says of itself.
    pub(super) fn new(out: W, about: &About) -> io::Result<Self> {
        let seconds = about.created_at.0.0 / 1_000;
        let mut writer = Self { tar: tar::Builder::new(out), sums: String::new(), seconds };
        writer.add_json(ABOUT, about)?;
        Ok(writer)
    }

    /// Adds a part of this size.
    pub(super) fn add(&mut self, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
        let mut hashed = Hashed::new(content.take(bytes));
        self.append(name, bytes, &mut hashed)?;
        if hashed.bytes != bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} has become shorter")));
        }
        // Writing to a string can't fail.
        let _ = writeln!(self.sums, "{}  {name}", hashed.finish());
        Ok(())
    }

    /// Ends a backup that is whole.
    pub(super) fn finish(mut self, journal: &JournalPart) -> io::Result<W> {
        self.add_json(JOURNAL, journal)?;
        let sums = std::mem::take(&mut self.sums);
        self.append(SUMS, sums.len() as u64, sums.as_bytes())?;
        self.tar.into_inner()
    }

    /// Ends one that can't be made whole, and says why to those who read it.
    pub(super) fn fail(mut self, why: &str) -> io::Result<W> {
        self.append(FAILED, why.len() as u64, why.as_bytes())?;
        self.tar.into_inner()
    }

    fn add_json(&mut self, name: &str, value: &impl serde::Serialize) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(value)?;
        json.push(b'\n');
        self.add(name, json.len() as u64, json.as_slice())
    }

    fn append(&mut self, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        header.set_cksum();
        self.tar.append(&header, content)
    }
}

/// Reads a backup from beginning to end and compares all hashes. `take` is given the parts that make a data
/// directory, each with its name (`identity/server-key.pem`) and size; what it leaves unread is read here.
/// Nothing of it may be used before this returns.
pub(super) fn read(
    path: &Path,
    file: &File,
    mut take: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    let wrong = |what: String| BackupError::NotWhole { path: path.to_owned(), what };
    let not_read = |error: io::Error| wrong(error.to_string());
    let mut archive = tar::Archive::new(BufReader::with_capacity(READ_BYTES, file));
    let (mut about, mut journal, mut sums, mut total): (Option<About>, Option<JournalPart>, _, _) =
        (None, None, String::new(), 0);
    let mut is_whole = false;
    for entry in archive.entries().map_err(not_read)? {
        let mut entry = entry.map_err(not_read)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let bytes = entry.size();
        if is_whole || !entry.header().entry_type().is_file() {
            return Err(wrong(format!("'{name}' does not belong there")));
        }
        match (name.as_str(), &about) {
            (FAILED, _) => {
                return Err(BackupError::Refused(text(&mut entry, bytes).map_err(not_read)?));
            }
            (SUMS, Some(_)) => {
                is_whole = text(&mut entry, bytes).map_err(not_read)? == sums;
                if !is_whole {
                    return Err(wrong("the hash of a part is not what it was".into()));
                }
                continue;
            }
            _ => {}
        }
        let mut hashed = Hashed::new(&mut entry);
        match (name.as_str(), &about) {
            (ABOUT, None) => {
                let found: About = json(&mut hashed, bytes).map_err(not_read)?;
                if found.format > FORMAT {
                    let (path, muster) = (path.to_owned(), found.muster);
                    return Err(BackupError::Newer { path, muster, format: found.format });
                }
                about = Some(found);
            }
            (_, None) => return Err(wrong(format!("it begins with '{name}', not with '{ABOUT}'"))),
            (JOURNAL, Some(_)) => journal = Some(json(&mut hashed, bytes).map_err(not_read)?),
            (name, Some(_)) if is_of_data_directory(name) => take(name, bytes, &mut hashed)?,
            (name, Some(_)) => return Err(wrong(format!("'{name}' does not belong there"))),
        }
        io::copy(&mut hashed, &mut io::sink()).map_err(not_read)?;
        if hashed.bytes != bytes {
            return Err(wrong(format!("it ends in the middle of '{name}'")));
        }
        total += bytes;
        // Writing to a string can't fail.
        let _ = writeln!(sums, "{}  {name}", hashed.finish());
    }
    match (about, journal, is_whole) {
        (Some(about), Some(journal), true) => Ok(Contents { about, journal, bytes: total }),
        (None, ..) => Err(wrong("there is nothing in it".into())),
        _ => Err(wrong(format!("it was cut off: there is no '{SUMS}' at its end"))),
    }
}

/// A plain name in one of the directories.
fn is_of_data_directory(name: &str) -> bool {
    let is_plain = |name: &str| {
        !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    name.split_once('/')
        .is_some_and(|(directory, file)| PARTS.contains(&directory) && !file.is_empty() && is_plain(file))
}

fn text(part: &mut impl Read, bytes: u64) -> io::Result<String> {
    if bytes > LISTING_BYTES_MAX {
        return Err(io::Error::other(format!("a listing has {bytes} bytes")));
    }
    let mut text = String::new();
    part.read_to_string(&mut text)?;
    Ok(text)
}

fn json<T: DeserializeOwned>(part: &mut impl Read, bytes: u64) -> io::Result<T> {
    Ok(serde_json::from_str(&text(part, bytes)?)?)
}

/// Counts and hashes what is read through it.
struct Hashed<R> {
    content: R,
    bytes: u64,
    hash: digest::Context,
}

impl<R: Read> Hashed<R> {
    fn new(content: R) -> Self {
        Self { content, bytes: 0, hash: digest::Context::new(&digest::SHA256) }
    }

    /// The SHA-256 of everything, in hexadecimal digits.
    fn finish(self) -> String {
        self.hash.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.bytes += read as u64;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
