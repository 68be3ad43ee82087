//! Renewal of the device's certificate: keys and slots. When and which, the
//! [machine](crate::machine::credentials) decides.
//!
//! Private keys are read for a moment and wiped again: TLS has a copy of the one in use, nothing else does.

use super::{Agent, Now};
use crate::agent::identity::{Candidate, Identity, RenewalKey};
use crate::agent::talk::tls_of;
use crate::machine::credentials::Credential;
use crate::wire::certificate;
use crate::wire::time::WallTime;

impl Agent {
    /// Whether the device's key is of another kind than the settings say.
    pub(super) fn judge_key(&mut self) {
        let wanted = self.own.key_type(&self.settings, &self.identity);
        self.machine.set_key_outdated(self.identity.key_type() != wanted);
    }

    /// Makes a key, or takes the one in use, and a request for its certificate.
    pub(super) fn make_request(&mut self, now: &Now) {
        match self.candidate() {
            Ok(candidate) => {
                self.machine.request_made(now, candidate.request.clone());
                self.candidate = Some(candidate);
            }
            Err(error) => self.renewal_failed(&error),
        }
    }

    fn candidate(&self) -> Result<Candidate, String> {
        let wanted = self.own.key_type(&self.settings, &self.identity);
        let name = &self.identity.name;
        let is_kept = self.own.renewal_key(&self.settings) == RenewalKey::Same;
        let candidate = if is_kept && self.identity.key_type() == wanted {
            Candidate::again(&self.stored()?.private_key, name)
        } else {
            Candidate::new(wanted, name)
        };
        candidate.map_err(|error| error.to_string())
    }

    /// Stores a certificate beside the one in use: both in one write, so that whatever happens one is there.
    pub(super) fn store_certificate(&mut self, certificate: Vec<u8>) {
        match self.write_renewed(certificate) {
            Ok(identity) => {
                log::info!(
                    "the certificate was renewed: the next is number {}, good until {}",
                    certificate::counter(&identity.certificate),
                    certificate::validity(&identity.certificate).map_or(WallTime(0), |(_, until)| until)
                );
                self.be(identity);
                self.machine.certificate_stored();
            }
            Err(error) => self.renewal_failed(&error),
        }
    }

    fn write_renewed(&mut self, certificate: Vec<u8>) -> Result<Identity, String> {
        let candidate = self.candidate.take().ok_or("nobody asked for this certificate")?;
        let identity = self.stored()?.renewed(candidate, certificate);
        // A certificate that is not for this key is found here.
        tls_of(&identity).map_err(|error| error.to_string())?;
        identity.write(self.directory.path()).map_err(|error| error.to_string())?;
        Ok(identity)
    }

    /// From the next link on the device shows this certificate.
    pub(super) fn show_certificate(&mut self, shown: Credential) {
        let tls = self.stored().and_then(|stored| {
            let stored = stored.showing(shown).ok_or(GONE)?;
            let tls = tls_of(&stored).map_err(|error| error.to_string())?;
            Ok((stored, tls))
        });
        match tls {
            Ok((identity, tls)) => {
                self.connection.set_tls(tls);
                self.be(identity);
            }
            Err(error) => log::error!("the other certificate can't be shown: {error}"),
        }
    }

    /// Takes a certificate off the disk that is of no more use. Without success it stays there, which the
    /// next start puts right.
    pub(super) fn forget_certificate(&mut self, forgotten: Credential) {
        let written = self.stored().and_then(|stored| {
            let kept = stored.without(forgotten).ok_or(GONE)?;
            kept.write(self.directory.path()).map_err(|error| error.to_string())?;
            Ok(kept)
        });
        match written {
            Ok(identity) => {
                if forgotten == Credential::Newest {
                    log::warn!(
                        "the server does not know the certificate that was renewed last: the one before it stays"
                    );
                }
                self.be(identity);
            }
            Err(error) => log::error!("a certificate that is of no more use stays on the disk: {error}"),
        }
    }

    fn stored(&self) -> Result<Identity, String> {
        Identity::read_enrolled(self.directory.path()).map_err(|error| error.to_string())
    }

    /// The device is this one from now on, as the server sees it.
    pub(super) fn be(&mut self, identity: Identity) {
        self.identity = identity;
        self.identity.forget_private_key();
        self.judge_key();
    }

    pub(super) fn renewal_failed(&mut self, reason: &str) {
        self.candidate = None;
        self.machine.renewal_failed(reason);
    }

    /// A renewal that came to nothing, as a problem of the device.
    pub(super) fn renewal_problem(&self) -> Option<String> {
        let error = self.machine.renewal_error()?;
        Some(format!("the device's certificate could not be renewed: {error}; the next sync tries again"))
    }
}

/// The certificate that the machine wants shown is not in the slots.
const GONE: &str = "it is not on the disk any more";
