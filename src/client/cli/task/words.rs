//! Tasks and their runs, in words for people.

use crate::client::cli::output::{NOTHING_THERE, plain};
use crate::fleet::task::schedule::Schedule;
use crate::wire::api::{CreatedTask, RunCount, RunState, TaskTargets};
use crate::wire::units::count;

/// The states in the order in which they are counted up: what has ended comes first.
const COUNTED: [RunState; 10] = [
    RunState::Succeeded,
    RunState::Failed,
    RunState::TimedOut,
    RunState::Rejected,
    RunState::Cancelled,
    RunState::Expired,
    RunState::Running,
    RunState::Delivered,
    RunState::Pending,
    RunState::Scheduled,
];

/// A run's state for people; commands and JSON have it by its name.
pub(super) fn state(state: RunState) -> &'static str {
    match state {
        RunState::TimedOut => "timed out",
        other => other.name(),
    }
}

/// Number of runs by state: `9 succeeded, 1 failed, 2 running`.
pub(super) fn summary(counts: &[RunCount]) -> String {
    let of = |state: RunState| -> u64 {
        counts
            .iter()
            .filter(|count| count.state == state)
            .fold(0, |sum, count| sum.saturating_add(count.runs))
    };
    let parts: Vec<String> = COUNTED
        .into_iter()
        .map(|state| (of(state), state))
        .filter(|(runs, _)| *runs > 0)
        .map(|(runs, state)| format!("{runs} {}", self::state(state)))
        .collect();
    if parts.is_empty() { NOTHING_THERE.into() } else { parts.join(", ") }
}

/// Its devices: at most `names_max` of their names.
pub(super) fn targets(targets: &TaskTargets, names_max: usize) -> String {
    match targets {
        TaskTargets::All => "all devices".into(),
        TaskTargets::Group(path) => format!("group {path}"),
        TaskTargets::Filter(filter) => format!("where {filter}"),
        TaskTargets::Devices(names) => {
            let shown = names.len().min(names_max);
            let more = match names.len() - shown {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{}{more}", names[..shown].join(", "))
        }
    }
}

/// Targets of a task when it was made: `12 devices, 10 of which offer it; due now`.
pub(super) fn created(created: &CreatedTask, schedule: &str) -> String {
    let devices = count(created.devices, "device");
    let offered = match (created.devices, created.offered) {
        (0, _) => " as things stand".into(),
        (1, 0) => ", which does not offer it".into(),
        (1, _) => ", which offers it".into(),
        (_, 0) => ", none of which offers it".into(),
        (_, 1) => ", 1 of which offers it".into(),
        (all, offered) if offered >= all => ", all of which offer it".into(),
        (_, offered) => format!(", {offered} of which offer it"),
    };
    let due = match schedule.parse() {
        Ok(Schedule::Now) => "due now".into(),
        Ok(every @ Schedule::Every(_)) => format!("due now, and {every}"),
        Ok(Schedule::At(_) | Schedule::AtLocal(_) | Schedule::Cron(_)) | Err(_) => {
            format!("due {}", plain(&created.due_local))
        }
    };
    format!("{devices}{offered}; {due}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::Timestamp;
    use crate::wire::id::TaskId;
    use crate::wire::time::WallTime;

    fn counts(counts: &[(RunState, u64)]) -> Vec<RunCount> {
        counts.iter().map(|(state, runs)| RunCount { state: *state, runs: *runs }).collect()
    }

    #[test]
    fn every_state_is_counted_once() {
        for state in RunState::ALL {
            assert_eq!(COUNTED.iter().filter(|counted| **counted == state).count(), 1, "{state}");
        }
    }

    #[test]
    fn counts_are_summed_up_with_what_has_ended_first() {
        let some = [(RunState::Running, 2), (RunState::Failed, 1), (RunState::Succeeded, 9)];
        assert_eq!(summary(&counts(&some)), "9 succeeded, 1 failed, 2 running");
        assert_eq!(summary(&counts(&[(RunState::TimedOut, 3), (RunState::Pending, 0)])), "3 timed out");
        assert_eq!(summary(&[]), "-");
        let twice = [(RunState::Failed, u64::MAX), (RunState::Failed, 1)];
        assert_eq!(summary(&counts(&twice)), format!("{} failed", u64::MAX));
    }

    #[test]
    fn many_targets_are_not_all_named() {
        let named = |names: &[&str]| TaskTargets::Devices(names.iter().map(|name| (*name).into()).collect());
        assert_eq!(targets(&named(&["a", "b"]), 2), "a, b");
        assert_eq!(targets(&named(&["a", "b", "c"]), 2), "a, b and 1 more");
        assert_eq!(targets(&TaskTargets::Group("/shops".into()), 2), "group /shops");
        assert_eq!(targets(&TaskTargets::All, 2), "all devices");
    }

    #[test]
    fn a_new_task_says_whom_it_is_for_and_when_it_is_due() {
        let text = |devices, offered, schedule| {
            let due_at = Timestamp(WallTime(1_795_514_400_123));
            let due_local = "2026-11-24T11:00:00+01:00[Europe/Berlin]".into();
            let time_zone = "Europe/Berlin".into();
            created(&CreatedTask { id: TaskId(1), devices, offered, due_at, due_local, time_zone }, schedule)
        };
        assert_eq!(text(12, 10, "now"), "12 devices, 10 of which offer it; due now");
        assert_eq!(text(12, 12, "now"), "12 devices, all of which offer it; due now");
        assert_eq!(text(12, 1, "now"), "12 devices, 1 of which offers it; due now");
        assert_eq!(text(1, 1, "now"), "1 device, which offers it; due now");
        assert_eq!(text(1, 0, "now"), "1 device, which does not offer it; due now");
        assert_eq!(text(0, 0, "every 360m"), "0 devices as things stand; due now, and every 6h");
        let cron = text(2, 0, "cron 0 3 * * *");
        assert_eq!(cron, "2 devices, none of which offers it; due 2026-11-24T11:00:00+01:00[Europe/Berlin]");
    }
}
