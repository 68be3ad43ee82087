//! Stored events, newest first.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::Answer;
use super::access::{May, Scope, See};
use super::context::{AdminContext, Deleted, LogRecord};
use super::error::ApiError;
use super::extract::{Query, limit};
use crate::machine::record::{self, OWN_EPOCH};
use crate::store::query::{self, DeviceKey};
use crate::store::{Reader, StoreError};
use crate::wire::api::{
    CLAIMED_PREFIX, DeletedEvents, EventQuery, EventRecord, EventSource, Page, Timestamp,
};
use crate::wire::event::{Event, EventError, SERVER_NAME, Severity, is_server_name};
use crate::wire::id::DeviceId;
use crate::wire::time::WallTime;

/// Records that one request looks at: some milliseconds of reading. A filter that lets few through gets a
/// cursor and fewer items than it asked for.
const SCAN_RECORDS_MAX: u32 = 50_000;

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filter {
    pub(super) device: Option<DeviceId>,
    pub(super) severity: Option<Severity>,
    pub(super) since: WallTime,
    pub(super) until: Option<WallTime>,
}

impl Filter {
    /// Whether the event is wanted. It is looked into only when its severity matters: that costs the most.
    pub(super) fn wants(&self, record: LogRecord<'_>) -> bool {
        if self.severity.is_some() { self.pick(record).is_some() } else { self.is_about(record) }
    }

    fn is_about(&self, record: LogRecord<'_>) -> bool {
        let at = record.received_at;
        let is_in_time = at >= self.since && self.until.is_none_or(|until| at < until);
        is_in_time && self.device.is_none_or(|device| device == record.device)
    }

    /// The event, when it is wanted. One that this version can't read is a warning that says so.
    pub(super) fn pick(&self, record: LogRecord<'_>) -> Option<EventRecord> {
        if !self.is_about(record) {
            return None;
        }
        let Some((spool_epoch, body)) = record::decode(record.payload) else {
            log::warn!("the event at position {} can't be shown: it is too short", record.position);
            return None;
        };
        let (mut event, source) = match Event::from_bytes(body) {
            // No device has this epoch: its session refuses it.
            Ok(event) if spool_epoch == OWN_EPOCH => (event, EventSource::Server),
            Ok(event) => (event, EventSource::Device),
            Err(error) => (unreadable(record.received_at, body, &error), EventSource::Server),
        };
        if self.severity.is_some_and(|least| event.severity < least) {
            return None;
        }
        if source == EventSource::Device && is_server_name(&event.application) {
            event.application.insert_str(0, CLAIMED_PREFIX);
        }
        Some(EventRecord {
            position: record.position,
            next_position: record.next_position,
            device: None,
            device_id: record.device,
            source,
            spool_epoch,
            sequence: record.sequence,
            received_at: record.received_at.into(),
            occurred_at: event.occurred_at.into(),
            severity: event.severity,
            application: event.application,
            kind: event.kind,
            message: event.message,
            fields: event.fields.into_iter().map(|(name, value)| (name, value.into())).collect(),
        })
    }
}

/// The text in place of an event that this version can't read: it was stored as it came.
fn unreadable(received_at: WallTime, body: &[u8], error: &EventError) -> Event {
    Event {
        severity: Severity::Warning,
        application: SERVER_NAME.into(),
        kind: "unreadable".into(),
        message: format!("an event of {} bytes that this version can't read: {error}", body.len()),
        occurred_at: received_at,
        fields: Vec::new(),
    }
}

/// The device that is meant: known, or the id of one that was removed, whose events are still there.
fn device_id(context: &AdminContext, name: &str) -> Result<DeviceId, ApiError> {
    match query::device(&*context.store.reader()?, &DeviceKey::NameOrId(name.to_owned())) {
        Ok(detail) => Ok(detail.row.device),
        Err(error @ (StoreError::NoDevice(_) | StoreError::DeviceRemoved(_))) => {
            name.parse().map_err(|_| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The device whose events are wanted; nothing: those of all.
pub(super) fn wanted_device(
    context: &AdminContext,
    scope: &Scope,
    name: Option<String>,
) -> Result<Option<DeviceId>, ApiError> {
    scope.device_or_fleet(&context.store.reader()?, name.as_deref())?;
    name.map(|name| device_id(context, &name)).transpose()
}

/// Fills in what the devices are called.
pub(super) fn name_devices(reader: &Reader, events: &mut [EventRecord]) -> Result<(), ApiError> {
    let mut names: HashMap<DeviceId, Option<String>> = HashMap::new();
    for event in events {
        let name = match names.get(&event.device_id) {
            Some(name) => name.clone(),
            None => {
                let name = query::name_if_enrolled(reader, event.device_id)?;
                names.insert(event.device_id, name.clone());
                name
            }
        };
        event.device = name;
    }
    Ok(())
}

pub(super) async fn list(
    May { shared, scope, .. }: May<See>,
    Query(asked): Query<EventQuery>,
) -> Answer<Page<EventRecord>> {
    let limit = limit(asked.limit)?;
    let before = match &asked.cursor {
        None => None,
        Some(cursor) => Some(parse_cursor(cursor)?),
    };
    let work = move |context: &AdminContext| {
        let filter = Filter {
            device: wanted_device(context, &scope, asked.device)?,
            severity: asked.severity,
            since: asked.since.map_or(WallTime(0), |Timestamp(since)| since),
            until: asked.until.map(|Timestamp(until)| until),
        };
        read_page(context, &filter, before, limit)
    };
    shared.answer(work).await
}

fn read_page(
    context: &AdminContext,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<Page<EventRecord>, ApiError> {
    let before = before.unwrap_or_else(|| context.log.durable());
    let mut items = Vec::new();
    let (mut looked_at, mut next) = (0, None);
    let mut reached = before;
    let scanned = context.log.backward(before, filter.since, &mut |record| {
        if items.len() == limit || looked_at == SCAN_RECORDS_MAX {
            next = Some(record.next_position);
            return ControlFlow::Break(());
        }
        looked_at += 1;
        reached = record.position;
        items.extend(filter.pick(record));
        ControlFlow::Continue(())
    });
    scanned.map_err(|error| ApiError::internal(format!("the journal can't be read: {error}")))?;
    name_devices(&context.store.reader()?, &mut items)?;
    if next.is_none() {
        reached = 0;
    }
    let deleted = context.log.deleted().filter(|deleted| concerns(deleted, filter, reached));
    let deleted = deleted.map(|deleted| DeletedEvents {
        before: deleted.received_before.map(Into::into),
        warnings_from: deleted.warnings_from.map(Into::into),
    });
    Ok(Page { items, next_cursor: next.map(|position| format!("e{position:x}")), deleted })
}

/// Whether something of what was deleted would be in a list that reaches back to this position.
fn concerns(deleted: &Deleted, filter: &Filter, reached: u64) -> bool {
    let is_of_any_weight = filter.severity.is_none_or(|least| least < Severity::Warning);
    let is_after = deleted.received_before.is_some_and(|received| received <= filter.since);
    is_of_any_weight && !is_after && reached < deleted.before
}

fn parse_cursor(cursor: &str) -> Result<u64, ApiError> {
    cursor
        .strip_prefix('e')
        .filter(|digits| digits.len() <= 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| ApiError::invalid("that is not a cursor of this list: begin without one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::Epoch;

    fn found(payload: &[u8]) -> LogRecord<'_> {
        LogRecord {
            position: 64,
            next_position: 128,
            device: DeviceId(7),
            sequence: 4,
            received_at: WallTime(5_000),
            payload,
        }
    }

    #[test]
    fn an_event_that_this_version_can_not_read_is_shown_as_a_warning_that_says_so() {
        let mut payload = Vec::new();
        record::encode(Epoch(3), b"\xa0", &mut payload);
        let found = found(&payload);
        let to_api = Filter::default().pick(found).unwrap();
        assert_eq!((to_api.spool_epoch, to_api.sequence, to_api.severity), (Epoch(3), 4, Severity::Warning));
        assert_eq!((to_api.application.as_str(), to_api.kind.as_str()), ("muster", "unreadable"));
        let begins = "an event of 1 bytes that this version can't read: not an event: ";
        assert!(to_api.message.starts_with(begins), "{}", to_api.message);
        let errors = Filter { severity: Some(Severity::Error), ..Filter::default() };
        assert!(errors.pick(found).is_none());
        assert_eq!(to_api.source, EventSource::Server, "the words are the server's");
    }

    #[test]
    fn an_event_of_a_device_is_not_taken_for_one_of_the_servers_own() {
        let pick = |epoch, application: &str| {
            let event = Event {
                severity: Severity::Critical,
                application: application.into(),
                kind: "presence".into(),
                message: "lost (was connected)".into(),
                occurred_at: WallTime(1),
                fields: Vec::new(),
            };
            let mut payload = Vec::new();
            record::encode(Epoch(epoch), &event.to_bytes().unwrap(), &mut payload);
            let to_api = Filter::default().pick(found(&payload));
            to_api.map(|event| (event.source, event.application)).unwrap()
        };
        assert_eq!(pick(0, "muster"), (EventSource::Server, "muster".to_owned()));
        for claimed in ["muster", "Muster", " MUSTER ", "mu\u{200b}ster", "musterd"] {
            assert_eq!(pick(1, claimed), (EventSource::Device, format!("device:{claimed}")));
        }
        for other in ["muster-agent", "mustard", "shop"] {
            assert_eq!(pick(1, other), (EventSource::Device, other.to_owned()));
        }
    }
}
