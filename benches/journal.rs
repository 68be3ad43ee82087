//! Cost of the journal on this machine's disk: append, flush, recovery; and the way not taken beside it.
//!
//! `cargo bench --bench journal`. The temporary directory must be on a real disk (`TMPDIR`).
#![allow(clippy::unwrap_used, reason = "a bench that can't go on panics")]

use std::fs::OpenOptions;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memmap2::MmapMut;
use muster::journal::layout::{SegmentHeader, encode_record_header, padding, record_bytes};
use muster::journal::{FileStorage, Journal, Opened, Options, Position, Record};

/// Payload of a usual event with its frame.
const PAYLOAD_BYTES: usize = 200;

const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

fn open(directory: &std::path::Path) -> Opened {
    let options = Options { keep_free_bytes: 0, ..Options::server() };
    let storage = FileStorage::open(directory).unwrap();
    Journal::open(storage, options, Position(0), 0, |view| {
        black_box(view);
    })
    .unwrap()
}

fn append(opened: &mut Opened, sequence: u64, payload: &[u8]) {
    let record = Record { wall_ms: 1, device: 1, sequence, payload };
    if opened.journal.append(&record).is_err() {
        opened.flusher.flush_once().unwrap();
        opened.preallocator.preallocate_once(0);
        opened.journal.append(&record).unwrap();
    }
}

fn appends(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    let payload = [7; PAYLOAD_BYTES];
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                let batch = left.min(1000);
                let start = Instant::now();
                for sequence in 0..batch {
                    append(&mut opened, sequence, &payload);
                }
                spent += start.elapsed();
                opened.flusher.flush_once().unwrap();
                opened.preallocator.preallocate_once(0);
                let end = opened.journal.durable();
                opened.journal.delete_before(end).unwrap();
                left -= batch;
            }
            spent
        });
    });
    for in_flight in [1, 64] {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("append+flush/{in_flight} in flight"), |bencher| {
            bencher.iter(|| {
                for sequence in 0..in_flight {
                    append(&mut opened, sequence, &payload);
                }
                opened.flusher.flush_once().unwrap()
            });
        });
    }
    group.finish();
}

/// The way not taken: a shared file map, made durable with msync.
struct SharedMap {
    map: MmapMut,
    header: SegmentHeader,
    at: usize,
}

impl SharedMap {
    fn create(path: &std::path::Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        let length = usize::try_from(SEGMENT_BYTES).unwrap();
        std::io::Write::write_all(&mut &file, &vec![0; length]).unwrap();
        file.sync_all().unwrap();
        // SAFETY: the file was made just now in a directory of its own, and nobody else opens it.
        #[expect(unsafe_code, reason = "the variant that the journal does not use, for comparison")]
        let map = unsafe { MmapMut::map_mut(&file).unwrap() };
        Self { map, header: SegmentHeader { epoch: 1, base: 0, bytes: SEGMENT_BYTES }, at: 4096 }
    }

    fn append(&mut self, sequence: u64, payload: &[u8]) {
        let length = record_bytes(payload.len());
        if self.at + length > self.map.len() {
            self.at = 4096;
        }
        let record = Record { wall_ms: 1, device: 1, sequence, payload };
        let header = encode_record_header(self.header.seed(), self.at as u64, 0, &record);
        for part in [&header[..], payload, padding(payload.len())] {
            self.map[self.at..self.at + part.len()].copy_from_slice(part);
            self.at += part.len();
        }
    }
}

fn msync(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let mut shared = SharedMap::create(&directory.path().join("shared"));
    let payload = [7; PAYLOAD_BYTES];
    let mut group = criterion.benchmark_group("journal");
    for in_flight in [1_u64, 64] {
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("msync variant/{in_flight} in flight"), |bencher| {
            bencher.iter(|| {
                let from = shared.at;
                for sequence in 0..in_flight {
                    shared.append(sequence, &payload);
                }
                let from = if shared.at > from { from } else { 4096 };
                shared.map.flush_range(from, shared.at - from).unwrap();
            });
        });
    }
    group.finish();
}

fn recovery(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let mut opened = open(directory.path());
    let payload = [7; PAYLOAD_BYTES];
    let full = SEGMENT_BYTES - 1024 * 1024;
    let mut sequence = 0;
    while opened.journal.end().0 < full {
        append(&mut opened, sequence, &payload);
        sequence += 1;
    }
    opened.flusher.flush_once().unwrap();
    drop(opened);
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Bytes(full)).sample_size(20);
    group.bench_function("opening a full tail, every record told", |bencher| {
        bencher.iter(|| open(directory.path()));
    });
    group.finish();
}

criterion_group!(journal, appends, msync, recovery);
criterion_main!(journal);
