//! Memory of an apply while it is under way: enough to undo it, whatever became of the agent and of the
//! definition.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::file::{self, Before};
use super::place::Held;
use super::{apply, stored_settings};
use crate::agent::application::Program;
use crate::agent::checksummed;

/// Progress of an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Phase {
    /// The new file may be in place; the application was told nothing.
    #[n(0)]
    Placing,
    /// The application may have been told of the new file.
    #[n(1)]
    Applying,
}

/// An apply that is under way. Its file is there from before the settings file is touched until everything is
/// done or undone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Journal {
    #[n(0)]
    pub(super) application: String,
    /// The settings file.
    #[n(1)]
    pub(super) file: String,
    #[n(2)]
    pub(super) phase: Phase,
    /// The file from before; `None`: there was none.
    #[n(3)]
    pub(super) before: Option<Before>,
    /// Command that tells the application that it is there again; empty: it is not told.
    #[n(4)]
    pub(super) rollback: Vec<String>,
    #[n(5)]
    pub(super) timeout_seconds: u64,
    /// The new content; `None` in a journal of an older agent.
    #[cbor(n(6), with = "minicbor::bytes", default)]
    pub(super) candidate: Option<Vec<u8>>,
    /// The file can't be replaced, and is written over.
    #[cbor(n(7), default)]
    pub(super) is_in_place: bool,
}

/// Outcome of undoing an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// The file is as it was before.
    Restored,
    /// Somebody else changed the file meanwhile: it is left as it is.
    LeftAlone,
}

impl Journal {
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        checksummed::write(path, self)
    }

    /// Undoes the apply: the old file is back, and the application has been told if it may have been told of
    /// the new one. The journal stays until then. A file that is neither the old nor the new one is left
    /// alone.
    pub(super) fn undo(&self, path: &Path) -> Result<Undone, String> {
        let undone = self.put_back().map_err(|error| {
            format!("{} can't be put back as it was ({error}): it is tried again later", self.file)
        })?;
        let told = if self.phase == Phase::Applying && !self.rollback.is_empty() && undone == Undone::Restored
        {
            let timeout = Duration::from_secs(self.timeout_seconds);
            let rollback = Program { arguments: self.rollback.clone(), timeout };
            apply::execute(&rollback, Path::new(&self.file))
        } else {
            Ok(())
        };
        // It was told as well as it can be: a rollback that fails fails again.
        checksummed::remove(path).map_err(|error| format!("{}: {error}", path.display()))?;
        told.map_err(|reason| format!("the old file is back, but rolling back failed: {reason}"))?;
        Ok(undone)
    }

    fn put_back(&self) -> io::Result<Undone> {
        let found = Held::find(&PathBuf::from(&self.file))
            .and_then(|held| Ok((file::read(&held)?.map(|(now, _)| now), held)));
        let (now, held) = match found {
            Ok(found) => found,
            // Something else is there, or its directory is gone.
            Err(error) if is_changed(&error) => return Ok(Undone::LeftAlone),
            Err(error) => return Err(error),
        };
        if now == self.before {
            return Ok(Undone::Restored);
        }
        let content = now.as_ref().map(|now| &now.bytes);
        let before = self.before.as_ref().map(|before| &before.bytes);
        let is_ours = match (&self.candidate, content) {
            // An older agent did not say what it put there.
            (None, _) => true,
            (Some(candidate), Some(now)) if self.is_in_place => {
                file::is_mixture(now, before.map_or(&[], |before| before), candidate)
            }
            (Some(candidate), now) => now == Some(candidate),
        };
        if !is_ours {
            // With the old content, though another owner or other rights, it is as good as put back.
            let is_old = content == before;
            return Ok(if is_old { Undone::Restored } else { Undone::LeftAlone });
        }
        file::restore(&held, self.before.as_ref(), self.is_in_place)?;
        Ok(Undone::Restored)
    }
}

/// Whether the error says that there is something else now than a settings file, and not that the system has
/// a problem.
fn is_changed(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, Other};
    matches!(error.kind(), NotFound | NotADirectory | InvalidData | Other)
}

/// Undoes what a journal tells of, when there is one.
pub(super) fn recover(path: &Path) -> Result<Undone, String> {
    match stored_settings::read::<Journal>(path) {
        Ok(None) => Ok(Undone::Restored),
        Ok(Some(journal)) => {
            log::warn!("{}: settings were being put in place when the agent ended", journal.application);
            journal.undo(path)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // Settings files are replaced as a whole: this one is the old one or the new one.
            log::error!("{}: {error}", path.display());
            checksummed::remove(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Undone::Restored)
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
