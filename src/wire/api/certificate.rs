//! The server's certificate, its rotation and the recovery key.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::Timestamp;
use crate::wire::named::named;

/// Share of the fleet that must be ready before the server's key is switched, or the former one retired.
pub const READY_PERCENT_DEFAULT: u8 = 99;

/// Most devices that are named in a [`CertificateStatus`].
pub const MISSING_NAMES_MAX: usize = 20;

named! {
    /// Progress of a rotation of the server's key.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    CertificateStage, else "a stage: current, prepared, switched are" {
        /// There is none.
        #[default]
        Current = "current",
        /// The next key is made, and devices are told of it.
        Prepared = "prepared",
        /// The next key is in use, and the former one is still pinned.
        Switched = "switched",
    }
}

named! {
    /// A step of a rotation.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    CertificateStep, else "a step: prepare, switch, retire, rotate_secret are" {
        /// Make the next key, and tell devices of it.
        Prepare = "prepare",
        /// Put it into use.
        Switch = "switch",
        /// Let the former key, and a former secret, go.
        Retire = "retire",
        /// Draw another secret of datagrams.
        RotateSecret = "rotate_secret",
    }
}

/// Asks for a step: `POST /v1/certificate`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CertificateChange {
    /// Which.
    pub step: CertificateStep,
    /// To prepare: the recovery key's private part, PEM. It is used once and not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key: Option<String>,
    /// To switch and to retire: the share of the fleet that must be ready; null: [`READY_PERCENT_DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_percent: Option<u8>,
    /// Do it whatever devices it loses.
    #[serde(default)]
    pub force: bool,
}

impl Drop for CertificateChange {
    fn drop(&mut self) {
        self.recovery_key.zeroize();
    }
}

impl std::fmt::Debug for CertificateChange {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateChange").field("step", &self.step).finish_non_exhaustive()
    }
}

/// State of the server's certificate: `GET /v1/certificate`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CertificateStatus {
    /// Progress of a rotation.
    pub stage: CertificateStage,
    /// SHA-256 of the server's own certificate, which join tokens carry.
    pub current_sha256: String,
    /// Of the next one; null: none is prepared.
    pub next_sha256: Option<String>,
    /// Since when; null: none is.
    pub prepared_at: Option<Timestamp>,
    /// Of the former one; null: there is none any more.
    pub former_sha256: Option<String>,
    /// Since when it is the former one; null: there is none.
    pub switched_at: Option<Timestamp>,
    /// Of the recovery key's certificate; null: there is no recovery key.
    pub recovery_sha256: Option<String>,
    /// Since when; null: there is none.
    pub recovery_since: Option<Timestamp>,
    /// Whether the recovery key has vouched for the current key.
    pub is_vouched: bool,
    /// Whether it has vouched for the next one.
    pub is_next_vouched: bool,
    /// Whether a former secret of datagrams is still in use.
    pub has_former_secret: bool,
    /// SHA-256 of the certificate of the `[tls]` files, which is shown in front of the server's own; null:
    /// there are none.
    pub files_sha256: Option<String>,
    /// Names the certificates and keys that devices are to trust.
    pub label: String,
    /// Number of devices.
    pub devices: u64,
    /// Of those the ones that have stored all that.
    pub ready: u64,
    /// Of the others the ones that come back by the recovery key.
    pub recoverable: u64,
    /// Names of the first devices that neither have it nor come back by the recovery key.
    pub missing: Vec<String>,
}

/// A recovery key, which is shown this once: `POST /v1/recovery-key`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RecoveryKey {
    /// The private key, PEM.
    pub private_key: String,
}

impl Drop for RecoveryKey {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

impl std::fmt::Debug for RecoveryKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey")
    }
}
