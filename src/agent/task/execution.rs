//! Runs while they are executed: begun, watched, ended.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, Signal, kill_process};

use super::files::{self, CANCEL, Look, Outcome, PLAN, PROGRESS, Progress, RESULT, SETTINGS};
use super::plan::{Plan, is_signed, plan};
use super::run_store::{DeviceRun, INTERRUPTED, Runs, Stage, Wait};
use super::{function, program};
use crate::agent::application::embedded::{Function, TaskFunction};
use crate::agent::checksummed::{self, Content};
use crate::agent::settings::{CONCURRENT_RUNS_MAX, Settings};
use crate::wire::id::RunId;
use crate::wire::task::RunStage;
use crate::wire::time::{Moment, Now};

/// The program's hidden command that executes one run.
pub const COMMAND: &str = "supervise-run";

/// A running run is reported this often at least: the server's lease on it is renewed.
pub(super) const LEASE_SECONDS: u64 = 60;

/// Progress is reported this often at most.
const PROGRESS_SECONDS: u64 = 2;

/// Interval at which a run that an earlier agent began is looked at: no line leads to its supervisor.
const LOOK_SECONDS: u64 = 1;

/// Times that a run that may be repeated is executed: one that ends its own device must not do so for ever.
const ATTEMPTS_MAX: u32 = 3;

/// A run that is being executed.
#[derive(Debug)]
pub(super) struct Execution {
    /// `None`: an earlier agent began it.
    line: Option<Line>,
    pub(super) progress: Progress,
    /// Its last report, and its time.
    said: Progress,
    said_at: Moment,
    look_at: Moment,
}

/// The executor of a run.
#[derive(Debug)]
enum Worker {
    Supervisor(Child),
    Thread(JoinHandle<()>),
}

impl Worker {
    /// Waits for its end.
    fn wait(self) {
        match self {
            Self::Supervisor(mut child) => drop(child.wait()),
            // Its result says what there is to say.
            Self::Thread(thread) => drop(thread.join()),
        }
    }
}

/// The line to a supervisor or a thread that this agent started.
#[derive(Debug)]
struct Line {
    worker: Worker,
    stream: UnixStream,
    slot: usize,
}

impl Execution {
    /// One that an earlier agent began.
    pub(super) fn left_behind() -> Self {
        Self::new(None, Moment(0))
    }

    fn new(line: Option<Line>, now: Moment) -> Self {
        Self { line, progress: Progress::default(), said: Progress::default(), said_at: now, look_at: now }
    }

    fn read_progress(&mut self, directory: &Path) {
        if let Ok(Content::Whole(progress)) = files::read(directory, PROGRESS) {
            self.progress = progress;
        }
    }

    /// Time of the next report: progress soon, and otherwise that it goes on.
    fn say_at(&self) -> Moment {
        let seconds = if self.progress == self.said { LEASE_SECONDS } else { PROGRESS_SECONDS };
        self.said_at.plus_seconds(seconds)
    }

    /// Time of the next report or look.
    fn due(&self) -> Moment {
        if self.line.is_some() { self.say_at() } else { self.say_at().min(self.look_at) }
    }
}

impl Runs {
    /// When [`Self::work`] has something to do by itself; `None`: there is nothing to wait for.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        let due = self.runs.values().filter_map(|run| match &run.stage {
            Stage::Waiting(wait) => {
                Some(run.say_wait_at(wait).map_or(wait.begin_by, |at| at.min(wait.begin_by)))
            }
            Stage::Running(execution) => Some(execution.due()),
            Stage::Over { .. } => None,
        });
        due.chain(self.artifacts.next_timeout()).min()
    }

    /// Begins what may begin, and looks at what is due.
    pub fn work(&mut self, settings: &Settings, registry: &Registry, first_token: usize, now: &Now) {
        let running: Vec<RunId> = self.running().map(|run| run.order.run).collect();
        for id in running {
            self.attend(id, now);
        }
        let mut waiting: Vec<&DeviceRun> =
            self.runs.values().filter(|run| matches!(run.stage, Stage::Waiting(_))).collect();
        waiting.sort_by_key(|run| run.came());
        let waiting: Vec<RunId> = waiting.into_iter().map(|run| run.order.run).collect();
        for id in waiting {
            let Some(run) = self.runs.get(&id) else { continue };
            let is_free = self.running().all(|other| other.order.application != run.order.application)
                && self.running().count() < settings.tasks.concurrent.min(CONCURRENT_RUNS_MAX);
            let Stage::Waiting(wait) = &run.stage else { continue };
            let is_ready = run.order.artifact.is_none() || wait.checked.is_some();
            if now.moment >= wait.begin_by {
                // Not rejected, which is for what this device never does: the server knows whether there is
                // another time for it.
                let mut message = format!("did not begin within {} s", run.order.start_within_seconds);
                if !wait.message.is_empty() {
                    message = format!("{message}: {}", wait.message);
                }
                self.end(id, Outcome::without_output(RunStage::NotNow, message));
            } else if is_free && is_ready {
                self.begin(id, settings, registry, first_token, now);
            } else if !is_ready {
                self.say_wait(id, now);
            }
        }
        self.keep_artifacts(now);
    }

    fn running(&self) -> impl Iterator<Item = &DeviceRun> {
        self.runs.values().filter(|run| matches!(run.stage, Stage::Running(_)))
    }

    pub(super) fn end(&mut self, id: RunId, outcome: Outcome) {
        if let Some(run) = self.runs.get_mut(&id) {
            log::info!("run {id}: {:?} {}", outcome.stage, outcome.message);
            self.news.extend(run.end(outcome));
        }
    }

    fn begin(&mut self, id: RunId, settings: &Settings, registry: &Registry, first_token: usize, now: &Now) {
        let used = self.running().filter_map(|run| match &run.stage {
            Stage::Running(Execution { line: Some(line), .. }) => Some(line.slot),
            _ => None,
        });
        let used: Vec<usize> = used.collect();
        let Some(slot) = (0..CONCURRENT_RUNS_MAX).find(|slot| !used.contains(slot)) else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let (mut plan, function) = match plan(settings, &run.order, &self.artifacts) {
            Ok(planned) => planned,
            Err(why) => return self.end(id, Outcome::without_output(RunStage::Rejected, why)),
        };
        if let (Some(artifact), Stage::Waiting(wait)) = (&mut plan.artifact, &mut run.stage) {
            artifact.comment = wait.checked.take().flatten();
            if artifact.comment.is_none() && is_signed(settings, &run.order) {
                // Its file says so only now: it is checked again.
                return;
            }
        }
        log::info!("run {id}: '{}' of {} begins", plan.kind, plan.application);
        match start(run, plan, function, slot, registry, first_token) {
            Ok(line) => {
                run.stage = Stage::Running(Execution::new(Some(line), now.moment));
                let said = run.say(RunStage::Running, &Progress::default());
                self.news.push(said);
            }
            Err(error) => {
                let message = format!("it could not be started: {error}");
                self.end(id, Outcome::without_output(RunStage::Failed, message));
            }
        }
    }

    /// A line has something to say.
    pub fn heard(&mut self, slot: usize, now: &Now) {
        let found = self.running().find_map(|run| match &run.stage {
            Stage::Running(Execution { line: Some(line), .. }) if line.slot == slot => Some(run.order.run),
            _ => None,
        });
        let Some(id) = found else { return };
        let Some(DeviceRun { stage: Stage::Running(execution), directory, .. }) = self.runs.get_mut(&id)
        else {
            return;
        };
        let Some(line) = &mut execution.line else { return };
        let mut buffer = [0; 64];
        let is_over = loop {
            match line.stream.read(&mut buffer) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        if is_over {
            // It has closed its line by ending: there is nothing left to wait for.
            if let Some(line) = execution.line.take() {
                line.worker.wait();
            }
            self.look_and_log(id, now);
        } else {
            execution.read_progress(directory);
            self.attend(id, now);
        }
    }

    /// Says or looks at what is due.
    fn attend(&mut self, id: RunId, now: &Now) {
        let Some(DeviceRun { stage: Stage::Running(execution), .. }) = self.runs.get_mut(&id) else {
            return;
        };
        if now.moment < execution.due() {
            return;
        }
        if execution.line.is_none() && now.moment >= execution.look_at {
            execution.look_at = now.moment.plus_seconds(LOOK_SECONDS);
            self.look_and_log(id, now);
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Stage::Running(execution) = &mut run.stage else { return };
        if now.moment >= execution.say_at() {
            execution.said_at = now.moment;
            execution.said = execution.progress.clone();
            let progress = execution.progress.clone();
            let said = run.say(RunStage::Running, &progress);
            self.news.push(said);
        }
    }

    fn look_and_log(&mut self, id: RunId, now: &Now) {
        if let Err(error) = self.look(id, now) {
            log::error!("run {id} can't be looked at, it is tried again: {error}");
        }
    }

    /// Finds out how far a run is that has no line any more.
    pub(super) fn look(&mut self, id: RunId, now: &Now) -> io::Result<()> {
        let Some(run) = self.runs.get_mut(&id) else { return Ok(()) };
        if let Stage::Running(execution) = &mut run.stage {
            execution.read_progress(&run.directory);
        }
        // While it is held here no supervisor begins.
        let _lock = match files::look(&run.directory)? {
            Look::Held(_) => return Ok(()),
            Look::Free(lock) => lock,
        };
        if let Content::Whole(outcome) = files::read::<Outcome>(&run.directory, RESULT)? {
            log::info!("run {id}: {:?} {}", outcome.stage, outcome.message);
            self.news.extend(run.close(outcome));
            return Ok(());
        }
        program::end_orphans(&run.directory);
        if run.directory.join(CANCEL).exists() {
            self.end(id, Outcome::cancelled());
            return Ok(());
        }
        let plan = files::read::<Plan>(&run.directory, PLAN)?.whole();
        match plan {
            Some(plan) if plan.may_repeat && plan.attempt < ATTEMPTS_MAX => {
                log::warn!("run {id} was interrupted, and is executed again");
                let begin_by = now.moment.plus_seconds(u64::from(run.order.start_within_seconds));
                run.stage = Stage::Waiting(Wait::until(begin_by));
            }
            _ => self.end(id, Outcome::without_output(RunStage::Failed, INTERRUPTED)),
        }
        Ok(())
    }

    /// The server does not want it any more: its supervisor ends it.
    pub(super) fn cancel(&mut self, id: RunId, now: &Now) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        // First the reason, then the signal: a signal alone may come from a system that goes down.
        if let Err(error) = checksummed::write_bytes(&run.directory.join(CANCEL), b"") {
            log::error!("run {id} can't be ended: {error}");
            return;
        }
        match files::look(&run.directory) {
            Ok(Look::Held(number)) => {
                if let Some(number) = Pid::from_raw(number).filter(|_| number > 1) {
                    // A process that is gone needs none.
                    let _ = kill_process(number, Signal::TERM);
                }
            }
            // It has not begun yet, and sees that it need not, or it is over.
            Ok(Look::Free(_)) => {}
            Err(error) => log::error!("run {id} can't be ended: {error}"),
        }
        if matches!(&run.stage, Stage::Running(execution) if execution.line.is_none()) {
            self.look_and_log(id, now);
        }
    }
}

/// Writes down what is executed, and begins it.
fn start(
    run: &DeviceRun,
    mut plan: Plan,
    function: Option<Function<TaskFunction>>,
    slot: usize,
    registry: &Registry,
    first_token: usize,
) -> io::Result<Line> {
    if let Some(before) = files::read::<Plan>(&run.directory, PLAN)?.whole() {
        plan.attempt = before.attempt.saturating_add(1);
    }
    files::clear(&run.directory)?;
    files::write(&run.directory, PLAN, &plan)?;
    let (own, theirs) = StdStream::pair()?;
    own.set_nonblocking(true)?;
    let worker = match function {
        Some(function) => {
            let arguments = run.order.settings.clone();
            function::spawn(run.directory.clone(), &plan, arguments, function, theirs).map(Worker::Thread)?
        }
        None => supervise(run, theirs).map(Worker::Supervisor)?,
    };
    let mut stream = UnixStream::from_std(own);
    registry.register(&mut stream, Token(first_token + slot), Interest::READABLE)?;
    Ok(Line { worker, stream, slot })
}

fn supervise(run: &DeviceRun, line: StdStream) -> io::Result<Child> {
    checksummed::write_bytes(&run.directory.join(SETTINGS), run.order.settings.as_bytes())?;
    this_program()?
        .arg(COMMAND)
        .arg(&run.directory)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(line)))
        // A Ctrl-C that ends the agent is not meant for it.
        .process_group(0)
        .spawn()
}

/// This very program, also when its file was replaced since it was started.
fn this_program() -> io::Result<Command> {
    let own = Path::new("/proc/self/exe");
    let path: PathBuf = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(path);
    command.arg0("muster-agent");
    // `musterd agent …` is an agent as well.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "agent") {
        command.arg("agent");
    }
    Ok(command)
}
