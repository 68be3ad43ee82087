//! Events: those that are stored, and those to come, which reach a page that is open.

use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Body as _;

use super::api::Api;
use super::devices;
use super::form::{Fields, Form, invalid};
use super::page::{Answer, Cell, Page, Part, Problem, Table, table_row};
use super::text::{many, now};
use crate::admin::lines::{self, LinesSender};
use crate::fleet::why::shell_word;
use crate::wire::api::url::with_query;
use crate::wire::api::{
    ErrorDetail, EventQuery, EventRecord, FollowLine, FollowQuery, Page as ListPage, Severity, Timestamp,
};
use crate::wire::printable::SERVER_PLACE;
use crate::wire::time::WallTime;
use crate::wire::units::parse_duration;

/// Rows that come to an open page at once, twice a second: more than anybody reads.
const ROWS_MAX: u32 = 50;

/// Longest line of the API's stream: an event has 8 KiB, and JSON may write each byte with six.
const LINE_BYTES_MAX: usize = 128 * 1024;

const HEADS: [&str; 6] = ["Received", "Severity", "Device", "Application", "Kind", "Message"];

pub(super) async fn show(api: Api, fields: Fields) -> Answer {
    let asked = asked(&fields);
    let (query, wrong) = match asked {
        Ok(query) => (query, None),
        Err(error) => (EventQuery::default(), Some(error)),
    };
    let mut command = "musterctl event list".to_owned();
    for name in ["device", "severity", "since", "until"] {
        if let Some(value) = fields.some(name) {
            command = format!("{command} --{name} {}", shell_word(&value));
        }
    }
    let severities = Severity::ALL.map(|severity| (severity.to_string(), format!("{severity} and worse")));
    let severities = [(String::new(), "all".to_owned())].into_iter().chain(severities.into_iter().skip(1));
    let page = Page::new("/events", "Events").command(command).with(
        Form::get("/events", "")
            .line("device", "Device", fields.get("device"), "its name or id; empty: all")
            .choice("severity", "Severity", fields.get("severity"), severities)
            .line("since", "Since", fields.get("since"), "such as 24h, or 2026-11-24T10:00:00Z")
            .line("until", "Until", fields.get("until"), "the same; empty: now, and what comes")
            .button("", "Show"),
    );
    if wrong.is_some() {
        return page.wrong(wrong).into();
    }
    let list: ListPage<EventRecord> = match api.get(&with_query("/v1/events", &query)).await {
        Ok(list) => list,
        Err(error) => return page.wrong(Some(error)).into(),
    };
    let cursor = |cursor| {
        let mut query = serde_json::json!({ "cursor": cursor });
        for name in ["device", "severity", "since", "until"] {
            query[name] = serde_json::json!(fields.some(name));
        }
        with_query("/events", &query)
    };
    let next = list.next_cursor.map(cursor);
    // The first page goes on by itself, from behind the newest event on it.
    let is_open = query.cursor.is_none() && query.until.is_none();
    let live = is_open.then(|| {
        let from = list.items.first().map(|event| event.next_position);
        with_query(
            "/events/live",
            &FollowQuery { device: query.device.clone(), severity: query.severity, from, newest: None },
        )
    });
    let deleted = list.deleted.map(|deleted| {
        let before = deleted.before.map_or_else(String::new, |at| format!(" received before {at}"));
        Part::text(format!("Older events{before} were deleted, but for warnings and worse."))
    });
    page.with(table(list.items).next(next).live(live)).with_all(deleted).into()
}

fn asked(fields: &Fields) -> Result<EventQuery, ErrorDetail> {
    let time = |name: &str| -> Result<Option<Timestamp>, ErrorDetail> {
        let Some(text) = fields.some(name) else { return Ok(None) };
        if let Ok(ago) = parse_duration(&text) {
            let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            return Ok(Some(Timestamp(WallTime(now().0.saturating_sub(ago)))));
        }
        let time = text.parse().map_err(|error| invalid(format!("{name}: {error}, nor a duration")))?;
        Ok(Some(Timestamp(time)))
    };
    Ok(EventQuery {
        device: fields.some("device"),
        severity: fields.parsed("severity")?,
        since: time("since")?,
        until: time("until")?,
        limit: None,
        cursor: fields.some("cursor"),
    })
}

/// A table of events.
pub(super) fn table(events: Vec<EventRecord>) -> Table {
    Table::new("Events", HEADS, "There is no such event.").rows(events.into_iter().map(row))
}

fn row(event: EventRecord) -> [Cell; 6] {
    let kind = match event.severity {
        Severity::Critical | Severity::Error => "bad",
        Severity::Warning => "warn",
        _ => "",
    };
    let device = match event.device {
        Some(name) => Cell::link(devices::device_url(event.device_id), name),
        None if event.device_id.0 == 0 => Cell::text(SERVER_PLACE),
        None => Cell::Code(event.device_id.to_string()),
    };
    let fields = event.fields.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>();
    [
        Cell::when(event.received_at),
        Cell::State(kind, event.severity.to_string()),
        device,
        Cell::text(event.application),
        Cell::text(event.kind),
        Cell::text(event.message + &fields),
    ]
}

/// Rows of the table as events become durable (server-sent events, HTML standard section 9.2). The id of each
/// is the position at which the log goes on, so that a browser that comes again misses none.
pub(super) async fn live(api: Api, fields: Fields, headers: HeaderMap) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let query = FollowQuery {
        device: fields.some("device"),
        severity: fields.parsed("severity")?,
        from: last.or(fields.parsed("from")?),
        newest: Some(ROWS_MAX),
    };
    let answer = api.answer(Method::GET, &with_query("/v1/events/follow", &query), Body::empty()).await?;
    let (pieces, body) = lines::body();
    tokio::spawn(pass_on(answer.into_body(), pieces));
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// Ends with either side.
async fn pass_on(mut from: Body, to: LinesSender) {
    let mut line = Vec::new();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut from).poll_frame(context));
        let frame = tokio::select! {
            frame = frame => frame,
            () = to.closed() => return,
        };
        let Some(Ok(frame)) = frame else { return };
        let Ok(bytes) = frame.into_data() else { continue };
        let mut text = String::new();
        for byte in bytes {
            if byte != b'\n' {
                line.push(byte);
            } else if let Some(sent) = server_sent(&std::mem::take(&mut line)) {
                text.push_str(&sent);
            }
        }
        if line.len() > LINE_BYTES_MAX || (!text.is_empty() && to.send(Bytes::from(text)).await.is_err()) {
            return;
        }
    }
}

/// A line of the API as an event for the browser.
fn server_sent(line: &[u8]) -> Option<String> {
    match serde_json::from_slice(line).ok()? {
        FollowLine::Event(event) => {
            let next = event.next_position;
            let html = table_row(&HEADS, &row(*event)).replace('\n', "\ndata: ");
            Some(format!("event: row\nid: {next}\ndata: {html}\n\n"))
        }
        FollowLine::Reached(position) => Some(format!("id: {position}\n\n")),
        FollowLine::Skipped { events, to } => {
            let (columns, events) = (HEADS.len(), many(events, "event"));
            let text = format!(
                "{events} more, not shown here: narrow the filter, or <code>musterctl event follow</code>"
            );
            let row = format!("<tr><td class=\"quiet\" colspan=\"{columns}\"><span>{text}</span></td></tr>");
            Some(format!("event: row\nid: {to}\ndata: {row}\n\n"))
        }
        FollowLine::Gone { .. } => Some("event: gone\ndata:\n\n".to_owned()),
    }
}
