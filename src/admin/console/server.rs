//! The server: what it does, holds and allows.

use super::api::Api;
use super::form::Fields;
use super::overview::server;
use super::page::{Answer, Cell, Page, Part, Table};
use super::rotation;
use super::text::{count, many};
use crate::wire::api::device_table::{duration, or_nothing};
use crate::wire::api::quantity::size;
use crate::wire::api::{CertificateStatus, CloseCount, Limit, Status};

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let (status, certificate) =
        tokio::join!(api.get::<Status>("/v1/status"), api.get::<CertificateStatus>("/v1/certificate"));
    let status = status?;
    let mut page = Page::new("/server", "Server")
        .command("musterctl status")
        .said(&fields)
        .with_all(server(Some(&status)))
        .with(Part::Facts(facts(&status)))
        .with(Part::heading("Links"))
        .with(Part::Facts(links(&status)))
        .with(ends("Why links ended", &status.links.closes))
        .with(Part::heading("Events"))
        .with(Part::Facts(journal(&status)))
        .with(Part::heading("Database and backups"))
        .with(Part::Facts(store(&status)))
        .with(Part::heading("Limits"))
        .with(limits(&status.limits));
    // Administrators of the whole fleet alone see it.
    if let Ok(certificate) = certificate {
        page = page.with(Part::heading("Certificate")).with(Part::Facts(trust(&certificate)));
        page = page.with(rotation::steps(&certificate));
    }
    page.into()
}

fn facts(status: &Status) -> Vec<(&'static str, Cell)> {
    vec![
        ("Version", Cell::text(&status.version)),
        ("Started", Cell::when(status.started_at)),
        ("Devices connect to", Cell::text(status.addresses.join(", "))),
        ("Administrators", Cell::text(status.administration.clone().unwrap_or_default())),
        ("Notices (UDP)", Cell::text(&status.datagrams.address)),
        ("Devices called", Cell::Number(status.datagrams.calls)),
        ("Certificate (SHA-256)", Cell::Code(status.certificate_sha256.clone())),
    ]
}

fn links(status: &Status) -> Vec<(&'static str, Cell)> {
    let links = &status.links;
    vec![
        ("Open", Cell::Number(links.open)),
        ("Accepted", Cell::Number(links.accepted)),
        (
            "Handshakes",
            Cell::text(format!("{} ({} resumed)", count(links.handshakes), count(links.handshakes_resumed))),
        ),
        ("Under way", Cell::Number(links.handshakes_under_way)),
        ("Each takes", Cell::text(format!("{} µs of a processor", links.handshake_microseconds))),
        ("Held back in storms", Cell::text(many(links.held_back, "time"))),
        ("Strangers", Cell::Number(links.strangers)),
    ]
}

fn ends(caption: &str, counts: &[CloseCount]) -> Table {
    let rows = counts.iter().map(|count| [Cell::text(&count.reason), Cell::Number(count.count)]);
    Table::new(caption, ["Reason", "Links"], "No link has ended yet.").rows(rows)
}

fn journal(status: &Status) -> Vec<(&'static str, Cell)> {
    let (events, journal) = (&status.events, &status.journal);
    vec![
        ("Stored since the start", Cell::Number(events.stored)),
        ("A second", Cell::text(events.stored_per_second.to_string())),
        ("Sent again", Cell::Number(events.duplicates)),
        (
            "On the disk",
            Cell::text(format!("{} in {}", size(journal.bytes), many(journal.segments, "segment"))),
        ),
        ("Set aside as damaged", Cell::text(size(journal.set_aside_bytes))),
        ("Oldest", Cell::when(journal.oldest_at)),
        ("Newest", Cell::when(journal.newest_at)),
        ("Warnings kept longer", Cell::text(many(journal.warnings.events, "event"))),
    ]
}

fn store(status: &Status) -> Vec<(&'static str, Cell)> {
    let (store, backup) = (&status.store, &status.backup);
    vec![
        ("Size", Cell::text(size(store.bytes))),
        ("Of that the log", Cell::text(size(store.log_bytes))),
        ("Applications known", Cell::Number(store.applications)),
        ("Groups", Cell::Number(store.groups)),
        ("Backups in", Cell::text(backup.directory.clone().unwrap_or_default())),
        ("Last backup", Cell::when(backup.last_at)),
        ("Next backup", backup.next_at.map_or_else(|| Cell::text(""), Cell::when)),
        ("Up for", Cell::text(duration(status.uptime_seconds))),
    ]
}

fn limits(limits: &[Limit]) -> Table {
    let rows = limits.iter().map(|limit| {
        let used = limit.used.map_or_else(|| or_nothing(""), count);
        [Cell::text(&limit.name), Cell::text(used), Cell::Number(limit.value)]
    });
    Table::new("Limits", ["Limit", "Used", "Most"], "").rows(rows)
}

fn trust(certificate: &CertificateStatus) -> Vec<(&'static str, Cell)> {
    let ready = format!("{} of {}", count(certificate.ready), many(certificate.devices, "device"));
    vec![
        ("Stage", Cell::text(certificate.stage.to_string())),
        ("Devices that have all of it", Cell::text(ready)),
        ("Come back by the recovery key", Cell::Number(certificate.recoverable)),
        ("Missing", Cell::text(certificate.missing.join(", "))),
        ("Recovery key since", Cell::when(certificate.recovery_since)),
        ("Next key", Cell::text(certificate.next_sha256.clone().unwrap_or_default())),
        ("[tls] files", Cell::text(certificate.files_sha256.clone().unwrap_or_default())),
    ]
}
