//! The asking side: what the agent's own commands use.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::Status;
use crate::paths::{PathProblem, check_socket_length};

/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// None listens.
    #[error("no agent runs here ({} does not answer): start it with 'muster-agent run', or name its data directory with --data", .0.display())]
    NotRunning(PathBuf),
    /// It ended before it answered.
    #[error("the agent ended before it answered")]
    Ended,
    /// This user may not speak to it.
    #[error("{} is not for this user: run the command as root, or let others use the agent's socket ([socket] path and mode in muster-agent.toml)", .0.display())]
    NotAllowed(PathBuf),
    /// The system refused.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
    /// No socket can be there.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
    /// The answer was not understood.
    #[error("the agent's answer was not understood: {0}")]
    Answer(String),
}

/// A connection to the running agent.
#[derive(Debug)]
pub struct LocalClient {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl LocalClient {
    /// Connects to the agent whose socket is at `path`; each answer may take `timeout`.
    ///
    /// # Errors
    /// When no agent listens there, the path is too long for a socket, or the system refuses.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, LocalError> {
        check_socket_length("[socket] path, or --data", path, path)?;
        let wrap = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                LocalError::NotRunning(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => LocalError::NotAllowed(path.to_owned()),
            _ => LocalError::Io(path.to_owned(), source),
        };
        let stream = UnixStream::connect(path).map_err(wrap)?;
        Self::over(stream, path, timeout)
    }

    /// The same on a connection that is there already; errors name `path`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn over(stream: UnixStream, path: &Path, timeout: Duration) -> Result<Self, LocalError> {
        let mut client = Self { stream: BufReader::new(stream), path: path.to_owned() };
        client.set_timeout(timeout)?;
        Ok(client)
    }

    /// Each answer from now on may take `timeout`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), LocalError> {
        let stream = self.stream.get_ref();
        stream
            .set_read_timeout(Some(timeout))
            .and_then(|()| stream.set_write_timeout(Some(timeout)))
            .map_err(|source| LocalError::Io(self.path.clone(), source))
    }

    /// Sends one line and waits for its answer.
    ///
    /// # Errors
    /// When the agent refuses, goes, or does not answer in time.
    pub fn ask(&mut self, request: &serde_json::Value) -> Result<serde_json::Value, LocalError> {
        let wrap = |source: io::Error| match source.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LocalError::Ended,
            _ => LocalError::Io(self.path.clone(), source),
        };
        let mut line = request.to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).map_err(wrap)?;
        let mut answer = Vec::new();
        (&mut self.stream).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer).map_err(wrap)?;
        if answer.last() != Some(&b'\n') {
            return Err(LocalError::Ended);
        }
        let answer: serde_json::Value =
            serde_json::from_slice(&answer).map_err(|error| LocalError::Answer(error.to_string()))?;
        match answer.get("error").and_then(serde_json::Value::as_str) {
            Some(error) => Err(LocalError::Refused(error.to_owned())),
            None => Ok(answer),
        }
    }

    /// Emits an event; its sequence number when it is durable.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn emit(&mut self, event: &serde_json::Value) -> Result<u64, LocalError> {
        let answer = self.ask(event)?;
        let sequence = answer.get("sequence").and_then(serde_json::Value::as_u64);
        sequence.ok_or_else(|| LocalError::Answer(answer.to_string()))
    }

    /// Asks how the agent is doing.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn status(&mut self) -> Result<Status, LocalError> {
        let answer = self.command("status")?;
        serde_json::from_value(answer).map_err(|error| LocalError::Answer(error.to_string()))
    }

    /// Has the agent take up the identity that was staged, and waits until it is in sync with its server, or
    /// has failed to be: then the reason is returned, though the device has moved.
    ///
    /// # Errors
    /// As [`ask`](Self::ask). When the agent refused, nothing has changed.
    pub fn request_move(&mut self) -> Result<Option<String>, LocalError> {
        let answer = self.command("move")?;
        Ok(answer.get("problem").and_then(serde_json::Value::as_str).map(str::to_owned))
    }

    /// Gives a command, and waits until it is done.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); why a sync failed is among them.
    pub fn command(&mut self, command: &str) -> Result<serde_json::Value, LocalError> {
        self.ask(&serde_json::json!({ "command": command }))
    }
}
