//! Installed applications across the fleet.

use serde::{Deserialize, Serialize};

use crate::wire::id::DeviceId;

/// Asks for applications, by name and version.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ApplicationQuery {
    /// Only what is installed on this device (name or id).
    pub device: Option<String>,
    /// Only names that match: `*` stands for any text, `?` for one character, `[…]` for one of several.
    pub name: Option<String>,
    /// Only versions for which this holds: `=`, `<`, `<=`, `>` or `>=` and a version, such as `<3.0.14`.
    pub version: Option<String>,
    /// Most items of the page.
    pub limit: Option<u32>,
    /// Begin of the page.
    pub cursor: Option<String>,
}

/// One version of one application, and how far it is spread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct InstalledApplication {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its publisher; may be empty.
    pub publisher: String,
    /// On how many devices it is installed.
    pub devices: u64,
}

/// One application on one device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Installation {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Name of the device.
    pub device: String,
    /// Id of the device.
    pub device_id: DeviceId,
}
