//! Signing in at a provider of `OpenID` Connect: the code flow with PKCE (`OpenID` Connect Core 1.0 section
//! 3.1, RFC 7636, RFC 9700).
//!
//! ```text
//! browser ── /openid/start ────── state, nonce, verifier are kept; a cookie binds them to the browser
//!    └─ the provider: who are you?
//! browser ── /openid/callback ─── a page that sends itself on, so that the next one is asked for from here
//!    └────── /openid/finish ───── state used up ── code for an ID token ── checked ── session
//! ```
//!
//! The provider says who somebody is, and never what they may: users are made here, and the first who signs
//! in under a user's name is that user for good, by issuer and subject (`store::users`).
#[cfg(feature = "console")]
mod id_token;
#[cfg(feature = "console")]
mod pending;
#[cfg(feature = "console")]
mod provider;
mod settings;
#[cfg(feature = "console")]
mod sign_in;

pub use settings::OpenIdConfig;
#[cfg(feature = "console")]
pub(super) use sign_in::{BROWSER_COOKIE, OpenId, create};

/// Address to which the provider sends browsers back.
#[cfg(feature = "console")]
fn redirect_uri(settings: &OpenIdConfig) -> String {
    format!("{}/openid/callback", settings.address)
}

/// Whether a text has the form of a provider's codes of errors, which may be shown: `access_denied`.
#[cfg(feature = "console")]
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
