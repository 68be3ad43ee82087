//! Forced syncs: who is called, and what became of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::wire::id::DeviceId;

/// Time for which the outcomes of calls are waited for when the request does not say.
pub const CALL_SECONDS_DEFAULT: u32 = 30;

/// And at most: an hour. A client that waits holds a connection of the administration.
pub const CALL_SECONDS_MAX: u32 = 3_600;

/// Calls devices: `POST /v1/syncs`. Exactly one of `devices`, `group`, `where` and `all` is given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CallRequest {
    /// Names or ids.
    pub devices: Vec<String>,
    /// Every device of this group and the groups below it.
    pub group: Option<String>,
    /// Every device that this filter lets through.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Every device.
    pub all: bool,
    /// Whether the devices are to look at themselves anew before.
    pub is_fresh: bool,
    /// Whether the answer brings the outcome of each device, as they come.
    pub wait: bool,
    /// Time for which the outcomes are waited for, 1 to [`CALL_SECONDS_MAX`]; left out:
    /// [`CALL_SECONDS_DEFAULT`].
    pub timeout_seconds: Option<u32>,
}

/// One line of the answer to a [`CallRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallLine {
    /// First: the number of devices that are called.
    Called {
        /// Their number.
        devices: u64,
    },
    /// Then, when it was asked to wait: what became of one device.
    Device(CalledDevice),
    /// Last, when it was asked to wait.
    Done {
        /// Number of devices that synced.
        synced: u64,
        /// Number of devices that did not.
        failed: u64,
    },
}

/// Outcome for one device that was called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CalledDevice {
    /// Its id.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// Which way a device came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CallVia {
    /// It was asked on the link that it had.
    Link,
    /// A datagram called it.
    Wake,
    /// It came by itself meanwhile.
    Itself,
}

/// Outcome of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// Everything is in sync.
    Synced {
        /// Which way it came.
        by: CallVia,
        /// From the question until its sync had begun.
        begun_microseconds: u64,
        /// From the question until it had ended.
        synced_microseconds: u64,
    },
    /// It did not come: none of the datagrams brought it.
    Unreachable {
        /// Number of datagrams that were sent; 0: no address is known to send one to.
        attempts: u32,
        /// When it will come by itself; null: not known.
        next_slot_at: Option<Timestamp>,
    },
    /// It said that it sleeps.
    Asleep,
    /// It said that it shuts down.
    ShutDown,
    /// It said that its agent was stopped.
    AgentStopped,
    /// It came and does not accept this server's certificate.
    RefusedCertificate,
    /// It came, and the server had no room for its sync: it comes again by itself.
    PutOff,
    /// Its sync has begun and has not ended.
    Unfinished {
        /// From the question until its sync had begun.
        begun_microseconds: u64,
    },
    /// It was removed meanwhile.
    Removed,
    /// The time was over before anything else could be said.
    TimedOut,
}

impl CallOutcome {
    /// Whether everything is in sync.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        matches!(self, Self::Synced { .. })
    }
}

impl fmt::Display for CallOutcome {
    /// For people, in a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |microseconds: &u64| format!("{:.1} ms", *microseconds as f64 / 1_000.0);
        match self {
            Self::Synced { by, begun_microseconds, synced_microseconds } => {
                let by = match by {
                    CallVia::Link => "by link",
                    CallVia::Wake => "by wake",
                    CallVia::Itself => "came by itself",
                };
                let (begun, synced) = (milliseconds(begun_microseconds), milliseconds(synced_microseconds));
                write!(f, "synced in {synced} ({by}, begun after {begun})")
            }
            Self::Unreachable { attempts, next_slot_at } => {
                match attempts {
                    0 => f.write_str("unreachable: it has said no UDP port yet")?,
                    attempts => write!(f, "unreachable by UDP ({attempts} wakes)")?,
                }
                match next_slot_at {
                    Some(at) => write!(f, "; next slot at {at}"),
                    None => f.write_str("; when it comes by itself is not known"),
                }
            }
            Self::Asleep => f.write_str("asleep"),
            Self::ShutDown => f.write_str("shut down"),
            Self::AgentStopped => f.write_str("its agent was stopped"),
            Self::RefusedCertificate => f.write_str("refused this server's certificate"),
            Self::PutOff => f.write_str("put off: the server is busy, it comes again by itself"),
            Self::Unfinished { begun_microseconds } => {
                write!(f, "its sync began after {} and has not ended", milliseconds(begun_microseconds))
            }
            Self::Removed => f.write_str("removed meanwhile"),
            Self::TimedOut => f.write_str("no outcome in time"),
        }
    }
}
