//! Artifacts on the device's disk, from their first byte until no run needs them.
//!
//! In `artifacts/` in the data directory, for the agent's user alone; the directory is made for the first of
//! them. `HASH.part` grows as the parts come, and its length says where the download goes on, whatever
//! happened meanwhile. It becomes `HASH` when its whole content was read back and is what the hash says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use aws_lc_rs::digest;
use rustix::fs::statvfs;

use super::ab_slots::sync_directory;
use super::open;
use super::settings::ArtifactSettings;
use crate::wire::artifact::{Artifact, ArtifactPart};
use crate::wire::id::ArtifactHash;
use crate::wire::task::RunStage;
use crate::wire::time::{Moment, Now};

/// A download is made durable in pieces of this size: flash wears with each of them, and a power cut loses
/// one.
const SYNC_BYTES: u64 = 4 << 20;

/// Room that a download leaves on the disk, for events and reports.
const SPARE_BYTES: u64 = 2 << 20;

/// Time for which a file that no run needs is kept when a run may come again that does: as long as a device
/// may put one off.
const LEFT_OVER_SECONDS: u64 = 86_400;

/// Most files that are kept so.
const LEFT_OVER_MAX: usize = 8;

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 * 1024;

/// The artifacts of this device. The one owner of `artifacts/`.
#[derive(Debug)]
pub struct Artifacts {
    directory: PathBuf,
    /// Those of which there is a file.
    held: BTreeSet<ArtifactHash>,
    /// Those that no run needs, and when they go.
    left_over: BTreeMap<ArtifactHash, Moment>,
    coming: Option<Coming>,
}

/// The one that comes.
#[derive(Debug)]
struct Coming {
    hash: ArtifactHash,
    file: File,
    length: u64,
    /// Bytes that are not on the medium yet, as far as is known.
    unsynced: u64,
}

/// Why a run does not get its artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its content is not what its hash says.
    Wrong,
    /// There is no room beside those of other runs. It has to wait.
    Waits(String),
    /// The run ends.
    Ends(RunStage, String),
}

impl Fault {
    fn of(error: &io::Error) -> Self {
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let stage = if is_full { RunStage::NotNow } else { RunStage::Failed };
        Self::Ends(stage, format!("its artifact can't be kept: {error}"))
    }
}

impl Artifacts {
    /// Finds what an earlier agent left behind.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        // Programs that are handed a path work in other directories.
        let directory = std::path::absolute(directory)?;
        let mut held = BTreeSet::new();
        for entry in open::if_there(fs::read_dir(&directory))?.into_iter().flatten() {
            let name = entry?.file_name();
            let name = name.to_str().unwrap_or_default();
            held.extend(name.strip_suffix(".part").unwrap_or(name).parse::<ArtifactHash>());
        }
        Ok(Self { directory, held, left_over: BTreeMap::new(), coming: None })
    }

    /// The file of an artifact, once it is whole.
    #[must_use]
    pub fn path(&self, hash: ArtifactHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    fn part_path(&self, hash: ArtifactHash) -> PathBuf {
        self.directory.join(format!("{hash}.part"))
    }

    /// From which byte on it has yet to come; `None`: from none.
    ///
    /// # Errors
    /// When there is no room for it, or the system refuses.
    pub fn offset(&mut self, artifact: &Artifact, settings: &ArtifactSettings) -> Result<Option<u64>, Fault> {
        if self.coming.as_ref().is_none_or(|coming| coming.hash != artifact.hash) {
            if self.path(artifact.hash).exists() {
                return Ok(None);
            }
            self.begin(artifact, settings)?;
        }
        let length = self.coming.as_ref().map_or(0, |coming| coming.length);
        Ok((length < artifact.bytes).then_some(length))
    }

    /// Opens its file, when there is room.
    fn begin(&mut self, artifact: &Artifact, settings: &ArtifactSettings) -> Result<(), Fault> {
        let path = self.part_path(artifact.hash);
        self.left_over.remove(&artifact.hash);
        let length = match open::if_there(path.metadata()).map_err(|error| Fault::of(&error))? {
            Some(found) if found.len() <= artifact.bytes => found.len(),
            Some(_) => {
                self.remove(artifact.hash);
                0
            }
            None => 0,
        };
        if let Err(fault) = self.look_for_room(artifact, length, settings) {
            if self.left_over.is_empty() {
                return Err(fault);
            }
            for hash in std::mem::take(&mut self.left_over).into_keys() {
                self.remove(hash);
            }
            self.look_for_room(artifact, length, settings)?;
        }
        let mut options = File::options();
        let file =
            options.append(true).create(true).mode(0o600).open(&path).map_err(|error| Fault::of(&error))?;
        self.held.insert(artifact.hash);
        self.coming = Some(Coming { hash: artifact.hash, file, length, unsynced: 0 });
        Ok(())
    }

    /// Looks whether it may take its room. Makes the directory.
    fn look_for_room(
        &self,
        artifact: &Artifact,
        length: u64,
        settings: &ArtifactSettings,
    ) -> Result<(), Fault> {
        let of = |error: io::Error| Fault::of(&error);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(of)?;
        let others = self.held.iter().filter(|hash| **hash != artifact.hash);
        let files = others.flat_map(|hash| [self.path(*hash), self.part_path(*hash)]);
        let taken: u64 = files.filter_map(|path| path.metadata().ok()).map(|found| found.len()).sum();
        if taken.saturating_add(artifact.bytes) > settings.bytes_max() {
            return Err(Fault::Waits(format!(
                "its artifact waits for room: {taken} bytes are taken by those of other runs, and {} MiB are for all",
                settings.mebibytes_max
            )));
        }
        let disk = statvfs(&self.directory).map_err(|error| Fault::of(&error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let missing = artifact.bytes - length;
        if free < missing.saturating_add(SPARE_BYTES) {
            let message = format!(
                "no room for its artifact: {missing} bytes are to come, and the disk has {free} left, of which {SPARE_BYTES} stay free"
            );
            return Err(Fault::Ends(RunStage::NotNow, message));
        }
        Ok(())
    }

    /// Keeps a part of the one that comes; one that does not begin where that ends changes nothing.
    ///
    /// # Errors
    /// When the system refuses. The parts before it stay, unless the disk is full: then they go, for the sake
    /// of events.
    pub fn append(&mut self, part: &ArtifactPart) -> Result<(), Fault> {
        let Some(coming) = &mut self.coming else { return Ok(()) };
        if (coming.hash, coming.length) != (part.hash, part.offset) {
            return Ok(());
        }
        let mut written = coming.file.write_all(&part.bytes);
        coming.length += part.bytes.len() as u64;
        coming.unsynced += part.bytes.len() as u64;
        if written.is_ok() && coming.unsynced >= SYNC_BYTES {
            coming.unsynced = 0;
            written = coming.file.sync_data();
        }
        written.map_err(|error| {
            let fault = Fault::of(&error);
            self.coming = None;
            if matches!(fault, Fault::Ends(RunStage::NotNow, _)) {
                self.remove(part.hash);
            }
            fault
        })
    }

    /// Removes all that is there of one.
    pub fn remove(&mut self, hash: ArtifactHash) {
        self.coming.take_if(|coming| coming.hash == hash);
        self.held.remove(&hash);
        self.left_over.remove(&hash);
        // In this order: a check that makes the second of the first meanwhile leaves nothing behind.
        for path in [self.part_path(hash), self.path(hash)] {
            if let Err(error) = open::if_there(fs::remove_file(&path)) {
                log::warn!("{}: {error}", path.display());
            }
        }
    }

    /// Removes what no run needs: at once what is `done`, and after a while what a run may need that comes
    /// again.
    pub fn keep(&mut self, needed: &BTreeSet<ArtifactHash>, done: &BTreeSet<ArtifactHash>, now: &Now) {
        self.left_over.retain(|hash, _| !needed.contains(hash));
        let unneeded: Vec<ArtifactHash> = self.held.difference(needed).copied().collect();
        for hash in unneeded {
            let gone_at = now.moment.plus_seconds(LEFT_OVER_SECONDS);
            let at = *self.left_over.entry(hash).or_insert(gone_at);
            if done.contains(&hash) || now.moment >= at {
                self.remove(hash);
            }
        }
        while self.left_over.len() > LEFT_OVER_MAX
            && let Some((_, hash)) = self.left_over.iter().map(|(hash, at)| (*at, *hash)).min()
        {
            self.remove(hash);
        }
        self.coming.take_if(|coming| !needed.contains(&coming.hash));
    }

    /// Whether no file is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// When [`keep`](Self::keep) has something to do by itself.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        self.left_over.values().min().copied()
    }

    /// All of one has come: what it takes to check it.
    #[must_use]
    pub fn end_download(&mut self, hash: ArtifactHash) -> ToCheck {
        self.coming = None;
        ToCheck { directory: self.directory.clone(), path: self.path(hash), part: self.part_path(hash), hash }
    }
}

/// A file to be checked, by a thread that may wait for the disk.
#[derive(Debug)]
pub struct ToCheck {
    directory: PathBuf,
    /// Its path when it is whole.
    pub path: PathBuf,
    part: PathBuf,
    hash: ArtifactHash,
}

impl ToCheck {
    /// Reads the file back, and gives it its name when it is what its hash says. Durable when this returns.
    ///
    /// # Errors
    /// When it is not, or the system refuses.
    pub fn check(&self) -> Result<(), Fault> {
        match self.compare() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::Wrong),
            // Another program has taken it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::Wrong),
            Err(error) => Err(Fault::of(&error)),
        }
    }

    fn compare(&self) -> io::Result<bool> {
        let part = open::if_there(open::file(&self.part))?;
        let is_part = part.is_some();
        let mut file = part.map_or_else(|| open::file(&self.path), Ok)?;
        if is_part {
            file.sync_all()?;
        }
        let is_right = hash_of(&mut file)? == self.hash;
        if is_right && is_part {
            fs::rename(&self.part, &self.path)?;
            sync_directory(&self.directory)?;
        }
        Ok(is_right)
    }
}

/// SHA-256 of a file from where it stands on, read in pieces.
///
/// # Errors
/// When the system refuses.
pub fn hash_of(file: &mut File) -> io::Result<ArtifactHash> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(context.finish().into()),
            Ok(length) => context.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
