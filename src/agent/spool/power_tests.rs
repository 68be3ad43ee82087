//! The spool on simulated disks: power cuts that let any subset of unsynced sectors survive, and disks
//! without room.

use std::sync::Arc;

use parking_lot::Mutex;

use super::state::{SEVERITIES, SpoolState, StateStore};
use super::*;
use crate::journal::sim::{LossyDisk, WriteFault, split_mix};

const NOW: WallTime = WallTime(1_795_514_400_000);
const SEGMENT_BYTES: u64 = 256 * 1024;
const ROOM: u64 = 64 << 20;

/// The state's two slots as they are proved to behave: a write that is cut leaves the old content or the new
/// one.
#[derive(Clone, Default)]
struct MemoryState(Arc<Mutex<Slot>>);

#[derive(Default)]
struct Slot {
    content: Option<SpoolState>,
    writes_left: Option<u64>,
    random: u64,
}

impl StateStore for MemoryState {
    fn read(&self) -> Result<Option<SpoolState>, SlotError> {
        Ok(self.0.lock().content.clone())
    }

    fn write(&mut self, state: &SpoolState) -> Result<(), SlotError> {
        let mut slot = self.0.lock();
        match &mut slot.writes_left {
            Some(0) => {
                if split_mix(&mut slot.random) & 1 == 0 {
                    slot.content = Some(state.clone());
                }
                return Err(SlotError::Io("cut".into(), std::io::Error::other("power")));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        slot.content = Some(state.clone());
        Ok(())
    }
}

struct World {
    disks: [LossyDisk; SEVERITIES],
    state: MemoryState,
    random: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let disks = std::array::from_fn(|index| LossyDisk::new(seed * 4 + index as u64, ROOM));
        Self { disks, state: MemoryState::default(), random: seed }
    }

    fn open(&self) -> Result<Spool<LossyDisk, MemoryState>, SpoolError> {
        let quotas = [2 * SEGMENT_BYTES; SEVERITIES];
        Spool::open(self.disks.clone(), self.state.clone(), quotas, Epoch(7), NOW)
    }

    fn up_to(&mut self, max: u64) -> u64 {
        split_mix(&mut self.random) % max
    }

    /// The power will go at some durable write, of the state or of a journal.
    fn plan_a_cut(&mut self) {
        match self.up_to(5) {
            4 => self.state.0.lock().writes_left = Some(self.random % 3),
            disk => {
                let writes = self.up_to(12);
                let disk = usize::try_from(disk).unwrap();
                self.disks[disk].fail_after(writes, WriteFault::PowerCut);
            }
        }
    }

    fn cut(&mut self) {
        for disk in &self.disks {
            disk.power_cut();
        }
        let mut slot = self.state.0.lock();
        slot.writes_left = None;
        slot.random = self.random;
    }
}

fn read_all(spool: &mut Spool<LossyDisk, MemoryState>) -> Vec<(u64, Vec<u8>)> {
    let (mut after, mut all) = (spool.acked_through(), Vec::new());
    loop {
        let events = spool.read(after, 64 * 1024, 100).unwrap();
        let Some((last, _)) = events.last() else { return all };
        after = *last;
        all.extend(events);
    }
}

/// Three lives, each ended by a power cut. After each: what was promised is there or counted as dropped,
/// exactly, under numbers that were never given twice.
#[test]
fn power_cuts_lose_nothing_that_was_promised_and_counts_stay_exact() {
    let mut cuts = 0;
    let mut drops = 0;
    for seed in 0..100 {
        let mut world = World::new(seed);
        let mut appended: [Vec<u64>; SEVERITIES] = Default::default();
        let mut promised_through = 0;
        for life in 0..4 {
            world.plan_a_cut();
            let mut run = || -> Result<(), SpoolError> {
                let mut spool = world.open()?;
                for round in 0..20 {
                    // Mostly the two whose drops touch each other: notices are warnings.
                    let chosen =
                        [0, 0, 0, 1, 1, 2, 3][usize::try_from(split_mix(&mut world.random) % 7).unwrap()];
                    let severity = Severity::ALL[chosen];
                    for _ in 0..10 {
                        let body = [u8::try_from(round).unwrap(); 6 * 1024];
                        let sequence = spool.append(severity, &body, NOW)?;
                        appended[place(severity)].push(sequence);
                    }
                    spool.flush()?;
                    promised_through = spool.highest_sequence();
                    spool.prepare(NOW)?;
                }
                Ok(())
            };
            cuts += u64::from(run().is_err());
            world.cut();
            let mut spool = world.open().unwrap();
            assert_eq!(spool.damages(), Vec::<String>::new(), "seed {seed}, life {life}");
            let events = read_all(&mut spool);
            assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0), "seed {seed}, life {life}");
            let notices: Vec<_> = events.iter().filter_map(|(_, body)| notice::read(body)).collect();
            for severity in Severity::ALL {
                let index = place(severity);
                let told: u64 = notices.iter().map(|told| told[index].count).sum();
                let is_there =
                    |sequence: &u64| events.binary_search_by_key(sequence, |(known, _)| *known).is_ok();
                // Events that were appended and not flushed when the power went were promised to nobody.
                appended[index].retain(|sequence| *sequence <= promised_through || is_there(sequence));
                let first = appended[index].iter().position(is_there).unwrap_or(appended[index].len());
                drops += told;
                assert_eq!(told, first as u64, "seed {seed}, life {life}, {severity}");
                assert!(
                    appended[index][first..].iter().all(is_there),
                    "seed {seed}, life {life}, {severity}"
                );
            }
            assert!(spool.highest_sequence() >= promised_through, "seed {seed}, life {life}");
            promised_through = spool.highest_sequence();
        }
    }
    assert!(cuts > 100 && drops > 1_000, "{cuts} cuts, {drops} events dropped: too few to show anything");
}

#[test]
fn a_full_disk_refuses_the_event_and_takes_the_next_when_there_is_room() {
    let world = World::new(1);
    let quotas = [16 * SEGMENT_BYTES; SEVERITIES];
    let mut spool = Spool::open(world.disks.clone(), world.state.clone(), quotas, Epoch(7), NOW).unwrap();
    world.disks[0].set_capacity(2 * SEGMENT_BYTES);
    let mut taken = 0;
    let error = loop {
        match spool.append(Severity::Info, &[1; 6 * 1024], NOW) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SpoolError::DiskFull) && !error.is_fatal(), "{error}");
    assert!(taken > 40, "two segments were there: {taken}");
    spool.append(Severity::Error, b"another journal has room", NOW).unwrap();
    spool.flush().unwrap();
    world.disks[0].set_capacity(ROOM);
    spool.append(Severity::Info, b"again", NOW).unwrap();
    spool.flush().unwrap();
    assert_eq!(read_all(&mut spool).len(), taken + 2, "nothing was dropped for want of room");
}

#[test]
fn a_failed_write_ends_the_spool_and_a_restart_finds_what_was_promised() {
    for fault in [WriteFault::SyncError, WriteFault::Short] {
        let world = World::new(2);
        let mut spool = world.open().unwrap();
        spool.append(Severity::Critical, b"promised", NOW).unwrap();
        spool.flush().unwrap();
        world.disks[3].fail_after(0, fault);
        spool.append(Severity::Critical, b"not promised", NOW).unwrap();
        let error = spool.flush().unwrap_err();
        assert!(error.is_fatal() && error.to_string().contains("started again"), "{error}");
        assert!(spool.append(Severity::Critical, b"x", NOW).is_err(), "nothing is taken any more");
        drop(spool);
        world.disks[3].power_cut();
        let events = read_all(&mut world.open().unwrap());
        assert_eq!(events[0], (1, b"promised".to_vec()));
    }
}
