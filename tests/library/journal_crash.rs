//! The journal on a disk that forgets: thousands of runs under a seed, beside a model of what must be there.
//!
//! `JOURNAL_SEED=n` replays one run; `JOURNAL_RUNS=n` makes more of them.

use std::collections::BTreeMap;

use muster::journal::sim::{LossyDisk, WriteFault, split_mix};
use muster::journal::{AppendError, Item, Journal, Opened, Options, Position, Record, verify_reader};

/// Runs in CI; a few seconds in a debug build.
const RUNS: u64 = 3_000;

const SEGMENT_BYTES: u64 = 64 * 1024;

fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, limit_bytes: None, ..Options::spool(u64::MAX) }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("JOURNAL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("JOURNAL_RUNS").unwrap_or(RUNS)).collect(),
    }
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        split_mix(&mut self.0) % limit
    }
}

/// The appended records, by position; and the position up to which they were told to be durable.
#[derive(Default)]
struct Model {
    appended: BTreeMap<u64, (u64, Vec<u8>)>,
    acknowledged: u64,
    next_sequence: u64,
}

/// A run's broken promise.
#[derive(Debug, Default, PartialEq, Eq)]
struct Broken {
    lost: u64,
    garbage: u64,
    damages: u64,
}

impl Model {
    /// Compares what the opening told with what it had to tell, and forgets what was rightly lost.
    fn check(&mut self, opened: &Opened<LossyDisk>, found: &[(u64, u64, Vec<u8>)]) -> Broken {
        let mut broken = Broken { damages: opened.recovery.damages.len() as u64, ..Broken::default() };
        let mut last = None;
        let mut by_position = BTreeMap::new();
        for (position, sequence, payload) in found {
            let appended = self.appended.get(position);
            let same = appended.is_some_and(|(known, bytes)| known == sequence && bytes == payload);
            let in_order = last.is_none_or(|last| last < *sequence);
            broken.garbage += u64::from(!same || !in_order);
            last = Some(*sequence);
            by_position.insert(*position, ());
        }
        let acknowledged = self.appended.range(..self.acknowledged);
        broken.lost = acknowledged.filter(|(position, _)| !by_position.contains_key(position)).count() as u64;
        self.appended.retain(|position, _| by_position.contains_key(position));
        self.acknowledged = opened.recovery.durable.0;
        broken
    }
}

/// Device, sequence and payload of each record that was found.
type Found = Vec<(u64, u64, Vec<u8>)>;

fn open(disk: &LossyDisk) -> (Opened<LossyDisk>, Found) {
    let mut found = Vec::new();
    let opened = Journal::open(disk.clone(), options(), Position(0), 0, |view| {
        found.push((view.position.0, view.record.sequence, view.record.payload.to_vec()));
    })
    .unwrap();
    (opened, found)
}

/// Appends and flushes until something breaks, or `steps` steps are done.
fn work(opened: &mut Opened<LossyDisk>, model: &mut Model, chance: &mut Chance, steps: u64) {
    for _ in 0..steps {
        match chance.below(10) {
            0 => {
                opened.preallocator.preallocate_once(0);
            }
            1..=3 => {
                if opened.flusher.flush_once().is_err() {
                    return;
                }
                model.acknowledged = opened.journal.durable().0;
            }
            _ => {
                // Mostly of one length, so that what is appended after a cut ends where a torn record began.
                let length =
                    if chance.below(4) > 0 { 400 } else { usize::try_from(chance.below(3000)).unwrap() };
                let byte = u8::try_from(chance.below(256)).unwrap();
                let payload = vec![byte; length];
                let sequence = model.next_sequence;
                let record = Record { wall_ms: sequence, device: 1, sequence, payload: &payload };
                match opened.journal.append(&record) {
                    Ok(end) => {
                        let taken = (48 + length.next_multiple_of(8)) as u64;
                        model.appended.insert(end.0 - taken, (sequence, payload));
                        model.next_sequence += 1;
                    }
                    Err(AppendError::NoRoom(_)) => {
                        if opened.flusher.flush_once().is_err() {
                            return;
                        }
                        model.acknowledged = opened.journal.durable().0;
                        opened.preallocator.preallocate_once(0);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// One life of a disk: several lives of a journal on it, each ended by another fault.
fn run(seed: u64, lies: bool) -> Broken {
    let mut chance = Chance(seed ^ 0x6a6f_7572_6e61_6c21);
    let disk = LossyDisk::new(seed, 16 * SEGMENT_BYTES);
    if lies {
        disk.lie_about_syncs();
    }
    let mut model = Model::default();
    let mut total = Broken::default();
    for _ in 0..4 {
        let (mut opened, found) = open(&disk);
        let broken = model.check(&opened, &found);
        total.lost += broken.lost;
        total.garbage += broken.garbage;
        total.damages += broken.damages;
        let fault = [WriteFault::PowerCut, WriteFault::PowerCut, WriteFault::SyncError, WriteFault::Short];
        let fault = fault[usize::try_from(chance.below(4)).unwrap()];
        disk.fail_after(chance.below(12), fault);
        work(&mut opened, &mut model, &mut chance, 80);
        drop(opened);
        match chance.below(3) {
            0 => disk.kill(),
            1 => {
                // Killed, opened (which makes good what it says is durable), and only then the power goes.
                disk.kill();
                let (opened, found) = open(&disk);
                let broken = model.check(&opened, &found);
                total.lost += broken.lost;
                total.garbage += broken.garbage;
                total.damages += broken.damages;
                drop(opened);
                disk.power_cut();
            }
            _ => disk.power_cut(),
        }
    }
    let (opened, found) = open(&disk);
    let broken = model.check(&opened, &found);
    total.lost += broken.lost;
    total.garbage += broken.garbage;
    total.damages += broken.damages;
    let report = verify_reader(&opened.journal.reader()).unwrap();
    assert_eq!(
        report.summary.records,
        found.len() as u64,
        "the reader sees what the opening saw, seed {seed}"
    );
    total
}

#[test]
fn nothing_acknowledged_is_lost_and_no_garbage_is_taken() {
    for seed in seeds() {
        assert_eq!(run(seed, false), Broken::default(), "JOURNAL_SEED={seed} replays it");
    }
}

#[test]
fn a_disk_that_does_not_sync_loses_data_and_the_test_sees_it() {
    let broken: Vec<Broken> = (0..200).map(|seed| run(seed, true)).collect();
    let seen = broken.iter().filter(|broken| broken.lost > 0).count();
    assert!(seen > 100, "only {seen} of 200 runs without syncs were seen to lose data");
}

#[test]
fn a_flipped_bit_in_acknowledged_data_is_told_from_a_torn_tail() {
    let (mut told, mut torn, mut garbage) = (0, 0, 0);
    for seed in 0..600 {
        let mut chance = Chance(seed);
        let disk = LossyDisk::new(seed, 64 * SEGMENT_BYTES);
        let mut model = Model::default();
        let (mut opened, _) = open(&disk);
        work(&mut opened, &mut model, &mut chance, 150);
        opened.flusher.flush_once().unwrap();
        drop(opened);
        // One bit of one acknowledged record.
        let place = usize::try_from(chance.below(model.appended.len() as u64)).unwrap();
        let (position, (_, payload)) = model.appended.iter().nth(place).unwrap();
        let within = chance.below(48 + payload.len() as u64);
        let at = position + within;
        let base = at / SEGMENT_BYTES * SEGMENT_BYTES;
        assert!(disk.flip_bit(
            base,
            usize::try_from(at - base).unwrap(),
            u8::try_from(chance.below(8)).unwrap()
        ));
        let (opened, found) = open(&disk);
        let hit = opened.recovery.damages.iter().any(|damage| damage.from.0 <= at && at < damage.to.0);
        if hit {
            told += 1;
            // Everything but the one record is still there, and still read.
            assert_eq!(found.len() + 1, model.appended.len(), "seed {seed}");
            let mut forward = opened.journal.reader().forward(Position(0));
            let mut seen = 0;
            while let Some(item) = forward.next().unwrap() {
                seen += u64::from(matches!(item, Item::Damage(_)));
            }
            assert_eq!(seen, 1, "the reader tells of it too, seed {seed}");
            let again = open(&disk).0.recovery.damages;
            assert_eq!(again, opened.recovery.damages, "and so does the next opening, seed {seed}");
        } else {
            assert!(opened.recovery.damages.is_empty());
            torn += 1;
        }
        for (position, sequence, payload) in found {
            garbage += u64::from(model.appended.get(&position) != Some(&(sequence, payload)));
        }
    }
    println!("{told} flips told from a torn tail, {torn} not (no later watermark), {garbage} garbage");
    assert_eq!(garbage, 0);
    assert!(told * 100 > (told + torn) * 90, "{told} told, {torn} not");
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = LossyDisk::new(1, 2 * SEGMENT_BYTES);
    let (mut opened, _) = open(&disk);
    let mut model = Model::default();
    let mut chance = Chance(7);
    work(&mut opened, &mut model, &mut chance, 500);
    let before = model.appended.len();
    assert!(matches!(opened.journal.state(), muster::journal::State::NoRoom(_)));
    work(&mut opened, &mut model, &mut chance, 50);
    assert!(opened.flusher.flush_once().is_ok(), "a full disk is no failure");
    disk.set_capacity(8 * SEGMENT_BYTES);
    work(&mut opened, &mut model, &mut chance, 100);
    assert!(model.appended.len() > before);
    opened.flusher.flush_once().unwrap();
    model.acknowledged = opened.journal.durable().0;
    drop(opened);
    disk.power_cut();
    let (opened, found) = open(&disk);
    assert_eq!(model.check(&opened, &found), Broken::default());
}

#[test]
fn a_failed_write_ends_the_journal_for_good() {
    for fault in [WriteFault::SyncError, WriteFault::Short] {
        let disk = LossyDisk::new(1, 8 * SEGMENT_BYTES);
        let (mut opened, _) = open(&disk);
        let record = Record { wall_ms: 1, device: 1, sequence: 1, payload: b"event" };
        opened.journal.append(&record).unwrap();
        let durable = opened.journal.durable();
        disk.fail_after(0, fault);
        let error = opened.flusher.flush_once().unwrap_err();
        let writes = disk.writes();
        disk.kill();
        assert_eq!(opened.flusher.flush_once().unwrap_err(), error);
        assert_eq!(disk.writes(), writes, "it is never tried again");
        assert_eq!(opened.journal.durable(), durable, "nothing is acknowledged");
        assert_eq!(opened.journal.append(&record).unwrap_err(), AppendError::Failed);
        assert!(matches!(opened.journal.state(), muster::journal::State::Failed(_)));
    }
}
