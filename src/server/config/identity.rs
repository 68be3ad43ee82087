//! `[identity]`: how long certificates live, what becomes of copies, how the server's own keys are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::configuration::{self, duration};
use crate::server::config::Config;
use crate::server::identity::{Passphrase, PassphraseError, Place};
use crate::wire::clone_policy::ClonePolicy;

/// Identities of devices and of the server.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// Life of a device's certificate. The server has it renewed when two thirds of that are over.
    #[serde(deserialize_with = "duration::<60, { 3_650 * 86_400 }, _, _>")]
    pub device_certificate_life: Duration,
    /// Treatment of a machine that uses the identity of another one, as a copied disk does.
    pub clones: ClonePolicy,
    /// File in whose first line the passphrase of the server's private keys is; `-`: standard input;
    /// `credential:NAME`: a credential of the unit; `None`: they are under none.
    #[serde(deserialize_with = "configuration::path")]
    pub passphrase_file: Option<PathBuf>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            device_certificate_life: Duration::from_secs(365 * 86_400),
            clones: ClonePolicy::default(),
            passphrase_file: None,
        }
    }
}

impl IdentityConfig {
    /// The file of the passphrase, where it is one that others than the unit itself can look at.
    pub(super) fn passphrase_path(&self) -> Option<&Path> {
        self.passphrase_file.as_deref().filter(|path| Passphrase::is_file(path))
    }

    /// This configuration, under the passphrase that was read at the start.
    pub(super) fn reloaded(&self, running: &Self) -> Self {
        Self { passphrase_file: running.passphrase_file.clone(), ..self.clone() }
    }
}

impl Config {
    /// The place of the identity, with its passphrase, which is read now.
    ///
    /// # Errors
    /// When there is none to be read.
    pub fn identity_place(&self) -> Result<Place, PassphraseError> {
        let passphrase = self.identity.passphrase_file.as_deref().map(Passphrase::read).transpose()?;
        Ok(Place::new(self.identity_directory(), passphrase))
    }
}
