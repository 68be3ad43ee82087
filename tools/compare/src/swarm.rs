//! Many links on one poll, in one thread.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustls::ClientConfig;

use crate::failure::Failure;
use crate::link::{Link, LinkError, Records, Shared};
use crate::protocol::{Heard, Packing, Peer, ProtocolError, Tickets};

/// Readiness that one poll brings.
const EVENTS_PER_POLL: usize = 2048;

/// Links that connect at a time: few, so that no server's backlog overflows (mosquitto's holds 100).
const CONNECTING_MAX: usize = 64;

/// Time of all links to connect, for each of them.
const CONNECT_TIMEOUT_PER_LINK: Duration = Duration::from_millis(20);

/// And at least.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_secs(20);

/// Pause of a link that was turned away before it tries again. Real agents wait longer; a load is to begin.
const TURNED_AWAY_PAUSE: Duration = Duration::from_millis(100);

/// The links of one thread, by their place.
pub(crate) struct Swarm<'p> {
    peer: &'p dyn Peer,
    poll: Poll,
    events: Events,
    links: Vec<Option<Link>>,
    shared: Shared,
    /// Places whose links have something to say, as the last wait found them.
    pub(crate) ready: Vec<usize>,
}

impl<'p> Swarm<'p> {
    /// Without a link.
    pub(crate) fn new(peer: &'p dyn Peer) -> Result<Self, Failure> {
        Ok(Self {
            peer,
            poll: Poll::new().map_err(Failure::when("make a poll"))?,
            events: Events::with_capacity(EVENTS_PER_POLL),
            links: Vec::new(),
            shared: Shared::default(),
            ready: Vec::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn link(&self, place: usize) -> Option<&Link> {
        self.links.get(place)?.as_ref()
    }

    /// Begins a link in a place, which must be free.
    pub(crate) fn begin(
        &mut self,
        place: usize,
        client: usize,
        config: &Arc<ClientConfig>,
        packing: Packing,
    ) -> Result<(), LinkError> {
        let mut link = Link::begin(self.peer, client, config, packing)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(link.socket(), Token(place), interest)
            .map_err(|error| LinkError::Socket("connecting", error))?;
        if self.links.len() <= place {
            self.links.resize_with(place + 1, || None);
        }
        self.links[place] = Some(link);
        Ok(())
    }

    /// Connects clients with numbers from `first` on, a link for each, in the places that follow, and waits
    /// until all are ready. One that the server turns away, because it admits no more at a time, tries again.
    pub(crate) fn connect(&mut self, first: usize, count: usize, packing: Packing) -> Result<(), Failure> {
        let for_each = CONNECT_TIMEOUT_PER_LINK * u32::try_from(count).unwrap_or(u32::MAX);
        let timeout = CONNECT_TIMEOUT_MIN.max(for_each);
        let deadline = Instant::now() + timeout;
        let base = self.links.len();
        let mut waiting: VecDeque<usize> = (0..count).collect();
        let mut turned_away: VecDeque<(Instant, usize)> = VecDeque::new();
        let (mut under_way, mut done) = (0, 0);
        while done < count {
            let now = Instant::now();
            if now > deadline {
                return Err(Failure(format!("only {done} of {count} links were ready after {timeout:?}")));
            }
            while let Some((_, number)) = turned_away.pop_front_if(|(until, _)| *until <= now) {
                waiting.push_back(number);
            }
            while under_way < CONNECTING_MAX
                && let Some(number) = waiting.pop_front()
            {
                let config = self.peer.tls(first + number, Tickets::None)?;
                self.begin(base + number, first + number, &config, packing)
                    .map_err(|error| Failure(format!("link {number}: {error}")))?;
                under_way += 1;
            }
            self.wait(TURNED_AWAY_PAUSE)?;
            for index in 0..self.ready.len() {
                let place = self.ready[index];
                let was_ready = self.link(place).is_some_and(Link::is_ready);
                match self.pump(place) {
                    Ok(heard) if heard.is_ready => {
                        under_way -= 1;
                        done += 1;
                    }
                    Ok(_) => {}
                    Err(LinkError::Protocol(ProtocolError::PutOff { .. }) | LinkError::Closed(_))
                        if !was_ready =>
                    {
                        under_way -= 1;
                        turned_away.push_back((Instant::now() + TURNED_AWAY_PAUSE, place - base));
                    }
                    Err(error) => return Err(Failure(format!("link {place}: {error}"))),
                }
            }
        }
        Ok(())
    }

    /// Waits for something to happen, to the microsecond: the poll itself counts in milliseconds, and rounds
    /// up.
    pub(crate) fn wait_exactly(&mut self, timeout: Duration) -> Result<(), Failure> {
        if !timeout.is_zero() {
            let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            let registry = self.poll.registry();
            let mut waiting = [PollFd::from_borrowed_fd(registry.as_fd(), PollFlags::IN)];
            match rustix::event::poll(&mut waiting, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure(format!("can't wait: {error}"))),
            }
        }
        self.wait(Duration::ZERO)
    }

    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.ready.clear();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Failure(format!("can't poll: {error}"))),
        }
        self.ready.extend(self.events.iter().map(|event| event.token().0));
        Ok(())
    }

    /// Does what is due on a link. A link that ended leaves its place.
    pub(crate) fn pump(&mut self, place: usize) -> Result<Heard, LinkError> {
        let Some(Some(link)) = self.links.get_mut(place) else { return Ok(Heard::default()) };
        let heard = link.pump(&mut self.shared);
        if heard.is_err() {
            self.links[place] = None;
        }
        heard
    }

    /// The same, where no link may end.
    pub(crate) fn pump_or_fail(&mut self, place: usize) -> Result<Heard, Failure> {
        self.pump(place).map_err(|error| Failure(format!("link {place}: {error}")))
    }

    pub(crate) fn send(&mut self, place: usize, count: usize, records: Records) -> Result<(), Failure> {
        let Some(Some(link)) = self.links.get_mut(place) else {
            return Err(Failure(format!("link {place} is gone")));
        };
        link.send(count, records, &mut self.shared).map_err(|error| Failure(format!("link {place}: {error}")))
    }

    pub(crate) fn close(&mut self, place: usize) {
        if let Some(link) = self.links.get_mut(place).and_then(Option::take) {
            link.close(&mut self.shared);
        }
    }

    pub(crate) fn close_all(&mut self) {
        (0..self.links.len()).for_each(|place| self.close(place));
        self.links.clear();
    }
}
