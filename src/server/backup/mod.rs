//! Backups: one file that holds all of a server, and the way back.
//!
//! A tar file of mode 0600, as `tar -tvf` lists it. It holds private keys.
//!
//! | part, in this order | what it is |
//! |---|---|
//! | `backup.json` | version of this format and of muster, time, certificate, server epoch, devices, journal position |
//! | `identity/…` | keys and certificates |
//! | `store/muster.db` | the database at one moment, checked with SQLite's `quick_check` |
//! | `journal/…` | segments, the newest first, up to what was durable after that moment; the last one is cut there |
//! | `warnings/…` | the journal of warnings, up to what was copied to it from before that |
//! | `artifacts/…` | the files that tasks come with, each named by its hash |
//! | `journal.json` | count of the records in both, each of which was checked, and what is damaged in the journal itself |
//! | `SHA256SUMS` | hashes of all parts above, for `sha256sum -c`; a file without it is not whole |
//!
//! The database comes first: whatever it says of an event, the journal that is copied after it holds the
//! event. Segments go newest first, because retention deletes the oldest first: one that is deleted meanwhile
//! leaves no gap.

mod archive;
mod file;
mod make;
mod restore;
mod service;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use file::{verify, write_file};
pub use make::{Source, make};
pub use restore::restore;
pub(super) use service::BackupService;

use super::data_directory::DataDirectoryError;
use super::identity::IdentityError;
use crate::journal::ReadError;
use crate::store::StoreError;
use crate::wire::api::Timestamp;
use crate::wire::id::Epoch;

/// Version of the format that is written here, and the newest that is read. 1 is without `warnings/`, 2
/// without `artifacts/`.
pub const FORMAT: u32 = 3;

/// The parts of a data directory that a backup holds. The last two are not in every one.
const PARTS: [&str; 5] = ["identity", "store", "journal", WARNINGS, ARTIFACTS];

/// The part of the artifacts.
const ARTIFACTS: &str = "artifacts";

/// The part of the journal of warnings.
const WARNINGS: &str = "warnings";

/// Why a backup was not made, is of no use, or was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The system refused something.
    #[error("can't {what} {}: {error}", path.display())]
    Io {
        /// The attempt.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// It can't be handed on: its reader is gone, or the disk that it goes to is full.
    #[error("can't write the backup: {0}")]
    Output(io::Error),
    /// Keys and certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The data directory.
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    /// The server that made it said why it could not.
    #[error("the server could not make the backup: {0}")]
    Refused(String),
    /// It is no backup, a damaged one, or one that was cut off.
    #[error("{} is no whole backup: {what}", path.display())]
    NotWhole {
        /// Which file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// A newer muster made it.
    #[error("{} was made by musterd {muster} in format {format}, this one reads up to {FORMAT}: use a newer musterd", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The version that made it.
        muster: String,
        /// Its format.
        format: u32,
    },
    /// Another one is being made.
    #[error("another backup is being made: try again when it is done")]
    Busy,
    /// It would be written over something that is no file.
    #[error("{} is there and is no file: name another one", .0.display())]
    NotAFile(PathBuf),
    /// The directory to restore into has something in it.
    #[error("{} is not empty: a backup is restored into an empty or a new directory only", .0.display())]
    NotEmpty(PathBuf),
}

impl BackupError {
    fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| Self::Io { what, path: path.to_owned(), error }
    }
}

/// The description that a backup begins with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct About {
    /// Version of the format.
    pub format: u32,
    /// Version of the musterd that made it.
    pub muster: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Hash of the server's certificate.
    pub certificate_sha256: String,
    /// The server's epoch then.
    pub server_epoch: Epoch,
    /// Devices that were enrolled then.
    pub devices: u64,
    /// The journal is in it up to here: everything that was acknowledged before it was made.
    pub journal_position: u64,
}

/// The description of the journal in a backup.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JournalPart {
    /// Records, each of which was checked.
    pub records: u64,
    /// Records of the journal of warnings, each of which was checked.
    #[serde(default)]
    pub warnings: u64,
    /// Damage of the journal that was copied, in lines for people. It is in the backup as it is there.
    pub damages: Vec<String>,
}

/// The contents of a backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// Its own description.
    pub about: About,
    /// That of the journal.
    pub journal: JournalPart,
    /// Size of all parts.
    pub bytes: u64,
}
