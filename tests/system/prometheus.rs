//! Debian's Prometheus scrapes a server, and looks at its text and at our rules. Needs the programs
//! `prometheus` and `promtool`; where they are missing a test says so and passes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kit::{Musterd, Running, musterctl, skipped, succeed, wait_for};

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools");
const TABLE: &str = include_str!("../../src/admin/metrics.md");

/// `false`, said aloud, where there is no Prometheus.
fn is_there() -> bool {
    let found =
        Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        skipped("the program 'promtool' is not installed (apt-get install prometheus)");
    }
    found.is_ok()
}

/// Runs promtool on files of `tools/prometheus`, or on `input`.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(format!("{TOOLS}/prometheus"));
    let mut tool =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// The socket's answer to a scrape.
fn scraped(data: &Path) -> String {
    let mut socket = UnixStream::connect(data.join("admin.sock")).unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

/// The server's metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("muster_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn prometheus_scrapes_over_tls_with_a_token_as_the_handbook_says() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (port, web) = (free(), free());
    let server = Musterd::start(at, &format!("[admin]\nlisten = \"{port}\"\n"));
    let new = ["api-token", "create", "prometheus", "--role", "reader", "--json"];
    let made: serde_json::Value = serde_json::from_str(&succeed(&mut musterctl(&server.data, &new))).unwrap();
    fs::write(at.join("muster.token"), made["token"].as_str().unwrap()).unwrap();
    fs::copy(server.data.join("identity/ca-certificate.pem"), at.join("muster.pem")).unwrap();
    for rules in ["rules.yml", "muster.yml"] {
        let text = fs::read_to_string(format!("{TOOLS}/prometheus/{rules}")).unwrap();
        let text = text.replace("/etc/prometheus", at.to_str().unwrap());
        let text = text.replace("muster.example.org:13001", &port.to_string());
        let name = if rules == "rules.yml" { "muster-rules.yml" } else { rules };
        fs::write(at.join(name), text).unwrap();
    }
    let configuration = at.join("muster.yml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n{text}"))
        .unwrap();
    let mut prometheus = Command::new("prometheus");
    prometheus
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.tsdb.path={}", at.join("prometheus").display()))
        .arg(format!("--web.listen-address={web}"));
    let prometheus = Running::start(&mut prometheus, &at.join("prometheus.log"));
    let asked = |path: &str| -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(web).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    let value = |query: &str| -> Option<String> {
        let answer = asked(&format!("/api/v1/query?query={query}"))?;
        Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
    };
    wait_for("the target is up", || (value("up")? == "1").then_some(()));
    assert_eq!(value("muster_build_info").unwrap(), "1");
    assert_eq!(value("sum(muster_devices)").unwrap(), "0");
    wait_for("the rules are looked at", || {
        let answer = asked("/api/v1/rules")?;
        let rules = answer["data"]["groups"][0]["rules"].as_array()?;
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
    let alerts = asked("/api/v1/alerts").unwrap();
    assert_eq!(alerts["data"]["alerts"], serde_json::json!([]), "of a server that is well");
    drop(prometheus);
}

#[test]
fn promtool_finds_nothing_wrong_with_text_and_rules() {
    if !is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    promtool(&["check", "metrics"], &scraped(&server.data));
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "rules.yml"], "");
    promtool(&["test", "rules", "rules-test.yml"], "");
}

#[test]
fn rules_and_dashboard_name_metrics_that_are_there_and_each_rule_is_tested() {
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    let text = scraped(&server.data);
    let served: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(served, named(TABLE), "the handbook's table");
    let read = |file: &str| fs::read_to_string(format!("{TOOLS}/{file}")).unwrap();
    let (rules, tests) = (read("prometheus/rules.yml"), read("prometheus/rules-test.yml"));
    for (file, text) in [("rules", &rules), ("tests", &tests), ("dashboard", &read("grafana/muster.json"))] {
        let unknown: Vec<_> = named(text).difference(&served).copied().collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
        assert!(named(text).len() > 10, "{file}");
    }
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
}
