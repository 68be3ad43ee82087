//! New links.

use std::collections::VecDeque;
use std::io;

use mio::net::TcpListener;
use mio::{Interest, Registry};

use super::backend::Backend;
use super::channel::{ServerChannel, ServerTls};
use super::link::{Arriving, Link, Pending, Place, Transition};
use super::turn::{Reactor, token_of};
use crate::machine::admission::{Admission, Entry, HANDSHAKES_UNDER_WAY_MAX};
use crate::machine::close::CloseReason;
use crate::machine::device_state::LinkRef;
use crate::wire::time::{CoarseMoment, Moment};

/// Links beyond the most that may begin a handshake, in links: there is room for the devices whose links are
/// to stay, and nobody else may take it, but nobody is known before.
pub const HANDSHAKES_BEYOND_MAX: u64 = 64;

/// Time that accepting pauses when there are no descriptors, no memory or no links left: the connection stays
/// in the backlog, and nothing here hears of what ends elsewhere in the process.
const ACCEPT_PAUSE_MILLISECONDS: u64 = 100;

/// Shortest time between two warnings that connections can't be accepted. The counter goes on.
const WARN_AGAIN_SECONDS: u64 = 10;

/// New connections and their handshakes: what may begin, what is under way.
pub(super) struct Acceptor {
    listener: Option<TcpListener>,
    tls: ServerTls,
    pub(super) can_accept: bool,
    pub(super) accept_again: Option<Moment>,
    /// From when on a connection that can't be accepted is said again.
    warn_again: Option<Moment>,
    /// Since when connections have waited without a pause.
    pub(super) busy_since: Option<Moment>,
    pub(super) admission: Admission<LinkRef>,
    /// Handshakes to go on with.
    pub(super) arriving: VecDeque<usize>,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener, tls: ServerTls, interval_microseconds: u64) -> Self {
        let mut admission = Admission::new(HANDSHAKES_UNDER_WAY_MAX);
        admission.set_interval(interval_microseconds);
        Self {
            listener: Some(listener),
            tls,
            can_accept: false,
            accept_again: None,
            warn_again: None,
            busy_since: None,
            admission,
            arriving: VecDeque::new(),
        }
    }

    /// No more connections are accepted.
    pub(super) fn close(&mut self, registry: &Registry) {
        if let Some(mut listener) = self.listener.take() {
            // The socket is closed either way.
            let _ = registry.deregister(&mut listener);
        }
        self.can_accept = false;
    }

    /// The handshake of a link is to go on.
    pub(super) fn go_on(&mut self, slot: usize, link: &mut Link) {
        if !std::mem::replace(&mut link.is_ready, true) {
            self.arriving.push_back(slot);
        }
    }

    fn pause(&mut self, now: Moment) {
        self.accept_again = Some(now.plus_milliseconds(ACCEPT_PAUSE_MILLISECONDS));
    }

    fn warn(&mut self, now: Moment, error: &io::Error) {
        if self.warn_again.is_none_or(|moment| moment <= now) {
            log::warn!("can't accept connections for now, it is tried again ten times a second: {error}");
            self.warn_again = Some(now.plus_seconds(WARN_AGAIN_SECONDS));
        }
    }
}

impl<B: Backend> Reactor<B> {
    /// Accepts one connection, if one waits and its handshake may begin. Whether something was done.
    pub(super) fn accept_one(&mut self) -> bool {
        if !self.acceptor.can_accept
            || self.acceptor.accept_again.is_some_and(|moment| moment > self.now.moment)
        {
            return false;
        }
        self.acceptor.accept_again = None;
        if !self.make_way() {
            return false;
        }
        let Some(listener) = &self.acceptor.listener else { return false };
        match listener.accept() {
            Ok((socket, peer)) => {
                self.counters.links_accepted.add_one();
                self.counters.links_open.add_one();
                if let Err(reason) = self.welcome(socket, peer) {
                    self.counters.links_open.take_one();
                    self.counters.closed(reason);
                    self.counters.strangers.ended(reason, || peer.to_string());
                    log::debug!("{peer}: closed: {reason}");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.acceptor.can_accept = false;
                self.acceptor.busy_since = None;
                return false;
            }
            // The peer has gone in the meantime (accept(2)): on to the next.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: nothing to be done but wait until links have ended.
                self.counters.accept_failures.add_one();
                self.acceptor.warn(self.now.moment, &error);
                self.acceptor.pause(self.now.moment);
                return false;
            }
        }
        true
    }

    /// Whether one more handshake may begin; for that, one that does not get on may have to end.
    fn make_way(&mut self) -> bool {
        loop {
            // It may be a device whose link is to stay: who it is shows the handshake.
            let has_room = self.has_room_to_accept();
            match self.acceptor.admission.entry(self.now.moment, has_room) {
                Entry::Now => return true,
                Entry::At(_) => return false,
                // No handshake could get on while this thread did not run.
                Entry::Full(_) if self.now.moment < self.lateness.judges_from() => return false,
                Entry::Full(_) => match self.acceptor.admission.to_evict(self.now.moment) {
                    Some(link) => self.evict(link),
                    None => {
                        if !has_room {
                            self.acceptor.pause(self.now.moment);
                        }
                        return false;
                    }
                },
            }
        }
    }

    pub(super) fn has_room_to_accept(&self) -> bool {
        self.counters.links_open.get() < self.settings.links_max + self.settings.links_beyond_max
    }

    fn evict(&mut self, link: LinkRef) {
        if let Some(slot) = self.endpoint.slot_of(link) {
            self.leave(slot, CloseReason::HandshakeEvicted);
        }
    }

    fn welcome(
        &mut self,
        mut socket: mio::net::TcpStream,
        peer: std::net::SocketAddr,
    ) -> Result<(), CloseReason> {
        let channel = ServerChannel::new(&self.acceptor.tls).map_err(|_| CloseReason::Internal)?;
        // Small answers must not wait for more (RFC 896); without it they are only slower.
        let _ = socket.set_nodelay(true);
        let name = self.endpoint.vacancy().ok_or(CloseReason::TooManyLinks)?;
        let slot = name.slot() as usize;
        self.poll
            .registry()
            .register(&mut socket, token_of(slot), Interest::READABLE | Interest::WRITABLE)
            .map_err(|_| CloseReason::Internal)?;
        let deadline = self.now.moment + self.settings.handshake_deadline;
        let progress = self.acceptor.admission.begin(self.now.moment, name);
        self.counters.handshakes_under_way.add_one();
        let mut armed = CoarseMoment::NEVER;
        self.timers.bring_forward(&mut armed, deadline, self.now.moment, name.slot());
        self.endpoint.insert(Link {
            channel,
            pending: Some(Box::new(Pending {
                transition: Some(Transition::Handshaking(Arriving { peer, deadline, progress })),
                ..Pending::default()
            })),
            heard: CoarseMoment::not_before(self.now.moment),
            armed,
            socket,
            place: Place::Handshake,
            is_ready: true,
            is_blocked: false,
            is_dirty: false,
        });
        // Its first bytes are often there already.
        self.acceptor.arriving.push_back(slot);
        Ok(())
    }
}
