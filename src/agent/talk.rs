//! One conversation with the server outside the agent's loop: it blocks, and every step of it has an end in
//! time. Enrolment, the look whether a new server answers, and `muster-agent check` speak like this.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::identity::Identity;
use super::link::{Link, LinkError};
use super::race::{ADDRESS_SECONDS_MAX, Race, RaceStatus};
use super::waiting::wait_for;
use crate::reactor::channel::{ChannelError, ClientIdentity, ClientTls, ExpectedServer};
use crate::reactor::clock::Clock;
use crate::wire::message::{ErrorReport, Probed, ToAgent, ToServer};

/// Time of an address to shake hands while there are others: as in the agent's loop.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(ADDRESS_SECONDS_MAX);

/// Why a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TalkError {
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The server refused.
    #[error("{}", .0.message)]
    Refused(ErrorReport),
    /// It has too much to do: how many seconds later it may be asked again.
    #[error("it is busy: try again in {0} s")]
    Later(u32),
    /// It said what does not belong here.
    #[error("it answered with what is no answer")]
    Unexpected,
}

/// Why no conversation began.
#[derive(Debug, thiserror::Error)]
pub enum NoTalk {
    /// Nobody answers at any address: what each of them said.
    #[error("{0}")]
    Unreachable(String),
    /// The first that answered did not shake hands.
    #[error(transparent)]
    Failed(TalkError),
}

impl TalkError {
    fn socket(error: &impl ToString) -> Self {
        Self::Link(LinkError::Channel(ChannelError::Socket(error.to_string())))
    }
}

/// A link, and the timeout to wait on it.
#[derive(Debug)]
pub struct Talk {
    /// The link.
    pub link: Link<TcpStream>,
}

/// Connects to the first of these addresses that answers, within `timeout` for all of them.
///
/// # Errors
/// In words: what each of them said.
pub fn connect(addresses: &[SocketAddr], timeout: Duration) -> Result<(TcpStream, SocketAddr), String> {
    let (clock, mut race) = (Clock::new(), Race::new(addresses, None));
    let deadline = clock.moment() + timeout;
    loop {
        let now = clock.moment();
        match race.step(now, mio::net::TcpStream::connect) {
            RaceStatus::Won(stream, address) => return Ok((stream.into(), address)),
            RaceStatus::Lost(why) => return Err(why),
            RaceStatus::Open if now >= deadline => return Err(race.told()),
            RaceStatus::Open => {}
        }
        let until = race.next_timeout().map_or(deadline, |next| next.min(deadline));
        let left = Duration::from_micros(until.microseconds_since(now));
        let mut sockets: Vec<_> = race.streams().map(|stream| PollFd::new(stream, PollFlags::OUT)).collect();
        wait_for(&mut sockets, Instant::now() + left).map_err(|error| error.to_string())?;
    }
}

/// TLS as this device: it shows its certificate, and accepts the servers
/// alone that its stored copies stand for.
///
/// # Errors
/// When key or certificate can't be used.
pub fn tls_of(identity: &Identity) -> Result<ClientTls, ChannelError> {
    let shown = ClientIdentity { certificate: &identity.certificate, private_key: &identity.private_key };
    ClientTls::new(expected_of(identity), Some(shown))
}

/// The servers that a device accepts.
#[must_use]
pub fn expected_of(identity: &Identity) -> ExpectedServer {
    ExpectedServer::Pins { pins: identity.pins.clone(), voucher_floor: identity.voucher_floor }
}

/// The answer to a question how things stand.
#[must_use]
pub fn probed(answer: ToAgent) -> Option<Probed> {
    if let ToAgent::Probed(probed) = answer { Some(probed) } else { None }
}

impl Talk {
    /// Shakes hands with the first of these addresses at which the right server is: another one, or something
    /// that says nothing, does not keep the next from being tried.
    ///
    /// # Errors
    /// When there is none.
    pub fn with_any(
        addresses: &[SocketAddr],
        tls: &ClientTls,
        connect_timeout: Duration,
        answer_timeout: Duration,
    ) -> Result<Self, NoTalk> {
        let (mut left, mut first_failure) = (addresses.to_vec(), None);
        loop {
            let (stream, address) = match connect(&left, connect_timeout) {
                Ok(connected) => connected,
                Err(why) => return Err(first_failure.map_or(NoTalk::Unreachable(why), NoTalk::Failed)),
            };
            left.retain(|known| *known != address);
            // The last one has all the time that there is.
            let timeout =
                if left.is_empty() { answer_timeout } else { answer_timeout.min(HANDSHAKE_TIMEOUT) };
            match Self::open(stream, tls, Instant::now() + timeout) {
                Ok(talk) => return Ok(talk),
                Err(error) => first_failure.get_or_insert(error),
            };
        }
    }

    /// Shakes hands over a connected socket: when this returns, the server has proved who it is.
    ///
    /// # Errors
    /// When it is another server, the link fails or the deadline passes.
    pub fn open(stream: TcpStream, tls: &ClientTls, deadline: Instant) -> Result<Self, TalkError> {
        let made_ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        made_ready.map_err(|error| TalkError::socket(&error))?;
        let mut talk = Self { link: Link::new(stream, tls)? };
        loop {
            let has_more = talk.link.pump();
            if talk.link.is_open() {
                // Other bytes that have come stay for the first answer.
                return Ok(talk);
            }
            talk.link.next_message()?;
            if !has_more {
                talk.wait(deadline)?;
            }
        }
    }

    /// Sends a message, and returns what is `wanted` of the answer.
    ///
    /// # Errors
    /// When the link fails, the deadline passes, or this is not the answer.
    pub fn ask<T>(
        &mut self,
        message: &ToServer<'_>,
        deadline: Instant,
        wanted: fn(ToAgent) -> Option<T>,
    ) -> Result<T, TalkError> {
        let mut framed = Vec::new();
        message.write_to(&mut framed);
        self.link.send(&framed)?;
        loop {
            let has_more = self.link.pump();
            match self.link.next_message()? {
                None => {}
                Some(ToAgent::Error(report)) => return Err(TalkError::Refused(report)),
                Some(ToAgent::Later(later)) => return Err(TalkError::Later(later.seconds)),
                Some(answer) => return wanted(answer).ok_or(TalkError::Unexpected),
            }
            if !has_more {
                self.wait(deadline)?;
            }
        }
    }

    /// Says close_notify.
    pub fn close(mut self) {
        self.link.close();
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), TalkError> {
        let wanted = if self.link.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        match wait_for(&mut [PollFd::new(self.link.socket(), wanted)], deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TalkError::TimedOut),
            Err(error) => Err(TalkError::socket(&error)),
        }
    }
}
