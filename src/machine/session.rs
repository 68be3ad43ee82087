//! The server's half of one link.
//!
//! A session is told what arrives, with the time and the device's record, and answers with [`Command`]s. It
//! never waits: work that needs the disk leaves as a [`Job`] and comes back as a [`JobOutcome`].
//!
//! ```text
//! Stranger ── Enrol ──▶ Enrolling ── outcome ──▶ (closed; the device connects anew)
//! Known(Resting) ── Sync, digests differ ──▶ Known(Syncing) ── every section stored ──▶ Known(Resting)
//! ```
//!
//! A session of an idle device is a few words; an upload that is under way has a box of its own, for as long
//! as it lasts.

mod copies;
mod events;
mod fetch;
mod probe;
mod sync;
mod upload;

#[cfg(test)]
mod large_tests;
#[cfg(any(test, feature = "internals"))]
pub mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;

use std::net::IpAddr;

use super::close::CloseReason;
use super::command::{
    Command, DesiredStateOutcome, EnrolmentOutcome, Job, JobOutcome, RenewalOutcome, RunsOutcome,
    SectionOutcome,
};
use super::device_state::DeviceState;
use super::rate::{self, EventRate, Owed};
use crate::wire::id::{DeviceId, Epoch};
use crate::wire::message::{
    ErrorCode, ErrorReport, Goodbye, Later, MessageError, SyncNow, ToAgent, ToServer,
};
use crate::wire::time::{CoarseMoment, Moment, Now};
use events::EventFlow;
use fetch::Fetching;
use sync::Syncing;

/// Longest time until a device says its first word. It speaks at once when it means it.
pub const FIRST_MESSAGE_SECONDS: u64 = 20;

/// Longest time until a peer without a certificate says that it wants to enrol: three tries of TCP (RFC 6298:
/// 1 + 2 s) bring its word here, which it says with the end of its handshake.
pub const STRANGER_SECONDS: u64 = 5;

/// Longest silence of a link that is not persistent. An agent closes it after its sync by itself; this is for
/// agents that forget.
pub const LINGER_SECONDS: u64 = 60;

/// Longest time of a job before the link is given up. The store answers or fails long before.
pub const JOB_SECONDS: u64 = 120;

/// Delay, beyond its word, with which a device on a persistent link may be heard before the link counts as
/// dead: as long again, within these. In that time TCP has sent a lost ping again a few times (RFC 6298).
const HEARTBEAT_GRACE_SECONDS: std::ops::RangeInclusive<u64> = 10..=60;

/// Reports of one link that may be with workers at a time: an agent waits for the answer to one before it
/// makes the next.
const REPORTS_MAX: u8 = 4;

/// Messages that may fail to decode before the link is closed. One may come of a newer version; this many
/// come of a fault.
pub const MALFORMED_MAX: u8 = 8;

/// When a device is to come again that could not be served, in seconds at least: the caller spreads it.
pub const LATER_SECONDS: u32 = 5;

/// A device is told this when an administrator has removed it.
pub const REMOVED: &str =
    "this device was removed from the server; to come back it has to enrol again with a new token";

/// A device is told this when another machine has taken its record over.
pub const TAKEN_OVER: &str = "another machine has taken this device's record over ('musterctl device re-enrol'), and this certificate died with that; \
     to come back as another device it has to enrol again with a new token ('muster-agent enroll --force')";

/// Answer of the server to a sync, worked out by the caller from the device's record and the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncPolicy {
    /// The server's history.
    pub server_epoch: Epoch,
    /// When the device is to come again: its slot.
    pub next_seconds: u32,
    /// The device's interval.
    pub interval_seconds: u32,
    /// Interval of the agent's pings when its link stays; `None` when the link does not stay.
    pub keep_seconds: Option<u32>,
    /// Whether there is room for more jobs. Without it a device that differs is told to come later, before it
    /// sends anything.
    pub has_room: bool,
    /// Whether there is room for one more part of an artifact: less than for syncs, which go first.
    pub has_fetch_room: bool,
    /// Over how many seconds devices are to spread when they lose the server; 0: they may come at once.
    pub reconnect_seconds: u32,
    /// When a device is to come again that can't be served now; spread, so that not all of them come at once.
    pub later_seconds: u32,
    /// Address that the device's link comes from; `None` when that is not known.
    pub peer: Option<IpAddr>,
    /// The UDP port on which notices are heard, when it is not that of TCP.
    pub notice_port: Option<u16>,
    /// Share of the log that the events of one device may take.
    pub event_rate: EventRate,
    /// Names what devices are to trust; 0: nothing does, and none is told.
    pub trust_label: u64,
}

/// The server's half of one link.
#[derive(Debug)]
pub struct Session {
    state: State,
    deadline: CoarseMoment,
    owed: Owed,
    malformed: u8,
}

#[derive(Debug)]
enum State {
    /// A peer without a certificate: it may enrol, and nothing else.
    Stranger,
    /// Its enrolment is with a worker.
    Enrolling,
    /// A copy of this device, which is sent to enrol anew: the token for that is with a worker.
    Forking(DeviceId),
    /// A device of the fleet.
    Known {
        device: DeviceId,
        phase: Phase,
        spoke: bool,
        /// Whether it has named on this link what it trusts.
        names_trust: bool,
        reports: u8,
        fetching: Fetching,
        events: EventFlow,
    },
    /// The link is about to close; whatever still comes is ignored.
    Closing { device: Option<DeviceId> },
}

#[derive(Debug)]
enum Phase {
    /// Nothing is under way.
    Resting {
        /// The device's signs of life; `None` when its link does not stay.
        heartbeat: Option<Heartbeat>,
    },
    /// The device's sections are being brought over.
    Syncing(Box<Syncing>),
}

/// Signs of life of a device on a persistent link.
#[derive(Clone, Copy, Debug)]
struct Heartbeat {
    /// The ping interval that it was told: the longest that it may use.
    told_seconds: u32,
    /// In how many seconds it said it would be heard again.
    next_seconds: u32,
}

impl Heartbeat {
    fn told(keep_seconds: Option<u32>) -> Option<Self> {
        let seconds = keep_seconds?.max(1);
        Some(Self { told_seconds: seconds, next_seconds: seconds })
    }

    fn deadline_seconds(self) -> u64 {
        let next = u64::from(self.next_seconds);
        next + next.clamp(*HEARTBEAT_GRACE_SECONDS.start(), *HEARTBEAT_GRACE_SECONDS.end())
    }
}

impl Session {
    /// A session on a link whose handshake has just ended. `device` is who the certificate says it is; `None`
    /// when there was no certificate.
    #[must_use]
    pub fn new(now: &Now, device: Option<DeviceId>) -> Self {
        let (state, seconds) = match device {
            None => (State::Stranger, STRANGER_SECONDS),
            Some(device) => {
                let known = State::Known {
                    device,
                    phase: Phase::Resting { heartbeat: None },
                    spoke: false,
                    names_trust: false,
                    reports: 0,
                    fetching: Fetching::Nothing,
                    events: EventFlow::default(),
                };
                (known, FIRST_MESSAGE_SECONDS)
            }
        };
        let deadline = CoarseMoment::not_before(now.moment.plus_seconds(seconds));
        Self { state, deadline, owed: Owed::default(), malformed: 0 }
    }

    /// Whether a message is acted on now that costs this much ([`rate::cost_microseconds`]): it is taken from
    /// the device's allowance. To be asked before [`Session::handle`] and [`Session::handle_undecodable`].
    ///
    /// # Errors
    /// The allowance is used up: the message waits where it is until this moment, and then is asked for
    /// again.
    pub fn admit(
        &mut self,
        now: &Now,
        record: &mut DeviceState,
        cost_microseconds: u64,
    ) -> Result<(), Moment> {
        let opens_at = record.allowance.opens_at();
        if opens_at > now.moment {
            return Err(opens_at);
        }
        self.owed.take(&mut record.allowance, now.moment, cost_microseconds);
        Ok(())
    }

    /// A message has come. `record` is the device's, and is there whenever the session has a device.
    pub fn handle<'b>(
        &mut self,
        now: &Now,
        message: ToServer<'b>,
        record: Option<&mut DeviceState>,
        policy: &SyncPolicy,
        out: &mut Vec<Command<'b>>,
    ) {
        match (&mut self.state, message) {
            (State::Closing { .. } | State::Forking(_), _) => return,
            (State::Stranger, ToServer::Enrol(enrol)) => {
                self.state = State::Enrolling;
                out.push(Command::Job(Box::new(Job::Enrol(enrol))));
            }
            (State::Stranger, _) => {
                let reason = "this link has no client certificate: enrol first (muster-agent enroll)";
                return self.refuse(ErrorCode::NotEnrolled, reason, CloseReason::NotEnrolled, out);
            }
            (State::Enrolling, _) => {
                let reason = "the enrolment is still being worked on";
                return self.report_fault(ErrorCode::Unexpected, reason, out);
            }
            (
                State::Known { device, phase, spoke, names_trust, reports, fetching, events: flow },
                message,
            ) => {
                let Some(record) = record.filter(|record| record.device == *device) else {
                    return self.removed(out);
                };
                record.note_seen(now.wall);
                *spoke = true;
                let before = out.len();
                match message {
                    ToServer::Sync(sync) => {
                        let is_to_trust = sync::hear_trust(names_trust, reports, record, &sync, policy, out);
                        sync::begin(phase, record, &sync, is_to_trust, policy, now, out);
                    }
                    ToServer::Part(part) => sync::take_part(phase, *part, out),
                    ToServer::Events(events) => {
                        if let Err(message) = flow.take(record, &events, policy.event_rate, now, out) {
                            // Events that are still under way on this link count in the same, contradicted
                            // history: the link ends.
                            let code = ErrorCode::SpoolEpochConflict;
                            return self.refuse(code, &message, CloseReason::SpoolEpochConflict, out);
                        }
                    }
                    ToServer::Ping(ping) => {
                        out.push(Command::Send(ToAgent::Pong));
                        if let (Phase::Resting { heartbeat: Some(heartbeat) }, Some(seconds)) =
                            (&mut *phase, ping.next_seconds)
                        {
                            heartbeat.next_seconds = seconds.clamp(1, heartbeat.told_seconds);
                        }
                    }
                    ToServer::Goodbye(Goodbye { kind, counter, boot }) => {
                        // One that is stale is a fault of the device's, and hurts nobody.
                        let _ = record.note_notice(kind, counter, boot, now.wall);
                        return self.close(CloseReason::PeerClosed, out);
                    }
                    ToServer::Runs(updates) => take_report(reports, Job::Runs(*device, updates), policy, out),
                    ToServer::Statistics(statistics) => {
                        take_report(reports, Job::Statistics(*device, statistics), policy, out);
                    }
                    ToServer::Probe(probe) => {
                        let answer = probe::probed(record, probe, policy, now, out);
                        out.push(Command::Send(answer));
                    }
                    ToServer::Renew(renew) if *reports < REPORTS_MAX => {
                        *reports += 1;
                        out.push(Command::Job(Box::new(Job::Renew(*device, renew))));
                    }
                    ToServer::Renew(_) => {
                        out.push(report(ErrorCode::Unexpected, "too many requests at a time"));
                    }
                    ToServer::Fetch(fetch) => fetching.begin(*device, fetch, policy, out),
                    ToServer::Enrol(_) => {
                        out.push(report(ErrorCode::Unexpected, "this device is enrolled already"));
                    }
                }
                let jobs = out[before..].iter().filter(|command| command.is_work()).count();
                self.owed.take(&mut record.allowance, now.moment, rate::jobs_microseconds(jobs));
            }
        }
        self.extend_deadline(now);
    }

    /// A frame's body did not decode. The link lives on, up to [`MALFORMED_MAX`] of them; a device's messages
    /// of an unknown kind do not count, as a newer agent may send them, and take from its allowance.
    pub fn handle_undecodable(&mut self, error: &MessageError, out: &mut Vec<Command<'_>>) {
        let is_device = matches!(self.state, State::Known { .. });
        match error {
            MessageError::UnknownKind(_) if is_device => {
                out.push(report(ErrorCode::UnknownKind, &error.to_string()));
            }
            MessageError::UnknownKind(_) => {
                self.report_fault(ErrorCode::UnknownKind, &error.to_string(), out);
            }
            MessageError::Malformed(_) => self.report_fault(ErrorCode::Malformed, &error.to_string(), out),
        }
    }

    /// Reports what may come of a fault, and ends the link when there is too much of it.
    fn report_fault(&mut self, code: ErrorCode, reason: &str, out: &mut Vec<Command<'_>>) {
        self.malformed += 1;
        if self.malformed < MALFORMED_MAX {
            out.push(report(code, reason));
        } else {
            self.refuse(code, reason, CloseReason::Malformed, out);
        }
    }

    /// A job has come back. The record was told before.
    pub fn job_done(
        &mut self,
        now: &Now,
        outcome: JobOutcome,
        record: Option<&mut DeviceState>,
        policy: &SyncPolicy,
        out: &mut Vec<Command<'static>>,
    ) {
        match (&mut self.state, outcome) {
            (State::Enrolling, JobOutcome::Enrolment(outcome)) => {
                match outcome {
                    EnrolmentOutcome::Enrolled(enrolled) => {
                        out.push(Command::Send(ToAgent::Enrolled(enrolled)));
                    }
                    EnrolmentOutcome::Refused(report) => out.push(Command::Send(ToAgent::Error(report))),
                    EnrolmentOutcome::Failed => {
                        let reason = "the server could not store the enrolment; its log says why. Try again";
                        out.push(report(ErrorCode::Internal, reason));
                    }
                }
                self.close(CloseReason::EnrolmentDone, out);
            }
            (State::Forking(_), JobOutcome::Fork(outcome)) => self.forked(outcome, policy, out),
            (State::Known { reports, .. }, JobOutcome::Runs(outcome)) => {
                *reports = reports.saturating_sub(1);
                if let RunsOutcome::Stored(stored) = outcome {
                    out.push(Command::Send(ToAgent::RunsStored(stored)));
                }
            }
            (State::Known { reports, .. }, JobOutcome::Statistics(_) | JobOutcome::TrustNoted) => {
                *reports = reports.saturating_sub(1);
            }
            (State::Known { reports, .. }, JobOutcome::Renewal(outcome)) => {
                *reports = reports.saturating_sub(1);
                match outcome {
                    RenewalOutcome::Issued(renewed) => out.push(Command::Send(ToAgent::Renewed(renewed))),
                    RenewalOutcome::Refused(report) => out.push(Command::Send(ToAgent::Error(report))),
                    RenewalOutcome::DeviceRemoved => self.removed(out),
                    RenewalOutcome::Failed => {
                        let reason = "the server could not store the certificate; its log says why";
                        out.push(report(ErrorCode::Internal, reason));
                    }
                }
            }
            (State::Known { fetching, .. }, JobOutcome::Fetch(part)) => fetching.answer(part, out),
            (
                State::Known { .. },
                JobOutcome::Section(_, SectionOutcome::DeviceRemoved)
                | JobOutcome::DesiredState(DesiredStateOutcome::DeviceRemoved),
            ) => self.removed(out),
            (
                State::Known { phase, .. },
                outcome @ (JobOutcome::Section(..) | JobOutcome::DesiredState(_) | JobOutcome::Trust(_)),
            ) => {
                let Some(record) = record else {
                    return self.removed(out);
                };
                sync::job_done(phase, record, outcome, policy, now, out);
                self.extend_deadline(now);
            }
            // A job of a link that has ended, or none that such a link has.
            (
                State::Stranger
                | State::Closing { .. }
                | State::Enrolling
                | State::Forking(_)
                | State::Known { .. },
                _,
            ) => {}
        }
    }

    /// Of the events of the last message `events`, with `bytes` bytes together, are in the journal.
    pub fn note_appended(
        &mut self,
        now: &Now,
        record: &mut DeviceState,
        rate: EventRate,
        events: u64,
        bytes: u64,
    ) {
        if let State::Known { events: flow, .. } = &mut self.state {
            flow.note_appended(now, record, rate, (events, bytes));
        }
    }

    /// The message of events that was handled last is looked at once more: what came of it is void.
    pub fn look_again(&mut self) {
        if let State::Known { events: flow, .. } = &mut self.state {
            flow.look_again();
        }
    }

    /// The journal had no room for an event: the device keeps what was not acknowledged and comes again with
    /// it. The link ends: later events may be under way on it, and were they appended, those without room
    /// would count as sent before, and be lost.
    pub fn append_refused(&mut self, seconds: u32, out: &mut Vec<Command<'_>>) {
        if !matches!(self.state, State::Closing { .. }) {
            out.push(Command::Send(ToAgent::Later(Later::with_all(seconds))));
            self.close(CloseReason::JournalFull, out);
        }
    }

    /// Somebody waits for the device: it is to sync at once. A sync that is under way is not waited for, as
    /// it may have begun before.
    pub fn sync_now(&mut self, is_fresh: bool, out: &mut Vec<Command<'_>>) {
        if matches!(self.state, State::Known { .. }) {
            out.push(Command::Send(ToAgent::SyncNow(SyncNow { is_fresh })));
        }
    }

    /// Another link of the same device is there: this one ends.
    pub fn superseded(&mut self, out: &mut Vec<Command<'_>>) {
        let reason = "another link of this device took over; if this is not a reconnection, two agents have one identity";
        self.refuse(ErrorCode::Superseded, reason, CloseReason::Superseded, out);
    }

    /// The device was removed by an administrator, or is not known any more.
    pub fn removed(&mut self, out: &mut Vec<Command<'_>>) {
        self.refuse(ErrorCode::DeviceRemoved, REMOVED, CloseReason::DeviceRemoved, out);
    }

    /// Another machine has taken the device's record over: what this one shows is no certificate of it any
    /// more.
    pub fn taken_over(&mut self, out: &mut Vec<Command<'_>>) {
        let code = ErrorCode::CertificateSuperseded;
        self.refuse(code, TAKEN_OVER, CloseReason::CertificateSuperseded, out);
    }

    /// The server stops: the device is told when to come again.
    pub fn stop(&mut self, seconds: u32, out: &mut Vec<Command<'_>>) {
        if matches!(self.state, State::Closing { .. }) {
            return;
        }
        out.push(Command::Send(ToAgent::Later(Later::with_all(seconds))));
        self.refuse(ErrorCode::Stopping, "the server stops; come again", CloseReason::Stopping, out);
    }

    /// Time of the next call of [`Session::handle_timeout`], unless something comes before.
    #[must_use]
    pub fn deadline(&self) -> Moment {
        self.deadline.moment()
    }

    /// Looks whether the deadline has passed.
    pub fn handle_timeout(&mut self, now: &Now, out: &mut Vec<Command<'_>>) {
        if now.moment < self.deadline() {
            return;
        }
        match &self.state {
            State::Closing { .. } => {}
            State::Stranger | State::Known { spoke: false, .. } => {
                self.close(CloseReason::SilentStranger, out);
            }
            State::Enrolling | State::Forking(_) => self.close(CloseReason::Internal, out),
            State::Known { .. } => self.close(CloseReason::Idle, out),
        }
    }

    /// The device that the link belongs to.
    #[must_use]
    pub fn device(&self) -> Option<DeviceId> {
        match &self.state {
            State::Known { device, .. } | State::Forking(device) => Some(*device),
            State::Closing { device } => *device,
            State::Stranger | State::Enrolling => None,
        }
    }

    /// Whether this message would have an enrolment worked on.
    #[must_use]
    pub fn would_enrol(&self, message: &ToServer<'_>) -> bool {
        matches!((&self.state, message), (State::Stranger, ToServer::Enrol(_)))
    }

    /// Whether the device was told to keep the link, so that its silence is measured by pings.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        matches!(&self.state, State::Known { phase: Phase::Resting { heartbeat: Some(_) }, .. })
    }

    /// Whether a job is with a worker: a draining server waits for it.
    #[must_use]
    pub fn has_job(&self) -> bool {
        match &self.state {
            State::Enrolling | State::Forking(_) => true,
            State::Known { reports, .. } if *reports > 0 => true,
            State::Known { fetching: Fetching::WithWorker, .. } => true,
            State::Known { phase: Phase::Syncing(syncing), .. } => syncing.jobs() > 0,
            State::Known { .. } | State::Stranger | State::Closing { .. } => false,
        }
    }

    /// Memory that it holds: parts of a section that is not whole yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Known { phase: Phase::Syncing(syncing), .. } => syncing.held_bytes(),
            _ => 0,
        }
    }

    /// Whether [`Session::sent`] is waited for.
    #[must_use]
    pub fn waits_to_be_sent(&self) -> bool {
        let State::Known { phase, fetching, .. } = &self.state else { return false };
        *fetching == Fetching::Unsent
            || matches!(phase, Phase::Syncing(syncing) if syncing.waits_to_be_sent())
    }

    /// The socket has taken all that was said. A message that does not go out at once is worked out only
    /// then, so that a device costs the same memory however much there is to say.
    pub fn sent(&mut self, now: &Now, out: &mut Vec<Command<'_>>) {
        let State::Known { phase, fetching, .. } = &mut self.state else { return };
        fetching.sent();
        if let Phase::Syncing(syncing) = phase {
            syncing.sent(out);
            self.extend_deadline(now);
        }
    }

    /// The device has taken some of what waited for it: it is slow, and it is there.
    pub fn took_some(&mut self, now: &Now) {
        if matches!(self.state, State::Known { spoke: true, .. }) {
            self.extend_deadline(now);
        }
    }

    fn extend_deadline(&mut self, now: &Now) {
        let seconds = match &self.state {
            State::Known { phase: Phase::Resting { heartbeat: Some(heartbeat) }, .. } => {
                heartbeat.deadline_seconds()
            }
            State::Known { phase: Phase::Syncing(syncing), .. } if syncing.jobs() > 0 => JOB_SECONDS,
            State::Enrolling | State::Forking(_) => JOB_SECONDS,
            State::Known { .. } | State::Stranger | State::Closing { .. } => LINGER_SECONDS,
        };
        self.deadline = CoarseMoment::not_before(now.moment.plus_seconds(seconds));
    }

    fn refuse(&mut self, code: ErrorCode, reason: &str, close: CloseReason, out: &mut Vec<Command<'_>>) {
        if !matches!(self.state, State::Closing { .. }) {
            out.push(report(code, reason));
            self.close(close, out);
        }
    }

    fn close(&mut self, reason: CloseReason, out: &mut Vec<Command<'_>>) {
        self.state = State::Closing { device: self.device() };
        out.push(Command::Close(reason));
    }
}

fn report(code: ErrorCode, reason: &str) -> Command<'static> {
    Command::Send(ToAgent::Error(ErrorReport { code, message: reason.to_owned() }))
}

/// Has what a device reports stored. Without room it is let go: what matters is said again until it is
/// acknowledged.
fn take_report(reports: &mut u8, job: Job, policy: &SyncPolicy, out: &mut Vec<Command<'_>>) {
    if policy.has_room && *reports < REPORTS_MAX {
        *reports += 1;
        out.push(Command::Job(Box::new(job)));
    }
}
