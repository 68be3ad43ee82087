//! Odd machines at a real server: what they have in common is that nobody was told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::kit::{
    AGENT, Running, SilentServer, Site, SmallDisk, TIMEOUT, copy_directory, error_of, eventually,
    free_udp_port, skipped,
};

#[test]
fn a_device_that_the_restored_server_has_forgotten_is_told_so_on_both_sides() {
    let site = Site::new();
    let server = site.server();
    let token = site.token();
    assert!(server.end().success());
    copy_directory(&site.path("server"), &site.path("copy"));
    let server = site.server();
    assert!(site.enroll(&token).status.success());
    let agent = site.agent_process();
    site.sync();
    let id = site.status()["device"].as_str().unwrap().to_owned();
    assert!(server.end().success());
    std::fs::remove_dir_all(site.path("server")).unwrap();
    std::fs::rename(site.path("copy"), site.path("server")).unwrap();

    let server = site.server();
    for _ in 0..3 {
        let failed = site.agent(&["sync"]);
        assert_eq!(failed.status.code(), Some(1));
        let error = error_of(&failed);
        assert!(error.contains("this device waits for approval"), "{error}");
    }
    // And without a ticket of before.
    drop(agent);
    let agent = site.agent_process();
    let failed = site.agent(&["sync"]);
    assert!(error_of(&failed).contains("this device waits for approval"), "{}", error_of(&failed));
    let log = site.log("server.log");
    let named = log.lines().filter(|line| line.contains("not enrolled here any more") && line.contains(&id));
    assert_eq!(named.count(), 1, "{log}");
    let events = site.events("muster", "not_enrolled_any_more");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0]["message"].as_str().unwrap().contains(&id), "{events:?}");
    drop(agent);
    assert!(server.end().success());
}

/// An agent on a directory of its own, with a root that has this boot and this package.
fn agent_on(site: &Site, name: &str, boot: &str, package: &str) -> Running {
    let root = site.path(&format!("{name}-root"));
    std::fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
    std::fs::write(root.join("proc/sys/kernel/random/boot_id"), boot).unwrap();
    std::fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    let status = format!("Package: {package}\nStatus: install ok installed\nVersion: 1\n\n");
    std::fs::write(root.join("var/lib/dpkg/status"), status).unwrap();
    let own = format!("[wake]\nport = {}\n[collect]\nroot = \"{}\"\n", free_udp_port(), root.display());
    std::fs::write(site.path(name).join("muster-agent.toml"), own).unwrap();
    let mut command = Command::new(AGENT);
    Running::start(command.args(["run", "--data"]).arg(site.path(name)), &site.path("agent.log"))
}

#[test]
fn two_devices_from_one_copied_disk_are_told_of() {
    let (site, server) = Site::enrolled();
    copy_directory(&site.path("agent"), &site.path("clone"));
    let lives = [
        ("agent", "8b7b1a6e-0000-4000-8000-000000000001\n", "first"),
        ("clone", "8b7b1a6e-0000-4000-8000-000000000002\n", "second"),
    ];
    let agents: Vec<_> =
        lives.iter().map(|(name, boot, package)| agent_on(&site, name, boot, package)).collect();
    let sync = |name: &str| {
        Command::new(AGENT).args(["sync", "--data"]).arg(site.path(name)).output().unwrap().status.success()
    };
    for _ in 0..3 {
        for (name, _, _) in &lives {
            eventually(&format!("{name} syncs"), || sync(name));
        }
    }
    eventually("its status says so", || {
        let shown = site.shown();
        shown.to_string().contains("two devices seem to use this identity")
    });
    let shared = site.events("muster", "identity_shared");
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert_eq!(shared[0]["severity"], "warning");
    let why = site.ctl_json(&["device", "why", "kiosk"]);
    assert!(why["text"].as_str().unwrap().contains("two devices seem to use this identity"), "{why}");
    assert!(why["facts"]["shared_identity"].is_string(), "{why}");
    drop(agents);
    assert!(server.end().success());
}

#[test]
fn a_wrong_file_of_an_application_is_seen_at_the_server() {
    let (site, server) = Site::enrolled();
    site.configure("");
    site.write("applications.d/kiosk.toml", "name = \"kiosk\"\ncolour = 1\n");
    let agent = site.agent_process();
    site.sync();
    let shown = site.ctl_human(&["device", "show", "kiosk"]);
    assert!(shown.contains("kiosk.toml") && shown.contains("colour"), "{shown}");
    // Put right, it is gone.
    let right = "name = \"kiosk\"\n[condition]\npid_file = \"/nowhere\"\n";
    site.write("applications.d/kiosk.toml", right);
    site.sync();
    let shown = site.ctl_human(&["device", "show", "kiosk"]);
    assert!(!shown.contains("kiosk.toml") && shown.contains("/nowhere"), "{shown}");
    assert!(agent.end().success());
    assert!(server.end().success());
}

#[test]
fn events_that_a_full_disk_refuses_are_a_reason_of_the_devices_status() {
    let site = Site::new();
    let data = site.path("agent");
    std::fs::create_dir(&data).unwrap();
    let Some(_disk) = SmallDisk::mount(&data, 64) else { return skipped("needs the right to mount") };
    let server = site.server();
    site.enrol();
    let agent = site.agent_process();
    site.sync();
    server.kill();
    let mut filler = Command::new("dd");
    filler.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}/filler", data.display()));
    let _ = filler.stderr(Stdio::null()).status();
    let stream = UnixStream::connect(site.path("agent/agent.sock")).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let (mut line, mut answers) = (String::new(), BufReader::new(stream.try_clone().unwrap()));
    let text = "x".repeat(4_000);
    let event =
        serde_json::json!({ "application": "shop", "severity": "error", "kind": "k", "message": text });
    for sent in 0..50_000 {
        writeln!(&stream, "{event}").unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        if line.contains("error") {
            println!("{sent} events had room");
            break;
        }
    }
    assert!(line.contains("disk is full"), "{line}");
    let server = site.server();
    eventually("its status says so", || {
        site.agent(&["sync"]);
        site.shown().to_string().contains("the device's disk is full")
    });
    eventually("it is a reason", || {
        let shown = site.shown();
        shown["reasons"].to_string().contains("muster-agent failed")
    });
    drop(agent);
    assert!(server.end().success());
}

#[test]
fn a_server_that_does_not_answer_is_named_in_the_log_with_its_address_once() {
    let (site, server) = Site::enrolled();
    assert!(server.end().success());
    let silent = SilentServer::new();
    let address = silent.address;
    for name in [address.to_string(), format!("localhost:{}", address.port())] {
        site.configure(&format!("server = \"{name}\"\n"));
        let before = site.log("agent.log").len();
        let agent = site.agent_process();
        let why = format!("{address}: no answer within 10 s");
        let mut said = String::new();
        eventually("it is said", || {
            let log = site.log("agent.log");
            let line = log[before..].lines().find(|line| line.contains(&why));
            said = line.unwrap_or_default().to_owned();
            line.is_some()
        });
        assert!(said.contains(" WARN "), "{said}");
        assert!(name.starts_with("127.") || said.contains(&format!("{name}: ")), "{said}");
        assert_eq!(said.matches(&address.to_string()).count(), 1, "{said}");
        agent.kill();
    }
}

/// A stand-in answers for pkg: one that is there only on FreeBSD.
#[test]
fn packages_of_freebsd_are_those_that_pkg_names() {
    let (site, _server) = Site::enrolled();
    let root = site.path("root");
    std::fs::create_dir_all(root.join("var/db/pkg")).unwrap();
    std::fs::write(root.join("var/db/pkg/local.sqlite"), "").unwrap();
    let asked = format!("-o PKG_DBDIR={}/var/db/pkg query -a %n\t%v\t%m", root.display());
    let answer = "printf 'curl\\t8.9.1_1\\tsunpoet@FreeBSD.org\\n'";
    std::fs::create_dir(site.path("bin")).unwrap();
    let pkg = site.path("bin/pkg");
    std::fs::write(&pkg, format!("#!/bin/sh\n[ \"$*\" = '{asked}' ] && {answer}\n")).unwrap();
    std::fs::set_permissions(&pkg, std::fs::Permissions::from_mode(0o755)).unwrap();
    site.configure(&format!("[collect]\nroot = {root:?}\n"));
    let path = format!("{}:{}", site.text("bin"), std::env::var("PATH").unwrap_or_default());
    let _agent = site.agent_process_with(&[("PATH", &path)]);
    let listed = || site.ctl_json(&["application", "list", "--device", "kiosk"]).to_string();
    eventually("the package is listed", || listed().contains("\"8.9.1_1\""));
    assert!(listed().contains("sunpoet@FreeBSD.org"), "{}", listed());
}
