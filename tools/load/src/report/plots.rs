//! The plots of a report: each curve, and the latencies in two ways.

use hdrhistogram::Histogram;

use super::axis::{Axis, Scale};
use super::model::{Curve, Latency};
use super::svg::{Draw, Plot, Series};

/// Bars of a latency histogram for a factor of ten.
const BARS_PER_DECADE: i32 = 20;

/// Points of a percentile curve for a factor of ten that is left above.
const POINTS_PER_DECADE: f64 = 20.0;

/// Most points that a series may have to be taken for a computed line.
const COMPUTED_POINTS_MAX: usize = 2;

type Points = Vec<(f64, f64)>;

/// A curve, with an axis of bytes when its label says so. A series of two points beside a longer one is a
/// line that was fitted.
pub(super) fn curve(curve: &Curve) -> Plot {
    let (x_scale, x_label) = scale(&curve.x_label);
    let (y_scale, y_label) = scale(&curve.y_label);
    let has_measured = curve.series.iter().any(|(_, points)| points.len() > COMPUTED_POINTS_MAX);
    let has_computed = curve.series.iter().any(|(_, points)| points.len() == COMPUTED_POINTS_MAX);
    let draw_measured = if has_computed && has_measured { Draw::Dots } else { Draw::Line };
    let series = curve.series.iter().map(|(name, points)| {
        let is_computed = has_measured && points.len() <= COMPUTED_POINTS_MAX;
        let draw = if is_computed { Draw::Dashed } else { draw_measured };
        Series { name: name.clone(), draw, points: points.clone() }
    });
    plot(&curve.label, [&x_label, &y_label], [x_scale, y_scale], series.collect(), true)
}

/// Format of values with such a label, and the label without the unit that the ticks then have.
fn scale(label: &str) -> (Scale, String) {
    for (unit, scale) in [("bytes", Scale::Bytes), ("percent", Scale::Percent)] {
        if let Some(rest) = label.strip_suffix(unit) {
            return (scale, rest.trim_end().trim_end_matches(',').to_owned());
        }
    }
    (Scale::Linear, label.to_owned())
}

/// Which latencies can be plotted: there is nothing to see of nothing.
fn measured(latencies: &[Latency]) -> impl Iterator<Item = &Latency> + Clone {
    latencies.iter().filter(|latency| !latency.histogram.is_empty())
}

/// A series of each latency that can be plotted.
fn series(latencies: &[Latency], draw: Draw, points: impl Fn(&Histogram<u64>) -> Points) -> Vec<Series> {
    let one = |latency: &Latency| {
        let (name, points) = (latency.label.clone(), points(&latency.histogram));
        Series { name, draw, points }
    };
    measured(latencies).map(one).collect()
}

fn plot(title: &str, labels: [&str; 2], scales: [Scale; 2], series: Vec<Series>, has_zero: bool) -> Plot {
    let points = || series.iter().flat_map(|series| &series.points);
    let [x_label, y_label] = labels.map(str::to_owned);
    let x = Axis::around(scales[0], points().map(|point| point.0), false);
    let y = Axis::around(scales[1], points().map(|point| point.1), has_zero);
    Plot { title: title.to_owned(), x_label, y_label, x, y, series }
}

/// Latency over the percentile: how bad the worst are, and how rare. `None`: nothing was measured.
pub(super) fn percentiles(latencies: &[Latency]) -> Option<Plot> {
    measured(latencies).next()?;
    let series = series(latencies, Draw::Line, percentile_points);
    let scales = [Scale::Quantile, Scale::LogMicroseconds];
    Some(plot("Latency by percentile", ["percentile", "latency"], scales, series, false))
}

/// Up to the quantile that only the longest is above.
fn percentile_points(histogram: &Histogram<u64>) -> Points {
    let decades = (histogram.len() as f64).log10();
    let mut points = Vec::new();
    let mut decade = 0.0;
    while decade < decades {
        let quantile = 1.0 - 10_f64.powf(-decade);
        points.push((quantile, histogram.value_at_quantile(quantile) as f64));
        decade += 1.0 / POINTS_PER_DECADE;
    }
    points.push((1.0 - 10_f64.powf(-decades), histogram.max() as f64));
    points
}

/// Spread of latencies: the share that each bar has of all. `None`: nothing was measured.
pub(super) fn spread(latencies: &[Latency]) -> Option<Plot> {
    let least = measured(latencies).map(|latency| latency.histogram.min()).min()?;
    let most = measured(latencies).map(|latency| latency.histogram.max()).max()?;
    let edges = edges(least, most);
    let series = series(latencies, Draw::Steps, |histogram| bars(histogram, &edges));
    let scales = [Scale::LogMicroseconds, Scale::Percent];
    Some(plot("How latencies are spread", ["latency", "share of all"], scales, series, true))
}

/// Edges of bars from below the least to above the most value: whole microseconds, so that no bar is between
/// two of them.
fn edges(least: u64, most: u64) -> Vec<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to below 2^64")]
    let edge = |place: i32| 10_f64.powf(f64::from(place) / f64::from(BARS_PER_DECADE)).round() as u64;
    let mut edges: Vec<u64> = (0..=19 * BARS_PER_DECADE).map(edge).collect();
    edges.dedup();
    let (least, most) = (least.max(1), most.max(1));
    let begin = edges.iter().rposition(|edge| *edge <= least).unwrap_or(0);
    let end = edges.iter().position(|edge| *edge > most).map_or(edges.len(), |place| place + 1);
    edges.drain(begin..end).collect()
}

/// The left edge of each bar and its share in percent; last the right edge of the last bar. From the first
/// bar that is not empty to the last one.
fn bars(histogram: &Histogram<u64>, edges: &[u64]) -> Points {
    let mut counts = vec![0_u64; edges.len()];
    for value in histogram.iter_recorded() {
        let above = edges.partition_point(|edge| *edge <= value.value_iterated_to());
        if let Some(count) = counts.get_mut(above.saturating_sub(1)) {
            *count += value.count_at_value();
        }
    }
    let all = histogram.len().max(1) as f64;
    let begin = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let end = counts.iter().rposition(|count| *count > 0).map_or(0, |place| place + 2).min(counts.len());
    let bars = edges.iter().zip(counts).map(|(edge, count)| (*edge as f64, 100.0 * count as f64 / all));
    bars.take(end).skip(begin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    #[test]
    fn every_latency_is_in_one_bar() {
        let histogram = histogram(&[1, 2, 2, 3, 150, 9_999, 1_000_000]);
        let bars = bars(&histogram, &edges(1, 1_000_000));
        let sum: f64 = bars.iter().map(|(_, share)| share).sum();
        assert!((sum - 100.0).abs() < 1e-9, "{bars:?}");
        assert!((bars[1].1 - 200.0 / 7.0).abs() < 1e-9, "2 µs: {bars:?}");
        assert_eq!(bars.last().unwrap().1, 0.0, "the right edge");
        assert!(bars.last().unwrap().0 > 1_000_000.0);
    }

    #[test]
    fn edges_are_whole_and_rise() {
        let all = edges(1, 2_000_000);
        assert_eq!(all[..10], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert!(all.is_sorted_by(|a, b| a < b));
        assert_eq!(edges(0, 0), [1, 2], "0 µs stands in the first bar");
        assert!(edges(5, u64::MAX).len() > 100);
    }

    #[test]
    fn percentiles_reach_the_longest() {
        let values: Vec<u64> = (1..=10_000).collect();
        let points = percentile_points(&histogram(&values));
        assert_eq!(points[0].1, 1.0);
        let (quantile, longest) = *points.last().unwrap();
        assert!((quantile - 0.9999).abs() < 1e-9 && longest >= 10_000.0, "{quantile} {longest}");
        let median = points.iter().find(|(quantile, _)| *quantile >= 0.49).unwrap().1;
        assert!((4_800.0..5_600.0).contains(&median), "{median}");
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        assert_eq!(percentile_points(&histogram(&[7])), [(0.0, 7.0)]);
    }

    #[test]
    fn nothing_measured_is_not_plotted() {
        let mut latencies = example::report().latencies;
        assert_eq!(spread(&latencies).unwrap().series.len(), 2);
        latencies[0].histogram.reset();
        assert_eq!(percentiles(&latencies).unwrap().series.len(), 1);
        latencies[1].histogram.reset();
        assert!(spread(&latencies).is_none() && percentiles(&latencies).is_none());
    }

    #[test]
    fn a_fitted_line_is_dashed_and_bytes_have_their_unit() {
        let report = example::report();
        let plot = curve(&report.curves[0]);
        let draws: Vec<Draw> = plot.series.iter().map(|series| series.draw).collect();
        assert_eq!(draws, [Draw::Dots, Draw::Dashed]);
        let plain = curve(&report.curves[1]);
        assert!(plain.series.iter().all(|series| series.draw == Draw::Line));
        assert_eq!(plot.y_label, "private memory");
        assert!(plot.y.ticks.iter().all(|(_, label)| label.ends_with("MiB")));
        assert_eq!(scale("links"), (Scale::Linear, "links".to_owned()));
    }
}
