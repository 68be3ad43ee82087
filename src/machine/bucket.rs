//! The one rule by which anything is rationed: a bucket of tokens, kept as the moment until which what was
//! taken pays for itself (the virtual scheduling algorithm of ITU-T I.371). Costs are lengths of time, in
//! which as much comes back.

use crate::wire::time::Moment;

/// The moment until which what was taken pays for itself; a bucket that is full has one in the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket(pub Moment);

impl Bucket {
    /// Takes a cost. It may be more than there is: then the bucket stays closed for longer.
    pub fn take(&mut self, now: Moment, microseconds: u64) {
        self.0 = Moment(self.0.max(now).0.saturating_add(microseconds));
    }

    /// From when on something may be taken, when what comes back in `ahead_microseconds` may be taken ahead;
    /// in the past: now.
    #[must_use]
    pub fn opens_at(self, ahead_microseconds: u64) -> Moment {
        Moment(self.0.0.saturating_sub(ahead_microseconds))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Taking only when it is open gives a burst and the rate, and never more.
        #[test]
        fn what_is_taken_is_a_burst_and_what_comes_back(costs in prop::collection::vec(1u64..5_000, 1..200), ahead in 0u64..20_000, pause in 0u64..3_000) {
            let (mut bucket, mut now, mut taken) = (Bucket::default(), 1_000_000, 0);
            for cost in costs {
                now = bucket.opens_at(ahead).0.max(now);
                prop_assert!(taken <= ahead + now - 1_000_000);
                bucket.take(Moment(now), cost);
                taken += cost;
                now += pause;
            }
        }
    }
}
