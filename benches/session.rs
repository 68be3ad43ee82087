//! Cost of a sync in which nothing changed, and of events, to the server's core: decode, judge, answer. Run:
//! `cargo bench --bench session`.
#![allow(missing_docs, reason = "the macros of criterion make functions without documentation")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use muster::machine::command::Command;
use muster::machine::device_state::DeviceState;
use muster::machine::rate;
use muster::machine::session::{Session, SyncPolicy};
use muster::wire::digest::Digest;
use muster::wire::event::{Event, Severity};
use muster::wire::frame;
use muster::wire::id::{DeviceId, Epoch};
use muster::wire::message::{EventItem, Events, NamedSection, Reach, Sync, SyncReason, ToServer};
use muster::wire::section::{Section, SectionState};
use muster::wire::settings::SETTINGS_SECTION;
use muster::wire::statistics::{Number, Statistic, Statistics};
use muster::wire::task::RUNS_SECTION;
use muster::wire::time::{Moment, Now, WallTime};

const EPOCH: Epoch = Epoch(u64::MAX / 3);

fn policy() -> SyncPolicy {
    SyncPolicy {
        trust_label: 0,
        server_epoch: EPOCH,
        next_seconds: 900,
        interval_seconds: 900,
        keep_seconds: Some(180),
        has_room: true,
        has_fetch_room: true,
        reconnect_seconds: 120,
        later_seconds: muster::machine::session::LATER_SECONDS,
        peer: None,
        notice_port: None,
        event_rate: rate::EventRate::default(),
    }
}

/// Messages of events, from the bytes to the records to append.
fn events(c: &mut Criterion) {
    let body = Event {
        severity: Severity::Info,
        application: "shop".into(),
        kind: "payment.declined".into(),
        message: "The terminal declined a card: the issuer did not answer within eight seconds.".into(),
        occurred_at: WallTime(1_795_514_400_123),
        fields: vec![("terminal".into(), "7".into()), ("amount_cents".into(), "1250".into())],
    }
    .to_bytes()
    .expect("within the limits");
    let policy = policy();
    for count in [1_u64, 64] {
        let items = (1..=count).map(|sequence| EventItem { sequence, body: &body }).collect();
        let mut request = Vec::new();
        ToServer::Events(Events {
            spool_epoch: Epoch(1),
            highest: count,
            items,
            acknowledged: None,
            sent_through: None,
            begins_again: false,
        })
        .write_to(&mut request);
        let mut now = Now { moment: Moment(1_000_000), wall: WallTime(1_795_514_400_123) };
        let mut record = DeviceState::new(DeviceId(1), 900);
        let mut session = Session::new(&now, Some(record.device));
        c.bench_function(&format!("session/{count} events"), |b| {
            b.iter(|| {
                // Three seconds each, so that nothing is held back.
                now.moment.0 += 3_000_000;
                (record.last_sequence, record.last_crc) = (0, 0);
                let mut commands = Vec::new();
                if let Ok(Some((frame, _))) = frame::split(black_box(&request))
                    && let Ok(message) = ToServer::from_body(frame)
                    && session
                        .admit(&now, &mut record, rate::cost_microseconds(Some(&message), frame.len()))
                        .is_ok()
                {
                    session.handle(&now, message, Some(&mut record), &policy, &mut commands);
                }
                let (mut appended, mut bytes) = (0, 0);
                for command in &commands {
                    if let Command::Append { spool_epoch, sequence, crc, body } = command {
                        record.note_appended(*spool_epoch, *sequence, *crc, 0);
                        (appended, bytes) = (appended + 1, bytes + body.len() as u64);
                    }
                }
                session.note_appended(&now, &mut record, policy.event_rate, appended, bytes);
                black_box(commands.len())
            });
        });
        assert_eq!(record.last_sequence, count, "all of them are appended");
    }
}

fn no_change_sync(c: &mut Criterion) {
    let state = SectionState { digest: Digest(0x0123_4567_89ab_cdef), revision: 17 };
    let mut record = DeviceState::new(DeviceId(1), 900);
    record.agent_epoch = EPOCH;
    for section in Section::ALL {
        record.set_section(section, state);
    }
    let sections = Section::ALL.map(|section| NamedSection {
        section: section.number(),
        digest: state.digest,
        revision: state.revision,
        confirmed_revision: None,
    });
    let settings = Digest(0xfedc_ba98_7654_3210);
    record.desired_digest = settings;
    let desired_state = [(SETTINGS_SECTION, settings), (RUNS_SECTION, Digest::EMPTY)]
        .map(|(section, digest)| NamedSection { section, digest, revision: 0, confirmed_revision: None });
    let sync = Sync {
        agent_epoch: EPOCH,
        server_epoch: EPOCH,
        reason: SyncReason::Scheduled,
        clock: WallTime(1_795_514_400_123),
        sections: sections.into_iter().chain(desired_state).collect(),
        reach: Some(Reach {
            udp_port: 15_000,
            wake_counter: 1_795_514_400,
            notice_counter: 16,
            boot: 0xca97_8112,
        }),
        identity: None,
    };
    let mut request = Vec::new();
    ToServer::Sync(sync).write_to(&mut request);
    let policy = policy();
    let now = Now { moment: Moment(1_000_000), wall: WallTime(1_795_514_400_123) };
    let mut session = Session::new(&now, Some(record.device));
    let mut reply = Vec::new();
    c.bench_function("session/no_change_sync", |b| {
        b.iter(|| {
            reply.clear();
            let mut commands = Vec::new();
            if let Ok(Some((body, _))) = frame::split(black_box(&request))
                && let Ok(message) = ToServer::from_body(body)
            {
                session.handle(&now, message, Some(&mut record), &policy, &mut commands);
            }
            for command in &commands {
                if let Command::Send(message) = command {
                    message.write_to(&mut reply);
                }
            }
            black_box(reply.len())
        });
    });
    assert!(!reply.is_empty(), "a sync was answered");
    // An agent's numbers of itself with such a sync: see agent::managed::statistics.
    let own = [
        ("disk_free", "bytes", 61_203.0 * 1_048_576.0),
        ("disk_free_percent", "%", 43.0),
        ("load_1m", "", 0.52),
        ("memory_available", "bytes", 12_345.0 * 1_048_576.0),
        ("spool", "bytes", 65_536.0),
        ("uptime", "seconds", 5_432_100.0),
    ];
    let own = own.map(|(name, unit, value)| Statistic {
        application: "muster-agent".into(),
        name: name.into(),
        unit: unit.into(),
        value: Number(value),
    });
    let mut numbers = Vec::new();
    ToServer::Statistics(Statistics { entries: own.to_vec() }).write_to(&mut numbers);
    println!(
        "the agent's own six numbers, which go up beside a sync that is due: {} bytes, together {}",
        numbers.len(),
        numbers.len() + request.len() + reply.len()
    );
    println!(
        "no-change sync: {} bytes up, {} bytes down, before TLS; session {} bytes, device state {} bytes",
        request.len(),
        reply.len(),
        size_of::<Session>(),
        size_of::<DeviceState>()
    );
}

criterion_group!(benches, no_change_sync, events);
criterion_main!(benches);
