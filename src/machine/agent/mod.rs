//! All that an agent decides: when to connect, what to sync, which events to send, when to let go.
//!
//! The caller tells what happened ([`AgentMachine::connected`], [`AgentMachine::message`], …), then takes
//! [`Action`]s from [`AgentMachine::poll`] until there is none, then sleeps until
//! [`AgentMachine::next_timeout`]. Time that has passed is noticed by `poll`.
//!
//! ```text
//! Down ── something to say ──▶ Connecting ──▶ Up(Resting) ── Sync ──▶ Up(Syncing) ── InSync ──▶ Up(Resting) ──▶ Down, or kept
//! ```

mod backoff;
mod events;
mod fetch;
mod heartbeat;
mod link;
mod messages;
mod renewal;
mod reports;
mod state;
mod upload;

#[cfg(test)]
mod fetch_tests;
#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod large_tests;
#[cfg(test)]
mod renewal_tests;
#[cfg(test)]
mod return_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;

use std::collections::VecDeque;
use std::sync::Arc;

use self::backoff::Backoff;
use self::events::EventSender;
pub use self::events::{EVENT_BATCH_BYTES_TARGET, EVENT_WINDOW_BYTES};
use self::fetch::Download;
use self::heartbeat::Heartbeat;
use self::link::Link;
pub use self::messages::EPOCH_STEP_MAX;
use self::renewal::Renewal;
use self::reports::RunReports;
pub use self::state::{Action, AgentState, LinkEnd, SavedSection, SectionContent, SpoolState, SyncResult};
use self::upload::Base;
use super::credentials::Credentials;
use super::random::Random;
use crate::wire::datagram::WakeReason;
use crate::wire::digest::Digest;
use crate::wire::id::{Epoch, RunId};
use crate::wire::inventory::Application;
use crate::wire::limits::EVENTS_PER_MESSAGE_MAX;
use crate::wire::message::{Reach, SyncIdentity, SyncReason};
use crate::wire::statistics::Statistics;
use crate::wire::task::RunUpdate;
use crate::wire::time::{Moment, Now};

/// Longest connection attempt (name, TCP, TLS).
pub const CONNECT_SECONDS_MAX: u64 = 30;

/// Longest time of the server's answer in a sync: longer than it gives its own store, so that its word comes
/// first.
pub const ANSWER_SECONDS_MAX: u64 = 150;

/// Longest time until the oldest events are acknowledged.
pub const ACK_SECONDS_MAX: u64 = 60;

/// Bytes that wait for the socket from which on nothing more is said: what is long is produced as the socket
/// takes it.
pub const UNSENT_BYTES_TARGET: usize = 128 * 1024;

/// Time that an agent stays away when another one took over its identity: two that fight for it must not
/// storm.
pub const SUPERSEDED_SECONDS: u64 = 60;

/// Time that an agent stays away while it waits for an administrator to approve it: soon enough for somebody
/// who looks whether it comes, and ten thousand that wait cost little.
pub const WAITING_SECONDS: u64 = 60;

/// Time that an agent stays away after the server said that it does not belong to the fleet. Only an
/// administrator can change that.
pub const REMOVED_SECONDS: u64 = 3_600;

/// Time that an agent stays away while it enrols anew: what that takes at most. After the second time it is
/// [`REMOVED_SECONDS`].
pub const FORK_SECONDS: u64 = 150;

/// Longest time away that a server may order: a day, whatever it says.
const AWAY_SECONDS_MAX: u64 = 86_400;

/// Interval before the server has named one.
const INTERVAL_SECONDS_DEFAULT: u32 = 900;

/// Facts that an agent starts with.
#[derive(Clone, Debug)]
pub struct AgentStart {
    /// Its saved state; `None` when it never saved one, or when that is damaged.
    pub state: Option<AgentState>,
    /// The inventory that it saved as the server's, if any.
    pub base: Option<Arc<[Application]>>,
    /// State of its spool.
    pub spool: SpoolState,
    /// The ways in which datagrams reach it.
    pub reach: Reach,
    /// Randomness for epochs and jitter: 64 fresh bits.
    pub seed: u64,
}

/// The agent's decisions. Owns no socket, no file, no clock.
#[derive(Debug)]
pub struct AgentMachine {
    state: AgentState,
    is_state_saved: bool,
    contents: [Option<SectionContent>; 3],
    base: Option<Base>,
    events: EventSender,
    reports: RunReports,
    download: Download,
    /// Digests of the orders that it has: settings, runs.
    desired_digests: (Digest, Digest),
    /// Numbers that the server was not told yet.
    statistics: Option<Statistics>,
    /// Before this moment only who asks is told them.
    statistics_at: Moment,
    link: Link,
    backoff: Backoff,
    random: Random,
    actions: VecDeque<Action>,
    /// Why a sync is due at once.
    sync_wanted: Option<SyncReason>,
    /// When the next one is due by itself.
    next_sync_at: Option<Moment>,
    /// Not before this moment, because the last attempt failed.
    retry_at: Moment,
    /// Not before this moment, because the server said so.
    held_until: Moment,
    interval_seconds: u32,
    /// The longest between two syncs that the device itself wants.
    own_interval_seconds: Option<u32>,
    /// The ping interval, while the server wants the link to stay.
    keep_seconds: Option<u32>,
    heartbeat: Heartbeat,
    /// Before it no silence of the server is judged.
    judges_from: Moment,
    /// Bytes that the socket left when it was last offered all.
    unsent_bytes: usize,
    /// When it last took some of what it had left before: a slow network is no dead one.
    taken_at: Moment,
    reach: Reach,
    /// Marks of its identity; told in the first sync of each link.
    identity: SyncIdentity,
    /// Number of times that it was sent to enrol anew.
    forks: u32,
    credentials: Credentials,
    renewal: Renewal,
    /// The key is of another kind than the settings say.
    is_key_outdated: bool,
    renewal_error: Option<String>,
    /// The agent is about to end: nothing but events is said any more.
    is_ending: bool,
    /// The server said last that an administrator must approve the device.
    waits_for_approval: bool,
    last_error: Option<String>,
    /// Why the server takes this machine for a copy of the device, as it last said.
    copy: Option<String>,
}

/// State of the machine, as `muster-agent status` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentStatus {
    /// Whether there is a link.
    pub is_connected: bool,
    /// Whether the server wants it to stay.
    pub is_persistent: bool,
    /// When the next sync is due; `None` before the server named a time.
    pub next_sync_at: Option<Moment>,
    /// Sequence numbers given out and not yet acknowledged.
    pub unacknowledged: u64,
    /// Until when events wait, as the server said, when they do.
    pub events_held_until: Option<Moment>,
    /// Until when the agent waits before it connects again, when it waits.
    pub waits_until: Option<Moment>,
    /// Whether an administrator must approve the device, as the server said last.
    pub waits_for_approval: bool,
    /// The last fault, until something works again.
    pub last_error: Option<String>,
    /// Why the server takes this machine for a copy of the device, when it does.
    pub copy: Option<String>,
}

impl AgentMachine {
    /// An agent that has just started. It wants to sync at once: tell it the sections
    /// ([`Self::section_changed`]) first.
    #[must_use]
    pub fn new(start: AgentStart) -> Self {
        let mut random = Random::new(start.seed);
        let is_state_saved = start.state.is_some();
        let state = start.state.unwrap_or_else(|| AgentState {
            events_after: start.spool.forgotten_through,
            ..AgentState::new(Epoch(random.next_u64() | 1))
        });
        let events = EventSender::new(start.spool);
        Self {
            state,
            is_state_saved,
            contents: [None, None, None],
            base: start.base.map(Base::new),
            events,
            reports: RunReports::default(),
            download: Download::default(),
            desired_digests: (Digest::EMPTY, Digest::EMPTY),
            statistics: None,
            statistics_at: Moment(0),
            link: Link::Down,
            backoff: Backoff::default(),
            random,
            actions: VecDeque::new(),
            sync_wanted: Some(SyncReason::Started),
            next_sync_at: None,
            retry_at: Moment(0),
            held_until: Moment(0),
            interval_seconds: INTERVAL_SECONDS_DEFAULT,
            own_interval_seconds: None,
            keep_seconds: None,
            heartbeat: Heartbeat::default(),
            judges_from: Moment(0),
            unsent_bytes: 0,
            taken_at: Moment(0),
            reach: start.reach,
            identity: SyncIdentity::default(),
            forks: 0,
            credentials: Credentials::new(false),
            renewal: Renewal::default(),
            is_key_outdated: false,
            renewal_error: None,
            is_ending: false,
            waits_for_approval: false,
            last_error: None,
            copy: None,
        }
    }

    /// A section has this content now. The same content again changes nothing.
    pub fn section_changed(&mut self, content: SectionContent) {
        let index = content.section().index();
        let digest = content.digest();
        let saved = &mut self.state.sections[index];
        let is_new = saved.revision == 0 || saved.digest != digest;
        if is_new {
            saved.revision += 1;
            saved.digest = digest;
            self.is_state_saved = false;
        }
        if is_new || self.contents[index].is_none() {
            self.sync_wanted.get_or_insert(SyncReason::Changed);
        }
        self.contents[index] = Some(content);
    }

    /// Notes the orders that are here, durably: the sums of the digests of the
    /// [settings](crate::wire::settings::SETTINGS_SECTION) and of the
    /// [runs](crate::wire::task::RUNS_SECTION). The next sync says so.
    pub fn set_desired_digests(&mut self, settings: Digest, runs: Digest) {
        self.desired_digests = (settings, runs);
    }

    /// There is news of a run. It is said until [`Action::RunsStored`] names it, over a connection made for
    /// it if need be. After a restart, what was not acknowledged is handed in again.
    pub fn report_run(&mut self, update: RunUpdate) {
        self.reports.push(update);
    }

    /// The run is of no more interest: what waits of it is not said any more.
    pub fn forget_run(&mut self, run: RunId) {
        self.reports.forget(run);
    }

    /// The device's numbers, as they are now. They go with a sync that is due or asked for, and otherwise
    /// once in an interval at most: a device whose sections change all the time does not repeat them each
    /// time. Until then newer ones replace them.
    pub fn set_statistics(&mut self, statistics: Statistics) {
        self.statistics = Some(statistics);
    }

    /// Syncs are at most this many seconds apart, whatever the server says; `None`: as the server says.
    pub fn set_own_interval(&mut self, now: &Now, seconds: Option<u32>) {
        self.own_interval_seconds = seconds;
        if let (Some(at), Some(seconds)) = (self.next_sync_at, seconds) {
            self.next_sync_at = Some(at.min(now.moment.plus_seconds(u64::from(seconds.max(1)))));
        }
    }

    /// The spool has given out this sequence number.
    pub fn events_available(&mut self, highest_sequence: u64) {
        self.events.available(highest_sequence);
    }

    /// Somebody on the device wants a sync now; [`Action::SyncFinished`] will follow. A failure before does
    /// not delay it, the server's word does.
    pub fn asked_to_sync(&mut self, now: &Now) {
        self.sync_wanted = Some(SyncReason::Asked);
        self.retry_at = now.moment;
        if self.held_until > now.moment {
            let seconds = self.held_until.microseconds_since(now.moment).div_ceil(1_000_000);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.actions.push_back(Action::SyncFinished(SyncResult::Later { seconds }));
        }
    }

    /// The server calls: a sync at once, whatever kept the agent away. A wish for a sync during one is
    /// answered by the next.
    pub fn called(&mut self, now: &Now, reason: SyncReason) {
        self.sync_wanted = Some(reason);
        self.retry_at = now.moment;
        self.held_until = now.moment;
    }

    /// An authentic wake has come that was not seen before; [`Self::set_reach`] was told of its counter.
    pub fn woken(&mut self, now: &Now, reason: WakeReason) {
        match reason {
            WakeReason::Sync | WakeReason::Task | WakeReason::Stay => self.called(now, SyncReason::Woken),
            WakeReason::Retrieve => self.actions.push_back(Action::LookAnew(SyncReason::Woken)),
            WakeReason::Probe => {}
        }
    }

    /// The device was asleep: the link that it had is of no more use, and the server is to know that the
    /// device is back.
    pub fn resumed(&mut self, now: &Now) {
        self.is_ending = false;
        if !matches!(self.link, Link::Down) {
            self.end_link(now, LinkEnd::Silent, "the device was asleep");
        }
        self.called(now, SyncReason::Resumed);
    }

    /// The agent did not run for a while: the server's silence is not judged before `moment`, so that what it
    /// has said meanwhile is heard.
    pub fn judge_from(&mut self, moment: Moment) {
        self.judges_from = self.judges_from.max(moment);
    }

    /// The socket was offered all that was ready, and left `bytes` bytes. To be told whenever more than
    /// [`UNSENT_BYTES_TARGET`] wait to be offered, and whenever the socket takes more.
    pub fn set_unsent(&mut self, now: &Now, bytes: usize) {
        if bytes < std::mem::replace(&mut self.unsent_bytes, bytes) {
            self.taken_at = now.moment;
            self.sync_goes_on(now);
        }
    }

    /// Whether more may be said now: not while the socket has enough.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.unsent_bytes < UNSENT_BYTES_TARGET
    }

    /// The ways in which datagrams reach the device now: the next sync says so. It is due at once when wakes
    /// go elsewhere from now on.
    pub fn set_reach(&mut self, reach: Reach) {
        if reach.udp_port != self.reach.udp_port {
            self.sync_wanted.get_or_insert(SyncReason::Changed);
        }
        self.reach = reach;
    }

    /// The marks of its identity now: what it trusts, and which machine it is. Told in the first sync of each
    /// link, and again in the next one when they have changed.
    pub fn set_identity(&mut self, identity: SyncIdentity) {
        if identity != self.identity
            && let Link::Up(up) = &mut self.link
        {
            up.has_named_identity = false;
        }
        self.identity = identity;
    }

    /// Trusts what has this label from now on, durably: the server is told so at once.
    pub fn set_trust(&mut self, trust_label: u64) {
        self.set_identity(SyncIdentity { trust_label, ..self.identity });
        self.sync_wanted.get_or_insert(SyncReason::Changed);
    }

    /// The agent is about to end: no more syncs; what is in the spool is still delivered
    /// ([`Self::has_delivered`]), and a link that is there stays, for a shutdown notice. A failure before
    /// does not delay it, the server's word does.
    pub fn end(&mut self, now: &Now) {
        self.is_ending = true;
        self.retry_at = self.retry_at.min(now.moment);
    }

    /// Whether the server has acknowledged all that the spool gave out.
    #[must_use]
    pub fn has_delivered(&self) -> bool {
        !self.events.is_pending() && !self.reports.is_pending()
    }

    /// Whether there is a link, so that something can be said on it.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// The UDP port on which the server hears notices, as it last said; `None` when it has the number of the
    /// TCP port.
    #[must_use]
    pub fn notice_port(&self) -> Option<u16> {
        self.state.notice_port
    }

    /// Whether a sync is due that has not begun: what is asked for during a sync is answered by the next one.
    #[must_use]
    pub fn is_sync_wanted(&self) -> bool {
        self.sync_wanted.is_some()
    }

    /// Takes the answer to [`Action::ReadSpool`]; empty when everything behind the number was dropped.
    pub fn spool_read(&mut self, now: &Now, events: &[(u64, Vec<u8>)]) {
        if let Some(frame) = self.events.read(now.moment, events, self.state.events_after) {
            self.send(now, frame);
        }
    }

    /// Returns the next action; `None` until something happens or [`Self::next_timeout`] comes.
    pub fn poll(&mut self, now: &Now) -> Option<Action> {
        if self.actions.is_empty() {
            self.advance(now);
        }
        self.actions.pop_front()
    }

    /// Returns its state.
    #[must_use]
    pub fn status(&self, now: &Now) -> AgentStatus {
        let waits_until = self.retry_at.max(self.held_until);
        AgentStatus {
            is_connected: self.is_connected(),
            is_persistent: self.keep_seconds.is_some(),
            next_sync_at: self.next_sync_at,
            unacknowledged: self.events.unacknowledged(),
            events_held_until: self.events.held_until().filter(|until| *until > now.moment),
            waits_until: (waits_until > now.moment).then_some(waits_until),
            waits_for_approval: self.waits_for_approval,
            last_error: self.last_error.clone(),
            copy: self.copy.clone(),
        }
    }

    fn save_state(&mut self) {
        if !std::mem::replace(&mut self.is_state_saved, true) {
            self.actions.push_back(Action::SaveState(Box::new(self.state.clone())));
        }
    }

    fn read_spool(&mut self) -> bool {
        let Some(after_sequence) = self.events.next_read() else { return false };
        self.actions.push_back(Action::ReadSpool {
            after_sequence,
            max_bytes: EVENT_BATCH_BYTES_TARGET,
            max_events: EVENTS_PER_MESSAGE_MAX,
        });
        true
    }
}
