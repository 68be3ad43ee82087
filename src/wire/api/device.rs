//! Devices.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use super::{Keep, Timestamp};
use crate::wire::certificate::KeyType;
use crate::wire::datagram::NoticeKind;
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::named::{ParseError, named};
use crate::wire::presence::Presence;
use crate::wire::section::{ApplicationCondition, Condition, HostFacts, Section};
use crate::wire::settings::{SettingsReport, SettingsState};
use crate::wire::statistics::Number;
use crate::wire::status::Status;

/// Asks for devices.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeviceQuery {
    /// Only those that this filter lets through, such as `os:debian seen:>2h`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Their order; left out: by name.
    pub sort: Option<DeviceSort>,
    /// Most items of the page.
    pub limit: Option<u32>,
    /// Begin of the page.
    pub cursor: Option<String>,
}

named! {
    /// Columns by which lists of devices can be sorted.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    #[non_exhaustive]
    DeviceColumn, else "a column (name, presence, status, group, last_sync, last_seen, interval, id, why)" {
        /// By name.
        #[default]
        Name = "name",
        /// In the order of [`Presence::ALL`].
        Presence = "presence",
        /// The worst last.
        Status = "status",
        /// By path.
        Group = "group",
        /// The oldest first, after those that never synced.
        LastSync = "last_sync",
        /// The oldest first, after those that were never heard.
        LastSeen = "last_seen",
        /// The shortest first.
        Interval = "interval",
        /// By id.
        Id = "id",
        /// By the worst reason, as text without how long it has lasted; those without a reason first.
        Why = "why",
    }
}

/// An order of a list of devices. As text, and in JSON: the column, with a `-` before it when it is the other
/// way round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DeviceSort {
    /// By what. Devices that are the same in that are ordered by name.
    pub column: DeviceColumn,
    /// Whether it is the other way round.
    pub is_descending: bool,
}

impl fmt::Display for DeviceSort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_descending { "-" } else { "" }, self.column)
    }
}

impl FromStr for DeviceSort {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let column = text.strip_prefix('-');
        Ok(Self { column: column.unwrap_or(text).parse()?, is_descending: column.is_some() })
    }
}

impl Serialize for DeviceSort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceSort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// One device, in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Device {
    /// Never changes, never used again.
    pub id: DeviceId,
    /// Its name; unique among the devices that are not removed.
    pub name: String,
    /// Path of its group.
    pub group: String,
    /// Its presence.
    pub presence: Presence,
    /// When the server last heard it; null: never.
    pub last_seen_at: Option<Timestamp>,
    /// When a sync of it last ended with everything in sync; null: never.
    pub last_sync_at: Option<Timestamp>,
    /// Whether its link stays open between syncs because an administrator wants that: the setting that is in
    /// force.
    pub keep_connected: bool,
    /// The interval of its syncs that is in force.
    pub interval_seconds: u32,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// Its status, by the rules of its group.
    pub status: Status,
    /// Since when; null: nothing was ever known against it.
    pub status_since: Option<Timestamp>,
    /// Why, the worst first; empty when it is ok.
    pub reasons: Vec<StatusReason>,
}

/// One thing that is against a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct StatusReason {
    /// Its level.
    pub level: Status,
    /// Its text, for people.
    pub text: String,
}

/// One device, whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DeviceDetail {
    /// Its row of the list.
    #[serde(flatten)]
    pub device: Device,
    /// Its tags, those by a rule as well.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When it was told to come again: its slot; null: it never synced.
    pub next_sync_at: Option<Timestamp>,
    /// The interval set for this device itself; null: that of its group or of the server.
    pub own_interval_seconds: Option<u32>,
    /// Whether its link stays open, as set for this device itself; null: as its group says.
    pub own_keep_connected: Option<bool>,
    /// Why its link stays open; null: it does not.
    pub persistent_by: Option<PersistentBy>,
    /// Whether its link should stay open and does not, because as many are kept connected as there may be.
    pub waits_for_room: bool,
    /// Its announced departure, if it has not synced since; null: none.
    pub departure: Option<NoticeKind>,
    /// Address of its last sync; null: not known.
    pub address: Option<String>,
    /// The port on which it hears wakes; null: it has named none.
    pub udp_port: Option<u16>,
    /// Whether wakes reach it there.
    pub udp_reach: UdpReach,
    /// The device's unbroken history that the revisions count in.
    pub agent_epoch: Epoch,
    /// The sections that are kept in sync.
    pub sections: Vec<SectionStatus>,
    /// The host's facts; null: none yet.
    pub host: Option<HostFacts>,
    /// Conditions of its managed applications.
    pub conditions: Vec<ConditionStatus>,
    /// The numbers of its applications, by application and name, with a day of each.
    #[serde(default)]
    pub statistics: Vec<StatisticSeries>,
    /// Number of applications that are installed.
    pub applications: u64,
    /// The certificate that it uses; null: none is known.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// Its events at the server.
    pub events: Spool,
    /// Its open link; null: none.
    pub link: Option<Link>,
}

named! {
    /// Whether wakes, which are UDP datagrams, reach a device.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    UdpReach {
        /// Nothing is known: it has named no port, or its address is new.
        #[default]
        Unknown = "unknown",
        /// One was sent to learn it; the next sync tells.
        Probing = "probing",
        /// They did, when that was looked at last.
        Reached = "reached",
        /// They did not.
        Unreached = "unreached",
    }
}

impl UdpReach {
    /// Its number in the store.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The variant of this number; [`UdpReach::Unknown`] for any other.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|reach| reach.number() == number).unwrap_or_default()
    }
}

/// Why a link stays open between syncs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PersistentBy {
    /// It is set for the device itself.
    Device,
    /// It is set for its group, or a group above it.
    Group,
    /// Wakes do not reach it, and the server is told to keep such devices (`[links] keep_unreachable`).
    Unreachable,
}

/// State of one section at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SectionStatus {
    /// Which.
    pub section: Section,
    /// Counts the changes of the content; 0: never reported.
    pub revision: u64,
    /// Digest of the content.
    #[serde(with = "hex_digest")]
    pub digest: Digest,
}

/// The condition of one managed application.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ConditionStatus {
    /// The application's name.
    pub application: String,
    /// Whether it does its work.
    pub condition: Condition,
    /// Since when, by the device's clock.
    pub since: Timestamp,
    /// Its version; empty when unknown.
    pub version: String,
    /// Why, when it does not run; empty when there is nothing to say.
    pub detail: String,
    /// State of its settings, as the device says; null: it was given none.
    pub settings: Option<SettingsStatus>,
}

/// A device's report of an application's settings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SettingsStatus {
    /// Their state.
    pub state: SettingsState,
    /// The revision that it was given last.
    pub revision: u64,
    /// The revision that is in place; 0: none of the server's.
    pub applied_revision: u64,
    /// Since when the state is what it is, by the device's clock.
    pub since: Timestamp,
    /// Why they could not be applied, or what was changed; empty when there is nothing to say.
    pub detail: String,
}

impl From<SettingsReport> for SettingsStatus {
    fn from(from: SettingsReport) -> Self {
        Self {
            state: from.state,
            revision: from.revision,
            applied_revision: from.applied_revision,
            since: from.since.into(),
            detail: from.detail,
        }
    }
}

/// One number of an application, and a day of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct StatisticSeries {
    /// The application.
    pub application: String,
    /// Name of the measured value.
    pub name: String,
    /// Its unit; empty when it has none.
    pub unit: String,
    /// The value that was reported last; null: the last report had none.
    pub value: Option<Number>,
    /// When the application's numbers were reported last.
    pub at: Timestamp,
    /// A day of values, the oldest first, at most one for five minutes: when, and how much (to four digits).
    pub points: Vec<(Timestamp, Number)>,
}

impl From<ApplicationCondition> for ConditionStatus {
    fn from(from: ApplicationCondition) -> Self {
        Self {
            application: from.application,
            condition: from.condition,
            since: from.since.into(),
            version: from.version,
            detail: from.detail,
            settings: from.settings.map(Into::into),
        }
    }
}

/// A device's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Certificate {
    /// Counts the certificates of the device, from 1: one less is how often it was renewed.
    pub number: u32,
    /// Kind of its key.
    pub key_type: KeyType,
    /// Until when it is good; null: not known. An expired one lets the device in, and is renewed then.
    pub expires_at: Option<Timestamp>,
    /// When it is due to be renewed; null: not known.
    pub renews_at: Option<Timestamp>,
    /// Whether it is due, so that the next sync renews it.
    pub is_due: bool,
}

/// A device's events at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Spool {
    /// The history that the sequence numbers count in.
    pub spool_epoch: Epoch,
    /// The highest sequence number stored; 0: none.
    pub last_sequence: u64,
}

/// An open link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Link {
    /// Which reactor holds it.
    pub reactor: u8,
    /// Its place there.
    pub slot: u32,
    /// Tells it from earlier links in that place.
    pub generation: u32,
}

/// Changes a device: what is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeviceChange {
    /// Its name.
    pub name: Option<String>,
    /// Path of its group; made when it doesn't exist.
    pub group: Option<String>,
    /// Whether its link stays open between syncs.
    pub keep_connected: Option<Keep>,
    /// The interval of its syncs.
    pub interval: Option<Interval>,
}

impl DeviceChange {
    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An interval of syncs: one's own, or the one above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// One's own.
    Seconds(u32),
    /// That of the group, of a group above it, or of the server.
    Inherited,
}

mod hex_digest {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::wire::digest::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Digest).map_err(serde::de::Error::custom)
    }
}
