//! The report as one JSON document: snake_case, numbers as they are, units in the names.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::model::{Curve, Report};

/// The quantiles of every latency, and their keys. The table and the page show the same ones.
pub(crate) const QUANTILES: [(f64, &str); 5] = [
    (0.5, "p50_microseconds"),
    (0.9, "p90_microseconds"),
    (0.99, "p99_microseconds"),
    (0.999, "p999_microseconds"),
    (0.9999, "p9999_microseconds"),
];

/// The document. A number that is none is null.
pub(crate) fn render(report: &Report) -> Value {
    let figures = report.figures.iter().map(|figure| (figure.name.clone(), json!(figure.value)));
    let notes =
        report.figures.iter().filter_map(|figure| Some((figure.name.clone(), json!(figure.note.as_ref()?))));
    let latencies = report.latencies.iter().map(|latency| {
        let mut object = histogram(&latency.histogram);
        object.insert("label".to_owned(), json!(latency.label));
        (latency.name.clone(), Value::Object(object))
    });
    let curves = report.curves.iter().map(|one| (one.name.clone(), curve(one)));
    json!({
        "command": report.command,
        "title": report.title,
        "started_at": report.started_at,
        "seconds": report.seconds,
        "machine": report.machine,
        "versions": texts(&report.versions),
        "parameters": texts(&report.parameters),
        "figures": figures.collect::<Map<_, _>>(),
        "figure_notes": notes.collect::<Map<_, _>>(),
        "latencies": latencies.collect::<Map<_, _>>(),
        "curves": curves.collect::<Map<_, _>>(),
        "notes": report.notes,
        "conclusion": report.conclusion,
        "passed": report.passed,
    })
}

fn histogram(histogram: &Histogram<u64>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("count".to_owned(), json!(histogram.len()));
    // Of nothing there is no least and no mean; 0 would be a very good latency.
    let known = |value: Value| if histogram.is_empty() { Value::Null } else { value };
    object.insert("min_microseconds".to_owned(), known(json!(histogram.min())));
    object.insert("mean_microseconds".to_owned(), known(json!(histogram.mean())));
    for (quantile, key) in QUANTILES {
        object.insert(key.to_owned(), known(json!(histogram.value_at_quantile(quantile))));
    }
    object.insert("max_microseconds".to_owned(), known(json!(histogram.max())));
    object
}

fn curve(curve: &Curve) -> Value {
    let series = curve.series.iter().map(|(name, points)| json!({ "name": name, "points": points }));
    json!({
        "label": curve.label,
        "x_label": curve.x_label,
        "y_label": curve.y_label,
        "series": series.collect::<Vec<_>>(),
    })
}

fn texts(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| (snake_case(name), json!(value))).collect()
}

/// `client threads` and `--client-threads` as `client_threads`.
fn snake_case(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_script_finds_everything_by_name() {
        let report = example::report();
        let text = serde_json::to_string(&render(&report)).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["command"], "hold");
        assert_eq!(document["figures"]["private_bytes_per_device"], 271.4);
        assert_eq!(document["figures"]["links"], 18_000.0);
        assert_eq!(document["parameters"]["client_threads"], "2");
        assert_eq!(document["machine"]["memory_bytes"], 4_u64 << 30);
        let latency = &document["latencies"]["handshake"];
        assert_eq!(latency["count"], report.latencies[0].histogram.len());
        let (p50, p99) = (&latency["p50_microseconds"], &latency["p99_microseconds"]);
        assert!(p50.as_u64().unwrap() > 100 && p50.as_u64() < p99.as_u64(), "{latency}");
        assert_eq!(document["curves"]["memory"]["series"][0]["points"][0], json!([0.0, 9_437_184.0]));
        assert_eq!(document["passed"], true);
        assert!(document["notes"].as_array().is_some_and(|notes| !notes.is_empty()));
        assert!(document["figure_notes"]["kernel_bytes_per_socket"].is_string());
    }

    #[test]
    fn every_key_is_in_snake_case() {
        fn check(value: &Value) {
            if let Value::Object(members) = value {
                for (name, value) in members {
                    let is_snake = |c: char| c.is_lowercase() || c.is_ascii_digit() || c == '_';
                    assert!(name.chars().all(is_snake), "{name}");
                    check(value);
                }
            }
        }
        check(&render(&example::report()));
        assert_eq!(snake_case("--Client-Threads (each)"), "client_threads_each");
    }

    #[test]
    fn what_is_not_known_is_null_and_not_zero() {
        let mut report = example::report();
        report.figures[0].value = f64::NAN;
        report.latencies[0].histogram.reset();
        let document = render(&report);
        assert_eq!(document["figures"][&report.figures[0].name], Value::Null);
        assert_eq!(document["latencies"]["handshake"]["count"], 0);
        for key in ["min", "mean", "p50", "p999", "max"] {
            assert_eq!(document["latencies"]["handshake"][format!("{key}_microseconds")], Value::Null);
        }
    }
}
