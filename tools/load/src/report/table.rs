//! The report for a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

use super::json::QUANTILES;
use super::model::{Curve, Figure, Latency, Report};
use super::text::{
    NOTHING_THERE, by_group, bytes, capitalised, duration, grouped, moment, number, plain, quantity, range,
    sparkline,
};

/// Narrowest width that a table is fitted to.
const TABLE_COLUMNS_MIN: u16 = 40;

/// Width of a curve: beside its two values it fits a terminal of 80.
const CURVE_COLUMNS: usize = 48;

/// Least points that make a curve: a fitted line has two and shows nothing in one line of text.
const CURVE_POINTS_MIN: usize = 5;

/// Heads of a table of latencies.
pub(super) const LATENCY_HEADS: [&str; 7] = ["LATENCY", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"];

/// Prints the report on standard output.
///
/// # Errors
/// When standard output does not take it.
pub(crate) fn print(report: &Report) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
    let width = size.map(|size| size.ws_col).filter(|columns| *columns > 0);
    stdout.write_all(render(report, width).as_bytes())?;
    stdout.flush()
}

/// The report as text, in `columns` columns; `None` wraps nothing.
pub(crate) fn render(report: &Report, width: Option<u16>) -> String {
    let mut page = Page { text: String::new(), width: width.map(|width| width.max(TABLE_COLUMNS_MIN)) };
    page.line(&report.title);
    page.line(&run(report));
    page.line(&machine(report));
    page.figures(&report.figures);
    page.latencies(&report.latencies);
    for curve in &report.curves {
        page.curve(curve);
    }
    if !report.notes.is_empty() {
        page.head("Notes");
        for note in &report.notes {
            page.wrapped("- ", note);
        }
    }
    page.gap();
    match report.passed {
        Some(true) => page.line("passed"),
        Some(false) => page.line("NOT passed"),
        None => {}
    }
    if let Some(conclusion) = &report.conclusion {
        page.line(conclusion);
    }
    page.text.truncate(page.text.trim_end().len());
    page.text.push('\n');
    page.text
}

fn run(report: &Report) -> String {
    let parameters = report.parameters.iter().map(|(name, value)| format!(", {name} {value}"));
    format!("muster-load {}{}", report.command, parameters.collect::<String>())
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let versions = report.versions.iter().map(|(name, version)| format!(", {name} {version}"));
    format!(
        "{}, {} cores, {}, {}, load average {:.2}{}; {}, {}",
        machine.cpu_model,
        machine.cores,
        bytes(machine.memory_bytes as f64),
        machine.kernel,
        machine.load_average,
        versions.collect::<String>(),
        moment(&report.started_at),
        duration(report.seconds * 1e6),
    )
}

struct Page {
    text: String,
    width: Option<u16>,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.wrapped("", text);
    }

    /// A paragraph, broken between words; its later lines stand below the first one's text.
    fn wrapped(&mut self, mark: &str, text: &str) {
        let columns = self.width.map_or(usize::MAX, usize::from);
        let mut line = mark.to_owned();
        let mut is_empty = true;
        for word in plain(text).split(' ') {
            if !is_empty && line.chars().count() + 1 + word.chars().count() > columns {
                self.push(&line);
                line = " ".repeat(mark.len());
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        self.push(&line);
    }

    fn push(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn gap(&mut self) {
        if !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn head(&mut self, text: &str) {
        self.gap();
        self.line(&capitalised(text));
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        table
    }

    fn write(&mut self, table: &Table) {
        for line in table.trim_fmt().lines() {
            // The left padding of the first column.
            self.push(line.strip_prefix(' ').unwrap_or(line));
        }
    }

    /// One table, so that the values of all groups stand below each other.
    fn figures(&mut self, figures: &[Figure]) {
        let mut table = self.table();
        for (group, members) in by_group(figures, |figure| &figure.label) {
            if let Some(group) = group {
                table.add_row([plain(&capitalised(group)), String::new(), String::new()]);
            }
            for (label, figure) in members {
                let label = if group.is_some() { format!("  {}", plain(label)) } else { plain(label) };
                let note =
                    figure.note.as_deref().map_or_else(String::new, |note| format!("({})", plain(note)));
                table.add_row([label, quantity(figure.value, figure.unit), note]);
            }
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if !figures.is_empty() {
            self.gap();
            self.write(&table);
        }
    }

    fn latencies(&mut self, latencies: &[Latency]) {
        if latencies.is_empty() {
            return;
        }
        self.gap();
        let mut table = self.table();
        table.set_header(LATENCY_HEADS);
        for latency in latencies {
            table.add_row(latency_row(latency).map(|cell| plain(&cell)));
        }
        for column in table.column_iter_mut().skip(1) {
            // The label is the cell to break.
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        self.write(&table);
    }

    fn curve(&mut self, curve: &Curve) {
        let is_bytes = curve.y_label.contains("bytes");
        let value = |y: f64| if is_bytes { bytes(y) } else { number(y) };
        for (name, points) in curve.series.iter().filter(|(_, points)| points.len() >= CURVE_POINTS_MIN) {
            let Some(line) = sparkline(points, points.len().min(CURVE_COLUMNS)) else { continue };
            let ys = points.iter().map(|(_, y)| *y).filter(|y| y.is_finite());
            let Some((least, most)) = range(ys) else { continue };
            self.head(&format!("{}, {name}", curve.label));
            self.push(&format!("  {line}  {} to {}", value(least), value(most)));
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                let axis = format!("{} to {}: {}", number(first.0), number(last.0), curve.x_label);
                self.push(&format!("  {}", plain(&axis)));
            }
        }
    }
}

/// The cells under [`LATENCY_HEADS`], on the page as well.
pub(super) fn latency_row(latency: &Latency) -> [String; 7] {
    let histogram = &latency.histogram;
    let time = |microseconds: u64| {
        if histogram.is_empty() { NOTHING_THERE.to_owned() } else { duration(microseconds as f64) }
    };
    let [p50, p90, p99, p999, _] = QUANTILES.map(|(quantile, _)| time(histogram.value_at_quantile(quantile)));
    let count = grouped(&histogram.len().to_string());
    [latency.label.clone(), count, p50, p90, p99, p999, time(histogram.max())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_terminal_shows_everything_and_the_conclusion_last() {
        let report = example::report();
        let text = render(&report, Some(100));
        for part in [
            "18,000 devices on one server",
            "muster-load hold, devices 18000",
            "Processor time\n",
            "  a sync with no change",
            "7.31 µs",
            "(slope over 19 points)",
            "LATENCY",
            "P99.9",
            "40,000",
            "Devices that are live again, live",
            "- The figures of this example are invented.",
            "\npassed\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.lines().last(), report.conclusion.as_deref());
        assert!(!text.contains("271 bytes a link"), "two points are no curve");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn values_of_all_groups_stand_below_each_other() {
        let text = render(&example::report(), None);
        let end = |value: &str| {
            let line = text.lines().find(|line| line.contains(value)).unwrap();
            line[..line.find(value).unwrap() + value.len()].chars().count()
        };
        assert_eq!(end(" 271 B"), end(" 7.31 µs"));
        assert_eq!(end(" 271 B"), end(" 5,312 /s"));
    }

    #[test]
    fn a_narrow_terminal_breaks_lines_and_no_terminal_does_not() {
        let report = example::report();
        let narrow = render(&report, Some(1));
        assert!(narrow.lines().all(|line| line.chars().count() <= 72), "{narrow}");
        assert!(narrow.contains("780,000"));
        let wide = render(&report, None);
        assert_eq!(wide.lines().nth(1).unwrap(), run(&report), "one line");
    }

    #[test]
    fn nothing_measured_is_no_zero_and_names_do_not_command() {
        let mut report = example::report();
        report.latencies[0].histogram.reset();
        report.figures[0].label = "a: \u{1b}[2Jb".to_owned();
        report.figures[0].value = f64::NAN;
        report.passed = Some(false);
        report.conclusion = None;
        let text = render(&report, None);
        let row = text.lines().find(|line| line.contains("full handshake") && line.contains(" 0 ")).unwrap();
        assert_eq!(row.split_whitespace().filter(|cell| *cell == "-").count(), 5, "{row}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(text.lines().last(), Some("NOT passed"));
    }
}
