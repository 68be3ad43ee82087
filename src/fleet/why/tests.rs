use super::*;
use crate::wire::api::Waiting;
use crate::wire::digest::Digest;
use crate::wire::settings::{SettingsReport, SettingsState};
use crate::wire::time::WallTime;

/// 2026-11-24 10:00 UTC and `minutes` minutes.
fn at(minutes: u64) -> Timestamp {
    Timestamp(WallTime(1_795_514_400_000 + minutes * 60_000))
}

/// Synced at 10:00, told to come again at 10:15, asked about at 10:05.
fn facts(presence: Presence) -> WhyFacts {
    WhyFacts {
        name: "kiosk-17".into(),
        asked_at: at(5),
        presence,
        has_link: presence == Presence::Connected,
        persistent_by: None,
        waits_for_room: false,
        departure: None,
        is_called: false,
        last_seen_at: Some(at(0)),
        last_sync_at: Some(at(0)),
        next_slot_at: Some(at(15)),
        lost_at: Some(at(17)),
        interval_seconds: 900,
        address: Some("192.0.2.7".into()),
        udp_port: Some(15_000),
        udp_reach: UdpReach::Reached,
        settings: Vec::new(),
        runs_waiting: 0,
        runs_taken: 0,
        shared_identity: None,
        waiting: None,
        clone_policy: None,
        certificate: None,
        events_held: None,
        pin_missing: None,
        journal: JournalCondition::Ok,
        server_started_at: Timestamp(WallTime(0)),
    }
}

/// Checks the paragraph for what it must and what it must not say.
fn check(facts: &WhyFacts, says: &[&str], never: &[&str]) {
    let text = explain(facts);
    for part in says {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    for part in never {
        assert!(!text.contains(part), "'{part}' is in: {text}");
    }
    assert!(!text.contains('\n') && !text.contains("  ") && text.ends_with('.'), "{text}");
}

#[test]
fn one_that_is_connected_is_called_on_its_link() {
    let facts = facts(Presence::Connected);
    let says = [
        "kiosk-17 is connected: it synced at 2026-11-24 10:00:00 UTC",
        "10:15:00 UTC, its slot in an interval of 15m",
    ];
    check(&facts, &says, &["Wakes", "stays open"]);
    check(&WhyFacts { asked_at: at(16), ..facts.clone() }, &["is due to sync again now"], &["its slot"]);
    check(
        &WhyFacts { last_sync_at: None, next_slot_at: None, ..facts.clone() },
        &["has not synced yet"],
        &["synced at"],
    );
    for (persistent_by, why) in [
        (PersistentBy::Device, "set for it."),
        (PersistentBy::Group, "set for its group."),
        (PersistentBy::Unreachable, "wakes do not reach it."),
    ] {
        check(
            &WhyFacts { persistent_by: Some(persistent_by), ..facts.clone() },
            &["Its link stays open, because", why],
            &[],
        );
    }
}

#[test]
fn one_that_is_idle_comes_at_its_slot_and_can_be_called_if_wakes_reach_it() {
    let facts = facts(Presence::Idle);
    check(
        &facts,
        &[
            "kiosk-17 is idle: it synced at",
            "comes again at 2026-11-24 10:15:00 UTC",
            "'musterctl device sync kiosk-17 --wait' calls it",
        ],
        &["keep it connected", "lost"],
    );
    let unreached = WhyFacts { udp_reach: UdpReach::Unreached, ..facts.clone() };
    check(
        &unreached,
        &[
            "Wakes do not reach it (none that was sent to its UDP port 15000 at 192.0.2.7 brought it)",
            "has to wait until it comes by itself, at its slot",
            "'musterctl device set kiosk-17 --keep-connected on'",
        ],
        &["calls it at once"],
    );
    let persistent = WhyFacts { persistent_by: Some(PersistentBy::Unreachable), ..unreached.clone() };
    check(&persistent, &["the device brings it back by itself"], &["keep it connected with"]);
    let waits = WhyFacts { waits_for_room: true, ..unreached };
    check(&waits, &["raise [links] max_persistent_connections"], &["keep it connected with"]);
    for udp_reach in [UdpReach::Unknown, UdpReach::Probing] {
        check(&WhyFacts { udp_reach, ..facts.clone() }, &["is not known yet", "--wait' tries"], &[]);
    }
    let nowhere = WhyFacts { udp_port: None, udp_reach: UdpReach::Unknown, ..facts.clone() };
    check(&nowhere, &["has named no UDP port"], &["is not known yet"]);
}

#[test]
fn one_that_is_late_is_not_lost_before_its_time() {
    let facts = facts(Presence::Idle);
    let late = WhyFacts { asked_at: at(16), ..facts.clone() };
    check(
        &late,
        &[
            "is late",
            "should have come again at 2026-11-24 10:15:00 UTC",
            "counts as lost from 2026-11-24 10:17:00",
        ],
        &[],
    );
    let restarted = WhyFacts { asked_at: at(200), server_started_at: at(190), ..facts.clone() };
    check(
        &restarted,
        &["this server was started (at 2026-11-24 13:10:00 UTC)", "comes back by itself"],
        &["late"],
    );
    let only_seen = WhyFacts { last_sync_at: None, next_slot_at: None, ..facts };
    check(&only_seen, &["was here at 2026-11-24 10:00:00 UTC and has not synced yet"], &["late"]);
}

#[test]
fn one_that_said_goodbye_is_taken_at_its_word() {
    for (presence, departure, says) in [
        (Presence::Asleep, NoticeKind::Suspend, "goes to sleep: it syncs when it wakes up"),
        (Presence::ShutDown, NoticeKind::Shutdown, "shuts down: it syncs when somebody switches it on"),
        (Presence::AgentStopped, NoticeKind::AgentStopped, "starts its agent again"),
        (
            Presence::ShutDown,
            NoticeKind::Reboot,
            "reboots: it syncs as soon as it is up again; it counts as lost",
        ),
    ] {
        let facts = WhyFacts { departure: Some(departure), ..facts(presence) };
        check(&facts, &[says, "said at 2026-11-24 10:00:00 UTC"], &["Wakes", "its slot"]);
    }
}

#[test]
fn one_that_is_lost_should_have_come() {
    let lost = WhyFacts { asked_at: at(60), ..facts(Presence::Lost) };
    check(
        &lost,
        &["is lost: it synced at", "should have come again at 2026-11-24 10:15:00", "'muster-agent check'"],
        &[],
    );
    let rebooted = WhyFacts { departure: Some(NoticeKind::Reboot), ..lost.clone() };
    check(&rebooted, &["said that it reboots and did not come back"], &["its slot"]);
    let persistent = WhyFacts { persistent_by: Some(PersistentBy::Device), ..lost.clone() };
    check(&persistent, &["should have come back by itself and did not"], &["10:15:00", "keep it connected"]);
    let restarted = WhyFacts { server_started_at: at(30), ..lost };
    check(&restarted, &["should have come back by itself and did not"], &["10:15:00"]);
}

#[test]
fn one_that_never_came_and_what_else_there_is_to_say() {
    let fresh = WhyFacts {
        last_seen_at: None,
        last_sync_at: None,
        next_slot_at: None,
        lost_at: None,
        address: None,
        udp_port: None,
        udp_reach: UdpReach::Unknown,
        ..facts(Presence::NeverSeen)
    };
    check(&fresh, &["has enrolled and was never heard of since"], &["UDP", "1970"]);
    let waits = Some(Waiting { since: at(1), was_unknown: false });
    let waiting = WhyFacts { waiting: waits.clone(), ..facts(Presence::Waiting) };
    check(
        &waiting,
        &[
            "kiosk-17 waits for approval since 2026-11-24 10:01:00 UTC: it enrolled with a token",
            "device approve kiosk-17'",
        ],
        &["UDP", "restored"],
    );
    let was_unknown = waits.map(|waits| Waiting { was_unknown: true, ..waits });
    check(
        &WhyFacts { waiting: was_unknown, ..waiting },
        &["the server was restored from a copy"],
        &["a token"],
    );
    let called = WhyFacts { is_called: true, ..facts(Presence::Idle) };
    check(&called, &["It is being called at this moment."], &[]);
    let full = WhyFacts { journal: JournalCondition::NoRoom, ..facts(Presence::Idle) };
    check(&full, &["The server's disk is full"], &[]);
    let failed = WhyFacts { journal: JournalCondition::Failed, ..facts(Presence::Connected) };
    check(&failed, &["event log has failed"], &[]);
}

#[test]
fn a_name_can_be_copied_into_a_shell() {
    assert_eq!(shell_word("kiosk-17.example"), "kiosk-17.example");
    assert_eq!(shell_word("Kasse Süd"), "'Kasse Süd'");
    assert_eq!(shell_word("it's; rm -rf /"), "'it'\\''s; rm -rf /'");
}

#[test]
fn what_it_should_have_and_has_not_is_said() {
    let report = |revision, state, applied_revision, detail: &str| SettingsReport {
        revision,
        digest: Digest::EMPTY,
        state,
        applied_revision,
        since: WallTime(0),
        detail: detail.into(),
    };
    for (reported, says) in [
        (None, "Settings of kiosk: it has said nothing of revision 5 yet."),
        (
            Some(report(3, SettingsState::Applied, 3, "")),
            "Settings of kiosk: it has said nothing of revision 5 yet, its last report is revision 3 applied.",
        ),
        (
            Some(report(5, SettingsState::Failed, 3, "'grep' ended with code 1")),
            "Settings of kiosk: revision 5 failed: 'grep' ended with code 1 (revision 3 is in place).",
        ),
        (Some(report(5, SettingsState::Drifted, 5, "")), "Settings of kiosk: revision 5 drifted."),
    ] {
        let unsettled = UnsettledSettings { application: "kiosk".into(), desired_revision: 5, reported };
        check(&WhyFacts { settings: vec![unsettled], ..facts(Presence::Idle) }, &[says], &["runs", "1 run"]);
    }
    for (runs_waiting, runs_taken, says) in [
        (1, 0, "1 run of tasks waits for it."),
        (0, 2, "It has 2 runs of tasks that it has not ended."),
        (3, 1, "It has 1 run of tasks that it has not ended, and 3 runs wait for it."),
    ] {
        check(&WhyFacts { runs_waiting, runs_taken, ..facts(Presence::Idle) }, &[says], &["Settings"]);
    }
}

#[test]
fn a_certificate_that_is_not_renewed_is_told_with_what_that_means() {
    let why = "its certificate expires in 3 days and is not renewed although it syncs".to_owned();
    let facts = WhyFacts { certificate: Some(why), ..facts(Presence::Idle) };
    check(
        &facts,
        &["Of its certificate: its certificate expires in 3 days", "comes in with it all the same"],
        &[],
    );
}
