//! Tasks for the whole of a generated fleet, timed.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster::machine::command::RunsOutcome;
use muster::store::query::{self, PageRequest, RunFilter};
use muster::store::{Store, TaskTime};
use muster::wire::api::{NewTask, TaskDefinition, TaskTargets};
use muster::wire::task::{RunStage, RunUpdate, RunUpdates};

use super::NOW;
use super::shape::{device, for_all};

/// A task for the whole fleet: made, ordered of everybody, told of by everybody, and another one that is
/// cancelled.
pub(crate) fn task_for_all(store: &Store, devices: u64) {
    let new = || NewTask {
        application: "nginx".into(),
        kind: "rotate-logs".into(),
        settings: serde_json::Map::new(),
        definition: TaskDefinition::new(TaskTargets::All),
    };
    let step_all = || {
        let (mut longest, mut called) = (Duration::ZERO, 0);
        loop {
            let start = Instant::now();
            let step = store.tasks().step(TaskTime::certain(NOW)).unwrap();
            longest = longest.max(start.elapsed());
            called += step.devices.len() as u64;
            if !step.has_more {
                return (longest, called);
            }
        }
    };
    let start = Instant::now();
    let created = store.tasks().create(new(), Vec::new(), NOW).unwrap();
    line("task for the whole fleet: made", start.elapsed());
    assert_eq!(created.offered, devices);
    let start = Instant::now();
    let (longest, called) = step_all();
    assert_eq!(called, devices);
    line("    a run for everybody, ordered of its device", start.elapsed());
    line("    the longest transaction of it", longest);
    let filter = RunFilter { task: Some(created.id), ..RunFilter::default() };
    let mut page = PageRequest { limit: 1_000, cursor: None };
    let mut runs = HashMap::new();
    loop {
        let found = query::runs(&store.reader().unwrap(), &filter, &page, NOW).unwrap();
        runs.extend(found.items.iter().map(|row| (row.device_id, row.id)));
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    let took = for_all(store, devices, 1, |number, done| {
        let stages = [RunStage::Accepted, RunStage::Running, RunStage::Succeeded];
        let update = |(serial, stage)| RunUpdate::new(runs[&device(number)], serial, stage);
        let updates = RunUpdates { updates: (1..).zip(stages).map(update).collect() };
        store.tasks().take_runs(device(number), updates, NOW, move |outcome| {
            assert!(matches!(outcome, RunsOutcome::Stored(_)));
            done.fetch_add(1, Ordering::Release);
        });
    });
    let rate = devices as f64 / took.as_secs_f64();
    println!("{:<66} {rate:>10.0} /s", "    runs accepted, begun and ended, durable");
    step_all();
    let cancelled = store.tasks().create(new(), Vec::new(), NOW).unwrap().id;
    step_all();
    let start = Instant::now();
    store.tasks().cancel(cancelled, NOW).unwrap();
    line("    another one: cancelled, final for every run", start.elapsed());
    let start = Instant::now();
    let (longest, called) = step_all();
    assert_eq!(called, devices);
    line("    written down for every run", start.elapsed());
    line("    the longest transaction of it", longest);
}

fn line(what: &str, took: Duration) {
    println!("{what:<66} {:>10.2} ms", took.as_secs_f64() * 1e3);
}
