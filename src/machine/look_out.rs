//! How long a thread that expects something looks out for it before it sleeps.
//!
//! To be woken takes longer than to look: some 10 µs, and on a virtual machine whose processors sleep too up to 100. What the disk says, and what devices say
//! to it, is often there before. But most threads wait in vain most of the time, and a processor that looks does nothing else. So looking
//! in vain is paid from an allowance that fills with time.

use crate::wire::time::Moment;

/// A thread's time that it may look out in vain, as its divisor: an eighth.
const SHARE: u64 = 8;

/// Most that is saved up, in microseconds: about what a disk takes for one durable write.
const ALLOWANCE_MICROSECONDS_MAX: u64 = 500;

/// What costs nothing when something has come by then, in microseconds: to sleep and to be woken would have cost as much.
const FREE_MICROSECONDS: u64 = 50;

/// How much later than it wanted a thread goes on when others want the processor too, in microseconds at least: it was given away meanwhile, and whoever has it
/// keeps it for milliseconds.
const GIVEN_AWAY_MICROSECONDS: u64 = 200;

/// For how long nobody looks out then, in milliseconds. Who sleeps is woken before those who have had much of the processor; who looks has to wait behind them.
const HELD_BACK_MILLISECONDS: u64 = 100;

/// One thread's allowance.
#[derive(Clone, Debug, Default)]
pub struct LookOut {
    /// In eighths of a microsecond.
    allowance: u64,
    filled: Moment,
    /// Others have wanted the processor: not before then.
    held_until: Moment,
}

impl LookOut {
    /// How long to look out from `now` on, in microseconds; 0: not at all.
    pub fn microseconds(&mut self, now: Moment) -> u64 {
        let since = now.microseconds_since(self.filled);
        self.filled = now;
        self.allowance = self.allowance.saturating_add(since).min(ALLOWANCE_MICROSECONDS_MAX * SHARE);
        if now < self.held_until { 0 } else { self.allowance / SHARE }
    }

    /// It has looked out from `since` on for so many microseconds, and something has come or not.
    pub fn has_looked(&mut self, since: Moment, microseconds: u64, has_come: bool) {
        if microseconds > self.allowance / SHARE + GIVEN_AWAY_MICROSECONDS {
            self.held_until =
                Moment(since.0.saturating_add(microseconds)).plus_milliseconds(HELD_BACK_MILLISECONDS);
        }
        let free = if has_come { FREE_MICROSECONDS } else { 0 };
        self.allowance = self.allowance.saturating_sub(microseconds.saturating_sub(free) * SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks out, again and again with so many microseconds of other things between, for what comes after `comes_after`; how often it was
    /// seen, and the share of its time that was spent in vain.
    fn looks(rounds: u64, between: u64, comes_after: u64) -> (u64, f64) {
        let mut look_out = LookOut::default();
        let (mut now, mut seen, mut in_vain) = (1_000_000, 0, 0);
        for _ in 0..rounds {
            now += between;
            let budget = look_out.microseconds(Moment(now));
            let has_come = comes_after <= budget;
            let looked = budget.min(comes_after);
            look_out.has_looked(Moment(now), looked, has_come);
            seen += u64::from(has_come);
            in_vain += if has_come { 0 } else { looked };
            // Who sees nothing sleeps until it comes.
            now += comes_after;
        }
        (seen, in_vain as f64 / (now - 1_000_000) as f64)
    }

    #[test]
    fn what_comes_at_once_is_seen_every_time() {
        let (seen, in_vain) = looks(10_000, 5, 40);
        assert!(seen > 9_900, "{seen}");
        assert!(in_vain < 0.01, "{in_vain}");
    }

    #[test]
    fn what_comes_seldom_is_waited_for_as_long_as_a_disk_takes() {
        assert_eq!(looks(100, 20_000, 450), (100, 0.0), "fifty times a second");
    }

    #[test]
    fn who_gets_the_processor_back_late_sleeps_for_a_while() {
        let mut look_out = LookOut::default();
        assert_eq!(look_out.microseconds(Moment(1_000_000)), 500);
        look_out.has_looked(Moment(1_000_000), 3_000, true);
        assert_eq!(look_out.microseconds(Moment(1_102_999)), 0);
        assert_eq!(look_out.microseconds(Moment(1_103_000)), 500);
        look_out.has_looked(Moment(1_103_000), 700, false);
        assert_eq!(look_out.microseconds(Moment(1_110_000)), 500, "a little late is nobody's fault");
    }

    #[test]
    fn in_vain_it_looks_for_an_eighth_of_its_time_at_most() {
        for (between, comes_after) in [(10, 2_000), (100, 700), (0, 501), (1_000, 100_000)] {
            let (seen, in_vain) = looks(10_000, between, comes_after);
            assert_eq!(seen, 0);
            assert!(in_vain <= 0.126, "{between} {comes_after}: {in_vain}");
        }
    }
}
