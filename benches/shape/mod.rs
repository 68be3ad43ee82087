//! The shape of a generated fleet, for benches: 50 kinds of device; each has 200 applications, 160 of them on
//! every kind, and each device differs from its kind in four. And how it gets into a store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use muster::fleet::renewal::Life;
use muster::machine::command::{SectionChange, SectionOutcome, SectionUpdate};
use muster::store::{CreatedToken, DeviceCertificate, Enrolment, NewToken, Store};
use muster::wire::digest::Digest;
use muster::wire::id::{CertificateHash, DeviceId, Epoch};
use muster::wire::section::Section;
use muster::wire::time::WallTime;

/// Applications of a device.
pub(crate) const APPLICATIONS: u64 = 200;

/// Kinds of device.
pub(crate) const KINDS: u64 = 50;
const SHARED_BY_ALL: u64 = 160;

/// A number that looks drawn at random and is the same in every run.
pub(crate) fn spread(number: u64, salt: u64) -> u64 {
    (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17 * salt as u32) >> 20
}

/// Number of devices: `MUSTER_BENCH_DEVICES`, or the one for a bench or for a test.
pub(crate) fn devices(in_bench: u64, in_test: u64) -> u64 {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("MUSTER_BENCH_DEVICES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if is_bench { in_bench } else { in_test })
}

/// The device with this number.
pub(crate) fn device(number: u64) -> DeviceId {
    DeviceId((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The numbers of the applications that the device with this number has; `generation` changes one of them.
pub(crate) fn applications(number: u64, generation: u64) -> Vec<u64> {
    let kind = number % KINDS;
    let own = APPLICATIONS - SHARED_BY_ALL;
    let mut numbers: Vec<u64> =
        (0..SHARED_BY_ALL).chain((0..own).map(|at| 1_000 + kind * own + at)).collect();
    numbers.remove((spread(number, 1) % APPLICATIONS) as usize);
    numbers.remove((spread(number, 2) % (APPLICATIONS - 1)) as usize);
    numbers.extend([10_000 + spread(number, 3) % 1_000, 11_000 + (spread(number, 4) + generation) % 1_000]);
    numbers
}

/// Counts what is durable.
pub(crate) type Done = Arc<AtomicU64>;

/// Hands in work for every device from this many threads, twice as fast as it can be done at most; how long
/// until all of it was durable.
pub(crate) fn for_all(
    store: &Store,
    devices: u64,
    workers: u64,
    each: impl Fn(u64, Done) + Sync,
) -> Duration {
    let (start, done) = (Instant::now(), Done::default());
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (each, done) = (&each, &done);
            scope.spawn(move || {
                for number in (worker..devices).step_by(workers as usize) {
                    // Beyond about 2,000 whole inventories the store's limit on waiting bytes turns them
                    // away.
                    while store.waiting() > 1_000 {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    each(number, Arc::clone(done));
                }
            });
        }
    });
    while done.load(Ordering::Acquire) < devices {
        std::thread::sleep(Duration::from_micros(200));
    }
    start.elapsed()
}

/// A token without limits.
pub(crate) fn token(store: &Store, group: &str) -> CreatedToken {
    let (created_at, expires_at) = (WallTime(1), WallTime(u64::MAX));
    let new =
        NewToken { group: group.into(), created_at, expires_at, uses_max: u32::MAX, ..NewToken::default() };
    store.devices().create_token(new).unwrap()
}

/// Enrols the device with this number.
pub(crate) fn enrol(
    store: &Store,
    token: &CreatedToken,
    number: u64,
    (now, expires_at): (WallTime, Option<WallTime>),
    done: Done,
) {
    let enrolment = Enrolment {
        token: token.token.id,
        secret: token.secret,
        device: device(number),
        name: format!("device-{number:06}"),
        certificate: DeviceCertificate {
            life: expires_at.map(|expires_at| Life { issued_at: now, expires_at }),
            ..DeviceCertificate::first(CertificateHash::of(&number.to_be_bytes()))
        },
        now,
    };
    store.devices().enrol(enrolment, move |outcome| {
        outcome.unwrap();
        done.fetch_add(1, Ordering::Release);
    });
}

/// A section of the device with this number, as it reports it first.
pub(crate) fn update(number: u64, section: Section, digest: Digest, change: SectionChange) -> SectionUpdate {
    let (device, agent_epoch) = (device(number), Epoch(1));
    SectionUpdate { device, section, agent_epoch, revision: 1, digest, base: None, change }
}

/// Stores it.
pub(crate) fn apply(store: &Store, update: SectionUpdate, done: Done) {
    store.inventory().apply(update, move |outcome| {
        assert!(matches!(outcome, SectionOutcome::Stored(_)), "{outcome:?}");
        done.fetch_add(1, Ordering::Release);
    });
}

/// Length of a file, in bytes.
pub(crate) fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// The median and the longest of some runs.
pub(crate) fn latency(what: &str, runs: u32, mut run: impl FnMut() -> usize) {
    let mut times = Vec::new();
    let mut items = 0;
    for _ in 0..runs {
        let start = Instant::now();
        items = run();
        times.push(start.elapsed());
    }
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<66} {median:>10.2?} p50, {longest:.2?} max   ({items} items)");
}
