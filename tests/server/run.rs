//! `musterd run` as a service manager runs it: first start, reload, stop, second start.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The first line that it printed.
    first_line: String,
}

impl Server {
    fn start(directory: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_musterd"))
            .args(["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args(more)
            .env_remove("RUST_LOG")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first_line = String::new();
        out.read_line(&mut first_line).unwrap();
        Self { child, out, first_line }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Reads standard error up to a line that holds `text`.
    fn wait_for_log(&mut self, text: &str) -> String {
        let mut log = String::new();
        let mut error = BufReader::new(self.child.stderr.take().unwrap());
        while !log.contains(text) {
            assert_ne!(error.read_line(&mut log).unwrap(), 0, "ended without '{text}': {log}");
        }
        self.child.stderr = Some(error.into_inner());
        log
    }

    /// Ends it and returns how it ended, and what it still printed.
    fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let (mut out, mut log) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), out)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `Drop` forbids to take the fields apart; stopping consumes the value all the same.
impl Server {
    fn address(&self) -> &str {
        self.first_line.split("devices connect to ").nth(1).unwrap().split(',').next().unwrap()
    }
}

#[test]
fn a_first_start_tells_how_to_enrol_and_a_second_one_keeps_the_identity() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let address = server.address().to_owned();
    TcpStream::connect(&address).unwrap();
    let data = directory.path().join("muster-data");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("admin.sock")), 0o600);
    let certificate = std::fs::read(data.join("identity/server-certificate.pem")).unwrap();
    let (status, out) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(out.contains(&format!("\n  muster-agent enroll --server {address} --token-file -\n")), "{out}");
    assert!(out.contains("musterctl token create"), "{out}");
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");

    let (status, out) = Server::start(directory.path(), &[]).stop();
    assert_eq!((status.code(), out.as_str()), (Some(0), ""), "the hint is for the first start");
    assert_eq!(std::fs::read(data.join("identity/server-certificate.pem")).unwrap(), certificate);
}

#[test]
fn a_reload_applies_what_it_can_and_survives_a_wrong_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("musterd.toml");
    std::fs::write(&file, "[sync]\ninterval = \"15m\"\n").unwrap();
    let mut server = Server::start(directory.path(), &["--config", file.to_str().unwrap()]);
    std::fs::write(
        &file,
        "[sync]\ninterval = \"5m\"\n[server]\nworkers = 3\n[journal]\nretention_size = \"1GiB\"\n",
    )
    .unwrap();
    server.signal(Signal::HUP);
    let log = server.wait_for_log("wait for a restart");
    assert!(
        log.contains("configuration read again, applied: sync.interval, journal.retention_size"),
        "{log}"
    );
    assert!(log.contains("these settings wait for a restart: server.workers"), "{log}");
    std::fs::write(&file, "[sync]\ninterval = 5\n").unwrap();
    server.signal(Signal::HUP);
    let log = server.wait_for_log("stays as it is");
    assert!(log.contains(":2: sync.interval is an integer"), "{log}");
    assert_eq!(server.stop().0.code(), Some(0));
}

#[test]
fn a_second_server_on_the_same_data_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let first = Server::start(directory.path(), &[]);
    for command in [&["run", "--listen", "127.0.0.1:0"][..], &["journal", "verify"], &["journal", "dump"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_musterd"))
            .args(command)
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().filter(|line| line.starts_with("musterd: ")).count(), 1, "{error}");
        let holder =
            format!("in use by another musterd, process {} (musterd): stop that one", first.child.id());
        assert!(error.contains("the data directory ./muster-data is") && error.contains(&holder), "{error}");
    }
    assert_eq!(first.stop().0.code(), Some(0));
}

#[test]
fn a_lost_identity_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Server::start(directory.path(), &[]).stop().0.code(), Some(0));
    std::fs::remove_dir_all(directory.path().join("muster-data/identity")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_musterd"))
        .args(["run", "--listen", "127.0.0.1:0"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("identity is missing, but"), "{error}");
    assert!(!directory.path().join("muster-data/identity").exists());
}
