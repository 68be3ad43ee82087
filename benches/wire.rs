//! Cost of turning frames and messages into bytes and back. Run: `cargo bench --bench wire`.
#![allow(missing_docs, reason = "the macros of criterion make functions without documentation")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use muster::wire::digest::Digest;
use muster::wire::event::{Event, Severity};
use muster::wire::frame;
use muster::wire::id::Epoch;
use muster::wire::inventory::{Application, InventoryChange, digest_of};
use muster::wire::message::{
    EventItem, Events, InSync, NamedSection, Part, PartContent, Sync, SyncReason, ToAgent, ToServer,
};
use muster::wire::section::Section;
use muster::wire::time::WallTime;

fn sync() -> ToServer<'static> {
    let sections = Section::ALL.map(|section| NamedSection {
        section: section.number(),
        digest: Digest(0x0123_4567_89ab_cdef),
        revision: 17,
        confirmed_revision: None,
    });
    ToServer::Sync(Sync {
        agent_epoch: Epoch(u64::MAX / 3),
        server_epoch: Epoch(u64::MAX / 5),
        reason: SyncReason::Scheduled,
        clock: WallTime(1_795_514_400_123),
        sections: sections.to_vec(),
        reach: None,
        identity: None,
    })
}

fn applications(count: usize) -> Vec<Application> {
    (0..count)
        .map(|number| Application {
            name: format!("library-number-{number:05}"),
            version: format!("{}.{}.{}-1+deb12u1", number % 7, number % 13, number % 29),
            publisher: "Maintainers of the distribution <packages@distribution.example>".into(),
        })
        .collect()
}

fn framed(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

fn body(bytes: &[u8]) -> &[u8] {
    frame::split(bytes).expect("a sound length").expect("a whole frame").0
}

fn a_sync_in_which_nothing_changed(c: &mut Criterion) {
    let request = framed(|out| sync().write_to(out));
    let answer = ToAgent::InSync(InSync {
        server_epoch: Epoch(u64::MAX / 5),
        next_seconds: 913,
        interval_seconds: 900,
        keep_seconds: None,
        notice_port: None,
        notice_counter: None,
        reconnect_seconds: None,
    });
    let answer_bytes = framed(|out| answer.write_to(out));
    println!("no-change sync: {} bytes up, {} bytes down", request.len(), answer_bytes.len());
    c.bench_function("sync/decode", |b| b.iter(|| ToServer::from_body(black_box(body(&request))).is_ok()));
    let mut out = Vec::with_capacity(256);
    c.bench_function("in_sync/encode", |b| {
        b.iter(|| {
            out.clear();
            black_box(&answer).write_to(&mut out);
            out.len()
        });
    });
}

fn events(c: &mut Criterion) {
    let event = Event {
        severity: Severity::Warning,
        application: "shop".into(),
        kind: "payment.declined".into(),
        message: "The terminal declined a card: the issuer did not answer within eight seconds.".into(),
        occurred_at: WallTime(1_795_514_400_123),
        fields: vec![("terminal".into(), "7".into()), ("amount_cents".into(), "1250".into())],
    };
    let encoded = event.to_bytes().expect("within the limits");
    let items: Vec<EventItem<'_>> = (1..=64).map(|sequence| EventItem { sequence, body: &encoded }).collect();
    let message = ToServer::Events(Events {
        spool_epoch: Epoch(1),
        highest: 64,
        items,
        acknowledged: None,
        sent_through: None,
        begins_again: false,
    });
    let bytes = framed(|out| message.write_to(out));
    println!("one event: {} bytes; a message of 64: {} bytes", encoded.len(), bytes.len());
    c.bench_function("event/encode", |b| b.iter(|| black_box(&event).to_bytes().is_ok()));
    c.bench_function("event/decode", |b| b.iter(|| Event::from_bytes(black_box(&encoded)).is_ok()));
    let mut group = c.benchmark_group("events of 64");
    group.throughput(Throughput::Elements(64));
    group.bench_function("decode", |b| b.iter(|| ToServer::from_body(black_box(body(&bytes))).is_ok()));
    group.finish();
}

fn inventories(c: &mut Criterion) {
    let old = applications(500);
    let mut new = old.clone();
    new[250].version = "9.9".into();
    new.sort();
    let mut group = c.benchmark_group("inventory of 500");
    group.throughput(Throughput::Elements(500));
    group.bench_function("digest", |b| b.iter(|| digest_of(black_box(&old))));
    group.bench_function("difference", |b| {
        b.iter(|| InventoryChange::between(black_box(&old), black_box(&new)));
    });
    let part = ToServer::Part(Box::new(Part {
        section: Section::Inventory,
        revision: 1,
        digest: digest_of(&old),
        base: None,
        index: 0,
        is_last: true,
        content: PartContent { added: old.clone(), ..PartContent::default() },
    }));
    let bytes = framed(|out| part.write_to(out));
    group.bench_function("decode a part", |b| {
        b.iter(|| ToServer::from_body(black_box(body(&bytes))).is_ok());
    });
    group.finish();
}

criterion_group!(benches, a_sync_in_which_nothing_changed, events, inventories);
criterion_main!(benches);
