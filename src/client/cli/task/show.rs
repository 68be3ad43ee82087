//! `musterctl task show`.

use clap::Args;

use super::{create, runs, words};
use crate::client::cli::Failure;
use crate::client::cli::output::{NOTHING_THERE, Output, duration, plain, time, time_or_nothing};
use crate::client::{Client, ClientError};
use crate::wire::api::{RunDetail, RunQuery, RunState, TaskDetail, TaskRun, WrittenOutput};
use crate::wire::id::{RunId, TaskId};
use crate::wire::printable;
use crate::wire::units::count;

/// Runs whose output is shown, in runs: each may have written 64 KiB that are kept.
const OUTPUTS_MAX: usize = 20;

/// Devices of a task that are named.
const NAMES_MAX: usize = 20;

/// Columns of a tab in what a program wrote.
const TAB: &str = "    ";

/// Which task, and which of its runs.
#[derive(Args, Debug)]
pub(in crate::client::cli) struct TaskShow {
    /// Its id, from 'musterctl task list'
    id: TaskId,
    /// Only runs in this state, such as failed or timed_out
    #[arg(long)]
    state: Option<RunState>,
    /// Only runs on this device (name or id)
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Also the output of the runs' programs
    #[arg(long)]
    output: bool,
}

pub(super) fn run(client: &mut Client, output: &mut Output, asked: TaskShow) -> Result<(), Failure> {
    let task = client.task(asked.id)?;
    let query =
        RunQuery { task: Some(asked.id), device: asked.device, state: asked.state, ..RunQuery::default() };
    if output.is_json {
        return json(client, output, &task, query, asked.output);
    }
    let written = tables(client, output, &task, query)?;
    if asked.output { show_written(client, output, &written) } else { Ok(()) }
}

/// Which runs wrote something: the first of them, and how many there are.
#[derive(Default)]
pub(super) struct Written {
    first: Vec<RunId>,
    all: usize,
}

impl Written {
    pub(super) fn note(&mut self, page: &Result<Vec<TaskRun>, ClientError>) {
        for run in page.iter().flatten().filter(|run| run.has_output) {
            self.all += 1;
            if self.first.len() < OUTPUTS_MAX {
                self.first.push(run.id);
            }
        }
    }
}

/// The task and its runs as one JSON object; with what their programs wrote, when that is wanted.
pub(super) fn json(
    client: &mut Client,
    output: &mut Output,
    task: &TaskDetail,
    query: RunQuery,
    with_output: bool,
) -> Result<(), Failure> {
    let mut written = Written::default();
    let mut pages = client.runs(query);
    // Before anything is printed: one who asks for a device that is not there sees that, and nothing else.
    let first = pages.next().transpose()?.unwrap_or_default();
    let mut members = output.object();
    members.value("task", task)?;
    members.list("runs", std::iter::once(Ok(first)).chain(pages).inspect(|page| written.note(page)))?;
    if with_output {
        let details = written.first.iter().map(|id| client.run(*id).map(|detail| vec![detail]));
        members.list("outputs", details)?;
    }
    members.end()
}

/// Facts about the task, and its runs as they come. Returns which of them wrote something.
fn tables(
    client: &mut Client,
    output: &mut Output,
    task: &TaskDetail,
    query: RunQuery,
) -> Result<Written, Failure> {
    let mut written = Written::default();
    let mut pages = client.runs(query);
    let first = pages.next().transpose()?.unwrap_or_default();
    // A task that recurs has runs of several occurrences sooner or later, perhaps on a page that is still to
    // come.
    let shows_due = runs::are_of_several(&first) || create::recurs(&task.task.definition.schedule);
    output.facts(facts(task))?;
    output.line("")?;
    let pages = std::iter::once(Ok(first)).chain(pages).inspect(|page| written.note(page));
    output.list(runs::heads(shows_due), pages, "no such runs", |run| runs::row(run, shows_due))?;
    Ok(written)
}

/// Facts about a task, beside its runs.
fn facts(detail: &TaskDetail) -> Vec<(&'static str, String)> {
    let task = &detail.task;
    let definition = &task.definition;
    let nothing = || NOTHING_THERE.to_owned();
    let later = if definition.continuous { ", and those that come later" } else { "" };
    let why = if task.why.is_empty() { String::new() } else { format!(": {}", task.why) };
    vec![
        ("id", task.id.to_string()),
        ("name", definition.name.clone().unwrap_or_else(nothing)),
        ("application", task.application.clone()),
        ("kind", task.kind.clone()),
        ("settings", printable::json(&detail.settings).unwrap_or_default()),
        ("targets", format!("{}{later}", words::targets(&definition.targets, NAMES_MAX))),
        ("schedule", definition.schedule.clone()),
        ("window", definition.window.clone().unwrap_or_else(|| "all hours".into())),
        ("time zone", definition.time_zone().to_owned()),
        (
            "expires",
            format!("a run waits for its device for {}", duration(definition.expires_seconds.into())),
        ),
        ("timeout", duration(definition.timeout_seconds.into())),
        ("retries", definition.retries.to_string()),
        ("rollout", definition.rate_per_minute.map_or_else(|| "on all devices at once".into(), rollout)),
        (
            "aborts",
            definition
                .abort_percent
                .map_or_else(|| "never".into(), |share| format!("when more than {share} % of its runs fail")),
        ),
        ("artifact", definition.artifact.map_or_else(nothing, |hash| hash.to_string())),
        ("may repeat", if definition.may_repeat { "yes" } else { "no" }.to_owned()),
        ("state", format!("{}{why}", task.state.name())),
        ("created", time(task.created_at)),
        ("last due", time_or_nothing(task.due_at)),
        ("next due", task.next_local.clone().unwrap_or_else(nothing)),
        ("runs", words::summary(&task.runs)),
    ]
}

fn rollout(rate_per_minute: u32) -> String {
    format!("on {} a minute", count(rate_per_minute.into(), "device"))
}

/// Shows the programs' output, run by run.
pub(super) fn show_written(
    client: &mut Client,
    output: &mut Output,
    written: &Written,
) -> Result<(), Failure> {
    if written.all == 0 {
        return output.line("\nnone of these runs wrote anything");
    }
    for id in &written.first {
        let detail = client.run(*id)?;
        output.line("")?;
        for line in text(&detail) {
            output.line(&line)?;
        }
    }
    match written.all - written.first.len() {
        0 => Ok(()),
        more => output.line(&format!(
            "\n{} more wrote something: --state or --device narrow them down",
            count(more as u64, "run")
        )),
    }
}

/// Output of one run's program, line by line below a heading: indented lines are the program's own, whatever
/// they say.
fn text(detail: &RunDetail) -> Vec<String> {
    let run = &detail.run;
    let exit = run.exit_code.map_or(String::new(), |code| format!(", exit code {code}"));
    let heading =
        format!("{}, run {}, {}{exit}, wrote:", plain(&run.device), run.id, words::state(run.state));
    let lines = match &detail.output {
        Some(output) => written_lines(output),
        None => vec!["… nothing of it came here …".into()],
    };
    std::iter::once(heading).chain(lines.into_iter().map(|line| format!("  {line}"))).collect()
}

fn written_lines(output: &WrittenOutput) -> Vec<String> {
    let lines = |text: &str| text.lines().map(|line| plain(&line.replace('\t', TAB))).collect::<Vec<_>>();
    let mut all = lines(&output.head);
    if output.omitted_bytes > 0 {
        all.push(format!("… {} left out …", count(output.omitted_bytes, "byte")));
        all.extend(lines(&output.tail));
        return all;
    }
    // Nothing is missing between them: a line may have been cut in two.
    lines(&format!("{}{}", output.head, output.tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::TaskDefinition;
    use crate::wire::api::TaskState;

    fn written(head: &str, omitted_bytes: u64, tail: &str) -> Vec<String> {
        let mut run = runs::tests::run("kiosk-17", RunState::Failed);
        run.exit_code = Some(3);
        let output = Some(WrittenOutput { head: head.into(), tail: tail.into(), omitted_bytes });
        text(&RunDetail { run, output })
    }

    #[test]
    fn what_a_program_wrote_can_neither_command_the_terminal_nor_pose_as_a_heading() {
        let lines = written("a\tb\r\nkiosk-18, run\n\u{1b}[2J", 1, "end\n");
        assert_eq!(lines[0], "kiosk-17, run 0000000000000007, failed, exit code 3, wrote:");
        assert_eq!(
            lines[1..],
            ["  a    b", "  kiosk-18, run", r"  \u{1b}[2J", "  … 1 byte left out …", "  end"]
        );
    }

    #[test]
    fn what_is_whole_is_put_together() {
        assert_eq!(written("one\ntw", 0, "o\n")[1..], ["  one", "  two"]);
        let run = runs::tests::run("kiosk-17", RunState::Running);
        assert_eq!(text(&RunDetail { run, output: None })[1], "  … nothing of it came here …");
    }

    #[test]
    fn only_so_many_outputs_are_asked_for() {
        let mut run = runs::tests::run("a", RunState::Succeeded);
        let mut seen = Written::default();
        seen.note(&Ok(vec![run.clone()]));
        assert_eq!((seen.all, seen.first.len()), (0, 0));
        run.has_output = true;
        seen.note(&Ok(vec![run; OUTPUTS_MAX + 5]));
        assert_eq!((seen.all, seen.first.len()), (OUTPUTS_MAX + 5, OUTPUTS_MAX));
    }

    #[test]
    fn the_facts_of_a_task_are_in_words() {
        let mut detail = TaskDetail {
            task: super::super::tests::task(TaskState::Aborted, &[(RunState::Failed, 5)]),
            settings: serde_json::Map::new(),
        };
        detail.task.definition = TaskDefinition {
            continuous: true,
            retries: 2,
            rate_per_minute: Some(1),
            abort_percent: Some(10),
            ..detail.task.definition
        };
        detail.task.why = "5 of 5 failed".into();
        let facts = facts(&detail);
        let of = |name: &str| facts.iter().find(|(label, _)| *label == name).unwrap().1.as_str();
        assert_eq!(of("targets"), "all devices, and those that come later");
        assert_eq!(of("window"), "all hours");
        assert_eq!(of("expires"), "a run waits for its device for 1d");
        assert_eq!((of("timeout"), of("rollout")), ("10m", "on 1 device a minute"));
        assert_eq!((of("aborts"), of("may repeat")), ("when more than 10 % of its runs fail", "no"));
        assert_eq!((of("state"), of("runs")), ("aborted: 5 of 5 failed", "5 failed"));
        assert_eq!((of("settings"), of("next due")), ("{}", "-"));
    }
}
