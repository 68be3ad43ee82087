//! Texts of pages: escaped, short, and times as people say them.

use std::fmt::{self, Write};
use std::time::Duration;

use askama::filters::{Escaper, Html};

use crate::wire::api::Timestamp;
use crate::wire::api::device_table::{duration, time};
use crate::wire::printable::escaped_lines;
use crate::wire::time::WallTime;

/// Escapes what HTML takes for its own, and shows what would not be seen or reorders a line.
#[derive(Clone, Copy)]
pub(in crate::admin) struct Seen;

impl Escaper for Seen {
    fn write_escaped_str<W: Write>(&self, dest: W, text: &str) -> fmt::Result {
        Html.write_escaped_str(dest, &escaped_lines(text))
    }
}

/// A moment as a page shows it.
pub(super) struct When {
    /// For programs, RFC 3339.
    pub(super) stamp: String,
    /// To the second, in UTC.
    pub(super) utc: String,
    /// Time since then, or until then.
    pub(super) relative: String,
}

impl When {
    pub(super) fn new(at: Timestamp) -> Self {
        let now = now();
        let relative = match at.0.0.checked_sub(now.0) {
            Some(ahead) if ahead >= 1_000 => format!("in {}", rounded(ahead)),
            _ if now.0 - at.0.0.min(now.0) < 1_000 => "now".to_owned(),
            _ => format!("{} ago", rounded(now.0 - at.0.0)),
        };
        Self { stamp: at.to_string(), utc: format!("{} UTC", time(at)), relative }
    }
}

/// The wall clock: pages say how long ago something was.
pub(super) fn now() -> WallTime {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds, in their largest unit.
fn rounded(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    duration(seconds - seconds % unit)
}

/// A number, in groups of three digits.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 device`, `5 devices`.
pub(super) fn many(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_hidden_characters_are_shown_as_text() {
        let mut shown = String::new();
        Seen.write_escaped_str(&mut shown, "<b>\"x'&\u{202e}\n\u{0}").unwrap();
        assert_eq!(shown, "&#60;b&#62;&#34;x&#39;&#38;\\u{202e}\n\\u{0}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([7, 1_000, 1_234_567].map(count), ["7", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_time_is_near_and_exact() {
        let ago = |seconds: u64| When::new(WallTime(now().0 - seconds * 1_000 - 500).into()).relative;
        assert_eq!([0, 59, 3_700, 90_000].map(ago), ["now", "59s ago", "1h ago", "1d ago"]);
        let ahead = When::new(WallTime(now().0 + 125_500).into());
        assert_eq!((ahead.relative.as_str(), ahead.stamp.len()), ("in 2m", 24));
    }
}
