//! Numbers: what applications say of their work, and what the agent says of the device.

use std::path::Path;

use serde_json::Value;

use crate::agent::application::check::AGENT_NAME;
use crate::agent::application::embedded::Gauge;
use crate::agent::application::{Definition, StatisticsSource};
use crate::agent::{open, process};
use crate::wire::limits::{NAME_BYTES_MAX, STATISTICS_BYTES_MAX, STATISTICS_MAX};
use crate::wire::statistics::{Number, Statistic, Statistics};

/// Most that an application may say of its numbers.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Asks an application for its numbers; one that has none says none. Takes as long as its command may: not
/// for the loop's thread.
///
/// # Errors
/// With the part that could not be read or understood.
pub fn ask(definition: &Definition) -> Result<Vec<Statistic>, String> {
    let Some(source) = &definition.statistics else { return Ok(Vec::new()) };
    let name = &definition.name;
    numbers_of(name, source).map_err(|problem| format!("statistics of '{name}': {problem}"))
}

fn numbers_of(application: &str, source: &StatisticsSource) -> Result<Vec<Statistic>, String> {
    let bytes = match source {
        StatisticsSource::Embedded(gauges) => {
            let number = |gauge: &Gauge| {
                let number = gauge.read()?;
                Ok(number.map(|number| number_of(application, &gauge.name, &gauge.unit, number)))
            };
            return gauges.iter().filter_map(|gauge| number(gauge).transpose()).collect();
        }
        StatisticsSource::Command(program) => {
            let answer = process::run(&program.arguments, program.timeout, OUTPUT_BYTES_MAX)
                .map_err(|error| error.to_string())?;
            match answer.failure(&format!("'{}'", program.name())) {
                Some(why) => return Err(why),
                None => answer.output,
            }
        }
        StatisticsSource::File(path) => open::bytes(path, OUTPUT_BYTES_MAX as u64)
            .map_err(|error| format!("{}: {error}", path.display()))?,
    };
    parse(application, &String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?)
}

/// Reads an object of numbers, or of objects with a `value` and a `unit`.
///
/// # Errors
/// When it is something else: names the key.
pub fn parse(application: &str, text: &str) -> Result<Vec<Statistic>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(object) = value else { return Err("not a JSON object".to_owned()) };
    let mut numbers = Vec::new();
    for (name, value) in object {
        let (value, unit) = match &value {
            Value::Object(inner) if inner.keys().all(|key| key == "value" || key == "unit") => {
                match inner.get("unit") {
                    None => (inner.get("value").cloned(), ""),
                    Some(Value::String(unit)) => (inner.get("value").cloned(), unit.as_str()),
                    Some(_) => (None, ""),
                }
            }
            other => (Some(other.clone()), ""),
        };
        let number = value.as_ref().and_then(Value::as_f64).filter(|number| number.is_finite());
        let Some(number) = number else {
            return Err(format!("'{name}' is neither a number nor {{\"value\": number, \"unit\": \"…\"}}"));
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX || unit.len() > NAME_BYTES_MAX {
            return Err(format!(
                "'{name}': names and units may have {NAME_BYTES_MAX} bytes, and a name at least 1"
            ));
        }
        numbers.push(number_of(application, &name, unit, number));
    }
    Ok(numbers)
}

fn number_of(application: &str, name: &str, unit: &str, value: f64) -> Statistic {
    Statistic {
        application: application.to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        value: Number(value),
    }
}

/// The agent's numbers of the device: disk, memory, load, uptime. Numbers that the system does not tell are
/// left out. All of it is rounded down, to what anybody may want to know: it is to cost little in a sync that
/// has nothing else to say.
#[must_use]
pub fn own(data: &Path, root: &Path) -> Vec<Statistic> {
    let mut numbers = Vec::new();
    let mut add = |name: &str, unit: &str, value: Option<f64>| {
        numbers.extend(value.map(|value| number_of(AGENT_NAME, name, unit, value)));
    };
    if let Ok(disk) = rustix::fs::statvfs(data) {
        let bytes = whole_mebibytes(disk.f_bavail.saturating_mul(disk.f_frsize));
        // As df(1) reckons: blocks that only root may use are no part of it.
        let usable = float(disk.f_blocks.saturating_sub(disk.f_bfree).saturating_add(disk.f_bavail));
        add("disk_free", "bytes", Some(bytes));
        let percent = (usable > 0.0).then(|| (float(disk.f_bavail) * 100.0 / usable).floor());
        add("disk_free_percent", "%", percent);
    }
    let read = |file: &str| open::text(&root.join(file), OUTPUT_BYTES_MAX as u64).unwrap_or_default();
    let first = |text: String| text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    add("load_1m", "", first(read("proc/loadavg")));
    add("memory_available", "bytes", memory_available(&read("proc/meminfo")));
    add("uptime", "seconds", first(read("proc/uptime")).map(f64::floor));
    numbers
}

/// `MemAvailable` of proc(5), in bytes.
fn memory_available(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(whole_mebibytes(kibibytes.saturating_mul(1024)))
}

/// Bytes, less what is no whole mebibyte: it changes all the time, means nothing, and would cost four bytes
/// more on the wire.
fn whole_mebibytes(bytes: u64) -> f64 {
    float(bytes >> 20 << 20)
}

/// The size of the spool, in bytes, as one of the agent's numbers.
#[must_use]
pub fn spool(bytes: u64) -> Statistic {
    number_of(AGENT_NAME, "spool", "bytes", float(bytes))
}

/// Bytes are counted exactly up to eight pebibytes.
#[expect(clippy::cast_precision_loss, reason = "statistics are floating-point numbers")]
fn float(number: u64) -> f64 {
    number as f64
}

/// All numbers together, within the limits of the wire, and a line when there were too many. The agent's own
/// count first.
#[must_use]
pub fn together(own: Vec<Statistic>, applications: Vec<Statistic>) -> (Statistics, Option<String>) {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let offered = own.len() + applications.len();
    for entry in own.into_iter().chain(applications) {
        bytes += entry.application.len() + entry.name.len() + entry.unit.len() + 24;
        if entries.len() == STATISTICS_MAX || bytes > STATISTICS_BYTES_MAX {
            break;
        }
        entries.push(entry);
    }
    let problem = (entries.len() < offered).then(|| {
        format!("{offered} statistics, the first {} are sent: {STATISTICS_MAX} are allowed", entries.len())
    });
    entries.sort_unstable_by(|a, b| (&a.application, &a.name).cmp(&(&b.application, &b.name)));
    (Statistics { entries }, problem)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::wire::message::ToServer;

    #[test]
    fn numbers_come_with_and_without_units() {
        let numbers =
            parse("shop", "{\"orders\": 3, \"size\": {\"value\": 1.5, \"unit\": \"bytes\"}}").unwrap();
        assert_eq!(numbers, [number_of("shop", "orders", "", 3.0), number_of("shop", "size", "bytes", 1.5)]);
        for (text, expected) in [
            ("[1]", "not a JSON object"),
            ("{\"a\": \"1\"}", "'a' is neither"),
            ("{\"a\": {\"unit\": \"bytes\"}}", "'a' is neither"),
            ("{\"a\": {\"value\": 1, \"unit\": 2}}", "'a' is neither"),
            ("{\"a\": {\"value\": 1, \"max\": 2}}", "'a' is neither"),
            ("{\"\": 1}", "names and units"),
            ("x", "not JSON"),
        ] {
            let error = parse("shop", text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_device_says_how_it_is() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("proc")).unwrap();
        let write = |file: &str, text: &str| fs::write(directory.path().join(file), text).unwrap();
        write("proc/loadavg", "0.50 0.40 0.30 1/100 1\n");
        write("proc/meminfo", "MemTotal:  100 kB\nMemAvailable:   3000 kB\n");
        write("proc/uptime", "12.5 20.0\n");
        let numbers = own(directory.path(), directory.path());
        let value = |name: &str| numbers.iter().find(|entry| entry.name == name).map(|entry| entry.value.0);
        assert_eq!(value("load_1m"), Some(0.5));
        assert_eq!(value("memory_available"), Some(2.0 * 1024.0 * 1024.0));
        assert_eq!(value("uptime"), Some(12.0));
        assert!(value("disk_free").unwrap() > 0.0);
        assert!((0.0..=100.0).contains(&value("disk_free_percent").unwrap()));
        let (statistics, _) = together([numbers, vec![spool(u64::from(u32::MAX))]].concat(), Vec::new());
        let mut frame = Vec::new();
        ToServer::Statistics(statistics).write_to(&mut frame);
        // With the 142 of a sync in which nothing changed it stays below 300.
        assert!(frame.len() <= 132, "{} bytes", frame.len());
    }

    #[test]
    fn too_many_numbers_are_cut_and_said_to_be() {
        let many = (0..300).map(|number| number_of("shop", &format!("n{number:03}"), "", 0.0)).collect();
        let (statistics, problem) = together(vec![spool(1)], many);
        assert_eq!(statistics.entries.len(), STATISTICS_MAX);
        assert_eq!(statistics.entries[0].name, "spool");
        assert!(problem.unwrap().starts_with("301 statistics, the first 256"));
    }

    #[test]
    fn a_command_or_a_file_tells() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("numbers.json");
        fs::write(&file, "{\"a\": 1}").unwrap();
        let define = |table: &str| {
            let text = format!("name = \"shop\"\n[condition]\npid_file = \"/x\"\n[statistics]\n{table}");
            crate::agent::application::definition::parse(&text, Path::new("x.toml")).unwrap()
        };
        let numbers = ask(&define(&format!("file = \"{}\"", file.display())));
        assert_eq!(numbers, Ok(vec![number_of("shop", "a", "", 1.0)]));
        let numbers = ask(&define("command = [\"echo\", '{\"b\": 2}']"));
        assert_eq!(numbers, Ok(vec![number_of("shop", "b", "", 2.0)]));
        let problem = ask(&define("command = [\"false\"]")).unwrap_err();
        assert_eq!(problem, "statistics of 'shop': 'false' ended with code 1");
    }
}
