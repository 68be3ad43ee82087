//! API tokens: what programs and people sign in with.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::wire::id::ApiTokenId;
use crate::wire::named::named;
use crate::wire::role::Role;

/// Life of an API token when the request does not say: 90 days.
pub const API_TOKEN_TTL_SECONDS_DEFAULT: u64 = 90 * 24 * 60 * 60;

/// Longest life of an API token: a little more than a year.
pub const API_TOKEN_TTL_SECONDS_MAX: u64 = 400 * 24 * 60 * 60;

/// Asks for an API token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// The one who has it, for the list and the audit.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Path of the group on which, with those below it, the role holds; left out: `/`, the whole fleet.
    #[serde(default)]
    pub group: Option<String>,
    /// Time for which it is good, 1 to [`API_TOKEN_TTL_SECONDS_MAX`]; left out:
    /// [`API_TOKEN_TTL_SECONDS_DEFAULT`].
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

named! {
    /// Whether an API token is good.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    ApiTokenState {
        /// It is.
        Valid = "valid",
        /// Its time is over.
        Expired = "expired",
        /// An administrator withdrew it.
        Revoked = "revoked",
    }
}

/// An API token, without its secret: that is shown once, when it is made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ApiToken {
    /// Names it.
    pub id: ApiTokenId,
    /// The one who has it.
    pub name: String,
    /// Whether it is good.
    pub state: ApiTokenState,
    /// Its role.
    pub role: Role,
    /// Path of the group on which the role holds.
    pub group: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its time is over.
    pub expires_at: Timestamp,
}

/// An API token that has just been made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CreatedApiToken {
    /// The token as the list shows it.
    #[serde(flatten)]
    pub info: ApiToken,
    /// The text to sign in with, secret included: shown this once.
    pub token: String,
}

impl std::fmt::Debug for CreatedApiToken {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedApiToken").field("info", &self.info).finish_non_exhaustive()
    }
}
