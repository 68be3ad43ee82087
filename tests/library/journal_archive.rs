//! Records that outlive their segments, on a simulated disk.

use std::collections::BTreeMap;

use muster::journal::sim::{LossyDisk, WriteFault, split_mix};
use muster::journal::{
    AppendError, Archive, ArchiveOptions, ArchiveTrouble, Archiver, Item, Journal, Notice, Opened, Options,
    Position, Preallocated, Record, Retention, Threads, verify_reader,
};

const SEGMENT_BYTES: u64 = 64 * 1024;

/// Segments that the journal holds.
const SEGMENTS: u64 = 4;

/// Appended of each round.
const RECORDS: u64 = 700;

/// By position: sequence number and payload.
type Records = BTreeMap<u64, (u64, Vec<u8>)>;

fn options() -> Options {
    let retention = Some(Retention { bytes: SEGMENTS * SEGMENT_BYTES, age_ms: None });
    Options { segment_bytes: SEGMENT_BYTES, limit_bytes: None, retention, ..Options::spool(u64::MAX) }
}

fn archive_options(segments: u64) -> ArchiveOptions {
    ArchiveOptions {
        segment_bytes: SEGMENT_BYTES,
        retention: Retention { bytes: segments * SEGMENT_BYTES, age_ms: None },
        keep_free_bytes: 0,
    }
}

/// Begins with 1 for one of twenty.
fn payload(sequence: u64) -> Vec<u8> {
    let mut chance = sequence;
    let length = usize::try_from(split_mix(&mut chance) % 600).unwrap();
    let mut payload = vec![7; length + 1];
    payload[0] = u8::from(is_wanted(sequence));
    payload
}

fn is_wanted(sequence: u64) -> bool {
    sequence.is_multiple_of(20)
}

struct Site {
    opened: Opened<LossyDisk>,
    archive: Archive<LossyDisk>,
}

impl Site {
    fn open(disk: &LossyDisk, archive_options: ArchiveOptions) -> Self {
        let place = disk.second_directory();
        let wants = |record: &Record<'_>| record.payload.first() == Some(&1);
        let mut archiver = Archiver::new(archive_options, move || Ok(place.clone()), wants);
        archiver.open(0).unwrap();
        let archive = archiver.archive();
        let options = Options { remembered: archiver.copied_to(), ..options() };
        let opened = Journal::open(disk.clone(), options, Position(0), 0, |_| {}).unwrap();
        assert_eq!(opened.recovery.end, opened.recovery.durable, "what was copied was durable");
        let opened = Opened { preallocator: opened.preallocator.with_archiver(archiver), ..opened };
        Self { opened, archive }
    }

    /// Appends until the disk fails; what was durable by then, and whether all is.
    fn append(&mut self, sequences: std::ops::Range<u64>, acked: &mut Records) -> bool {
        let mut waiting = Records::new();
        for sequence in sequences {
            let payload = payload(sequence);
            let record = Record { wall_ms: 1_000 + sequence, device: 1, sequence, payload: &payload };
            let end = loop {
                match self.opened.journal.append(&record) {
                    Ok(end) => break end,
                    Err(AppendError::NoRoom(_)) => {
                        if !self.turn(&mut waiting, acked) {
                            return false;
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let length = 48 + payload.len().next_multiple_of(8) as u64;
            waiting.insert(end.0 - length, (sequence, payload));
        }
        self.turn(&mut waiting, acked)
    }

    /// Does the threads' work. `false`: the disk is down.
    fn turn(&mut self, waiting: &mut Records, acked: &mut Records) -> bool {
        let Ok(durable) = self.opened.flusher.flush_once() else { return false };
        let later = waiting.split_off(&durable.0);
        acked.append(waiting);
        *waiting = later;
        let is_retained = self.opened.preallocator.retain_once(1).is_ok();
        is_retained && !matches!(self.opened.preallocator.preallocate_once(1), Preallocated::NoRoom(_))
    }

    /// Every record that can be listed, newest first, as the server merges them.
    fn listed(&self) -> Vec<(u64, u64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut records = self.opened.journal.reader().backward(Position(u64::MAX));
        let mut archived = self.archive.backward(Position(u64::MAX), 0).unwrap();
        while let Some(item) = records.next().unwrap() {
            let Item::Record(view) = item else { panic!("{item:?}") };
            while let Some(view) = archived.next_behind(view.position).unwrap() {
                found.push((view.position.0, view.record.sequence, view.record.payload.to_vec()));
            }
            found.push((view.position.0, view.record.sequence, view.record.payload.to_vec()));
        }
        while let Some(view) = archived.next().unwrap() {
            found.push((view.position.0, view.record.sequence, view.record.payload.to_vec()));
        }
        assert!(found.is_sorted_by(|a, b| a.0 > b.0), "in order, and nothing twice");
        found
    }

    /// Number of times that each is in the archive.
    fn archived(&self) -> BTreeMap<u64, u32> {
        let mut counts = BTreeMap::new();
        let mut archived = self.archive.backward(Position(u64::MAX), 0).unwrap();
        while let Some(view) = archived.next().unwrap() {
            *counts.entry(view.position.0).or_default() += 1;
        }
        counts
    }

    fn expect_all_wanted(&self, acked: &Records, what: &str) {
        let listed: Records = self
            .listed()
            .into_iter()
            .map(|(position, sequence, payload)| (position, (sequence, payload)))
            .collect();
        for (position, (sequence, payload)) in acked.iter().filter(|(_, (sequence, _))| is_wanted(*sequence))
        {
            assert_eq!(listed.get(position), Some(&(*sequence, payload.clone())), "{what}: {sequence}");
        }
        assert!(self.archived().values().all(|count| *count == 1), "{what}: something is there twice");
    }
}

fn written(disk: &LossyDisk, archive_segments: u64) -> (Site, Records) {
    let mut site = Site::open(disk, archive_options(archive_segments));
    let mut acked = Records::new();
    assert!(site.append(0..RECORDS * 4, &mut acked));
    assert_eq!(acked.len() as u64, RECORDS * 4);
    (site, acked)
}

#[test]
fn what_is_wanted_outlives_its_segment_with_its_position() {
    let disk = LossyDisk::new(1, 64 << 20);
    let (site, acked) = written(&disk, 64);
    assert!(site.opened.journal.reader().oldest().0 > 4 * SEGMENT_BYTES, "much was deleted");
    site.expect_all_wanted(&acked, "at once");
    let archived = site.archived().len();
    assert!(archived > 50, "{archived}");
    drop(site);
    let mut site = Site::open(&disk, archive_options(64));
    site.expect_all_wanted(&acked, "after a restart");
    let mut acked = acked;
    assert!(site.append(RECORDS * 4..RECORDS * 5, &mut acked));
    site.expect_all_wanted(&acked, "later");
    let reader = site.archive.reader().unwrap();
    assert!(verify_reader(&reader).unwrap().is_ok());
    // From anywhere in between, and from a time.
    let positions: Vec<u64> = site.archived().into_keys().collect();
    for place in (0..positions.len()).step_by(7) {
        let mut records = site.archive.backward(Position(positions[place]), 0).unwrap();
        let before = records.next().unwrap().map(|view| view.position.0);
        assert_eq!(before, place.checked_sub(1).map(|place| positions[place]));
        let end = Archive::end_of(&reader, Position(positions[place])).unwrap();
        let mut upto = reader.backward(end);
        let Some(Item::Record(last)) = upto.next().unwrap() else {
            assert_eq!(place, 0);
            continue;
        };
        assert_eq!(muster::journal::original(&last).unwrap().position.0, positions[place - 1]);
    }
    let mut records = site.archive.backward(Position(u64::MAX), u64::MAX).unwrap();
    let mut looked_at = 0;
    while records.next().unwrap().is_some() {
        looked_at += 1;
    }
    assert!(looked_at < positions.len() / 2 + 1, "segments from before are passed over: {looked_at}");
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_and_copies_nothing_twice() {
    let disk = LossyDisk::new(7, 64 << 20);
    drop(written(&disk, 64));
    let mut cuts = 0;
    for changes in 0.. {
        let disk = LossyDisk::new(changes, 64 << 20);
        let (site, mut acked) = written(&disk, 64);
        drop(site);
        let mut site = Site::open(&disk, archive_options(64));
        disk.cut_after(changes);
        let is_over = site.append(RECORDS * 4..RECORDS * 6, &mut acked);
        drop(site);
        if changes % 2 == 0 {
            disk.power_cut();
        } else {
            disk.kill();
        }
        let mut site = Site::open(&disk, archive_options(64));
        site.expect_all_wanted(&acked, &format!("cut at {changes}"));
        assert!(site.append(RECORDS * 6..RECORDS * 7, &mut acked));
        site.expect_all_wanted(&acked, &format!("after the cut at {changes}"));
        assert_eq!(site.archive.stats().segments_lost, 0);
        if is_over {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 50, "{cuts}");
}

#[test]
fn the_archive_has_a_bound_of_its_own() {
    let disk = LossyDisk::new(2, 64 << 20);
    let (mut site, mut acked) = written(&disk, 2);
    assert!(site.append(RECORDS * 4..RECORDS * 40, &mut acked));
    let stats = site.archive.stats().journal.unwrap();
    assert!(stats.bytes <= 2 * SEGMENT_BYTES, "{} bytes", stats.bytes);
    let archived = site.archived();
    let newest_deleted = site.opened.journal.reader().oldest().0;
    let wanted =
        acked.iter().filter(|(position, (sequence, _))| **position < newest_deleted && is_wanted(*sequence));
    let wanted: Vec<u64> = wanted.map(|(position, _)| *position).collect();
    let first = *archived.keys().next().unwrap();
    assert!(first > wanted[0], "the oldest are gone");
    assert!(
        wanted.iter().filter(|position| **position >= first).all(|position| archived.contains_key(position))
    );
    // Off: nothing is added.
    site.archive.set_retention(Retention { bytes: 0, age_ms: None });
    let before = site.archived();
    assert!(site.append(RECORDS * 40..RECORDS * 44, &mut acked));
    assert_eq!(site.archived(), before);
}

#[test]
fn the_archive_has_an_age_of_its_own() {
    let disk = LossyDisk::new(3, 64 << 20);
    let (mut site, mut acked) = written(&disk, 64);
    assert!(site.append(RECORDS * 4..RECORDS * 30, &mut acked));
    let before = site.archived();
    let segments = site.archive.reader().unwrap().segments();
    assert!(segments.len() > 4, "{segments:?}");
    site.archive.set_retention(Retention { bytes: u64::MAX / 2, age_ms: Some(1_000) });
    // Just old enough for the first two.
    let now_ms = segments[1].summary.latest_ms + 1_001;
    site.opened.preallocator.retain_once(now_ms).unwrap();
    assert_eq!(site.archive.reader().unwrap().segments(), segments[2..]);
    assert!(site.archived().len() < before.len());
    let positions: Vec<u64> = before.into_keys().collect();
    assert!(site.archived().into_keys().eq(positions.into_iter().rev().take(site.archived().len()).rev()));
}

#[test]
fn without_room_the_segment_waits_and_new_records_go_first() {
    let disk = LossyDisk::new(4, 64 << 20);
    let place = disk.second_directory();
    let options_of_archive = ArchiveOptions { keep_free_bytes: u64::MAX / 2, ..archive_options(64) };
    let mut site = Site::open(&disk, options_of_archive);
    let mut acked = Records::new();
    assert!(site.append(0..RECORDS * 4, &mut acked), "events go on");
    let stats = site.archive.stats();
    assert!(stats.segments_lost > 2 && stats.failure.unwrap().contains("the disk is full"));
    assert_eq!(site.opened.journal.stats().bytes, SEGMENTS * SEGMENT_BYTES, "the bound holds");
    assert_eq!(muster::journal::Storage::list(&place).unwrap(), []);
    // Old, and not in the way: it waits.
    let retention = Retention { bytes: u64::MAX / 2, age_ms: Some(1) };
    site.opened.journal.set_retention(Some(retention)).unwrap();
    let segments = site.opened.journal.segments();
    assert_eq!(site.opened.preallocator.retain_once(u64::MAX).unwrap(), []);
    assert_eq!(site.opened.journal.segments(), segments);
    drop(site);
    // With room it is copied, and only then deleted.
    let mut site = Site::open(&disk, archive_options(64));
    let left: Records = acked.split_off(&segments[0].base.0);
    site.opened.journal.set_retention(Some(retention)).unwrap();
    assert!(!site.opened.preallocator.retain_once(u64::MAX).unwrap().is_empty());
    site.expect_all_wanted(&left, "what had waited");
}

#[test]
fn a_failed_write_of_the_archive_is_not_one_of_the_journal() {
    for fault in [WriteFault::SyncError, WriteFault::Short] {
        for writes in 0..12 {
            let disk = LossyDisk::new(5, 64 << 20);
            let (mut site, mut acked) = written(&disk, 64);
            let retention = Retention { bytes: u64::MAX / 2, age_ms: Some(1) };
            site.opened.journal.set_retention(Some(retention)).unwrap();
            // The journal writes nothing meanwhile.
            disk.fail_after(writes, fault);
            drop(site.opened.preallocator.retain_once(u64::MAX));
            disk.kill();
            drop(site.opened.preallocator.retain_once(u64::MAX).unwrap());
            site.expect_all_wanted(&acked, &format!("{fault:?} at {writes}"));
            assert!(site.append(RECORDS * 4..RECORDS * 5, &mut acked));
            site.expect_all_wanted(&acked, &format!("{fault:?} at {writes}, later"));
            assert_eq!(site.archive.stats().failure, None);
        }
    }
}

#[test]
fn damage_costs_only_what_is_damaged() {
    let disk = LossyDisk::new(6, 64 << 20);
    let (mut site, mut acked) = written(&disk, 64);
    let segments = site.opened.journal.segments();
    // A record in the oldest segment, which is deleted next, and has been copied already or not.
    let place = usize::try_from(SEGMENT_BYTES / 2).unwrap();
    let hit = *acked.range(..segments[0].base.0 + SEGMENT_BYTES / 2).next_back().unwrap().0;
    assert!(disk.flip_byte(segments[0].base.0, place, 1));
    let retention = Retention { bytes: 2 * SEGMENT_BYTES, age_ms: None };
    site.opened.journal.set_retention(Some(retention)).unwrap();
    assert!(!site.opened.preallocator.retain_once(1).unwrap().is_empty());
    acked.remove(&hit);
    site.expect_all_wanted(&acked, "around the damage");
    assert_eq!(site.archive.stats().segments_lost, 0);
}

#[test]
fn damage_of_the_archive_is_found_before_somebody_needs_it() {
    let disk = LossyDisk::new(8, 64 << 20);
    let (mut site, mut acked) = written(&disk, 64);
    assert!(site.append(RECORDS * 4..RECORDS * 20, &mut acked));
    let segments = site.archive.reader().unwrap().segments();
    let first = segments.first().filter(|_| segments.len() > 2).unwrap();
    assert!(disk.second_directory().flip_byte(first.base.0, 5_000, 1));
    let Site { opened, archive } = site;
    let (tell, told) = std::sync::mpsc::channel();
    let threads = Threads::spawn("test", opened.flusher, opened.preallocator, move |notice| {
        if let Notice::Archive(ArchiveTrouble::Damaged(damages)) = notice {
            tell.send(damages).unwrap();
        }
    })
    .unwrap();
    let damages = told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert!(
        damages[0].from.0 <= first.base.0 + 5_000 && first.base.0 + 5_000 < damages[0].to.0,
        "{damages:?}"
    );
    let stats = archive.stats().journal.unwrap();
    assert_eq!((stats.set_aside, stats.damages), (1, damages));
    threads.stop().unwrap();
    // Whole records are still there.
    let mut records = archive.backward(Position(u64::MAX), 0).unwrap();
    let mut last = None;
    while let Some(view) = records.next().unwrap() {
        last = Some(view.position.0);
    }
    let wanted = acked.iter().find(|(_, (sequence, _))| is_wanted(*sequence)).map(|(position, _)| *position);
    assert_eq!(last, wanted);
}
