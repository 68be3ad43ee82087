//! A session's commands, and the outcomes that come back.

use std::net::SocketAddr;

use super::close::CloseReason;
use super::session::LATER_SECONDS;
use crate::wire::artifact::{ArtifactPart, Fetch};
use crate::wire::digest::Digest;
use crate::wire::id::{DeviceId, Epoch, RunId};
use crate::wire::inventory::{Application, InventoryChange};
use crate::wire::limits::FRAME_BODY_BYTES_MAX;
use crate::wire::message::{Enrol, Enrolled, ErrorReport, Fork, Renew, Renewed, SyncReason, ToAgent, Trust};
use crate::wire::section::{ApplicationCondition, HostFacts, Section, SectionState};
use crate::wire::settings::SettingsOrder;
use crate::wire::statistics::Statistics;
use crate::wire::task::{RunOrder, RunUpdates, RunsStored};
use crate::wire::time::WallTime;

/// One thing that a session wants done. The caller does them in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command<'b> {
    /// Send this.
    Send(ToAgent),
    /// Append this event to the journal, then tell the device's record
    /// ([`DeviceState::note_appended`](super::device_state::DeviceState::note_appended)). When there is no
    /// room, skip the message's other appends, and tell the session
    /// ([`Session::append_refused`](super::session::Session::append_refused)).
    Append {
        /// The history that the sequence number counts in.
        spool_epoch: Epoch,
        /// Its sequence number.
        sequence: u64,
        /// The event's bytes.
        body: &'b [u8],
        /// Their CRC-32C.
        crc: u32,
    },
    /// When the record's last position is durable, acknowledge through its last sequence number.
    AckWhenDurable,
    /// The device had more of the log than its rate: it is told to keep its events for a while.
    EventsHeld {
        /// Its length.
        seconds: u32,
    },
    /// Have this done by a worker; what comes of it goes to
    /// [`Session::job_done`](super::session::Session::job_done).
    Job(Box<Job>),
    /// The device says that it knows more of the server than is stored. When several do, the server was
    /// restored from a copy ([`restored`](super::restored)).
    ServerRestored,
    /// A sync has ended well.
    Synced,
    /// Somebody waits for the device, and this has become of it.
    Called(CallStep),
    /// Send the device a wake of the kind probe.
    Probe {
        /// The destination.
        address: SocketAddr,
        /// Its counter.
        counter: u32,
    },
    /// Close the link, after what was to be sent before.
    Close(CloseReason),
}

impl Command<'_> {
    /// Whether it costs its device what work for the disk does. A part of an artifact costs what its message
    /// does.
    pub(super) fn is_work(&self) -> bool {
        match self {
            Self::Job(job) => !matches!(**job, Job::Fetch(..)),
            other => matches!(other, Self::EventsHeld { .. }),
        }
    }
}

/// Progress of a device that a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallStep {
    /// It is here, and its sync has begun.
    Begun {
        /// Why it syncs.
        reason: SyncReason,
        /// The highest counter among the wakes that it took; 0 before the first.
        wake_counter: u32,
    },
    /// Everything is in sync.
    Synced,
    /// The server had no room for its sync: it comes again by itself.
    PutOff,
}

/// Work that needs the disk.
#[expect(clippy::large_enum_variant, reason = "it travels in a box, and sections are nearly all of it")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Job {
    /// A device wants to join.
    Enrol(Enrol),
    /// A section has a new content.
    Section(SectionUpdate),
    /// A device has other settings or runs than it should: work out the difference.
    DesiredState(DeviceId),
    /// The device has been sent what it was told so far: work out what comes behind it.
    MoreDesiredState(DeviceId, DesiredStateAfter),
    /// A device says what has become of runs.
    Runs(DeviceId, RunUpdates),
    /// A device brings its numbers.
    Statistics(DeviceId, Statistics),
    /// A copy of the device is to enrol anew: make a token for it.
    Fork(DeviceId),
    /// A device asks for a certificate for this key.
    Renew(DeviceId, Renew),
    /// A device trusts something else than it should: all that it is to trust.
    Trust(DeviceId),
    /// A device has stored what it is to trust, which has this label.
    NoteTrust(DeviceId, u64),
    /// A device asks for a part of an artifact.
    Fetch(DeviceId, Fetch),
}

impl Job {
    /// About how much memory it takes that a device decides about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Section(update) => update.change.memory_bytes(),
            Self::Enrol(_) | Self::Runs(..) | Self::Statistics(..) => FRAME_BODY_BYTES_MAX,
            Self::Renew(_, renew) => size_of::<Self>() + renew.request.len(),
            Self::DesiredState(_)
            | Self::MoreDesiredState(..)
            | Self::Fork(_)
            | Self::Trust(_)
            | Self::NoteTrust(..)
            | Self::Fetch(..) => size_of::<Self>(),
        }
    }

    /// Its outcome when it can't be done now.
    #[must_use]
    pub fn failure(&self) -> JobOutcome {
        match self {
            Self::Enrol(_) => JobOutcome::Enrolment(EnrolmentOutcome::Failed),
            Self::Section(update) => JobOutcome::Section(update.section, SectionOutcome::Failed),
            Self::DesiredState(_) | Self::MoreDesiredState(..) => {
                JobOutcome::DesiredState(DesiredStateOutcome::Failed)
            }
            Self::Runs(..) => JobOutcome::Runs(RunsOutcome::Lost),
            Self::Statistics(..) => JobOutcome::Statistics(StatisticsOutcome::Lost),
            Self::Fork(_) => JobOutcome::Fork(ForkOutcome::Failed),
            Self::Renew(..) => JobOutcome::Renewal(RenewalOutcome::Failed),
            Self::Trust(_) => JobOutcome::Trust(None),
            Self::NoteTrust(..) => JobOutcome::TrustNoted,
            Self::Fetch(_, fetch) => JobOutcome::Fetch(ArtifactPart::again(*fetch, LATER_SECONDS)),
        }
    }
}

/// Settings and runs that a device is sent, so that it has what it should.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DesiredState {
    /// For each application whose settings it was not given yet, or must give up.
    pub settings: Vec<SettingsOrder>,
    /// Runs that are new to it, as far as the server knows.
    pub runs: Vec<RunOrder>,
    /// All runs that it is to have.
    pub list: Vec<RunId>,
}

/// Progress through a device's desired state: settings by application first, then runs in the order of their
/// release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DesiredStateAfter {
    /// Settings up to this application.
    Application(String),
    /// All settings, and runs up to this one.
    Run {
        /// When it was released.
        released_at: WallTime,
        /// The run.
        run: RunId,
    },
}

/// A new content of one section of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionUpdate {
    /// Whose.
    pub device: DeviceId,
    /// Which section.
    pub section: Section,
    /// The history that the revision counts in.
    pub agent_epoch: Epoch,
    /// The revision of the new content.
    pub revision: u64,
    /// The digest of the new content.
    pub digest: Digest,
    /// The digest of the content that the change starts from; `None` when the section is sent whole.
    pub base: Option<Digest>,
    /// The change.
    pub change: SectionChange,
}

/// Change of a section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SectionChange {
    /// A difference from the base, or from nothing.
    Inventory(InventoryChange),
    /// The host facts, whole.
    Host(HostFacts),
    /// The conditions, whole.
    Conditions(Vec<ApplicationCondition>),
}

impl SectionChange {
    /// About how much memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Inventory(InventoryChange { added, removed }) => {
                added.iter().map(Application::memory_bytes).sum::<usize>() + size_of_val(removed.as_slice())
            }
            Self::Host(_) => FRAME_BODY_BYTES_MAX,
            Self::Conditions(conditions) => conditions.iter().map(ApplicationCondition::memory_bytes).sum(),
        }
    }
}

/// Outcome of a job, by kind of job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JobOutcome {
    /// Of an enrolment.
    Enrolment(EnrolmentOutcome),
    /// Of a section's new content.
    Section(Section, SectionOutcome),
    /// Of working out the desired state that the device lacks.
    DesiredState(DesiredStateOutcome),
    /// Of what the device said of runs.
    Runs(RunsOutcome),
    /// Of the device's numbers.
    Statistics(StatisticsOutcome),
    /// Of a token for a copy of the device.
    Fork(ForkOutcome),
    /// All that the device is to trust; `None`: that could not be worked out now.
    Trust(Option<Box<Trust>>),
    /// A device's trust is stored, or is named again on its next link.
    TrustNoted,
    /// Of a renewal.
    Renewal(RenewalOutcome),
    /// The answer to a device that asks for a part of an artifact.
    Fetch(ArtifactPart),
}

/// Outcome of a renewal of a device's certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RenewalOutcome {
    /// The certificate, which is stored and known.
    Issued(Renewed),
    /// The request was refused.
    Refused(ErrorReport),
    /// The device was removed meanwhile.
    DeviceRemoved,
    /// The store could not do it now (a full disk, an error).
    Failed,
}

/// Outcome of an enrolment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnrolmentOutcome {
    /// The device belongs to the fleet now.
    Enrolled(Box<Enrolled>),
    /// It was refused.
    Refused(ErrorReport),
    /// The store could not do it now (a full disk, an error).
    Failed,
}

/// Outcome of a token for a copy of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ForkOutcome {
    /// The copy enrols with this.
    Token(Fork),
    /// None could be made now: the copy comes again.
    Failed,
}

/// Outcome of a section's new content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SectionOutcome {
    /// It is stored, and stands here now. The device's record must have been told before the session is.
    Stored(SectionState),
    /// The base of the difference is not what is stored: the section is needed whole.
    BaseUnknown,
    /// The change does not lead to the digest that was claimed.
    DigestMismatch,
    /// The device was removed meanwhile.
    DeviceRemoved,
    /// The store could not do it now (a full disk, an error): the device is to come again.
    Failed,
}

/// Outcome of a desired state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DesiredStateOutcome {
    /// All of it, or the rest.
    All(Box<DesiredState>),
    /// The first of it, at least one thing, without the list. The rest is asked for when this was sent.
    Part(Box<DesiredState>, DesiredStateAfter),
    /// The device was removed meanwhile.
    DeviceRemoved,
    /// The store could not do it now: the device is to come again.
    Failed,
}

/// Outcome of a device's reports of runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunsOutcome {
    /// It is stored.
    Stored(RunsStored),
    /// It could not be stored: the device says it again.
    Lost,
}

/// Outcome of a device's numbers. There is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatisticsOutcome {
    /// They are stored.
    Stored,
    /// They could not be stored: the next ones come by themselves.
    Lost,
}
