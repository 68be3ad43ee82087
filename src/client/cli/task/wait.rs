//! `musterctl task create --wait`: follows a task until it has ended.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{runs, show, words};
use crate::client::cli::Failure;
use crate::client::cli::output::{Output, plain, time};
use crate::client::{Client, ClientError};
use crate::wire::api::{RunQuery, RunState, Task, TaskDetail, TaskRun, TaskState};
use crate::wire::id::TaskId;
use crate::wire::units::count;

/// Pause before the task is looked at again.
const LOOK_MILLISECONDS: u64 = 1_000;

/// For how long a server that does not answer is asked again: a restart is over by then.
const UNANSWERED_SECONDS_MAX: u64 = 300;

/// Devices that are named while they execute it: more do not fit a line.
const NAMED_DEVICES_MAX: u32 = 3;

/// Runs that are all listed at the end: a screen or two. Of more only those are listed that did not succeed.
const LISTED_RUNS_MAX: u64 = 50;

/// Follows a task until it has ended, then shows its runs and what their programs wrote.
///
/// # Errors
/// Also when a run did not succeed.
pub(super) fn until_ended(client: &mut Client, output: &mut Output, id: TaskId) -> Result<(), Failure> {
    let mut progress = Progress::new(output.is_json);
    let detail = follow(client, id, &mut progress)?;
    progress.end();
    let query = RunQuery { task: Some(id), ..RunQuery::default() };
    if output.is_json {
        show::json(client, output, &detail, query, false)?;
        return judge(&detail.task).map_err(Failure::NotReached);
    }
    let (all, succeeded) = ended(&detail.task);
    let lists_all = all <= LISTED_RUNS_MAX;
    if all > 0 && (lists_all || succeeded < all) {
        let mut written = show::Written::default();
        let pages = client.runs(query).map(|page| {
            page.map(|mut runs| {
                runs.retain(|run| lists_all || run.state != RunState::Succeeded);
                runs
            })
        });
        let pages = pages.inspect(|page| written.note(page));
        output.list(runs::heads(false), pages, "no runs", |run| runs::row(run, false))?;
        show::show_written(client, output, &written)?;
        output.line("")?;
    }
    output.line(&format!(
        "task {id} is {}: {}",
        detail.task.state.name(),
        words::summary(&detail.task.runs)
    ))?;
    judge(&detail.task).map_err(Failure::NotReached)
}

/// Looks at the task until it has ended. A server that restarts meanwhile is waited for: the task is as
/// durable as it is.
fn follow(client: &mut Client, id: TaskId, progress: &mut Progress) -> Result<TaskDetail, ClientError> {
    let mut unanswered_since = None;
    loop {
        match look(client, id) {
            Ok((detail, running)) => {
                unanswered_since = None;
                progress.say(&line(&detail.task, &running));
                if has_ended(&detail.task) {
                    return Ok(detail);
                }
            }
            Err(error) if error.may_pass() => {
                let since = *unanswered_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= Duration::from_secs(UNANSWERED_SECONDS_MAX) {
                    return Err(error);
                }
                progress.say(&format!("asking again: {error}"));
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(LOOK_MILLISECONDS));
    }
}

/// The task, and some of the runs that are being executed.
fn look(client: &mut Client, id: TaskId) -> Result<(TaskDetail, Vec<TaskRun>), ClientError> {
    let detail = client.task(id)?;
    if running(&detail.task) == 0 {
        return Ok((detail, Vec::new()));
    }
    let query = RunQuery {
        task: Some(id),
        state: Some(RunState::Running),
        limit: Some(NAMED_DEVICES_MAX),
        ..RunQuery::default()
    };
    let runs = client.runs(query).next().transpose()?.unwrap_or_default();
    Ok((detail, runs))
}

/// Whether nothing comes of it any more. A task that was aborted lets its devices end what they are
/// executing.
fn has_ended(task: &Task) -> bool {
    task.state != TaskState::Active && task.runs.iter().all(|count| count.runs == 0 || count.state.is_final())
}

fn running(task: &Task) -> u64 {
    task.runs.iter().filter(|count| count.state == RunState::Running).map(|count| count.runs).sum()
}

/// Its progress: `9 succeeded, 2 running: kiosk-17 (40 %), kiosk-18`.
fn line(task: &Task, shown: &[TaskRun]) -> String {
    if task.runs.is_empty() {
        let due = task.next_at.map_or(String::new(), |at| format!(", due {} UTC", time(at)));
        return format!("no runs yet{due}");
    }
    let names: Vec<String> = shown
        .iter()
        .map(|run| match run.progress_percent {
            Some(percent) => format!("{} ({percent} %)", run.device),
            None => run.device.clone(),
        })
        .collect();
    let more = if running(task) > shown.len() as u64 && !names.is_empty() { ", …" } else { "" };
    let names = if names.is_empty() { String::new() } else { format!("; runs on {}", names.join(", ")) };
    format!("{}{names}{more}", words::summary(&task.runs))
}

/// Number of runs, and of those that succeeded.
fn ended(task: &Task) -> (u64, u64) {
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let succeeded = task.runs.iter().filter(|count| count.state == RunState::Succeeded);
    (sum(&mut task.runs.iter().map(|count| count.runs)), sum(&mut succeeded.map(|count| count.runs)))
}

/// Whether a task that has ended did so well.
fn judge(task: &Task) -> Result<(), String> {
    let (all, succeeded) = ended(task);
    let failed = match (all, all - succeeded) {
        (_, 0) => String::new(),
        (1, _) => "the run did not succeed".into(),
        (_, others) => format!("{others} of {} did not succeed", count(all, "run")),
    };
    let why = if task.why.is_empty() { String::new() } else { format!(" ({})", task.why) };
    let stopped = match task.state {
        TaskState::Active | TaskState::Done => String::new(),
        TaskState::Cancelled | TaskState::Aborted => format!("the task was {}{why}", task.state.name()),
    };
    let said = match (stopped.as_str(), failed.as_str()) {
        ("", "") => return Ok(()),
        ("", text) | (text, "") => text.to_owned(),
        (stopped, failed) => format!("{stopped}, {failed}"),
    };
    Err(format!("{said}; 'musterctl task show {} --output' tells more", task.id))
}

/// Progress of the task, on standard error: on a terminal one line that is rewritten, elsewhere a line when
/// something changed. Programs that read JSON are told nothing meanwhile.
enum Progress {
    Rewritten(ProgressBar),
    Lines { last: String },
    Silent,
}

impl Progress {
    fn new(is_json: bool) -> Self {
        match (io::stderr().is_terminal(), is_json) {
            (true, _) => {
                let bar = ProgressBar::new_spinner();
                let style = ProgressStyle::with_template("{elapsed}  {wide_msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                Self::Rewritten(bar)
            }
            (false, false) => Self::Lines { last: String::new() },
            (false, true) => Self::Silent,
        }
    }

    fn say(&mut self, line: &str) {
        let line = plain(line);
        match self {
            Self::Rewritten(bar) => {
                bar.set_message(line);
                bar.tick();
            }
            Self::Lines { last } if *last != line => {
                // One who does not read it any more still wants the exit code.
                let _ = writeln!(io::stderr(), "{line}");
                *last = line;
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    fn end(self) {
        if let Self::Rewritten(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::cli::task::tests::task;
    use crate::wire::api::Timestamp;
    use crate::wire::time::WallTime;

    #[test]
    fn a_line_says_how_far_it_is() {
        let mut waiting = task(TaskState::Active, &[]);
        assert_eq!(line(&waiting, &[]), "no runs yet");
        waiting.next_at = Some(Timestamp(WallTime(1_795_514_400_000)));
        assert_eq!(line(&waiting, &[]), "no runs yet, due 2026-11-24 10:00:00 UTC");
        let some = task(TaskState::Active, &[(RunState::Running, 3), (RunState::Succeeded, 9)]);
        let (mut a, b) = (runs::tests::run("a", RunState::Running), runs::tests::run("b", RunState::Running));
        a.progress_percent = Some(40);
        assert_eq!(line(&some, &[]), "9 succeeded, 3 running", "they had ended when they were asked for");
        assert_eq!(line(&some, &[a.clone(), b.clone()]), "9 succeeded, 3 running; runs on a (40 %), b, …");
        let both = task(TaskState::Active, &[(RunState::Running, 2)]);
        assert_eq!(line(&both, &[a, b]), "2 running; runs on a (40 %), b");
    }

    #[test]
    fn a_task_that_was_aborted_ends_with_what_is_being_executed() {
        assert!(!has_ended(&task(TaskState::Active, &[(RunState::Succeeded, 1)])));
        assert!(has_ended(&task(TaskState::Done, &[(RunState::Succeeded, 1)])));
        assert!(!has_ended(&task(TaskState::Aborted, &[(RunState::Cancelled, 1), (RunState::Running, 1)])));
        assert!(has_ended(&task(TaskState::Aborted, &[(RunState::Cancelled, 1), (RunState::Running, 0)])));
        assert!(has_ended(&task(TaskState::Cancelled, &[])));
    }

    #[test]
    fn a_task_ended_well_when_all_its_runs_succeeded() {
        let hint = "; 'musterctl task show 00abcdef01234567 --output' tells more";
        let said = |state, runs: &[(RunState, u64)]| {
            judge(&task(state, runs)).map_err(|text| text.strip_suffix(hint).unwrap().to_owned())
        };
        let (good, bad) = ((RunState::Succeeded, 3), (RunState::Expired, 1));
        assert_eq!(said(TaskState::Done, &[good]), Ok(()));
        assert_eq!(said(TaskState::Done, &[]), Ok(()), "it was for nobody");
        assert_eq!(said(TaskState::Done, &[good, bad]).unwrap_err(), "1 of 4 runs did not succeed");
        assert_eq!(said(TaskState::Done, &[bad]).unwrap_err(), "the run did not succeed");
        assert_eq!(said(TaskState::Cancelled, &[]).unwrap_err(), "the task was cancelled");
        let mut aborted = task(TaskState::Aborted, &[good, bad]);
        aborted.why = "25 % failed".into();
        let text = judge(&aborted).unwrap_err();
        assert_eq!(text, format!("the task was aborted (25 % failed), 1 of 4 runs did not succeed{hint}"));
    }
}
