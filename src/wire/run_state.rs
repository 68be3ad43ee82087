//! State of a run of a task, as the server sees it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of a run, as the server sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its time, or for its turn.
    Scheduled,
    /// It is ordered; the device has not said that it has it.
    Pending,
    /// The device has it and will begin with it.
    Delivered,
    /// It is being executed.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended with an error, or the device lost it.
    Failed,
    /// It took too long, or the device was not heard of for too long.
    TimedOut,
    /// The device does not do this.
    Rejected,
    /// Somebody did not want it any more.
    Cancelled,
    /// Its device did not accept it in time.
    Expired,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Pending,
        Self::Delivered,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Rejected,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Its name, in the store and on the screen.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

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

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
