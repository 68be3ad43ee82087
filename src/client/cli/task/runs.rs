//! Runs in a table.

use super::words;
use crate::client::cli::output::{NOTHING_THERE, time, time_or_nothing};
use crate::wire::api::TaskRun;
use crate::wire::task::RunStage;

const HEADS: &[&str] =
    &["DEVICE", "STATE", "ATTEMPT", "PROGRESS", "EXIT", "SINCE (UTC)", "UNTIL (UTC)", "WHY"];

/// The same, with when the task was due.
const HEADS_WITH_DUE: &[&str] =
    &["DUE (UTC)", "DEVICE", "STATE", "ATTEMPT", "PROGRESS", "EXIT", "SINCE (UTC)", "UNTIL (UTC)", "WHY"];

/// The heads of a table of runs.
pub(super) fn heads(shows_due: bool) -> &'static [&'static str] {
    if shows_due { HEADS_WITH_DUE } else { HEADS }
}

/// A run in it.
pub(super) fn row(run: &TaskRun, shows_due: bool) -> Vec<String> {
    let mut row = if shows_due { vec![time(run.due_at)] } else { Vec::new() };
    row.extend([
        run.device.clone(),
        words::state(run.state).to_owned(),
        run.attempt.to_string(),
        run.progress_percent.map_or_else(|| NOTHING_THERE.into(), |percent| format!("{percent} %")),
        run.exit_code.map_or_else(|| NOTHING_THERE.into(), |code| code.to_string()),
        time(run.changed_at),
        time_or_nothing(run.until),
        why(run),
    ]);
    row
}

/// Whether the runs are of more than one occurrence of their task.
pub(super) fn are_of_several(runs: &[TaskRun]) -> bool {
    runs.windows(2).any(|pair| pair[0].due_at != pair[1].due_at)
}

/// Why a run is where it is, and what its device said when that could not change anything any more.
pub(super) fn why(run: &TaskRun) -> String {
    let Some(late) = &run.late else { return run.why.clone() };
    let message = if late.message.is_empty() { String::new() } else { format!(", {}", late.message) };
    format!("{}; its device said later ({} UTC): {}{message}", run.why, time(late.at), stage(late.stage))
}

fn stage(stage: RunStage) -> &'static str {
    match stage {
        RunStage::Accepted => "accepted",
        RunStage::Running => "running",
        RunStage::Succeeded => "succeeded",
        RunStage::Failed => "failed",
        RunStage::TimedOut => "timed out",
        RunStage::Rejected => "rejected",
        RunStage::Cancelled => "cancelled",
        RunStage::NotNow => "not now",
        RunStage::Unknown => "not known to it",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::api::{LateReport, RunState, Timestamp};
    use crate::wire::id::{DeviceId, RunId, TaskId};
    use crate::wire::time::WallTime;

    pub(in crate::client::cli::task) fn run(device: &str, state: RunState) -> TaskRun {
        let at = Timestamp(WallTime(1_795_514_400_000));
        TaskRun {
            id: RunId(7),
            task: TaskId(1),
            device: device.into(),
            device_id: DeviceId(2),
            state,
            why: "for a reason".into(),
            until: None,
            due_at: at,
            attempt: 1,
            changed_at: at,
            began_at: None,
            progress_percent: None,
            exit_code: None,
            message: String::new(),
            late: None,
            has_output: false,
        }
    }

    #[test]
    fn a_run_is_a_line() {
        let mut run = run("kiosk-17", RunState::TimedOut);
        assert_eq!(row(&run, false).join("|"), "kiosk-17|timed out|1|-|-|2026-11-24 10:00:00|-|for a reason");
        assert_eq!(row(&run, false).len(), heads(false).len());
        (run.attempt, run.progress_percent, run.exit_code) = (2, Some(40), Some(-1));
        let message = "done after all".into();
        run.late = Some(LateReport { stage: RunStage::Succeeded, message, at: run.changed_at });
        let late = "for a reason; its device said later (2026-11-24 10:00:00 UTC): succeeded, done after all";
        assert_eq!(
            row(&run, true).join("|"),
            format!("2026-11-24 10:00:00|kiosk-17|timed out|2|40 %|-1|2026-11-24 10:00:00|-|{late}")
        );
        assert_eq!(row(&run, true).len(), heads(true).len());
    }

    #[test]
    fn runs_of_several_occurrences_are_told() {
        let (one, mut other) = (run("a", RunState::Running), run("b", RunState::Running));
        assert!(!are_of_several(&[one.clone(), other.clone()]) && !are_of_several(&[]));
        other.due_at = Timestamp(WallTime(1));
        assert!(are_of_several(&[one, other]));
    }
}
