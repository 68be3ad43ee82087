//! Whatever the bytes on the disk: no decoder, no opening and no reader panics, and what was written comes
//! back.

use muster::journal::layout::{
    IndexEntry, SegmentHeader, Trailer, decode_record, encode_record_header, index_entries_max, padding,
};
use muster::journal::sim::LossyDisk;
use muster::journal::{Journal, Options, Position, Reader, Record, Storage, Summary, verify_reader};
use proptest::prelude::*;

const SEGMENT_BYTES: u64 = 64 * 1024;

fn options() -> Options {
    Options { segment_bytes: SEGMENT_BYTES, limit_bytes: None, ..Options::spool(u64::MAX) }
}

/// Opens and reads whatever is on a disk, in every way there is.
fn use_everything(disk: &LossyDisk) {
    if let Ok(reader) = Reader::over(disk.clone()) {
        verify_reader(&reader).unwrap();
    }
    let mut told = 0_u64;
    let mut opened = Journal::open(disk.clone(), options(), Position(0), 0, |_| told += 1).unwrap();
    let reader = opened.journal.reader();
    let report = verify_reader(&reader).unwrap();
    assert_eq!(report.summary.records, told);
    let mut backward = reader.backward(Position(u64::MAX));
    let mut steps = 0_u64;
    while backward.next().unwrap().is_some() {
        steps += 1;
        assert!(steps < 100_000, "a reader comes to an end");
    }
    let mut forward = reader.forward(Position(0));
    while forward.next().unwrap().is_some() {}
    let record = Record { wall_ms: 9, device: 9, sequence: 9, payload: b"after" };
    opened.preallocator.preallocate_once(0);
    if let Ok(end) = opened.journal.append(&record) {
        assert!(opened.flusher.flush_once().unwrap() >= end);
    }
}

/// A disk with three segments, the last one open.
fn written() -> LossyDisk {
    let disk = LossyDisk::new(3, 64 * SEGMENT_BYTES);
    let mut opened = Journal::open(disk.clone(), options(), Position(0), 0, |_| {}).unwrap();
    for sequence in 0..250 {
        let payload = vec![u8::try_from(sequence).unwrap(); 500];
        let record = Record { wall_ms: sequence, device: 1, sequence, payload: &payload };
        if opened.journal.append(&record).is_err() {
            opened.flusher.flush_once().unwrap();
            opened.preallocator.preallocate_once(0);
            opened.journal.append(&record).unwrap();
        }
    }
    opened.flusher.flush_once().unwrap();
    disk
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_record_comes_back(
        seed: u32, position in 0..u64::MAX / 2, wall_ms: u64, device: u64, sequence: u64,
        payload in prop::collection::vec(any::<u8>(), 0..2000), flip: prop::sample::Index,
    ) {
        let record = Record { wall_ms, device, sequence, payload: &payload };
        let header = encode_record_header(seed, position, position, &record);
        let mut bytes = [&header[..], &payload, padding(payload.len())].concat();
        let view = decode_record(seed, position, &bytes).unwrap();
        prop_assert_eq!(view.record, record);
        prop_assert_eq!(view.end().0, position + bytes.len() as u64);
        prop_assert!(decode_record(seed ^ 1, position, &bytes).is_none(), "another epoch");
        prop_assert!(decode_record(seed, position + 8, &bytes).is_none(), "another place");
        prop_assert!(decode_record(seed, position, &bytes[..bytes.len() - 1]).is_none(), "cut short");
        let at = flip.index(bytes.len());
        bytes[at] ^= 0x10;
        prop_assert!(decode_record(seed, position, &bytes).is_none(), "a flipped bit at {at}");
    }

    #[test]
    fn a_header_and_a_trailer_come_back(
        epoch: u64, base in 0..1_u64 << 40, records: u64, earliest_ms: u64, latest_ms: u64, count in 0_u64..17,
    ) {
        let header = SegmentHeader { epoch, base: base * 8, bytes: SEGMENT_BYTES };
        prop_assert_eq!(SegmentHeader::decode(&header.encode()).unwrap(), header);
        let count = count.min(index_entries_max(SEGMENT_BYTES));
        let index = (0..count)
            .map(|place| IndexEntry { position: header.first() + place * 8, latest_before_ms: place })
            .collect();
        let end = header.first() + count * 8;
        let trailer = Trailer { end, summary: Summary { records, earliest_ms, latest_ms }, index };
        let bytes = trailer.encode(&header);
        prop_assert_eq!(Trailer::decode(&header, &bytes).unwrap(), trailer);
    }

    #[test]
    fn any_bytes_are_no_reason_to_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..3000), seed: u32, position: u64, epoch: u64,
    ) {
        let _ = decode_record(seed, position, &bytes);
        let _ = SegmentHeader::decode(&bytes);
        let _ = Trailer::decode(&SegmentHeader { epoch, base: 0, bytes: SEGMENT_BYTES }, &bytes);
        let disk = LossyDisk::new(seed.into(), 64 * SEGMENT_BYTES);
        disk.plant(position, bytes);
        use_everything(&disk);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn any_damage_is_no_reason_to_panic(
        wounds in prop::collection::vec(
            (0_u64..3, any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..200)), 1..6,
        ),
        swap: bool,
    ) {
        let disk = written();
        let files = disk.list().unwrap();
        for (segment, place, bytes) in wounds {
            let file = files[usize::try_from(segment).unwrap()];
            let mut all = disk.view(file).unwrap();
            let at = place.index(all.len());
            let end = (at + bytes.len()).min(all.len());
            all[at..end].copy_from_slice(&bytes[..end - at]);
            if bytes[0] == 0 {
                all.truncate(at);
            }
            disk.plant(file.base, all);
        }
        if swap {
            let (first, second) = (disk.view(files[0]).unwrap(), disk.view(files[1]).unwrap());
            disk.plant(files[0].base, second);
            disk.plant(files[1].base, first);
        }
        use_everything(&disk);
    }
}

#[test]
fn a_forged_header_with_true_checksum_is_no_reason_to_panic() {
    for base in [0, 8, 4096, u64::MAX - SEGMENT_BYTES, u64::MAX - 7] {
        for bytes in [0, 1, 64 * 1024, 1024 * 1024 * 1024, u64::MAX] {
            let header = SegmentHeader { epoch: 1, base, bytes };
            let mut segment = vec![0; usize::try_from(SEGMENT_BYTES).unwrap()];
            segment[..64].copy_from_slice(&header.encode());
            let disk = LossyDisk::new(1, u64::MAX);
            disk.plant(base, segment);
            use_everything(&disk);
        }
    }
}
