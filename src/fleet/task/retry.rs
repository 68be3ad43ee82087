//! Whether a run that failed is tried again, and when.

use super::definition::retry_delay_seconds;
use super::run::RunProgress;
use crate::wire::api::TaskDefinition;
use crate::wire::run_state::RunState;
use crate::wire::time::WallTime;

/// The attempt that follows one that has just ended, if one does: a run of its own, which expires when the
/// first one would have. `random`: any number, drawn anew each time.
///
/// `is_told`: its device said how it ended. When it did not, the program may still be at work there, or may
/// have done its work: then it is only tried again when the task may be repeated.
#[must_use]
pub fn next_attempt(
    definition: &TaskDefinition,
    ended: &RunProgress,
    is_told: bool,
    random: u64,
    now: WallTime,
) -> Option<RunProgress> {
    let has_failed = matches!(ended.state, RunState::Failed | RunState::TimedOut);
    if !has_failed || ended.attempt > definition.retries || !(is_told || definition.may_repeat) {
        return None;
    }
    let wait_milliseconds = retry_delay_seconds(ended.attempt, random).saturating_mul(1_000);
    let not_before = WallTime(now.0.saturating_add(wait_milliseconds));
    (not_before < ended.expires_at).then(|| RunProgress::new(ended.attempt + 1, not_before, ended.expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::TaskTargets;

    const NOW: WallTime = WallTime(1_000_000);

    fn ended(state: RunState, attempt: u32) -> RunProgress {
        RunProgress { state, ..RunProgress::new(attempt, WallTime(0), WallTime(3_600_000)) }
    }

    #[test]
    fn what_failed_is_tried_as_often_as_the_task_says() {
        let definition = TaskDefinition { retries: 2, ..TaskDefinition::new(TaskTargets::All) };
        let next = next_attempt(&definition, &ended(RunState::Failed, 1), true, 7, NOW).unwrap();
        assert_eq!((next.attempt, next.state), (2, RunState::Scheduled));
        assert!(next.not_before > NOW && next.expires_at == WallTime(3_600_000), "it gets no new time");
        assert!(next_attempt(&definition, &ended(RunState::TimedOut, 2), true, 7, NOW).is_some());
        assert_eq!(next_attempt(&definition, &ended(RunState::Failed, 3), true, 7, NOW), None);
        for state in [RunState::Rejected, RunState::Cancelled, RunState::Expired, RunState::Succeeded] {
            assert_eq!(next_attempt(&definition, &ended(state, 1), true, 7, NOW), None, "{state}");
        }
    }

    #[test]
    fn what_may_still_be_at_work_is_only_tried_again_when_it_may_be_repeated() {
        let mut definition = TaskDefinition { retries: 1, ..TaskDefinition::new(TaskTargets::All) };
        let lost = ended(RunState::TimedOut, 1);
        assert_eq!(next_attempt(&definition, &lost, false, 7, NOW), None);
        definition.may_repeat = true;
        assert!(next_attempt(&definition, &lost, false, 7, NOW).is_some());
    }

    #[test]
    fn there_is_no_attempt_that_would_come_too_late() {
        let definition = TaskDefinition { retries: 9, ..TaskDefinition::new(TaskTargets::All) };
        let late = WallTime(3_600_000 - 1_000);
        assert_eq!(next_attempt(&definition, &ended(RunState::Failed, 1), true, 7, late), None);
    }
}
