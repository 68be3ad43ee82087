//! Why a device is in sync or not, and when it will be.

use serde::{Deserialize, Serialize};

use super::{JournalCondition, PersistentBy, Timestamp, UdpReach};
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::datagram::NoticeKind;
use crate::wire::presence::Presence;
use crate::wire::settings::SettingsReport;

/// Answers why a device is in sync or not, and when it will be: `GET /v1/devices/{name or id}/why`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Why {
    /// For people: one paragraph.
    pub text: String,
    /// For programs: all that the paragraph is made of.
    pub facts: WhyFacts,
}

/// Settings of an application that are not as they should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct UnsettledSettings {
    /// The application.
    pub application: String,
    /// The revision in which they came to be what they should be.
    pub desired_revision: u64,
    /// The device's report; null: none yet.
    pub reported: Option<SettingsReport>,
}

/// A device's wait for approval.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Waiting {
    /// Since when.
    pub since: Timestamp,
    /// Whether it came with a certificate of this server that was not known here any more.
    pub was_unknown: bool,
}

/// Known facts about a device's way to the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WhyFacts {
    /// Its name.
    pub name: String,
    /// When this was so.
    pub asked_at: Timestamp,
    /// Its presence.
    pub presence: Presence,
    /// Whether it has a link.
    pub has_link: bool,
    /// Why its link is to stay; null: it is not.
    pub persistent_by: Option<PersistentBy>,
    /// Whether its link should stay and there is no room for that.
    pub waits_for_room: bool,
    /// Its announced departure, if it has not synced since.
    pub departure: Option<NoticeKind>,
    /// Whether somebody waits for it to come at this moment.
    pub is_called: bool,
    /// When the server last heard it; null: never.
    pub last_seen_at: Option<Timestamp>,
    /// When its last sync ended; null: none did.
    pub last_sync_at: Option<Timestamp>,
    /// When it was told to come again; null: it never synced.
    pub next_slot_at: Option<Timestamp>,
    /// When it counts as lost unless it is heard before; null: it was never heard, or said goodbye.
    pub lost_at: Option<Timestamp>,
    /// Its sync interval.
    pub interval_seconds: u32,
    /// That it has not stored the pin of the server's next certificate, in words; null: it has, there is
    /// none, or not for long.
    pub pin_missing: Option<String>,
    /// Address of its last sync; null: not known.
    pub address: Option<String>,
    /// The port on which it hears wakes; null: it has named none.
    pub udp_port: Option<u16>,
    /// Whether wakes reach it.
    pub udp_reach: UdpReach,
    /// Applications whose settings are not as they should be.
    #[serde(default)]
    pub settings: Vec<UnsettledSettings>,
    /// Number of runs of tasks that wait for it to take them.
    #[serde(default)]
    pub runs_waiting: u64,
    /// Number of runs that it has and has not ended.
    #[serde(default)]
    pub runs_taken: u64,
    /// Why it seems that another device uses its identity; null: nothing seems so.
    #[serde(default)]
    pub shared_identity: Option<String>,
    /// The server's answer to that; null: there is no need of one.
    #[serde(default)]
    pub clone_policy: Option<ClonePolicy>,
    /// Its wait for approval; null: it does not wait.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// Why its certificate is among the reasons of its status; null: it is not.
    #[serde(default)]
    pub certificate: Option<String>,
    /// Why its events wait on it; null: they do not.
    #[serde(default)]
    pub events_held: Option<String>,
    /// Whether the event log takes events.
    pub journal: JournalCondition,
    /// When the server started: nobody could come before.
    pub server_started_at: Timestamp,
}
