//! `musterd backup` and `musterd restore`.

use std::io::Write;
use std::process::ExitCode;

use crate::client::{Address, Client};
use crate::reactor::Clock;
use crate::server::backup::{self, BackupError, Contents, Source};
use crate::server::config::Config;
use crate::server::data_directory::{DataDirectory, DataDirectoryError};
use crate::wire::units::count;

use super::arguments::{Backup, Restore};
use super::{Failure, configuration};

/// `musterd backup`
pub(crate) fn command(arguments: &Backup) -> Result<ExitCode, Failure> {
    let config = configuration::load(&arguments.place)?;
    let (file, directory) = (&arguments.file, &config.data_directory);
    let (contents, of) = match DataDirectory::lock(directory) {
        Ok(_locked) => {
            let source = Source::of_stopped(&config).map_err(Failure::refused)?;
            let now = Clock::new().now().wall;
            (backup::write_file(file, |out| backup::make(&source, now, out)), "a stopped server")
        }
        Err(error @ DataDirectoryError::InUse { .. }) => {
            (backup::write_file(file, |out| of_running(&config, &error, out)), "a running server")
        }
        Err(error) => return Err(Failure::refused(error)),
    };
    let contents = contents.map_err(Failure::refused)?;
    println!("{}: of {of}, {}; verified", file.display(), summary(&contents));
    println!("It holds the server's private keys (mode 0600): anybody who reads it can pass for the server.");
    tell_damages(&contents);
    Ok(ExitCode::SUCCESS)
}

/// As the server sends it: it alone knows what is durable.
fn of_running(config: &Config, held: &DataDirectoryError, out: &mut dyn Write) -> Result<(), BackupError> {
    let refused = |why: String| BackupError::Refused(why);
    let address = Address::Socket(config.admin_socket());
    let mut client = Client::new(address).map_err(|error| refused(error.to_string()))?;
    let pieces = client
        .backup()
        .map_err(|error| refused(format!("{held}, and that one does not send it: {error}")))?;
    for piece in pieces {
        let piece = piece.map_err(|error| refused(error.to_string()))?;
        out.write_all(&piece).map_err(BackupError::Output)?;
    }
    Ok(())
}

/// `musterd restore`
pub(crate) fn restore(arguments: &Restore) -> Result<ExitCode, Failure> {
    let (file, directory) = (&arguments.file, &arguments.data);
    let contents = backup::restore(file, directory).map_err(Failure::refused)?;
    let at = contents.about.created_at;
    println!("{}: restored from {}, {}; verified", directory.display(), file.display(), summary(&contents));
    println!(
        "
When a server starts there:
  - Devices come by themselves and know it again: certificate, addresses and datagram keys are those of the backup.
    What it says of itself has a new epoch. Lists that differ are brought over whole at each device's next sync.
  - Devices send the events again that they still have. Events that the old server acknowledged after
    {at} and that devices no longer have are lost.
  - What administrators changed since then is as it was: groups, policies, settings, tasks. Devices that enrolled
    since wait for approval ('musterctl device approve'); devices that were removed since are back; join tokens that were withdrawn or used
    since are good again: look at 'musterctl token list' and 'musterctl device list'.
Stop the old server for good before you start this one: devices can't tell them apart.

  musterd run --data {}",
        directory.display()
    );
    if rustix::process::geteuid().is_root()
        && std::fs::metadata(directory).is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
    {
        println!(
            "It belongs to root. If musterd runs as another user: chown -R USER: {}",
            directory.display()
        );
    }
    tell_damages(&contents);
    Ok(ExitCode::SUCCESS)
}

fn summary(contents: &Contents) -> String {
    let (about, journal) = (&contents.about, &contents.journal);
    format!(
        "made {} by musterd {}: {}, {} up to position {}, {}, {}",
        about.created_at,
        about.muster,
        count(about.devices, "device"),
        count(journal.records, "event"),
        about.journal_position,
        count(journal.warnings, "kept warning"),
        size(contents.bytes)
    )
}

fn size(bytes: u64) -> String {
    // Six digits at most: what a number of another kind loses doesn't show.
    let bytes = u32::try_from(bytes / 1_000).map_or(f64::MAX, f64::from);
    if bytes < 1_000.0 { format!("{bytes} kB") } else { format!("{:.1} MB", bytes / 1_000.0) }
}

fn tell_damages(contents: &Contents) {
    for damage in &contents.journal.damages {
        eprintln!("musterd: the journal was damaged before the backup, which has it as it was: {damage}");
    }
}
