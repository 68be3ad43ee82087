//! Requests of the service manager while the agent runs: SIGTERM and SIGINT end it, SIGHUP has it read its
//! configuration again. Signals are something that the loop can poll.

use std::io;
use std::time::Instant;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags};
#[cfg(feature = "muster-agent")]
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Agent, WATCH};
use crate::agent::application::check::AGENT_NAME;
use crate::agent::last_good;
use crate::agent::settings::{self, Settings};
#[cfg(feature = "muster-agent")]
use crate::agent::waiting::signals;
use crate::agent::waiting::{drain, wait_for};
use crate::agent::watch::Watch;
use crate::wire::bounded::clip;
use crate::wire::event::{Event, Severity};
use crate::wire::limits::TEXT_BYTES_MAX;

impl Agent {
    /// The agent has begun to run: says so, and what is wrong with its configuration.
    pub(super) fn begin_configured(&mut self) {
        self.surroundings.ready();
        match self.context.problem.clone() {
            Some(problem) => self.tell_of_configuration(problem),
            None => self.keep_configuration(),
        }
    }

    pub(super) fn reload(&mut self) {
        self.surroundings.reloading();
        if let Err(why) = self.read_again() {
            self.tell_of_configuration(format!("the configuration stays as it was: {why}"));
        }
        self.surroundings.ready();
    }

    /// In the log, in the status, as an event, and to the service manager: it is noticed far from the device
    /// too.
    fn tell_of_configuration(&mut self, problem: String) {
        log::error!("{problem}");
        self.surroundings.status(&problem);
        let event = Event {
            severity: Severity::Error,
            application: AGENT_NAME.to_owned(),
            kind: "configuration_refused".to_owned(),
            message: clip(&problem, TEXT_BYTES_MAX).to_owned(),
            occurred_at: self.clock.now().wall,
            fields: Vec::new(),
        };
        if let Err(error) = self.append(&event, event.occurred_at) {
            log::error!("the server is not told: {error}");
        }
        self.context.problem = Some(problem);
    }

    /// A file that goes wrong later does not count then.
    fn keep_configuration(&mut self) {
        if let (Some(file), Some(text)) = (&self.context.config, self.context.text.take())
            && let Err(error) = last_good::keep(self.directory.path(), file, &text)
        {
            log::warn!("the configuration can't be kept for the time when its file goes wrong: {error}");
        }
    }

    fn read_again(&mut self) -> Result<(), String> {
        let Some(file) = &self.context.config else {
            self.datagrams.port.set(self.settings.wake.port);
            log::info!("there is no configuration file to read again");
            return Ok(());
        };
        let text = settings::text(file).map_err(|error| error.to_string())?;
        let settings = Settings::parse(&text, file).map_err(|error| error.to_string())?;
        let server = self.own.servers(settings.server.as_deref(), &self.identity);
        self.connection.set_server(server.map_err(|error| error.to_string())?);
        self.context.text = Some(text);
        if settings.socket != self.settings.socket {
            log::warn!("[socket] changes when the agent is started again");
        }
        self.datagrams.port.set(settings.wake.port);
        // One that is closed is no longer announced.
        self.machine.set_reach(self.datagrams.reach());
        self.settings = settings;
        self.judge_key();
        if let Err(error) = self.put_own_in_force() {
            log::error!("[spool]: {error}");
        }
        log::info!("the configuration was read again");
        if self.context.problem.take().is_some() {
            self.surroundings.status("the configuration is right again");
        }
        self.keep_configuration();
        self.sections.fingerprint = None;
        self.sections.is_wanted = true;
        self.start_watching();
        Ok(())
    }

    pub(super) fn start_watching(&mut self) {
        self.watch = None;
        match Watch::new(&self.settings, self.poll.registry(), WATCH) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => log::warn!("package databases can't be watched, the timer has to do: {error}"),
        }
    }
}

/// The requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Requested {
    pub(super) end: bool,
    pub(super) reload: bool,
}

/// The read ends of two pipes that the signal handlers write a byte into.
#[derive(Debug)]
pub struct Signals {
    end: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// Catches the signals from now on. Signals from before the loop polls are found there.
    ///
    /// # Errors
    /// When the system gives no pipe or no handler.
    #[cfg(feature = "muster-agent")]
    pub fn catch() -> io::Result<Self> {
        let stream = |of: &[i32]| signals(of).map(UnixStream::from_std);
        Ok(Self { end: stream(&[SIGTERM, SIGINT])?, reload: stream(&[SIGHUP])? })
    }

    /// Waits for a request to end until `deadline`. Whether there is one; it stays there for the loop.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn wait_for_end(&self, deadline: Instant) -> io::Result<bool> {
        wait_for(&mut [PollFd::new(&self.end, PollFlags::IN)], deadline)
    }

    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.end, token, Interest::READABLE)?;
        registry.register(&mut self.reload, token, Interest::READABLE)
    }

    pub(super) fn read(&mut self) -> Requested {
        Requested { end: drain(&mut self.end), reload: drain(&mut self.reload) }
    }
}
