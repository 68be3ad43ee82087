//! Result of a load: latencies, and processor time of both ends.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::Failure;
use crate::process::Process;

/// Longest latency that is told apart: two minutes.
const LATENCY_NANOSECONDS_MAX: u64 = 120_000_000_000;

/// Digits that a latency is kept to.
const LATENCY_DIGITS: u8 = 3;

/// The client counts as the bottleneck when it is busy for this share of a core or more.
const CLIENT_BOUND_SHARE: f64 = 0.9;

/// A histogram of durations.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self, Failure> {
        Histogram::new_with_bounds(1, LATENCY_NANOSECONDS_MAX, LATENCY_DIGITS)
            .map(Self)
            .map_err(Failure::when("make a histogram"))
    }

    /// Takes in the same value `count` times.
    pub(crate) fn record(&mut self, nanoseconds: u64, count: u64) {
        self.0.saturating_record_n(nanoseconds.max(1), count);
    }

    /// In microseconds.
    pub(crate) fn summary(&self) -> Summary {
        let at = |quantile| microseconds(self.0.value_at_quantile(quantile));
        Summary {
            count: self.0.len(),
            p50_microseconds: at(0.5),
            p99_microseconds: at(0.99),
            p999_microseconds: at(0.999),
            max_microseconds: microseconds(self.0.max()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "durations below two minutes")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

/// Durations, summed up.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50_microseconds: f64,
    pub(crate) p99_microseconds: f64,
    pub(crate) p999_microseconds: f64,
    pub(crate) max_microseconds: f64,
}

/// A clock that counts nanoseconds from its start.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn nanoseconds(self) -> u64 {
        nanoseconds(self.0.elapsed())
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A stretch of time over which processor time is counted.
pub(crate) struct Window {
    server: Process,
    begun: Instant,
    server_before: u64,
    client_before: u64,
}

impl Window {
    pub(crate) fn open(server: &Process) -> Result<Self, Failure> {
        Ok(Self {
            server: server.clone(),
            server_before: server.cpu_nanoseconds()?,
            client_before: Process::thread_cpu_nanoseconds()?,
            begun: Instant::now(),
        })
    }

    /// Ends; `count` is what was done meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds far below 2^52")]
    pub(crate) fn close(&self, count: u64) -> Result<Use, Failure> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let server = self.server.cpu_nanoseconds()?.saturating_sub(self.server_before) as f64;
        let client = Process::thread_cpu_nanoseconds()?.saturating_sub(self.client_before) as f64;
        let each = |nanoseconds: f64| nanoseconds / 1_000.0 / (count.max(1) as f64);
        Ok(Use {
            seconds,
            count,
            per_second: count as f64 / seconds,
            server_microseconds_each: each(server),
            client_microseconds_each: each(client),
            server_cores: server / 1e9 / seconds,
            client_cores: client / 1e9 / seconds,
            is_client_bound: client / 1e9 / seconds >= CLIENT_BOUND_SHARE,
        })
    }
}

/// Work done in a window, and the processor time that it took.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Use {
    pub(crate) seconds: f64,
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) server_microseconds_each: f64,
    pub(crate) client_microseconds_each: f64,
    pub(crate) server_cores: f64,
    pub(crate) client_cores: f64,
    pub(crate) is_client_bound: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_in_microseconds() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(1_000, 99);
        latencies.record(2_000_000, 1);
        let summary = latencies.summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50_microseconds - 1.0).abs() < 0.01, "{summary:?}");
        assert!((summary.max_microseconds - 2_000.0).abs() < 2.0, "{summary:?}");
    }
}
