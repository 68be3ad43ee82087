//! The table of devices as people read it: in a terminal, and as CSV.

use std::time::Duration;

use super::{Device, Presence, StatusReason, Timestamp};
use crate::wire::printable::escaped;
use crate::wire::units::format_duration;

/// The columns' heads.
pub(crate) const HEADS: [&str; 8] =
    ["NAME", "PRESENCE", "STATUS", "GROUP", "LAST SYNC (UTC)", "INTERVAL", "ID", "WHY"];

/// Placeholder in an empty cell.
pub(crate) const NOTHING_THERE: &str = "-";

/// The text, or the placeholder when it is empty.
pub(crate) fn or_nothing(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { NOTHING_THERE.to_owned() } else { text }
}

/// The cells of a device, a text each.
pub(crate) fn cells(device: &Device) -> [String; 8] {
    let persistent = if device.keep_connected { " (persistent)" } else { "" };
    [
        device.name.clone(),
        format!("{}{persistent}", words(device.presence)),
        device.status.to_string(),
        device.group.clone(),
        device.last_sync_at.map_or_else(|| NOTHING_THERE.to_owned(), time),
        duration(device.interval_seconds.into()),
        device.id.to_string(),
        why(&device.reasons),
    ]
}

/// The worst reason, and how many more there are.
pub(crate) fn why(reasons: &[StatusReason]) -> String {
    match reasons {
        [] => NOTHING_THERE.into(),
        [only] => only.text.clone(),
        [worst, more @ ..] => format!("{} (+{} more)", worst.text, more.len()),
    }
}

/// A presence for people; commands and JSON have it by its name.
pub(crate) fn words(presence: Presence) -> &'static str {
    match presence {
        Presence::Connected => "connected",
        Presence::Idle => "idle",
        Presence::Asleep => "asleep",
        Presence::ShutDown => "shut down",
        Presence::AgentStopped => "agent stopped",
        Presence::Lost => "lost",
        Presence::NeverSeen => "never seen",
        Presence::Waiting => "waiting for approval",
    }
}

/// A time to the second, in UTC.
pub(crate) fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match (text.split_once('T'), text.get(11..19)) {
        (Some((date, _)), Some(clock)) => format!("{date} {clock}"),
        _ => text,
    }
}

/// A duration in seconds, its two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let rounded = match seconds {
        172_800.. => seconds - seconds % 3_600,
        7_200.. => seconds - seconds % 60,
        _ => seconds,
    };
    format_duration(Duration::from_secs(rounded))
}

/// A line of CSV (RFC 4180, but that it ends as lines do here). A cell that a spreadsheet would take for a
/// formula has an apostrophe before it: devices choose their names.
pub(crate) fn csv_line<'c>(cells: impl IntoIterator<Item = &'c str>) -> String {
    let mut line = String::new();
    for cell in cells {
        if !line.is_empty() {
            line.push(',');
        }
        let guard = if cell != NOTHING_THERE && cell.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
        line.push('"');
        line.push_str(guard);
        line.push_str(&escaped(cell).replace('"', "\"\""));
        line.push('"');
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::WallTime;

    #[test]
    fn values_are_short() {
        assert_eq!(duration(59), "59s");
        assert_eq!(duration(7_325), "2h2m");
        assert_eq!(duration(200_000), "2d7h");
        assert_eq!(time(Timestamp(WallTime(1_795_514_400_123))), "2026-11-24 10:00:00");
    }

    #[test]
    fn a_cell_breaks_no_line_and_is_no_formula() {
        let line = csv_line(["a \"b\", c", "=1+1", "-", "-x", "", "two\nlines\u{202e}"]);
        assert_eq!(line, "\"a \"\"b\"\", c\",\"'=1+1\",\"-\",\"'-x\",\"\",\"two\\nlines\\u{202e}\"\n");
    }
}
