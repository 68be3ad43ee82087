//! The journal on the real disk, as its users hold it.

use std::sync::mpsc;

use muster::journal::{
    AppendError, FileStorage, Flushed, Item, Journal, NoRoom, Notice, Opened, Options, Position,
    Preallocated, Reader, Record, Retention, SegmentState, State, Threads, verify,
};

fn small() -> Options {
    Options { segment_bytes: 64 * 1024, limit_bytes: None, ..Options::spool(u64::MAX) }
}

fn record(sequence: u64, payload: &[u8]) -> Record<'_> {
    Record { wall_ms: 1_000_000 + sequence, device: sequence % 7, sequence, payload }
}

fn payload(sequence: u64) -> Vec<u8> {
    let length = usize::try_from(sequence * 37 % 900).unwrap();
    (0u64..).take(length).map(|place| u8::try_from((sequence + place) % 251).unwrap()).collect()
}

fn open(directory: &std::path::Path, options: Options) -> (Opened, Vec<u64>) {
    let mut sequences = Vec::new();
    let storage = FileStorage::open(directory).unwrap();
    let opened = Journal::open(storage, options, Position(0), 0, |view| {
        assert_eq!(view.record.payload, payload(view.record.sequence));
        sequences.push(view.record.sequence);
    })
    .unwrap();
    (opened, sequences)
}

fn fill(opened: &mut Opened, sequences: std::ops::Range<u64>) -> Position {
    for sequence in sequences {
        let payload = payload(sequence);
        let record = record(sequence, &payload);
        let mut attempts = 0;
        while let Err(error) = opened.journal.append(&record) {
            assert!(matches!(error, AppendError::NoRoom(_)), "{error}");
            opened.flusher.flush_once().unwrap();
            opened.preallocator.preallocate_once(0);
            attempts += 1;
            assert!(attempts < 3);
        }
    }
    opened.flusher.flush_once().unwrap()
}

fn forwards(reader: &Reader, from: Position) -> Vec<u64> {
    let mut forward = reader.forward(from);
    let mut sequences = Vec::new();
    while let Some(item) = forward.next().unwrap() {
        let Item::Record(view) = item else { panic!("{item:?}") };
        assert_eq!(view.record.payload, payload(view.record.sequence));
        sequences.push(view.record.sequence);
    }
    sequences
}

fn backwards(reader: &Reader, from: Position) -> Vec<u64> {
    let mut backward = reader.backward(from);
    let mut sequences = Vec::new();
    while let Some(item) = backward.next().unwrap() {
        let Item::Record(view) = item else { panic!("{item:?}") };
        sequences.push(view.record.sequence);
    }
    sequences.reverse();
    sequences
}

#[test]
fn what_was_appended_is_there_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (mut opened, found) = open(directory.path(), small());
    assert!(found.is_empty());
    let end = fill(&mut opened, 0..1000);
    assert_eq!(end, opened.journal.end());
    assert_eq!(end, opened.journal.durable());
    drop(opened);
    let (mut opened, found) = open(directory.path(), small());
    assert_eq!(found, (0..1000).collect::<Vec<_>>());
    assert_eq!(opened.recovery.durable, end);
    assert!(opened.recovery.damages.is_empty());
    fill(&mut opened, 1000..1500);
    drop(opened);
    assert_eq!(open(directory.path(), small()).1, (0..1500).collect::<Vec<_>>());
    let report = verify(directory.path()).unwrap();
    assert_eq!(report.summary.records, 1500);
    assert_eq!(report.summary.earliest_ms, 1_000_000);
    assert_eq!(report.summary.latest_ms, 1_001_499);
    assert!(report.damages.is_empty());
}

#[test]
fn readers_go_both_ways_from_any_place() {
    let directory = tempfile::tempdir().unwrap();
    let (mut opened, _) = open(directory.path(), small());
    let end = fill(&mut opened, 0..700);
    let live = opened.journal.reader();
    let all: Vec<u64> = (0..700).collect();
    assert_eq!(forwards(&live, Position(0)), all);
    assert_eq!(backwards(&live, end), all);
    for from in (0..end.0).step_by(9973) {
        let after = forwards(&live, Position(from));
        let before = backwards(&live, Position(from));
        assert_eq!([before, after].concat(), all, "from {from}");
    }
    drop((opened, live)); // a reader keeps the directory locked too
    let stopped = Reader::open(directory.path()).unwrap();
    assert_eq!(forwards(&stopped, Position(0)), all);
    assert_eq!(backwards(&stopped, Position(u64::MAX)), all);
    assert_eq!(stopped.durable(), end);
}

#[test]
fn a_reader_follows() {
    let directory = tempfile::tempdir().unwrap();
    let (mut opened, _) = open(directory.path(), small());
    fill(&mut opened, 0..500);
    let reader = opened.journal.reader();
    let mut forward = reader.forward(reader.durable());
    assert!(forward.next().unwrap().is_none());
    let payload = payload(500);
    opened.journal.append(&record(500, &payload)).unwrap();
    assert!(forward.next().unwrap().is_none(), "not durable yet");
    opened.flusher.flush_once().unwrap();
    let Some(Item::Record(view)) = forward.next().unwrap() else { panic!("it follows") };
    assert_eq!(view.record.sequence, 500);
}

#[test]
fn a_reader_survives_the_deletion_of_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (mut opened, _) = open(directory.path(), small());
    let end = fill(&mut opened, 0..500);
    let mut forward = opened.journal.reader().forward(Position(0));
    forward.next().unwrap();
    let deleted = opened.journal.delete_before(end).unwrap();
    assert!(deleted.len() > 1);
    assert!(deleted.iter().all(|segment| segment.state == SegmentState::Sealed));
    let in_first = deleted[0].summary.records;
    for sequence in 1..in_first {
        let Some(Item::Record(view)) = forward.next().unwrap() else { panic!("its segment is whole") };
        assert_eq!(view.record.sequence, sequence);
    }
    let gone: u64 = deleted.iter().map(|segment| segment.summary.records).sum();
    let Some(Item::Record(view)) = forward.next().unwrap() else { panic!("it goes on where data is left") };
    assert_eq!(view.record.sequence, gone);
}

#[test]
fn two_processes_can_not_have_one_journal() {
    let directory = tempfile::tempdir().unwrap();
    let (opened, _) = open(directory.path(), small());
    let again = FileStorage::open(directory.path()).err().unwrap().to_string();
    assert!(again.contains("in use by another process"), "{again}");
    let reading = Reader::open(directory.path()).err().unwrap().to_string();
    assert!(reading.contains("in use by another process"), "{reading}");
    drop(opened);
    Reader::open(directory.path()).unwrap();
}

#[test]
fn a_full_limit_is_a_state_and_passes() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { limit_bytes: Some(128 * 1024), ..small() };
    let (mut opened, _) = open(directory.path(), options);
    opened.preallocator.preallocate_once(1);
    let mut sequence = 0;
    let refused = loop {
        let payload = payload(sequence);
        match opened.journal.append(&record(sequence, &payload)) {
            Ok(_) => sequence += 1,
            Err(AppendError::NoRoom(NoRoom::FlushBehind)) => {
                opened.flusher.flush_once().unwrap();
            }
            Err(AppendError::NoRoom(NoRoom::NotReady)) => {
                assert_ne!(opened.preallocator.preallocate_once(77), Preallocated::Ready);
            }
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::NoRoom(NoRoom::Full));
    let State::NoRoom(no_room) = opened.journal.state() else { panic!("the state says so") };
    assert_eq!(no_room.since_ms, 77);
    assert!(no_room.why.contains("limit of 131072 bytes"), "{}", no_room.why);
    opened.flusher.flush_once().unwrap();
    assert_eq!(opened.journal.delete_before(opened.journal.end()).unwrap().len(), 1);
    assert_eq!(opened.preallocator.preallocate_once(78), Preallocated::Made);
    assert_eq!(opened.journal.state(), State::Ok);
    let payload = payload(sequence);
    opened.journal.append(&record(sequence, &payload)).unwrap();
}

#[test]
fn retention_goes_by_size_and_age() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Some(Retention { bytes: 4 * 64 * 1024, age_ms: None });
    let (mut opened, _) = open(directory.path(), Options { retention, ..small() });
    fill(&mut opened, 0..1500);
    opened.preallocator.preallocate_once(0);
    assert!(!opened.preallocator.retain_once(0).unwrap().is_empty());
    assert_eq!(opened.journal.stats().bytes, 4 * 64 * 1024);
    let retention = Some(Retention { bytes: u64::MAX / 2, age_ms: Some(1000) });
    opened.journal.set_retention(retention).unwrap();
    assert!(opened.journal.set_retention(Some(Retention { bytes: 1, age_ms: None })).is_err());
    let before = opened.journal.segments().len();
    assert!(opened.preallocator.retain_once(1_001_000).unwrap().is_empty(), "nothing is old yet");
    opened.preallocator.retain_once(u64::MAX).unwrap();
    let left = opened.journal.segments();
    assert!(left.len() < before && !left.is_empty());
    assert!(left.iter().all(|segment| segment.state == SegmentState::Open));
}

#[test]
fn what_can_never_fit_is_told_from_what_can_not_now() {
    let directory = tempfile::tempdir().unwrap();
    let (opened, _) = open(directory.path(), small());
    let max = opened.journal.payload_bytes_max();
    let large = vec![0; max + 1];
    let refused = opened.journal.append(&record(1, &large)).unwrap_err();
    assert_eq!(refused, AppendError::TooLarge { bytes: max + 1, max });
    opened.journal.append(&record(1, &large[..max])).unwrap();
}

#[test]
fn threads_flush_when_notified_and_preallocate_ahead() {
    let directory = tempfile::tempdir().unwrap();
    let (opened, _) = open(directory.path(), small());
    let journal = opened.journal.clone();
    let (told, hear) = mpsc::channel();
    let threads = Threads::spawn("test", opened.flusher, opened.preallocator, move |notice| {
        let _ = told.send(notice);
    })
    .unwrap();
    let mut end = Position(0);
    for sequence in 0..1000 {
        let payload = payload(sequence);
        loop {
            match journal.append(&record(sequence, &payload)) {
                Ok(position) => break end = position,
                Err(AppendError::NoRoom(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        journal.notify();
    }
    loop {
        match hear.recv().unwrap() {
            Notice::Durable(position) if position == end => break,
            Notice::Durable(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(journal.durable(), end);
    assert_eq!(forwards(&journal.reader(), Position(0)), (0..1000).collect::<Vec<_>>());
    threads.stop().unwrap();
}

#[test]
fn a_reader_follows_while_pages_are_written_past_the_cache() {
    let directory = tempfile::tempdir().unwrap();
    let (opened, _) = open(directory.path(), small());
    let journal = opened.journal.clone();
    let threads = Threads::spawn("follow", opened.flusher, opened.preallocator, |_| {}).unwrap();
    let records = 4_000;
    std::thread::scope(|scope| {
        let reader = journal.reader();
        scope.spawn(move || {
            let mut forward = reader.forward(Position(0));
            let mut sequence = 0;
            while sequence < records {
                match forward.next().unwrap() {
                    Some(Item::Record(view)) => {
                        assert_eq!(view.record.sequence, sequence);
                        assert_eq!(view.record.payload, payload(sequence));
                        sequence += 1;
                    }
                    Some(damage) => panic!("a page of yesterday: {damage:?}"),
                    None => std::thread::yield_now(),
                }
            }
        });
        for sequence in 0..records {
            let payload = payload(sequence);
            while let Err(error) = journal.append(&record(sequence, &payload)) {
                assert!(matches!(error, AppendError::NoRoom(_)), "{error}");
                std::thread::yield_now();
            }
            if journal.flush_here() != Flushed::Done {
                journal.notify();
            }
        }
    });
    threads.stop().unwrap();
}

#[test]
fn many_threads_append_and_each_keeps_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let (opened, _) = open(directory.path(), small());
    let journal = opened.journal.clone();
    let told = std::sync::Arc::new(std::sync::Mutex::new(Position(0)));
    let tell = told.clone();
    let threads = Threads::spawn("many", opened.flusher, opened.preallocator, move |notice| {
        if let Notice::Durable(position) = notice {
            let mut told = tell.lock().unwrap();
            *told = position.max(*told);
        }
    })
    .unwrap();
    std::thread::scope(|scope| {
        for device in 0..4 {
            let journal = journal.clone();
            scope.spawn(move || {
                for sequence in 0..2000 {
                    let payload = payload(sequence);
                    let record = Record { wall_ms: 1, device, sequence, payload: &payload };
                    while let Err(error) = journal.append(&record) {
                        assert!(matches!(error, AppendError::NoRoom(_)), "{error}");
                        std::thread::yield_now();
                    }
                    // Two leave it to the journal's thread, two do it themselves.
                    if device < 2 || journal.flush_here() != Flushed::Done {
                        journal.notify();
                    }
                }
            });
        }
    });
    threads.stop().unwrap();
    assert_eq!(journal.durable(), journal.end(), "the last flush took everything");
    assert_eq!(*told.lock().unwrap(), journal.durable(), "and it was told of, by either thread");
    let mut next = [0; 4];
    let mut forward = journal.reader().forward(Position(0));
    while let Some(item) = forward.next().unwrap() {
        let Item::Record(view) = item else { panic!("{item:?}") };
        let expected = &mut next[usize::try_from(view.record.device).unwrap()];
        assert_eq!(view.record.sequence, *expected);
        assert_eq!(view.record.payload, payload(*expected));
        *expected += 1;
    }
    assert_eq!(next, [2000; 4]);
}

/// Names, lengths and bytes of all files in a directory.
fn contents(directory: &std::path::Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut files: Vec<_> =
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn a_journal_whose_directory_is_moved_away_never_writes_into_the_one_in_its_place() {
    let parent = tempfile::tempdir().unwrap();
    let (place, elsewhere) = (parent.path().join("journal"), parent.path().join("moved"));
    let (mut opened, _) = open(&place, small());
    fill(&mut opened, 0..300);
    std::fs::rename(&place, &elsewhere).unwrap();
    std::fs::create_dir(&place).unwrap();
    for (name, bytes) in contents(&elsewhere) {
        std::fs::write(place.join(name), bytes).unwrap();
    }
    let before = contents(&place);
    // Everything that touches files: records, seals, segments made ahead, damage, deletion.
    fill(&mut opened, 300..900);
    assert_eq!(forwards(&opened.journal.reader(), Position(0)), (0..900).collect::<Vec<_>>());
    let first = opened.journal.segments()[0];
    opened.journal.delete_before(first.end).unwrap();
    let second = opened.journal.segments()[0];
    let damaged = elsewhere.join(format!("{:020}.journal", second.base.0));
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    assert_eq!(opened.journal.check(0).len(), 1);
    drop(opened);
    assert!(contents(&place) == before, "the directory in its place is as it was");
    let (opened, found) = open(&elsewhere, small());
    assert_eq!((found.last(), opened.recovery.damages.len()), (Some(&899), 1));
}

#[test]
fn damage_in_full_segments_is_found_in_the_background_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (mut opened, _) = open(directory.path(), small());
    let end = fill(&mut opened, 0..1000);
    let segments = opened.journal.segments();
    drop(opened);
    // A record, a header, a trailer; and a file that goes.
    for (place, offset) in [(0, 6000), (1, 20), (2, 64 * 1024 - 30)] {
        let path = directory.path().join(format!("{:020}.journal", segments[place].base.0));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    // The store's memory lets the opening pass over all that.
    let options = Options { remembered: end, ..small() };
    let open = || {
        let storage = FileStorage::open(directory.path()).unwrap();
        Journal::open(storage, options, end, 0, |_| {}).unwrap()
    };
    let Opened { journal, flusher, preallocator, recovery } = open();
    let told_at_once = recovery.damages.len();
    assert!(told_at_once < 3, "the records in the first are not read at the opening");
    let (told, hear) = mpsc::channel();
    let threads = Threads::spawn("test", flusher, preallocator, move |notice| {
        let _ = told.send(notice);
    })
    .unwrap();
    let Notice::Damaged(damages) = hear.recv_timeout(std::time::Duration::from_secs(60)).unwrap() else {
        panic!("something else is told of")
    };
    assert_eq!((damages.len(), damages[0].what), (1, "records are damaged"));
    assert!(damages[0].from.0 <= 6000 && 6000 < damages[0].to.0);
    while journal.stats().checked_ms.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(journal.stats().damages.len(), told_at_once + 1);
    assert_eq!(journal.stats().set_aside, 3);
    threads.stop().unwrap();
    drop(journal);
    let again = open();
    assert_eq!(again.journal.stats().set_aside, 3, "the next start knows at once");
    again.journal.check(5);
    assert_eq!(again.journal.stats().damages.len(), told_at_once + 1, "and soon where");
    assert_eq!(again.journal.check(6), [], "nothing is told twice");
    drop(again);
    assert!(!verify(directory.path()).unwrap().is_ok());
}
