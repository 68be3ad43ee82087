//! A server's answer to two machines with one identity.

use serde::{Deserialize, Serialize};

use super::named::named;

named! {
    /// Treatment of a machine that uses the identity of another one, as one does that was made from a copy of
    /// its disk.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    ClonePolicy, else "a policy: alarm, fork, refuse are" {
        /// The server says so, and serves both.
        #[default]
        #[serde(rename = "alarm")]
        Warn = "alarm",
        /// The copy is sent to enrol anew, as a device of its own with a key of its own.
        #[serde(rename = "fork")]
        Fork = "fork",
        /// The copy is not served.
        #[serde(rename = "refuse")]
        Refuse = "refuse",
    }
}
