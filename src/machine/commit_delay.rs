//! Whether a thread that has something for the disk waits a moment for more.
//!
//! A durable write costs the same for one event as for fifty, and devices that were just acknowledged often
//! have more to say at once. Waiting for them delays those who have spoken already, so it is done only where
//! it was worth it the last times.
#![forbid(unsafe_code)]

/// Longest wait for more: half of what a good disk takes for one durable write.
const WAIT_MICROSECONDS_MAX: u64 = 60;

/// It was worth it when at least this many devices came: then there is a crowd that answers as fast as it is
/// acknowledged...
const CROWD: u32 = 4;

/// ... or one for each this many devices that had to wait for it: each of those lost half of a write, and a
/// late one would have waited for the next.
const WAITED_FOR_ONE: u32 = 2;

/// Confidence that it is worth it, in steps, and the step from which on it is done.
const TRUST_MAX: u8 = 3;
const TRUST_ENOUGH: u8 = 2;

/// A thread that waited this much longer than was meant, had lent the processor to others, which did not give
/// it back for a while.
const LATE_MICROSECONDS: u64 = 200;

/// Without trust it is tried once in this many times.
const TRIAL_EVERY: u8 = 32;

/// Outcome of a request to flush on the calling thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flushed {
    /// All that was appended before is durable, or the journal has failed; the callback was called.
    Done,
    /// Others are at it, perhaps without what was appended last. When they are done there is a notice
    ///: then it can be tried again.
    ByOthers,
    /// It is not done: the disk takes its time, or nobody has the leadership. The journal's thread is for
    /// that.
    NotHere,
}

/// A thread's experience with it.
#[derive(Clone, Debug, Default)]
pub struct CommitDelay {
    /// Devices that were acknowledged since the last write.
    acknowledged: u32,
    /// Devices that have said something since.
    heard: u32,
    /// Of those, before it was waited for more.
    heard_at_once: Option<u32>,
    trust: u8,
    passed_over: u8,
}

impl CommitDelay {
    /// A device is told that its events are durable: it may have more.
    pub fn acknowledged(&mut self) {
        self.acknowledged = self.acknowledged.saturating_add(1);
    }

    /// A device has sent events.
    pub fn heard(&mut self) {
        self.heard = self.heard.saturating_add(1);
    }

    /// Longest wait for more from now on, in microseconds; 0: none.
    pub fn begin(&mut self) -> u64 {
        if !self.is_missing() {
            return 0;
        }
        if self.trust < TRUST_ENOUGH {
            self.passed_over += 1;
            if self.passed_over < TRIAL_EVERY {
                return 0;
            }
            self.passed_over = 0;
        }
        self.heard_at_once = Some(self.heard);
        WAIT_MICROSECONDS_MAX
    }

    /// Whether anybody who was acknowledged may have more to say.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.heard < self.acknowledged
    }

    /// So long it has waited, in microseconds. Beside others who want the processor it is not worth it,
    /// whatever came.
    pub fn has_waited(&mut self, microseconds: u64) {
        if microseconds > WAIT_MICROSECONDS_MAX + LATE_MICROSECONDS {
            self.trust = 0;
            self.heard_at_once = None;
        }
    }

    /// The records that came together are written now.
    pub fn end(&mut self) {
        if let Some(at_once) = self.heard_at_once.take() {
            let came = self.heard - at_once;
            let is_worth_it = came >= CROWD || came.saturating_mul(WAITED_FOR_ONE) >= at_once.max(1);
            self.trust =
                if is_worth_it { (self.trust + 1).min(TRUST_MAX) } else { self.trust.saturating_sub(1) };
        }
        (self.acknowledged, self.heard) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds in which `acknowledged` devices are acknowledged, `at_once` of them speak at once, and more
    /// while it is waited; returns the number of waits.
    fn waits(rounds: u32, acknowledged: u32, at_once: u32, more: impl Fn(u32) -> u32) -> u32 {
        let mut commit_delay = CommitDelay::default();
        let mut waited = 0;
        for round in 0..rounds {
            (0..acknowledged).for_each(|_| commit_delay.acknowledged());
            (0..at_once).for_each(|_| commit_delay.heard());
            if commit_delay.begin() > 0 {
                waited += 1;
                (0..more(round)).for_each(|_| commit_delay.heard());
            }
            commit_delay.end();
        }
        waited
    }

    #[test]
    fn one_device_is_never_waited_for() {
        assert_eq!(waits(10_000, 1, 1, |_| 0), 0, "it has spoken");
        assert_eq!(waits(10_000, 0, 1, |_| 0), 0, "nobody was acknowledged");
    }

    #[test]
    fn a_crowd_that_answers_is_waited_for() {
        for (acknowledged, at_once, more) in [(32, 5, 15), (2, 1, 1), (500, 100, 12)] {
            let waited = waits(10_000, acknowledged, at_once, |_| more);
            assert!(waited > 9_900, "{acknowledged} {at_once} {more}: {waited}");
        }
    }

    #[test]
    fn those_who_seldom_answer_are_seldom_waited_for() {
        assert_eq!(waits(10_000, 3, 1, |_| 0), 312, "only tried");
        assert_eq!(waits(10_000, 64, 20, |_| 3), 312, "three are not worth the time of twenty");
        let waited = waits(10_000, 2, 1, |round| u32::from(round % 3 == 0));
        assert!(waited < 2_000, "every third time: {waited}");
    }

    #[test]
    fn who_gets_the_processor_back_late_does_not_wait_for_a_while() {
        let mut commit_delay = CommitDelay::default();
        let mut waited = 0;
        for _ in 0..10_000 {
            (0..32).for_each(|_| commit_delay.acknowledged());
            if commit_delay.begin() > 0 {
                waited += 1;
                (0..32).for_each(|_| commit_delay.heard());
                commit_delay.has_waited(3_000);
            }
            commit_delay.end();
        }
        assert_eq!(waited, 312, "only tried");
    }

    #[test]
    fn it_is_learnt_again_when_devices_change() {
        let waited = waits(10_000, 32, 5, |round| if round < 5_000 { 0 } else { 20 });
        assert!((4_800..5_300).contains(&waited), "{waited}");
    }
}
