//! A plot as an inline SVG picture: axes, grid, ticks, labels, series. Colours are the page's, by class.

use std::fmt::Write as _;

use super::axis::Axis;
use super::text::plain;

/// Size of the picture, in its own units: a page scales it.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 330.0;

/// Room for labels around the plot, in the picture's units.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 52.0;

/// Space between labels on the x axis so that they can be told apart, in the picture's units.
const LABEL_GAP: f64 = 10.0;

/// Width of a letter of a tick's label, in the picture's units: an upper estimate for the font size of the
/// page's style.
const LETTER: f64 = 7.0;

/// Most points of a series that are drawn: the picture is no wider, and the page stays small.
const POINTS_MAX: usize = 600;

/// Most points that are marked with a dot, in points.
const DOTS_MAX: usize = 60;

/// Colours of the page's style. Series beyond begin again.
pub(super) const COLOURS: usize = 8;

/// Style of a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Draw {
    /// A line through points that were measured.
    Line,
    /// Points that were measured, beside the line that was fitted to them.
    Dots,
    /// A line that was computed.
    Dashed,
    /// Steps over an area: each point is the left edge of a bar, the last one ends it.
    Steps,
}

/// Points of one kind.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) draw: Draw,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x_label: String,
    pub(super) y_label: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
}

impl Plot {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let mut svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(&format!("{}: {} over {}", self.title, self.y_label, self.x_label)),
        );
        self.grid(&mut svg);
        // Dots last: a line through them would hide them.
        let numbered = || self.series.iter().enumerate();
        let lines = numbered().filter(|(_, series)| series.draw != Draw::Dots);
        for (place, series) in lines.chain(numbered().filter(|(_, series)| series.draw == Draw::Dots)) {
            self.series(&mut svg, series, place % COLOURS);
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Meaning of each colour.
    pub(super) fn legend(&self) -> String {
        let mut legend = String::from("<ul class=\"legend\">");
        for (place, series) in self.series.iter().enumerate() {
            let colour = place % COLOURS;
            let name = escape(&series.name);
            let key = match series.draw {
                Draw::Dots => format!("<circle class=\"dot c{colour}\" cx=\"12\" cy=\"4\" r=\"3.5\"/>"),
                Draw::Dashed => format!("<path class=\"line dashed c{colour}\" d=\"M1 4H23\"/>"),
                Draw::Line | Draw::Steps => format!("<path class=\"line c{colour}\" d=\"M1 4H23\"/>"),
            };
            // Writing to a text does not fail.
            let _ = write!(
                legend,
                "<li><svg class=\"key\" viewBox=\"0 0 24 8\" aria-hidden=\"true\">{key}</svg>{name}</li>"
            );
        }
        legend.push_str("</ul>\n");
        legend
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn grid(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut lines = String::new();
        let mut labels = String::new();
        for (value, label) in &self.y.ticks {
            let y = self.y(*value);
            let _ = write!(lines, "M{LEFT} {y:.1}H{right}");
            let (x, y) = (LEFT - 8.0, y + 4.0);
            let _ =
                writeln!(labels, "<text class=\"tick end\" x=\"{x}\" y=\"{y:.1}\">{}</text>", escape(label));
        }
        // End of the label before: labels that would touch it are left out, their grid lines are not.
        let mut taken = f64::NEG_INFINITY;
        for (value, label) in &self.x.ticks {
            let x = self.x(*value);
            let _ = write!(lines, "M{x:.1} {TOP}V{bottom}");
            let half = label.chars().count() as f64 * LETTER / 2.0;
            if x - half < taken + LABEL_GAP {
                continue;
            }
            taken = x + half;
            let y = bottom + 18.0;
            let _ = writeln!(
                labels,
                "<text class=\"tick middle\" x=\"{x:.1}\" y=\"{y}\">{}</text>",
                escape(label)
            );
        }
        let _ = writeln!(svg, "<path class=\"grid\" d=\"{lines}\"/>");
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>");
        svg.push_str(&labels);
        let (middle, below) = ((LEFT + right) / 2.0, HEIGHT - 10.0);
        let name = escape(&self.x_label);
        let _ = writeln!(svg, "<text class=\"name middle\" x=\"{middle}\" y=\"{below}\">{name}</text>");
        let (beside, middle) = (14.0, (TOP + bottom) / 2.0);
        let name = escape(&self.y_label);
        let _ = writeln!(
            svg,
            "<text class=\"name middle\" transform=\"translate({beside} {middle}) rotate(-90)\">{name}</text>"
        );
    }

    fn series(&self, svg: &mut String, series: &Series, colour: usize) {
        let points = series.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
        let points = thin(&points.collect::<Vec<_>>(), POINTS_MAX);
        let Some((first, last)) = points.first().zip(points.last()) else { return };
        let mut path = String::new();
        if series.draw == Draw::Steps {
            for (x, y) in &points {
                let (x, y) = (self.x(*x), self.y(*y));
                let _ = if path.is_empty() {
                    write!(path, "M{x:.1} {y:.1}")
                } else {
                    write!(path, "H{x:.1}V{y:.1}")
                };
            }
            let (ground, first, last) = (HEIGHT - BOTTOM, self.x(first.0), self.x(last.0));
            let area = path.strip_prefix('M').unwrap_or(&path);
            let _ = writeln!(
                svg,
                "<path class=\"area c{colour}\" d=\"M{first:.1} {ground}L{area}H{last:.1}V{ground}Z\"/>"
            );
        } else {
            for (x, y) in &points {
                let step = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{step}{:.1} {:.1}", self.x(*x), self.y(*y));
            }
        }
        let has_dots = match series.draw {
            Draw::Dots => true,
            Draw::Line => points.len() <= DOTS_MAX,
            Draw::Dashed | Draw::Steps => false,
        };
        if series.draw != Draw::Dots {
            let class = if series.draw == Draw::Dashed { " dashed" } else { "" };
            let _ = writeln!(svg, "<path class=\"line c{colour}{class}\" d=\"{path}\"/>");
        }
        if has_dots {
            for (x, y) in &points {
                let _ = write!(
                    svg,
                    "<circle class=\"dot c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                    self.x(*x),
                    self.y(*y)
                );
            }
            svg.push('\n');
        }
    }
}

/// Fewer points: of each stretch its lowest and its highest, so that no peak is lost.
fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil((most / 2).max(1));
    let mut kept = Vec::with_capacity(most);
    for part in points.chunks(stretch) {
        let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (part.iter().min_by(by_y), part.iter().max_by(by_y)) else { continue };
        let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
        kept.push(*first);
        if second != first {
            kept.push(*second);
        }
    }
    kept
}

/// Text that a browser shows as it is, in an element and in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in plain(text).chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::axis::Scale;
    use super::*;

    fn plot(draw: Draw, points: Vec<(f64, f64)>) -> Plot {
        let axis = |of: fn(&(f64, f64)) -> f64| Axis::around(Scale::Linear, points.iter().map(of), true);
        Plot {
            title: "a".to_owned(),
            x_label: "seconds".to_owned(),
            y_label: "devices".to_owned(),
            x: axis(|point| point.0),
            y: axis(|point| point.1),
            series: vec![Series { name: "live".to_owned(), draw, points }],
        }
    }

    #[test]
    fn points_are_where_they_belong() {
        let svg = plot(Draw::Line, vec![(0.0, 0.0), (10.0, 10.0)]).svg();
        // From the corner where the axes meet to the opposite one.
        assert!(svg.contains("d=\"M72.0 278.0L542.0 12.0\""), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">seconds</text>") && svg.contains(">devices</text>"));
        let svg = plot(Draw::Dashed, vec![(0.0, 0.0), (10.0, 10.0)]).svg();
        assert!(svg.contains("dashed") && !svg.contains("<circle"));
        let svg = plot(Draw::Dots, vec![(0.0, 0.0), (10.0, 10.0)]).svg();
        assert!(!svg.contains("class=\"line") && svg.matches("<circle").count() == 2);
        let svg = plot(Draw::Steps, vec![(0.0, 10.0), (5.0, 0.0), (10.0, 0.0)]).svg();
        assert!(svg.contains("d=\"M72.0 278L72.0 12.0H307.0V278.0H542.0V278.0H542.0V278Z\""), "{svg}");
    }

    #[test]
    fn a_long_series_keeps_its_peak() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), 1.0)).collect();
        points[54_321].1 = 99.0;
        points[54_322].1 = -99.0;
        let thinned = thin(&points, POINTS_MAX);
        assert!(thinned.len() <= POINTS_MAX);
        assert!(thinned.contains(&(54_321.0, 99.0)) && thinned.contains(&(54_322.0, -99.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 <= b.0));
        let svg = plot(Draw::Line, points).svg();
        assert!(svg.len() < 20_000, "{}", svg.len());
    }

    #[test]
    fn labels_do_not_touch() {
        let mut plot = plot(Draw::Line, vec![(0.0, 0.0), (1e12, 1.0)]);
        plot.x.ticks = (0..20).map(|n| (f64::from(n) * 5e10, "a long label".to_owned())).collect();
        assert!(plot.svg().matches("a long label").count() <= 5);
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<a b='c' d=\"e\">&\u{0}"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;\u{fffd}");
        let mut plot = plot(Draw::Line, vec![]);
        plot.title = "\"><script>".to_owned();
        plot.y_label = "<script>".to_owned();
        plot.series[0].name = "<script>".to_owned();
        assert!(!(plot.svg() + &plot.legend()).contains("<script"));
    }

    proptest! {
        #[test]
        fn any_points_make_a_picture(points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20)) {
            for draw in [Draw::Line, Draw::Dots, Draw::Dashed, Draw::Steps] {
                let svg = plot(draw, points.clone()).svg();
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
            }
        }
    }
}
