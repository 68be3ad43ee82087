//! The server's messages, and their consequences.

use std::sync::Arc;

use super::AgentMachine;
use super::events::AckMeaning;
use super::link::{Link, Syncing};
use super::state::{Action, LinkEnd, SectionContent, SyncResult};
use super::upload::{Base, Upload};
use super::{AWAY_SECONDS_MAX, FORK_SECONDS, REMOVED_SECONDS, SUPERSEDED_SECONDS, WAITING_SECONDS};
use crate::wire::id::Epoch;
use crate::wire::message::{Ack, ErrorCode, ErrorReport, InSync, Later, SyncNow, SyncReason, ToAgent, Want};
use crate::wire::time::Now;

/// Number of times that the server may contradict the agent epoch on one link before the agent gives up and
/// comes again.
const EPOCH_CONFLICTS_MAX: u8 = 3;

/// A new spool epoch lies at most so far above the old one. Two that were drawn from the same one differ all
/// but surely, either may be the higher, and 2^24 of them fit.
pub const EPOCH_STEP_MAX: u64 = 1 << 40;

/// Why the link ends when the agent is sent to enrol anew.
const FORKED: &str =
    "another machine uses this device's identity, and was first: this one enrols as a device of its own";

impl AgentMachine {
    /// A message has come.
    pub fn message(&mut self, now: &Now, message: ToAgent) {
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        self.heartbeat.heard();
        if matches!(message, ToAgent::Settings(_) | ToAgent::Run(_)) {
            // The answer has begun, and may be long.
            self.sync_goes_on(now);
        }
        match message {
            ToAgent::InSync(in_sync) => self.in_sync(now, &in_sync),
            ToAgent::Want(want) => self.wanted(now, &want),
            ToAgent::Ack(ack) => self.acknowledged(now, &ack),
            ToAgent::Resend(resend) => {
                if let Some(after_sequence) = self.events.resend(&resend, self.state.events_after) {
                    self.actions.push_back(Action::Recall { after_sequence });
                }
            }
            ToAgent::Later(Later { seconds, only_events: true }) => self.hold_events(now, seconds),
            ToAgent::Later(later) => self.later(now, later.seconds),
            ToAgent::Error(report) => self.refused(now, &report),
            ToAgent::Pong => {}
            ToAgent::SyncNow(SyncNow { is_fresh: true }) => {
                self.actions.push_back(Action::LookAnew(SyncReason::Forced));
            }
            ToAgent::SyncNow(SyncNow { is_fresh: false }) => self.called(now, SyncReason::Forced),
            ToAgent::Settings(order) => self.actions.push_back(Action::TakeSettings(order)),
            ToAgent::Run(order) => self.actions.push_back(Action::TakeRun(order)),
            ToAgent::Runs(list) => self.actions.push_back(Action::TakeRunList(list.runs)),
            ToAgent::RunsStored(stored) => {
                self.reports.acknowledge(&stored);
                self.backoff.succeeded();
                self.linger(now);
                self.actions.push_back(Action::RunsStored(stored.acks));
            }
            // Enrolment and probes have links and conversations of their own.
            ToAgent::Enrolled(_) | ToAgent::Probed(_) => {}
            ToAgent::ArtifactPart(part) => self.artifact_part(now, part),
            ToAgent::Fork(fork) => {
                // When it fails, the next sync asks for it again.
                let seconds = if self.forks == 0 { FORK_SECONDS } else { REMOVED_SECONDS };
                self.forks += 1;
                self.hold(now, seconds);
                self.copy = Some(FORKED.to_owned());
                self.actions.push_back(Action::Fork(Box::new(fork)));
                self.end_link(now, LinkEnd::Refused, FORKED);
            }
            ToAgent::RenewNow => self.want_renewal(),
            ToAgent::Renewed(renewed) => self.renewed(renewed),
            ToAgent::Trust(trust) => self.actions.push_back(Action::TakeTrust(trust)),
        }
    }

    /// There is progress in the sync that is under way, if any.
    pub(super) fn sync_goes_on(&mut self, now: &Now) {
        if let Link::Up(up) = &mut self.link
            && let Some(syncing) = &mut up.syncing
        {
            syncing.since = now.moment;
        }
    }

    fn in_sync(&mut self, now: &Now, in_sync: &InSync) {
        let Link::Up(up) = &mut self.link else { return };
        let Some(syncing) = up.syncing.take() else { return };
        up.has_synced = true;
        let Syncing { contents, uploaded, udp_port, .. } = syncing;
        for section in &uploaded {
            if let Some((_, sent)) = &contents[section.index()] {
                let saved = &mut self.state.sections[section.index()];
                self.is_state_saved &= saved.confirmed_revision == sent.revision;
                saved.confirmed_revision = sent.revision;
            }
        }
        // Another set of certificates may have been stored meanwhile.
        let mut has_changed = udp_port != self.reach.udp_port || !up.has_named_identity;
        for (index, (_, sent)) in contents.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_ref()?))) {
            has_changed |= self.state.sections[index].digest != sent.digest;
        }
        has_changed |= contents.iter().zip(&self.contents).any(|(then, now)| then.is_none() && now.is_some());
        if let Some((SectionContent::Inventory(applications), sent)) = &contents[0]
            && self.base.as_ref().is_none_or(|base| base.digest != sent.digest)
        {
            self.base = Some(Base { digest: sent.digest, applications: Arc::clone(applications) });
            self.actions.push_back(Action::SaveBase(Arc::clone(applications)));
        }
        let was_restored = ![Epoch(0), in_sync.server_epoch].contains(&self.state.server_epoch);
        let told = (in_sync.server_epoch, in_sync.notice_port);
        self.is_state_saved &= (self.state.server_epoch, self.state.notice_port) == told;
        (self.state.server_epoch, self.state.notice_port) = told;
        if let Some(counter) = in_sync.notice_counter {
            self.actions.push_back(Action::RaiseNoticeCounter { counter });
            // For the server the shutdown notice still holds: only a sync that names it, or more, takes it
            // back.
            self.sync_wanted.get_or_insert(SyncReason::Reconnected);
        }
        self.save_state();
        let next_seconds = in_sync.next_seconds.min(self.own_interval_seconds.unwrap_or(u32::MAX)).max(1);
        self.next_sync_at = Some(now.moment.plus_seconds(u64::from(next_seconds)));
        self.interval_seconds = in_sync.interval_seconds;
        self.keep_seconds = in_sync.keep_seconds.map(|seconds| seconds.max(1));
        if let Some(seconds) = self.keep_seconds {
            self.heartbeat.allow(seconds);
        }
        self.backoff.synced(self.has_delivered());
        self.backoff.announced(in_sync.reconnect_seconds);
        self.retry_at = now.moment;
        (self.last_error, self.copy, self.waits_for_approval) = (None, None, false);
        if has_changed {
            self.sync_wanted.get_or_insert(SyncReason::Changed);
        } else if self.sync_wanted == Some(SyncReason::Changed) {
            // It changed and changed back, or changed before the sync was sent.
            self.sync_wanted = None;
        }
        self.actions.push_back(Action::SyncFinished(SyncResult::InSync { uploaded }));
        self.synced_with_certificate();
        if was_restored && let Some(frame) = self.events.claim(self.state.events_after) {
            self.send(now, frame);
            self.linger(now);
        }
    }

    fn wanted(&mut self, now: &Now, want: &Want) {
        let Link::Up(up) = &mut self.link else { return };
        let Some(syncing) = &mut up.syncing else { return };
        syncing.since = now.moment;
        let mut is_known = true;
        for wanted in &want.sections {
            match &syncing.contents[wanted.section.index()] {
                Some((content, saved)) => {
                    let base = self.base.as_ref();
                    let upload = Upload::new(content, saved.digest, saved.revision, wanted.base, base);
                    syncing.uploads.push_back(upload);
                    if !syncing.uploaded.contains(&wanted.section) {
                        syncing.uploaded.push(wanted.section);
                    }
                }
                None => is_known = false,
            }
        }
        if !is_known {
            self.end_link(now, LinkEnd::Refused, "the server wants a section that this device did not name");
        }
    }

    fn acknowledged(&mut self, now: &Now, ack: &Ack) {
        match self.events.acknowledge(ack) {
            AckMeaning::Nothing => {}
            AckMeaning::Forget(sequence) => {
                self.backoff.succeeded();
                self.linger(now);
                self.actions.push_back(Action::ForgetThrough { sequence });
            }
            AckMeaning::RolledBack => self.new_spool_epoch(now),
        }
    }

    /// Events wait; the link and all else go on.
    fn hold_events(&mut self, now: &Now, seconds: u32) {
        let seconds = u64::from(seconds).clamp(1, AWAY_SECONDS_MAX);
        if self.events.hold(now.moment.plus_seconds(seconds)) {
            self.actions.push_back(Action::EventsHeld { seconds });
        }
    }

    fn later(&mut self, now: &Now, seconds: u32) {
        self.hold(now, u64::from(seconds.max(1)));
        let Link::Up(up) = &mut self.link else { return };
        let syncing = up.syncing.take();
        if let Some(syncing) = &syncing {
            self.sync_wanted.get_or_insert(syncing.reason);
            self.actions.push_back(Action::SyncFinished(SyncResult::Later { seconds }));
        }
        if self.keep_seconds.is_some() {
            // The link is to stay, and comes back whenever the server lets it.
            self.sync_wanted.get_or_insert(SyncReason::Reconnected);
        }
        // Without a sync it is the events that the server has no room for, or the server stops: they are sent
        // again from the first, on a new link.
        if self.keep_seconds.is_none() || syncing.is_none() {
            self.actions.push_back(Action::CloseLink(LinkEnd::Later));
            self.drop_link();
        }
    }

    fn refused(&mut self, now: &Now, report: &ErrorReport) {
        if self.is_about_renewal(report.code) {
            return self.renewal_failed(&report.message);
        }
        if self.is_about_fetch(report.code) {
            return self.fetch_failed(now);
        }
        self.waits_for_approval = false;
        match report.code {
            // The server is older than this agent.
            ErrorCode::UnknownKind => {}
            ErrorCode::SpoolEpochConflict => self.new_spool_epoch(now),
            ErrorCode::AgentEpochConflict => self.new_agent_epoch(now, &report.message),
            ErrorCode::Superseded => {
                self.hold(now, SUPERSEDED_SECONDS);
                self.end_link(now, LinkEnd::Refused, &report.message);
            }
            ErrorCode::WaitingForApproval => {
                self.waits_for_approval = true;
                self.end_link(now, LinkEnd::Refused, &report.message);
                // The server is there: nothing has failed that would take longer each time. No hold:
                // somebody at the device may know that it is approved.
                self.backoff.succeeded();
                self.retry_at = now.moment.plus_seconds(WAITING_SECONDS);
            }
            ErrorCode::NotEnrolled | ErrorCode::CertificateSuperseded if self.refuse_certificate() => {
                self.end_link(now, LinkEnd::Refused, &report.message);
                self.retry_at = now.moment;
            }
            ErrorCode::DeviceRemoved
            | ErrorCode::NotEnrolled
            | ErrorCode::Cloned
            | ErrorCode::CertificateSuperseded => {
                self.copy = (report.code == ErrorCode::Cloned).then(|| report.message.clone());
                self.hold(now, REMOVED_SECONDS);
                self.end_link(now, LinkEnd::Refused, &report.message);
            }
            ErrorCode::Malformed
            | ErrorCode::Unexpected
            | ErrorCode::TokenUnknown
            | ErrorCode::TokenExpired
            | ErrorCode::TokenUsedUp
            | ErrorCode::TokenRevoked
            | ErrorCode::NameRefused
            | ErrorCode::Internal => {
                self.backoff.refused();
                self.end_link(now, LinkEnd::Refused, &report.message);
            }
            ErrorCode::Stopping => self.end_link(now, LinkEnd::Refused, &report.message),
        }
    }

    fn new_agent_epoch(&mut self, now: &Now, message: &str) {
        let Link::Up(up) = &mut self.link else { return };
        let Some(syncing) = up.syncing.take() else { return };
        up.epoch_conflicts += 1;
        if up.epoch_conflicts > EPOCH_CONFLICTS_MAX {
            up.syncing = Some(syncing);
            return self.end_link(now, LinkEnd::Refused, message);
        }
        self.state.agent_epoch = Epoch(self.random.next_u64() | 1);
        for section in &mut self.state.sections {
            section.confirmed_revision = 0;
        }
        self.is_state_saved = false;
        self.sync_wanted.get_or_insert(syncing.reason);
    }

    /// Begins a new, higher spool epoch, on a new link, so that nothing of the old one is still under way.
    fn new_spool_epoch(&mut self, now: &Now) {
        let step = 1 + self.random.up_to(EPOCH_STEP_MAX);
        let epoch = Epoch(self.events.highest_epoch().0.saturating_add(step));
        self.actions.push_back(Action::NewSpoolEpoch { epoch });
        self.end_link(
            now,
            LinkEnd::NewSpoolEpoch,
            "the server has other events of this device: the spool begins a new epoch",
        );
        self.state.events_after = self.events.begin_epoch(epoch);
        self.is_state_saved = false;
        self.save_state();
    }
}
