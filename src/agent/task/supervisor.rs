//! `muster-agent supervise-run DIR`: executes one run to its end, whatever becomes of the agent meanwhile.
//!
//! Started by the agent, never by hand. Its standard output leads to the agent, which reads no more from it
//! than that there is something new: a byte for each progress, and its end. An agent that was started later
//! has no such line and looks at the lock.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::descendants::{self, LeftOver};
use super::execution::COMMAND;
use super::files::{self, CANCEL, Outcome, PLAN, PROGRESS, Progress, RESULT};
use super::judge::{Ended, judge};
use super::output::{LineFilter, OutputKeeper};
use super::plan::Plan;
use super::program::{Program, Reaped};
use crate::agent::checksummed;
use crate::agent::waiting::{drain, signals, wait_for};
use crate::wire::bounded::clip;
use crate::wire::limits::TEXT_BYTES_MAX;
use crate::wire::task::RunStage;

/// Time of a program that was told to end.
const GRACE: Duration = Duration::from_secs(5);

/// Progress is passed on this often at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Adopted processes that have ended are forgotten this often at most: all processes of the system are looked
/// at for it.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of the output that are read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Most reads once the program has ended: its children may write for ever.
const LAST_READS_MAX: usize = 64;

/// Runs the hidden command with what follows it.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let [directory] = arguments else {
        eprintln!("muster-agent: {COMMAND} is for the agent alone");
        return ExitCode::from(2);
    };
    match supervise(Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-agent: run in {}: {error}", Path::new(directory).display());
            ExitCode::FAILURE
        }
    }
}

/// Why the program is being ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    TimedOut,
    /// A signal came: the run is not wanted any more, or the system goes down.
    Told,
}

fn supervise(directory: &Path) -> io::Result<()> {
    let mut lock = files::open_lock(directory)?;
    // An agent that looks holds it for a moment; another supervisor of this run until it is over.
    lock.lock()?;
    if directory.join(RESULT).exists() {
        return Ok(());
    }
    rustix::io::ioctl_fionbio(io::stdout(), true)?;
    lock.set_len(0)?;
    write!(lock, "{}", std::process::id())?;
    let plan = files::read::<Plan>(directory, PLAN)?.whole();
    let plan = plan.ok_or_else(|| io::Error::other("there is nothing to execute"))?;
    let told = signals(&[SIGTERM, SIGINT, SIGHUP])?;
    let children = signals(&[SIGCHLD])?;
    // The agent may have been told to end it before anybody listened.
    if directory.join(CANCEL).exists() {
        return finish(directory, &Outcome::cancelled());
    }
    let (program, output) = match Program::start(&plan, directory) {
        Ok(started) => started,
        Err(error) => {
            let program = plan.command.first().map(String::as_str).unwrap_or_default();
            let message = format!("'{program}' can't be run in {}: {error}", plan.directory);
            return finish(directory, &Outcome::without_output(RunStage::Failed, message));
        }
    };
    program.note(directory)?;
    rustix::io::ioctl_fionbio(&output, true)?;
    let timeout = Duration::from_secs(u64::from(plan.timeout_seconds));
    let mut supervision = Supervision {
        directory,
        program,
        output: Some(output),
        keeper: OutputKeeper::default(),
        filter: LineFilter::default(),
        progress: None,
        progress_percent: None,
        told_at: None,
        deadline: Instant::now() + timeout,
        forget_at: Instant::now(),
        ending: None,
    };
    let Reaped { status, left_over, unended } = supervision.watch(told, children)?;
    let Supervision { keeper, ending, progress_percent, .. } = supervision;
    let is_unwanted = directory.join(CANCEL).exists();
    let outcome = match ending {
        Some(Ending::Told) if is_unwanted => Outcome::cancelled(),
        // Without a result: the agent sees that it was interrupted.
        Some(Ending::Told) => return Ok(()),
        Some(Ending::TimedOut) => Outcome::without_output(
            RunStage::TimedOut,
            match unended {
                0 => format!("it took longer than {} s and was ended", plan.timeout_seconds),
                unended => format!(
                    "it took longer than {} s and was ended, but for {unended} processes that could not be",
                    plan.timeout_seconds
                ),
            },
        ),
        None => judge(Ended::of(status), &keeper),
    };
    let outcome = Outcome { message: with_left_over(&outcome.message, &left_over), ..outcome };
    let (head, tail, omitted_bytes) = keeper.finish();
    finish(directory, &Outcome { head, tail, omitted_bytes, progress_percent, ..outcome })
}

fn finish(directory: &Path, outcome: &Outcome) -> io::Result<()> {
    files::write(directory, RESULT, outcome)
}

/// A result's message, and behind it what was left over. There is room for that: it is short.
fn with_left_over(message: &str, left_over: &LeftOver) -> String {
    match left_over.words() {
        None => message.to_owned(),
        Some(words) if message.is_empty() => words,
        Some(words) => {
            format!("{}; {words}", clip(message, TEXT_BYTES_MAX.saturating_sub(words.len() + 2)))
        }
    }
}

struct Supervision<'a> {
    directory: &'a Path,
    program: Program,
    /// `None`: everybody has closed it.
    output: Option<PipeReader>,
    keeper: OutputKeeper,
    filter: LineFilter,
    /// Not passed on yet.
    progress: Option<Progress>,
    /// Of the last line of progress: what is written just before the end is passed on with the end.
    progress_percent: Option<u8>,
    /// When progress was passed on last.
    told_at: Option<Instant>,
    /// When it is ended; while it is being ended: when it is killed.
    deadline: Instant,
    /// When adopted processes that have ended are forgotten again at the earliest.
    forget_at: Instant,
    ending: Option<Ending>,
}

impl Supervision<'_> {
    /// Until the program has ended, and everything that it started when it was made to.
    fn watch(&mut self, mut told: UnixStream, mut children: UnixStream) -> io::Result<Reaped> {
        while !self.program.has_ended() {
            let now = Instant::now();
            if now >= self.deadline {
                self.end(Ending::TimedOut);
            }
            self.pass_progress_on(now);
            self.wait(&told, &children)?;
            if drain(&mut told) && self.ending.is_none() {
                self.end(Ending::Told);
            }
            if drain(&mut children) && now >= self.forget_at {
                descendants::reap_all_but(self.program.group);
                self.forget_at = now + FORGET_INTERVAL;
            }
            self.read(1)?;
        }
        self.read(LAST_READS_MAX)?;
        let progress = self.filter.end(&mut self.keeper);
        self.note_progress(progress);
        match self.ending {
            Some(_) => self.program.reap_all(GRACE),
            None => self.program.reap(),
        }
    }

    /// Ends the program: first it is asked, later it is killed.
    fn end(&mut self, why: Ending) {
        let signal = if self.ending.is_none() { Signal::TERM } else { Signal::KILL };
        self.ending.get_or_insert(why);
        self.deadline = Instant::now() + GRACE;
        self.program.signal_all(signal);
    }

    fn wait(&self, told: &UnixStream, children: &UnixStream) -> io::Result<()> {
        let mut until = self.deadline;
        if let (Some(_), Some(told_at)) = (&self.progress, self.told_at) {
            until = until.min(told_at + PROGRESS_INTERVAL);
        }
        let mut sources = vec![PollFd::new(told, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        sources.extend(self.output.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        wait_for(&mut sources, until).map(drop)
    }

    /// Takes the output, in `reads_max` reads at most.
    fn read(&mut self, reads_max: usize) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..reads_max {
            let Some(output) = &mut self.output else { break };
            match output.read(&mut buffer) {
                Ok(0) => self.output = None,
                Ok(length) => {
                    let progress = self.filter.add(&buffer[..length], &mut self.keeper);
                    self.note_progress(progress);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn note_progress(&mut self, progress: Option<Progress>) {
        let Some(progress) = progress else { return };
        self.progress_percent = progress.percent;
        self.progress = Some(progress);
    }

    fn pass_progress_on(&mut self, now: Instant) {
        if self.told_at.is_some_and(|at| now < at + PROGRESS_INTERVAL) {
            return;
        }
        let Some(progress) = self.progress.take() else { return };
        self.told_at = Some(now);
        if checksummed::write_loosely(&self.directory.join(PROGRESS), &progress).is_ok() {
            // An agent that is gone, or is behind with reading, needs no byte.
            let _ = io::stdout().write_all(b"\n").and_then(|()| io::stdout().flush());
        }
    }
}
