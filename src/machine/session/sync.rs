//! A sync, from the first digest to the last section.

use super::upload::Upload;
use super::{Heartbeat, Phase, SyncPolicy, take_report};
use crate::machine::command::{
    CallStep, Command, DesiredState, DesiredStateAfter, DesiredStateOutcome, Job, JobOutcome, SectionOutcome,
    SectionUpdate,
};
use crate::machine::device_state::{DeviceState, REVISION_MAX};
use crate::machine::record::OWN_EPOCH;
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch, RunId};
use crate::wire::message::{
    ErrorCode, ErrorReport, InSync, Later, NamedSection, Part, Resend, Sync, ToAgent, Want, WantedSection,
};
use crate::wire::section::Section;
use crate::wire::task::RunList;
use crate::wire::time::Now;

/// Times that one section may be asked for in one sync: as a difference, whole, and once more when the
/// content changed in between. Content that then still does not fit never will.
const REQUESTS_PER_SECTION_MAX: u8 = 3;

/// A sync that is under way.
#[derive(Debug)]
pub(super) struct Syncing {
    device: DeviceId,
    agent_epoch: Epoch,
    /// The orders that the device has; `None` when it takes no desired state, or has been told what it lacks.
    desired_state: Option<Digest>,
    wanted: [Option<Wanted>; 3],
    upload: Option<Upload>,
    jobs: u8,
    answer: Answer,
    /// Progress through the device's desired state, while there is more: that waits until the socket has
    /// taken this.
    told: Option<DesiredStateAfter>,
}

/// Contents of the answer beside the policy.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// The notice counter that the device is to go on from, when it was rolled back.
    notice_counter: Option<u32>,
}

/// A section that has not arrived yet.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    base: Option<Digest>,
    requests: u8,
    is_with_worker: bool,
}

impl Syncing {
    /// Number of jobs with workers.
    pub(super) fn jobs(&self) -> u8 {
        self.jobs
    }

    /// Bytes of the parts that wait for the rest of their section.
    pub(super) fn held_bytes(&self) -> usize {
        self.upload.as_ref().map_or(0, Upload::held_bytes)
    }

    /// Whether more follows when the socket has taken what was said.
    pub(super) fn waits_to_be_sent(&self) -> bool {
        self.told.is_some()
    }

    /// The socket has taken all that was said.
    pub(super) fn sent(&mut self, out: &mut Vec<Command<'_>>) {
        if let Some(told) = self.told.take() {
            self.jobs += 1;
            out.push(Command::Job(Box::new(Job::MoreDesiredState(self.device, told))));
        }
    }

    fn ask(&mut self, section: Section, base: Option<Digest>) -> WantedSection {
        let wanted =
            self.wanted[section.index()].get_or_insert(Wanted { base, requests: 0, is_with_worker: false });
        wanted.base = base;
        wanted.requests += 1;
        wanted.is_with_worker = false;
        WantedSection { section, base }
    }
}

/// Hears which label the device names, and has the one noted that it should. Returns whether the device must
/// be told what to trust: it has named something else, on this link or before that was changed. One that
/// never names anything does not know such things.
pub(super) fn hear_trust(
    names_trust: &mut bool,
    reports: &mut u8,
    record: &DeviceState,
    sync: &Sync,
    policy: &SyncPolicy,
    out: &mut Vec<Command<'_>>,
) -> bool {
    *names_trust |= sync.identity.is_some();
    match sync.identity.map(|identity| identity.trust_label) {
        _ if policy.trust_label == 0 => false,
        Some(label) if label != policy.trust_label => true,
        Some(label) if !record.has_trust() => {
            take_report(reports, Job::NoteTrust(record.device, label), policy, out);
            false
        }
        Some(_) => false,
        None => *names_trust && !record.has_trust(),
    }
}

/// The device says where its sections stand. `is_to_trust`: it must be told what to trust, too; that goes by
/// the way of a sync, so without room the next one brings it.
pub(super) fn begin(
    phase: &mut Phase,
    record: &mut DeviceState,
    sync: &Sync,
    is_to_trust: bool,
    policy: &SyncPolicy,
    now: &Now,
    out: &mut Vec<Command<'_>>,
) {
    if let Phase::Syncing(syncing) = phase
        && syncing.jobs > 0
    {
        // Jobs with the workers would come back into another sync.
        return report(ErrorCode::Unexpected, "the sync before is still being worked on".into(), out);
    }
    record.note_reach(sync.reach.as_ref(), policy.peer, now.wall);
    record.note_clock(sync.clock, now.wall);
    record.note_machine(sync.identity.as_ref());
    let goes_on_at = sync.reach.filter(|reach| reach.notice_counter < record.notice_counter);
    let answer = Answer { notice_counter: goes_on_at.map(|_| record.notice_counter) };
    let wake_counter = sync.reach.map_or(0, |reach| reach.wake_counter);
    call_step(record, CallStep::Begun { reason: sync.reason, wake_counter }, out);
    let same_history = sync.agent_epoch == record.agent_epoch;
    let differing: Vec<(Section, &NamedSection)> = sync
        .sections
        .iter()
        .filter_map(|named| named.known().map(|section| (section, named)))
        .filter(|(section, named)| {
            named.digest != record.section(*section).digest || record.base(*section).is_none()
        })
        .collect();
    let has_desired_state =
        sync.desired_digest().is_none_or(|desired_state| desired_state == record.desired_digest);
    let is_to_trust = is_to_trust && policy.has_room;
    if differing.is_empty() && has_desired_state && !is_to_trust {
        return finish(phase, record, answer, policy, now, out);
    }
    let mut was_restored = false;
    if same_history {
        for (section, named) in &differing {
            let stored = record.section(*section).revision;
            let revision = named.revision.min(REVISION_MAX);
            let confirmed = named.confirmed_revision.unwrap_or(revision).min(REVISION_MAX);
            was_restored |= confirmed > stored;
            if revision < stored && confirmed < stored {
                let message = format!(
                    "{section}: the device is at revision {}, the server has {stored}: the device was rolled back to an older image",
                    named.revision
                );
                return report(ErrorCode::AgentEpochConflict, message, out);
            }
        }
    }
    if was_restored {
        out.push(Command::ServerRestored);
        // Of another epoch the device leaves it unheard, and when it was acknowledged no more than that.
        let spool_epoch = record.spool_epoch;
        if spool_epoch != OWN_EPOCH {
            let after = record.last_sequence;
            out.push(Command::Send(ToAgent::Resend(Resend { spool_epoch, after })));
        }
    }
    if !policy.has_room {
        return put_off(phase, record, policy, out);
    }
    let mut syncing = Box::new(Syncing {
        device: record.device,
        agent_epoch: sync.agent_epoch,
        desired_state: sync.desired_digest(),
        wanted: [None; 3],
        upload: None,
        jobs: 0,
        answer,
        told: None,
    });
    let mut sections = Vec::new();
    for (section, _) in differing {
        if syncing.wanted[section.index()].is_none() {
            let base = record.base(section).filter(|_| same_history && !was_restored);
            sections.push(syncing.ask(section, base));
        }
    }
    if is_to_trust {
        syncing.jobs += 1;
        out.push(Command::Job(Box::new(Job::Trust(record.device))));
    }
    if sections.is_empty() {
        if !has_desired_state {
            ask_for_desired_state(&mut syncing, out);
        }
    } else {
        out.push(Command::Send(ToAgent::Want(Want { sections })));
    }
    *phase = Phase::Syncing(syncing);
}

/// The sections are in sync: the desired state is worked out behind them, as it depends on them.
fn ask_for_desired_state(syncing: &mut Syncing, out: &mut Vec<Command<'_>>) {
    syncing.desired_state = None;
    syncing.jobs += 1;
    out.push(Command::Job(Box::new(Job::DesiredState(syncing.device))));
}

/// A piece of a section has come.
pub(super) fn take_part(phase: &mut Phase, part: Part, out: &mut Vec<Command<'_>>) {
    let Phase::Syncing(syncing) = phase else {
        return report(ErrorCode::Unexpected, format!("{}: nobody asked for it", part.section), out);
    };
    let section = part.section;
    let Some(wanted) = syncing.wanted[section.index()].filter(|wanted| !wanted.is_with_worker) else {
        return report(
            ErrorCode::Unexpected,
            format!("{section}: it was not asked for, or is there already"),
            out,
        );
    };
    if part.base.is_some() && part.base != wanted.base {
        let message = format!("{section}: a difference from another content than the one that was asked for");
        return abandon(phase, message, out);
    }
    let is_last = part.is_last;
    let taken = match syncing.upload.take() {
        None => Upload::begin(part),
        Some(upload) => upload.take(part),
    };
    match taken {
        Err(error) => abandon(phase, format!("{section}: {error}"), out),
        Ok(upload) if !is_last => syncing.upload = Some(upload),
        Ok(upload) => match upload.finish() {
            Err(error) => abandon(phase, format!("{section}: {error}"), out),
            Ok(finished) => {
                syncing.jobs += 1;
                if let Some(wanted) = &mut syncing.wanted[section.index()] {
                    wanted.is_with_worker = true;
                }
                out.push(Command::Job(Box::new(Job::Section(SectionUpdate {
                    device: syncing.device,
                    section,
                    agent_epoch: syncing.agent_epoch,
                    revision: finished.revision,
                    digest: finished.digest,
                    base: finished.base,
                    change: finished.change,
                }))));
            }
        },
    }
}

/// A worker is done with a section.
pub(super) fn job_done(
    phase: &mut Phase,
    record: &mut DeviceState,
    outcome: JobOutcome,
    policy: &SyncPolicy,
    now: &Now,
    out: &mut Vec<Command<'_>>,
) {
    let Phase::Syncing(syncing) = phase else { return };
    syncing.jobs = syncing.jobs.saturating_sub(1);
    let again = match outcome {
        JobOutcome::Section(section, SectionOutcome::Stored(_)) => {
            syncing.wanted[section.index()] = None;
            None
        }
        JobOutcome::Section(section, SectionOutcome::BaseUnknown | SectionOutcome::DigestMismatch) => {
            Some(section)
        }
        JobOutcome::DesiredState(DesiredStateOutcome::All(desired_state)) => {
            let runs = tell(*desired_state, out);
            out.push(Command::Send(ToAgent::Runs(RunList { runs })));
            None
        }
        JobOutcome::DesiredState(DesiredStateOutcome::Part(desired_state, told)) => {
            tell(*desired_state, out);
            syncing.told = Some(told);
            None
        }
        JobOutcome::Trust(trust) => {
            // If it failed, the next sync brings it.
            out.extend(trust.map(|trust| Command::Send(ToAgent::Trust(trust))));
            None
        }
        // The rest is the session's, or failed.
        _ => return put_off(phase, record, policy, out),
    };
    if let Some(section) = again {
        let requests = syncing.wanted[section.index()].map_or(0, |wanted| wanted.requests);
        if requests >= REQUESTS_PER_SECTION_MAX {
            return abandon(
                phase,
                format!("{section}: what was sent does not have the digest that was claimed"),
                out,
            );
        }
        let sections = vec![syncing.ask(section, None)];
        out.push(Command::Send(ToAgent::Want(Want { sections })));
        return;
    }
    if syncing.wanted.iter().all(Option::is_none) && syncing.jobs == 0 && syncing.told.is_none() {
        if syncing.desired_state.is_some_and(|desired_state| desired_state != record.desired_digest) {
            return ask_for_desired_state(syncing, out);
        }
        let answer = syncing.answer;
        finish(phase, record, answer, policy, now, out);
    }
}

/// Says a desired state; the list of its runs comes last.
fn tell(desired_state: DesiredState, out: &mut Vec<Command<'_>>) -> Vec<RunId> {
    let settings = desired_state.settings.into_iter().map(|order| ToAgent::Settings(Box::new(order)));
    let runs = desired_state.runs.into_iter().map(|order| ToAgent::Run(Box::new(order)));
    out.extend(settings.chain(runs).map(Command::Send));
    desired_state.list
}

/// Everything is in sync.
fn finish(
    phase: &mut Phase,
    record: &mut DeviceState,
    answer: Answer,
    policy: &SyncPolicy,
    now: &Now,
    out: &mut Vec<Command<'_>>,
) {
    *phase = Phase::Resting { heartbeat: Heartbeat::told(policy.keep_seconds) };
    record.last_sync = now.wall;
    record.set_due_seconds(policy.next_seconds);
    if record.is_to_renew() {
        // Before the end of the sync: a device whose link does not stay leaves with that.
        out.push(Command::Send(ToAgent::RenewNow));
    }
    out.push(Command::Send(ToAgent::InSync(InSync {
        server_epoch: policy.server_epoch,
        next_seconds: policy.next_seconds,
        interval_seconds: policy.interval_seconds,
        keep_seconds: policy.keep_seconds,
        notice_port: policy.notice_port,
        notice_counter: answer.notice_counter,
        reconnect_seconds: Some(policy.reconnect_seconds).filter(|seconds| *seconds > 0),
    })));
    out.push(Command::Synced);
    call_step(record, CallStep::Synced, out);
    // One that does not go now goes behind a later sync.
    if record.wants_probe() && record.allowance.take_sync_wake(now.moment) {
        let probe = record.next_probe(now.wall);
        out.extend(probe.map(|(address, counter)| Command::Probe { address, counter }));
    }
}

/// The device comes again.
fn put_off(phase: &mut Phase, record: &DeviceState, policy: &SyncPolicy, out: &mut Vec<Command<'_>>) {
    *phase = Phase::Resting { heartbeat: Heartbeat::told(policy.keep_seconds) };
    out.push(Command::Send(ToAgent::Later(Later::with_all(policy.later_seconds))));
    call_step(record, CallStep::PutOff, out);
}

fn call_step(record: &DeviceState, step: CallStep, out: &mut Vec<Command<'_>>) {
    if record.is_called() {
        out.push(Command::Called(step));
    }
}

/// The device broke the rules of an upload: it is told, and may begin its sync again.
fn abandon(phase: &mut Phase, message: String, out: &mut Vec<Command<'_>>) {
    *phase = Phase::Resting { heartbeat: None };
    report(ErrorCode::Malformed, message, out);
}

fn report(code: ErrorCode, message: String, out: &mut Vec<Command<'_>>) {
    out.push(Command::Send(ToAgent::Error(ErrorReport { code, message })));
}
