//! Interval of an agent's signs of life on a persistent link: as long as the network allows.
//!
//! A NAT box or a firewall forgets a connection on which nothing passes for a time that nobody tells. So the
//! interval grows while pings are answered, up to what the server allows; a ping that stays unanswered says
//! that the silence before it was too long, and the interval falls back to half of it and for a while grows
//! no further than three quarters. Each ping tells the server when it will next hear of the device, so that
//! it neither waits longer than it must nor gives up a link that is well.

use crate::wire::time::Moment;

/// First interval on a network of which nothing is known.
const FIRST_SECONDS: u32 = 30;

/// Shortest interval, unless the server allows only less.
const SHORTEST_SECONDS: u32 = 10;

/// Longest time of the answer to a ping. In that time TCP has sent it again four or five times (RFC 6298).
pub(super) const PONG_SECONDS_MAX: u64 = 20;

/// Pings that must have been answered before the interval grows, in pings.
const ANSWERS_TO_GROW: u32 = 2;

/// Pings that must have been answered at the ceiling before it is tried to be raised, in pings: networks
/// change.
const ANSWERS_TO_RAISE: u32 = 24;

#[derive(Debug)]
pub(super) struct Heartbeat {
    /// The longest that the server allows.
    most_seconds: u32,
    /// In force: the server was told so.
    interval_seconds: u32,
    /// No further than this, since a longer silence broke a link.
    ceiling_seconds: u32,
    answers: u32,
    /// When the ping was sent whose answer is waited for, and the silence before it.
    waiting: Option<(Moment, u32)>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            most_seconds: u32::MAX,
            interval_seconds: FIRST_SECONDS,
            ceiling_seconds: u32::MAX,
            answers: 0,
            waiting: None,
        }
    }
}

impl Heartbeat {
    /// The server has said how long the interval may be at most.
    pub(super) fn allow(&mut self, most_seconds: u32) {
        self.most_seconds = most_seconds.max(1);
        self.interval_seconds = self.interval_seconds.min(self.most_seconds);
    }

    /// When the next ping is due, after something was sent at `last_sent`.
    pub(super) fn due(&self, last_sent: Moment) -> Moment {
        last_sent.plus_seconds(u64::from(self.interval_seconds))
    }

    /// A ping is sent now; in how many seconds the next one will be.
    pub(super) fn ping(&mut self, now: Moment) -> u32 {
        let silence_seconds = self.interval_seconds;
        if self.interval_seconds >= self.ceiling_seconds && self.answers >= ANSWERS_TO_RAISE {
            self.ceiling_seconds = self.ceiling_seconds.saturating_add(self.ceiling_seconds / 4);
        }
        let most_seconds = self.most_seconds.min(self.ceiling_seconds);
        if self.interval_seconds < most_seconds && self.answers >= ANSWERS_TO_GROW {
            self.interval_seconds = (self.interval_seconds.saturating_mul(3) / 2 + 1).min(most_seconds);
            self.answers = 0;
        }
        // The oldest unanswered one counts.
        self.waiting.get_or_insert((now, silence_seconds));
        self.interval_seconds
    }

    pub(super) fn heard(&mut self) {
        if self.waiting.take().is_some() {
            self.answers = self.answers.saturating_add(1);
        }
    }

    /// When the link counts as dead, if nothing is heard.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.waiting.map(|(since, _)| since.plus_seconds(PONG_SECONDS_MAX))
    }

    /// The link has ended, in whatever way.
    pub(super) fn link_ended(&mut self) {
        self.answers = 0;
        if let Some((_, silence_seconds)) = self.waiting.take() {
            let at_least = SHORTEST_SECONDS.min(self.most_seconds);
            self.ceiling_seconds = (silence_seconds / 4 * 3).max(at_least);
            self.interval_seconds = (silence_seconds / 2).max(at_least);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lives for `pings` pings behind a box that forgets after `forgets_seconds`; returns the longest
    /// interval that worked, and the number of links that broke.
    fn live(heartbeat: &mut Heartbeat, forgets_seconds: u32, pings: u32) -> (u32, u32) {
        let (mut now, mut longest, mut broken) = (Moment(0), 0, 0);
        for _ in 0..pings {
            let silence = heartbeat.interval_seconds;
            now = heartbeat.due(now);
            heartbeat.ping(now);
            if silence <= forgets_seconds {
                longest = longest.max(silence);
                heartbeat.heard();
            } else {
                assert_eq!(heartbeat.deadline(), Some(now.plus_seconds(PONG_SECONDS_MAX)));
                heartbeat.link_ended();
                broken += 1;
            }
        }
        (longest, broken)
    }

    #[test]
    fn it_grows_to_what_the_server_allows_when_the_network_forgets_nothing() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.allow(300);
        assert_eq!(live(&mut heartbeat, u32::MAX, 20), (300, 0));
    }

    #[test]
    fn a_loss_makes_it_shorter_and_it_settles_below_what_the_network_forgets() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.allow(300);
        let (longest, broken) = live(&mut heartbeat, 120, 200);
        assert!((60..=120).contains(&longest), "{longest}");
        assert!((1..=12).contains(&broken), "{broken} links broke in 200 pings");
    }

    #[test]
    fn a_link_that_ends_while_no_ping_waits_says_nothing_of_the_network() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.allow(300);
        live(&mut heartbeat, u32::MAX, 20);
        heartbeat.link_ended();
        assert_eq!(heartbeat.interval_seconds, 300);
    }

    #[test]
    fn a_server_that_allows_little_is_obeyed() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.allow(5);
        assert_eq!(live(&mut heartbeat, 2, 10).1, 10);
        assert!((2..=5).contains(&heartbeat.interval_seconds), "{heartbeat:?}");
    }

    proptest! {
        /// The server gives up a link when it hears nothing for the announced time and a grace of ten seconds
        /// at least.
        #[test]
        fn a_ping_is_never_later_than_the_one_before_it_said(
            most in 1u32..1_000, steps in prop::collection::vec(0u8..8, 1..80),
        ) {
            let mut heartbeat = Heartbeat::default();
            heartbeat.allow(most);
            let mut sent = Moment(0);
            let mut told = most;
            for step in steps {
                let due = heartbeat.due(sent);
                prop_assert!(due <= sent.plus_seconds(u64::from(told)));
                sent = due;
                told = heartbeat.ping(sent);
                prop_assert!(told >= 1 && told <= most);
                match step {
                    0 => {
                        heartbeat.link_ended();
                        told = most;
                    }
                    _ => heartbeat.heard(),
                }
            }
        }
    }
}
