//! When to try again.

use crate::machine::random::Random;
use crate::wire::limits::{RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN};
use crate::wire::time::Moment;

/// First window, in milliseconds; it doubles with every failure.
const WINDOW_MILLISECONDS_FIRST: u64 = 1_000;

/// Failures after which the window does not grow any more, in failures: 2^20 seconds are beyond every cap.
const DOUBLINGS_MAX: u32 = 20;

/// Draws a delay from zero to the window, *after* the window was capped: a fleet that lost its server together comes back spread over the
/// whole of it, and not in a crowd at its end.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failed(&mut self, now: Moment, interval_seconds: u32, random: &mut Random) -> Moment {
        let cap = u64::from(interval_seconds).clamp(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX) * 1_000;
        let window = (WINDOW_MILLISECONDS_FIRST << self.failures).min(cap);
        self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
        now.plus_milliseconds(random.up_to(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_spread_over_the_whole_window_and_the_window_is_capped() {
        let mut random = Random::new(1);
        let mut backoff = Backoff::default();
        let first = (0..100).map(|_| Backoff::default().failed(Moment(0), 900, &mut random).0).max();
        assert!(first.is_some_and(|first| first <= 1_000_000));
        let delays: Vec<_> = (0..1_000).map(|_| backoff.failed(Moment(0), 60, &mut random).0).collect();
        assert!(delays.iter().all(|delay| *delay <= 60_000_000));
        let early = delays.iter().filter(|delay| **delay < 30_000_000).count();
        assert!((400..600).contains(&early), "{early} of 1,000 in the first half");
    }
}
