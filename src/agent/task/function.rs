//! Runs that are functions of the program which embeds the agent: each in a thread of its own, which keeps
//! the files of a run as a [supervisor](super) does.
//!
//! The thread can't be ended from outside. It holds the run's lock, so that an agent that is started anew in
//! the same process finds it under way and waits for its result.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::files::{self, CANCEL, Outcome, PROGRESS, Progress, RESULT};
use super::judge::{Ended, judge};
use super::output::{OutputKeeper, clipped};
use super::plan::Plan;
use crate::agent::application::embedded::{Function, TaskFunction};
use crate::agent::checksummed;
use crate::wire::task::RunStage;

/// Progress is passed on this often at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A task that a function of the program does.
#[derive(Debug)]
pub struct Task {
    kind: String,
    arguments: String,
    artifact: Option<PathBuf>,
    directory: PathBuf,
    deadline: Instant,
    /// The line to the agent, and when something was last passed on.
    line: Mutex<(UnixStream, Option<Instant>, Progress)>,
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskEnd {
    /// 0: it is done. 75: it can't be done now; a line `again: SECONDS` at the end of the output says when.
    /// Anything else: it failed, and the last line of the output says why.
    pub exit_code: i32,
    /// For people. The first and the last 32 KiB are kept.
    pub output: Vec<u8>,
}

impl Task {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its arguments, as JSON that the kind's schema allows.
    #[must_use]
    pub fn arguments(&self) -> &str {
        &self.arguments
    }

    /// The file that it works with: content that is what its hash says, until the task has ended. `None`: its
    /// kind has none.
    #[must_use]
    pub fn artifact(&self) -> Option<&Path> {
        self.artifact.as_deref()
    }

    /// Whether it should end: an administrator does not want it any more, or its time is up. Looks at a file.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_unwanted() || Instant::now() >= self.deadline
    }

    fn is_unwanted(&self) -> bool {
        self.directory.join(CANCEL).exists()
    }

    /// Says how far it is, 0 to 100, and what it is at. Passed on once a second at most.
    pub fn progress(&self, percent: u8, message: &str) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let (stream, told_at, last) = &mut *line;
        *last = Progress { percent: Some(percent.min(100)), message: clipped(message) };
        let now = Instant::now();
        if told_at.is_some_and(|at| now < at + PROGRESS_INTERVAL) {
            return;
        }
        *told_at = Some(now);
        if checksummed::write_loosely(&self.directory.join(PROGRESS), last).is_ok() {
            // An agent that is gone, or is behind with reading, needs no byte.
            let _ = stream.write(b"\n");
        }
    }

    fn outcome(&self, end: Result<TaskEnd, String>) -> Outcome {
        let mut keeper = OutputKeeper::default();
        let outcome = match end {
            _ if self.is_unwanted() => Outcome::cancelled(),
            Err(problem) => Outcome::without_output(RunStage::Failed, problem),
            Ok(end) => {
                keeper.add(&end.output);
                match judge(Ended::Code(end.exit_code), &keeper) {
                    outcome if outcome.stage != RunStage::Succeeded && Instant::now() >= self.deadline => {
                        Outcome { stage: RunStage::TimedOut, ..outcome }
                    }
                    outcome => outcome,
                }
            }
        };
        let (head, tail, omitted_bytes) = keeper.finish();
        let progress = self.line.lock().unwrap_or_else(PoisonError::into_inner).2.percent;
        Outcome { head, tail, omitted_bytes, progress_percent: progress, ..outcome }
    }
}

/// Begins a run. The end of `line` that the thread gets is closed when its result is on the disk.
///
/// # Errors
/// When the system gives no thread, or the run is under way in another one.
pub(super) fn spawn(
    directory: PathBuf,
    plan: &Plan,
    arguments: String,
    function: Function<TaskFunction>,
    line: UnixStream,
) -> std::io::Result<JoinHandle<()>> {
    line.set_nonblocking(true)?;
    let lock: File = files::open_lock(&directory)?;
    lock.try_lock()?;
    // Without a number in it, no process is told to end.
    lock.set_len(0)?;
    let deadline = Instant::now() + Duration::from_secs(u64::from(plan.timeout_seconds));
    let line = Mutex::new((line, None, Progress::default()));
    let artifact = plan.artifact.as_ref().map(|artifact| PathBuf::from(&artifact.path));
    let task = Task { kind: plan.kind.clone(), arguments, artifact, directory, deadline, line };
    Builder::new().name("task".to_owned()).spawn(move || {
        let outcome = task.outcome(function.call(|function| function(&task)));
        if let Err(error) = files::write(&task.directory, RESULT, &outcome) {
            log::error!("{}: {RESULT} can't be written: {error}", task.directory.display());
        }
        // First the lock, then the line: the agent looks for the result when it is closed.
        drop(lock);
        drop(task);
    })
}
