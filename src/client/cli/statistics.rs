//! The statistics of a device: each number with a day of it in one line.

use super::Failure;
use super::output::{NOTHING_THERE, Output, plain, time};
use super::plot::plot;
use crate::wire::api::StatisticSeries;
use crate::wire::api::quantity::quantity;

/// Length of a plot: 24 hours.
const PLOT_MILLISECONDS: u64 = 24 * 60 * 60 * 1_000;

/// Columns of a plot: one for half an hour.
const COLUMNS: usize = 48;

/// Columns of a plot in a narrow terminal: one for an hour.
const COLUMNS_NARROW: usize = 24;

/// Below this many columns a terminal is narrow.
const WIDE_COLUMNS_MIN: u16 = 120;

/// Shows statistics, application by application.
pub(super) fn show(output: &mut Output, statistics: &[StatisticSeries]) -> Result<(), Failure> {
    let is_narrow = output.width().is_some_and(|width| width < WIDE_COLUMNS_MIN);
    let columns = if is_narrow { COLUMNS_NARROW } else { COLUMNS };
    for series in statistics.chunk_by(|a, b| a.application == b.application) {
        let Some(first) = series.first() else { continue };
        output.line("")?;
        output.line(&format!(
            "statistics of {}, reported {} (UTC), and the 24 h before",
            plain(&first.application),
            time(first.at)
        ))?;
        let rows: Vec<[String; 4]> = series.iter().map(|series| row(series, columns)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (names, values) = (width(0), width(1));
        for [name, value, line, range] in &rows {
            output.line(&format!("  {name:names$}  {value:>values$}  {line:columns$}  {range}"))?;
        }
    }
    Ok(())
}

fn row(series: &StatisticSeries, columns: usize) -> [String; 4] {
    let unit = plain(&series.unit);
    let value = series.value.map_or(NOTHING_THERE.into(), |value| quantity(value.0, &unit));
    let points = series.points.iter().map(|(at, value)| (at.0.0, value.0));
    let (line, range) = match plot(points, series.at.0.0, PLOT_MILLISECONDS, columns) {
        None => (String::new(), String::new()),
        Some(plot) => {
            (plot.line, format!("{} to {}", quantity(plot.least, &unit), quantity(plot.most, &unit)))
        }
    };
    [plain(&series.name), value, line, range]
}
