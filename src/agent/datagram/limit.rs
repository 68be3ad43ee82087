//! Limit of wakes.

use crate::wire::time::Moment;

/// Wakes that may come at once, in wakes: an administrator who tries things.
const BURST: u64 = 100;

/// Wakes that may come in a second for long, in wakes. Each costs a device a handshake, about a millisecond.
const PER_SECOND: u64 = 10;

/// Cost of one wake, in microseconds of waiting.
const COST_MICROSECONDS: u64 = 1_000_000 / PER_SECOND;

/// A token bucket: full at first, filled at a steady rate.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// When the bucket will be full again.
    full_at: Moment,
}

impl Limit {
    /// Whether one more may come now; then it counts.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let full_at = Moment(self.full_at.max(now).0.saturating_add(COST_MICROSECONDS));
        let fits = full_at.microseconds_since(now) <= BURST * COST_MICROSECONDS;
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let mut limit = Limit::default();
        let taken = |limit: &mut Limit, at: u64| (0..1_000).filter(|_| limit.take(Moment(at))).count() as u64;
        assert_eq!(taken(&mut limit, 5), BURST);
        assert_eq!(taken(&mut limit, 1_000_005), PER_SECOND);
        assert_eq!(taken(&mut limit, 3_000_005), 2 * PER_SECOND);
        assert_eq!(taken(&mut limit, 3_600_000_000), BURST, "no more than that is saved up");
    }
}
