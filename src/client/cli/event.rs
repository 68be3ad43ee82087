//! `musterctl event`.

use std::io::Write as _;

use super::Failure;
use super::arguments::EventCommand;
use super::output::{Output, plain, time};
use crate::client::Client;
use crate::wire::api::{
    DeletedEvents, EventQuery, EventRecord, EventSource, FollowLine, FollowQuery, PAGE_ITEMS_MAX,
};
use crate::wire::id::DeviceId;
use crate::wire::printable::SERVER_PLACE;

pub(super) fn run(client: &mut Client, output: &mut Output, command: EventCommand) -> Result<(), Failure> {
    match command {
        EventCommand::List { filter, since, until, limit } => {
            let page = limit.min(PAGE_ITEMS_MAX);
            let query = EventQuery {
                device: filter.device,
                severity: filter.severity,
                since,
                until,
                limit: Some(page),
                cursor: None,
            };
            let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
            let mut pages = client.events(query);
            let mut events = pages.first(wanted)?;
            let deleted = pages.deleted();
            // They come newest first; like a log they are read with the newest last.
            events.reverse();
            let heads = &["RECEIVED (UTC)", "SEVERITY", "DEVICE", "SOURCE", "EVENT"];
            output.list(heads, std::iter::once(Ok(events)), "no events", |event| {
                vec![
                    time(event.received_at),
                    event.severity.to_string(),
                    device(event),
                    event.source.name().to_owned(),
                    format!("{} {}: {}", event.application, event.kind, message(event)),
                ]
            })?;
            if let Some(deleted) = deleted {
                let _ = writeln!(std::io::stderr(), "musterctl: {}", deleted_text(&deleted));
            }
            Ok(())
        }
        EventCommand::Follow { filter, from, newest } => {
            let query = FollowQuery { device: filter.device, severity: filter.severity, from, newest };
            for line in client.follow(query) {
                match line? {
                    FollowLine::Event(event) if output.is_json => output.json_line(&event)?,
                    FollowLine::Event(event) => output.line(&plain(&format!(
                        "{}  {:<8}  {}  {}  {} {}: {}",
                        time(event.received_at),
                        event.severity,
                        device(&event),
                        event.source.name(),
                        event.application,
                        event.kind,
                        message(&event)
                    )))?,
                    FollowLine::Reached(_) => {}
                    FollowLine::Gone { from, to } => {
                        let text = "are gone: they were deleted by age or size; 'musterctl event list --severity \
                                    warning' has those that are kept for longer";
                        let _ = writeln!(
                            std::io::stderr(),
                            "musterctl: the events from position {from} to {to} {text}"
                        );
                    }
                    FollowLine::Skipped { events, .. } => {
                        let _ = writeln!(std::io::stderr(), "musterctl: {events} more, left out by --newest");
                    }
                }
            }
            Ok(())
        }
    }
}

/// The device that sent it: the name, or the id of a device that was removed.
fn device(event: &EventRecord) -> String {
    if event.device_id == DeviceId(0) {
        return SERVER_PLACE.to_owned();
    }
    event.device.clone().unwrap_or_else(|| event.device_id.to_string())
}

/// From when on a list of events is complete.
fn deleted_text(deleted: &DeletedEvents) -> String {
    let before =
        deleted.before.map_or(String::new(), |before| format!("received before {} UTC ", time(before)));
    let warnings = match deleted.warnings_from {
        Some(from) => format!("warnings and worse are kept from {} UTC on", time(from)),
        None => "there are no warnings from before that".to_owned(),
    };
    format!("info events {before}were deleted by age or size; {warnings}")
}

fn message(event: &EventRecord) -> String {
    if event.source == EventSource::Server {
        // The server's own: their message says all that their fields say to programs.
        return event.message.clone();
    }
    let mut message = event.message.clone();
    for (name, value) in &event.fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        message.push_str(&format!(" {name}={value}"));
    }
    message
}
