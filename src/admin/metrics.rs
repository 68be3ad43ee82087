//! The server's numbers for Prometheus, in its text format 0.0.4.
//!
//! They are what `status` has, and the counters of the reactors: a scrape reads them where they are, and
//! costs a device what a `status` costs it. No label names a device; each has the few values that the code
//! knows. Type, label and help of each metric are those of its row in the handbook's table.

use std::fmt::{Display, Write as _};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::access::{May, SeeFleet};
use super::error::ApiError;
use crate::concurrency::counters::Counters;
use crate::memory;
use crate::wire::api::{
    BackupStatus, CertificateStage, ClockCondition, JournalCondition, JournalStatus, Status, StoreCondition,
    StoreStatus, Timestamp,
};

/// Content type of the format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The handbook's table: a row for each metric.
const TABLE: &str = include_str!("metrics.md");

pub(super) async fn show(May { shared, .. }: May<SeeFleet>) -> Result<Response, ApiError> {
    let status = super::status::of(&shared).await?;
    let text = text(&status, shared.context.gauges.counters());
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}

/// The text, as far as it is written.
#[derive(Default)]
struct Text(String);

impl Text {
    /// A metric without labels; without a value its head alone.
    fn one(&mut self, name: &str, value: impl Into<Option<f64>>) {
        self.head(name);
        if let Some(value) = value.into() {
            self.line(format_args!("{name} {value}"));
        }
    }

    fn count(&mut self, name: &str, value: u64) {
        self.one(name, number(value));
    }

    fn time(&mut self, name: &str, at: Option<Timestamp>) {
        self.one(name, at.map(|at| number(at.0.0) / 1e3));
    }

    /// A metric with one label.
    fn by<V: Display>(&mut self, name: &str, values: impl IntoIterator<Item = (V, u64)>) {
        let label = self.head(name);
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    /// One of a few conditions: 1 for that which is, 0 for the others.
    fn condition<C: Serialize + PartialEq>(&mut self, name: &str, is: &C, all: &[C]) {
        let word = |one| serde_json::to_value(one).ok().and_then(|word| Some(word.as_str()?.to_owned()));
        self.by(name, all.iter().map(|one| (word(one).unwrap_or_default(), u64::from(one == is))));
    }

    /// Begins a metric as its row has it. Its label.
    fn head(&mut self, name: &str) -> &'static str {
        let (kind, label, help) = row(name).unwrap_or(("untyped", "", ""));
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        label
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A text takes all that is written to it.
        let _ = writeln!(self.0, "{line}");
    }
}

/// Type, label and help of a metric.
fn row(name: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let mut rows = TABLE.lines().map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')));
    let mut cells = rows.find(|row| row.clone().nth(1) == Some(name))?.skip(2);
    Some((cells.next()?, cells.next()?, cells.next()?))
}

fn text(status: &Status, counters: &Counters) -> String {
    let mut text = Text::default();
    server(&mut text, status);
    devices(&mut text, status, counters);
    links(&mut text, counters);
    events(&mut text, &status.journal, counters);
    store(&mut text, &status.store);
    backup(&mut text, &status.backup);
    process(&mut text);
    text.0
}

fn server(text: &mut Text, status: &Status) {
    text.by("muster_build_info", [(&status.version, 1)]);
    text.time("muster_start_time_seconds", Some(status.started_at));
    let clocks = [ClockCondition::Ok, ClockCondition::Doubted];
    text.condition("muster_clock_condition", &status.clock.condition, &clocks);
    text.condition("muster_certificate_stage", &status.certificate_stage, &CertificateStage::ALL);
    text.time("muster_tls_files_end_timestamp_seconds", status.tls_files_until);
    text.count("muster_log_lines_dropped_total", status.log.lines_dropped);
    text.by("muster_limit", status.limits.iter().map(|limit| (&limit.name, limit.value)));
    text.by("muster_limit_used", status.limits.iter().filter_map(|limit| Some((&limit.name, limit.used?))));
}

fn devices(text: &mut Text, status: &Status, counters: &Counters) {
    let devices = &status.devices;
    let presences = [
        ("connected", devices.connected),
        ("idle", devices.idle),
        ("asleep", devices.asleep),
        ("shut_down", devices.shut_down),
        ("agent_stopped", devices.agent_stopped),
        ("lost", devices.lost),
        ("never_seen", devices.never_seen),
        ("waiting", devices.waiting),
    ];
    text.by("muster_devices", presences);
    let statuses = [("ok", devices.ok), ("warning", devices.warning), ("critical", devices.critical)];
    text.by("muster_devices_by_status", statuses);
    text.count("muster_devices_pins_missing", devices.pins_missing);
    let enrolments = [("done", counters.enrolments.get()), ("refused", counters.enrolments_refused.get())];
    text.by("muster_enrolments_total", enrolments);
    text.count("muster_syncs_total", counters.syncs.get());
    text.count("muster_calls_total", counters.calls.get());
}

fn links(text: &mut Text, counters: &Counters) {
    text.count("muster_links_open", counters.links_open.get());
    text.count("muster_links_accepted_total", counters.links_accepted.get());
    let closes = counters.all_closes().into_iter().map(|(reason, count)| (reason.name(), count));
    text.by("muster_links_closed_total", closes);
    text.count("muster_strangers_total", counters.strangers.total());
    let (full, resumed) = (counters.handshakes_full.get(), counters.handshakes_resumed.get());
    text.by("muster_handshakes_total", [("full", full), ("resumed", resumed)]);
    text.one("muster_handshake_cpu_seconds_total", number(counters.handshake_microseconds.get()) / 1e6);
    text.count("muster_handshakes_under_way", counters.handshakes_under_way.get());
    let limits = [
        ("work", counters.waits_for_room.get()),
        ("device_rate", counters.waits_for_rate.get()),
        ("event_rate", counters.events_held.get()),
        ("handshakes", counters.handshakes_held_back.get()),
        ("admission", counters.sent_away.get()),
        ("descriptors", counters.accept_failures.get()),
    ];
    text.by("muster_held_off_total", limits);
    text.count("muster_received_bytes_total", counters.bytes_received.get());
    text.count("muster_sent_bytes_total", counters.bytes_sent.get());
    text.count("muster_datagrams_received_total", counters.datagrams_received.get());
    let drops = counters.all_drops().into_iter().map(|(reason, count)| (reason.name(), count));
    text.by("muster_datagrams_dropped_total", drops);
    text.count("muster_wakes_sent_total", counters.datagrams_sent.get());
    text.count("muster_notices_total", counters.notices.get());
}

fn events(text: &mut Text, journal: &JournalStatus, counters: &Counters) {
    let outcomes = [
        ("stored", counters.events_appended.get()),
        ("repeated", counters.events_repeated.get()),
        ("refused", counters.events_refused.get()),
    ];
    text.by("muster_events_total", outcomes);
    use JournalCondition::{Damaged, Failed, NoRoom, Ok};
    text.condition("muster_journal_condition", &journal.condition, &[Ok, NoRoom, Failed, Damaged]);
    text.count("muster_journal_bytes", journal.bytes);
    text.count("muster_journal_set_aside_bytes", journal.set_aside_bytes);
    text.count("muster_journal_damages", journal.damages_total);
    text.time("muster_journal_oldest_timestamp_seconds", journal.oldest_at);
    text.count("muster_warnings_bytes", journal.warnings.bytes);
    text.count("muster_warnings_segments_lost_total", journal.warnings.segments_lost);
}

fn store(text: &mut Text, store: &StoreStatus) {
    let conditions = [StoreCondition::Ok, StoreCondition::Full, StoreCondition::Failed];
    text.condition("muster_store_condition", &store.condition, &conditions);
    text.count("muster_store_bytes", store.bytes);
    text.count("muster_store_log_bytes", store.log_bytes);
    text.time("muster_store_log_blocked_timestamp_seconds", store.log_blocked_since);
    text.count("muster_applications", store.applications);
    text.count("muster_groups", store.groups);
}

fn backup(text: &mut Text, backup: &BackupStatus) {
    text.time("muster_backup_last_timestamp_seconds", backup.last_at);
    text.one("muster_backup_last_bytes", backup.last_bytes.map(number));
    text.time("muster_backup_next_timestamp_seconds", backup.next_at);
    text.time("muster_backup_failing_timestamp_seconds", backup.failing_since);
}

/// The process, under the names that Prometheus' own libraries give it.
fn process(text: &mut Text) {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (number(cpu.tv_sec.unsigned_abs()), number(cpu.tv_nsec.unsigned_abs()));
    text.one("process_cpu_seconds_total", seconds + nanoseconds / 1e9);
    text.one("process_resident_memory_bytes", memory::resident_bytes().map(number));
    text.one("process_open_fds", memory::open_descriptors().map(number));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    text.one("process_max_fds", limit.map(number));
}

/// A number as Prometheus has them: exact up to 2^53.
fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::DeviceCounts;
    use crate::wire::time::WallTime;

    fn status() -> Status {
        let status: serde_json::Value =
            serde_json::from_str(include_str!("../wire/api/snapshots/status.json")).unwrap();
        serde_json::from_value(status["Status"][0].clone()).unwrap()
    }

    #[test]
    fn each_metric_has_its_number_of_the_status_in_its_unit() {
        let mut status = status();
        status.started_at = WallTime(1_795_514_400_500).into();
        status.devices = DeviceCounts {
            connected: 1,
            idle: 2,
            asleep: 3,
            shut_down: 4,
            agent_stopped: 5,
            lost: 6,
            never_seen: 7,
            waiting: 8,
            ok: 9,
            warning: 10,
            critical: 11,
            ..status.devices
        };
        let counters = Counters::new();
        counters.handshake_microseconds.add(1_500_000);
        let text = text(&status, &counters);
        let presences =
            ["connected", "idle", "asleep", "shut_down", "agent_stopped", "lost", "never_seen", "waiting"];
        let presences = presences.map(|name| format!("muster_devices{{presence=\"{name}\"}}"));
        let statuses = ["ok", "warning", "critical"];
        let statuses = statuses.map(|name| format!("muster_devices_by_status{{status=\"{name}\"}}"));
        for (number, name) in presences.iter().chain(&statuses).enumerate() {
            assert!(text.contains(&format!("\n{name} {}\n", number + 1)), "{name}: {text}");
        }
        assert!(text.contains("\nmuster_start_time_seconds 1795514400.5\n"), "{text}");
        assert!(text.contains("\nmuster_handshake_cpu_seconds_total 1.5\n"), "{text}");
    }

    #[test]
    fn each_row_of_the_table_is_a_metric_and_each_metric_has_a_row() {
        let text = text(&status(), &Counters::new());
        let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let rows = TABLE.lines().skip(2).filter_map(|row| {
            let name = row.split('`').nth(1)?;
            Some((name, self::row(name)?.0))
        });
        assert_eq!(heads.collect::<Vec<_>>(), rows.collect::<Vec<_>>());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, label) = name.split_once('{').unwrap_or((name, "=\"x\""));
            let (kind, named, help) = row(name).unwrap();
            assert_eq!(label.split_once('=').unwrap().0, named, "{line}");
            assert!(!label.contains("=\"\"") && !help.is_empty(), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
