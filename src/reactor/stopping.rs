//! The end of a reactor: its devices are told when to come again, a piece of them in each turn.

use super::backend::Backend;
use super::link::Stage;
use super::turn::Reactor;
use crate::machine::close::CloseReason;
use crate::machine::session::LATER_SECONDS;

/// How long a draining reactor waits for the journal before it lets go of links whose events are not acknowledged yet, in
/// milliseconds. Those come again, and are recognised.
const ACKS_MILLISECONDS: u64 = 3_000;

/// How long a draining reactor waits for jobs and close_notify alerts altogether, in milliseconds.
const DRAIN_MILLISECONDS: u64 = 8_000;

/// Links that are looked at in one turn, in links: what is said to them takes some 10 ms, in which those who have been told are not
/// heard and those who have a job do not get its outcome.
const LINKS_PER_TURN: usize = 512;

/// Shortest time over which devices spread that are told to come again when the server stops, in seconds: it takes a few to start again.
const SPREAD_SECONDS_MIN: u64 = 5;

/// How far a draining reactor is. Nobody comes any more, so that each link is looked at once; one that has a job then is told with its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Stopping {
    /// Not yet: events wait for the journal.
    #[default]
    Waits,
    /// Links in places below this one were told, those who are to come again within so many seconds.
    Before(usize, u64),
    /// All were told, but for those that have a job.
    Told(u64),
}

impl<B: Backend> Reactor<B> {
    pub(super) fn drain(&mut self) {
        let Some(since) = self.draining_since else { return };
        let waited_milliseconds = self.now.moment.microseconds_since(since) / 1_000;
        if self.stopping == Stopping::Waits
            && (self.acks.is_empty() || waited_milliseconds > ACKS_MILLISECONDS)
        {
            // Asked for once: the fleet is no smaller when half of it has been told.
            let spread_seconds = SPREAD_SECONDS_MIN.max(self.backend.reconnect_seconds().into());
            self.stopping = Stopping::Before(0, spread_seconds);
        }
        for _ in 0..LINKS_PER_TURN {
            let Stopping::Before(place, spread_seconds) = self.stopping else { return };
            let Some(slot) = self.links.next_from(place) else {
                self.stopping = Stopping::Told(spread_seconds);
                return;
            };
            self.stopping = Stopping::Before(slot + 1, spread_seconds);
            self.stop_link(slot, spread_seconds);
        }
    }

    /// Whether links wait to be told, and nothing else is waited for.
    pub(super) fn is_stopping_links(&self) -> bool {
        matches!(self.stopping, Stopping::Before(..))
    }

    pub(super) fn is_drained(&self) -> bool {
        self.draining_since.is_some_and(|since| {
            self.links.is_empty() || self.now.moment.microseconds_since(since) / 1_000 > DRAIN_MILLISECONDS
        })
    }

    /// A job of the link is done: if the others were told meanwhile that the server stops, it is its turn.
    pub(super) fn stop_late(&mut self, slot: usize) {
        match self.stopping {
            Stopping::Waits => {}
            Stopping::Before(place, _) if slot >= place => {}
            Stopping::Before(_, spread_seconds) | Stopping::Told(spread_seconds) => {
                self.stop_link(slot, spread_seconds);
            }
        }
    }

    /// Tells a link whose work is done that the server stops.
    fn stop_link(&mut self, slot: usize, spread_seconds: u64) {
        let Some(name) = self.links.name(slot) else { return };
        match self.links.get(slot).map(|link| &link.stage) {
            Some(Stage::Handshaking(_)) => self.leave(slot, CloseReason::Stopping),
            Some(Stage::Live(session)) if !session.has_job() => {
                let seconds =
                    u32::try_from(1 + self.jitter.up_to(spread_seconds - 1)).unwrap_or(LATER_SECONDS);
                self.tell_session(name, |session, out| session.stop(seconds, out));
            }
            _ => {}
        }
    }
}
