//! When to try again.

use crate::machine::random::Random;
use crate::wire::limits::{RECONNECT_SECONDS_MAX, RECONNECT_SECONDS_MIN};
use crate::wire::time::Moment;

/// Shortest window.
const WINDOW_MILLISECONDS_MIN: u64 = 1_000;

/// Draws a delay from zero to the window, *after* the window was capped: a fleet that lost its server
/// together comes back spread over the whole of it, and not in a crowd at its end.
///
/// Nor is the window ever smaller than the one that the server announced: a server of 100,000 devices can't
/// take them all within the first second, and the number of a device's failures by the time it is back says
/// nothing of that.
///
/// The window is as long as the server has been away, so that attempts thin out as they do when a window
/// doubles with each of them. But it is the outage that counts and not the failures: a server that was away
/// for a moment has everybody back within the window, also those who came too early, and whatever the outage,
/// nobody stays away for more than as long again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failing_since: Option<Moment>,
    /// The server has refused something, and it may be said again on every link.
    is_refused: bool,
    announced_milliseconds: u64,
}

impl Backoff {
    pub(super) fn succeeded(&mut self) {
        (self.failing_since, self.is_refused) = (None, false);
    }

    /// A sync has ended. That is no success while what was refused is still to be delivered: it would be said
    /// and refused again at once, for ever.
    pub(super) fn synced(&mut self, has_delivered: bool) {
        if has_delivered || !self.is_refused {
            self.succeeded();
        }
    }

    pub(super) fn refused(&mut self) {
        self.is_refused = true;
    }

    /// The server has said over how many seconds its devices are to spread.
    pub(super) fn announced(&mut self, seconds: Option<u32>) {
        self.announced_milliseconds = u64::from(seconds.unwrap_or(0)) * 1_000;
    }

    pub(super) fn failed(&mut self, now: Moment, interval_seconds: u32, random: &mut Random) -> Moment {
        let cap = u64::from(interval_seconds).clamp(RECONNECT_SECONDS_MIN, RECONNECT_SECONDS_MAX) * 1_000;
        let since = *self.failing_since.get_or_insert(now);
        let away_milliseconds = now.microseconds_since(since) / 1_000;
        let window = WINDOW_MILLISECONDS_MIN.max(self.announced_milliseconds).max(away_milliseconds).min(cap);
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
        backoff.failed(Moment(0), 60, &mut random);
        let hour = Moment(0).plus_seconds(3_600);
        let delays: Vec<_> =
            (0..1_000).map(|_| backoff.failed(hour, 60, &mut random).microseconds_since(hour)).collect();
        assert!(delays.iter().all(|delay| *delay <= 60_000_000));
        let early = delays.iter().filter(|delay| **delay < 30_000_000).count();
        assert!((400..600).contains(&early), "{early} of 1,000 in the first half");
    }

    /// Delay of a device behind its server that was away for this long, in milliseconds, and the number of
    /// its attempts in vain.
    fn back_after(away_milliseconds: u64, random: &mut Random) -> (u64, u32) {
        let back = Moment(0).plus_milliseconds(away_milliseconds);
        let (mut backoff, mut now, mut failures) = (Backoff::default(), Moment(0), 0);
        loop {
            now = backoff.failed(now, 900, random);
            if now >= back {
                return (now.microseconds_since(back) / 1_000, failures);
            }
            failures += 1;
        }
    }

    #[test]
    fn who_came_too_early_is_back_with_the_others_and_nobody_later_than_the_outage_was_long() {
        let mut random = Random::new(3);
        for away in [200, 700, 3_000, 20_000, 200_000] {
            let returns: Vec<_> = (0..2_000).map(|_| back_after(away, &mut random)).collect();
            let last = returns.iter().map(|(milliseconds, _)| *milliseconds).max();
            let failures = returns.iter().map(|(_, failures)| *failures).max();
            assert!(last <= Some(away.max(1_000)), "{last:?} ms after {away} ms");
            assert!(failures < Some(30), "{failures:?} attempts in {away} ms");
        }
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
