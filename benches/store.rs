//! The store under a generated fleet: what inventories cost on disk, how fast they are stored durably, how
//! fast questions are answered.
//!
//! 100,000 devices of 50 kinds; each kind has 200 applications (160 of them on every kind), each device
//! differs from its kind in four. `cargo bench --bench store` prints a table. `MUSTER_BENCH_DEVICES` sets
//! another number; run as a test it takes 1,000.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a bench that can't go on panics; its numbers are small"
)]

mod shape;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster::fleet::filter::Filter;
use muster::machine::command::{SectionChange, SectionUpdate};
use muster::store::query::{self, ApplicationFilter, PageRequest};
use muster::store::{FILE_NAME, Moment, Store};
use muster::wire::api::DeviceSort;
use muster::wire::inventory::{Application, InventoryChange, digest_of};
use muster::wire::section::Section;
use muster::wire::time::WallTime;
use shape::{APPLICATIONS, Done, KINDS, file_bytes, for_all, latency};

const WORKERS: u64 = 2;

fn application(number: u64) -> Application {
    Application {
        name: format!("package-{number:06}"),
        version: format!("{}.{}.{}-1", number % 5, number % 11, number % 13),
        publisher: "Debian Maintainers <maintainers@example.org>".into(),
    }
}

/// The applications of the device with this number; `generation` changes one of them.
fn inventory(number: u64, generation: u64) -> Vec<Application> {
    let mut applications: Vec<_> =
        shape::applications(number, generation).into_iter().map(application).collect();
    applications.sort();
    applications
}

fn apply(store: &Store, number: u64, old: Option<&[Application]>, new: &[Application], done: Done) {
    let change = InventoryChange::between(old.unwrap_or_default(), new);
    let update = shape::update(number, Section::Inventory, digest_of(new), SectionChange::Inventory(change));
    let (base, revision) = (old.map(digest_of), 1 + u64::from(old.is_some()));
    shape::apply(store, SectionUpdate { base, revision, ..update }, done);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

fn rate(what: &str, count: u64, took: Duration) {
    println!("{what:<66} {:>10.0} /s   ({count} in {took:.2?})", count as f64 / took.as_secs_f64());
}

fn main() {
    let devices = shape::devices(100_000, 1_000);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let token = shape::token(&store, "/");
    println!("{devices} devices × {APPLICATIONS} applications, {KINDS} kinds, {WORKERS} workers\n");

    let took = for_all(&store, devices, WORKERS, |number, done| {
        shape::enrol(&store, &token, number, (WallTime(2), None), done);
    });
    rate("enrolments, durable", devices, took);
    drop(store);
    let without = file_bytes(&directory.path().join(FILE_NAME));

    let store = Store::open(directory.path()).unwrap();
    let took = for_all(&store, devices, WORKERS, |number, done| {
        apply(&store, number, None, &inventory(number, 0), done);
    });
    rate("whole inventories, durable (generation included)", devices, took);
    drop(store);
    let with = file_bytes(&directory.path().join(FILE_NAME));

    let resident = resident_bytes();
    let start = Instant::now();
    let store = Store::open(directory.path()).unwrap();
    println!("{:<66} {:>10.2?}", "open, device table loaded", start.elapsed());
    let table = resident_bytes().saturating_sub(resident);
    println!("{:<66} {:>10} bytes a device (resident, all of the store)", "memory", table / devices);
    println!("{:<66} {:>10} bytes a device", "file without inventories", without / devices);
    let entries = devices * APPLICATIONS;
    println!(
        "{:<66} {:>10.3} bytes an entry ({:.1} MB)",
        "inventories in the file",
        (with - without) as f64 / entries as f64,
        (with - without) as f64 / 1e6
    );
    let counts = query::counts(&store.reader().unwrap()).unwrap();
    println!("{:<66} {:>10}", "bases", counts.inventory_bases);

    let took = for_all(&store, devices, WORKERS, |number, done| {
        apply(&store, number, Some(&inventory(number, 0)), &inventory(number, 1), done);
    });
    rate("differences of two entries, durable (generation included)", devices, took);
    let counters = store.counters();
    let (commits, operations) =
        (counters.commits.load(Ordering::Relaxed), counters.operations.load(Ordering::Relaxed));
    println!("{:<66} {:>10.1} operations", "batch, mean", operations as f64 / commits.max(1) as f64);

    let copy = directory.path().join("copy");
    let start = Instant::now();
    store.copy(&copy).unwrap();
    println!("{:<66} {:>10.2?}", "copy for a backup, made durable", start.elapsed());
    let start = Instant::now();
    muster::store::seal_copy(&copy).unwrap();
    println!("{:<66} {:>10.2?}", "quick_check, as after an unclean end", start.elapsed());

    let reader = store.reader().unwrap();
    let page = |cursor| PageRequest { limit: 100, cursor };
    let named = |name: String| ApplicationFilter { name: Some(name), ..ApplicationFilter::default() };
    for (what, name) in [
        ("which devices have an application of all, 100", application(5).name),
        ("which devices have an application of one kind, 100", application(1_003).name),
        ("which devices have an application of few, 100", application(10_007).name),
    ] {
        let filter = named(name);
        latency(what, 51, || query::installations(&reader, &filter, &page(None)).unwrap().items.len());
    }
    latency("applications with counts, a page of 100", 51, || {
        query::applications(&reader, &ApplicationFilter::default(), &page(None)).unwrap().items.len()
    });
    let moment = Moment { now: WallTime(u64::MAX), present_since: WallTime(0) };
    let devices_page = |filter: &Filter, cursor| {
        store.selection().page(filter, DeviceSort::default(), moment, &page(cursor)).unwrap()
    };
    let everything = Filter::default();
    latency("devices by name, first page of 100", 51, || devices_page(&everything, None).items.len());
    latency("devices by name, every page of 100", 3, || {
        let (mut items, mut cursor) = (0, None);
        loop {
            let found = devices_page(&everything, cursor);
            items += found.items.len();
            cursor = found.next_cursor;
            if cursor.is_none() {
                return items;
            }
        }
    });
    let rare = format!("{:06}", devices - 1).parse().unwrap();
    latency("devices, a search that finds one", 11, || devices_page(&rare, None).items.len());
}
