//! Work of a helper thread for managed applications, one piece at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apply::{Stop, apply};
use super::file;
use super::journal::{self, Undone};
use crate::agent::application::SettingsAdapter;
use crate::wire::digest::Digest;

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Undo what this journal tells of.
    Recover(PathBuf),
    /// Put settings in place.
    Apply(Box<Apply>),
    /// Look at the settings files of these applications.
    Look(Vec<(String, PathBuf)>),
}

/// Settings to be put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// The application.
    pub application: String,
    /// Digest of the order.
    pub order: Digest,
    /// Its revision.
    pub revision: u64,
    /// Fingerprint of the definition.
    pub definition: Digest,
    /// The settings, as JSON.
    pub settings: String,
    /// Their way to the application.
    pub adapter: SettingsAdapter,
    /// Journal in which the old file is remembered meanwhile.
    pub journal: PathBuf,
}

/// The settings in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The digest of the file.
    pub digest: Digest,
    /// A note for people; may be empty.
    pub note: String,
}

/// Why settings are not in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people.
    pub reason: String,
    /// Somebody else changed the file meanwhile, so that it was left as it is.
    pub is_changed: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, is_changed: false }
    }
}

/// Outcome of a piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of [`Work::Recover`]: the journal, and why it could not be undone.
    Recovered(PathBuf, Result<Undone, String>),
    /// Of [`Work::Apply`]: the job, and the file, or why it is the old one.
    Applied(Box<Apply>, Result<Placed, Failure>),
    /// Of [`Work::Look`]: for each application the digest of its file; `None` when it is not there.
    Looked(Vec<(String, Result<Option<Digest>, String>)>),
}

impl Apply {
    /// Time of all of its programs.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let SettingsAdapter::File(place) = &self.adapter else { return Duration::ZERO };
        let programs = [&place.validate, &place.validate_in_place, &place.apply, &place.rollback];
        programs.into_iter().flatten().map(|program| program.timeout).sum()
    }
}

/// Does it. Takes as long as the programs may take.
#[must_use]
pub fn work(work: Work) -> Outcome {
    match work {
        Work::Recover(journal) => {
            let result = journal::recover(&journal);
            Outcome::Recovered(journal, result)
        }
        Work::Apply(job) => {
            let result = apply(&job, &|_| false).map_err(|stop| match stop {
                Stop::Failed(failure) => failure,
                Stop::Interrupted => "it was interrupted".to_owned().into(),
            });
            Outcome::Applied(job, result)
        }
        Work::Look(files) => {
            let each = files.into_iter().map(|(application, path)| (application, look(&path)));
            Outcome::Looked(each.collect())
        }
    }
}

/// Looks at a settings file: its digest; `None` when it is not there.
///
/// # Errors
/// Why it can't be read.
pub fn look(file: &Path) -> Result<Option<Digest>, String> {
    file::digest(file).map_err(|error| error.to_string())
}
