//! Sections: what a sync keeps in sync, each with a digest and a revision of its own.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::bounded;
use super::digest::Digest;
use super::inventory::ENTRY_BYTES;
use super::limits::{CONDITIONS_MAX, HOST_ADDRESSES_MAX};
use super::named::named;
use super::settings::{Declaration, SettingsReport};
use super::time::WallTime;

named! {
    /// A section that travels from the device to the server. Settings
    /// ([4](super::settings::SETTINGS_SECTION)) and runs of tasks ([5](super::task::RUNS_SECTION)) travel the
    /// other way.
    #[derive(
        Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode, Serialize, Deserialize,
    )]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[cbor(index_only)]
    #[serde(rename_all = "snake_case")]
    Section {
        /// The installed applications.
        #[n(1)]
        Inventory = "inventory",
        /// The host's facts.
        #[n(2)]
        Host = "host",
        /// The condition of each managed application.
        #[n(3)]
        Conditions = "conditions",
    }
}

impl Section {
    /// Its place in an array that holds one thing for each section.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// State of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SectionState {
    /// Digest of the content; [`Digest::EMPTY`] when there never was any.
    pub digest: Digest,
    /// Counts the changes of the content under one agent epoch, from 1; 0 when there never was any.
    pub revision: u64,
}

/// A host's facts about itself. Everything may be empty when the system does not tell.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cbor(map)]
pub struct HostFacts {
    /// `ID` of os-release(5), such as `debian`.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub os_id: String,
    /// `PRETTY_NAME` of os-release(5).
    #[cbor(n(1), decode_with = "bounded::name")]
    pub os_name: String,
    /// `VERSION_ID` of os-release(5).
    #[cbor(n(2), decode_with = "bounded::name")]
    pub os_version: String,
    /// Kernel name and release, uname(2).
    #[cbor(n(3), decode_with = "bounded::name")]
    pub kernel: String,
    /// Machine architecture, uname(2).
    #[cbor(n(4), decode_with = "bounded::name")]
    pub architecture: String,
    /// gethostname(2).
    #[cbor(n(5), decode_with = "bounded::name")]
    pub hostname: String,
    /// Addresses of the interfaces that are up, loopback and link-local ones left out, sorted.
    #[cbor(n(6), decode_with = "decode_addresses")]
    pub addresses: Vec<String>,
    /// Identifies this boot, random(4): `/proc/sys/kernel/random/boot_id`.
    #[cbor(n(7), decode_with = "bounded::name")]
    pub boot_id: String,
    /// The agent's own version.
    #[cbor(n(8), decode_with = "bounded::name")]
    pub agent_version: String,
    /// Orders that its managed applications take, sorted by name.
    #[cbor(
        n(9),
        default,
        skip_if = "Vec::is_empty",
        decode_with = "bounded::list::<Ctx, Declaration, CONDITIONS_MAX>"
    )]
    #[serde(default)]
    pub declarations: Vec<Declaration>,
}

fn decode_addresses<Ctx>(
    decoder: &mut minicbor::Decoder<'_>,
    context: &mut Ctx,
) -> Result<Vec<String>, minicbor::decode::Error> {
    bounded::list_with(decoder, HOST_ADDRESSES_MAX, |decoder| bounded::name(decoder, context))
}

named! {
    /// Whether a managed application does its work.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[cbor(index_only)]
    #[serde(rename_all = "snake_case")]
    Condition {
        /// It could not be told.
        #[n(0)]
        Unknown = "unknown",
        /// It runs.
        #[n(1)]
        Running = "running",
        /// It was stopped.
        #[n(2)]
        Stopped = "stopped",
        /// It ended with an error or its supervisor gave it up.
        #[n(3)]
        Failed = "failed",
        /// It is not there.
        #[n(4)]
        NotInstalled = "not installed",
    }
}

/// The condition of one managed application.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize)]
#[cbor(map)]
pub struct ApplicationCondition {
    /// The application's name.
    #[cbor(n(0), decode_with = "bounded::name")]
    pub application: String,
    /// Whether it does its work.
    #[n(1)]
    pub condition: Condition,
    /// Since when, by the device's clock.
    #[n(2)]
    pub since: WallTime,
    /// Its version; empty when unknown.
    #[cbor(n(3), decode_with = "bounded::name")]
    pub version: String,
    /// Why, when it does not run; empty when there is nothing to say.
    #[cbor(n(4), decode_with = "bounded::message")]
    pub detail: String,
    /// State of its settings; left out when the server ordered none.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsReport>,
}

impl ApplicationCondition {
    /// About how much memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        ENTRY_BYTES + self.application.len() + self.version.len() + self.detail.len()
    }
}

/// Decodes the conditions of a device, under their limit.
pub(super) fn decode_conditions<Ctx>(
    decoder: &mut minicbor::Decoder<'_>,
    context: &mut Ctx,
) -> Result<Vec<ApplicationCondition>, minicbor::decode::Error> {
    bounded::list::<Ctx, _, CONDITIONS_MAX>(decoder, context)
}

/// The digest of a section that always travels whole: of its CBOR.
#[must_use]
pub fn digest_of<T: Encode<()>>(content: &T) -> Digest {
    // Writing to a vector can't fail, and none of our types refuses to be encoded.
    Digest::of_bytes(&minicbor::to_vec(content).unwrap_or_default())
}
