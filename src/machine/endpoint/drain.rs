//! The end of an endpoint: its devices are told when to come again, a piece of them at a time.

use super::links::Stage;
use super::{Connection, Endpoint, Rule, Rules, Services};
use crate::machine::close::CloseReason;
use crate::machine::device_state::LinkRef;
use crate::machine::session::LATER_SECONDS;
use crate::wire::time::{Moment, Now};

/// Time that a draining endpoint waits for the journal before it lets go of links whose events are not
/// acknowledged yet. Those come again, and are recognised.
const ACKS_MILLISECONDS: u64 = 3_000;

/// Time that a draining endpoint waits for jobs and goodbyes altogether.
const DRAIN_MILLISECONDS: u64 = 8_000;

/// Links that are looked at in one turn: what is said to them takes some 10 ms, in which those that have been
/// told are not heard and those that have a job do not get its outcome.
const LINKS_PER_TURN: usize = 512;

/// Shortest time over which devices spread that are told to come again when the server stops: it takes a few
/// to start again.
const SPREAD_SECONDS_MIN: u64 = 5;

/// Progress of a drain. No link comes any more, so that each is looked at once; one that has a job then is
/// told with its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Progress {
    /// Not yet: events wait for the journal.
    #[default]
    Waits,
    /// Links in slots below this one were told, those that are to come again within this many seconds.
    Before(usize, u64),
    /// All were told, but for those that have a job.
    Told(u64),
}

/// Since when an endpoint drains, and how far it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Drain {
    since: Option<Moment>,
    progress: Progress,
}

impl<C: Connection, R: Rules, const SEGMENT: usize> Endpoint<C, R, SEGMENT> {
    /// The server stops: from now on each turn calls [`Endpoint::drain`].
    pub fn begin_drain(&mut self, now: &Now) {
        self.drain.since.get_or_insert(now.moment);
    }

    /// The owner did not run for a while, which does not count.
    pub fn put_off_drain(&mut self, milliseconds: u64) {
        if let Some(since) = &mut self.drain.since {
            *since = since.plus_milliseconds(milliseconds);
        }
    }

    /// Whether the server stops.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.since.is_some()
    }

    /// Whether links wait to be told that the server stops, and nothing else is waited for.
    #[must_use]
    pub fn is_stopping_links(&self) -> bool {
        matches!(self.drain.progress, Progress::Before(..))
    }

    /// Whether all links have ended since the server stops, or have had their time.
    #[must_use]
    pub fn is_drained(&self, now: &Now) -> bool {
        self.drain.since.is_some_and(|since| {
            self.is_empty() || now.moment.microseconds_since(since) / 1_000 > DRAIN_MILLISECONDS
        })
    }

    /// While the server stops: tells some more links so.
    pub fn drain<S: Services>(&mut self, now: &Now, services: &S) {
        let Some(since) = self.drain.since else { return };
        let waited_milliseconds = now.moment.microseconds_since(since) / 1_000;
        if self.drain.progress == Progress::Waits
            && (self.acks.is_empty() || waited_milliseconds > ACKS_MILLISECONDS)
        {
            // Asked for once: the fleet is no smaller when half of it has been told.
            let spread_seconds = SPREAD_SECONDS_MIN.max(services.reconnect_seconds().into());
            self.drain.progress = Progress::Before(0, spread_seconds);
        }
        for _ in 0..LINKS_PER_TURN {
            let Progress::Before(place, spread_seconds) = self.drain.progress else { return };
            let Some(slot) = self.links.next_from(place) else {
                self.drain.progress = Progress::Told(spread_seconds);
                return;
            };
            self.drain.progress = Progress::Before(slot + 1, spread_seconds);
            if let Some(link) = self.links.name(slot) {
                self.stop_link(now, link, spread_seconds, services);
            }
        }
    }

    /// A job of the link is done: if the others were told meanwhile that the server stops, it is its turn.
    pub(super) fn stop_late<S: Services>(&mut self, now: &Now, link: LinkRef, services: &S) {
        match self.drain.progress {
            Progress::Waits => {}
            Progress::Before(place, _) if link.slot() as usize >= place => {}
            Progress::Before(_, spread_seconds) | Progress::Told(spread_seconds) => {
                self.stop_link(now, link, spread_seconds, services);
            }
        }
    }

    fn stop_link<S: Services>(&mut self, now: &Now, link: LinkRef, spread_seconds: u64, services: &S) {
        let waits_for_jobs = !self.rules.breaks(Rule::DrainWaitsForJobs);
        match self.links.get(link).map(|entry| &entry.stage) {
            Some(Stage::Arriving) => self.close(now, link, CloseReason::Stopping, services),
            Some(Stage::Live(session)) if !(waits_for_jobs && session.has_job()) => {
                let seconds =
                    u32::try_from(1 + self.jitter.up_to(spread_seconds - 1)).unwrap_or(LATER_SECONDS);
                self.tell(now, link, services, |session, out| session.stop(seconds, out));
            }
            _ => {}
        }
    }
}
