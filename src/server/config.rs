//! The server's configuration: a TOML file, every setting of which has a default and is explained in
//! `tools/musterd.toml`. A wrong file is refused with the line, the key and what is allowed.

mod admin;
mod backup;
mod identity;
mod paths;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use admin::AdminConfig;
pub use backup::BackupConfig;
pub use identity::IdentityConfig;

use super::process::ProcessOptions;
use crate::configuration::{self, Source, address, count, duration, size};
pub use crate::configuration::{ConfigError, parse_address};
use crate::fleet::pacing::{INTERVAL_SECONDS_MAX, INTERVAL_SECONDS_MIN};
use crate::machine::device_state::STORED_INTERVAL_SECONDS_MAX;
use crate::machine::rate::EventRate;
use crate::paths::{PathProblem, check_file, check_private};
use crate::store::ARTIFACTS_BYTES_DEFAULT;

/// The port of both protocols, when an address names none.
pub const DEFAULT_PORT: u16 = 13_000;

/// The data directory when nothing names another: beside the server's working directory.
pub const DEFAULT_DATA_DIRECTORY: &str = "./muster-data";

/// Largest configuration file: a mistaken path to a log or an image is not read into memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most threads of one kind: what the server starts at most.
const THREADS_MAX: u64 = 64;

const _: () = assert!(INTERVAL_SECONDS_MAX < STORED_INTERVAL_SECONDS_MAX / 2);

/// Longest age that events may reach: ten years.
const AGE_SECONDS_MAX: u64 = 3_650 * 86_400;

/// Largest journal that may be allowed: 1 PiB.
const JOURNAL_BYTES_MAX: u64 = 1 << 50;

/// Most links that may be allowed: what 64 GiB of socket memory hold.
const LINKS_MAX: u64 = 4_000_000;

/// Most handshakes in a second that a limit may name: what a hundred cores do.
const HANDSHAKES_PER_SECOND_MAX: u64 = 1_000_000;

/// Everything that an administrator may decide about a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Directory of identity, store and journal.
    pub data_directory: PathBuf,
    /// TCP address that devices connect to.
    pub listen: SocketAddr,
    /// UDP address that devices send notices to, and that wakes come from; `None`: that of `listen`.
    pub udp: Option<SocketAddr>,
    /// Names under which devices reach this server; only shown, in the hint how to enrol.
    pub host_names: Vec<String>,
    /// Threads that serve links; `None`: one for each core.
    pub reactors: Option<usize>,
    /// Threads that do the work of syncs; `None`: one for each core.
    pub workers: Option<usize>,
    /// Whether a lease in the data directory is held; `None`: where several machines can have it mounted.
    pub lease: Option<bool>,
    /// The administrators' ways to the server.
    pub admin: AdminConfig,
    /// Links of devices.
    pub links: LinksConfig,
    /// Automatic syncs.
    pub sync: SyncConfig,
    /// Identities of devices.
    pub identity: IdentityConfig,
    /// The event log.
    pub journal: JournalConfig,
    /// Files that tasks come with.
    pub artifacts: ArtifactsConfig,
    /// Scheduled backups.
    pub backup: BackupConfig,
    /// A certificate of another authority.
    pub tls: TlsConfig,
    /// Lowest level of the lines on standard error.
    pub log_level: log::LevelFilter,
    /// Settings for the whole process. Not in the file: the program decides.
    pub process: ProcessOptions,
}

/// The file; the rest is as in [`Config::default`].
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct File {
    server: ServerSection,
    admin: AdminConfig,
    links: LinksConfig,
    sync: SyncConfig,
    identity: IdentityConfig,
    journal: JournalConfig,
    artifacts: ArtifactsConfig,
    backup: BackupConfig,
    tls: TlsConfig,
    log: LogSection,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ServerSection {
    #[serde(deserialize_with = "configuration::path")]
    data_directory: PathBuf,
    #[serde(deserialize_with = "address::<DEFAULT_PORT, _, _>")]
    listen: SocketAddr,
    #[serde(deserialize_with = "address::<DEFAULT_PORT, _, _>")]
    udp: Option<SocketAddr>,
    host_names: Vec<String>,
    #[serde(deserialize_with = "count::<1, THREADS_MAX, _, usize, _>")]
    reactors: Option<usize>,
    #[serde(deserialize_with = "count::<1, THREADS_MAX, _, usize, _>")]
    workers: Option<usize>,
    lease: Option<bool>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LogSection {
    #[serde(deserialize_with = "log_level")]
    level: log::LevelFilter,
}

/// A certificate of another authority than the server's own. Devices accept it because the server's own key
/// vouches for it, whatever its issuer and however often it is renewed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file of the certificate; further ones in it are left alone.
    #[serde(deserialize_with = "configuration::path")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(deserialize_with = "configuration::path")]
    pub key: Option<PathBuf>,
}

impl TlsConfig {
    /// Both files, when they are named.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.certificate.as_deref().zip(self.key.as_deref())
    }

    fn check(&self, section: &str, source: Source<'_>) -> Result<(), ConfigError> {
        let (key, other) = match (&self.certificate, &self.key) {
            (Some(_), None) => ("certificate", "key"),
            (None, Some(_)) => ("key", "certificate"),
            _ => return Ok(()),
        };
        let why = format!("needs its counterpart: set {other} in [{section}], too");
        Err(source.wrong(&format!("{section}.{key}"), &why))
    }

    /// Faults of the files, which are looked at now.
    fn problems(&self, section: &str) -> Vec<PathProblem> {
        let Some((certificate, key)) = self.files() else { return Vec::new() };
        let certificate = check_file(&format!("{section}.certificate"), certificate).err();
        certificate.into_iter().chain(check_private(&format!("{section}.key"), key).err()).collect()
    }
}

/// Links of devices.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinksConfig {
    /// Most links at a time, in links. More are closed at once, and counted.
    #[serde(deserialize_with = "count::<1, LINKS_MAX, _, usize, _>")]
    pub max: usize,
    /// Most TLS handshakes that begin in a second; `None`: as many as most of the reactors' time allows.
    #[serde(deserialize_with = "count::<1, HANDSHAKES_PER_SECOND_MAX, _, usize, _>")]
    pub handshakes_per_second: Option<usize>,
    /// Until when a new connection must have finished its TLS handshake.
    #[serde(deserialize_with = "duration::<1, 120, _, _>")]
    pub handshake_deadline: Duration,
    /// After how long without a word a link is closed that nobody asked to keep.
    #[serde(deserialize_with = "duration::<5, 3_600, _, _>")]
    pub idle_deadline: Duration,
    /// Longest interval at which the agent says on a persistent link that it is there: it says so more often
    /// where the network forgets sooner.
    #[serde(deserialize_with = "duration::<5, 86_400, _, _>")]
    pub keep_interval: Duration,
    /// Most devices whose links may be asked to stay; `None`: what descriptors and memory allow.
    #[serde(deserialize_with = "count::<0, LINKS_MAX, _, usize, _>")]
    pub max_persistent_connections: Option<usize>,
    /// Whether the link of a device stays by itself while wakes do not reach it.
    pub keep_unreachable: bool,
    /// Time that a peer may leave what we send it unread.
    #[serde(deserialize_with = "duration::<1, 600, _, _>")]
    pub write_deadline: Duration,
    /// Most memory that all links may hold beside what each takes idle; `None`: what the memory that is free
    /// at the start allows.
    #[serde(rename = "buffer_size", deserialize_with = "size::<{ 16 << 20 }, { 1 << 40 }, _, _>")]
    pub buffer_bytes: Option<u64>,
}

/// Automatic syncs.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// Sync interval of a device when neither it nor its groups say otherwise.
    #[serde(
        deserialize_with = "duration::<{ INTERVAL_SECONDS_MIN as u64 }, { INTERVAL_SECONDS_MAX as u64 }, _, _>"
    )]
    pub interval: Duration,
}

/// Smallest journal of warnings.
const WARNINGS_BYTES_MIN: u64 = 1 << 20;

/// Size of the event log in that of the journal of warnings, when nothing is said.
const WARNINGS_SHARE: u64 = 16;

/// Age that warnings reach when nothing is said: an inspection a year later still finds those of the last
/// one.
const WARNINGS_AGE: Duration = Duration::from_secs(730 * 86_400);

/// The event log.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Size of one segment; a multiple of 4 KiB.
    #[serde(rename = "segment_size", deserialize_with = "size::<{ 1 << 20 }, { 1 << 30 }, _, _>")]
    pub segment_bytes: u64,
    /// Oldest segments are deleted when the journal is larger than this.
    #[serde(rename = "retention_size", deserialize_with = "size::<{ 4 << 20 }, JOURNAL_BYTES_MAX, _, _>")]
    pub retention_bytes: u64,
    /// Segments are deleted when all their events are older than this.
    #[serde(deserialize_with = "duration::<60, AGE_SECONDS_MAX, _, _>")]
    pub retention_age: Duration,
    /// Size of the journal of warnings; `None`: a sixteenth of `retention_bytes`; 0: nothing is added.
    #[serde(rename = "warnings_size", deserialize_with = "size::<0, JOURNAL_BYTES_MAX, _, _>")]
    pub warnings_bytes: Option<u64>,
    /// Warnings are deleted when all of their segment are older than this; `None`: two years, or as long as
    /// other events if that is longer.
    #[serde(deserialize_with = "duration::<60, AGE_SECONDS_MAX, _, _>")]
    pub warnings_age: Option<Duration>,
    /// Bytes of events that a device may add in a second, over time: what is above that waits on the device.
    #[serde(deserialize_with = "size::<{ 1 << 10 }, { 1 << 30 }, _, _>")]
    pub device_rate: u64,
    /// Bytes of events that it may add at once.
    #[serde(deserialize_with = "size::<{ 1 << 20 }, { 1 << 30 }, _, _>")]
    pub device_burst: u64,
}

/// Files that tasks come with.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArtifactsConfig {
    /// Most that all of them together may take of the disk.
    #[serde(rename = "total_size", deserialize_with = "size::<{ 1 << 20 }, JOURNAL_BYTES_MAX, _, _>")]
    pub bytes_max: u64,
}

impl Default for ArtifactsConfig {
    fn default() -> Self {
        Self { bytes_max: ARTIFACTS_BYTES_DEFAULT }
    }
}

impl JournalConfig {
    /// Size of the journal of warnings. 0: nothing is added to it.
    #[must_use]
    pub fn warnings_bytes(&self) -> u64 {
        self.warnings_bytes.unwrap_or((self.retention_bytes / WARNINGS_SHARE).max(WARNINGS_BYTES_MIN))
    }

    /// Age that warnings reach.
    #[must_use]
    pub fn warnings_age(&self) -> Duration {
        self.warnings_age.unwrap_or(self.retention_age.max(WARNINGS_AGE))
    }

    /// Checks settings against each other.
    fn check(&self, source: Source<'_>) -> Result<(), ConfigError> {
        let segment = self.segment_bytes;
        if !segment.is_multiple_of(4096) {
            return Err(source.wrong("journal.segment_size", "is not allowed: it must be a multiple of 4KiB"));
        }
        // One is written, one is ready, and retention can only delete whole ones.
        if self.retention_bytes < 4 * segment {
            let retention = "journal.retention_size";
            let key = if source.has(retention) { retention } else { "journal.segment_size" };
            let why = "is not allowed: retention_size must be at least four times segment_size";
            return Err(source.wrong(key, why));
        }
        if self.warnings_bytes.is_some_and(|bytes| (1..WARNINGS_BYTES_MIN).contains(&bytes)) {
            let why = "is not allowed: it must be at least 1MiB, or 0B for no journal of warnings";
            return Err(source.wrong("journal.warnings_size", why));
        }
        Ok(())
    }
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            data_directory: DEFAULT_DATA_DIRECTORY.into(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            udp: None,
            host_names: Vec::new(),
            reactors: None,
            workers: None,
            lease: None,
        }
    }
}

impl Default for LinksConfig {
    fn default() -> Self {
        Self {
            max: 100_000,
            handshakes_per_second: None,
            handshake_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(60),
            keep_interval: Duration::from_secs(300),
            max_persistent_connections: None,
            keep_unreachable: true,
            write_deadline: Duration::from_secs(30),
            buffer_bytes: None,
        }
    }
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(900) }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        let EventRate { bytes_per_second, burst_bytes } = EventRate::default();
        Self {
            segment_bytes: 64 << 20,
            retention_bytes: 16 << 30,
            retention_age: Duration::from_secs(90 * 86_400),
            warnings_bytes: None,
            warnings_age: None,
            device_rate: bytes_per_second,
            device_burst: burst_bytes,
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: log::LevelFilter::Info }
    }
}

impl Default for Config {
    fn default() -> Self {
        File::default().into()
    }
}

impl From<File> for Config {
    fn from(
        File { server, admin, links, sync, identity, journal, artifacts, backup, tls, log }: File,
    ) -> Self {
        Self {
            data_directory: server.data_directory,
            listen: server.listen,
            udp: server.udp,
            host_names: server.host_names,
            reactors: server.reactors,
            workers: server.workers,
            lease: server.lease,
            admin,
            links,
            sync,
            identity,
            journal,
            artifacts,
            backup,
            tls,
            log_level: log.level,
            process: ProcessOptions::default(),
        }
    }
}

impl Config {
    /// The defaults, with the data somewhere else.
    #[must_use]
    pub fn in_directory(data_directory: impl Into<PathBuf>) -> Self {
        Self { data_directory: data_directory.into(), ..Self::default() }
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it can't be read, or holds anything that is not allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > FILE_BYTES_MAX {
            let error = format!("it has {length} bytes, at most {FILE_BYTES_MAX} are allowed");
            return Err(unreadable(io::Error::other(error)));
        }
        Self::parse(&std::fs::read_to_string(path).map_err(unreadable)?, path)
    }

    /// Reads a configuration. `path` is only for the error.
    ///
    /// # Errors
    /// When it holds anything that is not allowed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let source = Source { text, path };
        let config = Self::from(source.parse::<File>()?);
        config.journal.check(source)?;
        config.backup.check(source)?;
        config.tls.check("tls", source)?;
        config.admin.check(source)?;
        Ok(config)
    }

    /// The settings in which `new` differs, for a reload.
    #[must_use]
    pub fn reload_diff(&self, new: &Self) -> ReloadDiff {
        let mut diff = ReloadDiff::default();
        macro_rules! note {
            ($($field:ident).+, $key:literal, $keys:ident) => {
                if self.$($field).+ != new.$($field).+ {
                    diff.$keys.push($key);
                }
            };
        }
        note!(data_directory, "server.data_directory", needs_restart);
        note!(listen, "server.listen", needs_restart);
        note!(udp, "server.udp", needs_restart);
        note!(host_names, "server.host_names", needs_restart);
        note!(reactors, "server.reactors", needs_restart);
        note!(workers, "server.workers", needs_restart);
        note!(lease, "server.lease", needs_restart);
        note!(admin.socket, "admin.socket", needs_restart);
        note!(admin.listen, "admin.listen", needs_restart);
        note!(admin.agents, "admin.agents", needs_restart);
        note!(admin.certificate, "admin.certificate", applied);
        note!(admin.key, "admin.key", applied);
        note!(admin.openid, "admin.openid", needs_restart);
        note!(links.max, "links.max", applied);
        note!(links.handshakes_per_second, "links.handshakes_per_second", applied);
        note!(links.handshake_deadline, "links.handshake_deadline", applied);
        note!(links.idle_deadline, "links.idle_deadline", applied);
        note!(links.keep_interval, "links.keep_interval", applied);
        note!(links.max_persistent_connections, "links.max_persistent_connections", applied);
        note!(links.keep_unreachable, "links.keep_unreachable", applied);
        note!(links.write_deadline, "links.write_deadline", applied);
        note!(links.buffer_bytes, "links.buffer_size", applied);
        note!(sync.interval, "sync.interval", applied);
        note!(identity.clones, "identity.clones", applied);
        note!(identity.device_certificate_life, "identity.device_certificate_life", applied);
        note!(journal.segment_bytes, "journal.segment_size", needs_restart);
        note!(journal.retention_bytes, "journal.retention_size", applied);
        note!(journal.retention_age, "journal.retention_age", applied);
        note!(journal.warnings_bytes, "journal.warnings_size", applied);
        note!(journal.warnings_age, "journal.warnings_age", applied);
        note!(journal.device_rate, "journal.device_rate", applied);
        note!(journal.device_burst, "journal.device_burst", applied);
        note!(artifacts.bytes_max, "artifacts.total_size", applied);
        note!(backup, "backup", applied);
        note!(tls, "tls", applied);
        note!(identity.passphrase_file, "identity.passphrase_file", needs_restart);
        note!(log_level, "log.level", applied);
        diff
    }

    /// This configuration with those settings of `new` that a running server can take over.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Self {
        Self {
            links: new.links.clone(),
            sync: new.sync.clone(),
            identity: new.identity.reloaded(&self.identity),
            journal: JournalConfig { segment_bytes: self.journal.segment_bytes, ..new.journal.clone() },
            artifacts: new.artifacts.clone(),
            backup: new.backup.clone(),
            tls: new.tls.clone(),
            admin: AdminConfig {
                certificate: new.admin.certificate.clone(),
                key: new.admin.key.clone(),
                ..self.admin.clone()
            },
            log_level: new.log_level,
            ..self.clone()
        }
    }
}

/// In which settings two configurations differ, by their names in the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ReloadDiff {
    /// A running server takes these over.
    pub applied: Vec<&'static str>,
    /// These wait for the next start.
    pub needs_restart: Vec<&'static str>,
}

fn log_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<log::LevelFilter, D::Error> {
    let allowed = "off, error, warn, info, debug or trace";
    configuration::text(deserializer, allowed.into(), |text| text.parse().ok())
}
