//! A kill in the middle of a batch and a full disk, and their traces.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::command::SectionOutcome;
use crate::store::testing::{Fleet, application, enrolment, inventory, token, wait};
use crate::store::{FILE_NAME, Store, StoreError};
use crate::wire::id::DeviceId;
use crate::wire::inventory::{Application, digest_of};
use crate::wire::section::Section;

const CHILD: &str = "MUSTER_STORE_CRASH_TEST_DIRECTORY";

fn set_of(number: u64) -> Vec<Application> {
    let number = u32::try_from(number).unwrap();
    (0..40).chain(number + 100..number + 105).map(application).collect()
}

/// The child of the test below: enrols devices and stores their sets, and says of each when it is durable,
/// until it is killed.
#[test]
fn child_of_the_kill_test() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = Store::open(&PathBuf::from(directory)).unwrap();
    let token = token(&store, u32::MAX);
    for number in 1..10_000_u64 {
        let device = DeviceId(number << 32);
        let applied = store.clone();
        store.devices().enrol(enrolment(&token, device, "d"), move |outcome| {
            outcome.unwrap();
            // Not in a completion: applying prepares on the caller's thread.
            std::thread::spawn(move || {
                applied.inventory().apply(inventory(device, 1, None, &set_of(number)), move |outcome| {
                    assert!(matches!(outcome, SectionOutcome::Stored(_)));
                    println!("durable {number}");
                });
            });
        });
        while store.waiting() > 200 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_a_batch_loses_nothing_that_was_told() {
    for told_before_kill in [1, 40, 150] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::tests::crash::child_of_the_kill_test"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: String| line.split("durable ").nth(1)?.parse::<u64>().ok();
        let mut told: Vec<u64> = lines.by_ref().filter_map(number).take(told_before_kill).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        // Lines in the pipe were told as well; the last one may be cut off.
        told.extend(lines.filter_map(|line| line.ends_with(char::is_numeric).then(|| number(line))?));
        assert!(told.len() >= told_before_kill);
        told.truncate(told.len().saturating_sub(1).max(told_before_kill));
        let store = Store::open(directory.path()).unwrap();
        check(&store);
        for number in told {
            let record = store.table().get(DeviceId(number << 32)).unwrap();
            assert_eq!(record.section(Section::Inventory).digest, digest_of(&set_of(number)));
        }
    }
}

/// The file is sound, and its counts agree with its rows.
fn check(store: &Store) {
    let reader = store.reader().unwrap();
    let sound: String = reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    for (what, sql) in [
        (
            "bases and their devices",
            "SELECT count(*) FROM inventory_bases b WHERE devices <>
                (SELECT count(*) FROM device_inventories i WHERE i.base = b.id)",
        ),
        (
            "applications and their differences",
            "SELECT count(*) FROM applications a WHERE difference_devices <>
                (SELECT coalesce(sum(2 * is_added - 1), 0) FROM inventory_differences x WHERE x.application = a.id)",
        ),
        (
            "devices without state",
            "SELECT count(*) FROM devices d WHERE removed_at IS NULL AND
                NOT EXISTS (SELECT 1 FROM device_states s WHERE s.device = d.number)",
        ),
    ] {
        let wrong: i64 = reader.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(wrong, 0, "{what}");
    }
}

/// A file system of its own, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "muster-test"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_the_store_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new() else {
        println!("skipped: needs root to mount a small tmpfs");
        return;
    };
    let store = Store::open(disk.path()).unwrap();
    let token = token(&store, u32::MAX);
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0_u8; 256 * 1024]).unwrap();
    let mut stored = Vec::new();
    let refusal = loop {
        let device = DeviceId(stored.len() as u64 + 1);
        assert!(stored.len() < 10_000, "the disk never filled");
        match wait(|done| store.devices().enrol(enrolment(&token, device, "d"), done)) {
            Ok(_) => stored.push(device),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal, StoreError::Full);
    // It stays so, answers reads, and has lost nothing.
    let again = wait(|done| store.devices().enrol(enrolment(&token, DeviceId(u64::MAX), "d"), done));
    assert_eq!(again, Err(StoreError::Full));
    assert!(store.server_epoch().is_ok());
    std::fs::remove_file(&ballast).unwrap();
    wait(|done| store.devices().enrol(enrolment(&token, DeviceId(u64::MAX), "d"), done)).unwrap();
    check(&store);
    assert_eq!(store.table().len(), stored.len() + 1);
    drop(store);
    let store = Store::open(disk.path()).unwrap();
    assert_eq!(store.table().len(), stored.len() + 1);
    assert!(disk.path().join(FILE_NAME).exists());
}

#[test]
fn the_log_is_copied_back_when_the_store_closes() {
    let fleet = Fleet::new(20);
    let directory = fleet.directory;
    drop(fleet.store);
    let mut log = directory.path().join(FILE_NAME).into_os_string();
    log.push("-wal");
    let left = std::fs::metadata(log).map_or(0, |log| log.len());
    assert_eq!(left, 0);
    assert_eq!(Store::open(directory.path()).unwrap().table().len(), 20);
}
