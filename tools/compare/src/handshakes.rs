//! Links that come and go: connect, shake hands, say hello, hear the answer, leave; a fixed number under way
//! at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde::Serialize;

use crate::failure::Failure;
use crate::link::{Link, LinkError};
use crate::measure::{Latencies, Stopwatch, Summary, Use, Window};
use crate::process::Process;
use crate::protocol::{Packing, Peer, ProtocolError, Tickets};
use crate::swarm::Swarm;

/// Time of the server to let go of the last links before its processor time is read.
const SETTLE: Duration = Duration::from_millis(300);

/// Longest time without any progress before it is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval at which the loop looks at its clock when nothing happens.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Rotation<'p> {
    swarm: Swarm<'p>,
    configs: Vec<Arc<ClientConfig>>,
    first_client: usize,
    begun: usize,
    since: Vec<u64>,
    clock: Stopwatch,
}

/// Result of them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Rotated {
    pub(crate) done: u64,
    pub(crate) resumed: u64,
    /// The server told them to come later.
    pub(crate) put_off: u64,
    /// Hung up on, or refused.
    pub(crate) failed: u64,
    /// From the first packet to the answer to the hello.
    pub(crate) took: Summary,
}

impl<'p> Rotation<'p> {
    /// `under_way` links at a time, of as many clients or more: with as many, each place has a client of its
    /// own, whose tickets it uses.
    pub(crate) fn new(
        peer: &'p dyn Peer,
        first_client: usize,
        clients: usize,
        under_way: usize,
        tickets: Tickets,
    ) -> Result<Self, Failure> {
        let configs = (first_client..first_client + clients).map(|client| peer.tls(client, tickets));
        Ok(Self {
            swarm: Swarm::new(peer)?,
            configs: configs.collect::<Result<_, _>>()?,
            first_client,
            begun: 0,
            since: vec![0; under_way],
            clock: Stopwatch::start(),
        })
    }

    fn begin(&mut self, place: usize) -> Result<(), Failure> {
        let number =
            if self.configs.len() == self.since.len() { place } else { self.begun % self.configs.len() };
        self.begun += 1;
        self.since[place] = self.clock.nanoseconds();
        let config = Arc::clone(&self.configs[number]);
        self.swarm
            .begin(place, self.first_client + number, &config, Packing::Each)
            .map_err(|error| Failure(format!("a link that was to come and go: {error}")))
    }

    /// Goes on until `count` are done, or somebody says stop.
    pub(crate) fn run(&mut self, count: u64, stop: &AtomicBool) -> Result<Rotated, Failure> {
        let mut took = Latencies::new()?;
        let (mut done, mut resumed, mut put_off, mut failed) = (0, 0, 0, 0);
        for place in 0..self.since.len() {
            self.begin(place)?;
        }
        let mut progress = Instant::now();
        while done < count && !stop.load(Ordering::Relaxed) {
            self.swarm.wait(LOOK)?;
            for index in 0..self.swarm.ready.len() {
                let place = self.swarm.ready[index];
                match self.swarm.pump(place) {
                    Ok(_) if self.swarm.link(place).is_some_and(Link::is_ready) => {
                        done += 1;
                        resumed += u64::from(self.swarm.link(place).is_some_and(Link::is_resumed));
                        took.record(self.clock.nanoseconds() - self.since[place], 1);
                        self.swarm.close(place);
                    }
                    Ok(_) => continue,
                    Err(LinkError::Protocol(ProtocolError::PutOff { .. })) => put_off += 1,
                    Err(LinkError::Closed(_) | LinkError::Socket(..)) => failed += 1,
                    Err(error @ (LinkError::Protocol(_) | LinkError::Tls(..))) => {
                        return Err(Failure(format!("a link that came and went: {error}")));
                    }
                }
                progress = Instant::now();
                if done < count {
                    self.begin(place)?;
                }
            }
            if progress.elapsed() > STALL_TIMEOUT {
                return Err(Failure(format!("no handshake was done for {STALL_TIMEOUT:?}, {done} before")));
            }
        }
        self.swarm.close_all();
        Ok(Rotated { done, resumed, put_off, failed, took: took.summary() })
    }
}

/// Cost of handshakes to the server.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct HandshakeCost {
    #[serde(flatten)]
    pub(crate) rotated: Rotated,
    #[serde(flatten)]
    pub(crate) used: Use,
}

/// Measures `count` handshakes, `under_way` at a time, accept, hello and close_notify included.
pub(crate) fn measure(
    peer: &dyn Peer,
    server: &Process,
    tickets: Tickets,
    count: u64,
    under_way: usize,
) -> Result<HandshakeCost, Failure> {
    let never = AtomicBool::new(false);
    let mut rotation = Rotation::new(peer, 0, under_way, under_way, tickets)?;
    // Warms up, and brings the first tickets.
    rotation.run(count / 10, &never)?;
    std::thread::sleep(SETTLE);
    let window = Window::open(server)?;
    let rotated = rotation.run(count, &never)?;
    std::thread::sleep(SETTLE);
    let used = window.close(rotated.done)?;
    Ok(HandshakeCost { rotated, used })
}
