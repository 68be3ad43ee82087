//! When devices that were sent away come again.

use crate::wire::limits::RECONNECT_SECONDS_MAX;
use crate::wire::time::Moment;

/// When a device is to come again that was sent away: `at_least`, and up to as much again, so that those who
/// were sent away together do not come back together. `random` is any 64 bits.
#[must_use]
fn later_seconds(at_least: u32, random: u64) -> u32 {
    let at_least = at_least.max(1);
    at_least.saturating_add(u32::try_from(random % u64::from(at_least)).unwrap_or(0))
}

/// Share of a server's capacity that devices that were sent away may ask for again: this part of it. Each of
/// them costs a handshake, whether it is served then or not.
const RETURNING_PART: u64 = 4;

/// Gives those who are sent away turns, so that they come again no faster than the server can take them,
/// however many they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Turns {
    /// When those have come again who have a turn.
    taken_until: Moment,
}

impl Turns {
    /// One more is sent away.
    pub fn take(&mut self, now: Moment, devices_per_second: u64) {
        let microseconds = 1_000_000 * RETURNING_PART / devices_per_second.max(1);
        self.taken_until = Moment(self.taken_until.max(now).0.saturating_add(microseconds));
    }

    /// When the next one is to come again: `at_least`, behind those who have a turn, and up to as much again.
    /// `random` is any 64 bits.
    #[must_use]
    pub fn seconds(&self, now: Moment, at_least: u32, random: u64) -> u32 {
        let ahead = self.taken_until.microseconds_since(now) / 1_000_000;
        let ahead = u32::try_from(ahead.min(RECONNECT_SECONDS_MAX)).unwrap_or(at_least);
        later_seconds(at_least.max(ahead), random)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::machine::random::mix;

    #[test]
    fn those_who_are_sent_away_come_again_no_faster_than_they_can_be_taken() {
        let mut turns = Turns::default();
        let mut number = 0;
        let mut random = || {
            number += 1;
            mix(number)
        };
        let mut seconds = [0_u32; 200];
        for _ in 0..100_000 {
            let again = turns.seconds(Moment(0), 5, random());
            turns.take(Moment(0), 8_000);
            seconds[again as usize] += 1;
        }
        assert_eq!(seconds[..5], [0; 5]);
        let busiest = seconds.iter().max().copied().unwrap_or(0);
        // Those who may come again as soon as possible fall together with the first who have a turn.
        assert!(busiest <= 4_000, "2,000 a second are meant, 8,000 can be taken, and {busiest} come in one");
        assert_eq!(turns.seconds(Moment(60_000_000), 5, 0), 5, "they have come by then");
    }

    proptest! {
        #[test]
        fn nobody_who_was_sent_away_comes_too_soon(at_least in 0u32..1_000, random: u64) {
            let seconds = later_seconds(at_least, random);
            prop_assert!(seconds >= at_least.max(1) && seconds < 2 * at_least.max(1));
        }
    }
}
