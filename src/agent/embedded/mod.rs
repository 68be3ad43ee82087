//! The agent within a program: an appliance's firmware, say. It is the same loop as that of `muster-agent
//! run`, in a thread of its own; the program's functions take the place of files and commands, and the
//! program itself speaks to it as local programs do, over a pair of sockets.

mod running;

use std::path::PathBuf;

pub use self::running::{NewEvent, RunningAgent, StopReason};
use super::address::{AddressError, ServerAddress};
use super::application::embedded::Application;
use super::collect::host;
use super::context::Context;
use super::directory::{Directory, DirectoryError};
use super::enroll::{EnrollError, EnrollHereError, enroll_here};
use super::identity::{Identity, IdentityError, KeyType};
use super::local::client::LocalError;
use super::run::RunError;
use super::settings::{
    CollectSettings, SPOOL_QUOTA_MEBIBYTES_MAX, SPOOL_QUOTA_MEBIBYTES_MIN, Settings, SpoolSettings,
};
use crate::wire::limits::{CONDITIONS_MAX, NAME_BYTES_MAX};
use crate::wire::token::{JoinToken, TokenError};

/// Why an embedded agent does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The program says something of itself or of its applications that is not allowed.
    #[error("{0}")]
    Program(String),
    /// The server's address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The join token is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The device's identity can't be read or written, or there is none yet: enrol it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directory holds the identity of a device already: which, and its server.
    #[error("the device is enrolled already, as '{name}' at {server}")]
    Enrolled {
        /// Its name.
        name: String,
        /// The server's address.
        server: String,
    },
    /// The server did not enrol the device.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// It does not begin, or has ended by itself.
    #[error(transparent)]
    Run(RunError),
    /// It runs and refuses: an event that finds no room, a sync that fails.
    #[error("{0}")]
    Refused(String),
    /// It has ended; [`RunningAgent::stop`] says why.
    #[error("the agent has ended")]
    Ended,
    /// It does not answer in time, or its answer was not understood.
    #[error("the agent does not answer: {0}")]
    NoAnswer(LocalError),
    /// Its thread can't be started, or has panicked.
    #[error("the agent's thread: {0}")]
    Thread(String),
}

impl From<EnrollHereError> for AgentError {
    fn from(error: EnrollHereError) -> Self {
        match error {
            EnrollHereError::Directory(error) => error.into(),
            EnrollHereError::Identity(error) => error.into(),
            EnrollHereError::Known(known) => {
                Self::Enrolled { name: known.name.clone(), server: known.server.clone() }
            }
            EnrollHereError::Enroll(error) => error.into(),
        }
    }
}

impl From<RunError> for AgentError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Directory(error) => error.into(),
            RunError::Identity(error) => error.into(),
            error => Self::Run(error),
        }
    }
}

impl From<LocalError> for AgentError {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Refused(why) => Self::Refused(why),
            LocalError::Ended => Self::Ended,
            error => Self::NoAnswer(error),
        }
    }
}

/// An agent that does not run yet: its directory, and what it is to know of the program.
///
/// It uses its directory and no other, catches no signal, starts no program, ends no process and has no log
/// of its own: lines go to the logger that the program has set (crate `log`), if any. Several agents may run
/// in one process.
///
/// ```no_run
/// # fn main() -> Result<(), muster::AgentError> {
/// let agent = muster::Agent::builder("/data/muster")
///     .application(muster::Application::new("heatpump", "2.1.0"))
///     .build()?;
/// if !agent.is_enrolled()? {
///     agent.enroll("muster.example.org", "muster1-…")?;
/// }
/// let agent = agent.start()?;
/// agent.emit(&muster::NewEvent::new(
///     "heatpump",
///     muster::Severity::Warning,
///     "low_pressure",
///     "0.9 bar in the heating circuit",
/// ))?;
/// agent.stop(muster::StopReason::Shutdown)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Agent {
    directory: PathBuf,
    name: Option<String>,
    settings: Settings,
}

/// Makes an [`Agent`].
#[derive(Debug)]
pub struct AgentBuilder {
    directory: PathBuf,
    name: Option<String>,
    applications: Vec<Application>,
    spool_mebibytes: Option<u32>,
    settings: Settings,
}

impl AgentBuilder {
    /// An application of the program: the server lists it, sets it, has it do tasks, and takes its events.
    #[must_use]
    pub fn application(mut self, application: Application) -> Self {
        self.applications.push(application);
        self
    }

    /// Name that the device asks for when it enrols; its host name otherwise.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Room for the events of each of the four severities while they can't be delivered, 1 to 1024; 4 unless
    /// said otherwise. The server may set another (`spool` of `muster-agent`'s settings).
    #[must_use]
    pub fn spool_mebibytes(mut self, mebibytes: u32) -> Self {
        self.spool_mebibytes = Some(mebibytes);
        self
    }

    /// The UDP port on which the server's wakes are heard, 15000 unless said otherwise; 0: none are.
    #[must_use]
    pub fn wake_port(mut self, port: u16) -> Self {
        self.settings.wake.port = port;
        self
    }

    /// Looks at what was said. Touches no file.
    ///
    /// # Errors
    /// [`AgentError::Program`] says what is not allowed.
    pub fn build(self) -> Result<Agent, AgentError> {
        let Self { directory, name, applications, spool_mebibytes, mut settings } = self;
        if name.as_ref().is_some_and(|name| !(1..=NAME_BYTES_MAX).contains(&name.len())) {
            return Err(AgentError::Program(format!("a device's name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        if let Some(mebibytes) = spool_mebibytes {
            let allowed = SPOOL_QUOTA_MEBIBYTES_MIN..=SPOOL_QUOTA_MEBIBYTES_MAX;
            if !allowed.contains(&u64::from(mebibytes)) {
                return Err(AgentError::Program(format!(
                    "a spool of {mebibytes} MiB is not allowed, {SPOOL_QUOTA_MEBIBYTES_MIN} to {SPOOL_QUOTA_MEBIBYTES_MAX} are"
                )));
            }
            settings.spool = SpoolSettings {
                info_mebibytes: mebibytes,
                warning_mebibytes: mebibytes,
                error_mebibytes: mebibytes,
                critical_mebibytes: mebibytes,
            };
        }
        // The agent itself is one of them.
        if applications.len() >= CONDITIONS_MAX {
            return Err(AgentError::Program(format!(
                "at most {} applications are allowed",
                CONDITIONS_MAX - 1
            )));
        }
        let checked = applications.into_iter().map(Application::checked).collect::<Result<Vec<_>, _>>();
        let mut definitions = checked.map_err(AgentError::Program)?;
        definitions.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = definitions.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(AgentError::Program(format!("two applications are called '{}'", pair[0].name)));
        }
        settings.embedded = Some(definitions.into());
        Ok(Agent { directory, name, settings })
    }
}

impl Agent {
    /// An agent whose files are in `directory`, made when it is not there. Nobody else may write there.
    #[must_use]
    pub fn builder(directory: impl Into<PathBuf>) -> AgentBuilder {
        let collect =
            CollectSettings { dpkg: false, apk: false, rpm: false, pkg: false, ..CollectSettings::default() };
        AgentBuilder {
            directory: directory.into(),
            name: None,
            applications: Vec::new(),
            spool_mebibytes: None,
            settings: Settings { collect, ..Settings::default() },
        }
    }

    /// Whether the device is known at a server.
    ///
    /// # Errors
    /// When the system refuses, or its identity is damaged.
    pub fn is_enrolled(&self) -> Result<bool, AgentError> {
        Ok(Identity::read(&self.directory)?.is_some())
    }

    /// Enrols the device at a server (`HOST` or `HOST:PORT`, several with commas between them when others
    /// stand by for it) with a join token. Blocks for two minutes at most, and for ten seconds more for each
    /// address that takes connections and does not shake hands. When the answer does not arrive, another
    /// call asks with the same key and becomes the same device. Says whether an administrator has to approve
    /// it before it is served.
    ///
    /// # Errors
    /// [`AgentError::Enrolled`] when it is enrolled already, [`AgentError::Enroll`] when the server can't be
    /// reached or refuses.
    pub fn enroll(&self, server: &str, token: &str) -> Result<bool, AgentError> {
        let server: ServerAddress = server.parse()?;
        let token: JoinToken = token.parse()?;
        let name = self.name.clone().unwrap_or_else(host::hostname);
        let directory = Directory::open_or_create(&self.directory)?;
        let device = enroll_here(&directory, &server, &token, &name, KeyType::default(), false)?;
        Ok(device.is_waiting)
    }

    /// Starts it. It connects by itself, now and whenever it is cut off.
    ///
    /// # Errors
    /// When the device is not enrolled, another agent uses the directory, or something in it can't be used.
    pub fn start(self) -> Result<RunningAgent, AgentError> {
        let Self { directory, settings, .. } = self;
        RunningAgent::start(Context { settings, config: None, data: directory, text: None, problem: None })
    }
}
