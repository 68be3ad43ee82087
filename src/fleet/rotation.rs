//! When the keys of TLS session tickets come and go.
//!
//! A ticket lets a device come back without the signatures of a full handshake, for as long as the server has
//! the key that sealed it. So that a fleet comes back cheaply after a restart the keys outlive the process;
//! so that a key that leaks is of use for a day and not for ever, they are replaced. Both are counted by the
//! wall clock, which may be wrong: then keys go sooner or later than they should, but never all at once
//! because a clock without a battery starts in 1970, and none stays for ever.

use crate::wire::time::WallTime;

/// Time for which one key seals tickets.
pub const KEY_SECONDS: u32 = 12 * 3_600;

/// Keys whose tickets are accepted: the one that seals, and those before it.
pub const KEYS_MAX: usize = 3;

/// Time for which a ticket is good: what is left of its key's time when the key seals its last ticket.
pub const TICKET_SECONDS: u32 = 2 * KEY_SECONDS;

/// Time for which a key's tickets are accepted.
const ACCEPTED_SECONDS: u32 = KEY_SECONDS + TICKET_SECONDS;

/// Distance that a key may lie in the future before the clock counts as set back: a time server's small
/// corrections are none.
const CLOCK_SLACK_SECONDS: u64 = 300;

// RFC 8446 section 4.6.1: at most seven days.
const _: () = assert!(TICKET_SECONDS <= 7 * 86_400);
const _: () = assert!(ACCEPTED_SECONDS as usize == KEYS_MAX * KEY_SECONDS as usize);

/// Whether a key is to go, whatever others there are. One from the future stays: it goes when enough have
/// followed it.
#[must_use]
pub fn has_expired(made_at: WallTime, now: WallTime) -> bool {
    now.0.saturating_sub(made_at.0) >= u64::from(ACCEPTED_SECONDS) * 1_000
}

/// Whether a new key is due after the newest: when there is none, when it has sealed long enough, and when
/// the clock was set back behind it, since nobody knows then how old it is.
#[must_use]
pub fn is_due(newest: Option<WallTime>, now: WallTime) -> bool {
    let Some(made_at) = newest else { return true };
    let is_from_future = made_at.0.saturating_sub(now.0) > CLOCK_SLACK_SECONDS * 1_000;
    is_from_future || now.0.saturating_sub(made_at.0) >= u64::from(KEY_SECONDS) * 1_000
}

/// Makes one round: what has expired goes, and when one is due, `make` gives it and the oldest make room.
/// Keys stand in the order in which they were made. Whether anything has changed.
///
/// # Errors
/// When `make` fails; what has expired is gone then, too.
pub fn rotate<K, E>(
    keys: &mut Vec<K>,
    now: WallTime,
    made_at: impl Fn(&K) -> WallTime,
    make: impl FnOnce() -> Result<K, E>,
) -> Result<bool, E> {
    let before = keys.len();
    keys.retain(|key| !has_expired(made_at(key), now));
    let is_due = is_due(keys.last().map(&made_at), now);
    if is_due {
        keys.push(make()?);
        keys.drain(..keys.len().saturating_sub(KEYS_MAX));
    }
    Ok(is_due || keys.len() != before)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const START: WallTime = WallTime(1_795_514_400_000);

    fn round(keys: &mut Vec<WallTime>, now: WallTime) -> bool {
        let Ok(has_changed) = rotate(keys, now, |key| *key, || Ok::<_, Infallible>(now));
        has_changed
    }

    fn after_hours(hours: u64) -> WallTime {
        WallTime(START.0 + hours * 3_600_000)
    }

    #[test]
    fn a_key_seals_for_twelve_hours_and_opens_for_a_day_more() {
        let mut keys = Vec::new();
        assert!(round(&mut keys, START));
        assert!(!round(&mut keys, after_hours(11)));
        assert!(round(&mut keys, after_hours(12)));
        assert!(round(&mut keys, after_hours(24)));
        assert_eq!(keys, [START, after_hours(12), after_hours(24)]);
        assert!(!round(&mut keys, after_hours(35)), "its last ticket is good to the end");
        assert!(round(&mut keys, after_hours(36)));
        assert_eq!(keys, [after_hours(12), after_hours(24), after_hours(36)]);
    }

    #[test]
    fn after_a_long_outage_nothing_old_is_left() {
        let mut keys = vec![START, after_hours(12)];
        assert!(round(&mut keys, after_hours(60)));
        assert_eq!(keys, [after_hours(60)]);
    }

    #[test]
    fn a_clock_that_starts_in_1970_takes_no_key_away() {
        let mut keys = vec![START, after_hours(12)];
        let early = WallTime(20_000);
        assert!(round(&mut keys, early));
        assert_eq!(keys, [START, after_hours(12), early]);
        assert!(!round(&mut keys, WallTime(21_000)), "one new key, and not one with each look");
        // The time server answers.
        assert!(round(&mut keys, after_hours(13)));
        assert_eq!(
            keys,
            [START, after_hours(12)],
            "the one of 1970 looks old, and the one before it seals again"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_there_is_a_key_and_never_more_than_three(
            times in proptest::collection::vec(0u64..1 << 42, 1..60),
        ) {
            let mut keys = Vec::new();
            for now in times.into_iter().map(WallTime) {
                round(&mut keys, now);
                prop_assert!(!keys.is_empty() && keys.len() <= KEYS_MAX);
                prop_assert!(!is_due(keys.last().copied(), now));
                prop_assert!(keys.iter().all(|key| !has_expired(*key, now)));
            }
        }

        #[test]
        fn a_key_of_the_future_is_gone_when_two_more_followed_it(ahead_hours in 1u64..1_000_000) {
            let mut keys = vec![after_hours(ahead_hours)];
            for half_day in 0..3 {
                round(&mut keys, after_hours(12 * half_day));
            }
            let is_of_future = |key: &WallTime| *key > after_hours(24);
            prop_assert!(ahead_hours <= 36 || !keys.iter().any(is_of_future), "{:?}", keys);
        }
    }
}
