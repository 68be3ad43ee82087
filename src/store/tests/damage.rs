//! Readers that don't end, files that don't belong together, a disk that is full.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::testing::{Fleet, empty_log};
use crate::store::{FILE_NAME, Store, StoreError};

/// Names the database for the process that [`reads_for_another_test`] is in.
const READ_VARIABLE: &str = "MUSTER_TEST_READS";

/// Longest time before a test gives up: the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An SQLite shell that was left open: begins to read, says so, and stays until its input ends.
#[test]
fn reads_for_another_test() {
    let Some(path) = std::env::var_os(READ_VARIABLE) else { return };
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("BEGIN; SELECT count(*) FROM meta").unwrap();
    // As a line of its own: the harness has begun one.
    std::io::stdout().write_all(b"\nreading\n").unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_shell_that_was_left_open_is_named_and_costs_no_operation() {
    let fleet = Fleet::new(1);
    // Another content each time: SQLite writes no page that stays as it is.
    let store = |number: u8| fleet.set_meta(&format!("large-{}", number % 8), &[number; 1 << 20]).unwrap();
    store(0);
    let mut shell = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "store::tests::damage::reads_for_another_test"])
        .env(READ_VARIABLE, fleet.directory.path().join(FILE_NAME))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(shell.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line == "reading"));
    let started = Instant::now();
    let mut number = 1;
    while fleet.log_blocked().is_none() {
        assert!(started.elapsed() < TIMEOUT, "{} bytes of log, and nothing is said", fleet.log_bytes());
        store(number);
        number += 1;
    }
    let blocked = fleet.log_blocked().unwrap();
    assert!(blocked.by.contains(&format!("process {}", shell.id())), "{}", blocked.by);
    for more in 0..20 {
        store(number + more);
    }
    assert!(fleet.log_bytes() > 64 << 20, "{}", fleet.log_bytes());
    assert!(fleet.failing().is_none());
    drop(shell.stdin.take());
    assert!(shell.wait().unwrap().success());
    while fleet.log_blocked().is_some() || fleet.log_bytes() > 64 << 20 {
        assert!(started.elapsed() < 2 * TIMEOUT, "the log does not begin anew");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_copy_beside_an_older_log_is_refused() {
    let fleet = Fleet::new(0);
    let path = fleet.directory.path().join(FILE_NAME);
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = elsewhere.path().join(FILE_NAME);
    let copy_back = || empty_log(&path);
    copy_back();
    std::fs::copy(&path, &copied).unwrap();
    for number in 0..200_u32 {
        fleet.set_meta(&format!("key-{number}"), &[7; 5_000]).unwrap();
    }
    copy_back();
    for number in 0..200_u32 {
        fleet.set_meta(&format!("key-{}", number * 7 % 300), &[8; 3_000]).unwrap();
    }
    // As a kill would leave them: they belong together.
    let cut_off = tempfile::tempdir().unwrap();
    let log = fleet.directory.path().join(format!("{FILE_NAME}-wal"));
    std::fs::copy(&path, cut_off.path().join(FILE_NAME)).unwrap();
    std::fs::copy(&log, cut_off.path().join(format!("{FILE_NAME}-wal"))).unwrap();
    drop(Store::open(cut_off.path()).unwrap());
    assert_eq!(
        std::fs::metadata(cut_off.path().join(format!("{FILE_NAME}-wal"))).map_or(0, |log| log.len()),
        0
    );
    // The copy and the log don't, though SQLite finds nothing wrong with them.
    let foreign = elsewhere.path().join(format!("{FILE_NAME}-wal"));
    std::fs::copy(&log, &foreign).unwrap();
    let refused = Store::open(elsewhere.path()).err();
    let Some(StoreError::Damaged { .. }) = refused else { panic!("{refused:?}") };
    assert!(refused.unwrap().to_string().contains("musterd restore"));
    assert_eq!(
        std::fs::read(&foreign).unwrap(),
        std::fs::read(&log).unwrap(),
        "what was found is left as it is"
    );
    // Pages that make no database are found too, whatever their log says.
    let path = cut_off.path().join(FILE_NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(2).step_by(3) {
        page.fill(0x5a);
    }
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(cut_off.path().join(format!("{FILE_NAME}-wal")), b"cut off").unwrap();
    let refused = Store::open(cut_off.path()).err();
    assert!(matches!(refused, Some(StoreError::Damaged { .. })), "{refused:?}");
}

#[test]
fn a_store_without_room_says_so_until_there_is_room() {
    let fleet = Fleet::new(0);
    assert!(fleet.failing().is_none());
    // The connection that writes has this limit, not the file.
    fleet.database().call(|connection| Ok(connection.pragma_update(None, "max_page_count", 1)?)).unwrap();
    for number in 0..3_u32 {
        let outcome = fleet.set_meta(&format!("large-{number}"), &[7; 1 << 20]);
        assert_eq!(outcome, Err(StoreError::Full));
    }
    let failing = fleet.failing().unwrap();
    assert_eq!((failing.error, failing.operations), (StoreError::Full, 3));
    fleet.probe();
    assert!(fleet.failing().is_none(), "something small still fits");
    assert!(fleet.set_meta("large", &[7; 1 << 20]).is_err());
    fleet
        .database()
        .call(|connection| Ok(connection.pragma_update(None, "max_page_count", 1 << 30)?))
        .unwrap();
    assert!(fleet.failing().is_none(), "it was the next to be stored");
    fleet.set_meta("large", &[7; 1 << 20]).unwrap();
}
