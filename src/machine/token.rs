//! Life of a join token.

use super::wall_clock::Stretch;
use crate::wire::time::WallTime;

/// The life of a join token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenLife {
    /// When it was made.
    pub created_at: WallTime,
    /// When its time is over.
    pub expires_at: WallTime,
    /// Whether its time was over once, by a clock that was right then: it stays over when the clock is set
    /// back.
    pub is_over: bool,
}

impl TokenLife {
    /// Whether it lets nobody in any more.
    #[must_use]
    pub fn is_over_at(&self, now: WallTime) -> bool {
        self.is_over || now >= self.expires_at
    }

    /// Puts right what the clock has made wrong. One whose time was over by `known`, a time that was right,
    /// stays over, and so does one that lived all its time while the clock only passed, right or not; one
    /// that was made in what is the future now lives from now on, as long as it was given. Returns whether
    /// that changed something.
    pub fn correct(&mut self, known: WallTime, ran: Stretch, now: WallTime) -> bool {
        let before = *self;
        let has_lived = self.created_at >= ran.since && self.expires_at <= ran.until;
        self.is_over |= self.expires_at <= known || has_lived;
        if !self.is_over && self.created_at > now {
            let length = self.expires_at.0.saturating_sub(self.created_at.0);
            self.created_at = now;
            self.expires_at = WallTime(now.0.saturating_add(length));
        }
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Stretch = Stretch { since: WallTime(0), until: WallTime(0) };

    fn life(created: u64, expires: u64) -> TokenLife {
        TokenLife { created_at: WallTime(created), expires_at: WallTime(expires), is_over: false }
    }

    #[test]
    fn what_was_over_stays_over() {
        let mut token = life(1_000, 2_000);
        assert!(!token.is_over_at(WallTime(1_999)) && token.is_over_at(WallTime(2_000)));
        assert!(!token.correct(WallTime(1_999), NEVER, WallTime(1_999)));
        assert!(token.correct(WallTime(2_000), NEVER, WallTime(0)) && token.is_over_at(WallTime(0)));
        assert_eq!(token.created_at, WallTime(1_000));
    }

    #[test]
    fn what_was_made_in_the_future_lives_from_now_on() {
        let mut token = life(1_000_000, 1_003_600);
        assert!(token.correct(WallTime(500), NEVER, WallTime(600)));
        assert_eq!(token, life(600, 4_200));
    }

    #[test]
    fn what_lived_all_its_time_by_a_clock_that_was_ahead_is_over() {
        let ran = |since, until| Stretch { since: WallTime(since), until: WallTime(until) };
        for (stretch, is_over) in
            [(ran(900, 2_000), true), (ran(1_001, 2_000), false), (ran(900, 1_999), false)]
        {
            let mut token = life(1_000, 2_000);
            token.correct(WallTime(10), stretch, WallTime(20));
            assert_eq!(token.is_over, is_over, "{stretch:?}");
            assert_eq!(token.created_at, if is_over { WallTime(1_000) } else { WallTime(20) });
        }
    }
}
