//! `musterd identity`: the private keys on the disk under a passphrase, or under none.

use std::path::PathBuf;
use std::process::ExitCode;

use super::arguments::{IdentityCommand, Place};
use super::{Failure, configuration};
use crate::server::data_directory::DataDirectory;
use crate::server::identity::{Identity, Passphrase};

pub(crate) fn command(command: &IdentityCommand) -> Result<ExitCode, Failure> {
    match command {
        IdentityCommand::Protect { passphrase_file, old_passphrase_file, place } => {
            let words = Passphrase::read(passphrase_file).map_err(Failure::refused)?;
            let identity = reseal(place, old_passphrase_file.as_ref(), Some(words))?;
            println!("the private keys in {} are under the passphrase", identity.display());
            println!("the server needs it at each start: [identity] passphrase_file in its configuration");
        }
        IdentityCommand::Unprotect { passphrase_file, place } => {
            let identity = reseal(place, passphrase_file.as_ref(), None)?;
            println!("the private keys in {} are under no passphrase any more", identity.display());
            println!(
                "take [identity] passphrase_file out of the configuration: a start would protect them again"
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The identity's directory.
fn reseal(place: &Place, old: Option<&PathBuf>, new: Option<Passphrase>) -> Result<PathBuf, Failure> {
    let mut config = configuration::load(place)?;
    if let Some(old) = old {
        config.identity.passphrase_file = Some(old.clone());
    }
    // A server that runs would write them as it knows them.
    let _locked = DataDirectory::lock(&config.data_directory).map_err(Failure::refused)?;
    let identity = config.identity_place().map_err(Failure::refused)?;
    Identity::reseal(identity, new).map_err(Failure::refused)?;
    Ok(config.identity_directory())
}
