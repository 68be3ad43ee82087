//! The server's configuration: a TOML file, every setting of which has a default and is explained in
//! `tools/musterd.toml`. A wrong file is refused with the line, the key and what is allowed.

mod backup;
mod reader;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use backup::BackupConfig;
use reader::{Reader, Section};

use super::process::ProcessOptions;
use crate::admin::listen::bound_as;
use crate::fleet::pacing::{INTERVAL_SECONDS_MAX, INTERVAL_SECONDS_MIN};
use crate::machine::device_state::STORED_INTERVAL_SECONDS_MAX;
use crate::machine::rate::EventRate;
use crate::paths::{PathProblem, check_directory, check_socket, check_socket_length};

/// The port of both protocols, when an address names none.
pub const DEFAULT_PORT: u16 = 13_000;

/// The data directory when nothing names another: beside the server's working directory.
pub const DEFAULT_DATA_DIRECTORY: &str = "./muster-data";

/// Name of the data directory in messages about it.
const DATA_SETTING: &str = "server.data_directory (or --data)";

/// Name of the administration socket in messages, when the configuration leaves it out.
const DEFAULT_SOCKET_SETTING: &str = "admin.socket (left out: in the data directory)";

/// Largest configuration file: a mistaken path to a log or an image is not read into memory.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most threads of one kind: what the server starts at most.
const THREADS_MAX: u64 = 64;

const _: () = assert!(INTERVAL_SECONDS_MAX < STORED_INTERVAL_SECONDS_MAX / 2);

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
    /// The administrators' ways to the server.
    pub admin: AdminConfig,
    /// Links of devices.
    pub links: LinksConfig,
    /// Automatic syncs.
    pub sync: SyncConfig,
    /// The event log.
    pub journal: JournalConfig,
    /// Scheduled backups.
    pub backup: BackupConfig,
    /// Lowest level of the lines on standard error.
    pub log_level: log::LevelFilter,
    /// Settings for the whole process. Not in the file: the program decides.
    pub process: ProcessOptions,
}

/// The administrators' ways to the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminConfig {
    /// Unix socket, mode 0600; `None`: `admin.sock` in the data directory.
    pub socket: Option<PathBuf>,
}

/// Links of devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinksConfig {
    /// Most links at a time, in links. More are closed at once, and counted.
    pub max: usize,
    /// Most TLS handshakes that begin in a second; `None`: as many as most of the reactors' time allows.
    pub handshakes_per_second: Option<usize>,
    /// Until when a new connection must have finished its TLS handshake.
    pub handshake_deadline: Duration,
    /// After how long without a word a link is closed that nobody asked to keep.
    pub idle_deadline: Duration,
    /// Longest interval at which the agent says on a persistent link that it is there: it says so more often
    /// where the network forgets sooner.
    pub keep_interval: Duration,
    /// Most devices whose links may be asked to stay; `None`: what descriptors and memory allow.
    pub max_persistent_connections: Option<usize>,
    /// Whether the link of a device stays by itself while wakes do not reach it.
    pub keep_unreachable: bool,
    /// Time that a peer may leave what we send it unread.
    pub write_deadline: Duration,
    /// Most memory that all links may hold beside what each takes idle; `None`: what the memory that is free
    /// at the start allows.
    pub buffer_bytes: Option<u64>,
}

/// Automatic syncs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncConfig {
    /// Sync interval of a device when neither it nor its groups say otherwise.
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
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalConfig {
    /// Size of one segment; a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Oldest segments are deleted when the journal is larger than this.
    pub retention_bytes: u64,
    /// Segments are deleted when all their events are older than this.
    pub retention_age: Duration,
    /// Size of the journal of warnings; `None`: a sixteenth of `retention_bytes`; 0: nothing is added.
    pub warnings_bytes: Option<u64>,
    /// Warnings are deleted when all of their segment are older than this; `None`: two years, or as long as
    /// other events if that is longer.
    pub warnings_age: Option<Duration>,
    /// Share of it that the events of each device may take: what is above that waits on the device.
    pub event_rate: EventRate,
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_directory: DEFAULT_DATA_DIRECTORY.into(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            udp: None,
            host_names: Vec::new(),
            reactors: None,
            workers: None,
            admin: AdminConfig { socket: None },
            links: LinksConfig {
                max: 100_000,
                handshakes_per_second: None,
                handshake_deadline: Duration::from_secs(10),
                idle_deadline: Duration::from_secs(60),
                keep_interval: Duration::from_secs(300),
                max_persistent_connections: None,
                keep_unreachable: true,
                write_deadline: Duration::from_secs(30),
                buffer_bytes: None,
            },
            sync: SyncConfig { interval: Duration::from_secs(900) },
            journal: JournalConfig {
                segment_bytes: 64 << 20,
                retention_bytes: 16 << 30,
                retention_age: Duration::from_secs(90 * 86_400),
                warnings_bytes: None,
                warnings_age: None,
                event_rate: EventRate::default(),
            },
            backup: BackupConfig::default(),
            log_level: log::LevelFilter::Info,
            process: ProcessOptions::default(),
        }
    }
}

/// Why a configuration was refused. One line that says where, what, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("can't read the configuration {}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's message.
        error: String,
    },
    /// A line is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Key, and what is allowed.
        message: String,
    },
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
        let unreadable = |error: String| ConfigError::Unreadable { path: path.to_owned(), error };
        let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(unreadable(format!("it has {length} bytes, at most {FILE_BYTES_MAX} are allowed")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text, path)
    }

    /// Reads a configuration. `path` is only for the error.
    ///
    /// # Errors
    /// When it holds anything that is not allowed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let wrong = |(offset, message): (usize, String)| ConfigError::Wrong {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count(),
            message,
        };
        Reader::parse(text).and_then(|reader| Self::from_reader(&reader)).map_err(wrong)
    }

    fn from_reader(reader: &Reader<'_>) -> Result<Self, (usize, String)> {
        let default = Self::default();
        reader.only_sections(&["server", "admin", "links", "sync", "journal", "backup", "log"])?;
        let server = reader
            .section("server", &["data_directory", "listen", "udp", "host_names", "reactors", "workers"])?;
        let admin = reader.section("admin", &["socket"])?;
        let links = reader.section(
            "links",
            &[
                "max",
                "handshakes_per_second",
                "handshake_deadline",
                "idle_deadline",
                "keep_interval",
                "max_persistent_connections",
                "keep_unreachable",
                "write_deadline",
                "buffer_size",
            ],
        )?;
        let sync = reader.section("sync", &["interval"])?;
        let journal = reader.section(
            "journal",
            &[
                "segment_size",
                "retention_size",
                "retention_age",
                "warnings_size",
                "warnings_age",
                "device_rate",
                "device_burst",
            ],
        )?;
        let backup = reader.section("backup", &backup::KEYS)?;
        let log = reader.section("log", &["level"])?;
        let seconds = Duration::from_secs;
        let config = Self {
            data_directory: server.path("data_directory")?.unwrap_or(default.data_directory),
            listen: server.address("listen")?.unwrap_or(default.listen),
            udp: server.address("udp")?,
            host_names: server.texts("host_names")?.unwrap_or_default(),
            reactors: server.count("reactors", 1..=THREADS_MAX)?,
            workers: server.count("workers", 1..=THREADS_MAX)?,
            admin: AdminConfig { socket: admin.path("socket")? },
            links: LinksConfig {
                max: links.count("max", 1..=LINKS_MAX)?.unwrap_or(default.links.max),
                handshakes_per_second: links.count("handshakes_per_second", 1..=HANDSHAKES_PER_SECOND_MAX)?,
                handshake_deadline: links
                    .duration("handshake_deadline", seconds(1)..=seconds(120))?
                    .unwrap_or(default.links.handshake_deadline),
                idle_deadline: links
                    .duration("idle_deadline", seconds(5)..=seconds(3_600))?
                    .unwrap_or(default.links.idle_deadline),
                keep_interval: links
                    .duration("keep_interval", seconds(5)..=seconds(86_400))?
                    .unwrap_or(default.links.keep_interval),
                max_persistent_connections: links.count("max_persistent_connections", 0..=LINKS_MAX)?,
                keep_unreachable: links.flag("keep_unreachable")?.unwrap_or(default.links.keep_unreachable),
                write_deadline: links
                    .duration("write_deadline", seconds(1)..=seconds(600))?
                    .unwrap_or(default.links.write_deadline),
                buffer_bytes: links.size("buffer_size", 16 << 20..=1 << 40)?,
            },
            sync: SyncConfig {
                interval: sync
                    .duration(
                        "interval",
                        seconds(INTERVAL_SECONDS_MIN.into())..=seconds(INTERVAL_SECONDS_MAX.into()),
                    )?
                    .unwrap_or(default.sync.interval),
            },
            journal: JournalConfig {
                segment_bytes: journal
                    .size("segment_size", 1 << 20..=1 << 30)?
                    .unwrap_or(default.journal.segment_bytes),
                retention_bytes: journal
                    .size("retention_size", 4 << 20..=1 << 50)?
                    .unwrap_or(default.journal.retention_bytes),
                retention_age: journal
                    .duration("retention_age", seconds(60)..=seconds(3_650 * 86_400))?
                    .unwrap_or(default.journal.retention_age),
                warnings_bytes: journal.size("warnings_size", 0..=1 << 50)?,
                warnings_age: journal.duration("warnings_age", seconds(60)..=seconds(3_650 * 86_400))?,
                event_rate: EventRate {
                    bytes_per_second: journal
                        .size("device_rate", 1 << 10..=1 << 30)?
                        .unwrap_or(default.journal.event_rate.bytes_per_second),
                    burst_bytes: journal
                        .size("device_burst", 1 << 20..=1 << 30)?
                        .unwrap_or(default.journal.event_rate.burst_bytes),
                },
            },
            backup: BackupConfig::from_section(&backup)?,
            log_level: log_level(&log)?.unwrap_or(default.log_level),
            process: default.process,
        };
        config.check_relations(&journal)?;
        Ok(config)
    }

    /// Checks of several settings against each other.
    fn check_relations(&self, journal: &Section<'_, '_>) -> Result<(), (usize, String)> {
        let segment = self.journal.segment_bytes;
        if !segment.is_multiple_of(4096) {
            return Err(journal.wrong("segment_size", "is not allowed: it must be a multiple of 4KiB"));
        }
        // One is written, one is ready, and retention can only delete whole ones.
        if self.journal.retention_bytes < 4 * segment {
            let key = if journal.has("retention_size") { "retention_size" } else { "segment_size" };
            return Err(
                journal.wrong(key, "is not allowed: retention_size must be at least four times segment_size")
            );
        }
        if self.journal.warnings_bytes.is_some_and(|bytes| (1..WARNINGS_BYTES_MIN).contains(&bytes)) {
            return Err(journal.wrong(
                "warnings_size",
                "is not allowed: it must be at least 1MiB, or 0B for no journal of warnings",
            ));
        }
        Ok(())
    }

    /// The UDP address of notices and wakes.
    #[must_use]
    pub fn udp_address(&self) -> SocketAddr {
        self.udp.unwrap_or(self.listen)
    }

    /// The directory of the certificates and keys.
    #[must_use]
    pub fn identity_directory(&self) -> PathBuf {
        self.data_directory.join("identity")
    }

    /// The directory of the event log.
    #[must_use]
    pub fn journal_directory(&self) -> PathBuf {
        self.data_directory.join("journal")
    }

    /// The directory of the warnings that outlive the event log.
    #[must_use]
    pub fn warnings_directory(&self) -> PathBuf {
        self.data_directory.join("warnings")
    }

    /// The directory of the database.
    #[must_use]
    pub fn store_directory(&self) -> PathBuf {
        self.data_directory.join("store")
    }

    /// The administrators' Unix socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.data_directory.join("admin.sock"))
    }

    /// Looks whether the paths that are named can be used by this user. Changes nothing.
    ///
    /// # Errors
    /// With the faults, and the settings' names.
    pub fn check_paths(&self) -> Result<(), Vec<PathProblem>> {
        let directories = [
            self.data_directory.clone(),
            self.identity_directory(),
            self.store_directory(),
            self.journal_directory(),
            self.warnings_directory(),
        ];
        let mut problems: Vec<_> =
            directories.iter().filter_map(|path| check_directory(DATA_SETTING, path).err()).collect();
        // A fault of a directory is a fault of everything in it.
        problems.truncate(1);
        problems.extend(self.check_admin_socket().err());
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Faults of paths that a server starts without, and does without until they can be used.
    #[must_use]
    pub fn doubtful_paths(&self) -> Vec<PathProblem> {
        let directory = self.backup.directory.as_deref();
        directory.and_then(|path| check_directory("backup.directory", path).err()).into_iter().collect()
    }

    fn check_admin_socket(&self) -> Result<(), PathProblem> {
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

    /// The settings in which `new` differs, for a reload.
    #[must_use]
    pub fn reload_diff(&self, new: &Self) -> ReloadDiff {
        let mut diff = ReloadDiff::default();
        let mut note = |differs: bool, key: &'static str, applies: bool| match (differs, applies) {
            (true, true) => diff.applied.push(key),
            (true, false) => diff.needs_restart.push(key),
            (false, _) => {}
        };
        note(self.data_directory != new.data_directory, "server.data_directory", false);
        note(self.listen != new.listen, "server.listen", false);
        note(self.udp != new.udp, "server.udp", false);
        note(self.host_names != new.host_names, "server.host_names", true);
        note(self.reactors != new.reactors, "server.reactors", false);
        note(self.workers != new.workers, "server.workers", false);
        note(self.admin.socket != new.admin.socket, "admin.socket", false);
        note(self.links.max != new.links.max, "links.max", true);
        note(
            self.links.handshakes_per_second != new.links.handshakes_per_second,
            "links.handshakes_per_second",
            true,
        );
        note(self.links.handshake_deadline != new.links.handshake_deadline, "links.handshake_deadline", true);
        note(self.links.idle_deadline != new.links.idle_deadline, "links.idle_deadline", true);
        note(self.links.keep_interval != new.links.keep_interval, "links.keep_interval", true);
        note(
            self.links.max_persistent_connections != new.links.max_persistent_connections,
            "links.max_persistent_connections",
            true,
        );
        note(self.links.keep_unreachable != new.links.keep_unreachable, "links.keep_unreachable", true);
        note(self.links.write_deadline != new.links.write_deadline, "links.write_deadline", true);
        note(self.links.buffer_bytes != new.links.buffer_bytes, "links.buffer_size", true);
        note(self.sync.interval != new.sync.interval, "sync.interval", true);
        note(self.journal.segment_bytes != new.journal.segment_bytes, "journal.segment_size", false);
        note(self.journal.retention_bytes != new.journal.retention_bytes, "journal.retention_size", true);
        note(self.journal.retention_age != new.journal.retention_age, "journal.retention_age", true);
        note(self.journal.warnings_bytes != new.journal.warnings_bytes, "journal.warnings_size", true);
        note(self.journal.warnings_age != new.journal.warnings_age, "journal.warnings_age", true);
        let (rate, new_rate) = (self.journal.event_rate, new.journal.event_rate);
        note(rate.bytes_per_second != new_rate.bytes_per_second, "journal.device_rate", true);
        note(rate.burst_bytes != new_rate.burst_bytes, "journal.device_burst", true);
        note(self.backup != new.backup, "backup", true);
        note(self.log_level != new.log_level, "log.level", true);
        diff
    }

    /// This configuration with those settings of `new` that a running server can take over.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Self {
        Self {
            host_names: new.host_names.clone(),
            links: new.links.clone(),
            sync: new.sync.clone(),
            journal: JournalConfig { segment_bytes: self.journal.segment_bytes, ..new.journal.clone() },
            backup: new.backup.clone(),
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

fn log_level(log: &Section<'_, '_>) -> Result<Option<log::LevelFilter>, (usize, String)> {
    log.text("level")?
        .map(|text| {
            text.parse()
                .map_err(|_| log.wrong("level", "is not allowed: off, error, warn, info, debug or trace"))
        })
        .transpose()
}

/// Reads a socket address; a missing port is `default_port`.
///
/// # Errors
/// When it is no IP address. Names are not resolved: a server listens on addresses.
pub fn parse_address(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse()
        .or_else(|_| bare.parse().map(|address| SocketAddr::new(address, default_port)))
        .map_err(|_| format!("'{text}' is not an address (IP:PORT, such as 0.0.0.0:13000 or [::]:13000)"))
}
