//! The closed loop: every link keeps a number of messages in flight; the answers of one turn are sent again
//! as one write.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::link::Records;
use crate::measure::{Latencies, Stopwatch, Summary, Use, Window, nanoseconds};
use crate::process::Process;
use crate::swarm::Swarm;

/// Longest time until the messages in flight at the end come back.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Interval at which the loop looks at its clock when nothing happens.
const LOOK: Duration = Duration::from_millis(50);

/// One closed loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedLoop {
    pub(crate) in_flight: usize,
    /// Records into which messages that leave together are cut.
    pub(crate) records: Records,
    /// Time at the start that is not counted.
    pub(crate) warm_up: Duration,
    /// Time that is.
    pub(crate) measured: Duration,
}

/// Result of a closed loop.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) links: usize,
    pub(crate) in_flight: usize,
    #[serde(flatten)]
    pub(crate) used: Use,
    pub(crate) ack: Summary,
    /// All that was sent and acknowledged, warm-up and end included.
    pub(crate) sent: u64,
}

/// Messages of one link that are on their way: when they left, and how many.
#[derive(Default)]
struct InFlight(VecDeque<(u64, u64)>);

impl InFlight {
    fn left(&mut self, at: u64, count: u64) {
        self.0.push_back((at, count));
    }

    /// `count` messages came back, oldest first; `note` is told how long and how many.
    fn returned(&mut self, now: u64, mut count: u64, mut note: impl FnMut(u64, u64)) -> Result<(), Failure> {
        while count > 0 {
            let Some((at, waiting)) = self.0.front_mut() else {
                return Err(Failure("more messages were acknowledged than were sent".into()));
            };
            let some = count.min(*waiting);
            note(now.saturating_sub(*at), some);
            count -= some;
            *waiting -= some;
            if *waiting == 0 {
                self.0.pop_front();
            }
        }
        Ok(())
    }
}

impl ClosedLoop {
    pub(crate) fn run(&self, swarm: &mut Swarm<'_>, server: &Process) -> Result<Throughput, Failure> {
        let clock = Stopwatch::start();
        let opens = nanoseconds(self.warm_up);
        let closes = opens + nanoseconds(self.measured);
        let gives_up = closes + nanoseconds(DRAIN_TIMEOUT);
        let mut latencies = Latencies::new()?;
        let mut links: Vec<InFlight> = (0..swarm.len()).map(|_| InFlight::default()).collect();
        let (mut sent, mut back, mut counted) = (0_u64, 0_u64, 0_u64);
        for (place, link) in links.iter_mut().enumerate() {
            link.left(clock.nanoseconds(), self.in_flight as u64);
            swarm.send(place, self.in_flight, self.records)?;
            sent += self.in_flight as u64;
        }
        let mut window = None;
        let mut used = None;
        while used.is_none() || back < sent {
            swarm.wait(LOOK)?;
            let turn = clock.nanoseconds();
            if window.is_none() && turn >= opens {
                window = Some(Window::open(server)?);
            }
            if used.is_none()
                && turn >= closes
                && let Some(window) = &window
            {
                used = Some(window.close(counted)?);
            }
            if turn > gives_up {
                return Err(Failure(format!("{} messages were not acknowledged", sent - back)));
            }
            for index in 0..swarm.ready.len() {
                let place = swarm.ready[index];
                let acks = swarm.pump_or_fail(place)?.acks;
                if acks == 0 {
                    continue;
                }
                let now = clock.nanoseconds();
                back += acks;
                let is_counted = window.is_some() && used.is_none();
                if is_counted {
                    counted += acks;
                }
                links[place].returned(now, acks, |latency, count| {
                    if is_counted {
                        latencies.record(latency, count);
                    }
                })?;
                if used.is_none() {
                    links[place].left(now, acks);
                    sent += acks;
                    let count = usize::try_from(acks).map_err(Failure::when("count messages"))?;
                    swarm.send(place, count, self.records)?;
                }
            }
        }
        let used = used.ok_or_else(|| Failure("the loop ended before its time".into()))?;
        let ack = latencies.summary();
        Ok(Throughput { links: swarm.len(), in_flight: self.in_flight, used, ack, sent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_the_oldest() {
        let mut link = InFlight::default();
        link.left(100, 2);
        link.left(200, 2);
        let mut noted = Vec::new();
        link.returned(300, 3, |latency, count| noted.push((latency, count))).unwrap();
        assert_eq!(noted, [(200, 2), (100, 1)]);
        assert!(link.returned(300, 2, |_, _| {}).is_err(), "one was left");
    }
}
