//! Enrolment: with a join token the device becomes a member of a server's fleet.
//!
//! The token carries the SHA-256 of the server's certificate, so that the device knows the server before it
//! says anything.

use std::path::Path;
use std::time::{Duration, Instant};

use super::address::ServerAddress;
use super::collect::host;
use super::context::wall_time;
use super::directory::{Directory, DirectoryError};
use super::identity::{Candidate, Identity, IdentityError, KeyType};
use super::link::LinkError;
use super::moving::{commit, settle, stage};
use super::talk::{NoTalk, Talk, TalkError};
use crate::reactor::channel::{ChannelError, ClientTls, ExpectedServer};
use crate::wire::message::{Enrol, ErrorCode, ErrorReport, Fork, ToAgent, ToServer};
use crate::wire::time::WallTime;
use crate::wire::token::JoinToken;

/// Time of one address of the server to accept a connection: three tries of TCP (RFC 6298: 1 + 2 + 4 s).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(7);

/// Time of the server from the first byte to the certificate: it may be busy enrolling others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a device did not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The server's name has no address.
    #[error("{0} (check --server)")]
    Resolve(String),
    /// Nobody answers there.
    #[error(
        "no connection to {}: {} (is musterd running there, and does a firewall let TCP {} through?)",
        .0, .1, .0.ports()
    )]
    Unreachable(ServerAddress, String),
    /// The server is not the one that the token names.
    #[error(
        "{0} (the token is of another server, or of one whose certificate was made anew: make a token on the server that you mean, or check who answers at that address)"
    )]
    WrongServer(ChannelError),
    /// The link to this server failed.
    #[error("the connection to {0} failed: {1}")]
    Link(ServerAddress, #[source] LinkError),
    /// No answer within `ANSWER_TIMEOUT`.
    #[error("{0} did not answer in time: try again")]
    TimedOut(String),
    /// The server refused.
    #[error("the server refused: {}{}", .0.message, advice(.0))]
    Refused(ErrorReport),
    /// The server has too much to do.
    #[error("the server is busy: try again in {0} s")]
    Later(u32),
    /// The server said what does not belong here.
    #[error("the server answered with what is no answer to an enrolment")]
    Unexpected,
    /// No key could be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl EnrollError {
    /// The end of a conversation with `server`, as an error.
    pub(super) fn talk(server: &ServerAddress, error: TalkError) -> Self {
        match error {
            TalkError::TimedOut => Self::TimedOut(server.to_string()),
            TalkError::Link(LinkError::Channel(
                error @ (ChannelError::WrongServer { .. } | ChannelError::ReplacedServer { .. }),
            )) => Self::WrongServer(error),
            TalkError::Link(error) => Self::Link(server.clone(), error),
            TalkError::Refused(report) => Self::Refused(report),
            TalkError::Later(seconds) => Self::Later(seconds),
            TalkError::Unexpected => Self::Unexpected,
        }
    }

    /// Whether the server may have enrolled the device all the same.
    #[must_use]
    pub fn may_be_enrolled(&self) -> bool {
        matches!(self, Self::Link(..) | Self::TimedOut(_) | Self::Unexpected)
    }
}

/// Advice about a refusal, unless the server has given it.
fn advice(report: &ErrorReport) -> &'static str {
    match report.code {
        ErrorCode::TokenUnknown if report.message.contains("musterctl") => "",
        ErrorCode::TokenUnknown => " (make a new token on that server: musterctl token create)",
        ErrorCode::TokenExpired => " (its time is over; make a new one: musterctl token create --ttl 1h)",
        ErrorCode::TokenUsedUp => " (make a new one, for more devices: musterctl token create --uses N)",
        ErrorCode::TokenRevoked => " (an administrator withdrew it; ask for a new one)",
        ErrorCode::DeviceRemoved => " (an administrator removed this device)",
        ErrorCode::Stopping => " (the server stops; try again in a minute)",
        ErrorCode::Internal => " (its log says why)",
        ErrorCode::Malformed | ErrorCode::UnknownKind | ErrorCode::Unexpected => {
            " (agent and server do not understand each other: are their versions alike?)"
        }
        ErrorCode::NotEnrolled
        | ErrorCode::WaitingForApproval
        | ErrorCode::Cloned
        | ErrorCode::NameRefused
        | ErrorCode::CertificateSuperseded
        | ErrorCode::Superseded
        | ErrorCode::SpoolEpochConflict
        | ErrorCode::AgentEpochConflict => "",
    }
}

/// Why the device of a data directory did not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrollHereError {
    /// The directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The identity in it can't be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is a device already.
    #[error(
        "this device is enrolled already, as '{}' ({}) at {}: give another --data, or --force to become a new device",
        .0.name, .0.device, .0.server
    )]
    Known(Box<Identity>),
    /// The enrolment failed.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
}

/// Enrols the device of a data directory and stores who it is now. `is_forced`: also when it is one already.
///
/// # Errors
/// [`EnrollHereError`].
pub fn enroll_here(
    directory: &Directory,
    server: &ServerAddress,
    token: &JoinToken,
    name: &str,
    key_type: KeyType,
    is_forced: bool,
) -> Result<NewDevice, EnrollHereError> {
    let _lock = directory.lock_patiently("an enrolment")?;
    settle(directory)?;
    match Identity::read(directory.path()) {
        Ok(Some(known)) if !is_forced => return Err(EnrollHereError::Known(Box::new(known))),
        Err(error @ IdentityError::Damaged(..)) if !is_forced => return Err(error.into()),
        Ok(_) | Err(IdentityError::Damaged(..)) => {}
        Err(error) => return Err(error.into()),
    }
    let device = enroll(server, token, name, key_type, Some(directory.path()), wall_time())?;
    stage(directory, &device.identity)?;
    commit(directory, &device.identity)?;
    Ok(device)
}

/// A device that has enrolled.
#[derive(Debug)]
pub struct NewDevice {
    /// Its identity.
    pub identity: Identity,
    /// Whether an administrator must approve it before it is served.
    pub is_waiting: bool,
}

/// Enrols at `server`. Blocks until the server has answered or the time is up. Stores nothing but the key
/// with which it asks, in the directory `kept_in`: when the answer does not arrive, another call asks with
/// the same key, and the server answers it as the same device.
///
/// # Errors
/// [`EnrollError`] says why, and what to do.
pub fn enroll(
    server: &ServerAddress,
    token: &JoinToken,
    name: &str,
    key_type: KeyType,
    kept_in: Option<&Path>,
    now: WallTime,
) -> Result<NewDevice, EnrollError> {
    let invitation = Fork { token: token.id, secret: token.secret };
    let expected = ExpectedServer::Hash(token.server_certificate);
    enroll_at(server, expected, &invitation, name, key_type, kept_in, now)
}

/// The same for a copy of a device, with the token that the server gave it: at the server that it trusts.
///
/// # Errors
/// As for [`enroll`].
pub fn enroll_copy(
    server: &ServerAddress,
    trusted: ExpectedServer,
    fork: &Fork,
    key_type: KeyType,
    kept_in: &Path,
    now: WallTime,
) -> Result<NewDevice, EnrollError> {
    enroll_at(server, trusted, fork, &host::hostname(), key_type, Some(kept_in), now)
}

fn enroll_at(
    server: &ServerAddress,
    expected: ExpectedServer,
    invitation: &Fork,
    name: &str,
    key_type: KeyType,
    kept_in: Option<&Path>,
    now: WallTime,
) -> Result<NewDevice, EnrollError> {
    let addresses = server.resolve().map_err(EnrollError::Resolve)?;
    let failed = |error| EnrollError::talk(server, error);
    let tls = ClientTls::new(expected, None).map_err(|error| failed(LinkError::from(error).into()))?;
    let mut talk =
        Talk::with_any(&addresses, &tls, CONNECT_TIMEOUT, ANSWER_TIMEOUT).map_err(|error| match error {
            NoTalk::Unreachable(what) => EnrollError::Unreachable(server.clone(), what),
            NoTalk::Failed(error) => failed(error),
        })?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (candidate, is_known) = match kept_in {
        Some(directory) => Candidate::to_ask(directory, &server.to_string(), key_type, name)?,
        None => (Candidate::new(key_type, name)?, false),
    };
    let request = ToServer::Enrol(Enrol {
        token: invitation.token,
        secret: invitation.secret,
        request: candidate.request.clone(),
        name: name.to_owned(),
    });
    let wanted = |answer| if let ToAgent::Enrolled(enrolled) = answer { Some(*enrolled) } else { None };
    let enrolled = talk.ask(&request, deadline, wanted).map_err(failed).inspect_err(|error| {
        // Nobody was enrolled with it. If it stays all the same, it asks again.
        if let (EnrollError::Refused(_), Some(directory), false) = (error, kept_in, is_known) {
            let _ = Candidate::forget(directory);
        }
    })?;
    talk.close();
    let is_waiting = enrolled.is_waiting;
    Ok(NewDevice { identity: candidate.into_identity(enrolled, server.to_string(), now), is_waiting })
}
