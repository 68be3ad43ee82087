//! Groups: a tree, named by paths.

use serde::{Deserialize, Serialize};

use super::Keep;

/// Asks for a group to be made, with every group above it that doesn't exist. One that exists gets the
/// settings that are named.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its path, such as `/berlin/kiosks`.
    pub path: String,
    /// The interval of its devices' syncs; left out: that of the group above it, or of the server.
    #[serde(default)]
    pub interval_seconds: Option<u32>,
    /// Whether the links of its devices stay open between syncs; left out: as it is, and with a new group as
    /// the one above it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_connected: Option<Keep>,
}

/// One group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Group {
    /// Its path.
    pub path: String,
    /// The interval set for it; null: that of the group above it, or of the server.
    pub interval_seconds: Option<u32>,
    /// Whether the links of its devices stay open between syncs; null: as the group above it says, off at the
    /// root.
    pub keep_connected: Option<bool>,
    /// Number of devices in it, those of groups below it not counted.
    pub devices: u64,
    /// The settings of its devices that have none of their own.
    pub in_force: GroupInForce,
}

/// The settings of a group's devices that have none of their own, and the groups that they come from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct GroupInForce {
    /// The interval of syncs; null: that of the server.
    pub interval_seconds: Option<u32>,
    /// Path of the group that the interval is set for; null: none.
    pub interval_from: Option<String>,
    /// Whether links stay open between syncs.
    pub keep_connected: bool,
    /// Path of the group that this is set for; null: none.
    pub keep_connected_from: Option<String>,
}
