//! The report as one HTML file that needs no network and no script: style, plots and numbers are in it.

use std::fmt::Write as _;

use super::model::{Curve, Figure, Latency, Report};
use super::plots;
use super::svg::{Plot, escape};
use super::table::{LATENCY_HEADS, latency_row};
use super::text::{by_group, bytes, capitalised, duration, moment, quantity};

const STYLE: &str = include_str!("page.css");

/// Rights of the page, should a text ever get out of its place: none but to be styled.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page.
pub(crate) fn render(report: &Report) -> String {
    let mut page = Page(String::with_capacity(64 * 1024));
    page.begin(&report.title);
    page.header(report);
    page.conclusion(report);
    page.figures(&report.figures);
    page.latencies(&report.latencies);
    page.curves(&report.curves);
    page.notes(&report.notes);
    page.circumstances(report);
    page.end();
    page.0
}

struct Page(String);

impl Page {
    fn push(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// An element with a text and nothing else.
    fn element(&mut self, name: &str, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "<{name}{class}>{}</{name}>", escape(text));
    }

    fn begin(&mut self, title: &str) {
        self.push("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        let _ = writeln!(self.0, "<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">");
        self.push("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        self.element("title", "", &format!("{title} - muster-load"));
        let _ = write!(self.0, "<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n");
    }

    fn end(&mut self) {
        self.push(
            "<footer>Made by muster-load. Latencies are counted in buckets of three digits.</footer>\n",
        );
        self.push("</main>\n</body>\n</html>\n");
    }

    fn header(&mut self, report: &Report) {
        self.push("<header>\n");
        self.element("p", "", &format!("muster-load {}", report.command));
        self.element("h1", "", &report.title);
        let took = duration(report.seconds * 1e6);
        let machine = &report.machine;
        let memory = bytes(machine.memory_bytes as f64);
        let line = format!(
            "{} · {took} · {} · {} cores · {memory}",
            moment(&report.started_at),
            machine.cpu_model,
            machine.cores
        );
        self.element("p", "", &line);
        self.push("</header>\n");
    }

    fn conclusion(&mut self, report: &Report) {
        let (class, badge) = match report.passed {
            Some(true) => (" passed", "<span class=\"badge\">✓ passed</span>"),
            Some(false) => (" failed", "<span class=\"badge\">✗ not passed</span>"),
            None => ("", ""),
        };
        let text = match (&report.conclusion, report.passed) {
            (Some(text), _) => capitalised(text),
            (None, Some(true)) => "The run met its target".to_owned(),
            (None, Some(false)) => "The run missed its target".to_owned(),
            (None, None) => return,
        };
        let _ = writeln!(self.0, "<div class=\"conclusion{class}\">{badge}{}</div>", escape(&text));
    }

    fn figures(&mut self, figures: &[Figure]) {
        if figures.is_empty() {
            return;
        }
        self.push("<h2>Figures</h2>\n<div class=\"columns\">\n");
        for (group, members) in by_group(figures, |figure| &figure.label) {
            self.push("<section class=\"card\">\n");
            self.element("h3", "", &capitalised(group.unwrap_or("This run")));
            self.push("<table class=\"figures\">\n");
            for (label, figure) in members {
                let note = figure.note.as_deref().map(|note| format!("<small>{}</small>", escape(note)));
                let value = quantity(figure.value, figure.unit);
                let _ = writeln!(
                    self.0,
                    "<tr><th scope=\"row\">{}{}</th><td>{}</td></tr>",
                    escape(&capitalised(label)),
                    note.unwrap_or_default(),
                    escape(&value)
                );
            }
            self.push("</table>\n</section>\n");
        }
        self.push("</div>\n");
    }

    fn latencies(&mut self, latencies: &[Latency]) {
        if latencies.is_empty() {
            return;
        }
        self.push(
            "<h2>Latencies</h2>\n<section class=\"card scroll\">\n<table class=\"latencies\">\n<thead><tr>",
        );
        for head in LATENCY_HEADS {
            let _ = write!(self.0, "<th scope=\"col\">{}</th>", escape(&head.to_lowercase()));
        }
        self.push("</tr></thead>\n<tbody>\n");
        for latency in latencies {
            let [label, rest @ ..] = latency_row(latency);
            let _ = write!(self.0, "<tr><th scope=\"row\">{}</th>", escape(&capitalised(&label)));
            for cell in rest {
                let _ = write!(self.0, "<td>{}</td>", escape(&cell));
            }
            self.push("</tr>\n");
        }
        self.push("</tbody>\n</table>\n</section>\n");
        let plots = [plots::spread(latencies), plots::percentiles(latencies)];
        self.plots(plots.iter().flatten());
    }

    fn curves(&mut self, curves: &[Curve]) {
        if !curves.is_empty() {
            self.push("<h2>Curves</h2>\n");
            let plots: Vec<Plot> = curves.iter().map(plots::curve).collect();
            self.plots(plots.iter());
        }
    }

    fn plots<'p>(&mut self, plots: impl Iterator<Item = &'p Plot>) {
        self.push("<div class=\"plots\">\n");
        for plot in plots {
            self.push("<figure class=\"card\">\n");
            self.element("h3", "", &plot.title);
            self.push(&plot.svg());
            self.push(&plot.legend());
            self.push("</figure>\n");
        }
        self.push("</div>\n");
    }

    fn notes(&mut self, notes: &[String]) {
        if notes.is_empty() {
            return;
        }
        self.push("<h2>To judge these figures</h2>\n<section class=\"card\">\n<ul class=\"notes\">\n");
        for note in notes {
            self.element("li", "", note);
        }
        self.push("</ul>\n</section>\n");
    }

    fn circumstances(&mut self, report: &Report) {
        let machine = &report.machine;
        let facts = [
            ("processor".to_owned(), machine.cpu_model.clone()),
            ("cores".to_owned(), machine.cores.to_string()),
            ("memory".to_owned(), bytes(machine.memory_bytes as f64)),
            ("kernel".to_owned(), machine.kernel.clone()),
            ("load average at the start".to_owned(), format!("{:.2}", machine.load_average)),
        ];
        let command = [("command".to_owned(), format!("muster-load {}", report.command))];
        self.push("<h2>How it was measured</h2>\n<div class=\"columns\">\n");
        self.facts("Machine", &facts);
        self.facts("Parameters", &[&command, report.parameters.as_slice()].concat());
        self.facts("Versions", &report.versions);
        self.push("</div>\n");
    }

    fn facts(&mut self, head: &str, facts: &[(String, String)]) {
        if facts.is_empty() {
            return;
        }
        self.push("<section class=\"card\">\n");
        self.element("h3", "", head);
        self.push("<table class=\"facts\">\n");
        for (name, value) in facts {
            let (name, value) = (escape(name), escape(value));
            let _ = writeln!(self.0, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
        }
        self.push("</table>\n</section>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn everything_is_on_the_page() {
        let report = example::report();
        let page = render(&report);
        for part in [
            "<h1>18,000 devices on one server</h1>",
            "This server can hold about 780,000 devices in 4 GiB",
            "✓ passed",
            "<h3>Processor time</h3>",
            "7.31 µs",
            "<small>slope over 19 points</small>",
            "Sync with no change",
            "How latencies are spread",
            "Latency by percentile",
            "Private memory of the server",
            "271 bytes a link",
            "Devices that are live again",
            "The figures of this example are invented.",
            "Linux 6.18.44 x86_64",
            "<th scope=\"row\">client threads</th><td>2</td>",
            "muster-load hold",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg class=\"plot\"").count(), 4);
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let page = render(&example::report());
        for word in ["http://", "https://", "<script", "<link", "<img", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn every_element_is_closed() {
        let page = render(&example::report());
        for name in [
            "html", "head", "body", "main", "section", "figure", "table", "tr", "td", "th", "ul", "li",
            "svg", "div", "h3",
        ] {
            let opened =
                page.matches(&format!("<{name}>")).count() + page.matches(&format!("<{name} ")).count();
            assert_eq!(opened, page.matches(&format!("</{name}>")).count(), "{name}");
            assert!(opened > 0, "{name}");
        }
    }

    #[test]
    fn no_text_becomes_markup() {
        const EVIL: &str = "x: <script>alert('1')</script>\" onload=\"x";
        let mut report = example::report();
        let evil = || EVIL.to_owned();
        (report.command, report.title, report.started_at) = (evil(), evil(), evil());
        (report.machine.cpu_model, report.machine.kernel) = (evil(), evil());
        report.versions.push((evil(), evil()));
        report.parameters.push((evil(), evil()));
        report.notes.push(evil());
        report.conclusion = Some(evil());
        (report.figures[0].label, report.figures[0].note) = (evil(), Some(evil()));
        report.latencies[0].label = evil();
        let curve = &mut report.curves[0];
        (curve.label, curve.x_label, curve.y_label) = (evil(), evil(), evil());
        curve.series[0].0 = evil();
        let page = render(&report);
        assert!(!page.contains("<script") && !page.contains("\" onload"), "a text got out of its place");
        assert!(page.matches("&lt;script&gt;").count() >= 16);
    }

    #[test]
    fn an_empty_report_is_a_page() {
        let mut report = example::report();
        (report.figures, report.latencies, report.curves) = (Vec::new(), Vec::new(), Vec::new());
        (report.notes, report.versions, report.parameters) = (Vec::new(), Vec::new(), Vec::new());
        (report.conclusion, report.passed) = (None, Some(false));
        let page = render(&report);
        assert!(page.contains("The run missed its target") && page.contains("✗ not passed"));
        assert!(!page.contains("<h2>Figures") && page.ends_with("</html>\n"));
    }
}
