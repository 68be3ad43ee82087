//! Work done, and its cost, between two moments.

use std::time::{Duration, Instant};

use super::stage::{Stage, float};
use crate::engine::counters::Counts;
use crate::engine::measures::Measures;
use crate::failure::Failure;

/// From here on a thread counts as busy all the time, in percent of one core.
const BUSY_PERCENT: f64 = 90.0;

/// Time for which a load goes on before it counts: buffers grow, a first segment is made.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);

/// Lets a load go on for a while: the work done and the durations timed in it.
pub(super) fn measure(
    stage: &mut Stage,
    what: &str,
    when: &str,
    time: Duration,
) -> Result<(Spent, Measures), Failure> {
    stage.pass(&format!("warming up{when}"), WARM_UP)?;
    stage.take()?;
    let interval = Interval::begin(stage);
    stage.pass(&format!("{what}{when}"), time)?;
    Ok((interval.end(stage), stage.take()?))
}

/// The beginning.
pub(crate) struct Interval {
    begun: Instant,
    counts: Counts,
    server_cpu: Option<u64>,
    client_cpu: u64,
}

/// Work in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    pub(crate) counts: Counts,
    /// Processor time of the server, in microseconds.
    pub(crate) server_cpu: Option<f64>,
    /// Processor time of the simulated devices, in microseconds.
    pub(crate) client_cpu: f64,
}

impl Interval {
    /// From now on.
    pub(crate) fn begin(stage: &mut Stage) -> Self {
        let client_cpu = stage.client_cpu();
        let server_cpu = stage.watch.cpu();
        Self { begun: Instant::now(), counts: stage.workers.counts(), server_cpu, client_cpu }
    }

    /// Until now.
    pub(crate) fn end(&self, stage: &mut Stage) -> Spent {
        let (counts, seconds) = (stage.workers.counts(), self.begun.elapsed().as_secs_f64());
        let server_cpu = self.server_cpu.zip(stage.watch.cpu());
        Spent {
            seconds,
            counts: counts.since(&self.counts),
            server_cpu: server_cpu.map(|(before, after)| float(after.saturating_sub(before))),
            client_cpu: float(stage.client_cpu().saturating_sub(self.client_cpu)),
        }
    }
}

impl Spent {
    /// Rate a second.
    pub(crate) fn rate(&self, count: u64) -> f64 {
        float(count) / self.seconds.max(1e-9)
    }

    /// Cost of one of `count` to the server, in microseconds; nothing when there were none.
    pub(crate) fn server_each(&self, count: u64) -> Option<f64> {
        self.server_cpu.filter(|_| count > 0).map(|cpu| cpu / float(count))
    }

    /// The same for the devices.
    pub(crate) fn client_each(&self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.client_cpu / float(count))
    }

    /// Load of both sides, of one core each.
    pub(crate) fn report_shares(&self, stage: &mut Stage, prefix: &str, group: &str) {
        let percent = |microseconds: f64| 100.0 * microseconds / 1e6 / self.seconds.max(1e-9);
        let server = self.server_cpu.map(percent);
        let name = format!("{prefix}server_cpu_percent");
        stage.figure(&name, &format!("{group}: the server's, of one core"), server);
        let client = percent(self.client_cpu);
        // Of a single thread: with several it is hard to say which one had no time left.
        if stage.engines == 1 && stage.visitors.is_none() && client > BUSY_PERCENT {
            stage.note("The thread that simulates the devices had hardly a moment to spare: the server may do more than this. --threads 2 gives them another, where there is a core for it.");
        }
        let name = format!("{prefix}client_cpu_percent");
        stage.figure(&name, &format!("{group}: the devices', of one core"), client);
    }
}
