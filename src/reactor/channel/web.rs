//! TLS to servers of others, as browsers speak it: by names, and authorities that vouch for them.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, version};

use super::signature;

/// The client's end of such a connection.
#[derive(Clone, Debug)]
pub struct WebTls(Arc<ClientConfig>);

impl WebTls {
    /// TLS 1.3 with servers for which one of the authorities in a PEM text vouches.
    ///
    /// # Errors
    /// In words: there is none in it, or the library can't be set up.
    pub fn new(authorities: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // Files of systems have some that the library can't read.
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(authorities).filter_map(Result::ok));
        if roots.is_empty() {
            return Err("it holds no certificate of an authority in PEM".to_owned());
        }
        let builder = ClientConfig::builder_with_provider(signature::provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }

    /// The library's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// The name that a server's certificate must have.
    ///
    /// # Errors
    /// In words: it is neither a host's name nor an address.
    pub fn name(host: String) -> Result<ServerName<'static>, String> {
        ServerName::try_from(host).map_err(|error| error.to_string())
    }
}
