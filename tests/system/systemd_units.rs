//! The units of `tools/systemd`: systemd finds nothing wrong with them, and they give what the configurations
//! advise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::skipped;
fn tool(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name)).unwrap()
}

/// The value of a setting that a unit names once.
fn value(unit: &str, key: &str) -> Option<String> {
    let mut values =
        unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned));
    let first = values.next();
    assert_eq!(values.next(), None, "{key} is there twice");
    first
}

#[test]
fn a_server_or_agent_that_fails_often_is_started_again() {
    for unit in ["systemd/musterd.service", "systemd/muster-agent.service"] {
        let unit = tool(unit);
        let seconds: u32 = value(&unit, "RestartSec").unwrap().parse().unwrap();
        assert!(seconds > 0, "a loop without a pause");
        // Without it five starts in ten seconds are the last ones (systemd.unit(5)).
        let (head, _) = unit.split_once("[Service]").unwrap();
        assert_eq!(value(head, "StartLimitIntervalSec").as_deref(), Some("0"));
    }
}

#[test]
fn the_sockets_that_the_configurations_advise_have_a_directory() {
    for (config, key, unit) in [
        ("musterd.toml", "#socket = \"", "systemd/musterd.service"),
        ("muster-agent.toml", "#path = \"", "systemd/muster-agent.service"),
    ] {
        let config = tool(config);
        let path = config.lines().find_map(|line| line.strip_prefix(key)?.strip_suffix('"')).unwrap();
        let directory = Path::new(path).parent().unwrap().strip_prefix("/run").unwrap();
        let made = value(&tool(unit), "RuntimeDirectory");
        assert_eq!(made.as_deref().map(Path::new), Some(directory), "{unit}: {path}");
    }
}

/// Rights for reloading nginx and giving files back to their owners: neither all of /run nor the right to
/// write everything.
#[test]
fn the_drop_in_for_settings_gives_no_more_than_they_need() {
    let unit = tool("systemd/muster-agent-settings.conf");
    assert_eq!(value(&unit, "ReadWritePaths").as_deref(), Some("-/etc/nginx/conf.d"));
    assert_eq!(value(&unit, "CapabilityBoundingSet").as_deref(), Some("CAP_CHOWN CAP_FOWNER"));
    // 'nginx -t' writes to logs and pid file.
    assert!(!tool("applications.d/nginx.toml").lines().any(|line| line.starts_with("validate")));
}

/// The handbook's promises of memory and of the queue of connections are read from there.
#[test]
fn the_server_sees_how_much_memory_there_is() {
    let unit = tool("systemd/musterd.service");
    assert_eq!(value(&unit, "ProcSubset"), None, "'pid' hides /proc/meminfo and net.core.somaxconn");
}

#[test]
fn a_service_says_when_it_is_started_and_leaves_no_core() {
    for (unit, core) in [("systemd/musterd.service", "1"), ("systemd/muster-agent.service", "0:infinity")] {
        let unit = tool(unit);
        assert_eq!(value(&unit, "Type").as_deref(), Some("notify"));
        assert_eq!(value(&unit, "LimitCORE").as_deref(), Some(core));
    }
    // A start that takes long is no failed one: systemd would end the repair and begin anew, for ever.
    assert_eq!(value(&tool("systemd/musterd.service"), "TimeoutStartSec").as_deref(), Some("infinity"));
}

/// 'systemctl reload' fails then. The agent is told first, and tells its server.
#[test]
fn a_reload_with_a_wrong_configuration_fails() {
    for (unit, commands) in [
        ("systemd/musterd.service", ["musterd check-config", "kill -HUP"]),
        ("systemd/muster-agent.service", ["kill -HUP", "muster-agent check-config"]),
    ] {
        let unit = tool(unit);
        let reload: Vec<_> = unit.lines().filter(|line| line.starts_with("ExecReload=")).collect();
        assert_eq!(reload.len(), commands.len(), "{reload:?}");
        for (line, command) in reload.iter().zip(commands) {
            assert!(line.contains(command), "{line}");
        }
    }
}

/// Otherwise the agent hears of a shutdown from nobody.
#[test]
fn the_agent_is_stopped_before_the_bus() {
    let unit = tool("systemd/muster-agent.service");
    let after = unit.lines().filter_map(|line| line.strip_prefix("After=")).flat_map(str::split_whitespace);
    assert!(
        after.clone().any(|unit| unit == "dbus.service") && after.clone().any(|unit| unit == "dbus.socket")
    );
}

#[test]
fn systemd_finds_nothing_wrong() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skipped("no systemd-analyze(1) here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The programs that were just built, where the units would have the installed ones.
    let programs = Path::new(env!("CARGO_BIN_EXE_musterd")).parent().unwrap();
    let put = |name: &str, to: PathBuf| {
        let text = tool(name).replace("/usr/local/bin", programs.to_str().unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(&to, text).unwrap();
        to
    };
    let units = ["musterd.service", "muster-agent.service", "muster-agent-sleep.service"]
        .map(|unit| put(&format!("systemd/{unit}"), directory.path().join(unit)));
    put("systemd/muster-agent-settings.conf", directory.path().join("muster-agent.service.d/settings.conf"));
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Its words on others' units are the machine's.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("muster")).collect();
    assert!(ours.is_empty() && output.status.success(), "{said}");
}
