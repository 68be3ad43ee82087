//! Requests of local programs, and the answers.

use serde::{Deserialize, Serialize};

use super::peer::Peer;
use crate::agent::application::check::AGENT_NAME;
use crate::agent::identity::{Identity, KeyType};
use crate::wire::certificate;
use crate::wire::event::{Event, EventError, MENDED_FIELD, NOT_UTF8, Severity, is_server_name, looks_like};
use crate::wire::id::{DeviceId, Epoch, RunId};
use crate::wire::section::ApplicationCondition;
use crate::wire::task::RunStage;
use crate::wire::time::WallTime;

/// Longest line: the largest event with every character escaped (`\u00e9`) fits.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Request of a local program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Put this event into the spool: its bytes, within all limits.
    Emit {
        /// Its severity.
        severity: Severity,
        /// The encoded [`Event`].
        body: Vec<u8>,
    },
    /// How is the agent doing?
    Status,
    /// Sync now.
    Sync,
    /// The device is about to sleep: answered once the server was told.
    Suspend,
    /// It has woken up.
    Resume,
    /// Send a notice that means nothing, and say what was heard of the server's.
    Probe,
    /// End, and begin anew as the program that is due.
    Restart,
    /// Take up the identity that waits, at its server.
    Move,
}

/// Why a line was refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is no JSON, or not what is asked for.
    #[error("not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// A command that is not known.
    #[error("'{0}' is not a command (status, sync, suspend, resume, probe, restart or move)")]
    Command(String),
    /// Only root and the agent's own user may ask for that.
    #[error("'{0}' is for root and the agent's own user; user {1} may emit events alone")]
    NotAllowed(String, u32),
    /// The name of the application is the agent's or the server's.
    #[error("user {1} may not emit events of '{0}': the name is reserved")]
    Reserved(String, u32),
    /// The event breaks a limit of the wire.
    #[error("the event is refused: {0}")]
    Event(#[from] EventError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine {
    application: String,
    severity: Severity,
    kind: String,
    message: String,
    #[serde(default)]
    fields: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandLine {
    command: String,
}

/// Whether only root and the agent's own user may emit events of the application: the agent, and the server.
fn is_reserved(application: &str) -> bool {
    looks_like(application, AGENT_NAME) || is_server_name(application)
}

/// The field that says which user emitted an event, when it was neither root nor the agent's own.
pub const USER_FIELD: &str = "uid";

/// Reads one line of `peer`. An event happened `now`.
///
/// # Errors
/// When it is not understood or breaks a limit.
pub fn parse(line: &[u8], now: WallTime, peer: Peer) -> Result<Request, RequestError> {
    let (value, is_mended) = read(line)?;
    if value.get("command").is_some() {
        let CommandLine { command } = serde_json::from_value(value)?;
        if let Peer::Other(user) = peer {
            return Err(RequestError::NotAllowed(command, user));
        }
        return match command.as_str() {
            "status" => Ok(Request::Status),
            "sync" => Ok(Request::Sync),
            "suspend" => Ok(Request::Suspend),
            "resume" => Ok(Request::Resume),
            "probe" => Ok(Request::Probe),
            "restart" => Ok(Request::Restart),
            "move" => Ok(Request::Move),
            _ => Err(RequestError::Command(command)),
        };
    }
    let line: EventLine = serde_json::from_value(value)?;
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let mut fields: Vec<(String, String)> =
        line.fields.into_iter().map(|(name, value)| (name, text(value))).collect();
    fields.extend(is_mended.then(|| (MENDED_FIELD.to_owned(), NOT_UTF8.to_owned())));
    if let Peer::Other(user) = peer {
        if is_reserved(&line.application) {
            return Err(RequestError::Reserved(line.application, user));
        }
        // Its own word on its user does not count.
        fields.retain(|(name, _)| name != USER_FIELD);
        fields.push((USER_FIELD.to_owned(), user.to_string()));
    }
    let event = Event {
        severity: line.severity,
        application: line.application,
        kind: line.kind,
        message: line.message,
        occurred_at: now,
        fields,
    };
    // A program's words on its way down may be anything: they are kept, as far as they travel.
    let event = event.mended();
    Ok(Request::Emit { severity: event.severity, body: event.to_bytes()? })
}

/// A line's JSON, and whether what is no text in it had to be replaced: bytes that are not UTF-8, or half of
/// a UTF-16 pair, as Python writes such bytes (`\udcff`).
fn read(line: &[u8]) -> Result<(serde_json::Value, bool), serde_json::Error> {
    let error = match serde_json::from_slice(line) {
        Ok(value) => return Ok((value, false)),
        Err(error) => error,
    };
    let text = String::from_utf8_lossy(line);
    let mended = without_half_pairs(&text);
    if mended.as_bytes() == line {
        return Err(error);
    }
    serde_json::from_str(&mended).map(|value| (value, true))
}

/// The text with U+FFFD for each escape that is half of a pair (RFC 8259 section 8.2).
fn without_half_pairs(text: &str) -> String {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut mended, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                mended.push_str("\\ufffd");
                at += 6;
                continue;
            }
            _ if rest.starts_with('\\') => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        mended.push_str(&rest[..length]);
        at += length;
    }
    mended
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Whether the agent runs. When it does not, only what is on the disk is told.
    pub running: bool,
    /// Version of the agent.
    pub agent_version: String,
    /// Releases of the agent that came over the link, if any did.
    #[serde(default)]
    pub release: Option<ReleaseStatus>,
    /// The device's id, when it has enrolled.
    pub device: Option<DeviceId>,
    /// The device's name in the fleet.
    pub name: Option<String>,
    /// The server's address.
    pub server: Option<String>,
    /// The certificate that it shows there.
    #[serde(default)]
    pub certificate: Option<CertificateStatus>,
    /// SHA-256 of each certificate of the server, and of the recovery key, that is accepted.
    #[serde(default)]
    pub pins: Vec<String>,
    /// `connected`, `connecting`, `waiting` (for the next sync or try), `waiting_for_approval` (by an
    /// administrator of the server), `stopped`, `not_enrolled`, or `waiting_to_enrol`: it does so by itself
    /// while the agent runs.
    pub state: String,
    /// Since when the link has been there.
    pub connected_since: Option<WallTime>,
    /// When the last sync was done.
    pub last_sync: Option<WallTime>,
    /// When the next sync or try is due.
    pub next_sync: Option<WallTime>,
    /// The last fault, when nothing has gone right since.
    pub last_error: Option<String>,
    /// When it went wrong.
    pub last_error_at: Option<WallTime>,
    /// Why the server takes this machine for a copy of the device, when it does.
    #[serde(default)]
    pub copy: Option<String>,
    /// The spool; only a running agent knows.
    pub spool: Option<SpoolStatus>,
    /// Datagrams; only a running agent knows.
    #[serde(default)]
    pub datagrams: Option<DatagramStatus>,
    /// The managed applications; only a running agent knows.
    #[serde(default)]
    pub applications: Vec<ApplicationCondition>,
    /// The runs of tasks that are here; only a running agent knows.
    #[serde(default)]
    pub runs: Vec<RunStatus>,
    /// Faults of the device, such as a package database or an application's file that can't be read.
    pub problems: Vec<String>,
}

impl Status {
    /// It as a JSON object, as `muster-agent status --json` prints it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Releases of the agent that came over the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// Version of the one that has proved itself, and runs unless another one is on trial; `None`: the
    /// installed program runs.
    pub version: Option<String>,
    /// Version of the one that is on trial.
    pub on_trial: Option<String>,
    /// Why the last one was taken back.
    pub taken_back: Option<String>,
}

/// The certificate of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Counts the certificates of the device, from 1.
    pub number: u32,
    /// Kind of its key.
    pub key_type: KeyType,
    /// Until when it is good. An expired one is renewed all the same.
    pub expires_at: WallTime,
    /// About when the server has it renewed, by the server's clock.
    pub renews_at: WallTime,
}

impl CertificateStatus {
    /// The certificate that a device shows. It is renewed when two thirds of its life are over.
    #[must_use]
    pub fn of(identity: &Identity) -> Option<Self> {
        let (from, expires_at) = certificate::validity(&identity.certificate)?;
        let issued_at = from.0.saturating_add(certificate::BACKDATED_MILLISECONDS).min(expires_at.0);
        Some(Self {
            number: certificate::counter(&identity.certificate),
            key_type: identity.key_type(),
            expires_at,
            renews_at: WallTime(issued_at + (expires_at.0 - issued_at) / 3 * 2),
        })
    }
}

/// A run of a task that waits, is being executed, or whose end the server has not stored yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Which.
    pub run: RunId,
    /// The application whose task it is.
    pub application: String,
    /// The kind of task.
    pub kind: String,
    /// Its stage.
    pub stage: RunStage,
    /// When it was ordered, by the device's clock.
    pub accepted_at: WallTime,
    /// Its progress.
    pub progress_percent: Option<u8>,
    /// Its present activity; may be empty.
    pub message: String,
}

/// Datagrams that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramStatus {
    /// The UDP port on which wakes are heard; 0: none.
    pub port: u16,
    /// Wakes that were taken since the agent started.
    pub wakes: u64,
    /// When the last one was.
    pub last_wake: Option<WallTime>,
    /// Datagrams that were dropped since then, for each reason that occurred.
    pub dropped: Vec<DropCount>,
}

/// Number of datagrams that were dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Name of the reason ([`DropReason`](crate::wire::datagram::DropReason)).
    pub reason: String,
    /// Their number.
    pub count: u64,
}

/// State of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// The history that the sequence numbers count in.
    pub epoch: Epoch,
    /// The highest sequence number given out.
    pub highest_sequence: u64,
    /// Every event up to this one is durable at the server.
    pub acked_through: u64,
    /// Each severity, mildest first.
    pub severities: Vec<SeverityStatus>,
}

/// State of the spool of one severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeverityStatus {
    /// Which.
    pub severity: Severity,
    /// Events that the server has not yet confirmed.
    pub events: u64,
    /// Size of the spool on the disk.
    pub bytes: u64,
    /// Most that it may take.
    pub quota_bytes: u64,
    /// When the oldest unconfirmed event was spooled.
    pub oldest: Option<WallTime>,
    /// Events that were dropped unconfirmed since the agent was installed.
    pub dropped: u64,
}
