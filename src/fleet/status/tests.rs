use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::digest::Digest;
use crate::wire::settings::SettingsReport;

const HOUR: u64 = 3_600_000;
const NOW: WallTime = WallTime(1_795_514_400_000);

fn ago(hours: u64) -> WallTime {
    WallTime(NOW.0 - hours * HOUR)
}

fn application(name: &str, condition: Condition, settings: Option<SettingsState>) -> ApplicationCondition {
    let report = |state| SettingsReport {
        revision: 3,
        digest: Digest(1),
        state,
        applied_revision: 2,
        since: ago(2),
        detail: "bad port".into(),
    };
    ApplicationCondition {
        application: name.into(),
        condition,
        since: ago(3),
        version: "1".into(),
        detail: "exit code 1\nsecond line".into(),
        settings: settings.map(report),
    }
}

fn texts(facts: &Facts, rules: &Rules) -> (Status, Vec<String>) {
    let (status, reasons) = judge(facts, rules, NOW);
    (status, reasons.iter().map(|reason| format!("{} {}", reason.level, reason.text(NOW))).collect())
}

fn rules(status: &Value) -> Rules {
    Rules::parse(&json!({ "status": status })).unwrap()
}

/// A certificate of a year.
fn year_until(expires_at: WallTime) -> Life {
    Life { issued_at: WallTime(expires_at.0 - 365 * 24 * HOUR), expires_at }
}

#[test]
fn a_device_against_which_nothing_is_known_is_ok() {
    let facts = Facts {
        applications: vec![application("nginx", Condition::Running, Some(SettingsState::Applied))],
        disk_free_percent: Some(10.0),
        certificate: Some(year_until(WallTime(NOW.0 + 30 * 24 * HOUR))),
        ..Facts::default()
    };
    assert_eq!(judge(&facts, &Rules::default(), NOW), (Status::Ok, vec![]));
}

#[test]
fn reasons_are_told_in_words_the_worst_first() {
    let run = |at| FailedRun {
        task: "0000000000000007".into(),
        application: "nginx".into(),
        kind: "rotate".into(),
        at,
        message: "exit code 2".into(),
    };
    let facts = Facts {
        lost_since: Some(ago(5)),
        applications: vec![
            application("mysql", Condition::Stopped, Some(SettingsState::Failed)),
            application("nginx", Condition::Failed, Some(SettingsState::Drifted)),
            application("redis", Condition::Unknown, Some(SettingsState::Pending)),
        ],
        untold: vec![
            UntoldSettings { application: "cups".into(), since: ago(4) },
            UntoldSettings { application: "new".into(), since: ago(0) },
        ],
        failed_runs: vec![run(ago(1)), run(ago(25))],
        disk_free_percent: Some(4.9),
        clock_ahead_minutes: 0,
        certificate: Some(year_until(ago(48))),
        has_synced_since_due: true,
        shared_identity: Some(SharedIdentity {
            since: ago(2),
            addresses: vec!["192.0.2.1".into(), "192.0.2.2".into()],
            policy: ClonePolicy::Warn,
        }),
        waits: None,
        events_held_since: Some(ago(1)),
        pin_missing_since: Some(ago(24)),
        rules_error: Some("status.x: there is no such key".into()),
    };
    let (status, found) = texts(&facts, &Rules::default());
    assert_eq!(status, Status::Critical);
    assert_eq!(
        found,
        [
            "critical nginx failed 3 h ago: exit code 1",
            "critical disk: 4 % free",
            "critical its certificate expired 2 days ago and is not renewed although it syncs: 'muster-agent status' there and the \
             server's log say why",
            "warning lost for 5 h",
            "warning mysql stopped 3 h ago: exit code 1",
            "warning settings of mysql could not be applied 2 h ago: bad port",
            "warning settings of nginx were changed on the device 2 h ago: bad port",
            "warning settings of redis pending for 2 h",
            "warning settings of cups pending for 4 h",
            "warning task rotate of nginx failed 60 min ago: exit code 2",
            "warning two devices seem to use this identity for 2 h (heard from 192.0.2.1, 192.0.2.2): enrol one of them anew",
            "warning it sends more events than it may, some wait on it for 60 min",
            "warning it has not stored the pin of the server's next certificate for 24 h: it has to sync before 'musterctl certificate retire'",
            "warning the rules for its status are wrong: status.x: there is no such key",
        ]
    );
    let reasons = judge(&facts, &Rules::default(), NOW).1;
    let json = serde_json::to_string(&reasons).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Reason>>(&json).unwrap(), reasons, "{json}");
}

#[test]
fn limits_have_edges() {
    let lost = |hours| Facts { lost_since: Some(ago(hours)), ..Facts::default() };
    assert_eq!(judge(&lost(0), &Rules::default(), NOW).0, Status::Warning, "at once");
    assert_eq!(judge(&lost(23), &Rules::default(), NOW).0, Status::Warning);
    assert_eq!(judge(&lost(24), &Rules::default(), NOW).0, Status::Critical);
    let expires = |days: u64| Facts {
        certificate: Some(year_until(WallTime(NOW.0 + days * 24 * HOUR - 1))),
        has_synced_since_due: true,
        ..Facts::default()
    };
    for (days, status) in
        [(31, Status::Ok), (30, Status::Warning), (8, Status::Warning), (7, Status::Critical)]
    {
        assert_eq!(judge(&expires(days), &Rules::default(), NOW).0, status, "{days}");
    }
    let from_the_future = Facts { lost_since: Some(WallTime(u64::MAX)), ..Facts::default() };
    assert_eq!(judge(&from_the_future, &Rules::default(), NOW).0, Status::Warning);
}

#[test]
fn a_certificate_that_ends_is_a_fault_of_a_device_that_syncs_and_no_fault_of_one_that_is_away() {
    let facts = |left, life, has_synced_since_due| {
        let expires_at = WallTime(NOW.0 + left);
        let certificate = Some(Life { issued_at: WallTime(expires_at.0 - life), expires_at });
        Facts { certificate, has_synced_since_due, ..Facts::default() }
    };
    let found = |left, life, synced| {
        let (status, reasons) = judge(&facts(left, life, synced), &Rules::default(), NOW);
        (status, reasons.first().map(|reason| reason.text(NOW)))
    };
    let (status, text) = found(24 * HOUR, 365 * 24 * HOUR, false);
    assert_eq!(status, Status::Warning);
    assert_eq!(text.unwrap(), "its certificate expires in 24 h and is renewed when it comes");
    assert_eq!(found(0, 365 * 24 * HOUR, true).0, Status::Critical);
    // A short life that has a little less than a third left when it is renewed is no reason.
    for life in [60_000, HOUR, 24 * HOUR] {
        assert_eq!(found(life / 6, life, true).0, Status::Ok, "{life}");
        assert_eq!(found(life / 6 - 1, life, true).0, Status::Warning, "{life}");
        assert_eq!(found(life / 12 - 1, life, true).0, Status::Critical, "{life}");
    }
}

#[test]
fn a_clock_far_from_the_servers_is_a_reason() {
    let off = |clock_ahead_minutes| Facts { clock_ahead_minutes, ..Facts::default() };
    let found = |minutes| {
        let (status, reasons) = judge(&off(minutes), &Rules::default(), NOW);
        (status, reasons.first().map(|reason| reason.text(NOW)))
    };
    assert_eq!((found(5), found(-5)), ((Status::Ok, None), (Status::Ok, None)));
    assert_eq!(found(6), (Status::Warning, Some("its clock is 6 min ahead of the server's".into())));
    assert_eq!(found(-180), (Status::Warning, Some("its clock is 3 h behind the server's".into())));
    let text = found(i16::MIN).1.unwrap();
    assert_eq!(text, "its clock is at least 22 days behind the server's");
    let rules = rules(&json!({"clock": {"warning_beyond": "off", "critical_beyond": "1h"}}));
    assert_eq!(judge(&off(60), &rules, NOW).0, Status::Ok);
    assert_eq!(judge(&off(-61), &rules, NOW).0, Status::Critical);
}

#[test]
fn an_application_may_have_rules_of_its_own() {
    let rules = rules(&json!({
        "applications": {"cups": {"stopped": "off"}, "kiosk": {"stopped": "critical"}},
        "application": {"failed": "warning"},
    }));
    let level = |name, condition| {
        let facts = Facts { applications: vec![application(name, condition, None)], ..Facts::default() };
        judge(&facts, &rules, NOW).0
    };
    assert_eq!(level("cups", Condition::Stopped), Status::Ok);
    assert_eq!(
        level("cups", Condition::Failed),
        Status::Warning,
        "what it does not say, the others' rule says"
    );
    assert_eq!(level("kiosk", Condition::Stopped), Status::Critical);
    assert_eq!(level("nginx", Condition::Stopped), Status::Warning);
}

#[test]
fn wrong_rules_are_refused_with_their_path() {
    for (settings, error) in [
        (json!([]), "this must be an object"),
        (json!({"stats": {}}), "stats: there is no such key (status)"),
        (json!({"status": 1}), "status: this must be an object"),
        (json!({"status": {"lost": {"after": "1h"}}}), "status.lost.after: there is no such key"),
        (
            json!({"status": {"lost": {"warning_after": 5}}}),
            "status.lost.warning_after: this must be a duration",
        ),
        (
            json!({"status": {"lost": {"warning_after": "5"}}}),
            "status.lost.warning_after: '5' is not a duration",
        ),
        (
            json!({"status": {"disk": {"critical_below": 101}}}),
            "status.disk.critical_below: this must be a number",
        ),
        (json!({"status": {"task": {"failed": "ok"}}}), "status.task.failed: this must be \"warning\""),
        (
            json!({"status": {"applications": {"a": {"failed": 1}}}}),
            "status.applications.a.failed: this must be",
        ),
        (json!({"status": {"applications": {"": {}}}}), "status.applications.: this can't be the name"),
        (json!({"status": {"task": {"within": "31d"}}}), "status.task.within: this may be 30d at most"),
        (json!({"status": {"certificate": {"x": 1}}}), "status.certificate.x: there is no such key"),
    ] {
        let refused = Rules::parse(&settings).unwrap_err();
        assert!(refused.starts_with(error), "{refused}");
    }
    assert_eq!(Rules::parse(&json!({})), Ok(Rules::default()));
    let off = rules(&json!({"lost": {"warning_after": "off"}, "disk": {"warning_below": "off"}}));
    assert_eq!((off.lost.warning_after_ms, off.disk.warning_below_percent), (None, None));
}

fn any_level() -> impl Strategy<Value = Status> {
    prop::sample::select(Status::ALL.to_vec())
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop::sample::select(vec![
        Condition::Unknown,
        Condition::Running,
        Condition::Stopped,
        Condition::Failed,
        Condition::NotInstalled,
    ])
}

prop_compose! {
    fn any_rules()(
        lost in (prop::option::of(0..50 * HOUR), prop::option::of(0..50 * HOUR)),
        application in (any_level(), any_level(), any_level(), any_level()),
        task in (any_level(), 0..50 * HOUR),
        settings in (any_level(), any_level(), 0..50 * HOUR, any_level()),
        disk in (prop::option::of(0.0..100.0), prop::option::of(0.0..100.0)),
        certificate in (prop::option::of(0..50 * HOUR), prop::option::of(0..50 * HOUR)),
        clock in (prop::option::of(0..50 * HOUR), prop::option::of(0..50 * HOUR)),
    ) -> Rules {
        let (failed, stopped, not_installed, unknown) = application;
        Rules {
            lost: LostRules { warning_after_ms: lost.0, critical_after_ms: lost.1 },
            application: ApplicationRules { failed, stopped, not_installed, unknown },
            applications: Default::default(),
            task: TaskRules { failed: task.0, within_ms: task.1 },
            settings: SettingsRules {
                failed: settings.0,
                pending: settings.1,
                pending_for_ms: settings.2,
                drifted: settings.3,
            },
            disk: DiskRules { warning_below_percent: disk.0, critical_below_percent: disk.1 },
            certificate: CertificateRules {
                warning_before_ms: certificate.0,
                critical_before_ms: certificate.1,
                ..CertificateRules::default()
            },
            clock: ClockRules { warning_beyond_ms: clock.0, critical_beyond_ms: clock.1 },
        }
    }
}

#[test]
fn a_device_that_waits_for_approval_is_told_with_what_to_do() {
    for (was_unknown, expected) in [
        (false, "waiting for approval for 2 h: 'musterctl device approve', or 'device remove'"),
        (
            true,
            "waiting for approval for 2 h, as it is not known here any more: 'musterctl device approve', or 'device remove'",
        ),
    ] {
        let facts = Facts { waits: Some((ago(2), was_unknown)), ..Facts::default() };
        let (status, found) = texts(&facts, &Rules::default());
        assert_eq!((status, found), (Status::Warning, vec![format!("warning {expected}")]));
    }
}

prop_compose! {
    fn any_facts()(
        lost in prop::option::of(0..60_u64),
        conditions in prop::collection::vec((any_condition(), prop::option::of(0..4_usize)), 0..30),
        untold in prop::collection::vec(0..60_u64, 0..4),
        failed in prop::collection::vec(0..60_u64, 0..4),
        disk in prop::option::of(0.0..100.0),
        certificate in prop::option::of(0..100_u64),
        has_synced_since_due: bool,
        clock_ahead_minutes in any::<i16>(),
    ) -> Facts {
        let states =
            [SettingsState::Pending, SettingsState::Applied, SettingsState::Failed, SettingsState::Drifted];
        Facts {
            lost_since: lost.map(ago),
            pin_missing_since: None,
            shared_identity: None,
            waits: None,
            applications: conditions
                .into_iter()
                .map(|(condition, state)| application("a", condition, state.map(|state| states[state])))
                .collect(),
            untold: untold
                .into_iter()
                .map(|hours| UntoldSettings { application: "b".into(), since: ago(hours) })
                .collect(),
            failed_runs: failed
                .into_iter()
                .map(|hours| FailedRun {
                    task: "1".into(),
                    application: "a".into(),
                    kind: "k".into(),
                    at: ago(hours),
                    message: String::new(),
                })
                .collect(),
            disk_free_percent: disk,
            clock_ahead_minutes,
            events_held_since: None,
            rules_error: None,
            certificate: certificate.map(|hours| year_until(WallTime(NOW.0 + hours * HOUR - 50 * HOUR))),
            has_synced_since_due,
        }
    }
}

proptest! {
    #[test]
    fn the_worst_reason_is_the_status_and_comes_first(facts in any_facts(), rules in any_rules()) {
        let (status, reasons) = judge(&facts, &rules, NOW);
        let worst = reasons.iter().map(|reason| reason.level).max().unwrap_or_default();
        prop_assert_eq!(status, worst);
        prop_assert!(reasons.is_sorted_by(|a, b| a.level >= b.level));
        prop_assert!(reasons.len() <= REASONS_MAX && reasons.iter().all(|reason| reason.level != Status::Ok));
        prop_assert_eq!(judge(&facts, &rules, NOW), (status, reasons));
    }

    #[test]
    fn what_is_off_is_never_a_reason(facts in any_facts(), rules in any_rules()) {
        let mut quiet = rules;
        quiet.lost = LostRules { warning_after_ms: None, critical_after_ms: None };
        quiet.task.failed = Status::Ok;
        quiet.disk = DiskRules { warning_below_percent: None, critical_below_percent: None };
        let (_, reasons) = judge(&facts, &quiet, NOW);
        let is_off = |cause: &Cause| matches!(cause, Cause::Lost { .. } | Cause::Task { .. } | Cause::Disk { .. });
        prop_assert!(!reasons.iter().any(|reason| is_off(&reason.cause)));
    }

    #[test]
    fn a_stricter_limit_never_makes_a_device_better(
        facts in any_facts(),
        rules in any_rules(),
        percent in 0.0..50.0,
        milliseconds in 0..20 * HOUR,
    ) {
        let mut strict = rules.clone();
        let sooner = |limit: Option<u64>| limit.map(|limit| limit.saturating_sub(milliseconds));
        strict.lost.warning_after_ms = sooner(strict.lost.warning_after_ms);
        strict.lost.critical_after_ms = sooner(strict.lost.critical_after_ms);
        strict.settings.pending_for_ms = strict.settings.pending_for_ms.saturating_sub(milliseconds);
        strict.task.within_ms += milliseconds;
        for limit in [&mut strict.disk.warning_below_percent, &mut strict.disk.critical_below_percent] {
            *limit = limit.map(|limit| limit + percent);
        }
        for limit in [&mut strict.certificate.warning_before_ms, &mut strict.certificate.critical_before_ms] {
            *limit = limit.map(|limit| limit + milliseconds);
        }
        prop_assert!(judge(&facts, &strict, NOW).0 >= judge(&facts, &rules, NOW).0);
    }
}
