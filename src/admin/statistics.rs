//! Statistics: what the store keeps of a device's numbers, as administration shows it.

use crate::fleet::ring::begin_of;
use crate::store::ApplicationStatistics;
use crate::wire::api::StatisticSeries;
use crate::wire::statistics::Number;

/// One series for each number, by application and name.
pub(super) fn series(statistics: Vec<ApplicationStatistics>) -> Vec<StatisticSeries> {
    statistics.into_iter().flat_map(of_application).collect()
}

/// The number that people would write for it, to the four digits that are kept: 0.1, where the bits alone say
/// 0.10000610352.
fn widened(value: f32) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value.into())
}

fn of_application(statistics: ApplicationStatistics) -> Vec<StatisticSeries> {
    let ApplicationStatistics { application, at, latest, ring } = statistics;
    let points = |column: usize| {
        let points = ring.points().iter().rev();
        let value = |values: &[f32]| values.get(column).copied().filter(|value| value.is_finite());
        points
            .filter_map(|point| Some((begin_of(point.slot).into(), Number(widened(value(&point.values)?)))))
            .collect()
    };
    let series = |(column, (name, unit, value)): (usize, (String, String, Option<f64>))| StatisticSeries {
        application: application.clone(),
        name,
        unit,
        value: value.map(Number),
        at: at.into(),
        points: points(column),
    };
    latest.into_iter().enumerate().map(series).collect()
}
