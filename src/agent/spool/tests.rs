use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::state::{SEVERITIES, SpoolState, StateFile, StateStore};
use super::*;
use crate::journal::layout::SegmentHeader;
use crate::journal::{FileMap, SegmentFile};

const NOW: WallTime = WallTime(1_795_514_400_000);
const TWO_SEGMENTS: u64 = 512 * 1024;
const BODY_BYTES: usize = 7 * 1024;

/// Lets this many steps that touch the disk through, and then none: as for a process that is killed there.
#[derive(Clone)]
struct Budget(Arc<AtomicU64>);

impl Budget {
    fn step(&self) -> io::Result<()> {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("killed"))
    }
}

struct Killed<S>(S, Budget);

impl Storage for Killed<FileStorage> {
    const VIEWS_FOLLOW_WRITES: bool = FileStorage::VIEWS_FOLLOW_WRITES;

    type View = FileMap;

    fn list(&self) -> io::Result<Vec<SegmentFile>> {
        self.0.list()
    }

    fn create(&self, header: &SegmentHeader, pace: &mut dyn FnMut(u64)) -> io::Result<()> {
        self.1.step()?;
        self.0.create(header, pace)
    }

    fn write_durable(&self, base: u64, offset: u64, pages: &[u8]) -> io::Result<usize> {
        self.1.step()?;
        self.0.write_durable(base, offset, pages)
    }

    fn view(&self, file: SegmentFile) -> io::Result<FileMap> {
        self.0.view(file)
    }

    fn read(&self, file: SegmentFile, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read(file, offset, bytes)
    }

    fn set_aside(&self, base: u64) -> io::Result<()> {
        self.0.set_aside(base)
    }

    fn missing(&self) -> io::Result<Vec<(u64, u64)>> {
        self.0.missing()
    }

    fn note_missing(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.note_missing(from, to)
    }

    fn oldest(&self) -> io::Result<Option<u64>> {
        self.0.oldest()
    }

    fn set_oldest(&self, oldest: u64) -> io::Result<()> {
        self.1.step()?;
        self.0.set_oldest(oldest)
    }

    fn delete(&self, file: SegmentFile) -> io::Result<()> {
        self.1.step()?;
        self.0.delete(file)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }

    fn random(&self) -> io::Result<u64> {
        self.0.random()
    }
}

impl StateStore for Killed<StateFile> {
    fn read(&self) -> Result<Option<SpoolState>, SlotError> {
        self.0.read()
    }

    fn write(&mut self, state: &SpoolState) -> Result<(), SlotError> {
        self.1.step().map_err(|source| SlotError::Io("killed".into(), source))?;
        self.0.write(state)
    }
}

type TestSpool = Spool<Killed<FileStorage>, Killed<StateFile>>;

fn open_with(directory: &Path, steps: u64, quota: u64) -> Result<TestSpool, SpoolError> {
    let budget = Budget(Arc::new(AtomicU64::new(steps)));
    let storages = Severity::ALL
        .map(|severity| Killed(FileStorage::open(&directory.join(severity.name())).unwrap(), budget.clone()));
    Spool::open(storages, Killed(StateFile::new(directory), budget), [quota; SEVERITIES], Epoch(7), NOW)
}

fn open(directory: &Path) -> TestSpool {
    open_with(directory, u64::MAX, TWO_SEGMENTS).unwrap()
}

/// Memory where there is some to write files to: these tests sync very often.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn read_all(spool: &mut TestSpool) -> Vec<(u64, Vec<u8>)> {
    let mut after = spool.acked_through();
    let mut all = Vec::new();
    loop {
        let events = spool.read(after, 20_000, 7).unwrap();
        let Some((last, _)) = events.last() else { return all };
        after = *last;
        all.extend(events);
    }
}

#[test]
fn what_was_confirmed_and_is_still_there_is_read_again_when_the_server_lost_it() {
    let directory = directory();
    let mut spool = open(directory.path());
    for number in 0..200u8 {
        let severity = Severity::ALL[usize::from(number % 2)];
        spool.append(severity, &[number; BODY_BYTES / 4], NOW).unwrap();
        spool.flush().unwrap();
        spool.prepare(NOW).unwrap();
    }
    let all = read_all(&mut spool);
    assert_eq!(all.len(), 200);
    spool.forget_through(190).unwrap();
    assert_eq!(read_all(&mut spool).len(), 10);
    spool.recall(20).unwrap();
    let left = read_all(&mut spool);
    assert!(left.len() > 10 && left.len() < 200, "the segments that are gone, are: {}", left.len());
    assert_eq!(left[..], all[200 - left.len()..], "in order, and up to the end");
    let waiting: u64 = spool.status().unwrap().severities.iter().map(|severity| severity.events).sum();
    assert_eq!(waiting, left.len() as u64, "they wait again");
    spool.forget_through(200).unwrap();
    assert_eq!(read_all(&mut spool), []);
    assert!(spool.status().unwrap().severities.iter().all(|severity| severity.events == 0));
}

#[test]
fn events_come_back_in_order_whatever_their_severity_and_after_a_restart() {
    let directory = directory();
    let mut spool = open(directory.path());
    let mut expected = Vec::new();
    for number in 0..40u8 {
        let severity = Severity::ALL[usize::from(number % 4 * 3 % 4)];
        let sequence = spool.append(severity, &[number; 50], NOW).unwrap();
        expected.push((sequence, vec![number; 50]));
    }
    spool.flush().unwrap();
    assert_eq!(read_all(&mut spool), expected);
    assert_eq!(read_all(&mut spool), expected, "reading again from the beginning");
    drop(spool);
    let mut spool = open(directory.path());
    assert_eq!((spool.epoch(), spool.highest_sequence()), (Epoch(7), 40));
    assert_eq!(read_all(&mut spool), expected);
    assert_eq!(spool.append(Severity::Info, b"x", NOW).unwrap(), 41);
}

/// The state on a disk that is full at times.
struct OnFullDisk(StateFile, Rc<Cell<bool>>);

impl StateStore for OnFullDisk {
    fn read(&self) -> Result<Option<SpoolState>, SlotError> {
        self.0.read()
    }

    fn write(&mut self, state: &SpoolState) -> Result<(), SlotError> {
        if self.1.get() {
            return Err(SlotError::Io("state.b".into(), io::ErrorKind::StorageFull.into()));
        }
        self.0.write(state)
    }
}

#[test]
fn without_room_for_its_state_the_spool_keeps_what_was_confirmed_until_there_is_some() {
    let directory = directory();
    let is_full = Rc::new(Cell::new(false));
    let storages =
        Severity::ALL.map(|severity| FileStorage::open(&directory.path().join(severity.name())).unwrap());
    let state = OnFullDisk(StateFile::new(directory.path()), Rc::clone(&is_full));
    let mut spool = Spool::open(storages, state, [4 * TWO_SEGMENTS; SEVERITIES], Epoch(7), NOW).unwrap();
    assert!(
        ["state.a", "state.b"].iter().all(|slot| directory.path().join(slot).exists()),
        "both from the start"
    );
    for _ in 0..100 {
        spool.append(Severity::Error, &[1; BODY_BYTES], NOW).unwrap();
        spool.flush().unwrap();
        spool.prepare(NOW).unwrap();
    }
    let bytes = spool.bytes();
    is_full.set(true);
    spool.forget_through(99).unwrap();
    spool.close().unwrap();
    assert_eq!(spool.bytes(), bytes);
    is_full.set(false);
    spool.forget_through(100).unwrap();
    assert!(spool.bytes() < bytes);
}

#[test]
fn what_is_confirmed_is_forgotten_and_its_numbers_are_not_used_again() {
    let directory = directory();
    let mut spool = open(directory.path());
    for _ in 0..100 {
        spool.append(Severity::Error, &[1; BODY_BYTES], NOW).unwrap();
        spool.flush().unwrap();
        let highest = spool.highest_sequence();
        assert_eq!(spool.read(highest - 1, 1_000_000, 100).unwrap().len(), 1);
        spool.forget_through(highest).unwrap();
    }
    let status = spool.status().unwrap();
    assert_eq!(
        status.severities.iter().map(|severity| (severity.events, severity.dropped)).max(),
        Some((0, 0))
    );
    assert_eq!(read_all(&mut spool), []);
    drop(spool);
    assert!(open(directory.path()).append(Severity::Info, b"x", NOW).unwrap() > 100);
    // Even with every journal gone the numbers go on where the state says.
    for severity in Severity::ALL {
        std::fs::remove_dir_all(directory.path().join(severity.name())).unwrap();
    }
    let highest = open(directory.path()).highest_sequence();
    assert!(highest >= 36, "{highest}: at least what was forgotten with a segment");
}

/// The sum of what the notices among these events tell of one severity.
fn told(events: &[(u64, Vec<u8>)], severity: Severity) -> u64 {
    events.iter().filter_map(|(_, body)| notice::read(body)).map(|told| told[place(severity)].count).sum()
}

#[test]
fn a_flood_of_info_drops_the_oldest_info_alone_and_says_exactly_how_many() {
    let directory = directory();
    let mut spool = open(directory.path());
    let critical = spool.append(Severity::Critical, b"stays", NOW).unwrap();
    let flood: Vec<u64> =
        (0..300).map(|_| spool.append(Severity::Info, &[2; BODY_BYTES], NOW).unwrap()).collect();
    spool.flush().unwrap();
    let events = read_all(&mut spool);
    assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(events.iter().any(|(sequence, _)| *sequence == critical));
    let left = events.iter().filter(|(sequence, _)| flood.contains(sequence)).count() as u64;
    assert!(left > 0 && left < 300);
    assert_eq!(told(&events, Severity::Info), 300 - left);
    let status = spool.status().unwrap();
    assert_eq!(status.severities[0].dropped, 300 - left);
    assert_eq!(status.severities[0].events, left);
    assert!(status.severities[0].bytes <= TWO_SEGMENTS);
    let notice = events.iter().find_map(|(_, body)| notice::read(body)).unwrap();
    assert_eq!(notice[0].first, flood[0]);
}

#[test]
fn a_flood_of_warnings_drops_notices_too_and_their_counts_go_on() {
    let directory = directory();
    let mut spool = open(directory.path());
    let mut emitted = [0; 2];
    for round in 0..300 {
        let severity = if round % 2 == 0 { Severity::Warning } else { Severity::Info };
        spool.append(severity, &[3; BODY_BYTES], NOW).unwrap();
        emitted[place(severity) ^ 1] += 1;
    }
    spool.flush().unwrap();
    let events = read_all(&mut spool);
    let left = |severity: Severity| {
        let queue = &spool.queues[place(severity)];
        queue.waiting
            - if severity == Severity::Warning {
                events.iter().filter(|(_, body)| notice::read(body).is_some()).count() as u64
            } else {
                0
            }
    };
    assert_eq!(told(&events, Severity::Warning), emitted[0] - left(Severity::Warning));
    assert_eq!(told(&events, Severity::Info), emitted[1] - left(Severity::Info));
}

/// The process is killed before every single step that touches the disk. Whatever was promised is there
/// afterwards or is counted as dropped, exactly; no number is used twice.
#[test]
fn a_kill_at_any_step_loses_nothing_and_counts_exactly() {
    let mut kills = 0;
    let mut drops_seen = 0;
    for steps in 0.. {
        let directory = directory();
        let appended = Cell::new(Vec::new());
        let promised = Cell::new(0);
        let run = || -> Result<(), SpoolError> {
            let mut spool = open_with(directory.path(), steps, TWO_SEGMENTS)?;
            for number in 0..160u64 {
                let sequence = spool.append(Severity::Info, &[4; BODY_BYTES], NOW)?;
                let mut list = appended.take();
                list.push(sequence);
                appended.set(list);
                if number % 16 == 15 {
                    spool.flush()?;
                    promised.set(sequence);
                    spool.prepare(NOW)?;
                }
            }
            Ok(())
        };
        let done = run();
        let (appended, promised) = (appended.take(), promised.get());
        let mut spool = open(directory.path());
        let events = read_all(&mut spool);
        let present: Vec<u64> = events
            .iter()
            .filter(|(_, body)| notice::read(body).is_none())
            .map(|(sequence, _)| *sequence)
            .collect();
        let first = present.first().copied().unwrap_or(1);
        let gone = appended.iter().filter(|sequence| **sequence < first).count() as u64;
        assert_eq!(told(&events, Severity::Info), gone, "killed after {steps} steps");
        for sequence in appended.iter().filter(|sequence| **sequence >= first && **sequence <= promised) {
            assert!(present.contains(sequence), "{sequence} was promised, killed after {steps} steps");
        }
        let next = spool.append(Severity::Critical, b"next", NOW).unwrap();
        assert!(next > promised && events.iter().all(|(sequence, _)| *sequence < next));
        drops_seen += u64::from(gone > 0);
        if done.is_ok() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 30 && drops_seen > 5, "{kills} kills, {drops_seen} with drops");
}

#[test]
fn a_new_epoch_keeps_the_numbers() {
    let directory = directory();
    let mut spool = open(directory.path());
    spool.append(Severity::Info, b"a", NOW).unwrap();
    spool.flush().unwrap();
    spool.begin_epoch(Epoch(9)).unwrap();
    drop(spool);
    let mut spool = open(directory.path());
    assert_eq!(spool.epoch(), Epoch(9));
    assert_eq!(read_all(&mut spool), [(1, b"a".to_vec())]);
}

#[test]
fn a_damaged_state_begins_a_new_epoch_and_keeps_the_events() {
    let directory = directory();
    let mut spool = open(directory.path());
    spool.append(Severity::Info, b"a", NOW).unwrap();
    spool.close().unwrap();
    drop(spool);
    for slot in ["state.a", "state.b"] {
        std::fs::write(directory.path().join(slot), "x").unwrap();
    }
    let settings = SpoolSettings::default();
    let mut spool = Spool::open_directory(directory.path(), &settings, Epoch(11), NOW).unwrap();
    assert_eq!((spool.epoch(), spool.highest_sequence()), (Epoch(11), 1));
    assert_eq!(spool.read(0, 100, 10).unwrap().len(), 1);
}

/// The files of a severity's journal, oldest first: name and length.
fn files(directory: &Path, severity: Severity) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(directory.join(severity.name())).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_segment_with_a_bad_header_is_delivered_and_never_dropped() {
    let directory = directory();
    let mut spool = open_with(directory.path(), u64::MAX, 2 * TWO_SEGMENTS).unwrap();
    let emitted: Vec<u64> = (0..80)
        .map(|_| {
            let sequence = spool.append(Severity::Info, &[5; BODY_BYTES], NOW).unwrap();
            spool.flush().unwrap();
            sequence
        })
        .collect();
    drop(spool);
    let (damaged, _) = files(directory.path(), Severity::Info)[0].clone();
    let path = directory.path().join("info").join(damaged);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let in_damaged = {
        let mut spool = open_with(directory.path(), u64::MAX, 2 * TWO_SEGMENTS).unwrap();
        assert_eq!(spool.damages().len(), 1, "{:?}", spool.damages());
        let sequences: Vec<u64> = read_all(&mut spool).into_iter().map(|(sequence, _)| sequence).collect();
        assert_eq!(sequences, emitted, "every event is still delivered");
        spool.queues[0].marks.front().unwrap().last_sequence
    };
    // A flood uses the quota up: what was set aside neither counts nor goes.
    let mut spool = open_with(directory.path(), u64::MAX, 2 * TWO_SEGMENTS).unwrap();
    for _ in 0..300 {
        spool.append(Severity::Info, &[6; BODY_BYTES], NOW).unwrap();
    }
    spool.flush().unwrap();
    let events = read_all(&mut spool);
    let infos: Vec<u64> =
        events.iter().filter(|(_, body)| body.len() == BODY_BYTES).map(|event| event.0).collect();
    assert!((1..=in_damaged).all(|sequence| infos.contains(&sequence)), "{infos:?}");
    assert!(infos.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(told(&events, Severity::Info), 380 - infos.len() as u64, "what was dropped is told exactly");
    let status = spool.status().unwrap();
    assert_eq!(status.severities[0].events, infos.len() as u64);
    // Confirmed, it stays on the disk, for people; the numbers go on.
    let highest = spool.highest_sequence();
    spool.forget_through(highest).unwrap();
    spool.close().unwrap();
    drop(spool);
    assert!(files(directory.path(), Severity::Info)[0].0.ends_with(".damaged"));
    let mut spool = open(directory.path());
    assert_eq!((read_all(&mut spool), spool.highest_sequence()), (vec![], highest));
}
