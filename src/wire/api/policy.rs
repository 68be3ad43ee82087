//! Policies, settings, and what comes of them on a device.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Timestamp;
use crate::wire::settings::{Drift, SettingsReport};

/// Sets a group's policy, or a device's own settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewPolicy {
    /// The group's path; or the device's name or id.
    pub at: String,
    /// The application.
    pub application: String,
    /// The settings.
    pub settings: Map<String, Value>,
    /// Dotted paths of keys that levels below may not change; a device's own settings have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// The devices' reaction when somebody else changes the settings; left out: as the level above says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// Whether devices that are not connected are woken for it.
    #[serde(default)]
    pub wake: bool,
    /// Only say which devices would have other settings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Removes a group's policy, or a device's own settings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyRemoval {
    /// The group's path; or the device's name or id.
    pub at: String,
    /// The application.
    pub application: String,
    /// Whether devices that are not connected are woken for it.
    #[serde(default)]
    pub wake: bool,
    /// Only say which devices would have other settings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Result of a change of settings.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SettingsChanged {
    /// The revision that it is; null: nothing was changed, it was only asked what would.
    pub revision: Option<u64>,
    /// Number of devices that have other settings since, or would have.
    pub devices: u64,
    /// The first of them, at most [`CHANGED_NAMES_MAX`], when it was asked what a policy would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ChangedDevice>,
}

/// A device that would have other settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ChangedDevice {
    /// The device's name.
    pub name: String,
    /// Keys of its effective settings that would be different; none: its reaction to drift alone would be.
    pub keys: Vec<ChangedKey>,
}

/// A key that differs between two settings. Shown as `lines: 40 -> 41`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ChangedKey {
    /// The key, as a dotted path.
    pub key: String,
    /// Its value before; left out: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub before: Option<Value>,
    /// Its value after; left out: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub after: Option<Value>,
}

/// A value that is given, though it may be null.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl fmt::Display for ChangedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, before, after } = self;
        match (before, after) {
            (None, Some(after)) => write!(f, "{key} = {after}"),
            (Some(before), Some(after)) => write!(f, "{key}: {before} -> {after}"),
            (Some(before), None) => write!(f, "{key}: {before} -> nothing"),
            (None, None) => f.write_str(key),
        }
    }
}

/// Most devices that are named in a [`SettingsChanged`].
pub const CHANGED_NAMES_MAX: usize = 20;

/// Which policies are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyQuery {
    /// Only that of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only those for this application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The last page's `next_cursor`; left out: the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most items of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A group's policy for an application.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Policy {
    /// The group's path.
    pub group: String,
    /// The application.
    pub application: String,
    /// The settings.
    pub settings: Map<String, Value>,
    /// Dotted paths of keys that levels below may not change.
    pub locks: Vec<String>,
    /// The devices' reaction when somebody else changes the settings; null: as the level above says.
    pub drift: Option<Drift>,
    /// The revision in which it was set.
    pub revision: u64,
    /// When that was.
    pub changed_at: Timestamp,
}

/// Which policy's history is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PolicyHistoryQuery {
    /// The group's path.
    pub group: String,
    /// The application.
    pub application: String,
    /// The last page's `next_cursor`; left out: the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most items of the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A group's policy for an application as it was from one change to the next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct PolicyVersion {
    /// The revision in which it was set.
    pub revision: u64,
    /// When that was.
    pub changed_at: Timestamp,
    /// Whose change it was, as the audit names them; empty: not known.
    pub changed_by: String,
    /// The settings; null: the policy was removed.
    pub settings: Option<Map<String, Value>>,
    /// Dotted paths of keys that levels below may not change.
    pub locks: Vec<String>,
    /// The devices' reaction when somebody else changes the settings; null: as the level above says.
    pub drift: Option<Drift>,
}

/// Settings that one application of a device should have, and the device's report of them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ApplicationSettings {
    /// The application.
    pub application: String,
    /// The revision in which the settings came to be what they should be; null: the device takes none for
    /// this application.
    pub desired_revision: Option<u64>,
    /// The effective settings.
    pub settings: Map<String, Value>,
    /// The device's reaction when somebody else changes them.
    pub drift: Drift,
    /// The device's own settings, which go before those of its groups; null: it has none.
    #[serde(default)]
    pub own: Option<OwnSettings>,
    /// The device's report; null: none yet.
    pub reported: Option<SettingsReport>,
}

/// Settings that were set for one device.
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OwnSettings {
    /// The settings.
    pub settings: Map<String, Value>,
    /// The device's reaction when somebody else changes them; null: as its groups say.
    pub drift: Option<Drift>,
}

/// Which application's settings are to be explained.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// The application.
    pub application: String,
}

/// A value that a level has for a key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LevelValue {
    /// A group's path, or the device's name.
    pub from: String,
    /// The value.
    pub value: Value,
}

/// Origin of one key of a device's effective settings.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ExplainedKey {
    /// The key, as a dotted path.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// The level that it comes from.
    pub from: String,
    /// The level that locked it; null: it is not locked.
    pub locked_by: Option<String>,
    /// Values that levels above have for it, the outermost first.
    pub overrode: Vec<LevelValue>,
    /// Values that levels below have for it, in vain.
    pub refused: Vec<LevelValue>,
}

/// Moves a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupMove {
    /// Its path.
    pub from: String,
    /// The path that it is to have.
    pub to: String,
    /// Only say how many devices would have other settings.
    #[serde(default)]
    pub dry_run: bool,
}

/// Removes a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupRemoval {
    /// Its path.
    pub path: String,
    /// With the groups below it; their devices belong to the group above it then.
    #[serde(default)]
    pub recursive: bool,
    /// Only say how many devices would have other settings.
    #[serde(default)]
    pub dry_run: bool,
}
