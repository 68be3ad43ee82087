//! A backup is made: from a running server, or from the data directory of a stopped one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::archive::ArchiveWriter;
use super::{ARTIFACTS, About, BackupError, FORMAT, JournalPart};
use crate::journal::{Archive, Position, Reader, verify_image};
use crate::server::config::Config;
use crate::server::identity::{Identity, IdentityError, NamedFile, Place};
use crate::store::{self, FILE_NAME, StoreError};
use crate::wire::id::ArtifactHash;
use crate::wire::time::WallTime;

/// The copy of the database while it goes into the backup. The next backup overwrites the rest of one.
const SCRATCH: &str = "backup.unfinished";

/// Copies the database into a file.
type CopyStore = Box<dyn Fn(&std::path::Path) -> Result<(), StoreError> + Send + Sync>;

/// Everything that a backup is made of.
pub struct Source {
    identity: Place,
    scratch: PathBuf,
    copy_store: CopyStore,
    journal: Reader,
    warnings: Warnings,
    artifacts: PathBuf,
}

/// The journal of warnings, which may be made while the backup is.
enum Warnings {
    Running(Archive),
    Stopped(Option<Reader>),
}

impl Warnings {
    fn reader(&self) -> Option<Reader> {
        match self {
            Self::Running(archive) => archive.reader(),
            Self::Stopped(reader) => reader.clone(),
        }
    }
}

impl Source {
    /// The parts of a running server.
    pub(in crate::server) fn of_server(
        config: &Config,
        identity: Place,
        store: store::Store,
        journal: Reader,
        warnings: Archive,
    ) -> Self {
        let scratch = config.store_directory().join(SCRATCH);
        // A server that was killed may have left one.
        let _ = fs::remove_file(&scratch);
        let copy_store = Box::new(move |target: &std::path::Path| store.copy(target));
        let warnings = Warnings::Running(warnings);
        let artifacts = config.artifacts_directory();
        Self { identity, scratch, copy_store, journal, warnings, artifacts }
    }

    /// The data directory of a stopped server. The caller has locked the data directory.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn of_stopped(config: &Config) -> Result<Self, BackupError> {
        let directory = config.store_directory();
        let warnings = config.warnings_directory();
        let warnings = warnings.exists().then(|| Reader::open(&warnings)).transpose()?;
        Ok(Self {
            identity: config.identity_place().map_err(IdentityError::from)?,
            scratch: directory.join(SCRATCH),
            journal: Reader::open(&config.journal_directory())?,
            warnings: Warnings::Stopped(warnings),
            artifacts: config.artifacts_directory(),
            copy_store: Box::new(move |target| store::copy_stopped(&directory, target)),
        })
    }
}

/// Writes a backup to `out`, as it can be sent: front to back. Takes as much memory as one piece, and on the
/// data directory's disk as much room as the database, until that is written. Everything that was
/// acknowledged before the call is in it.
///
/// # Errors
/// [`BackupError`]; `out` then holds nothing that looks whole.
pub fn make(source: &Source, now: WallTime, out: impl Write) -> Result<(), BackupError> {
    let (identity, files) = Identity::copy(&source.identity)?;
    let path = &source.scratch;
    let copied = (source.copy_store)(path).and_then(|()| store::seal_copy(path));
    let opened = copied.map_err(BackupError::from).and_then(|copy| {
        let file = File::open(path).map_err(BackupError::io("read", path))?;
        Ok((copy, file))
    });
    // Open, or of no use: either way its name is not needed any more.
    let _ = fs::remove_file(path);
    let (copy, database) = opened?;
    // After the copy of the database: what that knows of is before this.
    let until = source.journal.durable();
    let about = About {
        format: FORMAT,
        muster: env!("CARGO_PKG_VERSION").into(),
        created_at: now.into(),
        certificate_sha256: identity.certificate_hash().to_string(),
        server_epoch: copy.server_epoch,
        devices: copy.devices,
        journal_position: until.0,
    };
    let mut archive = ArchiveWriter::new(out, &about).map_err(BackupError::Output)?;
    match fill(source, &files, &database, until, &mut archive) {
        Ok(journal) => archive.finish(&journal).map(drop).map_err(BackupError::Output),
        Err(error) => {
            // If it can't even be said, the missing end says enough.
            let _ = archive.fail(&error.to_string());
            Err(error)
        }
    }
}

fn fill<W: Write>(
    source: &Source,
    identity: &[NamedFile],
    database: &File,
    until: Position,
    archive: &mut ArchiveWriter<W>,
) -> Result<JournalPart, BackupError> {
    for (name, bytes) in identity {
        let name = format!("identity/{name}");
        archive.add(&name, bytes.len() as u64, bytes.as_slice()).map_err(BackupError::Output)?;
    }
    let bytes = database.metadata().map_err(BackupError::io("read", &source.scratch))?.len();
    archive.add(&format!("store/{FILE_NAME}"), bytes, database).map_err(BackupError::Output)?;
    let mut part = JournalPart::default();
    part.records = add_segments("journal", &source.journal, until, &mut part.damages, archive)?;
    // After the journal: what was deleted from that meanwhile is in this. Records that were copied from
    // behind the journal's part are not.
    if let Some(warnings) = source.warnings.reader() {
        let until = Archive::end_of(&warnings, until)?;
        part.warnings = add_segments("warnings", &warnings, until, &mut part.damages, archive)?;
    }
    add_artifacts(&source.artifacts, archive)?;
    Ok(part)
}

/// Adds the artifacts, but for those that are removed meanwhile.
fn add_artifacts<W: Write>(directory: &Path, archive: &mut ArchiveWriter<W>) -> Result<(), BackupError> {
    let listed = match fs::read_dir(directory) {
        // Of an older musterd.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.and_then(|listed| listed.map(|entry| Ok(entry?.file_name())).collect()),
    };
    let mut names: Vec<_> = listed.map_err(BackupError::io("read", directory))?;
    names.sort_unstable();
    let hashes = names.iter().filter_map(|name| name.to_str()?.parse::<ArtifactHash>().ok());
    for hash in hashes {
        let path = directory.join(hash.to_string());
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((bytes, file)) => {
                archive.add(&format!("{ARTIFACTS}/{hash}"), bytes, file).map_err(BackupError::Output)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::io("read", &path)(error)),
        }
    }
    Ok(())
}

/// Adds what is before `until`, which is durable; how many records that are.
fn add_segments<W: Write>(
    directory: &str,
    journal: &Reader,
    until: Position,
    damages: &mut Vec<String>,
    archive: &mut ArchiveWriter<W>,
) -> Result<u64, BackupError> {
    let mut records = 0;
    for file in journal.files_up_to(until)? {
        // Deleted meanwhile, and so are all that are older.
        let Some(image) = journal.image(file, until)? else { continue };
        let report = verify_image(file.base, &image);
        records += report.records;
        damages.extend(report.damages.iter().map(ToString::to_string));
        let name = format!("{directory}/{}", image.name);
        archive.add(&name, image.len() as u64, &*image).map_err(BackupError::Output)?;
    }
    Ok(records)
}
