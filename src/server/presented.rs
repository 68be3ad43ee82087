//! The certificate that devices are shown: the server's own, or that of the `[tls]` files with a voucher; and
//! the one of administrators: that of the `[admin]` files with a voucher, or the same as devices.
//!
//! The files are read at the start, with a reload, and each minute, as programs that renew certificates
//! replace them. While they don't belong together, or can't be read, the server goes on with those that it
//! has.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::ServerError;
use super::config::{Config, TlsConfig};
use super::identity::Identity;
use crate::paths::open_private;
use crate::reactor::channel::{
    AdminTls, ChannelError, ServerTls, certificate_from_pem, further_certificates_from_pem,
    private_key_from_pem,
};
use crate::wire::certificate::{public_key_info, validity};
use crate::wire::id::CertificateHash;
use crate::wire::time::WallTime;

/// Largest file that is read: certificates have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the files of `[tls]` or `[admin]` can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFilesError {
    /// One can't be read.
    #[error("can't read {}, which [{section}] names: {error}", path.display())]
    Io {
        /// The section that names it.
        section: &'static str,
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// There is no certificate in the one.
    #[error("{} of [{section}] certificate holds no certificate in PEM: {why}", path.display())]
    NoCertificate {
        /// The section that names it.
        section: &'static str,
        /// Which.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// There is no key in the other.
    #[error("{} of [{section}] key holds no private key in PEM: {why}", path.display())]
    NoKey {
        /// The section that names it.
        section: &'static str,
        /// Which.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// They don't belong together, or are of a kind that can't be used.
    #[error("{} and {} of [{section}] can't be used together: {why}", certificate.display(), key.display())]
    Unusable {
        /// The section that names them.
        section: &'static str,
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// The reason.
        why: String,
    },
}

/// The certificates that are shown. Shared by those who change them.
pub(super) struct Presented {
    identity: Arc<Identity>,
    tls: ServerTls,
    administrators: AdminTls,
    /// One, or one for each of those to whom another one is shown.
    state: Mutex<Vec<State>>,
}

/// Those to whom a certificate is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Both,
    Devices,
    Administrators,
}

/// The certificate that is shown to some.
struct State {
    to: To,
    files: TlsConfig,
    /// The section of the configuration that names the files.
    section: &'static str,
    /// Contents that were read last and are shown.
    read: Option<Texts>,
    /// The last fault, which is told once.
    fault: Option<String>,
}

/// Contents of the two files.
#[derive(PartialEq, Eq)]
struct Texts {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl State {
    fn unusable(&self, why: &dyn std::fmt::Display) -> TlsFilesError {
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_else(|| "identity".into());
        let (certificate, key) = (path(&self.files.certificate), path(&self.files.key));
        TlsFilesError::Unusable { section: self.section, certificate, key, why: why.to_string() }
    }

    fn read(&self) -> Result<Option<Texts>, TlsFilesError> {
        let Some((certificate, key)) = self.files.files() else { return Ok(None) };
        let read = |path: &Path, file: io::Result<File>| {
            let mut bytes = Zeroizing::new(Vec::new());
            file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
                .map_err(|error| TlsFilesError::Io { section: self.section, path: path.to_owned(), error })?;
            Ok(bytes)
        };
        let certificate = read(certificate, File::open(certificate))?;
        Ok(Some(Texts { certificate, key: read(key, open_private(key))? }))
    }
}

impl Presented {
    /// Shows what the configuration asks for.
    pub(super) fn new(identity: Arc<Identity>, tls: ServerTls, config: &Config) -> Result<Self, ServerError> {
        let made = identity.browser_certificate();
        let (certificate, key) = made.map_err(|error| ChannelError::Configuration(error.to_string()))?;
        let (administrators, state) = (tls.of_administrators(certificate, &key)?, Mutex::default());
        let presented = Self { identity, tls, administrators, state };
        presented.configure(config)?;
        Ok(presented)
    }

    /// Shows what another configuration asks for; when that can't be done, all stays as it was.
    pub(super) fn configure(&self, config: &Config) -> Result<(), TlsFilesError> {
        let (mut states, mut new) = (self.state.lock(), states(config));
        for state in &mut new {
            state.read = state.read()?;
        }
        if let Err(error) = new.iter().try_for_each(|state| self.show(state, state.read.as_ref())) {
            // They were shown before.
            let _ = states.iter().try_for_each(|state| self.show(state, state.read.as_ref()));
            return Err(error);
        }
        *states = new;
        Ok(())
    }

    /// The server's end of administrators' connections.
    pub(super) fn to_administrators(&self) -> AdminTls {
        self.administrators.clone()
    }

    /// The certificates that administrators are shown: to those who read its signatures the first, to others
    /// the second.
    pub(super) fn shown_to_administrators(&self) -> [Vec<u8>; 2] {
        self.administrators.certificates()
    }

    /// The server's own key has changed: it vouches anew.
    pub(super) fn refresh(&self) -> Result<(), TlsFilesError> {
        self.state.lock().iter().try_for_each(|state| self.show(state, state.read.as_ref()))
    }

    /// Looks whether the files have changed. A fault is told once in the log.
    pub(super) fn look(&self) {
        for state in self.state.lock().iter_mut() {
            let shown = match state.read() {
                Ok(texts) if state.read == texts => Ok(None),
                Ok(texts) => self.show(state, texts.as_ref()).map(|()| texts),
                Err(error) => Err(error),
            };
            match shown {
                Ok(None) => state.fault = None,
                Ok(texts) => {
                    (state.read, state.fault) = (texts, None);
                    log::info!("the certificate of [{}] has changed and is shown from now on", state.section);
                }
                Err(error) => {
                    let fault = error.to_string();
                    if state.fault.as_ref() != Some(&fault) {
                        log::error!("{fault}; the certificate that was read before is shown meanwhile");
                        state.fault = Some(fault);
                    }
                }
            }
        }
    }

    fn show(&self, state: &State, texts: Option<&Texts>) -> Result<(), TlsFilesError> {
        let unusable = |error: ChannelError| state.unusable(&error);
        let (Some((certificate, key)), Some(texts)) = (state.files.files(), texts) else {
            // Its own were checked when they were read.
            let (chain, key) = (self.identity.chain(), self.identity.server_private_key_der());
            return self.show_to(state.to, chain, Vec::new(), &key).map_err(unusable);
        };
        let no_certificate =
            |why| TlsFilesError::NoCertificate { section: state.section, path: certificate.to_owned(), why };
        let shown = certificate_from_pem(&texts.certificate)
            .and_then(|certificate| match public_key_info(&certificate) {
                Some(_) => Ok(certificate),
                None => Err("it is none of version 3 of X.509, such as TLS needs".to_owned()),
            })
            .map_err(no_certificate)?;
        let further = further_certificates_from_pem(&texts.certificate).map_err(no_certificate)?;
        let private_key = private_key_from_pem(&texts.key).map_err(|why| TlsFilesError::NoKey {
            section: state.section,
            path: key.to_owned(),
            why,
        })?;
        let chain = self.identity.chain_behind(&shown).map_err(|error| state.unusable(&error))?;
        self.show_to(state.to, chain, further, &private_key).map_err(unusable)
    }

    /// Browsers need what lies between it and an authority's; devices and musterctl need the voucher alone.
    fn show_to(
        &self,
        to: To,
        mut chain: Vec<Vec<u8>>,
        further: Vec<Vec<u8>>,
        key: &[u8],
    ) -> Result<(), ChannelError> {
        if to != To::Administrators {
            self.tls.show(chain.clone(), key)?;
        }
        if to != To::Devices {
            chain.extend(further);
            self.administrators.show(chain, key)?;
        }
        Ok(())
    }

    /// SHA-256 of the certificate of the files that devices are shown; `None`: the server's own.
    pub(super) fn of_files(&self) -> Option<CertificateHash> {
        self.files_certificate().map(|certificate| CertificateHash::of(&certificate))
    }

    /// Until when the certificate of the files is good that devices are shown.
    pub(super) fn files_until(&self) -> Option<WallTime> {
        validity(&self.files_certificate()?).map(|(_, until)| until)
    }

    fn files_certificate(&self) -> Option<Vec<u8>> {
        let states = self.state.lock();
        let state = states.iter().find(|state| state.to != To::Administrators)?;
        certificate_from_pem(&state.read.as_ref()?.certificate).ok()
    }
}

/// Those for whom a configuration has a certificate, before any file is read.
fn states(config: &Config) -> Vec<State> {
    let state =
        |to, section, files: &TlsConfig| State { to, files: files.clone(), section, read: None, fault: None };
    let of_administrators = config.admin.tls();
    if of_administrators.files().is_none() {
        return vec![state(To::Both, "tls", &config.tls)];
    }
    vec![state(To::Devices, "tls", &config.tls), state(To::Administrators, "admin", &of_administrators)]
}
