//! `musterctl task`.

mod create;
mod on_device;
mod runs;
mod show;
mod wait;
mod words;

use clap::Subcommand;

use super::Failure;
use super::output::{NOTHING_THERE, Output, plain};
use crate::client::Client;
use crate::wire::api::{Task, TaskQuery, TaskState};
use crate::wire::id::TaskId;

pub(super) use on_device::on_device;

use create::TaskCreate;
use show::TaskShow;

/// Devices of a task that a line names.
const NAMES_IN_LIST_MAX: usize = 2;

#[derive(Subcommand, Debug)]
pub(super) enum TaskCommand {
    /// Make a task: something for devices to execute, now, later or again and again
    #[command(after_help = "Examples:
  musterctl task create --application kiosk --kind backup --device kiosk-17 kiosk-18 --wait
  musterctl task create --application kiosk --kind update --group /shops --file update.json --rate 20 --abort-percent 10
  musterctl task create --application kiosk --kind flash --group /shops --artifact firmware-2.1.bin --rate 20
  musterctl task create --application kiosk --kind backup --group /shops --schedule 'cron 0 3 * * *' --time-zone Europe/Berlin --timeout 2h
  musterctl task create --application kiosk --kind restart --all --schedule 'at 2026-11-24T23:00:00Z' --window 22:00-05:00
  echo '{\"level\": 3}' | musterctl task create --application kiosk --kind clean --device kiosk-17 --file - --expires 1h

A zone is an IANA name. A time that its clocks skip in spring comes at the change, one that they show twice in autumn comes once;
with '*' in the minute or hour of 'cron' it follows the clocks, as in cron(8).
Connected devices begin at once, the others are woken. A device that does not come within --expires does not run it.
With --wait: exit code 0 when every run succeeded, 1 otherwise; of more than 50 runs only those are listed that did not.")]
    Create(Box<TaskCreate>),
    /// All tasks, the newest first
    #[command(after_help = "Examples:
  musterctl task list
  musterctl task list --state active --application kiosk
  musterctl task list --json | jq -r '.[] | select(.state == \"aborted\") | .id'")]
    List {
        /// Only those that are active, done, cancelled or aborted
        #[arg(long)]
        state: Option<TaskState>,
        /// Only those for this application
        #[arg(long, value_name = "NAME")]
        application: Option<String>,
    },
    /// A task and every run of it: how far it is, why it waits, and until when
    #[command(after_help = "Examples:
  musterctl task show 00abcdef01234567
  musterctl task show 00abcdef01234567 --state failed --output
  musterctl task show 00abcdef01234567 --json | jq -r '.runs[] | select(.state == \"expired\") | .device'

With --output, what the programs of the runs that are shown wrote, of 20 runs at most.")]
    Show(TaskShow),
    /// Cancel a task: runs that have not begun never do, those that have are told to end
    #[command(after_help = "Examples:
  musterctl task cancel 00abcdef01234567")]
    Cancel {
        /// Its id, from 'musterctl task list'
        id: TaskId,
    },
}

pub(super) fn run(client: &mut Client, output: &mut Output, command: TaskCommand) -> Result<(), Failure> {
    match command {
        TaskCommand::Create(asked) => create::run(client, output, *asked),
        TaskCommand::List { state, application } => {
            let query = TaskQuery { state, application, ..TaskQuery::default() };
            output.list(
                &["ID", "NAME", "APPLICATION", "KIND", "TARGETS", "SCHEDULE", "STATE", "RUNS", "NEXT"],
                client.tasks(query),
                "no tasks: make one with 'musterctl task create'",
                row,
            )
        }
        TaskCommand::Show(asked) => show::run(client, output, asked),
        TaskCommand::Cancel { id } => output.answer(&client.cancel_task(id)?, |task| plain(&cancelled(task))),
    }
}

fn row(task: &Task) -> Vec<String> {
    vec![
        task.id.to_string(),
        task.definition.name.clone().unwrap_or_else(|| NOTHING_THERE.into()),
        task.application.clone(),
        task.kind.clone(),
        words::targets(&task.definition.targets, NAMES_IN_LIST_MAX),
        task.definition.schedule.clone(),
        task.state.name().to_owned(),
        words::summary(&task.runs),
        task.next_local.clone().unwrap_or_else(|| NOTHING_THERE.into()),
    ]
}

/// Outcome of cancelling a task.
fn cancelled(task: &Task) -> String {
    let said = match task.state {
        TaskState::Cancelled => "is cancelled".into(),
        TaskState::Active => "is being cancelled".into(),
        // It had ended before anybody asked.
        TaskState::Done | TaskState::Aborted => format!("stays as it is: {} already", task.state.name()),
    };
    let runs = if task.runs.is_empty() { "it has no runs".into() } else { words::summary(&task.runs) };
    format!("task {} {said}; {runs}", task.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::{RunCount, RunState, TaskDefinition, TaskTargets, Timestamp};
    use crate::wire::time::WallTime;

    pub(super) fn task(state: TaskState, runs: &[(RunState, u64)]) -> Task {
        Task {
            id: TaskId(0x00ab_cdef_0123_4567),
            application: "kiosk".into(),
            kind: "backup".into(),
            definition: TaskDefinition::new(TaskTargets::All),
            state,
            why: String::new(),
            created_at: Timestamp(WallTime(1_795_514_400_000)),
            next_at: None,
            next_local: None,
            due_at: None,
            runs: runs.iter().map(|(state, runs)| RunCount { state: *state, runs: *runs }).collect(),
        }
    }

    #[test]
    fn a_task_is_a_line() {
        let row = row(&task(TaskState::Active, &[(RunState::Pending, 3)])).join("|");
        assert_eq!(row, "00abcdef01234567|-|kiosk|backup|all devices|now|active|3 pending|-");
    }

    #[test]
    fn what_became_of_a_task_that_was_to_be_cancelled_is_said() {
        let runs = [(RunState::Cancelled, 2), (RunState::Succeeded, 1)];
        assert_eq!(
            cancelled(&task(TaskState::Cancelled, &runs)),
            "task 00abcdef01234567 is cancelled; 1 succeeded, 2 cancelled"
        );
        assert_eq!(
            cancelled(&task(TaskState::Cancelled, &[])),
            "task 00abcdef01234567 is cancelled; it has no runs"
        );
        let text = cancelled(&task(TaskState::Done, &runs[1..]));
        assert_eq!(text, "task 00abcdef01234567 stays as it is: done already; 1 succeeded");
    }

    #[test]
    fn states_are_read_by_their_names() {
        assert_eq!("aborted".parse(), Ok(TaskState::Aborted));
        let said = "open".parse::<TaskState>().unwrap_err().to_string();
        assert!(said.contains("'open' is not a state of a task (active, "), "{said}");
        assert_eq!("timed_out".parse(), Ok(RunState::TimedOut));
        assert!("late".parse::<RunState>().unwrap_err().to_string().contains("one of scheduled, pending, "));
    }
}
