//! Artifacts: files that tasks come with. Owns the table `artifacts` and the directory of the files.
//!
//! A file's name is the SHA-256 of its content. It is written under another name, made durable, renamed, and
//! then has its row: a file without a row is of an upload that a kill has cut off, and goes at the next
//! start. Devices are sent a content that was hashed here since its file changed last.
//!
//! | module | what it does |
//! |---|---|
//! | `upload` | takes a new content in, piece by piece |
//! | `parts` | hands parts to devices that need them |
//! | `content` | tells whether a file still has the content that it is named after |

mod content;
mod parts;
mod upload;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, Row, params};

use super::Store;
use super::error::StoreError;
use super::page::{Page, PageRequest};
use super::sql::{Columns as _, Sql as _};
use crate::wire::api::StoredArtifact;
use crate::wire::id::{ArtifactHash, TaskId};
use crate::wire::time::WallTime;

use content::Checks;
pub use content::{Stamp, hash_of, read_piece};
pub use upload::Upload;

/// Most artifacts that are kept: each is looked at when they are listed.
pub const ARTIFACTS_MAX: u64 = 1_000;

/// Most bytes of all of them together when nobody says otherwise.
pub const ARTIFACTS_BYTES_DEFAULT: u64 = 4 << 30;

/// End of the name of a file whose upload has not ended.
const UNFINISHED: &str = ".unfinished";

/// The artifacts of a server.
pub struct Artifacts {
    store: Store,
    directory: PathBuf,
    bytes_max: AtomicU64,
    /// Bytes of those that are kept, and of those that are arriving.
    bytes: AtomicU64,
    /// Number of uploads so far, for the names of their files.
    uploads: AtomicU64,
    /// Held while a file and its row come or go.
    changes: Mutex<()>,
    checks: Mutex<Checks>,
}

impl Artifacts {
    /// Opens the artifacts of a store, whose files are in `directory`; makes that when it isn't there.
    /// Removes what uploads have left that a kill has cut off, and logs which files are missing.
    ///
    /// # Errors
    /// When the directory can't be made or read, or the store can't.
    pub fn open(store: Store, directory: PathBuf, bytes_max: u64) -> Result<Arc<Self>, StoreError> {
        let refused = |error: io::Error| StoreError::Open {
            path: directory.display().to_string(),
            reason: error.to_string(),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(refused)?;
        let sql = "SELECT hash, bytes FROM artifacts";
        let rows: Vec<(ArtifactHash, u64)> =
            store.reader()?.all(sql, [], |row| Ok((row.get(0)?, row.number(1)?)))?;
        for entry in fs::read_dir(&directory).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_orphan = name
                .parse::<ArtifactHash>()
                .is_ok_and(|hash| name == hash.to_string() && !rows.iter().any(|(known, _)| *known == hash));
            if is_orphan || name.ends_with(UNFINISHED) {
                fs::remove_file(&path).map_err(refused)?;
                log::info!("{} is removed: its upload did not end", path.display());
            }
        }
        let artifacts = Self {
            bytes: AtomicU64::new(rows.iter().map(|(_, bytes)| *bytes).sum()),
            bytes_max: AtomicU64::new(bytes_max),
            store,
            directory,
            uploads: AtomicU64::new(0),
            changes: Mutex::default(),
            checks: Mutex::default(),
        };
        for (hash, bytes) in rows {
            if let Some(fault) = artifacts.fault(hash, bytes) {
                log::error!("artifact {hash}: {fault}");
            }
        }
        Ok(Arc::new(artifacts))
    }

    /// Another limit for all of them together. Those that are there stay.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Bytes of all of them, and the limit.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.bytes_max.load(Ordering::Relaxed))
    }

    /// Those that are kept, the newest first.
    ///
    /// # Errors
    /// When the cursor is none, or the store can't be read.
    pub fn list(&self, page: &PageRequest) -> Result<Page<StoredArtifact>, StoreError> {
        let before = match page.after('f')? {
            Some([number]) => number.parse().map_err(|_| page.bad_cursor())?,
            None => i64::MAX,
        };
        let sql = format!("{COLUMNS} WHERE a.number < ?1 ORDER BY a.number DESC LIMIT ?2");
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(7)?, from_row(row)?));
        let found = self.store.reader()?.all(&sql, params![before, page.limit()], read)?;
        let page = page.page('f', found, |(number, _)| [number.to_string()]);
        Ok(page.map(|(_, artifact)| self.with_fault(artifact)))
    }

    /// One of them.
    ///
    /// # Errors
    /// When there is no such artifact, or the store can't be read.
    pub fn get(&self, hash: ArtifactHash) -> Result<StoredArtifact, StoreError> {
        Ok(self.with_fault(row_of(&*self.store.reader()?, hash)?.ok_or(StoreError::NoArtifact(hash))?))
    }

    /// Removes one; waits until that is durable.
    ///
    /// # Errors
    /// When there is no such artifact, an active task needs it, or it could not be stored.
    pub fn remove(&self, hash: ArtifactHash) -> Result<StoredArtifact, StoreError> {
        let _held = self.changes.lock();
        let removed = self.store.database().call(move |connection| {
            let removed = row_of(connection, hash)?.ok_or(StoreError::NoArtifact(hash))?;
            let sql = "SELECT id FROM tasks WHERE artifact = ?1 AND state = 'active' LIMIT 1";
            if let Some(task) = connection.perhaps(sql, [hash], |row| row.get::<_, TaskId>(0))? {
                return Err(StoreError::ArtifactRefused(format!(
                    "task {task} needs the artifact: cancel it first, or wait for its end"
                )));
            }
            connection.run("DELETE FROM artifacts WHERE hash = ?1", [hash])?;
            Ok(removed)
        })?;
        self.bytes.fetch_sub(removed.bytes, Ordering::Relaxed);
        // Its rest goes at the next start.
        if let Err(error) = fs::remove_file(self.path(hash)) {
            log::warn!("the file of artifact {hash} can't be removed: {error}");
        }
        self.checks.lock().forget(hash);
        Ok(removed)
    }

    fn path(&self, hash: ArtifactHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    fn with_fault(&self, artifact: StoredArtifact) -> StoredArtifact {
        StoredArtifact { fault: self.fault(artifact.hash, artifact.bytes), ..artifact }
    }

    /// Why devices can't have an artifact, as far as that is seen without reading all of it.
    fn fault(&self, hash: ArtifactHash, bytes: u64) -> Option<String> {
        let what = match fs::symlink_metadata(self.path(hash)) {
            Ok(found) if !found.is_file() || found.len() != bytes => "its file has another length",
            Ok(found) if self.checks.lock().is_good(hash, Stamp::of(&found)) == Some(false) => {
                "its file has another content"
            }
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "its file is missing",
            Err(error) => return Some(format!("its file can't be read: {error}")),
        };
        Some(format!("{what}: add it again ('musterctl artifact add FILE')"))
    }
}

/// Makes what was renamed or removed in a directory durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The columns that [`from_row`] reads, and the number.
const COLUMNS: &str = "SELECT a.hash, a.bytes, a.name, a.signature, a.created_at, a.created_by,
    (SELECT count(*) FROM tasks t WHERE t.artifact = a.hash AND t.state = 'active'), a.number FROM artifacts a";

fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredArtifact> {
    Ok(StoredArtifact {
        hash: row.get(0)?,
        bytes: row.number(1)?,
        name: row.get(2)?,
        signature: row.get(3)?,
        created_at: row.get::<_, WallTime>(4)?.into(),
        created_by: row.get(5)?,
        tasks: row.number(6)?,
        fault: None,
    })
}

/// The row of one.
pub(super) fn row_of(
    connection: &Connection,
    hash: ArtifactHash,
) -> Result<Option<StoredArtifact>, StoreError> {
    connection.perhaps(&format!("{COLUMNS} WHERE a.hash = ?1"), [hash], from_row)
}
