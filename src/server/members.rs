//! Who may come in: the device table, as TLS asks for it.

use std::sync::Arc;

use crate::reactor::channel::{Membership, Standing};
use crate::store::table::{Certificate, DeviceTable};
use crate::wire::id::CertificateHash;

/// The fleet's certificates. Asked in the middle of a handshake, and again by whoever takes a resumed session.
#[derive(Clone)]
pub struct Members(Arc<DeviceTable>);

impl Members {
    /// Those of the table.
    #[must_use]
    pub fn new(table: Arc<DeviceTable>) -> Self {
        Self(table)
    }
}

impl Membership for Members {
    fn standing(&self, certificate: &CertificateHash) -> Standing {
        match self.0.by_certificate(certificate) {
            Certificate::Device(device) => Standing::Known(device),
            Certificate::Removed(device) => Standing::Removed(device),
            Certificate::Unknown => Standing::Unknown,
        }
    }
}
