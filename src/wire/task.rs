//! Runs of tasks: what a device is told to execute, and what it says of it.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::artifact::Artifact;
use super::bounded;
use super::digest::{Digest, Hasher};
use super::id::RunId;
use super::limits::{
    RUN_OUTPUT_PART_BYTES_MAX, RUNS_PER_DEVICE_MAX, RUNS_PER_MESSAGE_MAX, TASK_SETTINGS_BYTES_MAX,
};

/// Number of the section of runs. It travels from the server to the device; its digest is the sum
/// ([`Digest::with`]) of [`digest_of`] over the runs that the device has, and has not finished as far as the
/// server is concerned.
pub const RUNS_SECTION: u32 = 5;

/// The digest of one run.
#[must_use]
pub fn digest_of(run: RunId) -> Digest {
    let mut hasher = Hasher::new();
    hasher.bytes(b"run").bytes(&run.0.to_be_bytes());
    hasher.finish()
}

/// Something to execute on one device. The same run may be ordered again when the server has not heard that
/// it arrived: a device executes it once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct RunOrder {
    /// Which run.
    #[n(0)]
    pub run: RunId,
    /// The application whose task it is.
    #[cbor(n(1), decode_with = "bounded::name")]
    pub application: String,
    /// The kind of task, as the device declared it.
    #[cbor(n(2), decode_with = "bounded::name")]
    pub kind: String,
    /// The task's settings: one JSON object (RFC 8259).
    #[cbor(n(3), decode_with = "bounded::text::<Ctx, TASK_SETTINGS_BYTES_MAX>")]
    pub settings: String,
    /// Longest execution; the device's own limit counts when it is lower.
    #[n(4)]
    pub timeout_seconds: u32,
    /// Within how many seconds from now it must have begun; later the device does not begin with it and says
    /// 'not now'.
    #[n(5)]
    pub start_within_seconds: u32,
    /// Whether it may be executed again when the device can't tell whether it was executed to its end.
    #[n(6)]
    pub may_repeat: bool,
    /// The file that it works with; it does not begin before the device has it.
    #[n(7)]
    pub artifact: Option<Artifact>,
}

/// Stage of a run, as its device says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum RunStage {
    /// The device has it, durably, and will begin with it.
    #[n(0)]
    Accepted,
    /// It is being executed.
    #[n(1)]
    Running,
    /// It ended well.
    #[n(2)]
    Succeeded,
    /// It ended with an error, or was interrupted.
    #[n(3)]
    Failed,
    /// It took too long and was ended.
    #[n(4)]
    TimedOut,
    /// The device does not do this: it does not offer it, or its settings are wrong.
    #[n(5)]
    Rejected,
    /// It was ended, or never begun, because the server does not want it any more.
    #[n(6)]
    Cancelled,
    /// Not now: nothing was done, and the server may order it again.
    #[n(7)]
    NotNow,
    /// The server named a run that the device does not know: its state was lost or rolled back.
    #[n(8)]
    Unknown,
}

impl RunStage {
    /// Whether the device is done with the run once the server has stored this.
    #[must_use]
    pub fn is_last(self) -> bool {
        !matches!(self, Self::Accepted | Self::Running)
    }
}

/// A piece of what a run's program wrote.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RunOutput {
    /// `false`: the beginning; `true`: the end.
    #[n(0)]
    pub is_tail: bool,
    /// The bytes, as they were written.
    #[cbor(
        n(1),
        encode_with = "minicbor::bytes::encode",
        decode_with = "bounded::bytes::<Ctx, RUN_OUTPUT_PART_BYTES_MAX>"
    )]
    pub bytes: Vec<u8>,
    /// Bytes between the beginning and the end that were not kept.
    #[n(2)]
    pub omitted_bytes: u64,
}

/// A device's report of one run.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RunUpdate {
    /// Which run.
    #[n(0)]
    pub run: RunId,
    /// Counts what the device says of this run, from 1: a lower number is older news.
    #[n(1)]
    pub serial: u32,
    /// Its stage.
    #[n(2)]
    pub stage: RunStage,
    /// Its progress; left out when that is not known.
    #[n(3)]
    pub progress_percent: Option<u8>,
    /// The program's exit code; left out when there is none, also when a signal ended it.
    #[n(4)]
    pub exit_code: Option<i32>,
    /// For people: what it is doing, why it failed, why not now. May be empty.
    #[cbor(n(5), decode_with = "bounded::message")]
    pub message: String,
    /// With 'not now': in how many seconds to come again; left out: the server decides.
    #[n(6)]
    pub again_seconds: Option<u32>,
    /// A piece of its output. Both come before, or with, the final report.
    #[n(7)]
    pub output: Option<RunOutput>,
}

impl RunUpdate {
    /// An update that says nothing beside how far the run is.
    #[must_use]
    pub fn new(run: RunId, serial: u32, stage: RunStage) -> Self {
        Self {
            run,
            serial,
            stage,
            progress_percent: None,
            exit_code: None,
            message: String::new(),
            again_seconds: None,
            output: None,
        }
    }
}

/// Several of them.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RunUpdates {
    /// In the order in which they occurred.
    #[cbor(n(0), decode_with = "bounded::list::<Ctx, RunUpdate, RUNS_PER_MESSAGE_MAX>")]
    pub updates: Vec<RunUpdate>,
}

/// The server has stored what a device said of a run, or has no use for it: it need not be said again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(array)]
pub struct RunAck {
    /// Which run.
    #[n(0)]
    pub run: RunId,
    /// Up to which serial number.
    #[n(1)]
    pub serial: u32,
}

/// Several of them.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RunsStored {
    /// One for each update that came, in their order.
    #[cbor(n(0), decode_with = "bounded::list::<Ctx, RunAck, RUNS_PER_MESSAGE_MAX>")]
    pub acks: Vec<RunAck>,
}

/// All runs that the device is to have. Those that it has beside them it ends; those that it does not know it
/// reports as [`RunStage::Unknown`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct RunList {
    /// The runs. Orders for those that are new came before.
    #[cbor(n(0), decode_with = "bounded::list::<Ctx, RunId, RUNS_PER_DEVICE_MAX>")]
    pub runs: Vec<RunId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_from_another() {
        assert_ne!(digest_of(RunId(1)), digest_of(RunId(2)));
        assert!(RunStage::NotNow.is_last() && !RunStage::Running.is_last());
    }
}
