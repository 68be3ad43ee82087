//! Tags of devices; views, which are filters with a name; counts of a selection.

use serde::{Deserialize, Serialize};

use super::{DeviceChange, Presence};

/// Longest name of a tag or a view.
pub const LABEL_BYTES_MAX: usize = 64;

/// A tag.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The filter whose devices have it; null: only those have it that were given it.
    pub rule: Option<String>,
    /// Number of devices that have it now.
    pub devices: u64,
}

/// Gives devices a tag, or takes it from them: `POST /v1/tags/{tag}`. Exactly one of `devices` and `where` is
/// given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TagChange {
    /// Names or ids.
    pub devices: Vec<String>,
    /// Those that this filter lets through now.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Whether it is taken from them.
    pub takes: bool,
    /// Whether it is only said how many devices are meant.
    pub dry_run: bool,
}

/// Changes a tag: `PATCH /v1/tags/{tag}`. It is made when it isn't there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TagRule {
    /// The filter whose devices have it from now on, whatever becomes of them; null: none.
    pub rule: Option<String>,
}

/// A view: a filter with a name, which `view:NAME` stands for in other filters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The filter.
    #[serde(rename = "where")]
    pub filter: String,
}

/// Changes all devices of a selection: `POST /v1/device-changes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SelectionChange {
    /// Those that this filter lets through now.
    #[serde(rename = "where")]
    pub filter: String,
    /// The change, of anything but the name.
    pub change: DeviceChange,
    /// Whether it is only said how many devices are meant.
    #[serde(default)]
    pub dry_run: bool,
}

/// Approves all devices of a selection that wait, all or none: `POST /v1/device-approvals`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SelectionApproval {
    /// Those of them that this filter lets through now.
    #[serde(rename = "where")]
    pub filter: String,
    /// Path of their group; made when it doesn't exist. Left out: each has that of its token.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether it is only said how many devices are meant.
    #[serde(default)]
    pub dry_run: bool,
}

/// Removes all devices of a selection: `POST /v1/device-removals`. It goes on piece by piece; those that are
/// removed stay so when it breaks off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SelectionRemoval {
    /// Those that this filter lets through now.
    #[serde(rename = "where")]
    pub filter: String,
    /// Whether it is only said how many devices are meant.
    #[serde(default)]
    pub dry_run: bool,
}

/// Size of a selection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Selected {
    /// Number of devices.
    pub devices: u64,
}

/// Which devices are counted: `GET /v1/facets`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FacetQuery {
    /// Those that this filter lets through; left out: all.
    #[serde(rename = "where")]
    pub filter: Option<String>,
}

/// Most values that are listed of a facet: the most frequent ones. Devices choose the names of their systems.
pub const FACET_VALUES_MAX: usize = 100;

/// Counts of a selection, each by frequency. Values that no device has are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Facets {
    /// Number of devices.
    pub devices: u64,
    /// By presence.
    pub presence: Vec<FacetValue>,
    /// By status.
    pub status: Vec<FacetValue>,
    /// By name of their system; those that have not said are left out.
    pub os: Vec<FacetValue>,
    /// By group, without those above it.
    pub group: Vec<FacetValue>,
    /// By tag.
    pub tag: Vec<FacetValue>,
}

impl Facets {
    /// Number of devices that don't wait for approval: they alone are called and given tasks.
    #[must_use]
    pub fn approved(&self) -> u64 {
        let waiting = self.presence.iter().find(|value| value.value == Presence::Waiting.name());
        self.devices - waiting.map_or(0, |waiting| waiting.devices)
    }
}

/// One value of a facet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct FacetValue {
    /// The value.
    pub value: String,
    /// Number of devices that have it.
    pub devices: u64,
}
