//! The commands of `musterd` that need no running server, as a user runs them.
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::process::{Command, Output};

fn musterd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_musterd")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_right_configuration_is_said_to_be_right() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/musterd.toml");
    let output = musterd(&["check-config", "--config", shipped]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        format!("{shipped}: ok (data in /var/lib/muster, devices connect to 0.0.0.0:13000)\n")
    );
}

#[test]
fn a_wrong_configuration_is_told_in_one_line_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("musterd.toml");
    std::fs::write(&file, "[sync]\n\ninterval = \"soon\"\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["check-config", "run"] {
        let output = musterd(&[command, "--config", file]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            text(&output.stderr),
            format!(
                "musterd: {file}:3: sync.interval = \"soon\" is not allowed: a duration from 1s to 1w, such as \"15m\"\n"
            )
        );
    }
}

#[test]
fn bad_usage_ends_with_code_2_and_says_what_is_allowed() {
    let output = musterd(&["run", "--listen", "muster.example"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("'muster.example' is not an address"), "{output:?}");
    let output = musterd(&["run", "--udp", "somewhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(musterd(&["fly"]).status.code(), Some(2));
}

#[test]
fn help_shows_examples_everywhere() {
    for command in [&["--help"][..], &["run", "--help"], &["check-config", "--help"]] {
        let output = musterd(command);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("Examples:"), "{command:?}");
    }
}
