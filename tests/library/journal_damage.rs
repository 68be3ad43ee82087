//! A journal whose medium breaks: bytes flip, files are cut short and go. Whole records are found, broken
//! ones are told, and segments that were set aside stay.
//!
//! `JOURNAL_SEED=n` replays one run.

use std::collections::BTreeMap;

use muster::journal::sim::{LossyDisk, split_mix};
use muster::journal::{
    AppendError, Damage, Item, Journal, Opened, Options, Position, Preallocated, Reader, Record, Retention,
    SegmentState, Storage, verify_reader,
};

const SEGMENT_BYTES: u64 = 64 * 1024;
const RUNS: u64 = 400;

fn options(remembered: u64) -> Options {
    let remembered = Position(remembered);
    Options { segment_bytes: SEGMENT_BYTES, limit_bytes: None, remembered, ..Options::spool(u64::MAX) }
}

fn below(chance: &mut u64, limit: u64) -> u64 {
    split_mix(chance) % limit
}

fn place(chance: &mut u64, limit: u64) -> usize {
    usize::try_from(below(chance, limit)).unwrap()
}

/// A record's sequence number and payload, by its position.
type Records = BTreeMap<u64, (u64, Vec<u8>)>;

fn end_of(position: u64, payload: &[u8]) -> u64 {
    position + 48 + payload.len().next_multiple_of(8) as u64
}

fn open(disk: &LossyDisk, options: Options) -> (Opened<LossyDisk>, Records) {
    let mut found = Records::new();
    let opened = Journal::open(disk.clone(), options, Position(0), 0, |view| {
        assert!(found.last_key_value().is_none_or(|(last, _)| *last < view.position.0), "in order");
        found.insert(view.position.0, (view.record.sequence, view.record.payload.to_vec()));
    })
    .unwrap();
    (opened, found)
}

/// Appends records numbered `sequences`, with wall times that are their numbers, and makes them durable.
fn append(opened: &mut Opened<LossyDisk>, sequences: std::ops::Range<u64>, known: &mut Records) -> u64 {
    for sequence in sequences {
        let mut chance = sequence;
        let payload = vec![u8::try_from(sequence % 256).unwrap(); place(&mut chance, 2000)];
        let record = Record { wall_ms: sequence, device: 1, sequence, payload: &payload };
        let end = loop {
            match opened.journal.append(&record) {
                Ok(end) => break end,
                Err(AppendError::NoRoom(_)) => {
                    opened.flusher.flush_once().unwrap();
                    assert!(!matches!(opened.preallocator.preallocate_once(0), Preallocated::NoRoom(_)));
                }
                Err(error) => panic!("{error}"),
            }
        };
        if sequence % 5 == 0 {
            opened.flusher.flush_once().unwrap();
        }
        known.insert(end.0 - end_of(0, &payload), (sequence, payload));
    }
    opened.flusher.flush_once().unwrap().0
}

/// A disk with some full segments and one that is not, what is in it, and where it ends.
fn written(seed: u64, records: u64) -> (LossyDisk, Records, u64) {
    let disk = LossyDisk::new(seed, 256 * SEGMENT_BYTES);
    let (mut opened, mut known) = open(&disk, options(0));
    let end = append(&mut opened, 1..records + 1, &mut known);
    opened.preallocator.preallocate_once(0);
    (disk, known, end)
}

fn covers(damages: &[Damage], position: u64) -> bool {
    damages.iter().any(|damage| damage.from.0 <= position && position < damage.to.0)
}

fn set_aside(disk: &LossyDisk) -> Vec<(u64, u64)> {
    let files = disk.list().unwrap().into_iter().filter(|file| file.set_aside);
    files.map(|file| (file.base, file.bytes)).collect()
}

fn read(reader: &Reader<LossyDisk>) -> Records {
    let mut records = reader.forward(Position(0));
    let mut found = Records::new();
    while let Some(item) = records.next().unwrap() {
        if let Item::Record(view) = item {
            found.insert(view.position.0, (view.record.sequence, view.record.payload.to_vec()));
        }
    }
    found
}

/// Deletes all that size and age let go.
fn retain_nothing(opened: &mut Opened<LossyDisk>) {
    let retention = Some(Retention { bytes: 2 * SEGMENT_BYTES, age_ms: Some(1) });
    opened.journal.set_retention(retention).unwrap();
    opened.preallocator.retain_once(u64::MAX).unwrap();
}

/// A wound of a disk.
#[derive(Debug)]
enum Wound {
    Flip { base: u64, offset: usize },
    Cut { base: u64, bytes: usize },
    Lose { base: u64 },
}

impl Wound {
    fn any(chance: &mut u64, bases: &[u64]) -> Self {
        let base = bases[place(chance, bases.len() as u64)];
        match below(chance, 8) {
            0 => Self::Lose { base },
            1 => Self::Cut { base, bytes: [0, 4096, 4104][place(chance, 3)] },
            2 => Self::Cut { base, bytes: place(chance, SEGMENT_BYTES) },
            3 | 4 => Self::Flip { base, offset: place(chance, 60) },
            5 => Self::Flip { base, offset: 65_536 - 1 - place(chance, 400) },
            _ => Self::Flip { base, offset: place(chance, SEGMENT_BYTES) },
        }
    }

    fn inflict(&self, disk: &LossyDisk) -> bool {
        match *self {
            Self::Flip { base, offset } => disk.flip_byte(base, offset, 0x21),
            Self::Cut { base, bytes } => disk.cut(base, bytes),
            Self::Lose { base } => disk.lose(base),
        }
    }
}

/// Whether every byte of a record is still there, by what was done to the disk.
fn is_intact(wounds: &[Wound], position: u64, payload: &[u8]) -> bool {
    let base = position / SEGMENT_BYTES * SEGMENT_BYTES;
    let (from, to) = (position - base, end_of(position, payload) - base);
    wounds.iter().all(|wound| match *wound {
        Wound::Flip { base: of, offset } => of != base || !(from..to).contains(&(offset as u64)),
        Wound::Cut { base: of, bytes } => of != base || to <= bytes as u64,
        Wound::Lose { base: of } => of != base,
    })
}

/// A header that is damaged is found again by the trailer, by its own checksum, or by two records: not where
/// the file was cut too, so that there is no trailer and perhaps one record.
fn may_be_unreadable(wounds: &[Wound], base: u64) -> bool {
    let header =
        |wound: &&Wound| matches!(wound, Wound::Flip { base: of, offset } if *of == base && *offset < 60);
    let cut = |wound: &Wound| matches!(wound, Wound::Cut { base: of, .. } if *of == base);
    let headers = wounds.iter().filter(header).count();
    headers > 1 || (headers > 0 && wounds.iter().any(cut))
}

#[test]
fn what_is_whole_is_found_what_is_not_is_told_and_what_was_set_aside_stays() {
    let seed = std::env::var("JOURNAL_SEED").ok().map(|text| text.parse().unwrap());
    let seeds = seed.map_or(0..RUNS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let mut chance = seed;
        let (disk, known, end) = written(seed, 60 + below(&mut chance, 250));
        let bases: Vec<u64> = disk.list().unwrap().iter().map(|file| file.base).collect();
        let mut wounds = Vec::new();
        for _ in 0..=below(&mut chance, 3) {
            let wound = Wound::any(&mut chance, &bases);
            if wound.inflict(&disk) {
                wounds.push(wound);
            }
        }
        let case = format!("JOURNAL_SEED={seed}, {wounds:?}");
        // Segments that retention would have deleted are not missed.
        let first = disk.list().unwrap().first().map_or(0, |file| file.base);
        let (mut opened, found) = open(&disk, options(end));
        let damages = opened.recovery.damages.clone();
        for (position, (sequence, payload)) in &known {
            let is_found = found.get(position) == Some(&(*sequence, payload.clone()));
            let base = position / SEGMENT_BYTES * SEGMENT_BYTES;
            if is_intact(&wounds, *position, payload) && !may_be_unreadable(&wounds, base) {
                assert!(is_found, "{sequence} at {position} is whole and was not found: {case}, {damages:?}");
            }
            let is_told = *position < first || covers(&damages, *position);
            assert!(
                is_found || is_told,
                "{sequence} at {position} is lost without a word: {case}, {damages:?}"
            );
        }
        assert!(found.iter().all(|record| known.get(record.0) == Some(record.1)), "garbage: {case}");
        assert_eq!(read(&opened.journal.reader()), found, "a reader sees the same: {case}");
        // It goes on, and no position is used twice.
        let mut later = Records::new();
        append(&mut opened, 1000..1100, &mut later);
        assert!(later.keys().all(|position| *position >= end), "{case}");
        let aside = set_aside(&disk);
        let last = opened.journal.durable().0;
        drop(opened);
        // The next start knows it too.
        let (mut opened, again) = open(&disk, options(last));
        assert_eq!(again.len(), found.len() + later.len(), "{case}");
        let told = opened.recovery.damages.clone();
        for position in known.keys().filter(|position| **position >= first && !found.contains_key(position)) {
            assert!(covers(&told, *position), "{position} is forgotten: {case}, {damages:?}, then {told:?}");
        }
        retain_nothing(&mut opened);
        assert_eq!(set_aside(&disk), aside, "what was set aside stays: {case}");
        let (count, bytes) = (aside.len(), aside.iter().map(|(_, bytes)| bytes).sum::<u64>());
        let stats = opened.journal.stats();
        assert_eq!((stats.set_aside, stats.set_aside_bytes), (count, bytes), "{case}");
        let kept: usize = opened.journal.segments().len() - count;
        assert_eq!(kept, 1, "and nothing else does: {case}");
        drop(opened);
        let (opened, _) = open(&disk, options(last));
        let told = opened.recovery.damages.clone();
        let report = verify_reader(&opened.journal.reader()).unwrap();
        assert!(damages.is_empty() || !report.damages.is_empty(), "{case}");
        for base in aside.iter().map(|(base, _)| *base) {
            assert!(
                told.iter().any(|damage| damage.from.0 >= base && damage.from.0 < base + SEGMENT_BYTES),
                "{case}"
            );
        }
    }
}

#[test]
fn one_wrong_byte_in_a_header_costs_no_event_and_is_told_for_good() {
    for (offset, is_last) in
        [(0, false), (9, false), (17, false), (30, false), (57, false), (17, true), (0, true)]
    {
        let (disk, known, end) = written(1, 250);
        let sealed: Vec<u64> = disk.list().unwrap().iter().map(|file| file.base).collect();
        let base = if is_last { end / SEGMENT_BYTES * SEGMENT_BYTES } else { sealed[1] };
        assert!(disk.flip_byte(base, offset, 1));
        let (mut opened, found) = open(&disk, options(end));
        assert_eq!(found, known, "byte {offset}");
        let [damage] = &opened.recovery.damages[..] else { panic!("{:?}", opened.recovery.damages) };
        assert_eq!((damage.from.0, damage.to.0), (base, base + 4096));
        assert!(damage.what.contains("header"), "{damage}");
        assert_eq!(set_aside(&disk), [(base, SEGMENT_BYTES)]);
        append(&mut opened, 500..600, &mut Records::new());
        retain_nothing(&mut opened);
        assert_eq!(set_aside(&disk), [(base, SEGMENT_BYTES)]);
        assert_eq!(verify_reader(&opened.journal.reader()).unwrap().damages.len(), 1);
    }
}

#[test]
fn a_segment_cut_short_is_told_and_stays() {
    for bytes in [0, 4096, 30_000] {
        let (disk, known, end) = written(1, 250);
        assert!(disk.cut(SEGMENT_BYTES, bytes));
        let (mut opened, found) = open(&disk, options(end));
        let in_cut = |position: u64| position / SEGMENT_BYTES == 1;
        let is_whole =
            |position: u64, payload: &[u8]| end_of(position, payload) - SEGMENT_BYTES <= bytes as u64;
        let expected = known
            .iter()
            .filter(|(position, (_, payload))| !in_cut(**position) || is_whole(**position, payload));
        assert!(found.iter().eq(expected), "cut to {bytes}");
        let [damage] = &opened.recovery.damages[..] else { panic!("{:?}", opened.recovery.damages) };
        assert_eq!(damage.to.0, 2 * SEGMENT_BYTES);
        append(&mut opened, 500..600, &mut Records::new());
        retain_nothing(&mut opened);
        assert_eq!(set_aside(&disk), [(SEGMENT_BYTES, bytes as u64)]);
        drop(opened);
        let damages = open(&disk, options(end)).0.recovery.damages;
        assert_eq!((damages.len(), damages[0].from.0 / SEGMENT_BYTES), (1, 1), "{damages:?}");
    }
}

#[test]
fn a_journal_that_ends_before_what_is_remembered_goes_on_behind_it() {
    // All segments are gone; the last ones are; the last records are.
    for lost in 0..3 {
        let (disk, known, end) = written(1, 250);
        let bases: Vec<u64> = disk.list().unwrap().iter().map(|file| file.base).collect();
        match lost {
            0 => assert!(bases.iter().all(|base| disk.lose(*base))),
            1 => assert!(bases[2..].iter().all(|base| disk.lose(*base))),
            _ => assert!((0..200).all(|byte| disk.flip_byte(
                end / SEGMENT_BYTES * SEGMENT_BYTES,
                usize::try_from(end % SEGMENT_BYTES).unwrap() - 1 - byte,
                0xa5,
            ))),
        }
        let (mut opened, found) = open(&disk, options(end));
        assert!(
            found.len() < known.len() && found.iter().all(|record| known.get(record.0) == Some(record.1))
        );
        assert!(opened.recovery.end.0 < end, "{lost}");
        assert!(opened.recovery.durable.0 >= end);
        let missing = opened.recovery.damages.clone();
        for position in known.keys().filter(|position| !found.contains_key(position)) {
            assert!(covers(&missing, *position), "{lost}: {missing:?}");
        }
        let mut later = Records::new();
        append(&mut opened, 500..900, &mut later);
        assert!(later.keys().all(|position| *position >= end), "{lost}");
        retain_nothing(&mut opened);
        drop(opened);
        let (opened, _) = open(&disk, options(end));
        assert_eq!(
            opened.recovery.damages, missing,
            "{lost}: told again at every start, whatever retention has deleted"
        );
        let report = verify_reader(&Reader::over(disk).unwrap()).unwrap();
        assert_eq!(report.damages, missing, "{lost}");
    }
}

#[test]
fn what_breaks_later_before_a_missing_end_is_told_too() {
    let (disk, known, end) = written(1, 20);
    drop(open(&disk, options(end + 10_000)).0);
    let (opened, found) = open(&disk, options(end + 10_000));
    let before = opened.recovery.damages.clone();
    assert_eq!(found, known);
    assert!(covers(&before, end) && !covers(&before, end - 1), "{before:?}");
    drop(opened);
    // The last record, in the segment that was set aside.
    let last = *known.last_key_value().unwrap().0;
    assert!(disk.flip_byte(0, usize::try_from(last).unwrap() + 50, 1));
    for _ in 0..2 {
        let (opened, found) = open(&disk, options(end + 10_000));
        assert_eq!(found.len(), known.len() - 1);
        assert!(covers(&opened.recovery.damages, last), "{:?}", opened.recovery.damages);
        assert!(opened.recovery.is_lost(Position(end)));
    }
    let report = verify_reader(&Reader::over(disk).unwrap()).unwrap();
    assert!(covers(&report.damages, last), "{:?}", report.damages);
}

#[test]
fn what_is_remembered_is_no_loss_when_it_is_there() {
    let (disk, known, end) = written(1, 250);
    for remembered in [0, 1, end / 2, end] {
        let (opened, found) = open(&disk, options(remembered));
        assert_eq!((opened.recovery.damages.len(), &found), (0, &known));
        assert_eq!((opened.recovery.end.0, opened.journal.end().0), (end, end));
    }
    // A new journal, and one of which everything but the segment that was made ahead was deleted.
    let disk = LossyDisk::new(1, 256 * SEGMENT_BYTES);
    for _ in 0..3 {
        let (opened, _) = open(&disk, options(0));
        let durable = opened.journal.durable();
        drop(opened);
        let (opened, _) = open(&disk, options(durable.0));
        assert_eq!((&opened.recovery.damages[..], opened.recovery.end), (&[][..], durable));
    }
}

#[test]
fn what_was_set_aside_pushes_nothing_out_and_stops_nothing() {
    let (disk, _, end) = written(1, 400);
    let bases: Vec<u64> = disk.list().unwrap().iter().map(|file| file.base).collect();
    for base in &bases[..3] {
        assert!(disk.flip_byte(*base, 5000, 1));
    }
    let limit = Options { limit_bytes: Some(bases.len() as u64 * SEGMENT_BYTES), ..options(end) };
    let retention = Some(Retention { bytes: (bases.len() as u64 - 3) * SEGMENT_BYTES, age_ms: None });
    let (mut opened, _) = open(&disk, Options { retention, ..limit });
    assert_eq!(opened.preallocator.retain_once(0).unwrap(), [], "good segments stay, as many as before");
    let good = |info: &&muster::journal::SegmentInfo| info.state != SegmentState::SetAside;
    assert_eq!(opened.journal.segments().iter().filter(good).count(), bases.len() - 3);
    assert_eq!(opened.journal.stats().bytes, (bases.len() as u64 - 3) * SEGMENT_BYTES);
    // Three more fit below the limit than if it counted.
    append(&mut opened, 500..650, &mut Records::new());
}

#[test]
fn a_lost_segment_is_told_from_those_that_retention_deleted() {
    for wounds in 0..3 {
        let (disk, _, end) = written(3, 600);
        let bases: Vec<u64> = disk.list().unwrap().iter().map(|file| file.base).collect();
        // Set aside, at the beginning.
        for base in &bases[..wounds] {
            assert!(disk.flip_byte(*base, 5000, 1));
        }
        let retention = Some(Retention { bytes: 4 * SEGMENT_BYTES, age_ms: None });
        let (mut opened, _) = open(&disk, Options { retention, ..options(end) });
        assert!(opened.preallocator.retain_once(0).unwrap().len() > 2);
        let left: Vec<u64> = disk.list().unwrap().iter().map(|file| file.base).collect();
        assert_eq!(left[..wounds], bases[..wounds]);
        let missing =
            |damages: &[Damage]| damages.iter().filter(|damage| damage.what.contains("missing")).count();
        let (opened, _) = open(&disk, options(end));
        assert_eq!(missing(&opened.recovery.damages), 0, "{:?}", opened.recovery.damages);
        if wounds == 2 {
            // As one may that was set aside.
            assert!(disk.lose(bases[1]));
            assert_eq!(missing(&open(&disk, options(end)).0.recovery.damages), 0);
        }
        assert!(disk.lose(left[wounds]));
        assert_eq!(missing(&verify_reader(&Reader::over(disk.clone()).unwrap()).unwrap().damages), 1);
        for opening in 0..2 {
            let (opened, _) = open(&disk, options(end));
            let damages = &opened.recovery.damages;
            assert_eq!(
                (missing(damages), covers(damages, left[wounds])),
                (1, true),
                "{opening}: {damages:?}"
            );
            assert!(!covers(damages, left[wounds] - 1), "{damages:?}");
        }
    }
}

#[test]
fn a_check_finds_what_an_opening_finds() {
    for seed in 0..60 {
        let mut chance = seed;
        let (disk, _, end) = written(seed, 300);
        let options = Options { remembered: Position(0), ..options(0) };
        // Passed over at the opening, and whole then.
        let opened = Journal::open(disk.clone(), options, Position(end), 0, |_| {}).unwrap();
        assert_eq!((opened.recovery.damages.len(), opened.journal.check(1)), (0, vec![]));
        let full: Vec<u64> = disk
            .list()
            .unwrap()
            .iter()
            .map(|file| file.base)
            .filter(|base| base + SEGMENT_BYTES < end)
            .collect();
        let mut hit = std::collections::BTreeSet::new();
        for _ in 0..=below(&mut chance, 4) {
            let base = full[place(&mut chance, full.len() as u64)];
            let view =
                disk.view(disk.list().unwrap().into_iter().find(|file| file.base == base).unwrap()).unwrap();
            let offset = 4096 + place(&mut chance, 40_000);
            if view[offset] != 0 && hit.insert(base) {
                disk.flip_byte(base, offset, 0x40);
            }
        }
        let found = opened.journal.check(2);
        assert_eq!(found, opened.journal.stats().damages, "seed {seed}");
        assert_eq!(opened.journal.stats().set_aside, hit.len(), "seed {seed}");
        let seen_by_check = read(&opened.journal.reader());
        drop(opened);
        let (opened, seen_by_opening) = open(&disk, options);
        assert_eq!(opened.recovery.damages, found, "seed {seed}");
        assert_eq!(seen_by_check, seen_by_opening, "seed {seed}");
    }
}
