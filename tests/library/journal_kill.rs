//! The journal on the real disk under violence: processes killed in the middle, file systems that are full.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::skip::skipped;
use muster::journal::layout::SegmentHeader;
use muster::journal::{
    AppendError, FileStorage, Journal, NoRoom, Notice, Opened, Options, Position, Record, State, Storage,
    Threads, verify,
};

/// Says to a copy of this test program that it is the one to be killed, and where it writes.
const CHILD_DIRECTORY: &str = "MUSTER_JOURNAL_CHILD";

/// Times that a child is killed.
const KILLS: u64 = 12;

fn options() -> Options {
    Options { segment_bytes: 128 * 1024, limit_bytes: None, ..Options::spool(u64::MAX) }
}

fn payload(sequence: u64) -> Vec<u8> {
    vec![u8::try_from(sequence % 251).unwrap(); usize::try_from(sequence * 31 % 700).unwrap()]
}

/// Opens a journal whose sequences must run from 0 without a gap; returns the next one.
fn open(directory: &Path) -> (Opened, u64) {
    let mut next = 0;
    let storage = FileStorage::open(directory).unwrap();
    let opened = Journal::open(storage, options(), Position(0), 0, |view| {
        assert_eq!(view.record.sequence, next, "in order, none missing, none twice");
        assert_eq!(view.record.payload, payload(next));
        next += 1;
    })
    .unwrap();
    assert!(opened.recovery.damages.is_empty(), "{:?}", opened.recovery.damages);
    (opened, next)
}

#[test]
fn the_child_that_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY).map(PathBuf::from) else { return };
    let (opened, mut sequence) = open(&directory);
    let journal = opened.journal.clone();
    let _threads = Threads::spawn("kill", opened.flusher, opened.preallocator, |notice| {
        if let Notice::Durable(position) = notice {
            let mut out = std::io::stdout().lock();
            if writeln!(out, "durable {position}").and_then(|()| out.flush()).is_err() {
                std::process::exit(1); // the parent is gone
            }
        }
    })
    .unwrap();
    loop {
        let payload = payload(sequence);
        match journal.append(&Record { wall_ms: sequence, device: 1, sequence, payload: &payload }) {
            Ok(_) => {
                sequence += 1;
                journal.notify();
            }
            Err(AppendError::NoRoom(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn nothing_told_to_be_durable_is_missing_after_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal_kill::the_child_that_is_killed", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut durable = 0;
        let mut lines = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The last line may be cut by the kill.
            let told = line.unwrap().strip_prefix("durable ").and_then(|text| text.parse::<u64>().ok());
            durable = durable.max(told.unwrap_or(0));
            lines += 1;
            if lines == 20 + kill * 17 {
                child.kill().unwrap(); // SIGKILL; what is in the pipe is still read
            }
        }
        child.wait().unwrap();
        assert!(durable > 0, "the child wrote");
        let (opened, next) = open(directory.path());
        assert!(
            opened.recovery.durable.0 >= durable,
            "kill {kill}: {durable} was told, {next} records found"
        );
    }
    assert!(verify(directory.path()).unwrap().damages.is_empty());
}

/// A small file system of its own; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(bytes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        let mounted = mounted.is_ok_and(|status| status.success());
        if !mounted {
            skipped("needs root and the mount command");
        }
        mounted.then(|| Self(directory))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_file_system_refuses_and_goes_on_when_there_is_room() {
    let Some(tmpfs) = Tmpfs::mount(1024 * 1024) else { return };
    let journal_directory = tmpfs.0.path().join("journal");
    let hog = tmpfs.0.path().join("hog");
    std::fs::write(&hog, vec![1; 640 * 1024]).unwrap();
    let (mut opened, mut sequence) = open(&journal_directory);
    let mut append_until_full = |opened: &mut Opened| loop {
        let payload = payload(sequence);
        match opened.journal.append(&Record { wall_ms: sequence, device: 1, sequence, payload: &payload }) {
            Ok(_) => sequence += 1,
            Err(AppendError::NoRoom(NoRoom::Full)) => {
                opened.flusher.flush_once().unwrap();
                return sequence;
            }
            Err(AppendError::NoRoom(_)) => {
                opened.flusher.flush_once().unwrap();
                opened.preallocator.preallocate_once(5);
            }
            Err(error) => panic!("{error}"),
        }
    };
    let first = append_until_full(&mut opened);
    assert!(first > 0);
    assert!(matches!(opened.journal.state(), State::NoRoom(_)));

    // Also when others take the last page: the segments that are there need no more room.
    let rest = tmpfs.0.path().join("rest");
    let filled = std::fs::write(&rest, vec![1; 1024 * 1024]);
    assert!(filled.is_err(), "the file system is full to the last page");
    opened.flusher.flush_once().unwrap();
    let (_, found) = {
        drop(opened);
        open(&journal_directory)
    };
    assert_eq!(found, first, "it opens on a full disk, and all is there");

    // A segment that does not fit leaves nothing behind.
    let storage = FileStorage::open(&journal_directory).unwrap();
    let before = storage.list().unwrap();
    let files = || std::fs::read_dir(&journal_directory).unwrap().count();
    let files_before = files();
    let header = SegmentHeader { epoch: 1, base: 1 << 40, bytes: 512 * 1024 };
    assert_eq!(storage.create(&header, &mut |_| {}).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(storage.list().unwrap(), before);
    assert_eq!(files(), files_before);
    drop(storage);

    let (mut opened, _) = open(&journal_directory);
    std::fs::remove_file(hog).unwrap();
    opened.preallocator.preallocate_once(6);
    let second = append_until_full(&mut opened);
    assert!(second > first, "it goes on when there is room");
    drop(opened);
    assert_eq!(open(&journal_directory).1, second);
}
