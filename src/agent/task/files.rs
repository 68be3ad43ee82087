//! The files of one run.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use minicbor::{Decode, Encode};

use crate::agent::checksummed::{self, Content};
use crate::agent::open;
use crate::wire::bounded;
use crate::wire::limits::{RUN_OUTPUT_PART_BYTES_MAX, TASK_SETTINGS_BYTES_MAX};
use crate::wire::task::{RunOrder, RunStage};
use crate::wire::time::WallTime;

/// Name of the file of what was ordered.
pub const ORDER: &str = "order";
/// Name of the file of what is executed.
pub const PLAN: &str = "plan";
/// Name of the program's standard input.
pub const SETTINGS: &str = "settings";
/// Name of the file that the supervisor locks.
pub const LOCK: &str = "lock";
/// Name of the file of the process group.
pub const GROUP: &str = "group";
/// Name of the file of progress.
pub const PROGRESS: &str = "progress";
/// Name of the file that says that the run is not wanted any more.
pub const CANCEL: &str = "cancel";
/// Name of the file of the final report.
pub const RESULT: &str = "result";
/// Name of the file of serial numbers.
pub const REPORTED: &str = "reported";

/// Largest file of a run: a result with all its output, or an order with the longest settings.
const FILE_BYTES_MAX: u64 = (2 * RUN_OUTPUT_PART_BYTES_MAX + TASK_SETTINGS_BYTES_MAX + 64 * 1024) as u64;

/// `order`: what was ordered, and when.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Accepted {
    /// The order.
    #[n(0)]
    pub order: RunOrder,
    /// When it came, by the device's clock.
    #[n(1)]
    pub at: WallTime,
    /// In which boot of the system it came; left out by older agents, empty where the system does not tell.
    #[n(2)]
    pub boot: Option<String>,
    /// Uptime of the system then, sleep included: a clock that can't be set.
    #[n(3)]
    pub uptime_milliseconds: Option<u64>,
    /// Higher than that of any order that came before and is still here; left out by older agents.
    #[n(4)]
    pub number: Option<u64>,
}

impl Accepted {
    /// Age of its arrival. Within one boot that is certain; over a reboot it is what the wall clock says,
    /// which may be wrong, and at least the time since the boot.
    #[must_use]
    pub fn age_milliseconds(&self, wall: WallTime, boot: &str, uptime_milliseconds: u64) -> u64 {
        let by_wall = wall.0.saturating_sub(self.at.0);
        match (self.boot.as_deref().filter(|then| !then.is_empty()), self.uptime_milliseconds) {
            (Some(then), Some(at)) if then == boot => uptime_milliseconds.saturating_sub(at),
            (Some(_), Some(_)) if !boot.is_empty() => by_wall.max(uptime_milliseconds),
            _ => by_wall,
        }
    }
}

/// Uptime of the system, sleep included (`CLOCK_BOOTTIME`, clock_gettime(2)).
#[must_use]
pub fn uptime_milliseconds() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(time.tv_nsec / 1_000_000).unwrap_or_default())
}

/// `progress`
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Progress {
    /// Its progress; `None`: not known.
    #[n(0)]
    pub percent: Option<u8>,
    /// Its present activity.
    #[n(1)]
    pub message: String,
}

/// `group`: a process group that can be told from a later one with the same number.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct ProcessGroup {
    /// Its number, and that of the process that leads it.
    #[n(0)]
    pub number: i32,
    /// When that was started, in ticks since the system booted (proc_pid_stat(5), field 22).
    #[n(1)]
    pub started_ticks: u64,
    /// Which boot of the system.
    #[n(2)]
    pub boot: String,
    /// The directory of its control group, where it has one.
    #[n(3)]
    pub cgroup: Option<String>,
}

/// `result`: the final report, with the output.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
#[cbor(map)]
pub struct Outcome {
    /// Its end.
    #[n(0)]
    pub stage: RunStage,
    /// The program's exit code.
    #[n(1)]
    pub exit_code: Option<i32>,
    /// For people.
    #[n(2)]
    pub message: String,
    /// With 'not now': when to come again.
    #[n(3)]
    pub again_seconds: Option<u32>,
    /// The beginning of its output.
    #[cbor(
        n(4),
        encode_with = "minicbor::bytes::encode",
        decode_with = "bounded::bytes::<Ctx, RUN_OUTPUT_PART_BYTES_MAX>"
    )]
    pub head: Vec<u8>,
    /// The end.
    #[cbor(
        n(5),
        encode_with = "minicbor::bytes::encode",
        decode_with = "bounded::bytes::<Ctx, RUN_OUTPUT_PART_BYTES_MAX>"
    )]
    pub tail: Vec<u8>,
    /// Bytes between the two that were not kept.
    #[n(6)]
    pub omitted_bytes: u64,
    /// Its progress; `None`: not known.
    #[n(7)]
    pub progress_percent: Option<u8>,
}

impl Outcome {
    /// The final report of a run of which nothing was executed, or nothing is known.
    #[must_use]
    pub fn without_output(stage: RunStage, message: impl Into<String>) -> Self {
        Self {
            stage,
            exit_code: None,
            message: message.into(),
            again_seconds: None,
            head: Vec::new(),
            tail: Vec::new(),
            omitted_bytes: 0,
            progress_percent: None,
        }
    }

    /// The final report of a run that the server does not want any more.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::without_output(RunStage::Cancelled, "ended, because the server does not want it any more")
    }
}

/// `reported`: which serial numbers may have been used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
#[cbor(map)]
pub struct Reported {
    /// None above this one were used before the final report.
    #[n(0)]
    pub reserved: u32,
    /// The serial number of the first of the updates that say the final report: the same numbers after a
    /// restart.
    #[n(1)]
    pub last_from: Option<u32>,
}

/// Replaces a file of a run. When this returns without an error it is on the medium.
///
/// # Errors
/// When the system refuses.
pub fn write(directory: &Path, name: &str, content: &impl Encode<()>) -> io::Result<()> {
    checksummed::write(&directory.join(name), content)
}

/// Reads a file of a run.
///
/// # Errors
/// When the system refuses for another reason than that it is not there.
pub fn read<T: for<'a> Decode<'a, ()>>(directory: &Path, name: &str) -> io::Result<Content<T>> {
    checksummed::read(&directory.join(name), FILE_BYTES_MAX)
}

/// The lock of a run, as somebody who looks at it finds it.
#[derive(Debug)]
pub enum Look {
    /// No supervisor lives, and none begins while this file is open.
    Free(File),
    /// A supervisor lives: its process number, 0 while it has not said it yet.
    Held(i32),
}

/// Leaves the files of an earlier execution of the same run behind.
///
/// # Errors
/// When the system refuses.
pub fn clear(directory: &Path) -> io::Result<()> {
    for name in [GROUP, PROGRESS, RESULT, CANCEL] {
        open::if_there(fs::remove_file(directory.join(name)))?;
    }
    // The process number in it was another's.
    open_lock(directory)?.set_len(0)
}

/// Opens the lock file.
///
/// # Errors
/// When the system refuses.
pub fn open_lock(directory: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(directory.join(LOCK))
}

/// Looks whether a supervisor lives.
///
/// # Errors
/// When the system refuses.
pub fn look(directory: &Path) -> io::Result<Look> {
    let mut file = open_lock(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(Look::Free(file)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            (&mut file).take(32).read_to_string(&mut text)?;
            Ok(Look::Held(text.trim().parse().unwrap_or(0)))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}
