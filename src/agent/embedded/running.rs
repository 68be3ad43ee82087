//! An agent that runs in a thread, and what the program says to it.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use serde_json::json;

use super::AgentError;
use crate::agent::context::Context;
use crate::agent::local::client::{LocalClient, LocalError};
use crate::agent::local::protocol::Status;
use crate::agent::run::{self, Embedding, Remote, RunError};
use crate::wire::datagram::NoticeKind;
use crate::wire::event::Severity;

/// Time of an answer: the medium may be busy with the events of others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Time of a sync: connecting, an upload on a slow line, a busy server.
const SYNC_TIMEOUT: Duration = Duration::from_secs(300);

/// Most connections to the agent that are kept for the next question.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// Why an agent is stopped: the server is told, so that it does not take the device for lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The agent alone ends.
    AgentStopped,
    /// The device is about to be switched off.
    Shutdown,
    /// The device starts again.
    Reboot,
}

/// Something that has just happened on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    application: String,
    severity: Severity,
    kind: String,
    message: String,
    fields: Vec<(String, String)>,
}

impl NewEvent {
    /// An event of an application: its kind for programs, such as `low_pressure`, and a message for people.
    #[must_use]
    pub fn new(
        application: impl Into<String>,
        severity: Severity,
        kind: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (application, kind, message) = (application.into(), kind.into(), message.into());
        Self { application, severity, kind, message, fields: Vec::new() }
    }

    /// With a field besides.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }
}

/// A running agent. May be used by several threads at a time. When it is dropped it is stopped.
#[derive(Debug)]
pub struct RunningAgent {
    directory: PathBuf,
    remote: Remote,
    idle: Mutex<Vec<LocalClient>>,
    /// `None`: it was stopped.
    thread: Mutex<Option<JoinHandle<Result<(), RunError>>>>,
}

impl RunningAgent {
    pub(super) fn start(context: Context) -> Result<Self, AgentError> {
        let directory = context.data.clone();
        let agent = run::Agent::new(context, None, Box::new(Embedding))?;
        let remote = agent.remote();
        let builder = Builder::new().name("muster-agent".to_owned());
        let thread = builder.spawn(move || agent.run().map(drop));
        let thread = thread.map_err(|error| AgentError::Thread(error.to_string()))?;
        Ok(Self { directory, remote, idle: Mutex::default(), thread: Mutex::new(Some(thread)) })
    }

    /// Hands an event over. When this returns it survives whatever happens to the device, and is delivered
    /// once, as soon as the server can be reached. Its number, which counts the device's events.
    ///
    /// # Errors
    /// [`AgentError::Refused`] when it is too large or the medium is full, [`AgentError::Ended`].
    pub fn emit(&self, event: &NewEvent) -> Result<u64, AgentError> {
        let fields: serde_json::Map<String, serde_json::Value> =
            event.fields.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let event = json!({
            "application": event.application,
            "severity": event.severity,
            "kind": event.kind,
            "message": event.message,
            "fields": fields,
        });
        self.ask(ANSWER_TIMEOUT, |agent| agent.emit(&event))
    }

    /// Its state, as `muster-agent status` shows it.
    ///
    /// # Errors
    /// [`AgentError::Ended`], [`AgentError::NoAnswer`].
    pub fn status(&self) -> Result<Status, AgentError> {
        self.ask(ANSWER_TIMEOUT, LocalClient::status)
    }

    /// Syncs now, and returns when that is done: within five minutes.
    ///
    /// # Errors
    /// [`AgentError::Refused`] says why it failed; the agent tries again by itself.
    pub fn sync(&self) -> Result<(), AgentError> {
        self.ask(SYNC_TIMEOUT, |agent| agent.command("sync").map(drop))
    }

    /// Ends it, in two seconds at most: what was emitted is delivered as far as there is time, the server is
    /// told. A task that is being done goes on in its thread until its function returns. Whatever is asked
    /// later finds it [ended](AgentError::Ended).
    ///
    /// # Errors
    /// When it had ended by itself before: why.
    pub fn stop(&self, reason: StopReason) -> Result<(), AgentError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Err(AgentError::Ended) };
        self.remote.end(match reason {
            StopReason::AgentStopped => NoticeKind::AgentStopped,
            StopReason::Shutdown => NoticeKind::Shutdown,
            StopReason::Reboot => NoticeKind::Reboot,
        });
        let ended = thread.join().map_err(|_| AgentError::Thread("it has panicked".to_owned()))?;
        Ok(ended?)
    }

    /// Asks on a connection of its own, so that nobody waits for somebody else's sync.
    fn ask<T>(
        &self,
        timeout: Duration,
        ask: impl FnOnce(&mut LocalClient) -> Result<T, LocalError>,
    ) -> Result<T, AgentError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut client = match idle {
            Some(client) => client,
            None => self.connect(timeout)?,
        };
        client.set_timeout(timeout)?;
        let answer = ask(&mut client);
        // The answer to an earlier question must not be taken for that of the next one.
        if matches!(answer, Ok(_) | Err(LocalError::Refused(_))) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_CONNECTIONS_MAX {
                idle.push(client);
            }
        }
        Ok(answer?)
    }

    fn connect(&self, timeout: Duration) -> Result<LocalClient, AgentError> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| AgentError::Run(RunError::System(error)))?;
        self.remote.connect(theirs);
        Ok(LocalClient::over(ours, &self.directory, timeout)?)
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        // Nobody is left to be told why it had ended.
        let _ = self.stop(StopReason::AgentStopped);
    }
}
