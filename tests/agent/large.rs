//! Messages that are larger than a link keeps for its peer arrive all the same, in both directions: real
//! server, real agent.

use std::fmt::Write as _;

use crate::kit::{Site, eventually};
/// Packages of a large Debian installation.
const PACKAGES: usize = 12_000;

/// Applications with settings, and the bytes of each one's settings: together more than a link keeps for a
/// device.
const APPLICATIONS: usize = 45;
const SETTINGS_BYTES: usize = 31_000;

#[test]
fn an_inventory_of_12_000_packages_arrives_at_enrolment() {
    let (site, server) = Site::enrolled();
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
    site.write("root/var/lib/dpkg/status", status);
    site.configure(&format!("[collect]\nroot = {:?}\n", site.path("root")));
    let agent = site.agent_process();
    site.sync();
    let said = site.shown().to_string();
    assert!(said.contains(&format!(":{PACKAGES}")), "{said}");
    assert!(agent.end().success());
    assert!(server.end().success());
}

#[test]
fn settings_of_45_applications_arrive_in_one_sync() {
    let (site, server) = Site::enrolled();
    let file = |number: usize| site.path(&format!("settings-{number}.json"));
    for number in 0..APPLICATIONS {
        let definition = format!(
            "name = \"app-{number}\"\n[condition]\npid_file = \"/nowhere\"\n[settings]\nfile = \"{}\"\nformat = \"json\"\n",
            file(number).display()
        );
        site.write(&format!("applications.d/app-{number}.toml"), definition);
    }
    site.configure("");
    let agent = site.agent_process();
    site.sync();
    // The policies are set while it is away, so that it is told of all of them at once.
    assert!(agent.end().success());
    for number in 0..APPLICATIONS {
        let policy = serde_json::json!({ "number": number, "text": "x".repeat(SETTINGS_BYTES) });
        let path = site.write("policy.json", policy.to_string());
        let name = format!("app-{number}");
        site.ctl_json(&["policy", "set", "--group", "/", "--application", &name, "--file", &path]);
    }
    let agent = site.agent_process();
    site.sync();
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
