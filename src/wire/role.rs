//! Roles of those who administer.

use serde::{Deserialize, Serialize};

use super::named::named;

named! {
    /// A set of rights on a group and all below it. Each role may what those before it may.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "kebab-case")]
    Role, else "a role: reader, operator, policy-author or administrator" {
        /// See devices, their reports and events.
        Reader = "reader",
        /// Call devices, have tasks executed, name devices and put them into groups.
        Operator = "operator",
        /// Set policies and settings, make and move groups.
        PolicyAuthor = "policy-author",
        /// Let devices in and send them away; say who may do what; what concerns the server itself.
        Administrator = "administrator",
    }
}
