//! The server calls devices: where is each, how is it reached, has it come, what is the asker told.
//!
//! One [`WakeScheduler`] has every call that is under way. Its inputs are the devices to call
//! ([`WakeScheduler::ask`]), their places ([`WakeScheduler::found`]), and what sessions see of them
//! ([`WakeScheduler::step`]); it answers with [`WakeAction`]s from [`WakeScheduler::poll`], and wants to be
//! polled again at [`WakeScheduler::next_timeout`].
//!
//! ```text
//! queued ── its turn ──▶ Looking ──┬── has a link ──▶ Asked ──────────┬── sync begins ──▶ Begun ── in sync ──▶ reported
//!                          ▲       ├── can be woken ──▶ Waking(n) ────┤
//!                          │       └── else: reported                 └── n is used up: unreachable, reported
//!                          └───────── no answer on the link ── Asked
//! ```
//!
//! Calls begin at a bounded rate, and a bounded number is under way, so that a call of the whole fleet leaves
//! the server free for everything else.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::command::CallStep;
use super::device_state::LinkRef;
use super::random::Random;
use super::timers::Timers;
use crate::wire::api::{CallOutcome, CallVia};
use crate::wire::datagram::WakeReason;
use crate::wire::id::DeviceId;
use crate::wire::message::SyncReason;
use crate::wire::presence::Presence;
use crate::wire::time::{Moment, WallTime};

/// Most calls under way at a time. One that waits for an answer costs a few hundred bytes and now and then a
/// datagram.
pub const CALLS_MAX: usize = 4_096;

/// Calls that begin in a second at most. Each may bring a handshake of 0.2 ms at worst: a fifth of one core.
pub const CALLS_PER_SECOND: u64 = 1_000;

/// Most questions that wait for their turn: a fleet of a million, once.
pub const QUESTIONS_MAX: usize = 1_000_000;

/// Longest time of the answer on a link before the device is looked for elsewhere.
const LINK_MILLISECONDS: u64 = 2_000;

/// Time until the second wake. It doubles with every further one.
const WAKE_MILLISECONDS_FIRST: u64 = 150;

/// Wakes that are sent before a device is given up, in datagrams: the last one waits for an answer about as
/// long as all before it, nearly ten seconds in all.
pub const WAKES_MAX: u32 = 6;

/// And of a device that wakes are known not to reach: enough to notice that they do again.
pub const WAKES_MAX_UNREACHED: u32 = 3;

/// Time that a device has to look at itself, when it is asked to do so before it syncs.
const FRESH_MILLISECONDS: u64 = 15_000;

/// Longest time of a sync: as long as the agent waits for it.
const SYNC_MILLISECONDS: u64 = 150_000;

/// The operation of those for whom nobody waits.
pub const NO_OPERATION: u64 = 0;

/// Somebody wants a device to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The operation that is told of the outcome; [`NO_OPERATION`]: none.
    pub operation: u64,
    /// Whom to call.
    pub device: DeviceId,
    /// Why; [`WakeReason::Retrieve`] has the device look at itself anew before it syncs.
    pub reason: WakeReason,
}

/// Place and reach of a device, when it is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceLocation {
    /// Its link.
    pub link: Option<LinkRef>,
    /// Address at which it hears wakes.
    pub address: Option<SocketAddr>,
    /// Whether wakes are known not to reach it.
    pub is_unreached: bool,
    /// Its presence.
    pub presence: Presence,
    /// When it comes by itself.
    pub next_slot_at: Option<WallTime>,
}

/// An action that the wake scheduler wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WakeAction {
    /// Look where the device is, note that it is called, and say so: [`WakeScheduler::found`].
    Look(DeviceId),
    /// Have this link's session ask the device.
    OnLink {
        /// Which link.
        link: LinkRef,
        /// Whether the device is to look at itself anew before.
        is_fresh: bool,
    },
    /// Send a wake.
    Wake {
        /// Whom.
        device: DeviceId,
        /// The destination.
        address: SocketAddr,
        /// Why.
        reason: WakeReason,
        /// Its counter; `None` for the first of a call: draw one, and say which ([`WakeScheduler::drawn`]).
        /// The others are copies of it. None is drawn before it is needed: a device that is asked on its link
        /// would seem not to have taken it.
        counter: Option<u32>,
    },
    /// Whether wakes reach the device is known now.
    Learned {
        /// Which device.
        device: DeviceId,
        /// At which address it was called.
        address: SocketAddr,
        /// Whether it came.
        has_come: bool,
    },
    /// Tell who asked.
    Report {
        /// The operation that is told.
        operation: u64,
        /// Which device.
        device: DeviceId,
        /// The outcome.
        outcome: CallOutcome,
    },
    /// Nobody waits for the device any more.
    Ended(DeviceId),
}

#[derive(Debug)]
struct Call {
    asks: Vec<(u64, Moment)>,
    /// Asked when the sync had begun already: theirs is the next one.
    again: Vec<Ask>,
    reason: WakeReason,
    stage: Stage,
    deadline: Moment,
}

#[derive(Debug)]
enum Stage {
    /// `tried` did not answer.
    Looking { tried: Option<LinkRef> },
    /// The device was asked on its link.
    Asked { link: LinkRef },
    /// Wakes are sent.
    Waking {
        address: SocketAddr,
        counter: Option<u32>,
        attempts: u32,
        attempts_max: u32,
        next_slot_at: Option<WallTime>,
    },
    /// Its sync has begun.
    Begun { by: CallVia, at: Moment },
}

/// Every call that is under way.
pub struct WakeScheduler {
    calls: HashMap<DeviceId, Call>,
    queue: VecDeque<(Ask, Moment)>,
    timers: Timers<DeviceId>,
    actions: VecDeque<WakeAction>,
    random: Random,
    /// When the next call may begin.
    begins_at: Moment,
    /// Before it no deadline is looked at.
    judges_from: Moment,
}

impl WakeScheduler {
    /// Nobody is called. `seed` is for jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            calls: HashMap::new(),
            queue: VecDeque::new(),
            timers: Timers::default(),
            actions: VecDeque::new(),
            random: Random::new(seed),
            begins_at: Moment(0),
            judges_from: Moment(0),
        }
    }

    /// Somebody wants a device to come. `false`: too many questions wait already, and this one is not taken.
    #[must_use]
    pub fn ask(&mut self, now: Moment, ask: Ask) -> bool {
        if self.queue.len() >= QUESTIONS_MAX {
            return false;
        }
        self.queue.push_back((ask, now));
        true
    }

    /// Nobody waits for this operation any more: what has not begun does not begin.
    pub fn cancel(&mut self, operation: u64) {
        self.queue.retain(|(ask, _)| ask.operation != operation);
        for call in self.calls.values_mut() {
            call.asks.retain(|(waiting, _)| *waiting != operation);
            call.again.retain(|ask| ask.operation != operation);
        }
    }

    /// Answers [`WakeAction::Look`]; `None`: there is no such device any more.
    pub fn found(&mut self, now: Moment, device: DeviceId, place: Option<DeviceLocation>) {
        let Some(call) = self.calls.get_mut(&device) else { return };
        let Stage::Looking { tried } = call.stage else { return };
        let Some(place) = place else { return self.end(now, device, &CallOutcome::Removed) };
        if let Some(link) = place.link.filter(|link| Some(*link) != tried) {
            let is_fresh = call.reason == WakeReason::Retrieve;
            call.stage = Stage::Asked { link };
            call.deadline = now.plus_milliseconds(LINK_MILLISECONDS + fresh_milliseconds(call.reason));
            self.timers.arm(call.deadline, device);
            self.actions.push_back(WakeAction::OnLink { link, is_fresh });
            return;
        }
        let gone = match place.presence {
            Presence::Asleep => Some(CallOutcome::Asleep),
            Presence::ShutDown => Some(CallOutcome::ShutDown),
            Presence::AgentStopped => Some(CallOutcome::AgentStopped),
            Presence::Connected
            | Presence::Idle
            | Presence::Lost
            | Presence::NeverSeen
            | Presence::Waiting => None,
        };
        if let Some(gone) = gone {
            return self.end(now, device, &gone);
        }
        let next_slot_at = place.next_slot_at;
        let Some(address) = place.address else {
            let next_slot_at = next_slot_at.map(Into::into);
            return self.end(now, device, &CallOutcome::Unreachable { attempts: 0, next_slot_at });
        };
        let (counter, attempts) = (None, 0);
        let attempts_max = if place.is_unreached { WAKES_MAX_UNREACHED } else { WAKES_MAX };
        call.stage = Stage::Waking { address, counter, attempts, attempts_max, next_slot_at };
        self.wake(now, device);
    }

    /// This counter was drawn for the wakes of the call.
    pub fn drawn(&mut self, device: DeviceId, drawn: u32) {
        if let Some(Call { stage: Stage::Waking { counter, .. }, .. }) = self.calls.get_mut(&device) {
            *counter = Some(drawn);
        }
    }

    /// A session has seen something of a device that is called.
    pub fn step(&mut self, now: Moment, device: DeviceId, step: CallStep) {
        let Some(call) = self.calls.get_mut(&device) else { return };
        match (step, &call.stage) {
            (CallStep::Begun { reason, wake_counter }, stage) => {
                // A device that was woken elsewhere, or by an earlier call, says that it was woken as well.
                let mut is_woken = false;
                if let &Stage::Waking { address, counter, .. } = stage
                    && counter == Some(wake_counter)
                {
                    is_woken = reason == SyncReason::Woken;
                    self.actions.push_back(WakeAction::Learned { device, address, has_come: true });
                }
                let is_answer = is_woken || reason == SyncReason::Forced;
                if call.reason == WakeReason::Retrieve && !is_answer {
                    // It had not looked at itself anew.
                    return;
                }
                let by = match (reason, stage) {
                    (_, Stage::Begun { .. }) => return,
                    _ if is_woken => CallVia::Wake,
                    (SyncReason::Forced, _) => CallVia::Link,
                    _ => CallVia::Itself,
                };
                call.stage = Stage::Begun { by, at: now };
                call.deadline = now.plus_milliseconds(SYNC_MILLISECONDS);
                self.timers.arm(call.deadline, device);
            }
            (CallStep::Synced, Stage::Begun { by, at }) => {
                let (by, at) = (*by, *at);
                self.end_with(now, device, |asked| CallOutcome::Synced {
                    by,
                    begun_microseconds: at.microseconds_since(asked),
                    synced_microseconds: now.microseconds_since(asked),
                });
            }
            (CallStep::PutOff, Stage::Begun { .. }) => self.end(now, device, &CallOutcome::PutOff),
            (CallStep::Synced | CallStep::PutOff, _) => {}
        }
    }

    /// Somebody at this address has refused our certificate. When just one device there is being woken, it
    /// was that one.
    pub fn refused_at(&mut self, now: Moment, address: IpAddr) {
        let is_there = |call: &Call| matches!(&call.stage, Stage::Waking { address: there, .. } if there.ip() == address.to_canonical());
        let mut there = self.calls.iter().filter(|(_, call)| is_there(call)).map(|(device, _)| *device);
        if let (Some(device), None) = (there.next(), there.next()) {
            self.end(now, device, &CallOutcome::RefusedCertificate);
        }
    }

    /// Returns the next action.
    pub fn poll(&mut self, now: Moment) -> Option<WakeAction> {
        if self.actions.is_empty() {
            self.look_at_deadlines(now);
        }
        if self.actions.is_empty() {
            self.begin(now);
        }
        self.actions.pop_front()
    }

    /// The server did not run for a while, and may not have heard yet who came: no deadline is looked at
    /// before `moment`.
    pub fn judge_from(&mut self, moment: Moment) {
        self.judges_from = self.judges_from.max(moment);
    }

    /// When [`WakeScheduler::poll`] has something to do by itself.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        let begins_at = (!self.queue.is_empty() && self.calls.len() < CALLS_MAX).then_some(self.begins_at);
        let deadline = self.timers.next().map(|deadline| deadline.max(self.judges_from));
        [begins_at, deadline].into_iter().flatten().min()
    }

    /// Number of calls under way, and of questions that wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.calls.len(), self.queue.len())
    }

    /// Begins the next call, when it is time.
    fn begin(&mut self, now: Moment) {
        while self.calls.len() < CALLS_MAX && now >= self.begins_at {
            let Some((ask, asked)) = self.queue.pop_front() else { return };
            let Ask { operation, device, reason } = ask;
            if let Some(call) = self.calls.get_mut(&device) {
                let is_late = matches!(call.stage, Stage::Begun { .. });
                let wants_more = reason == WakeReason::Retrieve && call.reason != reason;
                if is_late || wants_more {
                    // Nobody is told of them: one stands for all.
                    if operation != NO_OPERATION || !call.again.contains(&ask) {
                        call.again.push(ask);
                    }
                } else if operation != NO_OPERATION {
                    call.asks.push((operation, asked));
                }
                continue;
            }
            // A burst of as many as there are in a tenth of a second is let through at once.
            let earliest = Moment(now.0.saturating_sub(100_000));
            self.begins_at = Moment(self.begins_at.max(earliest).0 + 1_000_000 / CALLS_PER_SECOND);
            let stage = Stage::Looking { tried: None };
            let asks = vec![(operation, asked)];
            self.calls.insert(device, Call { asks, again: Vec::new(), reason, stage, deadline: now });
            self.actions.push_back(WakeAction::Look(device));
            return;
        }
    }

    fn look_at_deadlines(&mut self, now: Moment) {
        if now < self.judges_from {
            return;
        }
        while let Some(device) = self.timers.due(now) {
            // An entry whose call has a later deadline has another entry for that.
            let Some(call) = self.calls.get_mut(&device).filter(|call| call.deadline <= now) else {
                continue;
            };
            match call.stage {
                Stage::Looking { .. } => {}
                Stage::Asked { link } => {
                    call.stage = Stage::Looking { tried: Some(link) };
                    self.actions.push_back(WakeAction::Look(device));
                }
                Stage::Waking { address, attempts, attempts_max, next_slot_at, .. }
                    if attempts >= attempts_max =>
                {
                    self.actions.push_back(WakeAction::Learned { device, address, has_come: false });
                    let next_slot_at = next_slot_at.map(Into::into);
                    self.end(now, device, &CallOutcome::Unreachable { attempts, next_slot_at });
                }
                Stage::Waking { .. } => self.wake(now, device),
                Stage::Begun { at, .. } => self.end_with(now, device, |asked| CallOutcome::Unfinished {
                    begun_microseconds: at.microseconds_since(asked),
                }),
            }
            return;
        }
    }

    fn wake(&mut self, now: Moment, device: DeviceId) {
        let Some(call) = self.calls.get_mut(&device) else { return };
        let Stage::Waking { address, counter, attempts, attempts_max, .. } = &mut call.stage else { return };
        let wait = WAKE_MILLISECONDS_FIRST << *attempts;
        // A quarter more or less, so that the wakes of many devices, sent together, are not repeated
        // together.
        let mut wait = wait - wait / 4 + self.random.up_to(wait / 2);
        *attempts += 1;
        if attempts == attempts_max {
            wait += fresh_milliseconds(call.reason);
        }
        let (address, counter, reason) = (*address, *counter, call.reason);
        call.deadline = now.plus_milliseconds(wait);
        self.timers.arm(call.deadline, device);
        self.actions.push_back(WakeAction::Wake { device, address, reason, counter });
    }

    fn end(&mut self, now: Moment, device: DeviceId, outcome: &CallOutcome) {
        self.end_with(now, device, |_| outcome.clone());
    }

    fn end_with(&mut self, now: Moment, device: DeviceId, outcome: impl Fn(Moment) -> CallOutcome) {
        let Some(call) = self.calls.remove(&device) else { return };
        for (operation, asked) in call.asks {
            if operation != NO_OPERATION {
                self.actions.push_back(WakeAction::Report { operation, device, outcome: outcome(asked) });
            }
        }
        self.actions.push_back(WakeAction::Ended(device));
        // Before all others: they have waited for a sync already.
        for ask in call.again {
            self.queue.push_front((ask, now));
        }
    }
}

fn fresh_milliseconds(reason: WakeReason) -> u64 {
    if reason == WakeReason::Retrieve { FRESH_MILLISECONDS } else { 0 }
}

#[cfg(test)]
mod tests;
