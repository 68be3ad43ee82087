//! Settings of managed applications: what a device should have, and what it says of what it has.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::artifact::ArtifactUse;
use super::bounded;
use super::digest::{Digest, Hasher};
use super::limits::{SCHEMA_BYTES_MAX, SETTINGS_BYTES_MAX, TASK_KINDS_MAX};
use super::named::named;
use super::time::WallTime;

/// Number of the section of settings. It travels from the server to the device; its digest is the sum
/// ([`Digest::with`]) of [`SettingsOrder::digest`] over the applications whose settings the device was given.
pub const SETTINGS_SECTION: u32 = 4;

/// The device's reaction when somebody else changed an application's settings file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// It puts the ordered settings in place again, and says so.
    #[n(0)]
    #[default]
    Repair,
    /// It only says so.
    #[n(1)]
    Report,
}

/// The settings that one application is to have on one device.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct SettingsOrder {
    /// The application.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub application: String,
    /// The server's revision in which these settings came to be.
    #[n(1)]
    pub revision: u64,
    /// The settings: one JSON object (RFC 8259), keys sorted, without blanks. Left out: the server orders
    /// nothing for this application any more; what is in place stays.
    #[cbor(n(2), decode_with = "bounded::optional_text::<Ctx, SETTINGS_BYTES_MAX>")]
    pub settings: Option<String>,
    /// Reaction when somebody else changes them.
    #[n(3)]
    pub drift: Drift,
}

impl SettingsOrder {
    /// Digest that tells this order from another for the same device; [`Digest::EMPTY`] when nothing is
    /// ordered.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match &self.settings {
            Some(settings) => digest_of(&self.application, settings, self.drift),
            None => Digest::EMPTY,
        }
    }
}

/// The digest of one application's ordered settings. The revision is not in it: the same settings are the
/// same, however often they were set.
#[must_use]
pub fn digest_of(application: &str, settings: &str, drift: Drift) -> Digest {
    let drift: &[u8] = match drift {
        Drift::Repair => b"repair",
        Drift::Report => b"report",
    };
    let mut hasher = Hasher::new();
    hasher.bytes(application.as_bytes()).bytes(settings.as_bytes()).bytes(drift);
    hasher.finish()
}

named! {
    /// State of an order for settings.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[cbor(index_only)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    SettingsState, else "a state of settings (pending, applied, failed or drifted)" {
        /// It is on the device and not in place yet.
        #[n(0)]
        Pending = "pending",
        /// It is in place.
        #[n(1)]
        Applied = "applied",
        /// It could not be put in place; what was there before still is.
        #[n(2)]
        Failed = "failed",
        /// It was in place, and somebody else changed it since.
        #[n(3)]
        Drifted = "drifted",
    }
}

/// A device's report of the settings that it was given for one application.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cbor(map)]
pub struct SettingsReport {
    /// The revision that it was given last.
    #[n(0)]
    pub revision: u64,
    /// [`SettingsOrder::digest`] of it.
    #[n(1)]
    #[serde(skip)]
    pub digest: Digest,
    /// The state of that.
    #[n(2)]
    pub state: SettingsState,
    /// The revision that is in place; 0: none of the server's.
    #[n(3)]
    pub applied_revision: u64,
    /// Since when the state is what it is, by the device's clock.
    #[n(4)]
    pub since: WallTime,
    /// Why it could not be put in place, or what somebody else changed; empty when there is nothing to say.
    #[cbor(n(5), decode_with = "bounded::message")]
    pub detail: String,
}

/// A device's offer of one managed application. An application that is not declared can't be ordered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cbor(map)]
pub struct Declaration {
    /// The application.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub application: String,
    /// Whether it takes settings.
    #[n(1)]
    pub takes_settings: bool,
    /// Shape of its settings: a JSON Schema ([`fleet::schema`](crate::fleet::schema)); empty: any object.
    #[cbor(n(2), decode_with = "bounded::text::<Ctx, SCHEMA_BYTES_MAX>")]
    pub settings_schema: String,
    /// The kinds of task that it offers.
    #[cbor(n(3), decode_with = "bounded::list::<Ctx, TaskKind, TASK_KINDS_MAX>")]
    pub kinds: Vec<TaskKind>,
}

/// A kind of task that a device offers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cbor(map)]
pub struct TaskKind {
    /// Its name.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub kind: String,
    /// Shape of its settings: a JSON Schema ([`fleet::schema`](crate::fleet::schema)).
    #[cbor(n(1), decode_with = "bounded::text::<Ctx, SCHEMA_BYTES_MAX>")]
    pub schema: String,
    /// Longest time that it may take, whatever the task says.
    #[n(2)]
    pub timeout_seconds: u32,
    /// Whether it does no harm to execute it twice.
    #[n(3)]
    pub is_repeatable: bool,
    /// Whether its runs come with an artifact.
    #[cbor(n(4), default, skip_if = "ArtifactUse::is_none")]
    #[serde(default, skip_serializing_if = "ArtifactUse::is_none")]
    pub artifact: ArtifactUse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_told_from_another_by_what_is_ordered() {
        let order = |settings: Option<&str>, drift, revision| SettingsOrder {
            application: "shop".into(),
            revision,
            settings: settings.map(str::to_owned),
            drift,
        };
        let plain = order(Some("{}"), Drift::Repair, 1).digest();
        assert_eq!(plain, order(Some("{}"), Drift::Repair, 2).digest());
        assert_ne!(plain, order(Some("{}"), Drift::Report, 1).digest());
        assert_ne!(plain, order(Some("{\"a\":1}"), Drift::Repair, 1).digest());
        assert_eq!(order(None, Drift::Repair, 3).digest(), Digest::EMPTY);
    }
}
