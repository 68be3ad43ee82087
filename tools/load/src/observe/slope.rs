//! A straight line through points: what one more device costs, and how far from a line the points are.

/// `y = intercept + slope × x`, by least squares.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Line {
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    /// Root of the mean square of what the line is off by, in units of y.
    pub(crate) residual: f64,
    /// Number of points that it goes through.
    pub(crate) points: usize,
}

impl Line {
    /// The least-squares line. `None` below two points of different x, or when a value is no number.
    pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        // Around the middle: memory in bytes, squared, would lose the digits that matter.
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let (mut square, mut product) = (0.0, 0.0);
        for (x, y) in points {
            square += (x - mean_x) * (x - mean_x);
            product += (x - mean_x) * (y - mean_y);
        }
        // `None` for no points as well: their mean is no number.
        if square.is_nan() || square <= 0.0 {
            return None;
        }
        let slope = product / square;
        let intercept = mean_y - slope * mean_x;
        let off = points.iter().map(|(x, y)| (y - intercept - slope * x).powi(2)).sum::<f64>();
        let line = Self { slope, intercept, residual: (off / count).sqrt(), points: points.len() };
        (slope.is_finite() && intercept.is_finite() && line.residual.is_finite()).then_some(line)
    }

    pub(crate) fn at(&self, x: f64) -> f64 {
        self.slope.mul_add(x, self.intercept)
    }

    /// Its two ends, to be plotted beside the points.
    pub(crate) fn between(&self, first_x: f64, last_x: f64) -> Vec<(f64, f64)> {
        vec![(first_x, self.at(first_x)), (last_x, self.at(last_x))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<(f64, f64)> =
            [0.0, 2_000.0, 10_000.0, 18_000.0].map(|links| (links, 9e9 + 256.0 * links)).into();
        let line = Line::fit(&points).unwrap();
        assert!((line.slope - 256.0).abs() < 1e-6, "{line:?}");
        assert!((line.intercept - 9e9).abs() < 1e-3 && line.residual < 1e-3, "{line:?}");
        assert_eq!(line.points, 4);
        assert_eq!(line.between(0.0, 10.0)[1].0, 10.0);
        assert!((line.at(10.0) - 9_000_002_560.0).abs() < 1e-3);
    }

    #[test]
    fn what_is_no_straight_line_has_a_residual() {
        let line = Line::fit(&[(0.0, 0.0), (1.0, 3.0), (2.0, 0.0)]).unwrap();
        assert_eq!((line.slope, line.intercept), (0.0, 1.0));
        assert!((line.residual - 2.0_f64.sqrt()).abs() < 1e-12, "{line:?}");
    }

    #[test]
    fn some_points_have_no_line() {
        assert_eq!(Line::fit(&[]), None);
        assert_eq!(Line::fit(&[(1.0, 1.0)]), None);
        assert_eq!(Line::fit(&[(1.0, 1.0), (1.0, 2.0)]), None, "of one x");
        assert_eq!(Line::fit(&[(0.0, 1.0), (1.0, f64::NAN)]), None);
        assert_eq!(Line::fit(&[(0.0, 1.0), (f64::INFINITY, 2.0)]), None);
    }
}
