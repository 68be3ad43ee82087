//! Small files of `DATA/orders/`: replaced as a whole, and checked when they are read.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use minicbor::{Decode, Encode};

use crate::agent::ab_slots::sync_directory;
use crate::agent::checksummed::{self, Content};
use crate::agent::open;
use crate::wire::digest::Digest;
use crate::wire::settings::{SettingsOrder, SettingsState};
use crate::wire::time::WallTime;

/// Largest file here: a journal with the largest settings file that it may keep, its attributes, and what
/// replaces it.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Most characters of an application's name within the name of a file.
const NAME_CHARACTERS_MAX: usize = 40;

/// State of an application's order, as the disk has it. May be older than the order; then it does not count.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredState {
    /// Digest of the order that it is about.
    #[n(0)]
    pub(super) order: Digest,
    #[n(1)]
    pub(super) state: SettingsState,
    #[n(2)]
    pub(super) applied_revision: u64,
    #[n(3)]
    pub(super) since: WallTime,
    #[n(4)]
    pub(super) detail: String,
    /// Digest of the content that was put in place last.
    #[n(5)]
    pub(super) placed: Option<Digest>,
    /// Under which definition it was tried.
    #[n(6)]
    pub(super) definition: Digest,
    /// Number of times in a row that the agent was ended in the middle of it.
    #[n(7)]
    pub(super) interrupted: u32,
}

/// The name of an application's files, without the ending: readable, and told from every other by a digest.
pub(super) fn name_of(application: &str) -> String {
    let readable: String = application
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-_".contains(letter) { letter } else { '_' })
        .take(NAME_CHARACTERS_MAX)
        .collect();
    format!("{readable}-{}", Digest::of_bytes(application.as_bytes()))
}

/// Makes the directory when it is not there.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => directory.parent().map_or(Ok(()), sync_directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads a file; `None` when it is not there. A damaged one is an error of the kind
/// [`io::ErrorKind::InvalidData`].
pub(super) fn read<T: for<'b> Decode<'b, ()>>(path: &Path) -> io::Result<Option<T>> {
    match checksummed::read(path, FILE_BYTES_MAX)? {
        Content::Absent => Ok(None),
        Content::Whole(content) => Ok(Some(content)),
        Content::Torn => Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged")),
    }
}

/// The settings that are stored in `directory`. A damaged one is taken away: the server orders it again.
pub(super) fn ordered(directory: &Path) -> io::Result<Vec<SettingsOrder>> {
    let mut ordered = Vec::new();
    for path in open::list(directory, "order")? {
        match read::<SettingsOrder>(&path) {
            Ok(Some(order)) => ordered.push(order),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                log::error!("{}: {error}: the server will order it again", path.display());
                checksummed::remove(&path)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(ordered)
}
