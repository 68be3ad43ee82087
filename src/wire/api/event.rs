//! Events, as the journal holds them.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::wire::event::Severity;
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::named::named;

/// Asks for stored events, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    /// Only those of this device (name or id; the id of a removed device works too).
    pub device: Option<String>,
    /// Only those at least this bad.
    pub severity: Option<Severity>,
    /// Only those that the server received at or after this time.
    pub since: Option<Timestamp>,
    /// Only those that the server received before this time.
    pub until: Option<Timestamp>,
    /// Most items of the page.
    pub limit: Option<u32>,
    /// Begin of the page.
    pub cursor: Option<String>,
}

/// Most events of a batch of a stream that leaves older ones out.
pub const FOLLOW_NEWEST_MAX: u32 = 128;

/// Asks for events as they become durable.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FollowQuery {
    /// Only those of this device (name or id).
    pub device: Option<String>,
    /// Only those at least this bad.
    pub severity: Option<Severity>,
    /// Begins with the record at this position of the journal: a `next_position`, or a `reached`. Left out:
    /// begins with what comes from now on.
    pub from: Option<u64>,
    /// Two batches a second at most, of this many events at most: the newest, and how many others there were.
    /// From 1 to 128. Left out: all events, as soon as they are durable.
    pub newest: Option<u32>,
}

named! {
    /// The one whose words an event is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    EventSource {
        /// The device, or something on it. Its application is prefixed with [`CLAIMED_PREFIX`] when it claims
        /// a name of the server.
        #[default]
        Device = "device",
        /// The server: no device can say this.
        Server = "server",
    }
}

/// Stands before an application that a device's event claims and that is a name of the server.
pub const CLAIMED_PREFIX: &str = "device:";

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct EventRecord {
    /// Its position in the journal, in bytes since the journal's beginning. Rises from event to event.
    pub position: u64,
    /// Position of the next record, in the same unit.
    pub next_position: u64,
    /// Name of the device that it comes from; null: the device is removed.
    pub device: Option<String>,
    /// Its id; 0: the server itself says it.
    pub device_id: DeviceId,
    /// The one whose words it is.
    #[serde(default)]
    pub source: EventSource,
    /// The history that the sequence number counts in; 0, which no device may use, for what the server says.
    pub spool_epoch: Epoch,
    /// Counts the device's events.
    pub sequence: u64,
    /// When the server received it.
    pub received_at: Timestamp,
    /// When it happened, by the device's clock.
    pub occurred_at: Timestamp,
    /// Its severity.
    pub severity: Severity,
    /// Which application it is about.
    pub application: String,
    /// Its kind; for programs.
    pub kind: String,
    /// Its message; for people.
    pub message: String,
    /// Further facts, by name.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// Events that are missing of a list because of their age, or for want of room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DeletedEvents {
    /// Events that were received before this were deleted, but for warnings and worse; null: there is none
    /// after them.
    pub before: Option<Timestamp>,
    /// When the oldest warning was received that was kept for longer than they; null: there is none.
    pub warnings_from: Option<Timestamp>,
}

/// One line of a followed journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FollowLine {
    /// An event.
    Event(Box<EventRecord>),
    /// Nothing more up to this position: where to go on after a break. Also a sign of life when nothing
    /// happens.
    Reached(u64),
    /// Events between these two positions are gone: retention deleted them before they were read. Warnings
    /// and worse among it may still be in the list of events.
    Gone {
        /// Position at which reading would have gone on.
        from: u64,
        /// Position at which it goes on.
        to: u64,
    },
    /// Events that are left out, as more came than the newest that were asked for. They are in the list of
    /// events.
    Skipped {
        /// Their number.
        events: u64,
        /// Position at which the stream goes on.
        to: u64,
    },
}
