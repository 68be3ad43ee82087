//! `[admin]`: the administrators' ways to the server.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, TlsConfig};
use crate::admin::listen::bound_as;
use crate::admin::openid::OpenIdConfig;
use crate::configuration::{self, ConfigError, Source, address};
use crate::paths::{
    PathProblem, check_file, check_private, check_readable, check_socket, check_socket_length,
};

/// The port of administrators, when an address names none.
const ADMIN_PORT: u16 = 13_001;

/// Directory of the agents that are offered to devices, when the configuration leaves it out: where a package
/// puts them.
const AGENTS_DEFAULT: &str = "/usr/share/musterd/agents";

/// Name of the administration socket in messages, when the configuration leaves it out.
const DEFAULT_SOCKET_SETTING: &str = "admin.socket (left out: in the data directory)";

/// The administrators' ways to the server.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Unix socket, mode 0600; `None`: `admin.sock` in the data directory.
    #[serde(deserialize_with = "configuration::path")]
    pub socket: Option<PathBuf>,
    /// TCP address at which administrators are served over TLS, once there is an API token or a
    /// user; `None`: none.
    #[serde(deserialize_with = "address::<ADMIN_PORT, _, _>")]
    pub listen: Option<SocketAddr>,
    /// Directory of the agents that devices may fetch at `listen`; `None`: where a package puts them.
    #[serde(deserialize_with = "configuration::path")]
    pub agents: Option<PathBuf>,
    /// PEM file of the certificate that administrators are shown, and those that lead to its authority;
    /// `None`: that of `[tls]`, or the server's own.
    #[serde(deserialize_with = "configuration::path")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(deserialize_with = "configuration::path")]
    pub key: Option<PathBuf>,
    /// The provider of `OpenID` Connect at which users may sign in.
    pub openid: OpenIdConfig,
}

impl AdminConfig {
    /// The files of the certificate.
    #[must_use]
    pub fn tls(&self) -> TlsConfig {
        TlsConfig { certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// Directory of the agents that devices may fetch.
    #[must_use]
    pub fn agents(&self) -> PathBuf {
        self.agents.clone().unwrap_or_else(|| AGENTS_DEFAULT.into())
    }

    /// Checks settings against each other.
    pub(super) fn check(&self, source: Source<'_>) -> Result<(), ConfigError> {
        self.tls().check("admin", source)?;
        let wrong = |(key, why): (&str, String)| {
            let key = if key.is_empty() { "admin.openid".to_owned() } else { format!("admin.openid.{key}") };
            source.wrong(&key, &why)
        };
        self.openid.check().map_err(wrong)
    }

    /// Faults of the files that are named, which are looked at now.
    pub(super) fn problems(&self) -> Vec<PathProblem> {
        let mut problems = self.tls().problems("admin");
        problems.extend(self.agents.as_deref().and_then(|path| check_readable("admin.agents", path).err()));
        if self.openid.is_on() {
            let openid = &self.openid;
            problems.extend(check_file("admin.openid.ca", &openid.ca).err());
            let secret = openid.client_secret_file.as_deref();
            problems
                .extend(secret.and_then(|path| check_private("admin.openid.client_secret_file", path).err()));
        }
        problems
    }
}

impl Config {
    pub(super) fn check_admin_socket(&self) -> Result<(), PathProblem> {
        let (setting, path) = match &self.admin.socket {
            Some(path) => ("admin.socket", path.clone()),
            // The directory need not be there yet.
            None if !self.data_directory.exists() => {
                let path = self.admin_socket();
                return check_socket_length(DEFAULT_SOCKET_SETTING, &path, &bound_as(&path));
            }
            None => (DEFAULT_SOCKET_SETTING, self.admin_socket()),
        };
        check_socket(setting, &path, &bound_as(&path))
    }
}
