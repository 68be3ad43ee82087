//! Facts that devices are judged by, and the verdicts.

use rusqlite::Connection;

use crate::fleet::renewal::Life;
use crate::fleet::status::{Cause, Facts, Reason, judge};
use crate::store::query::{self, DeviceKey, StatusCounts};
use crate::store::testing::{self, Fleet, all, enrolment, into, token, wait};
use crate::store::{FILE_NAME, Verdict};
use crate::wire::digest::Digest;
use crate::wire::id::DeviceId;
use crate::wire::section::{ApplicationCondition, Condition};
use crate::wire::settings::{SettingsReport, SettingsState};
use crate::wire::statistics::{Number, Statistic, Statistics};
use crate::wire::status::Status;
use crate::wire::time::WallTime;

const HOUR: u64 = 3_600_000;
const NOW: WallTime = WallTime(1_795_514_400_000);

fn facts(fleet: &Fleet, device: DeviceId) -> Facts {
    let mut judged = fleet.devices().facts_of(&[device], NOW).unwrap();
    assert_eq!((judged.len(), judged[0].device), (1, device));
    judged.remove(0).facts
}

fn condition(
    application: &str,
    condition: Condition,
    settings: Option<SettingsState>,
) -> ApplicationCondition {
    let report = |state| SettingsReport {
        revision: 2,
        digest: Digest(7),
        state,
        applied_revision: 1,
        since: WallTime(5),
        detail: "bad".into(),
    };
    ApplicationCondition { settings: settings.map(report), ..testing::condition(application, condition) }
}

fn set_conditions(fleet: &Fleet, device: DeviceId, revision: u64, conditions: Vec<ApplicationCondition>) {
    fleet.store(testing::conditions(device, revision, conditions));
}

/// Another connection to the same file: what the task store and the policies write.
fn file(fleet: &Fleet) -> Connection {
    let connection = Connection::open(fleet.directory.path().join(FILE_NAME)).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    connection
}

fn verdict(device: DeviceId, status: Status) -> Verdict {
    let cause = Cause::Disk { free_percent: 4.0 };
    let reasons = if status == Status::Ok { vec![] } else { vec![Reason { level: status, cause }] };
    Verdict { device, status, reasons }
}

fn set(fleet: &Fleet, verdicts: Vec<Verdict>, at: u64) {
    wait(|done| fleet.devices().set_statuses(verdicts, WallTime(at), done)).unwrap();
}

#[test]
fn only_what_speaks_against_a_device_is_read() {
    let fleet = Fleet::new(3);
    let [a, b, c] = [fleet.devices[0], fleet.devices[1], fleet.devices[2]];
    let bad = [
        condition("failed", Condition::Failed, None),
        condition("pending", Condition::Running, Some(SettingsState::Pending)),
    ];
    let good = [
        condition("fine", Condition::Running, None),
        condition("given", Condition::Running, Some(SettingsState::Applied)),
    ];
    set_conditions(&fleet, a, 1, [&bad[..], &good[..]].concat());
    set_conditions(&fleet, b, 1, good.to_vec());
    assert_eq!(facts(&fleet, a).applications, bad);
    assert_eq!(facts(&fleet, b), Facts::default());
    assert_eq!(facts(&fleet, c), Facts::default());
    let slice = fleet.devices().facts_behind(None, 10, NOW).unwrap();
    assert_eq!(slice.devices.iter().map(|judged| judged.device).collect::<Vec<_>>(), [a, b, c]);
    assert_eq!((&slice.devices[0].facts.applications[..], slice.next), (&bad[..], None));
}

#[test]
fn slices_go_round_all_devices_and_pass_over_removed_ones() {
    let fleet = Fleet::new(7);
    fleet.devices().remove(fleet.devices[2], NOW).unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..10 {
        let slice = fleet.devices().facts_behind(after, 2, NOW).unwrap();
        assert!(slice.devices.len() <= 2);
        seen.extend(slice.devices.iter().map(|judged| judged.device));
        after = slice.next;
        if after.is_none() {
            break;
        }
    }
    let mut expected = fleet.devices.clone();
    expected.remove(2);
    assert_eq!(seen, expected);
    assert!(fleet.devices().facts_of(&[fleet.devices[2]], NOW).unwrap().is_empty());
}

#[test]
fn the_disk_and_the_certificate_are_among_the_facts() {
    let fleet = Fleet::new(1);
    let number = |name: &str, value| Statistic {
        application: "muster-agent".into(),
        name: name.into(),
        unit: "percent".into(),
        value: Number(value),
    };
    let entries = vec![number("disk_free_percent", 4.25), number("memory_free_percent", 1.0)];
    wait(|done| fleet.inventory().take_statistics(fleet.devices[0], Statistics { entries }, NOW, done));
    let token = token(&fleet, 1);
    let expires_at = WallTime(NOW.0 + 24 * HOUR);
    let mut late = enrolment(&token, DeviceId(77), "late");
    let life = Life { issued_at: NOW, expires_at };
    late.certificate.life = Some(life);
    wait(|done| fleet.devices().enrol(late, done)).unwrap();
    let first = facts(&fleet, fleet.devices[0]);
    assert_eq!((first.disk_free_percent, first.certificate), (Some(4.25), None));
    assert_eq!(facts(&fleet, DeviceId(77)).certificate, Some(life));
}

#[test]
fn a_failed_task_counts_until_a_later_run_ends_well() {
    let fleet = Fleet::new(2);
    let file = file(&fleet);
    file.execute_batch(
        "INSERT INTO tasks (number, id, application, kind, settings, definition, state, created_at)
         VALUES (1, 16, 'nginx', 'rotate', '{}', '{}', 'active', 1), (2, 17, 'nginx', 'check', '{}', '{}', 'active', 1)",
    )
    .unwrap();
    let run = |id: i64, task: i64, device: i64, occurrence: u64, state: &str, changed_at: u64| {
        let sql = "INSERT INTO runs (id, task, device, due_at, state, changed_at, message, exit_code)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', 3)";
        let (occurrence, changed_at) = (occurrence.cast_signed(), changed_at.cast_signed());
        file.execute(sql, rusqlite::params![id, task, device, occurrence, state, changed_at]).unwrap();
    };
    let hour = |hours: u64| NOW.0 - hours * HOUR;
    run(1, 1, 1, 10, "failed", hour(5));
    run(2, 2, 1, 10, "timed_out", hour(4));
    run(3, 1, 2, 10, "failed", hour(800));
    let first = facts(&fleet, fleet.devices[0]);
    let told: Vec<_> = first.failed_runs.iter().map(|run| (run.kind.as_str(), run.at.0)).collect();
    assert_eq!(told, [("rotate", hour(5)), ("check", hour(4))]);
    assert_eq!(
        (first.failed_runs[0].message.as_str(), first.failed_runs[0].task.as_str()),
        ("exit code 3", "0000000000000010")
    );
    assert!(facts(&fleet, fleet.devices[1]).failed_runs.is_empty(), "too long ago for any rule");
    run(4, 1, 1, 20, "running", hour(2));
    assert_eq!(facts(&fleet, fleet.devices[0]).failed_runs.len(), 2, "it has not ended yet");
    run(5, 1, 1, 30, "succeeded", hour(1));
    assert_eq!(facts(&fleet, fleet.devices[0]).failed_runs.len(), 1);
    run(6, 2, 1, 30, "failed", hour(1));
    assert_eq!(facts(&fleet, fleet.devices[0]).failed_runs[0].at.0, hour(1), "the latest, once");
}

#[test]
fn settings_that_never_reached_a_device_are_known_since_they_were_changed() {
    let fleet = Fleet::new(1);
    let file = file(&fleet);
    file.execute_batch(
        "INSERT INTO policies (group_id, application, settings, locks, revision, changed_at)
            VALUES (1, 'nginx', '{}', '[]', 9, 1000);
         INSERT INTO desired_settings (device, application, digest, revision) VALUES (1, 'nginx', 7, 9), (1, 'cups', 7, 3)",
    )
    .unwrap();
    let untold = facts(&fleet, fleet.devices[0]).untold;
    assert_eq!(untold.len(), 1, "when 'cups' was changed is not known");
    assert_eq!((untold[0].application.as_str(), untold[0].since), ("nginx", WallTime(1_000)));
    set_conditions(
        &fleet,
        fleet.devices[0],
        1,
        vec![condition("nginx", Condition::Running, Some(SettingsState::Failed))],
    );
    let told = facts(&fleet, fleet.devices[0]);
    assert!(told.untold.is_empty(), "it has them, and says that they can't be applied");
    assert_eq!(judge(&told, &Default::default(), NOW).0, Status::Warning);
}

#[test]
fn a_status_is_shown_counted_and_looked_for() {
    let mut fleet = Fleet::new(6);
    let devices = fleet.devices.clone();
    let (ok, warning, critical) = (Status::Ok, Status::Warning, Status::Critical);
    set(&fleet, vec![verdict(devices[1], warning), verdict(devices[3], critical)], 1_000);
    set(&fleet, vec![verdict(devices[1], warning), verdict(devices[4], warning)], 2_000);
    set(&fleet, vec![verdict(devices[4], ok), verdict(DeviceId(1), critical)], 3_000);
    for _ in 0..2 {
        let reader = fleet.reader().unwrap();
        let device_status = |device: DeviceId| {
            let device_status = query::device(&reader, &DeviceKey::Id(device)).unwrap().row.device_status;
            (device_status.status, device_status.since.map(|since| since.0), device_status.reasons.len())
        };
        assert_eq!(device_status(devices[0]), (ok, None, 0));
        assert_eq!(device_status(devices[1]), (warning, Some(1_000), 1), "since it became so");
        assert_eq!(device_status(devices[4]), (ok, Some(3_000), 0));
        let with = |status: Status| -> Vec<DeviceId> {
            let page = fleet.page(&format!("status:{status}"), "name", &all()).unwrap();
            page.items.iter().map(|row| row.device).collect()
        };
        assert_eq!(with(critical), [devices[3]]);
        assert_eq!(with(warning), [devices[1]]);
        assert_eq!(with(ok), [devices[0], devices[2], devices[4], devices[5]]);
        let counts = StatusCounts { ok: 4, warning: 1, critical: 1 };
        assert_eq!(query::status_counts(&reader).unwrap(), counts);
        // The view for people says the same.
        let sql = "SELECT count(*) FROM device_overview WHERE status = 'ok'";
        assert_eq!(reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 4);
        drop(reader);
        fleet.reopen();
    }
    fleet.devices().remove(devices[3], NOW).unwrap();
    let counts = StatusCounts { ok: 4, warning: 1, critical: 0 };
    assert_eq!(query::status_counts(&fleet.reader().unwrap()).unwrap(), counts);
}

#[test]
fn what_changes_a_status_is_noted_once() {
    let fleet = Fleet::new(2);
    let [a, b] = [fleet.devices[0], fleet.devices[1]];
    let _ = fleet.devices().take_changed(10);
    set_conditions(&fleet, a, 1, vec![condition("nginx", Condition::Failed, None)]);
    set_conditions(&fleet, a, 2, vec![condition("nginx", Condition::Running, None)]);
    wait(|done| fleet.inventory().take_statistics(b, Statistics::default(), NOW, done));
    assert_eq!((fleet.devices().take_changed(1), fleet.devices().take_changed(9)), (vec![a], vec![b]));
    assert!(fleet.devices().take_changed(9).is_empty());
}

#[test]
fn rules_come_from_the_policies_of_the_groups_above_and_from_the_device() {
    let fleet = Fleet::new(4);
    let devices = fleet.devices.clone();
    for (device, group) in devices.iter().zip(["/shops/berlin", "/shops/berlin", "/shopsters", "/"]) {
        fleet.devices().change(*device, into(group)).unwrap();
    }
    let file = file(&fleet);
    let policy = |path: &str, settings: &str, locks: &str| {
        let sql = "INSERT INTO policies (group_id, application, settings, locks, revision, changed_at)
            SELECT id, 'muster', ?2, ?3, 1, 1 FROM groups WHERE path = ?1";
        assert_eq!(file.execute(sql, [path, settings, locks]).unwrap(), 1);
    };
    policy("/", r#"{"status":{"disk":{"warning_below":20}}}"#, "[]");
    policy(
        "/shops",
        r#"{"status":{"disk":{"critical_below":15},"task":{"failed":"off"}}}"#,
        r#"["status.task.failed"]"#,
    );
    policy("/shops/berlin", r#"{"status":{"disk":{"warning_below":30},"task":{"failed":"critical"}}}"#, "[]");
    let sql = "INSERT INTO own_settings (device, application, settings, revision, changed_at)
        VALUES (2, 'muster', '{\"status\":{\"disk\":{\"warning_below\":\"off\"}}}', 1, 1)";
    assert_eq!(file.execute(sql, []).unwrap(), 1);
    let judged = fleet.devices().facts_behind(None, 10, NOW).unwrap().devices;
    let told: Vec<_> = judged
        .iter()
        .map(|judged| {
            let disk = judged.rules.disk;
            (disk.warning_below_percent, disk.critical_below_percent, judged.rules.task.failed)
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(30.0), Some(15.0), Status::Ok),
            (None, Some(15.0), Status::Ok),
            (Some(20.0), Some(5.0), Status::Warning),
            (Some(20.0), Some(5.0), Status::Warning),
        ]
    );
    file.execute_batch(r#"UPDATE policies SET settings = '{"status":{"disc":{}}}' WHERE group_id = 1"#)
        .unwrap();
    let judged = fleet.devices().facts_of(&devices[3..], NOW).unwrap();
    let (status, reasons) = judge(&judged[0].facts, &judged[0].rules, NOW);
    assert_eq!(status, Status::Warning);
    assert!(reasons[0].text(NOW).contains("status.disc: there is no such key"), "{}", reasons[0].text(NOW));
}
