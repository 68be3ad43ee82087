//! Why a device is in sync or not, and when it will be: the facts, put into one paragraph for people.

use std::time::Duration;

use crate::wire::api::{JournalCondition, PersistentBy, Timestamp, UdpReach, UnsettledSettings, WhyFacts};
use crate::wire::clone_policy::ClonePolicy;
use crate::wire::datagram::NoticeKind;
use crate::wire::presence::Presence;
use crate::wire::units::format_duration;

/// The paragraph: where the device stands and since when, when it comes, whether it can be called before, and
/// what could be done.
#[must_use]
pub fn explain(facts: &WhyFacts) -> String {
    if facts.presence == Presence::Waiting {
        return waiting(facts);
    }
    let mut sentences = vec![match facts.presence {
        Presence::Connected => connected(facts),
        Presence::Idle => idle(facts),
        Presence::Asleep | Presence::ShutDown | Presence::AgentStopped => gone(facts),
        Presence::Lost => lost(facts),
        Presence::NeverSeen => format!(
            "{} has enrolled and was never heard of since: see on the device whether its agent runs, and what \
             'muster-agent check' says there.",
            facts.name
        ),
        Presence::Waiting => waiting(facts),
    }];
    sentences.extend(facts.shared_identity.as_ref().map(|why| {
        let meanwhile = match facts.clone_policy.unwrap_or_default() {
            ClonePolicy::Warn => "until then what is shown is now the one's and now the other's",
            ClonePolicy::Fork | ClonePolicy::Refuse => "what is shown is that of the first",
        };
        format!("Beware: {why} ('muster-agent enroll --force' there); {meanwhile}.")
    }));
    sentences.extend(link(facts));
    sentences.extend(reach(facts));
    sentences.extend(facts.settings.iter().map(unsettled));
    sentences.extend(runs(facts));
    sentences.extend(facts.certificate.as_ref().map(|why| {
        format!("Of its certificate: {why}. It comes in with it all the same, also when it has expired.")
    }));
    sentences.extend(facts.events_held.as_ref().map(|why| {
        format!(
            "Of its events: {why}. They come at the rate that journal.device_rate of the server's configuration \
             allows, and none is lost that the device's spool has room for."
        )
    }));
    sentences.extend(
        facts
            .pin_missing
            .as_ref()
            .map(|why| format!("Of the server's rotation: {why} ('musterctl certificate status').")),
    );
    if facts.is_called {
        sentences.push("It is being called at this moment.".into());
    }
    match facts.journal {
        JournalCondition::Ok | JournalCondition::Damaged => {}
        JournalCondition::NoRoom => sentences
            .push("The server's disk is full: the device keeps its events until there is room; all else goes on.".into()),
        JournalCondition::Failed => sentences.push(
            "The server's event log has failed and the server stops: devices come back when it is started again.".into(),
        ),
    }
    sentences.join(" ")
}

/// The part of an application's settings that is not as it should be.
fn unsettled(settings: &UnsettledSettings) -> String {
    let UnsettledSettings { application, desired_revision: wanted, reported } = settings;
    match reported {
        None => format!("Settings of {application}: it has said nothing of revision {wanted} yet."),
        Some(report) if report.revision != *wanted => format!(
            "Settings of {application}: it has said nothing of revision {wanted} yet, its last report is revision {} {}.",
            report.revision, report.state
        ),
        Some(report) => {
            let detail =
                if report.detail.is_empty() { String::new() } else { format!(": {}", report.detail) };
            let in_place = match report.applied_revision {
                0 => String::new(),
                applied if applied == *wanted => String::new(),
                applied => format!(" (revision {applied} is in place)"),
            };
            format!("Settings of {application}: revision {wanted} {}{detail}{in_place}.", report.state)
        }
    }
}

/// Runs that it should execute, or does.
fn runs(facts: &WhyFacts) -> Option<String> {
    let count = |runs: u64| if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") };
    let verb = |runs: u64| if runs == 1 { "waits" } else { "wait" };
    match (facts.runs_waiting, facts.runs_taken) {
        (0, 0) => None,
        (waiting, 0) => Some(format!("{} of tasks {} for it.", count(waiting), verb(waiting))),
        (0, taken) => Some(format!("It has {} of tasks that it has not ended.", count(taken))),
        (waiting, taken) => Some(format!(
            "It has {} of tasks that it has not ended, and {} {} for it.",
            count(taken),
            count(waiting),
            verb(waiting)
        )),
    }
}

/// It is not let in before somebody says so, so that nothing else matters.
fn waiting(facts: &WhyFacts) -> String {
    let (name, shell_name) = (&facts.name, shell_word(&facts.name));
    let why = match &facts.waiting {
        Some(waiting) if waiting.was_unknown => {
            "it has a certificate of this server and was not known here any more, as the server was restored from a copy that is \
             older than its enrolment"
        }
        _ => "it enrolled with a token that asks for that",
    };
    let since =
        facts.waiting.as_ref().map_or(String::new(), |waiting| format!(" since {}", time(waiting.since)));
    format!(
        "{name} waits for approval{since}: {why}. 'musterctl device approve {shell_name}' lets it in, and it is in sync within \
         about a minute, without anybody touching it; 'musterctl device remove {shell_name}' sends it away."
    )
}

fn connected(facts: &WhyFacts) -> String {
    let name = &facts.name;
    match facts.last_sync_at {
        None => format!(
            "{name} is connected and has not synced yet: its first sync is about to begin or under way."
        ),
        Some(at) => {
            let next = match facts.next_slot_at {
                Some(slot) if slot >= facts.asked_at => format!("syncs again {}", slot_at(facts, slot)),
                _ => format!("is due to sync again now, its interval being {}", interval(facts)),
            };
            format!(
                "{name} is connected: it synced at {} and {next}; a forced sync reaches it on its link at once.",
                time(at)
            )
        }
    }
}

fn idle(facts: &WhyFacts) -> String {
    let name = &facts.name;
    let lost = facts.lost_at.map_or(String::new(), |at| format!(" and counts as lost from {} on", time(at)));
    let Some(synced) = facts.last_sync_at else {
        let seen = facts.last_seen_at.map_or("just now".into(), |at| format!("at {}", time(at)));
        return format!("{name} was here {seen} and has not synced yet: it comes back by itself{lost}.");
    };
    let synced = time(synced);
    match facts.next_slot_at {
        Some(slot) if slot >= facts.asked_at => {
            format!("{name} is idle: it synced at {synced} and comes again {}.", slot_at(facts, slot))
        }
        Some(slot) if slot < facts.server_started_at => format!(
            "{name} is idle: it synced at {synced}, and since then this server was started (at {}): it comes back by itself{lost}.",
            time(facts.server_started_at)
        ),
        _ => format!(
            "{name} is late: it synced at {synced} and should have come again{}; it may still come{lost}.",
            match facts.next_slot_at {
                Some(slot) => format!(" at {}", time(slot)),
                None => String::new(),
            }
        ),
    }
}

/// It has said goodbye.
fn gone(facts: &WhyFacts) -> String {
    let name = &facts.name;
    let said = facts.last_seen_at.map_or(String::new(), |at| format!(" at {}", time(at)));
    match facts.departure {
        Some(NoticeKind::Suspend) => format!(
            "{name} said{said} that it goes to sleep: it syncs when it wakes up, and nobody can call it before."
        ),
        Some(NoticeKind::Reboot) => {
            let lost =
                facts.lost_at.map_or(String::new(), |at| format!("; it counts as lost from {} on", time(at)));
            format!("{name} said{said} that it reboots: it syncs as soon as it is up again{lost}.")
        }
        Some(NoticeKind::AgentStopped) => format!(
            "The agent of {name} said{said} that it was stopped: the device syncs when somebody starts its agent again \
             ('muster-agent run', or its service)."
        ),
        Some(NoticeKind::Shutdown | NoticeKind::Probe) | None => format!(
            "{name} said{said} that it shuts down: it syncs when somebody switches it on, and nobody can call it before."
        ),
    }
}

fn lost(facts: &WhyFacts) -> String {
    let name = &facts.name;
    let heard = facts.last_seen_at.map_or("never".into(), |at| format!("at {}", time(at)));
    let what = match (facts.departure, facts.last_sync_at, facts.next_slot_at) {
        (Some(NoticeKind::Reboot), _, _) => {
            format!(
                "{name} is lost: it said that it reboots and did not come back; it was last heard {heard}."
            )
        }
        (_, Some(synced), Some(slot)) if facts.persistent_by.is_none() && slot >= facts.server_started_at => {
            format!(
                "{name} is lost: it synced at {}, should have come again at {} and did not, and said nothing before; it was last \
             heard {heard}.",
                time(synced),
                time(slot)
            )
        }
        _ => format!(
            "{name} is lost: it should have come back by itself and did not, and said nothing before; it was last heard {heard}."
        ),
    };
    format!(
        "{what} It is switched off, cut off, or can't reach this server: it syncs as soon as it can; 'muster-agent check' on \
         the device says what stands in its way."
    )
}

/// Facts about its link.
fn link(facts: &WhyFacts) -> Option<String> {
    if facts.waits_for_room {
        return Some(
            "Its link should stay open, but as many devices are kept connected as max_persistent_connections allows: raise \
             [links] max_persistent_connections, or turn it off for others."
                .into(),
        );
    }
    let why = match facts.persistent_by? {
        PersistentBy::Device => "because that is set for it",
        PersistentBy::Group => "because that is set for its group",
        PersistentBy::Unreachable => "because wakes do not reach it",
    };
    match facts.presence {
        Presence::Connected => Some(format!("Its link stays open, {why}.")),
        Presence::Idle => Some(format!(
            "Its link is to stay open, {why}; it is gone, and the device brings it back by itself."
        )),
        _ => None,
    }
}

/// Whether it can be called; of one that has a link or said goodbye that makes no difference.
fn reach(facts: &WhyFacts) -> Option<String> {
    if !matches!(facts.presence, Presence::Idle | Presence::Lost) {
        return None;
    }
    let shell_name = shell_word(&facts.name);
    let wait = match facts.presence {
        Presence::Lost => "a forced sync has to wait until it comes by itself",
        _ => "a forced sync has to wait until it comes by itself, at its slot",
    };
    let keep = match facts.persistent_by {
        None if !facts.waits_for_room => {
            format!("; keep it connected with 'musterctl device set {shell_name} --keep-connected on'")
        }
        _ => String::new(),
    };
    let place = match (facts.udp_port, &facts.address) {
        (Some(port), Some(address)) => format!("UDP port {port} at {address}"),
        _ => return Some(format!("It has named no UDP port for wakes, so {wait}{keep}.")),
    };
    Some(match facts.udp_reach {
        UdpReach::Reached => {
            format!("Wakes reach it ({place}): 'musterctl device sync {shell_name} --wait' calls it at once.")
        }
        UdpReach::Unreached => {
            format!("Wakes do not reach it (none that was sent to its {place} brought it), so {wait}{keep}.")
        }
        UdpReach::Unknown | UdpReach::Probing => format!(
            "Whether wakes reach it ({place}) is not known yet: 'musterctl device sync {shell_name} --wait' tries."
        ),
    })
}

fn slot_at(facts: &WhyFacts, slot: Timestamp) -> String {
    format!("at {}, its slot in an interval of {}", time(slot), interval(facts))
}

fn interval(facts: &WhyFacts) -> String {
    format_duration(Duration::from_secs(facts.interval_seconds.into()))
}

/// To the second, in UTC.
fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match (text.split_once('T'), text.get(11..19)) {
        (Some((date, _)), Some(clock)) => format!("{date} {clock} UTC"),
        _ => text,
    }
}

/// A name as a shell takes it.
#[must_use]
pub fn shell_word(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.:@+".contains(c);
    if name.chars().all(is_plain) && !name.starts_with('-') {
        return name.to_owned();
    }
    // Within single quotes a quote can't stand: they are closed, a quoted quote follows, and they are opened
    // again.
    format!("'{}'", name.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
