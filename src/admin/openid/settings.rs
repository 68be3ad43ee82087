//! `[admin.openid]`: the provider, and what it is asked for.

use std::path::PathBuf;

use axum::http::Uri;
use serde::Deserialize;

use crate::configuration;
use crate::wire::printable::is_name;

/// The provider of `OpenID` Connect at which users may sign in.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenIdConfig {
    /// The provider, as the sign-in page names it.
    pub name: String,
    /// Its issuer identifier, a URL with https; empty: users sign in with passwords alone.
    pub issuer: String,
    /// Scheme, host and port at which browsers reach the console. No request is believed to know it: with
    /// another `Host` it could have the provider send codes elsewhere.
    pub address: String,
    /// The name under which the server is registered at the provider.
    pub client_id: String,
    /// File in whose first line the secret is that belongs to it; `None`: a public client.
    #[serde(deserialize_with = "configuration::path")]
    pub client_secret_file: Option<PathBuf>,
    /// PEM file of the authorities that may vouch for the provider.
    #[serde(deserialize_with = "configuration::path")]
    pub ca: PathBuf,
    /// The claim that names the user.
    pub claim: String,
    /// Scopes that are asked for.
    pub scopes: Vec<String>,
}

impl Default for OpenIdConfig {
    fn default() -> Self {
        Self {
            name: "OpenID Connect".to_owned(),
            issuer: String::new(),
            address: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            ca: "/etc/ssl/certs/ca-certificates.crt".into(),
            claim: "preferred_username".to_owned(),
            scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
        }
    }
}

impl OpenIdConfig {
    /// Whether there is a provider.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// Checks settings, also against each other.
    ///
    /// # Errors
    /// The key that is wrong (empty: the section), and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.is_on() {
            let is_nothing = *self == Self::default();
            return if is_nothing { Ok(()) } else { Err(("", "needs issuer".to_owned())) };
        }
        if !cfg!(feature = "console") {
            return Err(("", "needs the console, which this musterd was built without".to_owned()));
        }
        let wrong = |key, why: &str| Err((key, format!("is not allowed: {why}")));
        if https(&self.issuer).is_none_or(|uri| uri.query().is_some()) || self.issuer.contains('#') {
            return wrong("issuer", "an address with https, such as \"https://id.example.org/realm\"");
        }
        if https(&self.address)
            .is_none_or(|uri| uri.authority().is_none_or(|of| self.address != format!("https://{of}")))
        {
            let why = "scheme, host and port of the console, such as \"https://muster.example.org:13001\"";
            return wrong("address", why);
        }
        for (key, text) in [("name", &self.name), ("client_id", &self.client_id), ("claim", &self.claim)] {
            if !is_name(text) {
                return wrong(key, "1 to 255 bytes, no control or invisible characters");
            }
        }
        if !self.scopes.iter().any(|scope| scope == "openid")
            || self.scopes.iter().any(|scope| scope.is_empty() || scope.contains([' ', '"', '\\']))
        {
            return wrong("scopes", "names without blanks, \"openid\" among them");
        }
        Ok(())
    }
}

/// An address with https and a host, without a name or password of a user before that.
pub(super) fn https(address: &str) -> Option<Uri> {
    let uri: Uri = address.parse().ok()?;
    let authority = uri.authority()?;
    let is_plain = uri.scheme_str() == Some("https") && !authority.host().is_empty();
    (is_plain && !authority.as_str().contains('@')).then_some(uri)
}
