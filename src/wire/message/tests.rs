use proptest::prelude::*;

use super::*;
use crate::wire::artifact::{Artifact, ArtifactPart, Fetch};
use crate::wire::datagram::NoticeKind;
use crate::wire::digest::Digest;
use crate::wire::frame;
use crate::wire::id::{ArtifactHash, DeviceId, Epoch, RunId, TokenId};
use crate::wire::inventory::tests::any_inventory;
use crate::wire::section::{ApplicationCondition, Condition, HostFacts, Section};
use crate::wire::settings::{Drift, SettingsOrder, SettingsReport, SettingsState};
use crate::wire::statistics::{Number, Statistic, Statistics};
use crate::wire::task::{RunAck, RunList, RunOrder, RunOutput, RunStage, RunUpdate, RunUpdates, RunsStored};
use crate::wire::time::WallTime;

fn any_section() -> impl Strategy<Value = Section> {
    prop::sample::select(&Section::ALL[..])
}

fn any_condition() -> impl Strategy<Value = ApplicationCondition> {
    let conditions = [Condition::Unknown, Condition::Running, Condition::Stopped, Condition::Failed];
    (prop::sample::select(conditions.to_vec()), "\\PC{0,20}", any::<u64>(), "\\PC{0,20}").prop_map(
        |(condition, application, since, detail)| ApplicationCondition {
            application,
            condition,
            since: WallTime(since),
            version: "1.0".into(),
            detail,
            settings: since.is_multiple_of(2).then(|| SettingsReport {
                revision: since,
                digest: Digest(since),
                state: SettingsState::Failed,
                applied_revision: 1,
                since: WallTime(since),
                detail: "line 3".into(),
            }),
        },
    )
}

fn any_content() -> impl Strategy<Value = PartContent> {
    let host =
        prop::option::of("\\PC{0,20}".prop_map(|hostname| HostFacts { hostname, ..HostFacts::default() }));
    let removed = prop::collection::vec(any::<u64>().prop_map(Digest), 0..5);
    (any_inventory(), removed, host, prop::collection::vec(any_condition(), 0..4))
        .prop_map(|(added, removed, host, conditions)| PartContent { added, removed, host, conditions })
}

fn any_to_server() -> impl Strategy<Value = ToServer<'static>> {
    let named = (1u32..9, any::<u64>(), any::<u64>(), any::<Option<u64>>()).prop_map(
        |(section, digest, revision, confirmed_revision)| NamedSection {
            section,
            digest: Digest(digest),
            revision,
            confirmed_revision,
        },
    );
    let sync = (any::<u64>(), any::<u64>(), prop::collection::vec(named, 0..5)).prop_map(
        |(epoch, clock, sections)| {
            ToServer::Sync(Sync {
                agent_epoch: Epoch(epoch),
                server_epoch: Epoch(!epoch),
                reason: SyncReason::Changed,
                clock: WallTime(clock),
                sections,
                reach: clock.is_multiple_of(2).then_some(Reach {
                    udp_port: 15_000,
                    wake_counter: 7,
                    notice_counter: 8,
                    boot: 9,
                }),
                identity: clock
                    .is_multiple_of(3)
                    .then_some(SyncIdentity { trust_label: clock, machine: epoch }),
            })
        },
    );
    let enrol = (any::<u64>(), any::<[u8; 24]>(), prop::collection::vec(any::<u8>(), 0..300), "\\PC{0,30}")
        .prop_map(|(token, secret, request, name)| {
            ToServer::Enrol(Enrol { token: TokenId(token), secret, request, name })
        });
    let part =
        (any_section(), any::<u64>(), any::<Option<u64>>(), any::<u32>(), any::<bool>(), any_content())
            .prop_map(|(section, revision, base, index, is_last, content)| {
                ToServer::Part(Box::new(Part {
                    section,
                    revision,
                    digest: Digest(revision),
                    base: base.map(Digest),
                    index,
                    is_last,
                    content,
                }))
            });
    let events = (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 0..5)).prop_map(
        |(epoch, highest, sequences)| {
            let items = sequences.into_iter().map(|sequence| EventItem { sequence, body: b"\xa0" }).collect();
            let acknowledged = highest.checked_sub(7);
            ToServer::Events(Events {
                spool_epoch: Epoch(epoch),
                highest,
                items,
                acknowledged,
                sent_through: None,
                begins_again: epoch.is_multiple_of(2),
            })
        },
    );
    let ping = any::<Option<u32>>().prop_map(|next_seconds| ToServer::Ping(Ping { next_seconds }));
    let goodbye = (prop::sample::select(NoticeKind::ALL.to_vec()), any::<u32>(), any::<u32>())
        .prop_map(|(kind, counter, boot)| ToServer::Goodbye(Goodbye { kind, counter, boot }));
    let probe = any::<u16>().prop_map(|udp_port| ToServer::Probe(Probe { udp_port }));
    let statistics =
        prop::collection::vec(("[ab]", "\\PC{0,20}", "|bytes|km", any::<f64>()), 0..5).prop_map(|entries| {
            let entries = entries.into_iter().map(|(application, name, unit, value)| Statistic {
                application,
                name,
                unit,
                value: Number(value),
            });
            ToServer::Statistics(Statistics { entries: entries.collect() })
        });
    let renew =
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|request| ToServer::Renew(Renew { request }));
    let runs =
        prop::collection::vec(any_update(), 0..4).prop_map(|updates| ToServer::Runs(RunUpdates { updates }));
    let fetch = (any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(hash, offset)| ToServer::Fetch(Fetch { hash: ArtifactHash(hash), offset }));
    prop_oneof![enrol, sync, part, events, ping, goodbye, probe, statistics, runs, renew, fetch]
}

fn any_update() -> impl Strategy<Value = RunUpdate> {
    let stages = vec![RunStage::Accepted, RunStage::Failed, RunStage::NotNow, RunStage::Unknown];
    let output = prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)));
    (any::<u64>(), prop::sample::select(stages), any::<Option<i32>>(), output).prop_map(
        |(run, stage, exit_code, output)| RunUpdate {
            run: RunId(run),
            serial: 7,
            stage,
            progress_percent: exit_code.map(|_| 40),
            exit_code,
            message: "copying".into(),
            again_seconds: exit_code.map(|_| 600),
            output: output.map(|(is_tail, bytes)| RunOutput { is_tail, bytes, omitted_bytes: run }),
        },
    )
}

fn any_to_agent() -> impl Strategy<Value = ToAgent> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (any::<u64>(), "\\PC{0,30}", bytes(), prop::collection::vec(bytes(), 0..4), any::<[u8; 32]>())
            .prop_map(|(device, name, certificate, pins, key)| ToAgent::Enrolled(Box::new(Enrolled {
                device: DeviceId(device),
                name,
                certificate,
                pins,
                wake_key: key,
                notice_key: key.map(|byte| !byte),
                trust_label: 5,
                voucher_floor: 6,
                is_waiting: true,
            }))),
        (any::<u64>(), any::<u32>(), any::<Option<u32>>()).prop_map(|(epoch, next_seconds, keep_seconds)| {
            ToAgent::InSync(InSync {
                server_epoch: Epoch(epoch),
                next_seconds,
                interval_seconds: 900,
                keep_seconds,
                notice_port: keep_seconds.map(|_| 13_000),
                notice_counter: keep_seconds,
                reconnect_seconds: keep_seconds,
            })
        }),
        any::<bool>().prop_map(|is_fresh| ToAgent::SyncNow(SyncNow { is_fresh })),
        (any::<u64>(), any::<u32>(), any::<Option<u32>>(), "\\PC{0,30}").prop_map(
            |(clock, notice_counter, wake_counter, address)| {
                let clock = WallTime(clock);
                let notice_port = wake_counter.map(|_| 1);
                ToAgent::Probed(Probed { clock, notice_counter, wake_counter, address, notice_port })
            }
        ),
        prop::collection::vec((any_section(), any::<Option<u64>>()), 0..4).prop_map(|sections| {
            let sections = sections.into_iter();
            ToAgent::Want(Want {
                sections: sections
                    .map(|(section, base)| WantedSection { section, base: base.map(Digest) })
                    .collect(),
            })
        }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(epoch, through)| ToAgent::Ack(Ack { spool_epoch: Epoch(epoch), through })),
        (any::<u64>(), any::<u64>())
            .prop_map(|(epoch, after)| ToAgent::Resend(Resend { spool_epoch: Epoch(epoch), after })),
        Just(ToAgent::RenewNow),
        bytes().prop_map(|certificate| ToAgent::Renewed(Renewed { certificate })),
        (any::<u64>(), prop::collection::vec(bytes(), 0..4), any::<u32>(), any::<[u8; 32]>()).prop_map(
            |(label, pins, voucher_floor, key)| ToAgent::Trust(Box::new(Trust {
                label,
                pins,
                voucher_floor,
                wake_key: key,
                notice_key: key,
            }))
        ),
        (any::<u64>(), any::<[u8; 24]>())
            .prop_map(|(token, secret)| ToAgent::Fork(Fork { token: TokenId(token), secret })),
        (any::<u32>(), any::<bool>())
            .prop_map(|(seconds, only_events)| ToAgent::Later(Later { seconds, only_events })),
        Just(ToAgent::Pong),
        ("\\PC{0,30}", any::<u64>(), any::<Option<bool>>()).prop_map(|(application, revision, settings)| {
            let settings = settings.map(|value| format!("{{\"a\":{value}}}"));
            let order = SettingsOrder { application, revision, settings, drift: Drift::Report };
            ToAgent::Settings(Box::new(order))
        }),
        (any::<u64>(), any::<u32>(), any::<bool>()).prop_map(|(run, timeout_seconds, may_repeat)| {
            ToAgent::Run(Box::new(RunOrder {
                run: RunId(run),
                application: "nginx".into(),
                kind: "restart".into(),
                settings: "{}".into(),
                timeout_seconds,
                start_within_seconds: 5,
                may_repeat,
                artifact: may_repeat.then(|| Artifact {
                    hash: ArtifactHash([run.to_le_bytes()[0]; 32]),
                    bytes: run >> 32,
                    name: "firmware.bin".into(),
                    signature: (run % 2 == 0).then(|| "untrusted comment".into()),
                }),
            }))
        }),
        prop::collection::vec(any::<u64>().prop_map(RunId), 0..9)
            .prop_map(|runs| ToAgent::Runs(RunList { runs })),
        prop::collection::vec((any::<u64>(), any::<u32>()), 0..9).prop_map(|acks| {
            let acks = acks.into_iter().map(|(run, serial)| RunAck { run: RunId(run), serial });
            ToAgent::RunsStored(RunsStored { acks: acks.collect() })
        }),
        (any::<[u8; 32]>(), any::<u64>(), bytes(), any::<Option<u32>>(), any::<Option<bool>>()).prop_map(
            |(hash, offset, bytes, again_seconds, refusal)| {
                let (hash, refusal) = (ArtifactHash(hash), refusal.map(|said| said.to_string()));
                ToAgent::ArtifactPart(ArtifactPart { hash, offset, bytes, again_seconds, refusal })
            }
        ),
        "\\PC{0,100}"
            .prop_map(|message| ToAgent::Error(ErrorReport { code: ErrorCode::TokenExpired, message })),
    ]
}

fn body_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    let (body, whole) = frame::split(&bytes).unwrap().unwrap();
    assert_eq!(whole, bytes.len());
    body.to_vec()
}

proptest! {
    #[test]
    fn a_message_to_the_server_survives_its_bytes(message in any_to_server()) {
        let body = body_of(|out| message.write_to(out));
        prop_assert_eq!(ToServer::from_body(&body), Ok(message));
    }

    #[test]
    fn a_message_to_the_agent_survives_its_bytes(message in any_to_agent()) {
        let body = body_of(|out| message.write_to(out));
        prop_assert_eq!(ToAgent::from_body(&body), Ok(message));
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ToServer::from_body(&bytes);
        let _ = ToAgent::from_body(&bytes);
    }

    #[test]
    fn a_flipped_byte_is_a_message_or_an_error(message in any_to_server(), at: prop::sample::Index, to: u8) {
        let mut body = body_of(|out| message.write_to(out));
        let at = at.index(body.len());
        body[at] = to;
        let _ = ToServer::from_body(&body);
        let _ = ToAgent::from_body(&body);
    }
}

#[test]
fn an_unknown_kind_is_named_and_unknown_keys_are_ignored() {
    // [99, {}]
    assert_eq!(ToServer::from_body(&[0x82, 0x18, 99, 0xa0]), Err(MessageError::UnknownKind(99)));
    // [36, {0: 7, 1: 8, 200: "new"}]
    let body = [&[0x82, 0x18, 36, 0xa3, 0, 7, 1, 8, 0x18, 200, 0x63][..], b"new"].concat();
    assert_eq!(ToAgent::from_body(&body), Ok(ToAgent::Ack(Ack { spool_epoch: Epoch(7), through: 8 })));
}

#[test]
fn what_follows_a_message_is_refused() {
    assert_eq!(
        ToServer::from_body(&[0x82, 5, 0xa0, 0]),
        Err(MessageError::Malformed("1 bytes after the message".into()))
    );
}

#[test]
fn a_list_that_announces_more_than_it_brings_allocates_nothing() {
    // [4, {0: 1, 1: 1, 2: array of 2^32 entries}]
    let body = [0x82, 4, 0xa3, 0, 1, 1, 1, 2, 0x9b, 0, 0, 0, 1, 0, 0, 0, 0];
    let error = ToServer::from_body(&body).unwrap_err().to_string();
    assert!(error.contains("list of 4294967296 entries, at most 512 are allowed"), "{error}");
}

/// Design section 5: at most 300 bytes of TLS payload in total, both ways.
#[test]
fn a_sync_in_which_nothing_changed_stays_below_its_budget() {
    let sections = Section::ALL.map(|section| NamedSection {
        section: section.number(),
        digest: Digest(u64::MAX),
        revision: u64::from(u32::MAX),
        confirmed_revision: None,
    });
    // Agents name what they were ordered as well.
    let desired_state = [4, 5].map(|section| NamedSection {
        section,
        digest: Digest(u64::MAX),
        revision: 0,
        confirmed_revision: None,
    });
    let mut bytes = Vec::new();
    ToServer::Sync(Sync {
        agent_epoch: Epoch(u64::MAX),
        server_epoch: Epoch(u64::MAX),
        reason: SyncReason::Scheduled,
        clock: WallTime(1_795_514_400_123),
        sections: sections.into_iter().chain(desired_state).collect(),
        reach: Some(Reach {
            udp_port: u16::MAX,
            wake_counter: u32::MAX,
            notice_counter: u32::MAX,
            boot: u32::MAX,
        }),
        identity: None,
    })
    .write_to(&mut bytes);
    ToAgent::InSync(InSync {
        server_epoch: Epoch(u64::MAX),
        next_seconds: 86_400,
        interval_seconds: 86_400,
        notice_port: Some(u16::MAX),
        notice_counter: None,
        reconnect_seconds: Some(900),
        keep_seconds: Some(86_400),
    })
    .write_to(&mut bytes);
    assert!(bytes.len() <= 190, "{} bytes", bytes.len());
}
