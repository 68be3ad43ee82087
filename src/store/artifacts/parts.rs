//! Parts of artifacts, for devices that have a run which needs them.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::Builder;

use super::Artifacts;
use super::content::{Stamp, hash_of, read_piece};
use crate::store::error::StoreError;
use crate::store::sql::{Columns as _, Sql as _};
use crate::store::tasks;
use crate::wire::artifact::{ArtifactPart, Fetch};
use crate::wire::id::{ArtifactHash, DeviceId};
use crate::wire::limits::ARTIFACT_PART_BYTES_MAX;

/// After how long a device asks again while the file is read for its hash.
const READING_SECONDS: u32 = 2;

/// The same when the store failed.
const FAILED_SECONDS: u32 = 30;

impl Artifacts {
    /// The answer to a device that asks for a part. Called on a worker's thread.
    #[must_use]
    pub fn part(self: &Arc<Self>, device: DeviceId, fetch: Fetch) -> ArtifactPart {
        let Fetch { hash, offset } = fetch;
        let refused = |refusal: String| {
            log::warn!("device {device}: it gets nothing of artifact {hash}: {refusal}");
            let (bytes, again_seconds) = (Vec::new(), None);
            ArtifactPart { hash, offset, bytes, again_seconds, refusal: Some(refusal) }
        };
        let bytes = match self.needed_bytes(device, hash) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return refused("no run of this device needs it, or it was removed".to_owned()),
            Err(error) => {
                log::warn!("device {device}: a part of artifact {hash} is put off: {error}");
                return ArtifactPart::again(fetch, FAILED_SECONDS);
            }
        };
        if offset > bytes {
            return refused(format!("it has {bytes} bytes, and byte {offset} was asked for"));
        }
        let faulty = || {
            let fault = self.fault(hash, bytes).unwrap_or_else(|| "its file can't be read".to_owned());
            refused(format!("the server does not have it: {fault}"))
        };
        let Ok((file, stamp)) = self.opened(hash) else { return faulty() };
        if stamp.bytes() != bytes {
            return faulty();
        }
        let is_good = self.checks.lock().is_good(hash, stamp);
        match is_good {
            Some(true) => {}
            Some(false) => return faulty(),
            None => return self.read_for_hash(fetch),
        }
        match read_piece(&file, offset, ARTIFACT_PART_BYTES_MAX) {
            Ok(bytes) => ArtifactPart { hash, offset, bytes, again_seconds: None, refusal: None },
            Err(error) => {
                log::error!("artifact {hash} can't be read: {error}");
                ArtifactPart::again(fetch, FAILED_SECONDS)
            }
        }
    }

    /// Length of an artifact that a run of the device needs.
    fn needed_bytes(&self, device: DeviceId, hash: ArtifactHash) -> Result<Option<u64>, StoreError> {
        let sql = format!(
            "SELECT a.bytes FROM devices d JOIN runs r ON r.device = d.number JOIN tasks t ON t.number = r.task
            JOIN artifacts a ON a.hash = t.artifact
            WHERE d.id = ?1 AND d.removed_at IS NULL AND t.artifact = ?2 AND {} LIMIT 1",
            tasks::IS_AT_DEVICE
        );
        self.store.reader()?.perhaps(&sql, (device, hash), |row| row.number(0))
    }

    fn opened(&self, hash: ArtifactHash) -> io::Result<(File, Stamp)> {
        // Looked at before it is opened: to open a FIFO would take until somebody writes to it.
        let path = self.path(hash);
        if !path.symlink_metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let file = File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        Ok((file, stamp))
    }

    /// Has a file read whose content is not known, one at a time and on a thread of its own: workers have
    /// syncs to do.
    fn read_for_hash(self: &Arc<Self>, fetch: Fetch) -> ArtifactPart {
        if !std::mem::replace(&mut self.checks.lock().is_reading, true) {
            let (artifacts, hash) = (Arc::clone(self), fetch.hash);
            let started = Builder::new().name("artifact".to_owned()).spawn(move || {
                let read = artifacts.opened(hash).and_then(|(file, stamp)| Ok((stamp, hash_of(&file)?)));
                let mut checks = artifacts.checks.lock();
                checks.is_reading = false;
                match read {
                    Ok((stamp, found)) => {
                        if found != hash {
                            log::error!("artifact {hash}: its file has another content, of SHA-256 {found}");
                        }
                        checks.note(hash, stamp, found == hash);
                    }
                    Err(error) => log::error!("artifact {hash} can't be read: {error}"),
                }
            });
            if let Err(error) = started {
                self.checks.lock().is_reading = false;
                log::error!("artifact {}: no thread can be started to read it: {error}", fetch.hash);
            }
        }
        ArtifactPart::again(fetch, READING_SECONDS)
    }
}
