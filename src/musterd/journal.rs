//! `musterd journal verify|dump`: the event log as an administrator reads it. Changes nothing.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use crate::journal::{Item, Position, Reader, Report, verify};
use crate::machine::record;
use crate::server::config::Config;
use crate::server::data_directory::DataDirectory;
use crate::server::warnings;
use crate::wire::event::Event;
use crate::wire::id::DeviceId;
use crate::wire::printable::{escaped, escaped_json};
use crate::wire::time::WallTime;
use crate::wire::units::{count, count_that};
use serde_json::json;

use super::arguments::{JournalCommand, JournalPlace};
use super::{Failure, configuration};

/// `musterd journal …`
pub(crate) fn command(command: &JournalCommand) -> Result<ExitCode, Failure> {
    match command {
        JournalCommand::Verify(place) => verify_all(place),
        JournalCommand::Dump(place) => dump(place),
    }
}

/// Keeps servers out while the journal is read. Of a directory that is not there the journal says so.
fn locked(config: &Config) -> Result<Option<DataDirectory>, Failure> {
    let directory = &config.data_directory;
    directory.exists().then(|| DataDirectory::lock_shared(directory)).transpose().map_err(Failure::refused)
}

/// Exit code 1 when acknowledged data is damaged, or was set aside because it is.
fn verify_all(place: &JournalPlace) -> Result<ExitCode, Failure> {
    let config = configuration::load(&place.place)?;
    let (_lock, directory) = (locked(&config)?, config.journal_directory());
    let report = verify(&directory).map_err(Failure::refused)?;
    let warnings_directory = config.warnings_directory();
    let warnings = warnings_directory.exists().then(|| verify(&warnings_directory));
    let warnings = warnings.transpose().map_err(Failure::refused)?;
    let is_ok = report.is_ok() && warnings.as_ref().is_none_or(Report::is_ok);
    if place.json {
        let mut shown = report_json(&directory, &report);
        shown["warnings"] = json!(warnings.map(|report| report_json(&warnings_directory, &report)));
        println!("{shown}");
    } else {
        print_report(&directory, "record", &report);
        if let Some(report) = warnings {
            print_report(&warnings_directory, "kept warning", &report);
        }
        println!("{}", if is_ok { "ok" } else { "DAMAGED: restore the segments from a backup" });
    }
    Ok(ExitCode::from(u8::from(!is_ok)))
}

fn report_json(directory: &Path, report: &Report) -> serde_json::Value {
    let summary = report.summary;
    let damages = report.damages.iter();
    let damages: Vec<_> = damages
        .map(|damage| json!({ "from": damage.from.0, "to": damage.to.0, "what": damage.what }))
        .collect();
    let times = (summary.records > 0)
        .then(|| (WallTime(summary.earliest_ms).to_string(), WallTime(summary.latest_ms).to_string()));
    let (first_time, last_time) = times.unzip();
    json!({
        "directory": directory, "segments": report.segments, "records": summary.records,
        "oldest": report.oldest.0, "durable": report.durable.0,
        "first_time": first_time, "last_time": last_time, "damages": damages,
        "set_aside": report.set_aside, "set_aside_bytes": report.set_aside_bytes,
    })
}

fn print_report(directory: &Path, record: &str, report: &Report) {
    let summary = report.summary;
    let (segments, records) = (count(report.segments as u64, "segment"), count(summary.records, record));
    println!("{}: {segments}, {records}", directory.display());
    println!("positions {} to {}", report.oldest, report.durable);
    if summary.records > 0 {
        println!("from {} to {}", WallTime(summary.earliest_ms), WallTime(summary.latest_ms));
    }
    for damage in &report.damages {
        println!("{damage}");
    }
    if report.set_aside > 0 {
        println!(
            "{} set aside ({} bytes, '*.damaged'): no rule deletes what is set aside, move it away once it is of no more \
             use",
            count_that(report.set_aside as u64, "damaged segment", "is", "are"),
            report.set_aside_bytes
        );
    }
}

fn dump(place: &JournalPlace) -> Result<ExitCode, Failure> {
    let config = configuration::load(&place.place)?;
    let (_lock, directory) = (locked(&config)?, config.journal_directory());
    let reader = Reader::open(&directory).map_err(Failure::refused)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut is_first = true;
    let mut code = ExitCode::SUCCESS;
    let mut show = |item: Item<'_>| -> ControlFlow<()> {
        let line = match item {
            Item::Record(view) if place.json => escaped_json(&json_of(&view).to_string()).into_owned(),
            Item::Record(view) => escaped(&line_of(&view)).into_owned(),
            Item::Damage(damage) => {
                code = ExitCode::FAILURE;
                match place.json {
                    true => {
                        json!({ "damage": { "from": damage.from.0, "to": damage.to.0, "what": damage.what } })
                            .to_string()
                    }
                    false => damage.to_string(),
                }
            }
        };
        let written = match (place.json, std::mem::replace(&mut is_first, false)) {
            (true, true) => write!(out, "[{line}"),
            (true, false) => write!(out, ",\n{line}"),
            (false, _) => writeln!(out, "{line}"),
        };
        // A reader that closes the pipe (head) has seen enough.
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let segments = reader.segments();
    let kept_until = warnings::complete_from(&segments).map_or(Position(0), |(position, _)| position);
    let shown = warnings::for_each_archived(&config.warnings_directory(), &mut |item| match item {
        // Copied, and not deleted yet.
        Item::Record(view) if view.position >= kept_until => ControlFlow::Continue(()),
        item => show(item),
    });
    let mut is_over = shown.map_err(Failure::refused)?.is_break();
    let mut forward = reader.forward(Position(0));
    while !is_over && let Some(item) = forward.next().map_err(Failure::refused)? {
        is_over = show(item).is_break();
    }
    if !is_over {
        if place.json {
            let _ = out.write_all(if is_first { b"[]\n" } else { b"]\n" });
        }
        let _ = out.flush();
    }
    Ok(code)
}

fn json_of(view: &crate::journal::RecordView<'_>) -> serde_json::Value {
    let decoded = record::decode(view.record.payload);
    json!({
        "position": view.position.0,
        "time": WallTime(view.record.wall_ms).to_string(),
        "device": DeviceId(view.record.device),
        "sequence": view.record.sequence,
        "spool_epoch": decoded.map(|(epoch, _)| epoch),
        "source": decoded.map(|(epoch, _)| if epoch == record::OWN_EPOCH { "server" } else { "device" }),
        "event": decoded.and_then(|(_, event)| Event::from_bytes(event).ok()),
    })
}

fn line_of(view: &crate::journal::RecordView<'_>) -> String {
    let record = &view.record;
    let start = format!(
        "{} {} {} #{}",
        view.position,
        WallTime(record.wall_ms),
        DeviceId(record.device),
        record.sequence
    );
    match record::decode(record.payload).map(|(_, event)| Event::from_bytes(event)) {
        Some(Ok(event)) => {
            let fields = event.fields.iter().map(|(name, value)| format!(" {name}={value:?}"));
            format!(
                "{start} {} {} {} {:?}{}",
                event.severity,
                event.application,
                event.kind,
                event.message,
                fields.collect::<String>()
            )
        }
        // Stored as it came: a newer agent's event may say more than this version reads.
        _ => format!("{start} {} bytes that this version can't read", record.payload.len()),
    }
}
