//! Another set of the server's certificates: stored, in force from the next connection on, and only then
//! named to the server.

use super::Agent;
use crate::agent::identity::{Identity, IdentityError};
use crate::agent::talk::tls_of;
use crate::reactor::channel::ChannelError;
use crate::wire::message::Trust;
use crate::wire::time::Now;

/// Why a set of certificates was not taken.
#[derive(Debug, thiserror::Error)]
enum TrustError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the device's key or certificate can't be used: {0}")]
    Tls(#[from] ChannelError),
    #[error("the server names no certificate")]
    Nothing,
}

impl Agent {
    /// Trusts what the server says. When that can't be stored, the link ends, and the server says it again.
    pub(super) fn take_trust(&mut self, now: &Now, trust: &Trust) {
        match self.store_trust(trust) {
            Ok(()) => {
                log::info!(
                    "the server's certificates are stored: {} of them, from the next connection on",
                    trust.pins.len()
                );
                self.machine.set_trust(trust.label);
            }
            Err(error) => {
                self.connection.close();
                self.lost(now, &format!("the server's certificates can't be stored: {error}"));
            }
        }
    }

    fn store_trust(&mut self, trust: &Trust) -> Result<(), TrustError> {
        if trust.pins.is_empty() {
            return Err(TrustError::Nothing);
        }
        // From the disk: the private key is not kept in memory.
        let identity = Identity::read_enrolled(self.directory.path())?.trusting(trust);
        // Of two certificates the one that is shown stays that.
        let shown = identity.clone().showing(self.machine.shown_certificate());
        let shown = shown.unwrap_or_else(|| identity.clone());
        let tls = tls_of(&shown)?;
        identity.write(self.directory.path())?;
        self.datagrams.set_keys(identity.wake_key, identity.notice_key);
        self.connection.set_tls(tls);
        self.be(shown);
        Ok(())
    }
}
