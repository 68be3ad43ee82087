use proptest::prelude::*;

use super::*;
use crate::wire::id::DeviceId;

fn everywhere() -> TaskDefinition {
    TaskDefinition::new(TaskTargets::All)
}

#[test]
fn what_is_left_out_has_its_default() {
    let read: TaskDefinition = serde_json::from_str(r#"{"targets":"all"}"#).unwrap();
    assert_eq!(read, everywhere());
    assert_eq!(read.validate(), Ok(()));
    assert_eq!((read.schedule(), read.window()), (Ok(Schedule::Now), Ok(None)));
    for text in ["{}", r#"{"targets":"all","retrys":3}"#, r#"{"targets":"some"}"#] {
        assert!(serde_json::from_str::<TaskDefinition>(text).is_err(), "{text}");
    }
}

#[test]
fn a_definition_survives_its_text() {
    let text = r#"{"name":"night update","targets":{"group":"europe/shops"},"continuous":true,"schedule":"cron 0 3 * * *","window":"22:00-05:00","time_zone":"Europe/Berlin","expires_seconds":3600,"timeout_seconds":60,"retries":3,"rate_per_minute":20,"abort_percent":10,"may_repeat":true,"artifact":"4bc453b53cb3d914b45f4b250294236adba2c0e09ff6f03793949e7e39fd4cc1"}"#;
    let definition: TaskDefinition = serde_json::from_str(text).unwrap();
    assert_eq!(definition.validate(), Ok(()));
    assert_eq!(serde_json::to_string(&definition).unwrap(), text);
    let (before, _) = text.split_once(r#","artifact""#).unwrap();
    let before = format!("{}}}", before.replace(r#""time_zone":"Europe/Berlin","#, ""));
    let older: TaskDefinition = serde_json::from_str(&before).unwrap();
    let made = TaskDefinition { time_zone: None, artifact: None, ..definition };
    assert_eq!(older, made, "made when there was no choice");
    let devices = TaskDefinition::new(TaskTargets::Devices(vec![DeviceId(7).to_string()]));
    let text = serde_json::to_string(&devices).unwrap();
    assert!(text.contains(r#""targets":{"devices":["0000000000000007"]}"#), "{text}");
    assert_eq!(serde_json::from_str::<TaskDefinition>(&text).unwrap(), devices);
}

#[test]
fn what_is_not_allowed_is_named() {
    let devices = |count: u64| TaskTargets::Devices((0..count).map(|id| DeviceId(id).to_string()).collect());
    for (definition, error) in [
        (TaskDefinition { name: Some(" ".into()), ..everywhere() }, "'name' is not a name"),
        (TaskDefinition { name: Some("a\nb".into()), ..everywhere() }, "'name' is not a name"),
        (TaskDefinition::new(devices(0)), "'targets' names no device"),
        (TaskDefinition::new(devices(1_001)), "'targets' names 1001 devices: at most 1000"),
        (
            TaskDefinition { continuous: true, ..TaskDefinition::new(devices(1)) },
            "'continuous' is for a group",
        ),
        (
            TaskDefinition { continuous: true, ..TaskDefinition::new(TaskTargets::Filter("a".into())) },
            "'continuous' is for a group",
        ),
        (
            TaskDefinition::new(TaskTargets::Filter("sean:>2h".into())),
            "'targets: where': there is no key 'sean'",
        ),
        (TaskDefinition::new(TaskTargets::Group(String::new())), "'targets: group' is not a name"),
        (
            TaskDefinition { schedule: "daily".into(), ..everywhere() },
            "'schedule': 'daily' is not a schedule",
        ),
        (TaskDefinition { time_zone: Some("x".repeat(256)), ..everywhere() }, "'time_zone' is not a name"),
        (
            TaskDefinition { window: Some("night".into()), ..everywhere() },
            "'window': 'night' is not a window",
        ),
        (
            TaskDefinition { expires_seconds: 59, ..everywhere() },
            "'expires_seconds' is 59, and has to be from 60 to",
        ),
        (TaskDefinition { expires_seconds: 2_592_001, ..everywhere() }, "'expires_seconds' is 2592001"),
        (TaskDefinition { timeout_seconds: 0, ..everywhere() }, "'timeout_seconds' is 0"),
        (TaskDefinition { timeout_seconds: 86_401, ..everywhere() }, "'timeout_seconds' is 86401"),
        (TaskDefinition { retries: 21, ..everywhere() }, "'retries' is 21, and has to be from 0 to 20"),
        (TaskDefinition { rate_per_minute: Some(0), ..everywhere() }, "'rate_per_minute' is 0"),
        (TaskDefinition { rate_per_minute: Some(60_001), ..everywhere() }, "'rate_per_minute' is 60001"),
        (
            TaskDefinition { abort_percent: Some(100), ..everywhere() },
            "'abort_percent' is 100, and has to be from 0 to 99",
        ),
    ] {
        let said = definition.validate().unwrap_err().to_string();
        assert!(said.starts_with(error), "{said}");
    }
    assert_eq!(TaskDefinition::new(devices(1_000)).validate(), Ok(()));
    for abort_percent in [Some(0), Some(99), None] {
        assert_eq!(TaskDefinition { abort_percent, ..everywhere() }.validate(), Ok(()));
    }
}

#[test]
fn a_rollout_has_its_rate() {
    assert_eq!(rollout(None, 1_000_000), u32::MAX);
    assert_eq!((rollout(Some(20), 5), rollout(Some(20), 20), rollout(Some(20), 30)), (15, 0, 0));
}

#[test]
fn a_task_stops_when_too_many_fail_of_enough() {
    assert!(!is_to_abort(4, 4, 100, 10), "too few to tell");
    assert!(!is_to_abort(10, 1, 100, 10), "exactly what is borne");
    assert!(is_to_abort(9, 1, 100, 10) && is_to_abort(10, 2, 100, 10));
    assert!(is_to_abort(100, 1, 100, 0) && !is_to_abort(100, 0, 100, 0), "the first that counts");
    assert!(is_to_abort(5, 5, 100, 99) && !is_to_abort(5, 5, 100, 100), "more than all never fail");
    assert!(is_to_abort(2, 2, 2, 50) && !is_to_abort(1, 1, 2, 50), "all, when there are fewer");
    assert!(!is_to_abort(0, 0, 0, 1));
}

proptest! {
    #[test]
    fn a_retry_waits_within_its_bounds(attempt: u32, random: u64) {
        let delay = retry_delay_seconds(attempt, random);
        let longest = [30, 60, 120, 240, 480, 960, 1_920];
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap();
        let longest = longest.get(index).copied().unwrap_or(3_600);
        prop_assert!(delay <= longest && delay * 4 >= longest, "{delay} of {longest}");
    }

    #[test]
    fn the_first_retries_double(attempt in 1u32..8, random: u64) {
        let delay = retry_delay_seconds(attempt, random);
        let longest = 30u64 << (attempt - 1);
        prop_assert!(delay <= longest && delay * 4 >= longest, "{delay} of {longest}");
    }

    #[test]
    fn a_lower_threshold_stops_no_later(finished in 0u64..50, failed in 0u64..50, total in 0u64..50, percent in 1u32..=100) {
        let is_stopped = is_to_abort(finished, failed, total, percent);
        prop_assert!(!is_stopped || is_to_abort(finished, failed, total, percent - 1));
    }
}
