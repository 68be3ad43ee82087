//! A day of numbers in one line.

/// The blocks of a plot, from the least to the most.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A plot: one line, and the values of its lowest and its highest mark.
#[derive(Debug, PartialEq)]
pub(super) struct Plot {
    pub(super) line: String,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// Plots values over time: in `columns` columns for the `length` milliseconds up to `end`, in each the mean
/// of its values, or a space when there is none. `None`: there is nothing to plot.
pub(super) fn plot(
    points: impl Iterator<Item = (u64, f64)>,
    end: u64,
    length: u64,
    columns: usize,
) -> Option<Plot> {
    let begin = end.saturating_sub(length);
    let mut cells = vec![(0.0_f64, 0.0_f64); columns];
    for (at, value) in points.filter(|(at, _)| (begin..=end).contains(at)) {
        let place = u128::from(at - begin) * columns as u128 / u128::from(length.max(1));
        let place = usize::try_from(place).unwrap_or(columns).min(columns.saturating_sub(1));
        if let Some((sum, count)) = cells.get_mut(place) {
            (*sum, *count) = (*sum + value, *count + 1.0);
        }
    }
    let means: Vec<Option<f64>> =
        cells.iter().map(|(sum, count)| (*count > 0.0).then(|| sum / count)).collect();
    let least = means.iter().flatten().copied().reduce(f64::min)?;
    let most = means.iter().flatten().copied().reduce(f64::max)?;
    let block = |mean: &Option<f64>| mean.map_or(' ', |mean| block(mean, least, most));
    Some(Plot { line: means.iter().map(block).collect(), least, most })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of seven")]
fn block(value: f64, least: f64, most: f64) -> char {
    // A value that does not change lies in the middle.
    let share = if most > least { (value - least) / (most - least) } else { 0.5 };
    let place = (share * 7.0).round().clamp(0.0, 7.0) as usize;
    BLOCKS.get(place).copied().unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plot_has_its_least_its_most_and_its_gaps() {
        let points = [(0, 5.0), (30, 0.0), (32, 2.0), (50, 8.0), (99, 1.0), (100, 1.0), (101, 99.0)];
        let plot = plot(points.into_iter(), 100, 100, 10).unwrap();
        assert_eq!(plot, Plot { line: "▅  ▁ █   ▁".into(), least: 1.0, most: 8.0 });
        assert_eq!(super::plot([(5, 3.0)].into_iter(), 10, 10, 4).unwrap().line, "  ▅ ");
        assert_eq!(super::plot(std::iter::empty(), 10, 10, 4), None);
    }

    proptest! {
        #[test]
        fn any_points_are_plotted_without_panic(
            points in prop::collection::vec((any::<u64>(), any::<f64>()), 0..20),
            end: u64,
            length: u64,
            columns in 0_usize..60,
        ) {
            if let Some(plot) = plot(points.into_iter(), end, length, columns) {
                prop_assert_eq!(plot.line.chars().count(), columns);
            }
        }
    }
}
