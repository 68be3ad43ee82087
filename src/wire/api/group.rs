//! Groups: a tree, named by paths.

use serde::{Deserialize, Serialize};

/// Asks for a group to be made, with every group above it that doesn't exist. One that exists gets the interval.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// Its path, such as `/berlin/kiosks`.
    pub path: String,
    /// The interval of its devices' syncs, in seconds; left out: that of the group above it, or of the server.
    #[serde(default)]
    pub interval_seconds: Option<u32>,
}

/// One group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its path.
    pub path: String,
    /// The interval set for it, in seconds; null: that of the group above it, or of the server.
    pub interval_seconds: Option<u32>,
    /// How many devices are in it, those of groups below it not counted.
    pub devices: u64,
}
