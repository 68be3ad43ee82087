//! Events per second: samples of a counter over the last ten seconds, so that a load that has ended is soon
//! seen to have ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Shared;

/// Interval of the counter's samples. Rare enough that an idle server sleeps.
const SAMPLE_SECONDS: u64 = 5;

/// Samples that are kept: the oldest is five to ten seconds old.
const SAMPLES_MAX: usize = 2;

/// Samples of a counter.
pub(super) struct Rate {
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Rate {
    pub(super) fn new(count: u64) -> Self {
        Self { samples: Mutex::new(VecDeque::from([(Instant::now(), count)])) }
    }

    fn note(&self, now: Instant, count: u64) {
        let mut samples = self.samples.lock();
        samples.push_back((now, count));
        while samples.len() > SAMPLES_MAX {
            samples.pop_front();
        }
    }

    /// The mean per second since the oldest sample; zero in the first tenth of a second, which tells nothing.
    pub(super) fn per_second(&self, now: Instant, count: u64) -> f64 {
        let Some((since, before)) = self.samples.lock().front().copied() else { return 0.0 };
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds < 0.1 {
            return 0.0;
        }
        let counted = u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX);
        let exact = f64::from(counted) / seconds;
        (exact * 1_000.0).round() / 1_000.0
    }
}

/// Samples for as long as the server lives.
pub(super) async fn sample(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(SAMPLE_SECONDS));
    loop {
        ticks.tick().await;
        shared.rate.note(Instant::now(), shared.context.gauges.events_stored());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_has_ended_is_seen_to_have_ended_within_ten_seconds() {
        let rate = Rate::new(0);
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        // A hundred a second, for a minute.
        for sample in 1..=12 {
            rate.note(at(sample * SAMPLE_SECONDS), sample * SAMPLE_SECONDS * 100);
        }
        let shown = rate.per_second(at(64), 6_400);
        assert!((99.0..=101.0).contains(&shown), "{shown}");
        for sample in 13..=14 {
            rate.note(at(sample * SAMPLE_SECONDS), 6_000);
        }
        let shown = rate.per_second(at(70), 6_000);
        assert!(shown < f64::EPSILON, "{shown} ten seconds after the end");
    }
}
