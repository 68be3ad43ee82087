//! Presence of a device, by name: on the wire of administration, in the store, in the log of events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Presence of a device, as far as the server can honestly tell. The rules are in
/// [`fleet::presence`](crate::fleet::presence).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It has a link.
    Connected,
    /// It has none, and need not have one: it was here within its interval.
    Idle,
    /// It said that it goes to sleep.
    Asleep,
    /// It said that it shuts down, or that it reboots and will soon be back.
    ShutDown,
    /// Its agent said that it was stopped; the device itself runs, as far as is known.
    AgentStopped,
    /// It should have come and has not, and said nothing before.
    Lost,
    /// It has enrolled and was never heard of since.
    NeverSeen,
}

impl Presence {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Connected,
        Self::Idle,
        Self::Asleep,
        Self::ShutDown,
        Self::AgentStopped,
        Self::Lost,
        Self::NeverSeen,
    ];

    /// Its name, as commands take it and JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Idle => "idle",
            Self::Asleep => "asleep",
            Self::ShutDown => "shut_down",
            Self::AgentStopped => "agent_stopped",
            Self::Lost => "lost",
            Self::NeverSeen => "never_seen",
        }
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Presence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|presence| presence.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|presence| presence.name()).collect();
            format!("'{text}' is not a presence ({})", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presence_survives_its_name() {
        for presence in Presence::ALL {
            assert_eq!(presence.name().parse(), Ok(presence));
            let json = serde_json::to_string(&presence).unwrap();
            assert_eq!(json, format!("\"{presence}\""), "one name everywhere");
        }
        assert!("away".parse::<Presence>().unwrap_err().contains("agent_stopped"));
    }
}
