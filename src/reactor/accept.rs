//! New links.

use std::io;

use mio::Interest;

use super::backend::Backend;
use super::channel::ServerChannel;
use super::link::{Arriving, Link, Stage};
use super::turn::Reactor;
use crate::machine::close::CloseReason;

/// Connections that are accepted in one turn, in connections, so that a storm does not keep live links waiting.
pub(super) const ACCEPTS_PER_TURN: usize = 64;

/// Links beyond the most that may begin a handshake, in links: there is room for the devices whose links are to stay, and nobody else
/// may take it, but nobody is known before.
pub const HANDSHAKES_BEYOND_MAX: u64 = 64;

/// How long accepting pauses when the system has no descriptors or memory left, in milliseconds: the connection stays in the
/// backlog, and the poll would say so again at once.
const ACCEPT_PAUSE_MILLISECONDS: u64 = 100;

impl<B: Backend> Reactor<B> {
    /// Accepts what waits, within a budget.
    pub(super) fn accept(&mut self) {
        if self.accept_again.is_some_and(|moment| moment > self.now.moment) {
            return;
        }
        self.accept_again = None;
        if !self.can_accept {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((socket, peer)) => {
                    self.counters.links_accepted.add_one();
                    self.counters.links_open.add_one();
                    if let Err(reason) = self.welcome(socket, peer) {
                        self.counters.links_open.take_one();
                        self.counters.closed(reason);
                        log::debug!("{peer}: closed: {reason}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.can_accept = false;
                    return;
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
                    log::warn!("can't accept connections for now: {error}");
                    self.accept_again = Some(self.now.moment.plus_milliseconds(ACCEPT_PAUSE_MILLISECONDS));
                    return;
                }
            }
        }
        self.counters.accept_budget_exhausted.add_one();
    }

    fn welcome(
        &mut self,
        mut socket: mio::net::TcpStream,
        peer: std::net::SocketAddr,
    ) -> Result<(), CloseReason> {
        // It may be a device whose link is to stay: who it is shows the handshake.
        if self.counters.links_open.get() > self.settings.links_max + HANDSHAKES_BEYOND_MAX {
            return Err(CloseReason::TooManyLinks);
        }
        let channel = ServerChannel::new(&self.tls).map_err(|_| CloseReason::Internal)?;
        // Small answers must not wait for more (RFC 896); without it they are only slower.
        let _ = socket.set_nodelay(true);
        let (slot, token, generation) = self.links.vacancy();
        self.poll
            .registry()
            .register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(|_| CloseReason::Internal)?;
        let deadline = self.now.moment + self.settings.handshake_deadline;
        self.links.insert(Link {
            channel,
            stage: Stage::Handshaking(Box::new(Arriving { peer, deadline })),
            pending: None,
            heard: self.now.moment,
            armed: deadline,
            socket,
            generation,
            is_adopted: false,
            is_kept: false,
            is_ready: true,
            is_blocked: false,
            is_dirty: false,
            is_ending: false,
        });
        // Its first bytes are often there already.
        self.ready.push_back(slot);
        if let Some(name) = self.links.name(slot) {
            self.timers.arm(deadline, name);
        }
        Ok(())
    }
}
