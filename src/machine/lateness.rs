//! Turns that begin late: the process was stopped (SIGSTOP, a virtual machine's pause), or the thread waited
//! for a disk.
//!
//! The words of peers have not been read meanwhile, and what they sent to a paused machine is only on its way
//! again: TCP repeats it after about as long as it was not answered (RFC 6298). So the silence is not theirs,
//! and after a late turn no deadline is judged for as long as the turn was late. The loop reads in that time,
//! which moves the deadlines of those who are there.

use crate::wire::time::Moment;

/// From which delay on a turn is late: a loaded machine is late by tens of them all the time.
const LATE_MILLISECONDS_MIN: u64 = 1_000;

/// When deadlines may be judged, in a loop that takes turns.
#[derive(Debug)]
pub struct Lateness {
    judges_from: Moment,
    grace_seconds_max: u64,
}

impl Lateness {
    /// The lateness of a loop that forgives this many seconds at most.
    #[must_use]
    pub fn new(grace_seconds_max: u64) -> Self {
        Self { judges_from: Moment(0), grace_seconds_max }
    }

    /// A turn begins at `now`. The one before began at `began`; its end, when the wait began, was
    /// `waited_from`; the wait should have ended at `until`, or may have been endless. By how many
    /// milliseconds the turn is late, when it is.
    pub fn turn(
        &mut self,
        began: Moment,
        waited_from: Moment,
        until: Option<Moment>,
        now: Moment,
    ) -> Option<u64> {
        let worked = waited_from.microseconds_since(began);
        let overslept = until.map_or(0, |until| now.microseconds_since(until.max(waited_from)));
        let late_milliseconds = (worked + overslept) / 1_000;
        if late_milliseconds < LATE_MILLISECONDS_MIN {
            return None;
        }
        let grace_milliseconds = late_milliseconds.min(1_000 * self.grace_seconds_max);
        self.judges_from = self.judges_from.max(now.plus_milliseconds(grace_milliseconds));
        Some(late_milliseconds)
    }

    /// From when on deadlines are judged; in the past, except after a late turn.
    #[must_use]
    pub fn judges_from(&self) -> Moment {
        self.judges_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment(0).plus_milliseconds(milliseconds)
    }

    #[test]
    fn a_pause_is_given_back_and_no_more_than_is_allowed() {
        let mut lateness = Lateness::new(60);
        // Woken early, in time, a little late; and by something, from a wait without end.
        assert_eq!(lateness.turn(at(0), at(10), Some(at(500)), at(20)), None);
        assert_eq!(lateness.turn(at(20), at(30), Some(at(500)), at(501)), None);
        assert_eq!(lateness.turn(at(501), at(900), Some(at(910)), at(1_500)), None);
        assert_eq!(lateness.turn(at(1_500), at(1_501), None, at(90_000)), None);
        assert_eq!(lateness.judges_from(), at(0));
        // Stopped while it waited.
        assert_eq!(lateness.turn(at(90_000), at(90_000), Some(at(91_000)), at(107_000)), Some(16_000));
        assert_eq!(lateness.judges_from(), at(123_000));
        // Stopped while it worked, with nothing to wait for.
        assert_eq!(lateness.turn(at(107_000), at(109_000), None, at(109_000)), Some(2_000));
        assert_eq!(lateness.judges_from(), at(123_000), "what was given is not taken");
        // A night.
        assert_eq!(
            lateness.turn(at(200_000), at(200_000), Some(at(200_000)), at(9_000_000)),
            Some(8_800_000)
        );
        assert_eq!(lateness.judges_from(), at(9_060_000));
    }
}
