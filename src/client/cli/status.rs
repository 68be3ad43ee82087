//! `musterctl status`.

use super::Failure;
use super::output::{Output, duration, size, time, time_or_nothing};
use crate::client::Client;
use crate::wire::api::{
    BackupStatus, CertificateStage, ClockCondition, ClockStatus, JournalCondition, JournalStatus,
    StoreCondition, StoreStatus, WarningsStatus,
};
use crate::wire::units::count;

/// When the last was made and the next is due, and what is wrong.
fn backup_text(backup: &BackupStatus) -> String {
    let Some(directory) = &backup.directory else {
        return "none scheduled ([backup] in the configuration, or 'musterd backup FILE')".into();
    };
    let failing = match (&backup.reason, backup.failing_since) {
        (Some(reason), since) => format!("FAILING since {}: {reason}; ", time_or_nothing(since)),
        (None, _) => String::new(),
    };
    let last = match (&backup.last_file, backup.last_bytes) {
        (Some(file), Some(bytes)) => {
            format!("last {} UTC, {file}, {}", time_or_nothing(backup.last_at), size(bytes))
        }
        _ => format!("none yet in {directory}"),
    };
    format!("{failing}{last}; next {} UTC", time_or_nothing(backup.next_at))
}

/// Whether it takes changes, and what is wrong when its log grows.
fn store_condition(store: &StoreStatus) -> String {
    let since = time_or_nothing(store.since);
    let reason = store.reason.as_deref().unwrap_or_default();
    let mut text = match store.condition {
        StoreCondition::Ok => "ok".to_owned(),
        StoreCondition::Full => format!("NO ROOM since {since}: {reason}"),
        StoreCondition::Failed => format!("FAILED since {since}: {reason}"),
    };
    if let Some(by) = &store.log_blocked_by {
        let (log, since) = (size(store.log_bytes), time_or_nothing(store.log_blocked_since));
        text += &format!("; LOG OF {log} GROWS since {since}: {by} reads the database and does not end");
    }
    text + "; "
}

/// Damage of it, and the remedy.
fn journal_damage(journal: &JournalStatus) -> String {
    if journal.damages_total == 0 && journal.set_aside_segments == 0 {
        return String::new();
    }
    let places: Vec<String> = journal
        .damages
        .iter()
        .map(|damage| format!("{} to {} ({})", damage.from, damage.to, damage.what))
        .collect();
    let more = journal.damages_total.saturating_sub(places.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "DAMAGED: {}{more}; {} of {} set aside: see 'musterd journal verify'; ",
        if places.is_empty() { "places not looked for yet".to_owned() } else { places.join(", ") },
        count(journal.set_aside_segments, "segment"),
        size(journal.set_aside_bytes)
    )
}

/// Events of severity warning and worse that outlive the event log.
fn warnings_text(warnings: &WarningsStatus) -> String {
    let failing = warnings.reason.as_ref().map_or(String::new(), |why| format!("FAILING: {why}; "));
    let damaged = if warnings.is_damaged { "DAMAGED: see 'musterd journal verify'; " } else { "" };
    let lost = match warnings.segments_lost {
        0 => String::new(),
        lost => format!("; those of {} were lost since the start", count(lost, "segment")),
    };
    let held = match (warnings.oldest_at, warnings.newest_at) {
        (Some(oldest), Some(newest)) => format!(
            "{} in {}, {} to {} UTC",
            count(warnings.events, "event"),
            size(warnings.bytes),
            time(oldest),
            time(newest)
        ),
        _ => "none yet of deleted segments".into(),
    };
    format!("{failing}{damaged}{held}{lost}")
}

pub(super) fn run(client: &mut Client, output: &mut Output) -> Result<(), Failure> {
    let status = client.status()?;
    if output.is_json {
        return output.json(&status);
    }
    let (devices, links, events, journal) = (&status.devices, &status.links, &status.events, &status.journal);
    let closes: Vec<String> =
        links.closes.iter().map(|close| format!("{} {}", close.reason, close.count)).collect();
    let datagrams = &status.datagrams;
    let drops: Vec<String> =
        datagrams.dropped.iter().map(|dropped| format!("{} {}", dropped.reason, dropped.count)).collect();
    let condition = match journal.condition {
        JournalCondition::Ok => "ok".to_owned(),
        JournalCondition::NoRoom => format!("NO ROOM since {}", time_or_nothing(journal.since)),
        JournalCondition::Failed => "FAILED".to_owned(),
        JournalCondition::Damaged => "takes events".to_owned(),
    };
    let reason = journal.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let limits: Vec<String> = status
        .limits
        .iter()
        .map(|limit| match limit.used {
            Some(used) => format!("{} {used} of {}", limit.name, limit.value),
            None => format!("{} {}", limit.name, limit.value),
        })
        .collect();
    output.facts(vec![
        (
            "server",
            format!(
                "muster {}, up {} since {} UTC",
                status.version,
                duration(status.uptime_seconds),
                time(status.started_at)
            ),
        ),
        ("clock", clock(&status.clock)),
        ("listens on", status.addresses.join(", ")),
        ("administration", status.administration.clone().unwrap_or_else(|| "the socket alone".into())),
        (
            "certificate",
            format!(
                "sha256 {}{}{}",
                status.certificate_sha256,
                rotation(status.certificate_stage),
                status.tls_files_until.map_or(String::new(), |until| format!("; of [tls] until {} UTC", time(until)))
            ),
        ),
        (
            "devices",
            format!(
                "{} known: {} connected, {} idle, {} asleep, {} shut down, {} agent stopped, {} lost, {} never seen, \
                 {} waiting for approval",
                devices.known,
                devices.connected,
                devices.idle,
                devices.asleep,
                devices.shut_down,
                devices.agent_stopped,
                devices.lost,
                devices.never_seen,
                devices.waiting
            ),
        ),
        (
            "status",
            format!("{} ok, {} warning, {} critical", devices.ok, devices.warning, devices.critical),
        ),
        (
            "links",
            format!(
                "{} open, {} accepted, {} without a valid identity; {} handshakes ({} resumed), {} µs each, {} under way; \
                 held back {}",
                links.open,
                links.accepted,
                links.strangers,
                links.handshakes,
                links.handshakes_resumed,
                links.handshake_microseconds,
                links.handshakes_under_way,
                count(links.held_back, "time")
            ),
        ),
        ("links closed", if closes.is_empty() { "none".into() } else { closes.join(", ") }),
        (
            "datagrams",
            format!(
                "UDP {}: {} received, {} shutdown notices believed, dropped: {}; {} sent for {}",
                datagrams.address,
                datagrams.received,
                datagrams.notices,
                if drops.is_empty() { "none".into() } else { drops.join(", ") },
                datagrams.sent,
                count(datagrams.calls, "call")
            ),
        ),
        (
            "events",
            format!(
                "{} stored, {}/s, {} repeated and not stored again",
                events.stored, events.stored_per_second, events.duplicates
            ),
        ),
        (
            "journal",
            format!(
                "{}{condition}{reason}; {} in {}, durable to {}",
                journal_damage(journal),
                size(journal.bytes),
                count(journal.segments, "segment"),
                journal.durable_position
            ),
        ),
        (
            "journal holds",
            match (journal.oldest_at, journal.newest_at) {
                (Some(oldest), Some(newest)) => format!("{} to {} UTC", time(oldest), time(newest)),
                _ => "nothing yet".into(),
            },
        ),
        ("warnings kept", warnings_text(&journal.warnings)),
        (
            "store",
            format!(
                "{}{}, {}, {}",
                store_condition(&status.store),
                size(status.store.bytes),
                count(status.store.applications, "application"),
                count(status.store.groups, "group")
            ),
        ),
        ("backup", backup_text(&status.backup)),
        (
            "log",
            match status.log.lines_dropped {
                0 => "no line dropped".into(),
                dropped => format!("{} dropped: nothing reads it fast enough", count(dropped, "line")),
            },
        ),
        ("limits", limits.join(", ")),
    ])
}

/// Progress of a rotation of the certificate, in words.
fn rotation(stage: CertificateStage) -> &'static str {
    match stage {
        CertificateStage::Current => "",
        CertificateStage::Prepared => " (the next one is prepared: 'musterctl certificate status')",
        CertificateStage::Switched => " (the former one is still pinned: 'musterctl certificate status')",
    }
}

fn clock(clock: &ClockStatus) -> String {
    match clock.condition {
        ClockCondition::Ok => "ok".to_owned(),
        ClockCondition::Doubted => format!(
            "DOUBTED, {} ahead of what was expected: nothing is deleted or expires by age for {} unless it is set right",
            duration(clock.ahead_seconds.unwrap_or_default()),
            duration(clock.believed_in_seconds.unwrap_or_default())
        ),
    }
}
