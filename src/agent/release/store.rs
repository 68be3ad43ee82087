//! Releases on the disk: `releases/` in the data directory, with a directory for each slot and the state in
//! two copies. All that changes it holds the lock, as the agent, the installed program, the watcher and a run
//! do so by turns.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::rules::{Releases, Slot};
use crate::agent::ab_slots::{AbSlots, sync_directory};
use crate::agent::{artifact, checksummed, open};
use crate::wire::id::ArtifactHash;

const STATE: &str = "state";
const PROGRAM: &str = "muster-agent";

/// The place of releases.
#[derive(Debug, Clone)]
pub struct ReleaseStore(PathBuf);

/// While it lives, nobody else changes releases.
#[derive(Debug)]
pub struct ReleaseLock {
    slots: AbSlots,
    _file: File,
}

impl ReleaseStore {
    /// The place in a data directory, there or not.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self(data.join("releases"))
    }

    /// Whether there ever was a release.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.is_dir()
    }

    /// Makes the place.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// The program in a slot.
    #[must_use]
    pub fn program(&self, slot: Slot) -> PathBuf {
        self.0.join(slot.name()).join(PROGRAM)
    }

    /// The slot that a program is in.
    #[must_use]
    pub fn slot_of(&self, program: &Path) -> Option<Slot> {
        let place = self.0.canonicalize().ok()?;
        [Slot::A, Slot::B].into_iter().find(|slot| program.starts_with(place.join(slot.name())))
    }

    /// Waits until nobody else changes releases.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lock(&self) -> io::Result<ReleaseLock> {
        let file =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(self.0.join("lock"))?;
        file.lock()?;
        Ok(ReleaseLock { slots: AbSlots::new(&self.0, STATE), _file: file })
    }

    /// Puts a program into a slot; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn place(&self, slot: Slot, from: &mut File) -> io::Result<PathBuf> {
        let path = self.program(slot);
        DirBuilder::new().recursive(true).mode(0o700).create(self.0.join(slot.name()))?;
        checksummed::place(&path, from, 0o700)?;
        sync_directory(&self.0)?;
        Ok(path)
    }
}

impl ReleaseLock {
    /// The state.
    ///
    /// # Errors
    /// When it is damaged or can't be read.
    pub fn read(&self) -> Result<Releases, String> {
        let content = self.slots.read().map_err(|error| error.to_string())?;
        let Some(content) = content else { return Ok(Releases::default()) };
        minicbor::decode(&content)
            .map_err(|error| format!("the state of releases is not understood: {error}"))
    }

    /// Replaces the state; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, releases: &Releases) -> Result<(), String> {
        let content = minicbor::to_vec(releases).map_err(|error| error.to_string())?;
        self.slots.write(&content).map_err(|error| error.to_string())
    }

    /// Changes the state, when `change` says so; durable when this returns.
    ///
    /// # Errors
    /// When it is damaged or the system refuses.
    pub fn change(&self, change: impl FnOnce(&mut Releases) -> bool) -> Result<Releases, String> {
        let mut releases = self.read()?;
        if change(&mut releases) {
            self.write(&releases)?;
        }
        Ok(releases)
    }
}

/// SHA-256 of the file of this path.
///
/// # Errors
/// When the system refuses.
pub fn hash_of(path: &Path) -> io::Result<ArtifactHash> {
    artifact::hash_of(&mut open::file(path)?)
}
