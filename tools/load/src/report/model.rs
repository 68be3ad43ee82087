//! Results of a run: the one value that the table, the JSON document and the HTML page are made of.

use hdrhistogram::Histogram;
use serde::Serialize;

/// A run and what it found. Texts are plain; each renderer escapes them.
#[derive(Default)]
pub(crate) struct Report {
    /// The subcommand: `hold`.
    pub(crate) command: String,
    pub(crate) title: String,
    /// In UTC, as RFC 3339 has it.
    pub(crate) started_at: String,
    pub(crate) seconds: f64,
    pub(crate) machine: Machine,
    /// Program and version, in the order in which they are shown.
    pub(crate) versions: Vec<(String, String)>,
    /// Name and value, in the order in which they are shown.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) latencies: Vec<Latency>,
    pub(crate) curves: Vec<Curve>,
    /// Notes for judging the figures, a sentence each.
    pub(crate) notes: Vec<String>,
    /// The sentence to remember.
    pub(crate) conclusion: Option<String>,
    /// Whether a target was met; nothing when the run had none.
    pub(crate) passed: Option<bool>,
}

/// The machine that the load tool runs on; the server's too, when that is here.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu_model: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Load average of the last minute, at the start: what else was going on.
    pub(crate) load_average: f64,
}

/// One number.
pub(crate) struct Figure {
    /// The key in the JSON document: snake_case, the unit last.
    pub(crate) name: String,
    /// Label for people. `group: label` puts it below that group's heading.
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    pub(crate) note: Option<String>,
}

impl Figure {
    /// A figure whose unit stands in its name; without a note when that is empty.
    pub(crate) fn new(name: &str, label: &str, value: f64, note: &str) -> Self {
        let note = (!note.is_empty()).then(|| note.to_owned());
        Self { name: name.to_owned(), label: label.to_owned(), value, unit: Unit::named_in(name), note }
    }
}

/// Unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    Count,
    PerSecond,
    Seconds,
    Microseconds,
    Bytes,
    Percent,
    Ratio,
}

impl Unit {
    /// The unit that the name of a figure says.
    fn named_in(name: &str) -> Self {
        let units = [
            ("_per_second", Self::PerSecond),
            ("_seconds", Self::Seconds),
            ("_microseconds", Self::Microseconds),
            ("_bytes", Self::Bytes),
            ("_percent", Self::Percent),
            ("_ratio", Self::Ratio),
        ];
        units.into_iter().find(|(part, _)| name.contains(part)).map_or(Self::Count, |(_, unit)| unit)
    }
}

/// Durations of something, each time.
pub(crate) struct Latency {
    /// The key in the JSON document, in snake_case.
    pub(crate) name: String,
    pub(crate) label: String,
    /// In microseconds.
    pub(crate) histogram: Histogram<u64>,
}

/// Points to plot.
pub(crate) struct Curve {
    /// The key in the JSON document, in snake_case.
    pub(crate) name: String,
    pub(crate) label: String,
    /// With its unit: "seconds since the start".
    pub(crate) x_label: String,
    /// With its unit: "private memory, bytes". Bytes are shown as MiB and GiB.
    pub(crate) y_label: String,
    /// Name and points, in the order of x.
    pub(crate) series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Curve {
    pub(crate) fn new(
        (name, label): (&str, &str),
        (x_label, y_label): (&str, &str),
        series: Vec<(String, Vec<(f64, f64)>)>,
    ) -> Self {
        let [name, label, x_label, y_label] = [name, label, x_label, y_label].map(str::to_owned);
        Self { name, label, x_label, y_label, series }
    }
}
