//! The UDP port: one thread that owns the socket and waits for datagrams, messages and time.
//!
//! The meaning of a datagram is its owner's to say ([`PortOwner`]). Each turn is the same sequence: wait;
//! hear datagrams, within a budget; empty the mailbox; send what the owner wants sent. A flood of datagrams
//! costs this thread alone: no link waits for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use super::{Clock, udp};
use crate::concurrency::calls::ToWakeScheduler;
use crate::concurrency::counters::Counters;
use crate::concurrency::mailbox::Mailbox;
use crate::machine::lateness::Lateness;
use crate::wire::datagram::DATAGRAM_BYTES_MAX;
use crate::wire::time::{Moment, Now};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// Datagrams that are heard in one turn, so that messages and timers have their turn in a flood.
const DATAGRAMS_PER_TURN: usize = 128;

/// Datagrams that are sent in one turn, in datagrams.
const SENDS_PER_TURN: usize = 256;

/// Messages of reactors that may wait. One that finds no room is a step of a call, which then ends by its own
/// deadline, or a probe, which counts as lost.
const DEVICE_MESSAGES_MAX: usize = 65_536;

/// Messages of administrators and of the server itself that may wait, however many of the others there are. A
/// call that finds no room is answered with that.
const ADMINISTRATION_MESSAGES_MAX: usize = 1_024;

/// Longest time after a pause of the process in which nothing is judged: links are read and answer within
/// one.
const GRACE_SECONDS_MAX: u64 = 2;

/// A datagram on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its destination.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Gives datagrams and messages their meaning.
pub trait PortOwner: Send + 'static {
    /// A datagram has come. It is never answered.
    fn hear(&mut self, now: &Now, bytes: &[u8], from: SocketAddr);

    /// A message has come. `false`: it was the last one.
    fn read(&mut self, now: &Now, message: ToWakeScheduler) -> bool;

    /// Returns the next datagram to send; everything else that is due is done on the way.
    fn poll(&mut self, now: &Now) -> Option<Outgoing>;

    /// When to poll again by itself.
    fn next_timeout(&self) -> Option<Moment>;

    /// The thread did not run for a while: what is due is not judged before `moment`, so that what has come
    /// meanwhile is heard first.
    fn judge_from(&mut self, moment: Moment);
}

/// The UDP port and its thread's loop.
pub struct Port {
    poll: Poll,
    socket: UdpSocket,
    mailbox_of_devices: Mailbox<ToWakeScheduler>,
    mailbox_of_administration: Mailbox<ToWakeScheduler>,
    clock: Clock,
    counters: Arc<Counters>,
}

impl Port {
    /// Opens the port.
    ///
    /// # Errors
    /// When the address can't be had, or the system gives no poll.
    pub fn open(address: SocketAddr, clock: Clock, counters: Arc<Counters>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut socket = udp::bind(address)?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mailbox = |capacity| {
            let waker = Arc::clone(&waker);
            Mailbox::new(capacity, move || {
                if let Err(error) = waker.wake() {
                    log::error!("the notifier of the UDP port failed: {error}");
                }
            })
        };
        let mailbox_of_devices = mailbox(DEVICE_MESSAGES_MAX);
        let mailbox_of_administration = mailbox(ADMINISTRATION_MESSAGES_MAX);
        Ok(Self { poll, socket, mailbox_of_devices, mailbox_of_administration, clock, counters })
    }

    /// Its address; with port 0 asked for, the port that the system gave.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The mailbox for what devices bring about.
    #[must_use]
    pub fn mailbox_of_devices(&self) -> Mailbox<ToWakeScheduler> {
        self.mailbox_of_devices.clone()
    }

    /// The mailbox for calls and the end: read first, and never filled by devices.
    #[must_use]
    pub fn mailbox_of_administration(&self) -> Mailbox<ToWakeScheduler> {
        self.mailbox_of_administration.clone()
    }

    /// Turns until the last message.
    ///
    /// # Errors
    /// When the poll fails, which it does not on a healthy system.
    pub fn run(mut self, mut owner: impl PortOwner) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        let mut messages = Vec::new();
        let mut has_more = true;
        let mut lateness = Lateness::new(GRACE_SECONDS_MAX);
        let mut now = self.clock.now();
        loop {
            let (began, waits_from) = (now.moment, self.clock.moment());
            let timeout = if has_more { Some(Duration::ZERO) } else { timeout(&owner, waits_from) };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            now = self.clock.now();
            let until = timeout.map(|timeout| waits_from + timeout);
            if lateness.turn(began, waits_from, until, now.moment).is_some() {
                owner.judge_from(lateness.judges_from());
            }
            // The readiness is edge-triggered: what is left over by a budget is asked for without waiting.
            has_more = self.hear(&now, &mut owner);
            self.mailbox_of_administration.take_all(&mut messages);
            self.mailbox_of_devices.take_all(&mut messages);
            for message in messages.drain(..) {
                if !owner.read(&now, message) {
                    return Ok(());
                }
            }
            has_more |= self.send(&now, &mut owner);
        }
    }

    /// Hears what waits, within the budget. Whether there may be more.
    fn hear(&mut self, now: &Now, owner: &mut impl PortOwner) -> bool {
        // One byte more than any datagram has: a longer one is cut, and recognised by its length.
        let mut bytes = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.socket.recv_from(&mut bytes) {
                Ok((length, from)) => {
                    self.counters.datagrams_received.add_one();
                    owner.hear(now, &bytes[..length], from);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP message about a datagram of ours (udp(7)): its path is mended or not, the next is
                // tried all the same.
                Err(error) => log::debug!("the UDP port: {error}"),
            }
        }
        true
    }

    /// Sends the datagrams that are due, within the budget. Whether there may be more.
    fn send(&mut self, now: &Now, owner: &mut impl PortOwner) -> bool {
        for _ in 0..SENDS_PER_TURN {
            let Some(Outgoing { to, bytes }) = owner.poll(now) else { return false };
            match udp::send(&self.socket, &bytes, to) {
                Ok(()) => self.counters.datagrams_sent.add_one(),
                // It counts as lost: what matters is sent again.
                Err(error) => log::debug!("no datagram to {to}: {error}"),
            }
        }
        true
    }
}

fn timeout(owner: &impl PortOwner, now: Moment) -> Option<Duration> {
    // One more microsecond: a deadline that is polled for too early would be polled for again.
    owner.next_timeout().map(|at| Duration::from_micros(at.microseconds_since(now) + 1))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Takes one message, and ends with it.
    struct First(std::sync::mpsc::Sender<ToWakeScheduler>);

    impl PortOwner for First {
        fn hear(&mut self, _: &Now, _: &[u8], _: SocketAddr) {}

        fn read(&mut self, _: &Now, message: ToWakeScheduler) -> bool {
            self.0.send(message).unwrap();
            false
        }

        fn poll(&mut self, _: &Now) -> Option<Outgoing> {
            None
        }

        fn next_timeout(&self) -> Option<Moment> {
            None
        }

        fn judge_from(&mut self, _: Moment) {}
    }

    #[test]
    fn whatever_devices_bring_about_a_call_finds_room_and_is_read_first() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = Port::open(address, Clock::new(), Counters::new()).unwrap();
        let (devices, administration) = (port.mailbox_of_devices(), port.mailbox_of_administration());
        let of_device = || ToWakeScheduler::RefusedAt(address.ip());
        let waiting = std::iter::repeat_with(|| devices.send(of_device())).take_while(Result::is_ok).count();
        assert_eq!(waiting, DEVICE_MESSAGES_MAX);
        assert!(administration.send(ToWakeScheduler::Cancel(7)).is_ok());
        let (tell, told) = std::sync::mpsc::channel();
        port.run(First(tell)).unwrap();
        let first = told.recv().unwrap();
        assert!(matches!(first, ToWakeScheduler::Cancel(7)), "{first:?}");
    }
}
