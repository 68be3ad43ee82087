//! What an apply must remember while it is under way: enough to undo it, whatever became of the agent and of the definition.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minicbor::{Decode, Encode};

use super::file::{self, Before};
use super::{apply, kept};
use crate::agent::application::Program;
use crate::agent::sealed;

/// How far an apply is.
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

/// An apply that is under way. Its file is there from before the settings file is touched until everything is done or undone.
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
    /// What was there before; `None`: nothing.
    #[n(3)]
    pub(super) before: Option<Before>,
    /// How the application is told that it is there again; empty: it is not told.
    #[n(4)]
    pub(super) rollback: Vec<String>,
    #[n(5)]
    pub(super) timeout_seconds: u64,
}

impl Journal {
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        sealed::write(path, self)
    }

    /// Undoes the apply: the old file is back, and the application has been told if it may have been told of the new one. The journal
    /// stays until then.
    pub(super) fn undo(&self, path: &Path) -> Result<(), String> {
        let settings_file = PathBuf::from(&self.file);
        file::restore(&settings_file, self.before.as_ref()).map_err(|error| {
            format!("{} can't be put back as it was ({error}): it is tried again later", self.file)
        })?;
        let told = if self.phase == Phase::Applying && !self.rollback.is_empty() {
            let timeout = Duration::from_secs(self.timeout_seconds);
            let rollback = Program { arguments: self.rollback.clone(), timeout };
            apply::execute(&rollback, &settings_file)
        } else {
            Ok(())
        };
        // It was told as well as it can be: a rollback that fails fails again.
        sealed::remove(path).map_err(|error| format!("{}: {error}", path.display()))?;
        told.map_err(|reason| format!("the old file is back, but rolling back failed: {reason}"))
    }
}

/// Undoes what a journal tells of, when there is one.
pub(super) fn recover(path: &Path) -> Result<(), String> {
    match kept::read::<Journal>(path) {
        Ok(None) => Ok(()),
        Ok(Some(journal)) => {
            log::warn!("{}: settings were being put in place when the agent ended", journal.application);
            journal.undo(path)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // Settings files are replaced as a whole: this one is the old one or the new one.
            log::error!("{}: {error}", path.display());
            sealed::remove(path).map_err(|error| format!("{}: {error}", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
