//! Paths that a configuration names and that can't be used: found by `check-config` and by `run`, with the
//! setting's name.
#![cfg(all(feature = "server", feature = "agent", feature = "ctl"))]
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

const MUSTERD: &str = env!("CARGO_BIN_EXE_musterd");
const AGENT: &str = env!("CARGO_BIN_EXE_muster-agent");

/// A user without rights, as most systems number it.
const NOBODY: u32 = 65_534;

/// Runs a command on a configuration, which must be refused with 1 and one line that holds all of `pieces`.
#[track_caller]
fn assert_refused(program: &str, command: &str, directory: &Path, config: &str, pieces: &[&str]) {
    let file = directory.join("config.toml");
    fs::write(&file, config).unwrap();
    // Where it was built, others may not be let in.
    let here = directory.join(Path::new(program).file_name().unwrap());
    if !here.exists() && fs::hard_link(program, &here).is_err() {
        fs::copy(program, &here).unwrap();
    }
    let mut process = Command::new(here);
    process.arg(command).arg("--config").arg(&file).current_dir(directory);
    if rustix::process::geteuid().is_root() {
        process.uid(NOBODY).gid(NOBODY);
    }
    let output = process.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("muster")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    for piece in pieces {
        assert!(lines[0].contains(piece), "no '{piece}': {said}");
    }
}

/// A directory that everybody may work in, with one in it that nobody may write to.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(directory.path().join("closed")).unwrap();
    fs::set_permissions(directory.path().join("closed"), Permissions::from_mode(0o555)).unwrap();
    directory
}

#[test]
fn the_servers_paths_are_named_by_check_config_and_at_the_start() {
    let directory = directory();
    let long = directory.path().join("l".repeat(100));
    let cases = [
        (
            "[admin]\nsocket = \"no/admin.sock\"\n".to_owned(),
            vec!["admin.socket: no/admin.sock", "there is no directory no"],
        ),
        (
            "[admin]\nsocket = \"closed/admin.sock\"\n".to_owned(),
            vec!["admin.socket: closed/admin.sock", "closed can't be written"],
        ),
        (
            format!("[admin]\nsocket = \"{}\"\n", long.display()),
            vec!["admin.socket: ", "is too long for a Unix socket"],
        ),
        (
            format!("[server]\ndata_directory = \"{}\"\n", long.display()),
            vec!["admin.socket (left out: in the data directory)", "is too long"],
        ),
        (
            "[server]\ndata_directory = \"closed/data\"\n".to_owned(),
            vec!["server.data_directory", "closed can't be written"],
        ),
        (
            "[server]\ndata_directory = \"config.toml\"\n".to_owned(),
            vec!["server.data_directory", "is no directory"],
        ),
    ];
    for (config, pieces) in cases {
        for command in ["check-config", "run"] {
            assert_refused(MUSTERD, command, directory.path(), &config, &pieces);
        }
    }
    assert!(!directory.path().join("muster-data").exists(), "nothing was made");
}

#[test]
fn the_agents_paths_are_named_by_its_check_config() {
    let directory = directory();
    let long = directory.path().join("l".repeat(100));
    let cases = [
        (
            "[socket]\npath = \"no/agent.sock\"\n".to_owned(),
            vec!["[socket] path: no/agent.sock", "there is no directory no"],
        ),
        (
            format!("[socket]\npath = \"{}\"\n", long.display()),
            vec!["[socket] path: ", "is too long for a Unix socket"],
        ),
        (
            "data = \"closed/data\"\n".to_owned(),
            vec!["data (or --data): closed/data", "closed can't be written"],
        ),
        ("[collect]\nroot = \"/no/root\"\n".to_owned(), vec!["[collect] root: /no/root", "No such file"]),
    ];
    for (config, pieces) in cases {
        assert_refused(AGENT, "check-config", directory.path(), &config, &pieces);
    }
    fs::write(directory.path().join("config.toml"), "data = \"data\"\n").unwrap();
    let mut process = Command::new(AGENT);
    let output = process
        .args(["check-config", "--config", "config.toml"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.starts_with("config.toml: ok (data in data, "), "{said}");
}
