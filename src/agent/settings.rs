//! `muster-agent.toml`: what an administrator may set on the device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::application::Definition;
use super::identity::{KeyType, RenewalKey};
use super::{open, signature};
use crate::configuration::{self, ConfigError, Source, count};
use crate::wire::limits::ARTIFACT_BYTES_MAX;

/// Name of the configuration file that is looked for in the data directory.
pub const FILE_NAME: &str = "muster-agent.toml";

/// The UDP port on which wakes are heard when nobody says otherwise.
pub const WAKE_PORT_DEFAULT: u16 = 15_000;

/// Smallest quota of one severity: two segments, one to write and one to drop.
pub const SPOOL_QUOTA_MEBIBYTES_MIN: u64 = 1;

/// Largest quota of one severity: a device that was cut off for years fits.
pub const SPOOL_QUOTA_MEBIBYTES_MAX: u64 = 1024;

/// Most runs at a time that may be allowed.
pub const CONCURRENT_RUNS_MAX: usize = 16;

/// The settings. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Data directory.
    #[serde(deserialize_with = "configuration::path")]
    pub data: Option<PathBuf>,
    /// The server's address (`HOST` or `HOST:PORT`), instead of the one the device enrolled with. The
    /// certificate must match all the same.
    pub server: Option<String>,
    /// Level of the log.
    pub log_level: LogLevel,
    /// Kind of the device's key: the next enrolment makes it, and a device with another asks for a
    /// certificate for a new one. Left out: Ed25519 at an enrolment that says nothing else, and as it is
    /// then.
    pub key_type: Option<KeyType>,
    /// Key of a renewed certificate.
    pub renewal_key: RenewalKey,
    /// Directory of the files that say which applications are managed.
    #[serde(deserialize_with = "configuration::path")]
    pub applications: PathBuf,
    /// The socket for local programs.
    pub socket: SocketSettings,
    /// The spool.
    pub spool: SpoolSettings,
    /// Wakes of the server.
    pub wake: WakeSettings,
    /// Sources of collections.
    pub collect: CollectSettings,
    /// Execution of tasks.
    pub tasks: TaskSettings,
    /// Artifacts that have to be signed.
    pub releases: ReleaseSettings,
    /// Files that tasks need.
    pub artifacts: ArtifactSettings,
    /// Applications of the program that embeds the agent: it asks no other program, and listens for none.
    /// `None`: the agent is a program of its own.
    #[serde(skip)]
    pub embedded: Option<Arc<[Definition]>>,
}

/// Level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing works.
    Error,
    /// Something is odd.
    Warn,
    /// Events of the agent's life.
    Info,
    /// Their details.
    Debug,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

/// The socket for local programs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SocketSettings {
    /// Its path; in the data directory (`agent.sock`) unless said otherwise. The data directory is for the
    /// agent's user alone: to let other users' programs emit events, put the socket elsewhere and widen its
    /// mode.
    #[serde(deserialize_with = "configuration::path")]
    pub path: Option<PathBuf>,
    /// Its permission bits, as chmod(1) writes them.
    #[serde(deserialize_with = "mode")]
    pub mode: u32,
}

/// Wakes: datagrams with which the server calls the device while it is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WakeSettings {
    /// The UDP port on which they are heard; 0: none are. The server is told with each sync.
    #[serde(deserialize_with = "count::<0, 65_535, _, u16, _>")]
    pub port: u16,
}

/// The spool: how much of the device's disk the events of each severity may take while they can't be
/// delivered. When it is used up the oldest events of that severity go, and an event says how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolSettings {
    /// For info events.
    #[serde(deserialize_with = "count::<SPOOL_QUOTA_MEBIBYTES_MIN, SPOOL_QUOTA_MEBIBYTES_MAX, _, u32, _>")]
    pub info_mebibytes: u32,
    /// For warnings.
    #[serde(deserialize_with = "count::<SPOOL_QUOTA_MEBIBYTES_MIN, SPOOL_QUOTA_MEBIBYTES_MAX, _, u32, _>")]
    pub warning_mebibytes: u32,
    /// For errors.
    #[serde(deserialize_with = "count::<SPOOL_QUOTA_MEBIBYTES_MIN, SPOOL_QUOTA_MEBIBYTES_MAX, _, u32, _>")]
    pub error_mebibytes: u32,
    /// For critical events.
    #[serde(deserialize_with = "count::<SPOOL_QUOTA_MEBIBYTES_MIN, SPOOL_QUOTA_MEBIBYTES_MAX, _, u32, _>")]
    pub critical_mebibytes: u32,
}

/// Sources of collections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectSettings {
    /// Packages that dpkg installed.
    pub dpkg: bool,
    /// Packages that apk installed.
    pub apk: bool,
    /// Packages that rpm installed.
    pub rpm: bool,
    /// Packages that FreeBSD's pkg installed.
    pub pkg: bool,
    /// Directory that the package databases and the host's files are looked for under.
    #[serde(deserialize_with = "configuration::path")]
    pub root: PathBuf,
}

/// Execution of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// Whether the server may have any command executed (kind `exec` of `muster-agent`), beside what the
    /// applications' files declare.
    pub exec: bool,
    /// Most runs at a time, 1 to [`CONCURRENT_RUNS_MAX`]; one at a time for each application.
    #[serde(deserialize_with = "count::<1, { CONCURRENT_RUNS_MAX as u64 }, _, usize, _>")]
    pub concurrent: usize,
}

/// Artifacts that have to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseSettings {
    /// The key that signs them, above one that is pinned.
    #[serde(deserialize_with = "signature::optional_key")]
    pub key: Option<String>,
}

/// Files that tasks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArtifactSettings {
    /// Room for all of them together; 0: the device takes none.
    #[serde(deserialize_with = "count::<0, { ARTIFACT_BYTES_MAX >> 20 }, _, u32, _>")]
    pub mebibytes_max: u32,
}

impl Default for ArtifactSettings {
    fn default() -> Self {
        Self { mebibytes_max: 256 }
    }
}

impl ArtifactSettings {
    /// Room for all of them together.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        u64::from(self.mebibytes_max) << 20
    }
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self { exec: false, concurrent: 4 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: None,
            server: None,
            log_level: LogLevel::Info,
            key_type: None,
            renewal_key: RenewalKey::default(),
            applications: PathBuf::from("/etc/muster/applications.d"),
            socket: SocketSettings::default(),
            spool: SpoolSettings::default(),
            wake: WakeSettings::default(),
            collect: CollectSettings::default(),
            tasks: TaskSettings::default(),
            releases: ReleaseSettings::default(),
            artifacts: ArtifactSettings::default(),
            embedded: None,
        }
    }
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self { path: None, mode: 0o600 }
    }
}

impl Default for WakeSettings {
    fn default() -> Self {
        Self { port: WAKE_PORT_DEFAULT }
    }
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { info_mebibytes: 4, warning_mebibytes: 4, error_mebibytes: 4, critical_mebibytes: 4 }
    }
}

impl Default for CollectSettings {
    fn default() -> Self {
        Self { dpkg: true, apk: true, rpm: true, pkg: true, root: PathBuf::from("/") }
    }
}

impl SpoolSettings {
    /// Quotas of the events of each severity, mildest first.
    #[must_use]
    pub fn quotas_bytes(&self) -> [u64; 4] {
        let quotas =
            [self.info_mebibytes, self.warning_mebibytes, self.error_mebibytes, self.critical_mebibytes];
        quotas.map(|mebibytes| u64::from(mebibytes) << 20)
    }
}

/// Largest configuration file: what is larger was not written by hand for us.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Reads a file that somebody wrote for the agent.
///
/// # Errors
/// When it can't be read, is no regular file, or is larger than any that was written by hand.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    open::text(path, FILE_BYTES_MAX).map_err(unreadable)
}

impl Settings {
    /// Reads a configuration, which is said to be from `path`.
    ///
    /// # Errors
    /// When it says something that is not allowed: with the line, the key and what is allowed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Source { text, path }.parse()
    }

    /// Name of what defines the applications, one of several.
    #[must_use]
    pub fn definers(&self) -> String {
        match &self.embedded {
            Some(_) => "part of this device's program".to_owned(),
            None => format!("file in {}", self.applications.display()),
        }
    }
}

pub(super) fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let expected = "permission bits in octal, such as \"0660\"";
    configuration::text(deserializer, expected.into(), |text| {
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("muster-agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(settings("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_set_counts() {
        let text = "server = \"m.example.org\"\nkey_type = \"p256\"\nlog_level = \"debug\"\n[spool]\ninfo_mebibytes = 9\n\
                    [socket]\npath = \"/run/muster-agent/agent.sock\"\nmode = \"0660\"\n[collect]\nrpm = false\n";
        let settings = settings(text).unwrap();
        assert_eq!(settings.key_type, Some(KeyType::P256));
        assert_eq!(settings.spool.quotas_bytes()[0], 9 << 20);
        assert_eq!(settings.socket.mode, 0o660);
        assert!(!settings.collect.rpm && settings.collect.dpkg);
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_key_and_what_is_allowed() {
        let cases = [
            ("\nsevrer = \"x\"", 2, "sevrer is not known: did you mean server? allowed here: data, server,"),
            ("key_type = \"rsa\"", 1, "key_type = \"rsa\" is not allowed: \"ed25519\" or \"p256\""),
            ("key_type = 3", 1, "key_type is an integer, it must be a text in quotation marks"),
            (
                "[spool]\ninfo_mebibytes = 0",
                2,
                "spool.info_mebibytes = 0 is not allowed: a whole number from 1 to 1024",
            ),
            (
                "[socket]\nmode = \"rw\"",
                2,
                "socket.mode = \"rw\" is not allowed: permission bits in octal, such as \"0660\"",
            ),
            ("[collect]\n\ndpkg = 3", 3, "collect.dpkg is an integer, it must be true or false"),
            ("[wake]\nport = 70000", 2, "wake.port = 70000 is not allowed: a whole number from 0 to 65535"),
            (
                "[tasks]\nconcurrent = 17",
                2,
                "tasks.concurrent = 17 is not allowed: a whole number from 1 to 16",
            ),
            ("data = [", 1, ""),
            ("data = \"~/x\"", 1, "data begins with ~, which only a shell replaces: write the whole path"),
        ];
        for (text, line, why) in cases {
            let error = settings(text).unwrap_err();
            assert!(error.starts_with(&format!("muster-agent.toml:{line}: {why}")), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
