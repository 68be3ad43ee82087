//! Messages that are larger than a link keeps for its peer arrive all the same, in both directions: real
//! server, real agent.

use std::fmt::Write as _;

use crate::agent_support::{Site, error_of, eventually, free_udp_port};

/// Packages of a large Debian installation.
const PACKAGES: usize = 12_000;

/// Applications with settings, and the bytes of each one's settings: together more than a link keeps for a
/// device.
const APPLICATIONS: usize = 45;
const SETTINGS_BYTES: usize = 31_000;

fn configure(site: &Site, more: &str) {
    let own = format!("[wake]\nport = {}\n{more}", free_udp_port());
    std::fs::write(site.path("agent/muster-agent.toml"), own).unwrap();
}

#[test]
fn an_inventory_of_12_000_packages_arrives_at_enrolment() {
    let site = Site::new();
    let server = site.server();
    assert!(site.enroll(&site.token()).status.success());
    let mut status = String::new();
    for number in 0..PACKAGES {
        let publisher = "Maintainers of a distribution with a long name <packages@lists.example.org>";
        write!(
            status,
            "Package: a-package-with-a-name-{number:05}\nStatus: install ok installed\nArchitecture: amd64\n\
             Maintainer: {publisher}\nVersion: 1:{number}.0~rc1-1+deb12u1\n\n"
        )
        .unwrap();
    }
    std::fs::create_dir_all(site.path("root/var/lib/dpkg")).unwrap();
    std::fs::write(site.path("root/var/lib/dpkg/status"), status).unwrap();
    configure(&site, &format!("[collect]\nroot = \"{}\"\n", site.path("root").display()));
    let agent = site.agent_process();
    let synced = site.agent(&["sync"]);
    assert!(synced.status.success(), "{}\n{}", error_of(&synced), site.log("agent.log"));
    let said = site.ctl_json(&["device", "show", "kiosk"]).to_string();
    assert!(said.contains(&format!(":{PACKAGES}")), "{said}");
    assert!(agent.end().success());
    assert!(server.end().success());
}

#[test]
fn settings_of_45_applications_arrive_in_one_sync() {
    let site = Site::new();
    let server = site.server();
    assert!(site.enroll(&site.token()).status.success());
    let definitions = site.path("applications.d");
    std::fs::create_dir(&definitions).unwrap();
    let file = |number: usize| site.path(&format!("settings-{number}.json"));
    for number in 0..APPLICATIONS {
        let definition = format!(
            "name = \"app-{number}\"\n[condition]\npid_file = \"/nowhere\"\n[settings]\nfile = \"{}\"\nformat = \"json\"\n",
            file(number).display()
        );
        std::fs::write(definitions.join(format!("app-{number}.toml")), definition).unwrap();
    }
    configure(&site, "[collect]\ndpkg = false\n");
    let own = site.path("agent/muster-agent.toml");
    let text = std::fs::read_to_string(&own).unwrap();
    std::fs::write(&own, format!("applications = \"{}\"\n{text}", definitions.display())).unwrap();
    let agent = site.agent_process();
    let synced = site.agent(&["sync"]);
    assert!(synced.status.success(), "{}\n{}", error_of(&synced), site.log("agent.log"));
    // The policies are set while it is away, so that it is told of all of them at once.
    assert!(agent.end().success());
    for number in 0..APPLICATIONS {
        let policy = serde_json::json!({ "number": number, "text": "x".repeat(SETTINGS_BYTES) });
        let path = site.path("policy.json").display().to_string();
        std::fs::write(&path, policy.to_string()).unwrap();
        let name = format!("app-{number}");
        let set = site.ctl(&["policy", "set", "--group", "/", "--application", &name, "--file", &path]);
        assert!(set.status.success(), "{}", error_of(&set));
    }
    let agent = site.agent_process();
    let synced = site.agent(&["sync"]);
    assert!(synced.status.success(), "{}\n{}", error_of(&synced), site.log("agent.log"));
    let log = site.log("agent.log");
    assert!(!log.contains("the server closed the connection"), "{log}");
    eventually("every application has its settings", || {
        (0..APPLICATIONS).all(|number| {
            let text = std::fs::read_to_string(file(number)).unwrap_or_default();
            let settings: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            settings["number"] == number && settings["text"].as_str().map(str::len) == Some(SETTINGS_BYTES)
        })
    });
    assert!(agent.end().success());
    assert!(server.end().success());
}
