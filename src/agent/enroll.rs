//! Enrolment: with a join token the device becomes a member of a server's fleet.
//!
//! The token carries the SHA-256 of the server's certificate, so that the device knows the server before it says anything.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::address::ServerAddress;
use super::identity::{Candidate, Identity, IdentityError, KeyType};
use super::link::{Link, LinkError};
use crate::reactor::channel::{ChannelError, ClientTls, ExpectedServer};
use crate::wire::message::{Enrol, Enrolled, ErrorCode, ErrorReport, ToAgent, ToServer};
use crate::wire::time::WallTime;
use crate::wire::token::JoinToken;

/// How long one address of the server may take to accept a connection: three tries of TCP (RFC 6298: 1 + 2 + 4 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(7);

/// How long the server may take from the first byte to the certificate: it may be busy enrolling others.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a device did not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The server's name has no address.
    #[error("{0} (check --server)")]
    Resolve(String),
    /// Nobody answers there.
    #[error(
        "no connection to {server}: {what} (is musterd running there, and does a firewall let TCP {port} through?)"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// What the system said.
        what: String,
        /// The port.
        port: u16,
    },
    /// The server is not the one that the token names.
    #[error(
        "{0} (the token is of another server, or of one whose certificate was made anew: make a token on the server that you mean, or check who answers at that address)"
    )]
    WrongServer(ChannelError),
    /// The link failed.
    #[error("the connection to {server} failed: {error}")]
    Link {
        /// Where.
        server: String,
        /// Why.
        error: LinkError,
    },
    /// No answer within `ANSWER_TIMEOUT`.
    #[error("{0} did not answer in time: try again")]
    TimedOut(String),
    /// The server refused.
    #[error("the server refused: {}{}", .0.message, advice(.0.code))]
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

/// What to do about a refusal.
fn advice(code: ErrorCode) -> &'static str {
    match code {
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
        | ErrorCode::Superseded
        | ErrorCode::SpoolEpochConflict
        | ErrorCode::AgentEpochConflict => "",
    }
}

/// Enrols at `server`. Blocks until the server has answered or the time is up. Stores nothing.
///
/// # Errors
/// [`EnrollError`] says why, and what to do.
pub fn enroll(
    server: &ServerAddress,
    token: &JoinToken,
    name: &str,
    key_type: KeyType,
    now: WallTime,
) -> Result<Identity, EnrollError> {
    let addresses = server.resolve().map_err(EnrollError::Resolve)?;
    let candidate = Candidate::new(key_type, name)?;
    let request = ToServer::Enrol(Enrol {
        token: token.id,
        secret: token.secret,
        request: candidate.request.clone(),
        name: name.to_owned(),
    });
    let failed = |error: LinkError| match error {
        LinkError::Channel(error @ ChannelError::WrongServer { .. }) => EnrollError::WrongServer(error),
        error => EnrollError::Link { server: server.to_string(), error },
    };
    let tls = ClientTls::new(ExpectedServer::Hash(token.server_certificate), None)
        .map_err(|error| failed(error.into()))?;
    let stream = connect(server, &addresses)?;
    let mut link = Link::new(stream, &tls).map_err(failed)?;
    let enrolled = converse(&mut link, &request, server, failed)?;
    link.close();
    Ok(candidate.into_identity(enrolled, server.to_string(), now))
}

fn connect(server: &ServerAddress, addresses: &[SocketAddr]) -> Result<TcpStream, EnrollError> {
    let mut reasons = Vec::new();
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                let made_ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                match made_ready {
                    Ok(()) => return Ok(stream),
                    Err(error) => reasons.push(format!("{address}: {error}")),
                }
            }
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    let what = reasons.join(", ");
    Err(EnrollError::Unreachable { server: server.to_string(), what, port: server.port })
}

/// Sends the request once the server has proved who it is, and waits for the answer.
fn converse(
    link: &mut Link<TcpStream>,
    request: &ToServer<'_>,
    server: &ServerAddress,
    failed: impl Fn(LinkError) -> EnrollError,
) -> Result<Enrolled, EnrollError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut sent = false;
    loop {
        let mut has_more = link.pump();
        if link.is_open() && !sent {
            let mut framed = Vec::new();
            request.write_to(&mut framed);
            link.send(&framed).map_err(&failed)?;
            sent = true;
            has_more = true;
        }
        if let Some(answer) = link.next_message().map_err(&failed)? {
            return match answer {
                ToAgent::Enrolled(enrolled) => Ok(*enrolled),
                ToAgent::Error(report) => Err(EnrollError::Refused(report)),
                ToAgent::Later(later) => Err(EnrollError::Later(later.seconds)),
                _ => Err(EnrollError::Unexpected),
            };
        }
        if has_more {
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let wanted = if link.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        match poll(&mut [PollFd::new(link.socket(), wanted)], Some(&left)) {
            Ok(0) => return Err(EnrollError::TimedOut(server.to_string())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(failed(LinkError::Channel(ChannelError::Socket(error.to_string()))));
            }
        }
    }
}
