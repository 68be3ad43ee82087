//! The open loop: messages leave when they are due, whatever has become of those before, and latency counts
//! from when they were due (no coordinated omission).

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;
use crate::link::Records;
use crate::measure::{Latencies, Stopwatch, Summary, Use, Window, nanoseconds};
use crate::process::Process;
use crate::swarm::Swarm;

/// Interval at which the loop looks at its clock when nothing is due.
const LOOK: Duration = Duration::from_millis(5);

/// One open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenLoop {
    /// Messages a second, over all links.
    pub(crate) per_second: u64,
    /// For so long.
    pub(crate) lasts: Duration,
    /// Time that a message may still take that was not acknowledged in time. A message that does not come
    /// then is given up.
    pub(crate) timeout: Duration,
}

/// Result of an open loop.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Pace {
    pub(crate) links: usize,
    pub(crate) scheduled: u64,
    /// Acknowledged before the loop's time was over.
    pub(crate) in_time: u64,
    /// As a share of what was due.
    pub(crate) rate_kept: f64,
    /// Not acknowledged within the timeout either.
    pub(crate) given_up: u64,
    /// From when a message was due until it was acknowledged, or given up.
    pub(crate) ack: Summary,
    /// From when it was due until the client sent it: the client's own part in it.
    pub(crate) client_lateness: Summary,
    #[serde(flatten)]
    pub(crate) used: Use,
}

impl OpenLoop {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn run(&self, swarm: &mut Swarm<'_>, server: &Process) -> Result<Pace, Failure> {
        let lasts = nanoseconds(self.lasts);
        let total = self.per_second * lasts / 1_000_000_000;
        let due_at = |number: u64| number * 1_000_000_000 / self.per_second;
        let places = swarm.len() as u64;
        let mut due: Vec<VecDeque<u64>> = vec![VecDeque::new(); swarm.len()];
        let (mut latencies, mut lateness) = (Latencies::new()?, Latencies::new()?);
        let (mut next, mut back) = (0_u64, 0_u64);
        let mut in_time = None;
        let clock = Stopwatch::start();
        let window = Window::open(server)?;
        loop {
            let now = clock.nanoseconds();
            if now >= lasts && in_time.is_none() {
                in_time = Some((back, window.close(back)?));
            }
            if (in_time.is_some() && back >= total) || now >= lasts + nanoseconds(self.timeout) {
                break;
            }
            let reached = total.min(now * self.per_second / 1_000_000_000 + 1);
            // Messages go round the links; those of one link that are due leave as one write.
            for offset in 0..places.min(reached - next) {
                let number = next + offset;
                let place = usize::try_from(number % places).map_err(Failure::when("find a link"))?;
                let mut count = 0;
                for number in (number..reached).step_by(swarm.len()) {
                    due[place].push_back(due_at(number));
                    lateness.record(now.saturating_sub(due_at(number)), 1);
                    count += 1;
                }
                swarm.send(place, count, Records::Few)?;
            }
            next = reached;
            let until_next = match next < total {
                true => Duration::from_nanos(due_at(next).saturating_sub(clock.nanoseconds())).min(LOOK),
                false => LOOK,
            };
            swarm.wait_exactly(until_next)?;
            for index in 0..swarm.ready.len() {
                let place = swarm.ready[index];
                let acks = swarm.pump_or_fail(place)?.acks;
                let now = clock.nanoseconds();
                for _ in 0..acks {
                    let due = due[place]
                        .pop_front()
                        .ok_or_else(|| Failure("more messages were acknowledged than were sent".into()))?;
                    latencies.record(now.saturating_sub(due), 1);
                }
                back += acks;
            }
        }
        // A message that was given up has waited at least this long.
        let now = clock.nanoseconds();
        due.iter().flatten().for_each(|due| latencies.record(now.saturating_sub(*due), 1));
        let (in_time, used) = in_time.ok_or_else(|| Failure("the loop ended before its time".into()))?;
        Ok(Pace {
            links: swarm.len(),
            scheduled: total,
            in_time,
            rate_kept: in_time as f64 / total.max(1) as f64,
            given_up: total - back,
            ack: latencies.summary(),
            client_lateness: lateness.summary(),
            used,
        })
    }
}
