//! Less privileged neighbours on the device: what other users' files and programs may do to an agent, and what not.
#![cfg(all(feature = "server", feature = "agent", feature = "ctl"))]
#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod agent_support;

use std::path::Path;

use agent_support::{Running, Site, error_of, eventually, free_udp_port};
use rustix::fs::{CWD, Mode, mkfifoat};

/// A server and an enrolled device whose agent does not run yet, with these files in `applications.d`.
fn site(definitions: &[(&str, String)]) -> (Site, Running) {
    let site = Site::new();
    let server = site.server();
    let enrolled = site.enroll(&site.token());
    assert!(enrolled.status.success(), "{}", error_of(&enrolled));
    let directory = site.path("applications.d");
    std::fs::create_dir(&directory).unwrap();
    for (name, text) in definitions {
        std::fs::write(directory.join(name), text).unwrap();
    }
    let own = format!(
        "applications = \"{}\"\n[wake]\nport = {}\n[collect]\ndpkg = false\n",
        directory.display(),
        free_udp_port()
    );
    std::fs::write(site.path("agent/muster-agent.toml"), own).unwrap();
    (site, server)
}

fn fifo(path: &Path) -> String {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Whether the server has an event with this message.
fn has_arrived(site: &Site, message: &str) -> bool {
    String::from_utf8(site.ctl(&["event", "list"]).stdout).unwrap().contains(message)
}

fn detail(site: &Site, application: &str) -> String {
    let status = site.status();
    let all = status["applications"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|one| one["application"] == application);
    one.and_then(|one| one["detail"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_fifo_in_place_of_a_file_holds_nothing_up() {
    let outside = tempfile::tempdir().unwrap();
    let at = |name: &str| fifo(&outside.path().join(name));
    let (pid, numbers, settings) = (at("pid"), at("numbers"), at("settings"));
    let (site, _server) = site(&[
        ("pid.toml", format!("name = \"pid\"\n[condition]\npid_file = \"{pid}\"\n")),
        (
            "numbers.toml",
            format!(
                "name = \"numbers\"\n[condition]\ncommand = [\"true\"]\n[statistics]\nfile = \"{numbers}\"\n\
                 [settings]\nfile = \"{settings}\"\nformat = \"json\"\n"
            ),
        ),
        ("zebra.toml", fifo(&outside.path().join("definition"))),
    ]);
    let definition = site.path("applications.d/zebra.toml");
    std::fs::remove_file(&definition).unwrap();
    std::os::unix::fs::symlink(outside.path().join("definition"), &definition).unwrap();
    let _agent = site.agent_process();
    assert!(site.emit("error", "beside the FIFOs").status.success());
    eventually("the event arrives", || has_arrived(&site, "beside the FIFOs"));
    eventually("the pid file is named", || detail(&site, "pid").contains("it is a FIFO"));
    let problems = site.status()["problems"].to_string();
    for file in [&numbers, &definition.display().to_string()] {
        assert!(problems.contains(&format!("{file}: it is a FIFO, not a regular file")), "{problems}");
    }
    let policy = site.path("policy.json");
    std::fs::write(&policy, "{\"a\": 1}").unwrap();
    let policy = policy.to_str().unwrap();
    let set =
        site.ctl(&["settings", "set", "--device", "till", "--application", "numbers", "--file", policy]);
    assert!(set.status.success(), "{}", error_of(&set));
    eventually("the settings are refused", || {
        site.agent(&["sync"]);
        has_arrived(&site, &format!("{settings}: it is a FIFO, not a regular file"))
    });
}

#[test]
fn neither_link_nor_events_wait_for_a_check_that_takes_long() {
    let slow = "name = \"slow\"\n[condition]\ncommand = [\"sleep\", \"600\"]\ntimeout_seconds = 40\n";
    let (site, _server) = site(&[("slow.toml", slow.to_owned())]);
    let _agent = site.agent_process();
    assert!(site.emit("error", "while it is looked at").status.success());
    eventually("the event arrives", || has_arrived(&site, "while it is looked at"));
    assert_eq!(detail(&site, "slow"), "", "{}", site.log("agent.log"));
    eventually("its check has been ended", || detail(&site, "slow").contains("took longer than 40 s"));
}
