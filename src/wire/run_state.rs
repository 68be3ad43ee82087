//! State of a run of a task, as the server sees it.

use serde::{Deserialize, Serialize};

use super::named::named;

named! {
    /// State of a run, as the server sees it.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    RunState, else "a state of a run (one of scheduled, pending, delivered, running, succeeded, failed, timed_out, rejected, cancelled, expired)" {
        /// It waits for its time, or for its turn.
        Scheduled = "scheduled",
        /// It is ordered; the device has not said that it has it.
        Pending = "pending",
        /// The device has it and will begin with it.
        Delivered = "delivered",
        /// It is being executed.
        Running = "running",
        /// It ended well.
        Succeeded = "succeeded",
        /// It ended with an error, or the device lost it.
        Failed = "failed",
        /// It took too long, or the device was not heard of for too long.
        TimedOut = "timed_out",
        /// The device does not do this.
        Rejected = "rejected",
        /// Somebody did not want it any more.
        Cancelled = "cancelled",
        /// Its device did not accept it in time.
        Expired = "expired",
    }
}

impl RunState {
    /// Whether nothing changes it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Pending | Self::Delivered | Self::Running)
    }

    /// Whether the device has the run, or is to have it.
    #[must_use]
    pub fn is_at_device(self) -> bool {
        matches!(self, Self::Pending | Self::Delivered | Self::Running)
    }
}
