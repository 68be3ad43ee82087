//! `src/wire/muster.cddl` is what others write agents from: real messages are checked against it.
//!
//! With `MUSTER_WIRE_DUMP` set to a directory, each message's body is written there for an independent
//! decoder to read.

mod schema;

use muster::wire::artifact::{Artifact, ArtifactPart, ArtifactUse, Fetch};
use muster::wire::datagram::NoticeKind;
use muster::wire::digest::Digest;
use muster::wire::event::{Event, Severity};
use muster::wire::frame;
use muster::wire::id::{ArtifactHash, DeviceId, Epoch, RunId, TokenId};
use muster::wire::inventory::Application;
use muster::wire::message::{
    Ack, Enrol, Enrolled, ErrorCode, ErrorReport, EventItem, Events, Fork, Goodbye, InSync, Later,
    NamedSection, Part, PartContent, Ping, Probe, Probed, Reach, Renew, Renewed, Resend, Sync, SyncIdentity,
    SyncNow, SyncReason, ToAgent, ToServer, Trust, Want, WantedSection,
};
use muster::wire::section::{ApplicationCondition, Condition, HostFacts, Section};
use muster::wire::settings::{Declaration, Drift, SettingsOrder, SettingsReport, SettingsState, TaskKind};
use muster::wire::statistics::{Number, Statistic, Statistics};
use muster::wire::task::{RunAck, RunList, RunOrder, RunOutput, RunStage, RunUpdate, RunUpdates, RunsStored};
use muster::wire::time::WallTime;

use schema::{Schema, Value, decode};

const CDDL: &str = include_str!("../../../src/wire/muster.cddl");
const LARGE: u64 = u64::MAX;

fn event(fields: Vec<(String, String)>) -> Vec<u8> {
    let event = Event {
        severity: Severity::Critical,
        application: "backup".into(),
        kind: "backup.failed".into(),
        message: "the disk is full ☹".into(),
        occurred_at: WallTime(1_795_514_400_123),
        fields,
    };
    event.to_bytes().unwrap()
}

fn part(base: Option<Digest>, content: PartContent) -> ToServer<'static> {
    let (section, revision, digest) = (Section::Inventory, LARGE, Digest(LARGE));
    ToServer::Part(Box::new(Part { section, revision, digest, base, index: 3, is_last: true, content }))
}

fn conditions() -> Vec<ApplicationCondition> {
    use Condition::{Failed, NotInstalled, Running, Stopped, Unknown};
    let all = [Unknown, Running, Stopped, Failed, NotInstalled];
    all.map(|condition| ApplicationCondition {
        application: "nginx".into(),
        condition,
        since: WallTime(1),
        version: String::new(),
        detail: "exit code 1".into(),
        settings: (condition == Running).then(|| SettingsReport {
            revision: LARGE,
            digest: Digest(LARGE),
            state: SettingsState::Drifted,
            applied_revision: 0,
            since: WallTime(2),
            detail: "line 3 was changed".into(),
        }),
    })
    .to_vec()
}

fn declaration() -> Declaration {
    let kind = TaskKind {
        kind: "restart".into(),
        schema: "{}".into(),
        timeout_seconds: 60,
        is_repeatable: false,
        artifact: ArtifactUse::Signed,
    };
    Declaration {
        application: "nginx".into(),
        takes_settings: true,
        settings_schema: String::new(),
        kinds: vec![kind],
    }
}

fn artifact() -> Artifact {
    let signature = Some("untrusted comment: signature".into());
    Artifact { hash: ArtifactHash([9; 32]), bytes: 4 << 30, name: "firmware.bin".into(), signature }
}

fn artifact_part(bytes: Vec<u8>, again_seconds: Option<u32>, refusal: Option<String>) -> ToAgent {
    let hash = ArtifactHash([9; 32]);
    ToAgent::ArtifactPart(ArtifactPart { hash, offset: LARGE, bytes, again_seconds, refusal })
}

fn run_updates() -> RunUpdates {
    let update = |stage, exit_code: Option<i32>, output| RunUpdate {
        run: RunId(LARGE),
        serial: u32::MAX,
        stage,
        progress_percent: exit_code.map(|_| 100),
        exit_code,
        message: "copying".into(),
        again_seconds: exit_code.map(|_| 600),
        output,
    };
    let output = RunOutput { is_tail: true, bytes: vec![0xff; 300], omitted_bytes: LARGE };
    let updates = vec![
        update(RunStage::Accepted, None, None),
        update(RunStage::Failed, Some(-9), Some(output)),
        update(RunStage::Unknown, Some(i32::MAX), None),
    ];
    RunUpdates { updates }
}

/// Bodies of messages of every kind, with and without each optional part.
fn bodies() -> Vec<Vec<u8>> {
    let sync = |sections: Vec<NamedSection>, reach: Option<Reach>| {
        ToServer::Sync(Sync {
            agent_epoch: Epoch(LARGE),
            server_epoch: Epoch(0),
            reason: SyncReason::Reconnected,
            clock: WallTime(1_795_514_400_123),
            sections,
            reach,
            identity: reach.map(|_| SyncIdentity { trust_label: LARGE, machine: 1 }),
        })
    };
    let reach = Reach { udp_port: u16::MAX, wake_counter: u32::MAX, notice_counter: 1, boot: 2 };
    let named = |confirmed_revision| NamedSection {
        section: Section::Host.number(),
        digest: Digest(LARGE),
        revision: 7,
        confirmed_revision,
    };
    let application = Application { name: "bash".into(), version: "5.2-1".into(), publisher: String::new() };
    let host = HostFacts {
        addresses: vec!["192.0.2.1".into()],
        declarations: vec![declaration()],
        ..HostFacts::default()
    };
    let (plain, with_fields) = (event(vec![]), event(vec![("disk".into(), "sdb".into())]));
    let items =
        vec![EventItem { sequence: 1, body: &plain }, EventItem { sequence: LARGE, body: &with_fields }];
    let whole = PartContent {
        added: vec![application],
        removed: vec![Digest(LARGE)],
        host: Some(host),
        conditions: conditions(),
    };
    let statistics =
        [("requests", "requests/s", -0.125), ("sent", "bytes", -3.0), ("load", "", 0.1), ("way", "km", 4e9)];
    let events = |acknowledged| {
        ToServer::Events(Events {
            spool_epoch: Epoch(LARGE),
            highest: LARGE,
            items: items.clone(),
            acknowledged,
            sent_through: acknowledged,
            begins_again: acknowledged.is_some(),
        })
    };
    let to_server = [
        ToServer::Enrol(Enrol {
            token: TokenId(LARGE),
            secret: [7; 24],
            request: vec![0x30; 300],
            name: "kiosk-17".into(),
        }),
        sync(vec![], None),
        sync(vec![named(None), named(Some(6))], Some(reach)),
        part(None, PartContent::default()),
        part(Some(Digest(1)), whole),
        events(None),
        events(Some(LARGE)),
        ToServer::Ping(Ping { next_seconds: None }),
        ToServer::Ping(Ping { next_seconds: Some(300) }),
        ToServer::Goodbye(Goodbye { kind: NoticeKind::Suspend, counter: u32::MAX, boot: 1 }),
        ToServer::Probe(Probe { udp_port: 15_000 }),
        ToServer::Runs(run_updates()),
        ToServer::Renew(Renew { request: vec![0x30; 300] }),
        ToServer::Fetch(Fetch { hash: ArtifactHash([9; 32]), offset: LARGE }),
        ToServer::Statistics(Statistics {
            entries: statistics
                .map(|(name, unit, value)| Statistic {
                    application: "nginx".into(),
                    name: name.into(),
                    unit: unit.into(),
                    value: Number(value),
                })
                .to_vec(),
        }),
    ];
    let in_sync = |keep_seconds| {
        ToAgent::InSync(InSync {
            server_epoch: Epoch(1),
            next_seconds: u32::MAX,
            interval_seconds: 900,
            keep_seconds,
            notice_port: keep_seconds.map(|_| 13_000),
            notice_counter: keep_seconds,
            reconnect_seconds: keep_seconds,
        })
    };
    let mut to_agent = vec![
        ToAgent::Enrolled(Box::new(Enrolled {
            device: DeviceId(LARGE),
            name: "kiosk-17".into(),
            certificate: vec![0x30; 400],
            pins: vec![vec![0x30; 400]; 2],
            wake_key: [1; 32],
            notice_key: [2; 32],
            trust_label: LARGE,
            voucher_floor: 1,
            is_waiting: false,
        })),
        ToAgent::RenewNow,
        ToAgent::Renewed(Renewed { certificate: vec![0x30; 400] }),
        ToAgent::Trust(Box::new(Trust {
            label: LARGE,
            pins: vec![vec![0x30; 400]; 3],
            voucher_floor: u32::MAX,
            wake_key: [1; 32],
            notice_key: [2; 32],
        })),
        ToAgent::Fork(Fork { token: TokenId(LARGE), secret: [7; 24] }),
        in_sync(None),
        in_sync(Some(300)),
        ToAgent::Want(Want {
            sections: vec![
                WantedSection { section: Section::Inventory, base: Some(Digest(LARGE)) },
                WantedSection { section: Section::Conditions, base: None },
            ],
        }),
        ToAgent::Ack(Ack { spool_epoch: Epoch(LARGE), through: LARGE }),
        ToAgent::Resend(Resend { spool_epoch: Epoch(LARGE), after: LARGE }),
        ToAgent::Later(Later::with_all(30)),
        ToAgent::Later(Later::with_events(30)),
        ToAgent::Pong,
        ToAgent::SyncNow(SyncNow { is_fresh: true }),
        ToAgent::Probed(Probed {
            clock: WallTime(LARGE),
            notice_counter: 3,
            wake_counter: Some(u32::MAX),
            address: "192.0.2.7".into(),
            notice_port: Some(13_000),
        }),
        ToAgent::Run(Box::new(RunOrder {
            run: RunId(LARGE),
            application: "nginx".into(),
            kind: "restart".into(),
            settings: "{}".into(),
            timeout_seconds: 600,
            start_within_seconds: u32::MAX,
            may_repeat: false,
            artifact: Some(artifact()),
        })),
        artifact_part(Vec::new(), Some(60), Some("gone".into())),
        artifact_part(vec![7; 300], None, None),
        ToAgent::Runs(RunList { runs: vec![RunId(1), RunId(LARGE)] }),
        ToAgent::RunsStored(RunsStored { acks: vec![RunAck { run: RunId(LARGE), serial: u32::MAX }] }),
    ];
    to_agent.extend([Some("{}"), None].map(|settings| {
        ToAgent::Settings(Box::new(SettingsOrder {
            application: "nginx".into(),
            revision: LARGE,
            settings: settings.map(str::to_owned),
            drift: Drift::Report,
        }))
    }));
    let codes = [ErrorCode::Malformed, ErrorCode::TokenExpired, ErrorCode::CertificateSuperseded];
    to_agent.extend(codes.map(|code| ToAgent::Error(ErrorReport { code, message: "why".into() })));
    let mut frames = Vec::new();
    to_server.iter().for_each(|message| message.write_to(&mut frames));
    to_agent.iter().for_each(|message| message.write_to(&mut frames));
    let mut bodies = Vec::new();
    while let Some((body, whole)) = frame::split(&frames).unwrap() {
        bodies.push(body.to_vec());
        frames.drain(..whole);
    }
    bodies
}

fn whole(bytes: &[u8]) -> Value {
    let (value, rest) = decode(bytes);
    assert!(rest.is_empty(), "{} bytes after the value", rest.len());
    value
}

#[test]
fn every_message_is_what_the_description_says() {
    let schema = Schema::parse(CDDL);
    let bodies = bodies();
    for body in &bodies {
        let value = whole(body);
        assert!(schema.allows("message", &value), "{value:?}");
    }
    for event in [event(vec![]), event(vec![("disk".into(), "sdb".into())])] {
        assert!(schema.allows("event", &whole(&event)));
    }
    assert_eq!(schema.unused(), Vec::<&str>::new(), "described, but met in no message");
    if let Some(directory) = std::env::var_os("MUSTER_WIRE_DUMP") {
        for (index, body) in bodies.iter().enumerate() {
            let name = format!("message-{index:02}.cbor");
            std::fs::write(std::path::Path::new(&directory).join(name), body).unwrap();
        }
    }
}

/// A description that allows everything would pass the test above.
#[test]
fn a_message_that_is_changed_in_kind_or_key_is_no_longer_allowed() {
    let schema = Schema::parse(CDDL);
    for body in bodies() {
        let Value::Array(message) = whole(&body) else { panic!("a message is an array") };
        let (Value::Unsigned(kind), Value::Map(pairs)) = (&message[0], &message[1]) else {
            panic!("kind and map")
        };
        let allows = |kind: u64, pairs: Vec<(Value, Value)>| {
            schema.allows("message", &Value::Array(vec![Value::Unsigned(kind), Value::Map(pairs)]))
        };
        assert!(!allows(99, pairs.clone()), "an unknown kind");
        for (at, (key, _)) in pairs.iter().enumerate() {
            let mut wrong = pairs.clone();
            wrong[at].1 = Value::Bool(true);
            // The keys that are bools.
            if !matches!(
                (*kind, key),
                (3 | 4, Value::Unsigned(5))
                    | (37, Value::Unsigned(1))
                    | (40, Value::Unsigned(0))
                    | (43, Value::Unsigned(6))
            ) {
                assert!(!allows(*kind, wrong), "kind {kind} with a bool as {key:?}");
            }
            let mut twice = pairs.clone();
            twice[at].0 = Value::Text("name".into());
            assert!(!allows(*kind, twice), "kind {kind} with a text as key");
        }
        let mut newer = pairs.clone();
        newer.push((Value::Unsigned(200), Value::Text("new".into())));
        assert!(allows(*kind, newer), "kind {kind} with a key that is not known yet");
    }
}

#[test]
fn the_checker_finds_what_is_missing_too_long_and_too_many() {
    let schema = Schema::parse(
        "x = {0: uint, ? 1: name, * uint => any}\nname = tstr .size (0..3)\ny = [* 1..2, ? null]",
    );
    let map = |pairs: &[(u64, Value)]| {
        Value::Map(pairs.iter().map(|(key, value)| (Value::Unsigned(*key), value.clone())).collect())
    };
    let (one, text) = (Value::Unsigned(1), |text: &str| Value::Text(text.into()));
    assert!(schema.allows("x", &map(&[(0, one.clone()), (1, text("abc")), (7, Value::Null)])));
    assert!(!schema.allows("x", &map(&[(1, text("abc"))])), "a required key is missing");
    assert!(!schema.allows("x", &map(&[(0, one.clone()), (1, text("abcd"))])), "too long");
    assert!(!schema.allows("x", &map(&[(0, one.clone()), (0, one.clone())])), "a key twice");
    assert!(schema.allows("y", &Value::Array(vec![one.clone(), one.clone(), Value::Null])));
    assert!(!schema.allows("y", &Value::Array(vec![Value::Unsigned(3)])), "out of range");
    assert!(!schema.allows("y", &Value::Array(vec![Value::Null, one])), "out of order");
}
