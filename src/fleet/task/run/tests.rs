use proptest::prelude::*;

use super::*;
use crate::wire::id::RunId;

const RULES: RunRules =
    RunRules { timeout_seconds: 600, lease_seconds: 120, may_repeat: false, deaf_until: WallTime(0) };
const START: u64 = 1_795_514_400_000;

fn at(seconds: u64) -> WallTime {
    WallTime(START + seconds * 1_000)
}

fn run() -> RunProgress {
    RunProgress::new(1, at(10), at(1_000))
}

fn pending() -> RunProgress {
    let mut run = run();
    assert!(run.release(None, at(10)));
    run
}

fn says(serial: u32, stage: RunStage) -> RunUpdate {
    RunUpdate::new(RunId(1), serial, stage)
}

#[test]
fn every_state_has_a_name_of_its_own() {
    for state in RunState::ALL {
        assert_eq!(state.name().parse(), Ok(state));
        assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.name()));
        assert!(!(state.is_final() && state.is_at_device()));
    }
    assert!("lost".parse::<RunState>().is_err());
}

#[test]
fn a_run_goes_its_way() {
    let mut run = run();
    assert_eq!(run.wake_at(&RULES), Some(at(10)));
    assert!(!run.release(None, at(9)) && run.release(None, at(10)) && !run.release(None, at(10)));
    assert_eq!(run.wake_at(&RULES), Some(at(1_000)));
    assert!(run.report(&says(1, RunStage::Accepted), &RULES, at(20)));
    assert_eq!((run.state, run.wake_at(&RULES)), (RunState::Delivered, Some(at(140))));
    let half =
        RunUpdate { progress_percent: Some(150), message: "half".into(), ..says(2, RunStage::Running) };
    assert!(run.report(&half, &RULES, at(30)));
    assert_eq!((run.state, run.began_at, run.progress_percent), (RunState::Running, Some(at(30)), Some(100)));
    assert!(!run.report(&says(2, RunStage::Failed), &RULES, at(30)), "old news");
    let end = RunUpdate { exit_code: Some(0), ..says(3, RunStage::Succeeded) };
    assert!(run.report(&end, &RULES, at(40)));
    assert_eq!((run.state, run.exit_code, run.wake_at(&RULES)), (RunState::Succeeded, Some(0), None));
}

#[test]
fn what_is_late_is_kept_and_revives_nothing() {
    let mut run = pending();
    assert!(!run.tick(&RULES, true, at(999)) && run.tick(&RULES, true, at(1_000)));
    assert_eq!(run.state, RunState::Expired);
    let late = RunUpdate { message: "done".into(), ..says(4, RunStage::Succeeded) };
    assert!(run.report(&late, &RULES, at(2_000)));
    assert!(!run.report(&late, &RULES, at(2_001)) && !run.cancel(at(2_002)));
    assert_eq!(run.state, RunState::Expired);
    let kept = Late { stage: RunStage::Succeeded, message: "done".into(), at: at(2_000) };
    assert_eq!(run.late, Some(kept));
}

#[test]
fn a_run_that_its_device_did_not_accept_in_its_window_waits_for_the_next() {
    let mut run = run();
    assert!(run.release(Some(at(100)), at(10)));
    assert_eq!(run.wake_at(&RULES), Some(at(100)));
    let mut accepted = run.clone();
    assert!(!run.tick(&RULES, true, at(99)) && run.tick(&RULES, true, at(100)));
    assert_eq!((run.state, run.not_before), (RunState::Scheduled, at(100)));
    assert!(
        run.report(&says(1, RunStage::Running), &RULES, at(101)),
        "accepted before it closed, heard of behind it"
    );
    assert_eq!(run.state, RunState::Running);
    assert!(
        accepted.report(&says(1, RunStage::Running), &RULES, at(99)) && !accepted.tick(&RULES, true, at(100))
    );
    let mut last = pending();
    assert!(last.begin_by == last.expires_at && last.tick(&RULES, true, at(1_000)));
    assert_eq!(last.state, RunState::Expired);
}

#[test]
fn what_waits_can_be_put_off_or_rejected_and_nothing_else_can() {
    let mut waits = run();
    waits.put_off(at(50), "the device has enough to do".into());
    assert!(!waits.release(None, at(49)) && waits.why(at(20)).ends_with("enough to do"));
    assert!(waits.release(None, at(50)) && waits.message.is_empty());
    waits.reject("not offered");
    assert_eq!(waits.state, RunState::Pending);
    let mut refused = run();
    refused.reject("not offered");
    assert_eq!((refused.state, refused.message.as_str()), (RunState::Rejected, "not offered"));
}

#[test]
fn a_device_that_falls_silent_is_given_up() {
    let mut run = pending();
    run.report(&says(1, RunStage::Running), &RULES, at(20));
    assert!(!run.tick(&RULES, true, at(139)) && run.tick(&RULES, true, at(140)));
    assert_eq!(run.state, RunState::TimedOut);
    assert_eq!(run.message, format!("its device was not heard of since {}", at(20)));
}

#[test]
fn nobody_is_given_up_who_could_not_be_heard() {
    let back = RunRules { deaf_until: at(5_120), ..RULES };
    let mut run = pending();
    run.report(&says(1, RunStage::Running), &RULES, at(20));
    assert_eq!(run.wake_at(&back), Some(at(5_120)));
    assert!(!run.tick(&back, true, at(5_000)), "the server was away when the lease ended");
    let mut heard = run.clone();
    assert!(heard.report(&says(2, RunStage::Succeeded), &back, at(5_010)));
    assert_eq!(heard.state, RunState::Succeeded);
    assert!(run.tick(&back, true, at(5_120)));
    assert_eq!(run.state, RunState::TimedOut);
}

#[test]
fn a_device_that_never_ends_is_given_up() {
    for (stage, end) in [(RunStage::Running, 10 + 600 + 120), (RunStage::Accepted, 1_000 + 120)] {
        let mut run = pending();
        // Twice as long as it may take: a run that is never given up fails the test, and does not hang it.
        let given_up = (10..2 * end).step_by(10).zip(1..).find(|&(seconds, serial)| {
            run.report(&says(serial, stage), &RULES, at(seconds));
            run.tick(&RULES, true, at(seconds))
        });
        assert_eq!(given_up.map(|(seconds, _)| seconds), Some(end), "{stage:?}");
        assert_eq!(run.state, RunState::TimedOut, "{stage:?}");
    }
}

#[test]
fn what_a_device_lost_fails_or_is_ordered_again() {
    let mut run = pending();
    assert!(!run.report(&says(9, RunStage::Unknown), &RULES, at(11)), "it is ordered again anyway");
    assert_eq!(run.state, RunState::Pending);
    run.report(&says(5, RunStage::Running), &RULES, at(20));
    let mut again = run.clone();
    assert!(run.report(&says(0, RunStage::Unknown), &RULES, at(30)));
    assert_eq!((run.state, run.message.as_str()), (RunState::Failed, "the device lost it"));
    let rules = RunRules { may_repeat: true, ..RULES };
    assert!(again.report(&says(0, RunStage::Unknown), &rules, at(30)));
    assert_eq!((again.state, again.serial, again.lease_until), (RunState::Pending, 0, None));
    assert!(again.report(&says(1, RunStage::Accepted), &rules, at(40)));
}

#[test]
fn not_now_is_ordered_again_later_within_bounds() {
    for (asked, waits) in [(None, 300), (Some(0), 5), (Some(60), 60), (Some(u32::MAX), 86_400)] {
        let mut run = pending();
        let busy = RunUpdate { again_seconds: asked, message: "busy".into(), ..says(3, RunStage::NotNow) };
        assert!(run.report(&busy, &RULES, at(20)));
        assert_eq!((run.state, run.not_before, run.serial), (RunState::Scheduled, at(20 + waits), 0));
        assert_eq!(run.message, "busy");
        assert!(!run.report(&busy, &RULES, at(20)), "said twice");
        assert_eq!(run.wake_at(&RULES), Some(at((20 + waits).min(1_000))));
        assert_eq!(run.release(None, at(20 + waits)), waits < 980);
        assert!(run.tick(&RULES, true, at(1_000)) && run.state == RunState::Expired);
    }
}

#[test]
fn a_cancelled_run_keeps_what_its_device_says_of_the_end() {
    let mut run = pending();
    run.report(&says(1, RunStage::Running), &RULES, at(20));
    assert!(run.cancel(at(30)) && !run.cancel(at(31)));
    assert!(run.report(&says(2, RunStage::Cancelled), &RULES, at(40)));
    assert_eq!(run.state, RunState::Cancelled);
    assert_eq!(run.late.map(|late| late.stage), Some(RunStage::Cancelled));
}

#[test]
fn it_says_what_it_waits_for() {
    let mut run = run();
    assert_eq!(run.why(at(0)), format!("waits for its time, {}", at(10)));
    run.release(None, at(10));
    assert_eq!(run.why(at(10)), format!("waits for its device until {}", at(1_000)));
    let failed = RunUpdate { exit_code: Some(3), message: "no disk".into(), ..says(1, RunStage::Failed) };
    run.report(&failed, &RULES, at(20));
    assert_eq!(run.why(at(30)), "failed with exit code 3: no disk");
    run.message = "exit code 3: no disk".into();
    assert_eq!(run.why(at(30)), "failed: exit code 3: no disk", "the code is said once");
    let mut unwanted = pending();
    unwanted.cancel(at(40));
    assert_eq!(unwanted.why(at(50)), format!("cancelled on the server at {}", at(40)));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let mut run = pending();
    let long = RunUpdate { message: "x".to_owned() + &"é".repeat(4_096), ..says(1, RunStage::Running) };
    run.report(&long, &RULES, at(20));
    assert_eq!(run.message.len(), TEXT_BYTES_MAX - 1);
}

#[derive(Clone, Debug)]
enum Step {
    Release,
    Report(RunUpdate),
    Cancel,
    Tick,
    Restart,
}

fn stages() -> impl Strategy<Value = RunStage> {
    use RunStage::*;
    prop::sample::select(vec![
        Accepted, Running, Running, Succeeded, Failed, TimedOut, Rejected, Cancelled, NotNow, Unknown,
    ])
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let update = (0u32..12, stages(), any::<Option<u8>>(), any::<Option<u32>>(), "[a-é]{0,8}").prop_map(
        |(serial, stage, progress_percent, again_seconds, message)| RunUpdate {
            progress_percent,
            again_seconds,
            message,
            ..says(serial, stage)
        },
    );
    let step = prop_oneof![
        4 => Just(Step::Release),
        8 => update.prop_map(Step::Report),
        1 => Just(Step::Cancel),
        2 => Just(Step::Tick),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec((0u64..200, step), 0..40)
}

/// Which state may follow which, by what: written down a second time, on purpose.
fn may_follow(before: RunState, step: &Step, may_repeat: bool) -> Vec<RunState> {
    use RunState::*;
    match step {
        Step::Restart => vec![],
        _ if before.is_final() => vec![],
        Step::Cancel => vec![Cancelled],
        Step::Release if before == Scheduled => vec![Pending],
        Step::Release => vec![],
        Step::Tick if before.is_at_device() && before != Pending => vec![TimedOut],
        Step::Tick => vec![Expired],
        Step::Report(_) if before == Scheduled => vec![],
        Step::Report(update) => match update.stage {
            RunStage::Accepted if before == Pending => vec![Delivered],
            RunStage::Accepted => vec![],
            RunStage::Running => vec![Running],
            RunStage::Succeeded => vec![Succeeded],
            RunStage::Failed => vec![Failed],
            RunStage::TimedOut => vec![TimedOut],
            RunStage::Rejected => vec![Rejected],
            RunStage::Cancelled => vec![Cancelled],
            RunStage::NotNow => vec![Scheduled],
            RunStage::Unknown if before == Pending => vec![],
            RunStage::Unknown if may_repeat => vec![Pending],
            RunStage::Unknown => vec![Failed],
        },
    }
}

proptest! {
    #[test]
    fn every_run_ends_once(may_repeat: bool, steps in steps()) {
        let rules = RunRules { may_repeat, ..RULES };
        let (mut run, mut seconds, mut was_released) = (run(), 0, false);
        for (pause, step) in steps {
            seconds += pause;
            let (before, now) = (run.clone(), at(seconds));
            let is_changed = match &step {
                Step::Release => run.release(None, now),
                Step::Report(update) => run.report(update, &rules, now),
                Step::Cancel => run.cancel(now),
                Step::Tick => run.tick(&rules, true, now),
                Step::Restart => {
                    run = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
                    false
                }
            };
            prop_assert_eq!(is_changed, run != before, "{:?}", step);
            if let Step::Report(update) = &step
                && update.stage != RunStage::Unknown
                && update.serial <= before.serial
            {
                prop_assert_eq!(&run, &before, "old news");
            }
            if run.state != before.state {
                let allowed = may_follow(before.state, &step, may_repeat);
                prop_assert!(allowed.contains(&run.state), "{:?}: {:?}", step, run.state);
            }
            if before.state.is_final() {
                let late = run.late.clone();
                prop_assert_eq!(&run, &RunProgress { late, serial: run.serial, ..before });
            }
            was_released |= run.state == RunState::Pending;
            prop_assert!(was_released || run.state != RunState::Running);
            prop_assert_eq!(run.wake_at(&rules).is_none(), run.state.is_final());
            prop_assert!(!run.why(now).is_empty());
            prop_assert!(run.state.is_at_device() || run.lease_until.is_none());
        }
        // A caller that follows `wake_at` and nothing else sees the end.
        for _ in 0..4 {
            let Some(wake_at) = run.wake_at(&rules) else { break };
            let now = wake_at.max(at(seconds));
            prop_assert!(run.tick(&rules, true, now) || run.release(None, now), "{:?} at {}", run, now);
        }
        prop_assert!(run.state.is_final(), "{:?}", run);
        prop_assert!(!run.tick(&rules, true, at(10_000_000)) && !run.release(None, at(20)));
    }
}
