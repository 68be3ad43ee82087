//! A new content comes in, piece by piece.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_lc_rs::digest::{Context, SHA256};
use rusqlite::params;

use super::content::Stamp;
use super::{ARTIFACTS_MAX, Artifacts, UNFINISHED, row_of, sync_directory};
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::wire::api::{NewArtifact, StoredArtifact};
use crate::wire::id::ArtifactHash;
use crate::wire::limits::{ARTIFACT_BYTES_MAX, SIGNATURE_BYTES_MAX};
use crate::wire::printable::{escaped_lines, is_name};
use crate::wire::time::WallTime;
use crate::wire::units::format_size;

/// Bytes that may be written before they are made durable: all of a large file at once would hold up the
/// event log, which waits for the same disk.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// Free room of the disk that uploads leave to the event log and the database: this much, or a sixteenth of a
/// small disk.
const ROOM_LEFT_BYTES: u64 = 256 << 20;

/// An upload. Dropped before its end, nothing is left of it.
pub struct Upload {
    artifacts: Arc<Artifacts>,
    file: File,
    path: PathBuf,
    hash: Context,
    bytes: u64,
    unsynced_bytes: u64,
    is_kept: bool,
}

impl Artifacts {
    /// Begins to take a content in. `bytes`: its length, as far as that is known.
    ///
    /// # Errors
    /// When its name or signature is none, it would be too large, there is no room for it, or the system
    /// refuses.
    pub fn begin(self: &Arc<Self>, new: &NewArtifact, bytes: Option<u64>) -> Result<Upload, StoreError> {
        check(new)?;
        self.check_room(bytes.unwrap_or(0), bytes.unwrap_or(0))?;
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number}{UNFINISHED}"));
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        Ok(Upload {
            artifacts: Arc::clone(self),
            file: made.map_err(|error| from_system(&error))?,
            path,
            hash: Context::new(&SHA256),
            bytes: 0,
            unsynced_bytes: 0,
            is_kept: false,
        })
    }

    /// Whether a content of `bytes`, of which `more` are still to be counted, has room.
    fn check_room(&self, bytes: u64, more: u64) -> Result<(), StoreError> {
        if bytes > ARTIFACT_BYTES_MAX {
            return Err(StoreError::ArtifactTooLarge(ARTIFACT_BYTES_MAX));
        }
        let (used, max) = self.usage();
        if used.saturating_add(more) > max {
            return Err(StoreError::ArtifactRefused(format!(
                "the artifacts would take more than the {} that they may ([artifacts] total_size): remove some",
                format_size(max)
            )));
        }
        let disk = rustix::fs::statvfs(&self.directory).map_err(|error| from_system(&error.into()))?;
        let left = ROOM_LEFT_BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 16);
        if disk.f_bavail.saturating_mul(disk.f_frsize) < more.saturating_add(left) {
            return Err(StoreError::Full);
        }
        Ok(())
    }
}

impl Upload {
    /// Number of bytes that have come.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of what has come.
    #[must_use]
    pub fn hash(&self) -> ArtifactHash {
        self.hash.clone().finish().into()
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When it is too much, or can't be written.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let more = piece.len() as u64;
        self.artifacts.check_room(self.bytes.saturating_add(more), more)?;
        self.artifacts.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        self.file.write_all(piece).map_err(|error| from_system(&error))?;
        self.hash.update(piece);
        self.unsynced_bytes += more;
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX {
            self.file.sync_data().map_err(|error| from_system(&error))?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Ends one that is whole; waits until that is durable. A content that is there already stays one: its
    /// file is replaced, which may have been damaged, and a new signature counts.
    ///
    /// # Errors
    /// When it has another hash than was said or no byte, there are as many as may be, or it could not be
    /// stored: nothing is left of it then.
    pub fn finish(
        mut self,
        new: NewArtifact,
        by: String,
        now: WallTime,
    ) -> Result<StoredArtifact, StoreError> {
        let artifacts = Arc::clone(&self.artifacts);
        let hash = self.hash();
        if let Some(expected) = new.sha256.filter(|expected| *expected != hash) {
            return Err(StoreError::BadArtifact(format!(
                "what came has the SHA-256 {hash}, and {expected} was said: it was changed or cut off on its way"
            )));
        }
        if self.bytes == 0 {
            return Err(StoreError::BadArtifact("it is empty: an artifact has at least one byte".into()));
        }
        self.file.sync_all().map_err(|error| from_system(&error))?;
        let _held = artifacts.changes.lock();
        let reader = artifacts.store.reader()?;
        let is_known = row_of(&reader, hash)?.is_some();
        let count = reader.one("SELECT count(*) FROM artifacts", [], |row| row.number(0))?;
        drop(reader);
        if !is_known && count >= ARTIFACTS_MAX {
            return Err(StoreError::ArtifactRefused(format!(
                "there are {count} artifacts, as many as may be: remove one first"
            )));
        }
        let kept = artifacts.path(hash);
        fs::rename(&self.path, &kept).map_err(|error| from_system(&error))?;
        let bytes = self.bytes;
        let stored =
            sync_directory(&artifacts.directory).map_err(|error| from_system(&error)).and_then(|()| {
                artifacts.store.database().call(move |connection| {
                    let sql = "INSERT INTO artifacts (hash, bytes, name, signature, created_at, created_by)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                    ON CONFLICT (hash) DO UPDATE SET signature = coalesce(excluded.signature, signature)";
                    let values = params![hash, bytes.cast_signed(), new.name, new.signature, now, by];
                    connection.run(sql, values)?;
                    row_of(connection, hash)?.ok_or(StoreError::NoArtifact(hash))
                })
            });
        if stored.is_err() && !is_known {
            let _ = fs::remove_file(&kept);
        }
        let stored = stored?;
        // One that was there is counted.
        self.is_kept = !is_known;
        if let Ok(found) = self.file.metadata() {
            artifacts.checks.lock().note(hash, Stamp::of(&found), true);
        }
        Ok(stored)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_kept {
            self.artifacts.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            // It may have its place already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn check(new: &NewArtifact) -> Result<(), StoreError> {
    let bad = |text: String| Err(StoreError::BadArtifact(text));
    if !is_name(&new.name) || new.name.contains(['/', '\\']) || matches!(new.name.as_str(), "." | "..") {
        return bad(format!(
            "'{}' can't be the name of an artifact: 1 to 255 bytes, no directory, no control or invisible characters",
            new.name.escape_debug()
        ));
    }
    let Some(signature) = &new.signature else { return Ok(()) };
    if signature.trim().is_empty() || signature.len() > SIGNATURE_BYTES_MAX {
        return bad(format!("a signature is the text of a .minisig file: 1 to {SIGNATURE_BYTES_MAX} bytes"));
    }
    if escaped_lines(&signature.replace('\r', "")) != signature.replace('\r', "") {
        return bad("the signature holds characters that are not seen: it is no .minisig file".into());
    }
    Ok(())
}

fn from_system(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full
        }
        _ => StoreError::Medium(error.to_string()),
    }
}
