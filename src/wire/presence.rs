//! Presence of a device, by name: on the wire of administration, in the store, in the log of events.

use serde::{Deserialize, Serialize};

use super::named::named;

named! {
    /// Presence of a device, as far as the server can honestly tell. The rules are in
    /// [`fleet::presence`](crate::fleet::presence).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    Presence, else "a presence (connected, idle, asleep, shut_down, agent_stopped, lost, never_seen, waiting)" {
        /// It has a link.
        Connected = "connected",
        /// It has none, and need not have one: it was here within its interval.
        Idle = "idle",
        /// It said that it goes to sleep.
        Asleep = "asleep",
        /// It said that it shuts down, or that it reboots and will soon be back.
        ShutDown = "shut_down",
        /// Its agent said that it was stopped; the device itself runs, as far as is known.
        AgentStopped = "agent_stopped",
        /// It should have come and has not, and said nothing before.
        Lost = "lost",
        /// It has enrolled and was never heard of since.
        NeverSeen = "never_seen",
        /// It waits for an administrator to approve it.
        Waiting = "waiting",
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
        let said = "away".parse::<Presence>().unwrap_err().to_string();
        assert_eq!(
            said,
            format!("'away' is not a presence ({})", Presence::ALL.map(Presence::name).join(", "))
        );
    }
}
