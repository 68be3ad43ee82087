//! `musterd run` as a service manager runs it: first start, reload, stop, second start.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::kit::{Musterd, Running, eventually, fail, musterd};

/// A server on `muster-data` in this directory; what it says is what it prints.
fn start(directory: &Path) -> Musterd {
    let mut command = musterd(&["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    let process = Running::start_with(command.current_dir(directory), &directory.join("out"), Stdio::null());
    Musterd::of(process, &directory.join("muster-data"))
}

#[test]
fn a_first_start_tells_how_to_enrol_and_a_second_one_keeps_the_identity() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let address = server.address;
    TcpStream::connect(address).unwrap();
    let data = directory.path().join("muster-data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("admin.sock")), 0o600);
    assert!(!data.join("admin.new").exists());
    let certificate = std::fs::read(data.join("identity/server-certificate.pem")).unwrap();
    let out = server.stop();
    assert!(out.contains(&format!("\n  muster-agent enroll --server {address} --token-file -\n")), "{out}");
    assert!(out.contains("musterctl token create"), "{out}");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");

    let out = start(directory.path()).stop();
    assert_eq!(out.lines().count(), 1, "the hint is for the first start: {out}");
    assert_eq!(std::fs::read(data.join("identity/server-certificate.pem")).unwrap(), certificate);
}

#[test]
fn a_reload_applies_what_it_can_and_survives_a_wrong_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("musterd.toml");
    let mut server = Musterd::start(directory.path(), "[sync]\ninterval = \"15m\"\n");
    std::fs::write(
        &file,
        "[sync]\ninterval = \"5m\"\n[server]\nworkers = 3\n[journal]\nretention_size = \"1GiB\"\n",
    )
    .unwrap();
    server.hang_up();
    let waiting = server.process().wait_for_line("wait for a restart");
    assert!(waiting.contains("these settings wait for a restart: server.workers"), "{waiting}");
    let log = server.said();
    assert!(
        log.contains("configuration read again, applied: sync.interval, journal.retention_size"),
        "{log}"
    );
    std::fs::write(&file, "[sync]\ninterval = 5\n").unwrap();
    server.hang_up();
    server.process().wait_for_line("stays as it is");
    let log = server.stop();
    assert!(log.contains(":2: sync.interval is an integer"), "{log}");
}

#[test]
fn a_second_server_on_the_same_data_or_port_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let first = start(directory.path());
    for command in [&["run", "--listen", "127.0.0.1:0"][..], &["journal", "verify"], &["journal", "dump"]] {
        let error = fail(musterd(command).current_dir(directory.path()));
        assert_eq!(error.lines().filter(|line| line.starts_with("musterd: ")).count(), 1, "{error}");
        let holder = format!("in use by another musterd, process {} (musterd): stop that one", first.id());
        assert!(error.contains("the data directory ./muster-data is") && error.contains(&holder), "{error}");
    }
    let elsewhere = directory.path().join("elsewhere");
    let mut second = musterd(&["run", "--udp", "127.0.0.1:0", "--listen", &first.address.to_string()]);
    let error = fail(second.arg("--data").arg(elsewhere));
    let last = error.lines().find(|line| line.starts_with("musterd: ")).unwrap();
    assert!(last.contains("perhaps another musterd"), "{last}");
    first.stop();
}

#[test]
fn a_lost_identity_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).stop();
    std::fs::remove_dir_all(directory.path().join("muster-data/identity")).unwrap();
    let error = fail(musterd(&["run", "--listen", "127.0.0.1:0"]).current_dir(directory.path()));
    assert!(error.contains("identity is missing, but"), "{error}");
    assert!(!directory.path().join("muster-data/identity").exists());
}

#[test]
fn the_end_of_the_audit_is_an_event_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    server.ctl(&["group", "create", "/berlin"]);
    let head = server.ctl(&["audit", "verify"])["head_sha256"].clone();
    server.stop();
    let server = Musterd::start(directory.path(), "");
    let mut heads = Vec::new();
    eventually("the server says it at its start", || {
        let events = server.ctl(&["event", "list"]);
        let events = events.as_array().unwrap().iter();
        heads = events.filter(|event| event["kind"] == "audit_head").cloned().collect();
        !heads.is_empty()
    });
    assert_eq!((heads.len(), &heads[0]["fields"]["sha256"]), (1, &head), "{heads:?}");
    server.stop();
}
