//! The disk decides, whatever became of the agent: no program is started here.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{self, ORDER, Outcome, PLAN, REPORTED, RESULT};
use super::plan::Plan;
use super::run_store::Runs;
use crate::agent::directory::Directory;
use crate::agent::settings::Settings;
use crate::wire::digest::Digest;
use crate::wire::id::RunId;
use crate::wire::task::{RunAck, RunOrder, RunStage, RunUpdate, digest_of};
use crate::wire::time::{Moment, Now, WallTime};

const RUN: RunId = RunId(7);
const BOOT: &str = "this boot";

fn at(seconds: u64) -> Now {
    Now { moment: Moment(0).plus_seconds(seconds), wall: WallTime(1_000_000 + seconds * 1_000) }
}

fn order(run: RunId) -> RunOrder {
    RunOrder {
        run,
        application: "shop".into(),
        kind: "work".into(),
        settings: "{}".into(),
        timeout_seconds: 60,
        start_within_seconds: 600,
        may_repeat: true,
        artifact: None,
    }
}

/// A plan of which nothing became: the device lost its power in the middle.
fn plan(may_repeat: bool, attempt: u32) -> Plan {
    Plan {
        run: RUN,
        application: "shop".into(),
        kind: "work".into(),
        command: vec!["true".into()],
        directory: "/".into(),
        user: None,
        timeout_seconds: 60,
        may_repeat,
        attempt,
        artifact: None,
    }
}

struct Device(tempfile::TempDir);

impl Device {
    /// One that has accepted [`RUN`].
    fn with_run() -> (Self, Runs) {
        let device = Self(tempfile::tempdir().unwrap());
        let mut runs = device.start();
        runs.accept(&order(RUN), &at(0), None).unwrap();
        assert_eq!(stages(&runs.take_news()), [RunStage::Accepted]);
        (device, runs)
    }

    /// An agent starts on what is on the disk.
    fn start(&self) -> Runs {
        self.start_at(&at(1), BOOT, 1_000_001)
    }

    /// An agent starts then, in a boot of the system that is so old.
    fn start_at(&self, now: &Now, boot: &str, uptime_milliseconds: u64) -> Runs {
        Runs::open(&Directory::open(self.0.path()).unwrap(), now, boot.into(), uptime_milliseconds).unwrap()
    }

    /// Whether the run waits, so long after this agent's start.
    fn waits(runs: &mut Runs, now: &Now) -> bool {
        let poll = mio::Poll::new().unwrap();
        // Without a definition it is rejected as soon as it could begin: what comes too late is put off
        // before that.
        runs.work(&Settings::default(), poll.registry(), 0, now);
        stages(&runs.take_news()) != [RunStage::NotNow]
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("runs").join(RUN.to_string())
    }
}

fn tear(directory: &Path, name: &str) {
    let bytes = fs::read(directory.join(name)).unwrap();
    fs::write(directory.join(name), &bytes[..bytes.len() / 2]).unwrap();
}

fn stages(updates: &[RunUpdate]) -> Vec<RunStage> {
    updates.iter().map(|update| update.stage).collect()
}

fn ack(updates: &[RunUpdate]) -> Vec<RunAck> {
    updates.iter().map(|update| RunAck { run: update.run, serial: update.serial }).collect()
}

#[test]
fn a_run_is_accepted_once_and_its_end_outlives_it() {
    let (device, mut runs) = Device::with_run();
    runs.accept(&order(RUN), &at(2), None).unwrap();
    assert_eq!((runs.list().len(), runs.digest()), (1, digest_of(RUN)));
    runs.keep_only(&[], &at(3));
    let news = runs.take_news();
    let last = news.last().unwrap();
    assert_eq!(last.stage, RunStage::Cancelled);
    // Older news is no reason to forget it.
    runs.stored(&[RunAck { run: RUN, serial: last.serial - 1 }]).unwrap();
    assert!(runs.has(RUN));
    runs.stored(&ack(&news)).unwrap();
    assert!(!device.path().exists());
    for mut runs in [runs, device.start()] {
        assert_eq!(runs.digest(), Digest::EMPTY);
        runs.accept(&order(RUN), &at(4), None).unwrap();
        let said = runs.take_news();
        assert_eq!((stages(&said), said[0].serial), (vec![RunStage::Cancelled], last.serial));
        assert!(!runs.has(RUN) && !device.path().exists());
    }
}

#[test]
fn a_notice_that_was_not_stored_is_the_same_after_a_restart() {
    let (device, mut runs) = Device::with_run();
    runs.keep_only(&[], &at(3));
    let said = runs.take_news();
    let mut next = device.start();
    assert_eq!(next.final_reports(), [said.last().unwrap().clone()]);
    assert_eq!(next.digest(), digest_of(RUN));
}

#[test]
fn serial_numbers_never_go_back() {
    let (device, mut runs) = Device::with_run();
    let mut last = 0;
    for round in 0..100 {
        // Some agents say much before they die, and some nothing.
        for _ in 0..round % 40 {
            runs.accept(&order(RUN), &at(2), None).unwrap();
            let said = runs.take_news()[0].serial;
            assert!(said > last, "{said} after {last} in round {round}");
            last = said;
        }
        if round == 50 {
            tear(&device.path(), REPORTED);
        }
        runs = device.start();
    }
}

#[test]
fn a_torn_order_is_an_interruption_and_none_at_all_was_never_accepted() {
    let (device, _) = Device::with_run();
    tear(&device.path(), ORDER);
    let said = device.start().final_reports();
    assert_eq!(stages(&said), [RunStage::Failed]);
    assert!(said[0].message.starts_with("interrupted: "), "{said:?}");

    let (device, _) = Device::with_run();
    fs::remove_file(device.path().join(ORDER)).unwrap();
    let mut runs = device.start();
    assert!(!runs.has(RUN) && !device.path().exists());
    runs.keep_only(&[RUN], &at(2));
    assert_eq!(stages(&runs.take_news()), [RunStage::Unknown]);
}

#[test]
fn what_nobody_knows_the_end_of_is_interrupted_or_begun_again_a_few_times() {
    let after = |plan: &Plan, is_torn: bool| {
        let (device, _) = Device::with_run();
        files::write(&device.path(), PLAN, plan).unwrap();
        if is_torn {
            tear(&device.path(), PLAN);
        }
        let runs = device.start();
        runs.list()[0].stage
    };
    assert_eq!(after(&plan(false, 1), false), RunStage::Failed);
    assert_eq!(after(&plan(true, 1), false), RunStage::Accepted);
    assert_eq!(after(&plan(true, 3), false), RunStage::Failed);
    assert_eq!(after(&plan(true, 1), true), RunStage::Failed);
}

#[test]
fn what_had_no_turn_in_time_is_put_off_and_may_come_again() {
    let (device, mut runs) = Device::with_run();
    let poll = mio::Poll::new().unwrap();
    assert_eq!(runs.next_timeout(), Some(at(600).moment));
    runs.work(&Settings::default(), poll.registry(), 0, &at(600));
    let said = runs.take_news();
    assert_eq!((stages(&said), said[0].again_seconds), (vec![RunStage::NotNow], None));
    assert_eq!(said[0].message, "did not begin within 600 s");
    assert!(!device.path().join(PLAN).exists());
    runs.stored(&ack(&said)).unwrap();
    for mut runs in [runs, device.start()] {
        runs.accept(&order(RUN), &at(700), None).unwrap();
        let again = runs.take_news();
        assert_eq!(stages(&again), [RunStage::Accepted]);
        assert!(again[0].serial > said[0].serial, "{again:?}");
        fs::remove_dir_all(device.path()).unwrap();
    }
}

#[test]
fn how_long_a_run_may_wait_hangs_on_no_clock_that_can_be_set() {
    const YEARS: u64 = 10 * 365 * 86_400;
    // It was accepted when the system had been up for 1000 s, and may wait for 600.
    let after = |wall_seconds: u64, boot: &str, uptime_seconds: u64| {
        let (device, _) = Device::with_run();
        let now = Now { moment: Moment(0), ..at(wall_seconds) };
        let mut runs = device.start_at(&now, boot, uptime_seconds * 1_000);
        Device::waits(&mut runs, &now)
    };
    assert!(
        after(YEARS, BOOT, 1_599) && after(0, BOOT, 1_599),
        "in the same boot the wall clock says nothing"
    );
    assert!(!after(0, BOOT, 1_602), "an agent that was away for too long");
    assert!(after(590, "the next", 20) && !after(610, "the next", 20), "over a reboot there is nothing else");
    assert!(!after(0, "the next", 601), "but the time since that has passed");
}

#[test]
fn what_came_first_is_first_also_when_the_clock_was_set_back_in_between() {
    let (device, mut runs) = Device::with_run();
    let before = Now { wall: WallTime(0), ..at(2) };
    runs.accept(&order(RunId(3)), &before, None).unwrap();
    drop(runs);
    let mut runs = device.start();
    runs.accept(&order(RunId(5)), &before, None).unwrap();
    let listed: Vec<RunId> = runs.list().iter().map(|run| run.run).collect();
    assert_eq!(listed, [RUN, RunId(3), RunId(5)]);
}

#[test]
fn the_time_that_a_device_sleeps_counts() {
    let (_device, mut runs) = Device::with_run();
    runs.note_uptime(1_299_001, &at(300));
    assert_eq!(runs.next_timeout(), Some(at(600).moment), "nothing but time has passed");
    runs.note_uptime(1_500_001, &at(301));
    assert!(runs.next_timeout().unwrap() <= at(402).moment, "it has slept for 200 s");
    assert!(!Device::waits(&mut runs, &at(403)));
}

#[test]
fn a_result_counts_and_a_torn_one_does_not() {
    let (device, _) = Device::with_run();
    let outcome = Outcome {
        exit_code: Some(0),
        head: b"head".to_vec(),
        tail: b"tail".to_vec(),
        omitted_bytes: 5,
        ..Outcome::without_output(RunStage::Succeeded, "")
    };
    files::write(&device.path(), PLAN, &plan(false, 1)).unwrap();
    files::write(&device.path(), RESULT, &outcome).unwrap();
    let said = device.start().final_reports();
    assert_eq!(stages(&said), [RunStage::Running, RunStage::Succeeded], "output in two parts");
    let parts: Vec<_> = said.iter().filter_map(|update| update.output.as_ref()).collect();
    assert_eq!((parts[0].is_tail, parts[0].bytes.as_slice()), (false, &b"head"[..]));
    assert_eq!((parts[1].is_tail, parts[1].omitted_bytes), (true, 5));
    tear(&device.path(), RESULT);
    assert_eq!(device.start().list()[0].stage, RunStage::Failed);
}
