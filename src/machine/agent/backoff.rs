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
///
/// Nor is the window ever smaller than the one that the server announced: whoever has 100,000 devices can't take them all within the
/// first second, and how often each of them has failed by the time it is back says nothing of that.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    announced_milliseconds: u64,
}

impl Backoff {
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The server has said over how many seconds its devices are to spread.
    pub(super) fn announced(&mut self, seconds: Option<u32>) {
        self.announced_milliseconds = u64::from(seconds.unwrap_or(0)) * 1_000;
    }

    pub(super) fn failed(&mut self, now: Moment, interval_seconds: u32, random: &mut Random) -> Moment {
        let cap = u64::from(interval_seconds).clamp(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX) * 1_000;
        let window = (WINDOW_MILLISECONDS_FIRST << self.failures).max(self.announced_milliseconds).min(cap);
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

    #[test]
    fn a_large_fleet_spreads_from_the_first_attempt_on_and_no_server_keeps_it_away() {
        let mut random = Random::new(2);
        let mut first = |announced: Option<u32>, interval_seconds| {
            let mut delays: Vec<_> = (0..1_000)
                .map(|_| {
                    let mut backoff = Backoff::default();
                    backoff.announced(announced);
                    backoff.failed(Moment(0), interval_seconds, &mut random).0 / 1_000_000
                })
                .collect();
            delays.sort_unstable();
            (delays[100], delays[500], delays[999])
        };
        let (tenth, half, last) = first(Some(120), 900);
        assert!((8..17).contains(&tenth) && (50..70).contains(&half) && (110..=120).contains(&last));
        assert!(first(None, 900).2 <= 1);
        assert!(first(Some(u32::MAX), 60).2 <= 60, "its interval is the limit");
    }
}
