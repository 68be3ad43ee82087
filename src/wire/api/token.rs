//! Join tokens.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::wire::id::{DeviceId, TokenId};
use crate::wire::named::named;

/// Life of a join token when the request does not say: long enough to walk to a device.
pub const TOKEN_TTL_SECONDS_DEFAULT: u64 = 60 * 60;

/// Life of a token for a re-enrolment when the request does not say: a day, to install a machine anew.
pub const RE_ENROLMENT_TTL_SECONDS_DEFAULT: u64 = 24 * 60 * 60;

/// Longest life of a join token. A token is an open door: a year is already long.
pub const TOKEN_TTL_SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// Most uses of one join token: more than any fleet that one server holds.
pub const TOKEN_USES_MAX: u32 = 10_000_000;

/// Asks for a join token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct NewToken {
    /// Time for which it may be used, 1 to [`TOKEN_TTL_SECONDS_MAX`]; left out:
    /// [`TOKEN_TTL_SECONDS_DEFAULT`].
    pub ttl_seconds: Option<u64>,
    /// Number of devices that may enrol with it, 1 to [`TOKEN_USES_MAX`]; left out: 1.
    pub uses: Option<u32>,
    /// Path of the group that the devices come into; left out: the root, `/`. Made when it doesn't exist.
    pub group: Option<String>,
    /// Pattern of the names that it lets in: `*` stands for any text, `?` for one character; left out: any.
    pub names: Option<String>,
    /// Whether an administrator must approve each device that enrols with it.
    pub approval: bool,
}

/// Asks for a join token with which another machine takes a device's record over.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ReEnrolment {
    /// Time for which it may be used, 1 to [`TOKEN_TTL_SECONDS_MAX`]; left out:
    /// [`RE_ENROLMENT_TTL_SECONDS_DEFAULT`].
    pub ttl_seconds: Option<u64>,
}

/// Approves a device that waits: what is left out stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Approval {
    /// Its name from now on.
    pub name: Option<String>,
    /// Path of its group; made when it doesn't exist.
    pub group: Option<String>,
}

named! {
    /// Whether a join token still opens the door.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
    #[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    TokenState {
        /// It does.
        Valid = "valid",
        /// Its time is over.
        Expired = "expired",
        /// Its uses are used up.
        UsedUp = "used up",
        /// An administrator withdrew it.
        Revoked = "revoked",
    }
}

/// A join token, without its secret: that is shown once, when it is made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Token {
    /// Names it.
    pub id: TokenId,
    /// Whether it still opens the door.
    pub state: TokenState,
    /// Path of the group that its devices come into.
    pub group: String,
    /// Number of devices that may enrol with it.
    pub uses: u32,
    /// Number of devices that have.
    pub used: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its time is over.
    pub expires_at: Timestamp,
    /// Pattern of the names that it lets in; null: any.
    #[serde(default)]
    pub names: Option<String>,
    /// The device whose record is taken over with it; null: new devices come in.
    #[serde(default)]
    pub device: Option<DeviceId>,
    /// That device's name.
    #[serde(default)]
    pub device_name: Option<String>,
    /// Whether an administrator must approve each device that enrols with it.
    #[serde(default)]
    pub approval: bool,
}

/// A join token that has just been made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CreatedToken {
    /// The token as the list shows it.
    #[serde(flatten)]
    pub info: Token,
    /// The text to hand to the devices, secret included: shown this once.
    pub token: String,
    /// A line to paste into a shell of root on a device: installs the agent and enrols it with this token.
    /// null: `install_hint` says what is missing.
    #[serde(default)]
    pub install: Option<String>,
    /// Advice how to get such a line; null: there is one.
    #[serde(default)]
    pub install_hint: Option<String>,
}

impl std::fmt::Debug for CreatedToken {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("info", &self.info).finish_non_exhaustive()
    }
}
