//! Tables for people, JSON for programs; both as the pages come.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde::Serialize;

use super::Failure;
use crate::client::{AnswerPieces, ClientError};
use crate::wire::api::Timestamp;
pub(super) use crate::wire::api::device_table::{NOTHING_THERE, duration, or_nothing, time};
pub(super) use crate::wire::api::quantity::size;
use crate::wire::printable;

/// Narrowest width that a table is fitted to: below it every cell would be one letter wide.
const TABLE_COLUMNS_MIN: u16 = 40;

/// Space around a cell's text.
const CELL_PADDING_COLUMNS: u16 = 2;

/// Widest column that is not narrowed while there is another way: a time has 19, an id 16.
const KEPT_COLUMNS_MAX: u16 = 20;

/// Standard output.
pub(super) struct Output {
    out: BufWriter<io::Stdout>,
    pub(super) is_json: bool,
    /// Width of the terminal, in columns; nothing when there is none: then nothing is wrapped.
    width: Option<u16>,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
        let width = width.map(|size| size.ws_col).filter(|columns| *columns > 0);
        Self { out: BufWriter::new(stdout), is_json, width: width.map(|w| w.max(TABLE_COLUMNS_MIN)) }
    }

    /// Width of the terminal, in columns; nothing when there is none.
    pub(super) fn width(&self) -> Option<u16> {
        self.width
    }

    /// One JSON document.
    pub(super) fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        writeln!(self.out, "{}", printable::json_pretty(value).map_err(io::Error::from)?)?;
        Ok(self.out.flush()?)
    }

    /// An answer: one JSON document, or in words.
    pub(super) fn answer<T: Serialize>(
        &mut self,
        answer: &T,
        words: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.is_json { self.json(answer) } else { self.line(&words(answer)) }
    }

    /// One JSON document in one line.
    pub(super) fn json_line<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        writeln!(self.out, "{}", printable::json(value).map_err(io::Error::from)?)?;
        Ok(self.out.flush()?)
    }

    /// A line of text, or several, and out with it.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{}", printable::escaped_lines(text.trim_end()))?;
        Ok(self.out.flush()?)
    }

    /// A list, page by page: a table with these heads, or one JSON array.
    pub(super) fn list<T: Serialize>(
        &mut self,
        heads: &[&str],
        pages: impl Iterator<Item = Result<Vec<T>, ClientError>>,
        empty: &str,
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.is_json {
            self.array(pages)?;
            self.out.write_all(b"\n")?;
            return Ok(self.out.flush()?);
        }
        let mut widths: Option<Vec<u16>> = None;
        for page in pages {
            let items = page?;
            if !items.is_empty() {
                let rows: Vec<Vec<String>> = items.iter().map(&row).collect();
                let is_first = widths.is_none();
                self.page(heads, is_first, rows, &mut widths)?;
            }
            self.out.flush()?;
        }
        if widths.is_none() {
            // Standard error, so that a script that counts lines counts none.
            writeln!(io::stderr(), "{empty}")?;
        }
        Ok(self.out.flush()?)
    }

    /// Text that the server has made, as it comes.
    pub(super) fn pieces(&mut self, pieces: AnswerPieces<'_>) -> Result<(), Failure> {
        for piece in pieces {
            self.out.write_all(&piece?)?;
        }
        Ok(self.out.flush()?)
    }

    /// Whether somebody is there to be asked.
    pub(super) fn may_ask(&self) -> bool {
        !self.is_json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Says what would be done, and goes on when that is wanted.
    pub(super) fn confirm(&self, what: &str) -> Result<(), Failure> {
        write!(io::stderr(), "{}: do that? [y/N] ", plain(what))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::NotReached("nothing was changed".into())),
        }
    }

    /// One JSON object, member by member.
    pub(super) fn object(&mut self) -> Members<'_> {
        Members { output: self, separator: "{" }
    }

    /// A JSON array, as the pages come.
    fn array<T: Serialize>(
        &mut self,
        pages: impl Iterator<Item = Result<Vec<T>, ClientError>>,
    ) -> Result<(), Failure> {
        let mut separator = "[\n  ";
        for page in pages {
            for item in page? {
                self.out.write_all(separator.as_bytes())?;
                separator = ",\n  ";
                write!(self.out, "{}", printable::json(&item).map_err(io::Error::from)?)?;
            }
            self.out.flush()?;
        }
        let end: &[u8] = if separator.starts_with('[') { b"[]" } else { b"\n]" };
        Ok(self.out.write_all(end)?)
    }

    /// Rows under heads. Later pages keep at least the widths of the first, so that columns stay where they
    /// are.
    fn page(
        &mut self,
        heads: &[&str],
        has_head: bool,
        rows: Vec<Vec<String>>,
        widths: &mut Option<Vec<u16>>,
    ) -> Result<(), Failure> {
        let mut table = self.table();
        if has_head {
            table.set_header(heads.iter().copied());
        }
        for row in rows {
            table.add_row(row.iter().map(|cell| plain(cell)));
        }
        let widths = widths.get_or_insert_with(|| {
            let wanted = table.column_max_content_widths();
            match self.width {
                None => wanted,
                Some(terminal) => fit(&wanted, terminal),
            }
        });
        table.set_constraints(widths.iter().map(|width| {
            let width = Width::Fixed(width.saturating_add(CELL_PADDING_COLUMNS));
            match self.width {
                None => ColumnConstraint::LowerBoundary(width),
                Some(_) => ColumnConstraint::Absolute(width),
            }
        }));
        self.write(&table)
    }

    /// Names and values, a line each.
    pub(super) fn facts(&mut self, facts: Vec<(&str, String)>) -> Result<(), Failure> {
        let mut table = self.table();
        for (name, value) in facts {
            table.add_row([name.to_owned(), plain(&value)]);
        }
        self.write(&table)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        table
    }

    fn write(&mut self, table: &Table) -> Result<(), Failure> {
        for line in table.trim_fmt().lines() {
            // The left padding of the first column.
            writeln!(self.out, "{}", line.strip_prefix(' ').unwrap_or(line))?;
        }
        Ok(self.out.flush()?)
    }
}

/// A JSON object that is being written. Has one member at least, and is not whole before its end was said.
#[must_use]
pub(super) struct Members<'o> {
    output: &'o mut Output,
    separator: &'static str,
}

impl Members<'_> {
    /// A value.
    pub(super) fn value<T: Serialize>(&mut self, name: &str, value: &T) -> Result<(), Failure> {
        self.name(name)?;
        Ok(write!(self.output.out, "{}", printable::json(value).map_err(io::Error::from)?)?)
    }

    /// A list, page by page.
    pub(super) fn list<T: Serialize>(
        &mut self,
        name: &str,
        pages: impl Iterator<Item = Result<Vec<T>, ClientError>>,
    ) -> Result<(), Failure> {
        self.name(name)?;
        self.output.array(pages)
    }

    /// The end.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.output.out.write_all(b"\n}\n")?;
        Ok(self.output.out.flush()?)
    }

    fn name(&mut self, name: &str) -> Result<(), Failure> {
        let separator = std::mem::replace(&mut self.separator, ",");
        Ok(write!(self.output.out, "{separator}\n\"{name}\": ")?)
    }
}

/// The widths of columns in a terminal: narrow ones (times, ids, numbers) keep theirs, wide ones share what
/// is left, so that texts are wrapped and times are not.
fn fit(wanted: &[u16], terminal: u16) -> Vec<u16> {
    let padding = u16::try_from(wanted.len()).unwrap_or(u16::MAX).saturating_mul(CELL_PADDING_COLUMNS);
    let mut left = terminal.saturating_sub(padding);
    let mut widths = wanted.to_vec();
    let mut open: Vec<usize> = (0..wanted.len()).collect();
    open.sort_by_key(|column| wanted[*column]);
    let kept = wanted.iter().copied().filter(|width| *width <= KEPT_COLUMNS_MAX).fold(0, u16::saturating_add);
    let wide = wanted.iter().filter(|width| **width > KEPT_COLUMNS_MAX).count();
    let wide = u16::try_from(wide).unwrap_or(u16::MAX);
    let keeps_narrow = kept.saturating_add(wide.saturating_mul(KEPT_COLUMNS_MAX / 2)) <= left;
    for (done, column) in open.iter().enumerate() {
        let share = left / u16::try_from(open.len() - done).unwrap_or(1).max(1);
        if !(keeps_narrow && wanted[*column] <= KEPT_COLUMNS_MAX) {
            widths[*column] = wanted[*column].min(share).max(1);
        }
        left = left.saturating_sub(widths[*column]);
    }
    widths
}

/// Text in one line, with escapes for what would command a terminal: a device that writes a message is not
/// trusted with that.
pub(super) fn plain(text: &str) -> String {
    printable::escaped(text).into_owned()
}

/// A time, or a dash.
pub(super) fn time_or_nothing(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NOTHING_THERE.to_owned(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r\n\u{202e}c"), r"a\u{1b}[31mb\r\n\u{202e}c");
    }

    #[test]
    fn narrow_columns_keep_their_width_and_wide_ones_share_the_rest() {
        assert_eq!(fit(&[19, 8, 8, 120], 80), [19, 8, 8, 37]);
        assert_eq!(fit(&[19, 8, 90, 120], 80), [19, 8, 22, 23]);
        assert_eq!(fit(&[19, 8, 8, 30], 120), [19, 8, 8, 30], "what fits stays");
        assert_eq!(fit(&[19, 19, 19, 120], 40).iter().sum::<u16>(), 32, "a tiny terminal is shared");
        assert_eq!(fit(&[], 80), [0_u16; 0]);
    }
}
