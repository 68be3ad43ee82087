//! Fetching an artifact, part by part, over whatever links there are meanwhile.
//!
//! The caller says which part is wanted, and keeps it before it says the next: how far a download is stands
//! on its disk alone.

use super::link::Link;
use super::state::Action;
use super::{ANSWER_SECONDS_MAX, AWAY_SECONDS_MAX, AgentMachine};
use crate::wire::artifact::{ArtifactPart, Fetch};
use crate::wire::message::{ErrorCode, SyncReason, ToServer};
use crate::wire::time::{Moment, Now};

/// Time after which a part is asked for again when the server could not make sense of the question.
const AGAIN_SECONDS: u64 = 60;

/// A link that is not to stay is kept when the next part may be asked for within this time: a handshake costs
/// the server more.
const KEPT_SECONDS: u64 = 30;

/// Progress of a download.
#[derive(Debug, Default)]
pub(super) struct Download {
    /// The part that is wanted.
    wanted: Option<Fetch>,
    /// The part that the server was asked for on this link, and when.
    asked: Option<(Fetch, Moment)>,
    /// Not before this moment, because the server said so.
    not_before: Moment,
    /// That is long, and no reason to keep a link.
    waits_long: bool,
}

impl Download {
    /// When the link counts as dead without an answer.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.asked.map(|(_, since)| since.plus_seconds(ANSWER_SECONDS_MAX))
    }

    /// When the next part may be asked for; `None`: none is wanted, or the server was asked.
    fn due(&self) -> Option<Moment> {
        self.wanted.filter(|_| self.asked.is_none()).map(|_| self.not_before)
    }

    /// The server was asked, and has not answered.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    fn wait(&mut self, now: &Now, seconds: u64) {
        self.not_before = now.moment.plus_seconds(seconds);
        self.waits_long = seconds > KEPT_SECONDS;
    }

    /// The link has ended: a question on it has no answer any more.
    pub(super) fn link_ended(&mut self) {
        self.asked = None;
    }
}

impl AgentMachine {
    /// The part of an artifact that the device wants next, as [`Action::TakeArtifactPart`]; `None`: none.
    /// It takes the place of the one before. The same again changes nothing.
    pub fn set_fetch(&mut self, wanted: Option<Fetch>) {
        self.download.wanted = wanted;
    }

    /// A part has come, or why none does.
    pub(super) fn artifact_part(&mut self, now: &Now, part: ArtifactPart) {
        let download = &mut self.download;
        let answered = Fetch { hash: part.hash, offset: part.offset };
        if download.asked.take_if(|(asked, _)| *asked == answered).is_none() {
            return;
        }
        self.backoff.succeeded();
        self.linger(now);
        let download = &mut self.download;
        // Another one may be wanted meanwhile.
        let is_wanted = download.wanted == Some(answered);
        match part.again_seconds {
            Some(seconds) => download.wait(now, u64::from(seconds).clamp(1, AWAY_SECONDS_MAX)),
            None if is_wanted => {
                download.wanted = None;
                self.actions.push_back(Action::TakeArtifactPart(part));
            }
            None => {}
        }
    }

    /// Whether an error of the server is its answer to a [`Fetch`]: it answers nothing else so while no sync
    /// and no renewal is under way.
    pub(super) fn is_about_fetch(&self, code: ErrorCode) -> bool {
        let is_resting = matches!(&self.link, Link::Up(up) if up.syncing.is_none());
        let is_answer = matches!(
            code,
            ErrorCode::UnknownKind | ErrorCode::Malformed | ErrorCode::Unexpected | ErrorCode::Internal
        );
        self.download.is_asked() && is_resting && is_answer
    }

    /// The server has no answer: it is an older one, or too much was asked.
    pub(super) fn fetch_failed(&mut self, now: &Now) {
        self.download.asked = None;
        self.download.wait(now, AGAIN_SECONDS);
    }

    /// Asks for the next part on a link on which no sync is under way; one has to come first. Whether
    /// something was sent.
    pub(super) fn advance_fetch(&mut self, now: &Now) -> bool {
        if self.fetch_at().is_none_or(|at| now.moment < at) {
            return false;
        }
        if !matches!(&self.link, Link::Up(up) if up.has_synced) {
            self.sync_wanted = Some(SyncReason::Reconnected);
            self.begin_sync(now);
            return true;
        }
        let Some(fetch) = self.download.wanted else { return false };
        let mut frame = Vec::new();
        ToServer::Fetch(fetch).write_to(&mut frame);
        self.send(now, frame);
        self.download.asked = Some((fetch, now.moment));
        true
    }

    /// When [`advance_fetch`](Self::advance_fetch) has something to do on a link on which no sync is under
    /// way.
    pub(super) fn fetch_at(&self) -> Option<Moment> {
        self.wants_fetch_at().filter(|_| !self.is_renewing())
    }

    /// From when on a link is wanted for the next part; `None`: for none.
    pub(super) fn wants_fetch_at(&self) -> Option<Moment> {
        self.download.due().filter(|_| !self.is_ending).map(|at| at.max(self.held_until))
    }

    /// Whether the link is still needed for an artifact.
    pub(super) fn is_fetching(&self) -> bool {
        let is_next = self.wants_fetch_at().is_some() && !self.download.waits_long;
        self.download.is_asked() || is_next
    }
}
