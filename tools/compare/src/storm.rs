//! A storm of full handshakes beside live links: publishers at a steady rate, first in quiet, then while
//! others arrive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::handshakes::{Rotated, Rotation};
use crate::open::{OpenLoop, Pace};
use crate::process::Process;
use crate::protocol::{Packing, Peer, Tickets};
use crate::swarm::Swarm;

/// Time for which the storm blows before the publishers begin to count.
const STORM_AHEAD: Duration = Duration::from_millis(500);

/// The publishers and the storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    pub(crate) publishers: usize,
    pub(crate) per_second: u64,
    pub(crate) quiet: Duration,
    pub(crate) storm: Duration,
    /// Time for which acknowledgements may come late.
    pub(crate) timeout: Duration,
    /// Handshakes under way at a time.
    pub(crate) arriving: usize,
    /// Clients that take turns in it: numbers from `publishers` on.
    pub(crate) clients: usize,
}

/// Observations of the publishers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Weather {
    pub(crate) quiet: Pace,
    pub(crate) storm: Pace,
    pub(crate) handshakes: Rotated,
    pub(crate) handshakes_per_second: f64,
    pub(crate) sent: u64,
}

impl Storm {
    /// Runs both. The storm has a thread of its own: its work is not the publishers'.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn run(&self, peer: &dyn Peer, server: &Process) -> Result<Weather, Failure> {
        let mut swarm = Swarm::new(peer)?;
        swarm.connect(0, self.publishers, Packing::Each)?;
        let pace = |lasts| OpenLoop { per_second: self.per_second, lasts, timeout: self.timeout };
        let quiet = pace(self.quiet).run(&mut swarm, server)?;
        let mut rotation = Rotation::new(peer, self.publishers, self.clients, self.arriving, Tickets::None)?;
        let stop = AtomicBool::new(false);
        let begun = std::time::Instant::now();
        let (storm, handshakes, seconds) = std::thread::scope(|scope| {
            let thread =
                scope.spawn(|| rotation.run(u64::MAX, &stop).map(|rotated| (rotated, begun.elapsed())));
            std::thread::sleep(STORM_AHEAD);
            let storm = pace(self.storm).run(&mut swarm, server);
            stop.store(true, Ordering::Relaxed);
            match thread.join() {
                Ok(rotated) => rotated.and_then(|(rotated, took)| Ok((storm?, rotated, took.as_secs_f64()))),
                Err(_) => Err(Failure("the storm's thread panicked".into())),
            }
        })?;
        swarm.close_all();
        let sent = quiet.scheduled + storm.scheduled;
        let handshakes_per_second = handshakes.done as f64 / seconds;
        Ok(Weather { quiet, storm, handshakes, handshakes_per_second, sent })
    }
}
