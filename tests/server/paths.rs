//! Paths that a configuration names and that can't be used: found by `check-config` and by `run`, with the
//! setting's name.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::kit::{AGENT, MUSTERD, skipped};
/// A user without rights, as most systems number it.
const NOBODY: u32 = 65_534;

/// Runs a command on a configuration, which must be refused with 1 and one line that holds all of `pieces`.
#[track_caller]
fn assert_refused(program: &str, command: &str, directory: &Path, config: &str, pieces: &[&str]) {
    fs::write(directory.join("config.toml"), config).unwrap();
    let output = as_nobody(program, command, directory);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("muster")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    for piece in pieces {
        assert!(lines[0].contains(piece), "no '{piece}': {said}");
    }
}

/// Runs a command on `config.toml` of a directory, without root's rights.
fn as_nobody(program: &str, command: &str, directory: &Path) -> Output {
    // The place where it was built may not let others in.
    let here = directory.join(Path::new(program).file_name().unwrap());
    if !here.exists() && fs::hard_link(program, &here).is_err() {
        fs::copy(program, &here).unwrap();
    }
    let mut process = Command::new(here);
    process.args([command, "--config", "config.toml"]).current_dir(directory);
    if rustix::process::geteuid().is_root() {
        process.uid(NOBODY).gid(NOBODY);
    }
    process.output().unwrap()
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

/// A server starts without a place for its backups, and makes them once there is one: it is no reason to have
/// none.
#[test]
fn a_directory_for_backups_that_can_not_be_written_is_warned_of() {
    let directory = directory();
    fs::write(directory.path().join("config.toml"), "[backup]\ndirectory = \"closed/backups\"\n").unwrap();
    let output = as_nobody(MUSTERD, "check-config", directory.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let problem = "backup.directory: closed/backups can't be made: closed can't be written";
    assert!(said.starts_with(&format!("musterd: warning: config.toml: {problem}")), "{said}");
    fs::write(directory.path().join("config.toml"), "[backup]\ndirectory = \"backups\"\n").unwrap();
    assert_eq!(String::from_utf8(as_nobody(MUSTERD, "check-config", directory.path()).stderr).unwrap(), "");
}

/// As `ProtectSystem=strict` has it: no owner and no mode would help.
#[test]
fn what_a_sandbox_makes_read_only_is_told_with_what_to_set() {
    if !rustix::process::geteuid().is_root() {
        return skipped("this needs root");
    }
    let directory = directory();
    let config = "[server]\ndata_directory = \"closed/data\"\n[backup]\ndirectory = \"closed/backups\"\n";
    fs::write(directory.path().join("config.toml"), config).unwrap();
    let script = "mount --bind closed closed && mount -o remount,bind,ro closed || exit 77
        exec \"$0\" check-config --config config.toml";
    let mut command = Command::new("unshare");
    let output =
        command.args(["--mount", "sh", "-c", script, MUSTERD]).current_dir(directory.path()).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    if output.status.code() == Some(77) || said.starts_with("unshare:") {
        return skipped("nothing can be mounted here");
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    for setting in ["server.data_directory (or --data): closed/data", "backup.directory: closed/backups"] {
        let line = said.lines().find(|line| line.contains(setting)).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("Read-only file system") && line.contains("ReadWritePaths="), "{said}");
        assert!(!line.contains("must belong to"), "{said}");
    }
}

/// Root may write where the service, which is another user in a sandbox, may not.
#[test]
fn what_a_check_by_root_does_not_see_is_said() {
    if !rustix::process::geteuid().is_root() {
        return skipped("this needs root");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.toml"), "").unwrap();
    for (program, unit) in [(MUSTERD, "musterd"), (AGENT, "muster-agent")] {
        let check = |begin: &str| {
            let command = format!("{begin} exec {program} check-config --config config.toml");
            let output =
                Command::new("sh").args(["-c", &command]).current_dir(directory.path()).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stderr).unwrap()
        };
        let said = check("SYSTEMD_EXEC_PID=1");
        assert!(said.starts_with(&format!("{unit}: these paths were tried as root")), "{said}");
        assert!(
            said.contains("ReadWritePaths=") && said.contains(&format!("systemctl reload {unit}")),
            "{said}"
        );
        // Within the unit they were tried as the service has them.
        assert_eq!(check("SYSTEMD_EXEC_PID=$$"), "");
    }
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
