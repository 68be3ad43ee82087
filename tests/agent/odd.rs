//! Odd machines at a real server: what they have in common is that nobody was told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::agent_support::{Site, TIMEOUT, error_of, eventually, free_udp_port};
use serde_json::Value;

fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// The server's own events of this kind.
fn events(site: &Site, kind: &str) -> Vec<Value> {
    let output = site.ctl(&["event", "list"]);
    assert!(output.status.success(), "{}", error_of(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(Result::unwrap);
    let events = values.flat_map(|value| match value {
        Value::Array(events) => events,
        event => vec![event],
    });
    events.filter(|event| event["application"] == "muster" && event["kind"] == kind).collect()
}

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
    assert!(site.agent(&["sync"]).status.success(), "{}", site.log("agent.log"));
    let id = site.status()["device"].as_str().unwrap().to_owned();
    assert!(server.end().success());
    std::fs::remove_dir_all(site.path("server")).unwrap();
    std::fs::rename(site.path("copy"), site.path("server")).unwrap();

    let server = site.server();
    for _ in 0..3 {
        let failed = site.agent(&["sync"]);
        assert_eq!(failed.status.code(), Some(1));
        let error = error_of(&failed);
        assert!(error.contains("not enrolled at this server any more"), "{error}");
    }
    // And without a ticket of before.
    drop(agent);
    let agent = site.agent_process();
    let failed = site.agent(&["sync"]);
    assert!(error_of(&failed).contains("not enrolled at this server any more"), "{}", error_of(&failed));
    let log = site.log("server.log");
    let named = log.lines().filter(|line| line.contains("not enrolled here any more") && line.contains(&id));
    assert_eq!(named.count(), 1, "{log}");
    let events = events(&site, "not_enrolled_any_more");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0]["message"].as_str().unwrap().contains(&id), "{events:?}");
    drop(agent);
    assert!(server.end().success());
}

/// An agent on a directory of its own, with a root that has this boot and this package.
fn agent_on(site: &Site, name: &str, boot: &str, package: &str) -> Child {
    let root = site.path(&format!("{name}-root"));
    std::fs::create_dir_all(root.join("proc/sys/kernel/random")).unwrap();
    std::fs::write(root.join("proc/sys/kernel/random/boot_id"), boot).unwrap();
    std::fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    let status = format!("Package: {package}\nStatus: install ok installed\nVersion: 1\n\n");
    std::fs::write(root.join("var/lib/dpkg/status"), status).unwrap();
    let own = format!("[wake]\nport = {}\n[collect]\nroot = \"{}\"\n", free_udp_port(), root.display());
    std::fs::write(site.path(name).join("muster-agent.toml"), own).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(site.path("agent.log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_muster-agent"))
        .args(["run", "--data"])
        .arg(site.path(name))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn two_devices_from_one_copied_disk_are_told_of() {
    let site = Site::new();
    let server = site.server();
    assert!(site.enroll(&site.token()).status.success());
    copy_directory(&site.path("agent"), &site.path("clone"));
    let lives = [
        ("agent", "8b7b1a6e-0000-4000-8000-000000000001\n", "first"),
        ("clone", "8b7b1a6e-0000-4000-8000-000000000002\n", "second"),
    ];
    let agents: Vec<_> =
        lives.iter().map(|(name, boot, package)| agent_on(&site, name, boot, package)).collect();
    let sync = |name: &str| {
        Command::new(env!("CARGO_BIN_EXE_muster-agent"))
            .args(["sync", "--data"])
            .arg(site.path(name))
            .output()
            .unwrap()
            .status
            .success()
    };
    for _ in 0..3 {
        for (name, _, _) in &lives {
            eventually(&format!("{name} syncs"), || sync(name));
        }
    }
    eventually("its status says so", || {
        let shown = site.ctl_json(&["device", "show", "kiosk"]);
        shown.to_string().contains("two devices seem to use this identity")
    });
    let shared = events(&site, "identity_shared");
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert_eq!(shared[0]["severity"], "warning");
    let why = site.ctl_json(&["device", "why", "kiosk"]);
    assert!(why["text"].as_str().unwrap().contains("two devices seem to use this identity"), "{why}");
    assert!(why["facts"]["shared_identity"].is_string(), "{why}");
    agents.into_iter().for_each(end);
    assert!(server.end().success());
}

#[test]
fn a_wrong_file_of_an_application_is_seen_at_the_server() {
    let site = Site::new();
    let server = site.server();
    assert!(site.enroll(&site.token()).status.success());
    let definitions = site.path("applications.d");
    std::fs::create_dir(&definitions).unwrap();
    std::fs::write(definitions.join("kiosk.toml"), "name = \"kiosk\"\ncolour = 1\n").unwrap();
    let own = format!(
        "applications = \"{}\"\n[wake]\nport = {}\n[collect]\ndpkg = false\n",
        definitions.display(),
        free_udp_port()
    );
    std::fs::write(site.path("agent/muster-agent.toml"), own).unwrap();
    let agent = site.agent_process();
    assert!(site.agent(&["sync"]).status.success(), "{}", site.log("agent.log"));
    let shown = site.ctl_human(&["device", "show", "kiosk"]);
    assert!(shown.contains("kiosk.toml") && shown.contains("colour"), "{shown}");
    // Put right, it is gone.
    let right = "name = \"kiosk\"\n[condition]\npid_file = \"/nowhere\"\n";
    std::fs::write(definitions.join("kiosk.toml"), right).unwrap();
    assert!(site.agent(&["sync"]).status.success(), "{}", site.log("agent.log"));
    let shown = site.ctl_human(&["device", "show", "kiosk"]);
    assert!(!shown.contains("kiosk.toml") && shown.contains("/nowhere"), "{shown}");
    assert!(agent.end().success());
    assert!(server.end().success());
}

/// A small file system in memory. Unmounted when dropped.
struct SmallDisk<'p>(&'p Path);

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn events_that_a_full_disk_refuses_are_a_reason_of_the_devices_status() {
    let site = Site::new();
    let data = site.path("agent");
    std::fs::create_dir(&data).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs"])
        .arg(&data)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: needs the right to mount");
        return;
    }
    let _disk = SmallDisk(&data);
    let server = site.server();
    assert!(site.enroll(&site.token()).status.success());
    let agent = site.agent_process();
    assert!(site.agent(&["sync"]).status.success(), "{}", site.log("agent.log"));
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
        site.ctl_json(&["device", "show", "kiosk"]).to_string().contains("the device's disk is full")
    });
    eventually("it is a reason", || {
        let shown = site.ctl_json(&["device", "show", "kiosk"]);
        shown["reasons"].to_string().contains("muster-agent failed")
    });
    drop(agent);
    assert!(server.end().success());
}

/// An address that answers to nobody: its queue is full (listen(2)).
fn dead() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut full = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        full.push(stream);
    }
    (listener, full, address)
}

#[test]
fn a_server_that_does_not_answer_is_named_in_the_log_with_its_address_once() {
    let site = Site::new();
    let server = site.server();
    assert!(site.enroll(&site.token()).status.success());
    assert!(server.end().success());
    let (_listener, _full, address) = dead();
    for name in [address.to_string(), format!("localhost:{}", address.port())] {
        let own =
            format!("server = \"{name}\"\n[wake]\nport = {}\n[collect]\ndpkg = false\n", free_udp_port());
        std::fs::write(site.path("agent/muster-agent.toml"), own).unwrap();
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
