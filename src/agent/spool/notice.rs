//! The event that tells what the spool dropped.

use super::state::{Dropped, SEVERITIES};
use crate::agent::application::check::AGENT_NAME;
use crate::wire::event::{Event, Severity};
use crate::wire::time::WallTime;

/// Kind of the event.
pub(super) const KIND: &str = "spool.dropped";

/// The event that tells of `dropped`: the counts and ranges are among its fields.
#[must_use]
pub(super) fn event(dropped: &[Dropped; SEVERITIES], now: WallTime) -> Event {
    let mut fields = Vec::new();
    let mut parts = Vec::new();
    for (severity, dropped) in Severity::ALL.into_iter().zip(dropped) {
        if dropped.count > 0 {
            fields.push((format!("{severity}.count"), dropped.count.to_string()));
            fields.push((format!("{severity}.first"), dropped.first.to_string()));
            fields.push((format!("{severity}.last"), dropped.last.to_string()));
            parts.push(format!("{} {severity}", dropped.count));
        }
    }
    Event {
        severity: Severity::Warning,
        application: AGENT_NAME.to_owned(),
        kind: KIND.to_owned(),
        message: format!(
            "the spool was full: {} events were dropped before the server had them",
            parts.join(", ")
        ),
        occurred_at: now,
        fields,
    }
}

/// Counts in the bytes of such an event: when it is dropped itself, they go on in the next one.
#[must_use]
pub(super) fn read(bytes: &[u8]) -> Option<[Dropped; SEVERITIES]> {
    let event = Event::from_bytes(bytes).ok()?;
    if event.application != AGENT_NAME || event.kind != KIND {
        return None;
    }
    let number = |name: String| {
        let field = event.fields.iter().find(|(field, _)| *field == name);
        field.and_then(|(_, value)| value.parse::<u64>().ok()).unwrap_or_default()
    };
    Some(Severity::ALL.map(|severity| Dropped {
        count: number(format!("{severity}.count")),
        first: number(format!("{severity}.first")),
        last: number(format!("{severity}.last")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_can_be_read_again() {
        let mut dropped = [Dropped::default(); SEVERITIES];
        dropped[0].note(7);
        dropped[0].note(5);
        dropped[3].note(6);
        let event = event(&dropped, WallTime(1));
        assert_eq!(
            event.message,
            "the spool was full: 2 info, 1 critical events were dropped before the server had them"
        );
        assert_eq!(read(&event.to_bytes().unwrap()), Some(dropped));
        assert_eq!(dropped[0], Dropped { count: 2, first: 5, last: 7 });
        assert_eq!(read(b"x"), None);
    }
}
