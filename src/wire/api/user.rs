//! Users: people who sign in with a password, or at a provider of OpenID Connect.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::wire::role::Role;

/// Fewest characters of a password (NIST SP 800-63B asks for 8, and for 15 where nothing else is asked for;
/// here wrong ones are rationed).
pub const PASSWORD_CHARACTERS_MIN: usize = 10;

/// Longest password.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Asks for a user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name to sign in with, as the audit has it too.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// Path of the group on which, with those below it, the role holds; left out: `/`, the whole fleet.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether they sign in at the provider of `OpenID` Connect (`[admin.openid]`), and with no password;
    /// left out: no.
    #[serde(default)]
    pub openid: bool,
}

/// Changes a user's rights: at once, in sessions that are open, too.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct UserChange {
    /// Their role from now on; left out: as it is.
    pub role: Option<Role>,
    /// Path of the group on which it holds from now on; left out: as it is.
    pub group: Option<String>,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct User {
    /// The name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// Path of the group on which the role holds.
    pub group: String,
    /// When they were made.
    pub created_at: Timestamp,
    /// Whether they have set a password.
    pub has_password: bool,
    /// When the time of a one-time link is over that was not used yet; null: there is none.
    pub link_expires_at: Option<Timestamp>,
    /// Issuer of the provider of `OpenID` Connect at which they sign in; null: they do with a password.
    pub issuer: Option<String>,
    /// The person at that provider (claim `sub`) who has signed in as this user first, and alone may from
    /// then on; null: nobody has yet.
    pub subject: Option<String>,
    /// Number of sessions.
    pub sessions: u64,
    /// Number of API tokens that they made and that were not revoked; those end with them.
    pub api_tokens: u64,
}

/// A user, with a one-time link that has just been made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct UserLink {
    /// The user as the list shows them.
    #[serde(flatten)]
    pub info: User,
    /// The link with which a password is set, once; its part behind the `#` is a secret: shown this once. For
    /// those who sign in with `OpenID` Connect, the page where they do, which is no secret.
    pub link: String,
}

/// Signs in: with a name, or, for the first time, with a one-time link, which sets the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The user's name; left out with a link.
    #[serde(default)]
    pub user: Option<String>,
    /// The one-time link, or what stands behind its `#`; left out with a name.
    #[serde(default)]
    pub link: Option<String>,
    /// The password; with a link the new one, of [`PASSWORD_CHARACTERS_MIN`] characters to
    /// [`PASSWORD_BYTES_MAX`] bytes.
    pub password: String,
}

/// The answer of a provider of `OpenID` Connect, as a browser brings it to the console, which asks with this.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenIdAnswer {
    /// The sign-in that it is of.
    pub state: String,
    /// The code for which the provider gives an ID token; null: it gives none.
    #[serde(default)]
    pub code: Option<String>,
    /// The reason why it gives none, such as `access_denied`.
    #[serde(default)]
    pub error: Option<String>,
    /// The provider's issuer, where it names itself (RFC 9207).
    #[serde(default)]
    pub issuer: Option<String>,
    /// The secret of the browser that has begun the sign-in, from its cookie.
    pub browser: String,
}

/// Those who ask.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Session {
    /// The user's name; of others, what the audit calls them: `uid 0`, for instance.
    pub name: String,
    /// Their role.
    pub role: Role,
    /// Path of the group on which it holds.
    pub group: String,
    /// When the session is over, however much it is used; null: they did not sign in with a password.
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the server's own certificate, as tokens and links have it; hexadecimal.
    pub certificate_sha256: String,
}

impl fmt::Debug for UserLink {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserLink").field("info", &self.info).finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenIdAnswer {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenIdAnswer").field("error", &self.error).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignIn {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("user", &self.user).finish_non_exhaustive()
    }
}
