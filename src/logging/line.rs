//! The form of a line: for people with a time, for journald with its priority.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use log::Level;

use crate::wire::printable::is_hidden;

/// Longest message. The rest is cut off.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The form of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// Time, level and module before each message.
    Plain,
    /// A priority that journald takes off again (sd-daemon(3)): it has a time of its own.
    Journal,
}

impl Style {
    /// The form for `out`, by what systemd says of the stream that it gave the process: `DEVICE:INODE` of the
    /// journal's socket (systemd.exec(5), `$JOURNAL_STREAM`). A process that inherits the variable with
    /// another standard error is not connected to the journal.
    pub(super) fn of(out: &File, journal_stream: Option<&str>) -> Self {
        let said = journal_stream.and_then(|said| {
            let (device, inode) = said.split_once(':')?;
            Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
        });
        let is = out.metadata().ok().map(|of| (of.dev(), of.ino()));
        if said.is_some() && said == is { Self::Journal } else { Self::Plain }
    }

    /// A message with everything before it, and the end of the line. Further lines of the message are
    /// indented, so that no message can look like another one, and what is not seen or commands a terminal is
    /// shown as escapes.
    pub(super) fn write(self, out: &mut String, level: Level, target: &str, message: fmt::Arguments<'_>) {
        // Writing to a string does not fail; a value that can't be shown ends its message there.
        let _ = match self {
            Self::Plain => write!(out, "[{:.3} {level:<5} {target}] ", jiff::Timestamp::now()),
            Self::Journal => write!(out, "<{}>{target}: ", priority(level)),
        };
        let mut text = Text { out, style: self, level, room: MESSAGE_BYTES_MAX };
        if text.write_fmt(message).is_err() {
            out.push('…');
        }
        out.push('\n');
    }

    /// A line of its own.
    pub(super) fn bare(self, text: &str) -> String {
        let mut out = String::new();
        match self {
            Self::Plain => {}
            Self::Journal => out.push_str(&format!("<{}>", priority(Level::Error))),
        }
        let mut line = Text { out: &mut out, style: self, level: Level::Error, room: MESSAGE_BYTES_MAX };
        if fmt::Write::write_str(&mut line, text).is_err() {
            out.push('…');
        }
        out.push('\n');
        out
    }
}

/// Priorities of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A message on its way into a line.
struct Text<'a> {
    out: &'a mut String,
    style: Style,
    level: Level,
    room: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = &text[..text.floor_char_boundary(self.room.min(text.len()))];
        self.room -= kept.len();
        let mut rest = kept;
        while let Some(at) = rest.find(is_hidden) {
            self.out.push_str(&rest[..at]);
            let Some(hidden) = rest[at..].chars().next() else { break };
            rest = &rest[at + hidden.len_utf8()..];
            match (hidden, self.style) {
                ('\n', Style::Plain) => self.out.push_str("\n    "),
                ('\n', Style::Journal) => write!(self.out, "\n<{}>    ", priority(self.level))?,
                ('\t', _) => self.out.push('\t'),
                _ => write!(self.out, "{}", hidden.escape_default())?,
            }
        }
        self.out.push_str(rest);
        if kept.len() < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn written(style: Style, message: &str) -> String {
        let mut out = String::new();
        style.write(&mut out, Level::Warn, "muster::x", format_args!("{message}"));
        out
    }

    #[test]
    fn a_line_has_what_its_reader_needs() {
        let plain = written(Style::Plain, "it is so");
        let (time, rest) = plain.split_once(' ').unwrap();
        assert!(time.starts_with("[20") && time.ends_with('Z') && time.len() == 25, "{time}");
        assert_eq!(rest, "WARN  muster::x] it is so\n");
        assert_eq!(written(Style::Journal, "it is so"), "<4>muster::x: it is so\n");
        assert_eq!(Style::Journal.bare("musterd: no"), "<3>musterd: no\n");
    }

    #[test]
    fn a_message_can_neither_pretend_to_be_two_nor_steer_a_terminal_nor_be_endless() {
        assert!(written(Style::Plain, "a\n[b]\x1b[2J\r").ends_with("] a\n    [b]\\u{1b}[2J\\r\n"));
        let odd = written(Style::Plain, "\u{202e}a\u{200b}\u{9b}\u{2028}");
        assert!(odd.ends_with("] \\u{202e}a\\u{200b}\\u{9b}\\u{2028}\n"), "{odd}");
        assert_eq!(Style::Plain.bare("no: '\u{1b}[2J\u{202e}'\nx"), "no: '\\u{1b}[2J\\u{202e}'\n    x\n");
        assert_eq!(written(Style::Journal, "a\n<0>b"), "<4>muster::x: a\n<4>    <0>b\n");
        let long = written(Style::Journal, &"ü".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(long.len(), "<4>muster::x: …\n".len() + MESSAGE_BYTES_MAX);
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let stream = |inode: u64| format!("{}:{inode}", metadata.dev());
        assert_eq!(Style::of(&file, Some(&stream(metadata.ino()))), Style::Journal);
        for other in [None, Some(stream(metadata.ino() + 1)), Some("8:x".into()), Some(String::new())] {
            assert_eq!(Style::of(&file, other.as_deref()), Style::Plain, "{other:?}");
        }
    }
}
