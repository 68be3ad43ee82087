//! The certificate that devices are shown: the server's own, or that of the `[tls]` files with a voucher.
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

use super::config::TlsConfig;
use super::identity::{Identity, IdentityError};
use crate::paths::open_private;
use crate::reactor::channel::{
    AdminTls, ChannelError, ServerTls, certificate_from_pem, private_key_from_pem,
};
use crate::wire::certificate::{public_key_info, validity};
use crate::wire::id::CertificateHash;
use crate::wire::time::WallTime;

/// Largest file that is read: certificates have a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the `[tls]` files can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFilesError {
    /// One can't be read.
    #[error("can't read {}, which [tls] names: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// There is no certificate in the one.
    #[error("{} of [tls] certificate holds no certificate in PEM: {why}", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// There is no key in the other.
    #[error("{} of [tls] key holds no private key in PEM: {why}", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// They don't belong together, or are of a kind that can't be used.
    #[error("{} and {} of [tls] can't be used together: {why}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// The reason.
        why: String,
    },
}

/// The certificate that is shown. Shared by those who change it.
pub(super) struct Presented {
    identity: Arc<Identity>,
    tls: ServerTls,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config: TlsConfig,
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

impl Presented {
    /// Shows what the configuration asks for.
    pub(super) fn new(
        identity: Arc<Identity>,
        tls: ServerTls,
        config: &TlsConfig,
    ) -> Result<Self, TlsFilesError> {
        let presented = Self { identity, tls, state: Mutex::default() };
        presented.configure(config)?;
        Ok(presented)
    }

    /// Shows what another configuration asks for; when that can't be done, all stays as it was.
    pub(super) fn configure(&self, config: &TlsConfig) -> Result<(), TlsFilesError> {
        let mut state = self.state.lock();
        let texts = config.files().map(|(certificate, key)| read(certificate, key)).transpose()?;
        self.show(config, texts.as_ref())?;
        *state = State { config: config.clone(), read: texts, fault: None };
        Ok(())
    }

    /// The same for administrators.
    pub(super) fn to_administrators(&self) -> Result<AdminTls, ChannelError> {
        self.tls.of_administrators()
    }

    /// The server's own key has changed: it vouches anew.
    pub(super) fn refresh(&self) -> Result<(), TlsFilesError> {
        let state = self.state.lock();
        self.show(&state.config, state.read.as_ref())
    }

    /// Looks whether the files have changed. A fault is told once in the log.
    pub(super) fn look(&self) {
        let mut state = self.state.lock();
        let Some((certificate, key)) = state.config.files() else { return };
        let shown = match read(certificate, key) {
            Ok(texts) if state.read.as_ref() == Some(&texts) => Ok(None),
            Ok(texts) => self.show(&state.config, Some(&texts)).map(|()| Some(texts)),
            Err(error) => Err(error),
        };
        match shown {
            Ok(None) => state.fault = None,
            Ok(Some(texts)) => {
                (state.read, state.fault) = (Some(texts), None);
                log::info!("the certificate of [tls] has changed and is shown from now on");
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

    fn show(&self, config: &TlsConfig, texts: Option<&Texts>) -> Result<(), TlsFilesError> {
        let (Some((certificate, key)), Some(texts)) = (config.files(), texts) else {
            let own = self.tls.show(self.identity.chain(), &self.identity.server_private_key_der());
            // Its own were checked when they were read.
            return own.map_err(|error| unusable(Path::new("identity"), Path::new("identity"), &error));
        };
        let shown = certificate_from_pem(&texts.certificate)
            .and_then(|certificate| match public_key_info(&certificate) {
                Some(_) => Ok(certificate),
                None => Err("it is none of version 3 of X.509, such as TLS needs".to_owned()),
            })
            .map_err(|why| TlsFilesError::NoCertificate { path: certificate.to_owned(), why })?;
        let private_key = private_key_from_pem(&texts.key)
            .map_err(|why| TlsFilesError::NoKey { path: key.to_owned(), why })?;
        let chain = self
            .identity
            .chain_behind(&shown)
            .map_err(|error: IdentityError| unusable(certificate, key, &error))?;
        self.tls.show(chain, &private_key).map_err(|error: ChannelError| unusable(certificate, key, &error))
    }

    /// SHA-256 of the certificate of the files; `None`: the server shows its own.
    pub(super) fn of_files(&self) -> Option<CertificateHash> {
        self.files_certificate().map(|certificate| CertificateHash::of(&certificate))
    }

    /// Until when the certificate of the files is good.
    pub(super) fn files_until(&self) -> Option<WallTime> {
        validity(&self.files_certificate()?).map(|(_, until)| until)
    }

    fn files_certificate(&self) -> Option<Vec<u8>> {
        certificate_from_pem(&self.state.lock().read.as_ref()?.certificate).ok()
    }
}

fn unusable(certificate: &Path, key: &Path, why: &dyn std::fmt::Display) -> TlsFilesError {
    TlsFilesError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), why: why.to_string() }
}

fn read(certificate: &Path, key: &Path) -> Result<Texts, TlsFilesError> {
    let read = |path: &Path, file: io::Result<File>| {
        let mut bytes = Zeroizing::new(Vec::new());
        file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
            .map_err(|error| TlsFilesError::Io { path: path.to_owned(), error })?;
        Ok(bytes)
    };
    Ok(Texts { certificate: read(certificate, File::open(certificate))?, key: read(key, open_private(key))? })
}
