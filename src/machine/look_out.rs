//! How long a thread that expects something looks out for it before it sleeps.
//!
//! To be woken takes longer than to look: some 10 µs, and on a virtual machine whose processors sleep too up to 100. What the disk says, and what devices say
//! to it, is often there before. But a processor that looks does nothing else. So nobody looks who will hardly see anything, by how long it took the last times, and
//! what takes longer than a moment is paid from an allowance that fills with time.

use crate::wire::time::Moment;

/// Most that is saved up, in microseconds: more than a good disk takes for one durable write.
const ALLOWANCE_MICROSECONDS_MAX: u64 = 500;

/// What costs nothing when something has come by then, in microseconds: to sleep and to be woken would have cost as much.
const FREE_MICROSECONDS: u64 = 20;

/// How much later than it wanted a thread goes on when others want the processor too, in microseconds at least: it was given away meanwhile, and whoever has it
/// keeps it for milliseconds.
const GIVEN_AWAY_MICROSECONDS: u64 = 200;

/// For how long nobody looks out then, in milliseconds. Who sleeps is woken before those who have had much of the processor; who looks has to wait behind them.
const HELD_BACK_MILLISECONDS: u64 = 100;

/// A wait counts as no longer than this for what is expected of the next one, in microseconds: a quiet hour is soon forgotten.
const WAIT_MICROSECONDS_MAX: u64 = 2_000;

/// One thread's allowance for one kind of thing.
#[derive(Clone, Debug)]
pub struct LookOut {
    /// The part of the thread's time that it may look out, as its divisor.
    share: u64,
    /// In so many parts of a microsecond.
    allowance: u64,
    filled: Moment,
    /// Others have wanted the processor: not before then.
    held_until: Moment,
    /// How long it takes, by the last waits.
    expected_microseconds: u64,
}

impl LookOut {
    /// One that may take one part in `share` of a thread's time.
    #[must_use]
    pub fn new(share: u64) -> Self {
        Self {
            share: share.max(1),
            allowance: 0,
            filled: Moment(0),
            held_until: Moment(0),
            expected_microseconds: 0,
        }
    }

    /// How long to look out from `now` on, in microseconds; 0: not at all.
    pub fn microseconds(&mut self, now: Moment) -> u64 {
        let since = now.microseconds_since(self.filled);
        self.filled = now;
        self.allowance = self.allowance.saturating_add(since).min(ALLOWANCE_MICROSECONDS_MAX * self.share);
        let allowed = self.allowance / self.share;
        if now < self.held_until || allowed < self.expected_microseconds {
            return 0;
        }
        allowed.min(2 * self.expected_microseconds + FREE_MICROSECONDS)
    }

    /// It has looked out from `since` on for so many microseconds, and something has come or not.
    pub fn has_looked(&mut self, since: Moment, microseconds: u64, has_come: bool) {
        if microseconds > self.allowance / self.share + GIVEN_AWAY_MICROSECONDS {
            self.held_until =
                Moment(since.0.saturating_add(microseconds)).plus_milliseconds(HELD_BACK_MILLISECONDS);
        }
        let free = if has_come { FREE_MICROSECONDS } else { 0 };
        self.allowance = self.allowance.saturating_sub(microseconds.saturating_sub(free) * self.share);
    }

    /// So long it took until there was something, asleep or not, in microseconds.
    pub fn has_waited(&mut self, microseconds: u64) {
        let waited = microseconds.min(WAIT_MICROSECONDS_MAX);
        self.expected_microseconds = (3 * self.expected_microseconds + waited).div_ceil(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: u64 = 8;

    /// Looks out, again and again with so many microseconds of other things between, for what comes after `comes_after`; how often it was
    /// seen, and the share of its time that was spent in vain.
    fn looks(rounds: u64, between: u64, comes_after: u64) -> (u64, f64) {
        let mut look_out = LookOut::new(SHARE);
        let (mut now, mut seen, mut in_vain) = (1_000_000, 0, 0);
        for _ in 0..rounds {
            now += between;
            let budget = look_out.microseconds(Moment(now));
            let has_come = comes_after <= budget;
            let looked = budget.min(comes_after);
            look_out.has_looked(Moment(now), looked, has_come);
            look_out.has_waited(comes_after);
            seen += u64::from(has_come);
            in_vain += if has_come { 0 } else { looked };
            // Who sees nothing sleeps until it comes.
            now += comes_after;
        }
        (seen, in_vain as f64 / (now - 1_000_000) as f64)
    }

    #[test]
    fn what_comes_at_once_is_seen_every_time() {
        let (seen, in_vain) = looks(10_000, 5, 15);
        assert!(seen > 9_990, "{seen}");
        assert!(in_vain < 0.001, "{in_vain}");
    }

    #[test]
    fn what_comes_seldom_is_waited_for_as_long_as_a_disk_takes() {
        let (seen, _) = looks(1_000, 20_000, 450);
        assert!(seen > 980, "fifty times a second: {seen}");
    }

    #[test]
    fn what_takes_its_time_is_looked_for_as_often_as_the_allowance_reaches() {
        let (seen, in_vain) = looks(10_000, 100, 150);
        // It fills by 31 µs in a round, and one that has come costs 130.
        assert!((2_200..2_600).contains(&seen), "{seen}");
        assert!(in_vain < 0.001, "{in_vain}");
    }

    #[test]
    fn in_vain_nobody_looks_for_more_than_the_allowance() {
        for (between, comes_after) in [(10, 2_000), (100, 700), (0, 501), (1_000, 100_000)] {
            let (seen, in_vain) = looks(10_000, between, comes_after);
            assert_eq!(seen, 0);
            assert!(in_vain < 0.001, "{between} {comes_after}: {in_vain}");
        }
        // What comes soon as often as late does not make anybody look for ever.
        let mut look_out = LookOut::new(SHARE);
        let (mut now, mut looked) = (1_000_000, 0);
        for round in 0..10_000 {
            let comes_after = if round % 2 == 0 { 5 } else { 1_500 };
            let budget = look_out.microseconds(Moment(now));
            look_out.has_looked(Moment(now), budget.min(comes_after), comes_after <= budget);
            look_out.has_waited(comes_after);
            looked += budget.min(comes_after);
            now += comes_after;
        }
        assert!(looked < (now - 1_000_000) / 7, "{looked} of {now}");
    }

    #[test]
    fn who_gets_the_processor_back_late_sleeps_for_a_while() {
        let mut look_out = LookOut::new(SHARE);
        assert_eq!(look_out.microseconds(Moment(1_000_000)), 20);
        look_out.has_looked(Moment(1_000_000), 3_000, true);
        assert_eq!(look_out.microseconds(Moment(1_102_999)), 0);
        assert_eq!(look_out.microseconds(Moment(1_103_000)), 20);
        look_out.has_looked(Moment(1_103_000), 700, false);
        assert_eq!(look_out.microseconds(Moment(1_110_000)), 20, "a little late is nobody's fault");
    }
}
