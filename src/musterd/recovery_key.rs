//! `musterd recovery-key`: the key by which devices accept a server that has lost everything else.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::arguments::{RecoveryKeyCommand, UseRecoveryKey};
use super::{Failure, configuration};
use crate::client::{Address, Client};
use crate::reactor::Clock;
use crate::server::config::Config;
use crate::server::data_directory::{DataDirectory, DataDirectoryError};
use crate::server::identity::{Identity, REPLACED, Recovery};

/// Most that is read of a key's file: a key in PEM has 120 bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

pub(crate) fn command(command: &RecoveryKeyCommand) -> Result<ExitCode, Failure> {
    match command {
        RecoveryKeyCommand::Create(place) => create(&configuration::load(place)?),
        RecoveryKeyCommand::Use(arguments) => use_key(arguments),
    }
}

fn create(config: &Config) -> Result<ExitCode, Failure> {
    let key = match DataDirectory::lock(&config.data_directory) {
        Ok(_locked) => {
            let place = config.identity_place().map_err(Failure::refused)?;
            let identity = Identity::open(place).map_err(Failure::refused)?;
            identity.create_recovery_key(Clock::new().now().wall).map_err(Failure::refused)?
        }
        Err(held @ DataDirectoryError::InUse { .. }) => of_running(config, &held)?,
        Err(error) => return Err(Failure::refused(error)),
    };
    // The key alone, so that standard output can be a file.
    let mut out = std::io::stdout().lock();
    out.write_all(key.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        Failure::refused(format!("the key was made and could not be printed, make another one: {error}"))
    })?;
    eprintln!(
        "This is the recovery key's private part, shown this once and stored nowhere: keep it off this machine, such as on \
         paper in a safe. Its holder can pass for this server.\n\
         Devices store its pin with their next syncs: 'musterctl certificate status' says how many have. It is needed for\n  \
         musterctl certificate prepare --recovery-key-file FILE\n  musterd recovery-key use --key-file FILE"
    );
    Ok(ExitCode::SUCCESS)
}

/// The server that runs there makes it.
fn of_running(config: &Config, held: &DataDirectoryError) -> Result<Zeroizing<String>, Failure> {
    let refused = |error| Failure::refused(format!("{held}, and that one does not make the key: {error}"));
    let mut client = Client::new(Address::Socket(config.admin_socket())).map_err(refused)?;
    let mut made = client.create_recovery_key().map_err(refused)?;
    Ok(Zeroizing::new(std::mem::take(&mut made.private_key)))
}

fn use_key(arguments: &UseRecoveryKey) -> Result<ExitCode, Failure> {
    let config = configuration::load(&arguments.place)?;
    let key = read_key(&arguments.key_file)?;
    let _locked = DataDirectory::lock(&config.data_directory).map_err(Failure::refused)?;
    let directory = config.identity_directory();
    let had_identity = directory.exists();
    let place = config.identity_place().map_err(Failure::refused)?;
    let recovery = Recovery { is_stolen: arguments.stolen, above: arguments.above };
    let identity = Identity::recover(place, &key, recovery, Clock::new().now().wall);
    let identity = identity.map_err(Failure::refused)?;
    println!(
        "{}: a new certificate ({}) and secret; the recovery key vouches for the certificate.",
        directory.display(),
        identity.certificate_hash()
    );
    println!(
        "
Start the server: devices that know the recovery key come back by themselves, keep their certificates and records, and
store what is new with their first sync ('musterctl certificate status' says how many have). Until then they can't be
woken. Join tokens from before are of no use any more."
    );
    if had_identity {
        println!(
            "The files that were there are in {}: delete them when the devices are back.",
            directory.with_file_name(REPLACED).display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn read_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(text)
}
