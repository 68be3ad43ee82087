//! The link: when there is one, what happens on it by itself, and when it ends.

use std::collections::VecDeque;

use super::state::{Action, LinkEnd, SavedSection, SectionContent, SyncResult};
use super::upload::Upload;
use super::{ACK_SECONDS_MAX, ANSWER_SECONDS_MAX, AWAY_SECONDS_MAX, AgentMachine, CONNECT_SECONDS_MAX};
use crate::wire::message::{NamedSection, Ping, Sync, SyncIdentity, SyncReason, ToServer};
use crate::wire::section::Section;
use crate::wire::settings::SETTINGS_SECTION;
use crate::wire::task::RUNS_SECTION;
use crate::wire::time::{Moment, Now};

/// Time that a link that is not to stay is left open after events were acknowledged: events come in bursts,
/// and the next would need a handshake.
const LINGER_MILLISECONDS: u64 = 1_000;

#[derive(Debug)]
pub(super) enum Link {
    Down,
    Connecting { since: Moment },
    Up(Box<Up>),
}

#[derive(Debug)]
pub(super) struct Up {
    pub(super) syncing: Option<Syncing>,
    pub(super) last_sent: Moment,
    /// Until when the link is left open for further events, after some were acknowledged.
    pub(super) lingers_until: Moment,
    /// Number of times that the server contradicted the agent epoch on this link.
    pub(super) epoch_conflicts: u8,
    /// The marks of the identity were told on it.
    pub(super) has_named_identity: bool,
    /// A sync has ended well on it.
    pub(super) has_synced: bool,
}

/// A sync that is under way, with the content that it began with.
#[derive(Debug)]
pub(super) struct Syncing {
    pub(super) reason: SyncReason,
    pub(super) since: Moment,
    pub(super) contents: [Option<(SectionContent, SavedSection)>; 3],
    pub(super) uploads: VecDeque<Upload>,
    pub(super) uploaded: Vec<Section>,
    /// The UDP port that the server was told.
    pub(super) udp_port: u16,
}

impl AgentMachine {
    /// The link stands, and the server is the right one.
    pub fn connected(&mut self, now: &Now) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        self.link = Link::Up(Box::new(Up {
            syncing: None,
            last_sent: now.moment,
            lingers_until: now.moment,
            epoch_conflicts: 0,
            has_named_identity: false,
            has_synced: false,
        }));
        self.credentials.connected();
        if self.keep_seconds.is_some() {
            self.sync_wanted.get_or_insert(SyncReason::Reconnected);
        }
    }

    /// The attempt failed, or the link broke or was closed by the server. `reason` is for people.
    pub fn disconnected(&mut self, now: &Now, reason: &str) {
        if matches!(self.link, Link::Down) {
            return;
        }
        // A link that the server closes when everything is done is how it should be.
        let was_at_rest = matches!(&self.link, Link::Up(up) if up.syncing.is_none())
            && self.keep_seconds.is_none()
            && self.sync_wanted.is_none()
            && !self.is_delivering()
            && !self.is_fetching();
        if was_at_rest {
            return self.drop_link();
        }
        self.failed(now, reason);
    }

    /// Events were acknowledged: more may follow soon.
    pub(super) fn linger(&mut self, now: &Now) {
        if let Link::Up(up) = &mut self.link {
            up.lingers_until = now.moment.plus_milliseconds(LINGER_MILLISECONDS);
        }
    }

    /// Does what time and state ask for: at most one step, as actions.
    pub(super) fn advance(&mut self, now: &Now) {
        self.events.go_on(now.moment);
        match &mut self.link {
            Link::Down => {
                if self.wants_link(now) && now.moment >= self.earliest() {
                    self.link = Link::Connecting { since: now.moment };
                    self.actions.push_back(Action::Connect);
                }
            }
            Link::Connecting { since } => {
                if now.moment >= self.judges_from.max(since.plus_seconds(CONNECT_SECONDS_MAX)) {
                    self.end_link(now, LinkEnd::Silent, "the connection attempt took too long");
                }
            }
            Link::Up(_) => self.advance_link(now),
        }
    }

    fn advance_link(&mut self, now: &Now) {
        if let Some(deadline) = self.silence_deadline()
            && now.moment >= deadline
        {
            return self.end_link(now, LinkEnd::Silent, "the server did not answer in time");
        }
        if !self.has_room() {
            return;
        }
        let is_due = self.is_sync_due(now) && now.moment >= self.held_until;
        let Link::Up(up) = &mut self.link else { return };
        if let Some(syncing) = &mut up.syncing {
            if let Some(upload) = syncing.uploads.front_mut() {
                let (frame, is_last) = upload.next_part();
                if is_last {
                    syncing.uploads.pop_front();
                }
                syncing.since = now.moment;
                return self.send(now, frame);
            }
        } else if is_due {
            return self.begin_sync(now);
        } else if !self.download.is_asked() && self.advance_renewal(now) || self.advance_fetch(now) {
            return;
        }
        if self.read_spool() {
            return;
        }
        if let Some(frame) = self.reports.next_message(now.moment) {
            return self.send(now, frame);
        }
        let Link::Up(up) = &self.link else { return };
        let is_resting = up.syncing.is_none();
        match self.keep_seconds {
            Some(_) if now.moment >= self.heartbeat.due(up.last_sent) => {
                let next_seconds = Some(self.heartbeat.ping(now.moment));
                let mut frame = Vec::new();
                ToServer::Ping(Ping { next_seconds }).write_to(&mut frame);
                self.send(now, frame);
            }
            // An agent that ends has a shutdown notice to send on it.
            None if is_resting
                && !self.is_delivering()
                && !self.is_renewing()
                && !self.is_fetching()
                && !self.is_ending
                && now.moment >= up.lingers_until =>
            {
                self.actions.push_back(Action::CloseLink(LinkEnd::Done));
                self.drop_link();
            }
            _ => {}
        }
    }

    /// When [`Self::poll`] has something to do next by itself; `None` when only an input can change anything.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        let sync_at = match self.sync_wanted {
            _ if self.is_ending => None,
            Some(_) => Some(Moment(0)),
            None => self.next_sync_at,
        };
        match &self.link {
            Link::Down => {
                let at = [self.delivers_at(), sync_at, self.wants_fetch_at()].into_iter().flatten().min();
                at.map(|at| at.max(self.earliest()))
            }
            Link::Connecting { since } => Some(self.judges_from.max(since.plus_seconds(CONNECT_SECONDS_MAX))),
            Link::Up(_) if !self.has_room() => self.silence_deadline(),
            Link::Up(up) => {
                let sync_at = sync_at.filter(|_| up.syncing.is_none()).map(|at| at.max(self.held_until));
                let ping_at = self.keep_seconds.map(|_| self.heartbeat.due(up.last_sent));
                let is_at_rest = up.syncing.is_none() && !self.is_delivering() && !self.is_ending;
                let is_resting = up.syncing.is_none();
                let renewal_at = self.renewal_at().filter(|_| is_resting && !self.download.is_asked());
                let fetch_at = self.fetch_at().filter(|_| is_resting);
                let is_needed = self.is_renewing() || self.is_fetching() || self.keep_seconds.is_some();
                let done_at = (is_at_rest && !is_needed).then_some(up.lingers_until);
                let report_at =
                    self.reports.is_pending().then(|| self.reports.deadline().unwrap_or(Moment(0)));
                let events_at = self.events.held_until().and(self.events.pending_at());
                let silence_at = self.silence_deadline();
                [sync_at, ping_at, renewal_at, fetch_at, done_at, report_at, events_at, silence_at]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    /// When the link counts as dead, if nothing is heard.
    fn silence_deadline(&self) -> Option<Moment> {
        let Link::Up(up) = &self.link else { return None };
        let answer = up.syncing.as_ref().map(|syncing| syncing.since.plus_seconds(ANSWER_SECONDS_MAX));
        let ack = self.events.oldest_sent_at().map(|at| at.plus_seconds(ACK_SECONDS_MAX));
        let part = self.download.deadline();
        let deadline = [answer, ack, part, self.heartbeat.deadline()].into_iter().flatten().min()?;
        // Messages that waited for the socket are behind it only now.
        Some(deadline.max(self.judges_from).max(self.taken_at.plus_seconds(ACK_SECONDS_MAX)))
    }

    fn is_sync_due(&self, now: &Now) -> bool {
        let is_due = self.sync_wanted.is_some() || self.next_sync_at.is_some_and(|at| now.moment >= at);
        is_due && !self.is_ending
    }

    fn wants_link(&self, now: &Now) -> bool {
        let is_fetch_due = self.wants_fetch_at().is_some_and(|at| now.moment >= at);
        self.is_sync_due(now) || self.is_delivering() || is_fetch_due
    }

    /// Whether there is anything that the server has not acknowledged, beside events that are to wait.
    fn is_delivering(&self) -> bool {
        self.delivers_at() == Some(Moment(0))
    }

    /// From when on there is; `None` when there is nothing.
    fn delivers_at(&self) -> Option<Moment> {
        if self.reports.is_pending() { Some(Moment(0)) } else { self.events.pending_at() }
    }

    fn earliest(&self) -> Moment {
        self.retry_at.max(self.held_until)
    }

    pub(super) fn begin_sync(&mut self, now: &Now) {
        let reason = self.sync_wanted.take().unwrap_or(SyncReason::Scheduled);
        // A revision that the server may hear of must be known after a crash, too.
        self.save_state();
        let contents = [0, 1, 2].map(|index| {
            self.contents[index].as_ref().map(|content| (content.clone(), self.state.sections[index]))
        });
        let ordered = [(SETTINGS_SECTION, self.desired_digests.0), (RUNS_SECTION, self.desired_digests.1)];
        let ordered = ordered.map(|(section, digest)| NamedSection {
            section,
            digest,
            revision: 0,
            confirmed_revision: None,
        });
        let sections = contents
            .iter()
            .flatten()
            .map(|(content, saved)| NamedSection {
                section: content.section().number(),
                digest: saved.digest,
                revision: saved.revision,
                confirmed_revision: (saved.confirmed_revision != saved.revision)
                    .then_some(saved.confirmed_revision),
            })
            .chain(ordered)
            .collect();
        let sync = Sync {
            agent_epoch: self.state.agent_epoch,
            server_epoch: self.state.server_epoch,
            reason,
            clock: now.wall,
            sections,
            reach: Some(self.reach),
            identity: self.identity_to_tell(),
        };
        let mut frame = Vec::new();
        let is_by_the_way = matches!(reason, SyncReason::Changed | SyncReason::Reconnected);
        if let Some(statistics) =
            self.statistics.take_if(|_| !is_by_the_way || now.moment >= self.statistics_at)
        {
            self.statistics_at = now.moment.plus_seconds(u64::from(self.interval_seconds));
            ToServer::Statistics(statistics).write_to(&mut frame);
        }
        ToServer::Sync(sync).write_to(&mut frame);
        self.send(now, frame);
        if let Link::Up(up) = &mut self.link {
            up.syncing = Some(Syncing {
                reason,
                since: now.moment,
                contents,
                uploads: VecDeque::new(),
                uploaded: Vec::new(),
                udp_port: self.reach.udp_port,
            });
        }
    }

    /// The marks of the identity, unless the server has heard them on this link.
    fn identity_to_tell(&mut self) -> Option<SyncIdentity> {
        let Link::Up(up) = &mut self.link else { return None };
        let is_told = std::mem::replace(&mut up.has_named_identity, true);
        (!is_told && self.identity != SyncIdentity::default()).then_some(self.identity)
    }

    pub(super) fn send(&mut self, now: &Now, frame: Vec<u8>) {
        if let Link::Up(up) = &mut self.link {
            up.last_sent = now.moment;
            self.actions.push_back(Action::Send(frame));
        }
    }

    /// Ends the link because something is wrong.
    pub(super) fn end_link(&mut self, now: &Now, end: LinkEnd, reason: &str) {
        self.actions.push_back(Action::CloseLink(end));
        self.failed(now, reason);
    }

    /// Stays away for a time that the server ordered.
    pub(super) fn hold(&mut self, now: &Now, seconds: u64) {
        self.held_until = now.moment.plus_seconds(seconds.min(AWAY_SECONDS_MAX));
    }

    fn failed(&mut self, now: &Now, reason: &str) {
        let asked = match &self.link {
            Link::Up(up) => up.syncing.as_ref().map(|syncing| syncing.reason),
            Link::Down | Link::Connecting { .. } => None,
        };
        self.last_error = Some(reason.to_owned());
        if asked.is_some() || self.sync_wanted.is_some() {
            self.actions.push_back(Action::SyncFinished(SyncResult::Failed { reason: reason.to_owned() }));
        }
        if let Some(reason) = asked {
            self.sync_wanted.get_or_insert(reason);
        }
        // A server that was away may have lost what it kept in memory of this device: a sync tells it again.
        self.sync_wanted.get_or_insert(SyncReason::Reconnected);
        self.retry_at = self.backoff.failed(now.moment, self.interval_seconds, &mut self.random);
        self.drop_link();
    }

    /// No link any more; what was not acknowledged is sent again on the next.
    pub(super) fn drop_link(&mut self) {
        self.link = Link::Down;
        self.renewal_link_ended();
        self.download.link_ended();
        (self.unsent_bytes, self.taken_at) = (0, Moment(0));
        self.heartbeat.link_ended();
        self.events.rewind();
        self.reports.rewind();
    }
}
