//! `musterd` and `muster-agent` as processes in trouble: a log that nobody reads, floods of strangers, a
//! pause.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Connection, Device, TIMEOUT, wait_for};
use muster::client::{Address, Client};
use muster::logging;
use muster::wire::api::{NewToken, Status};
use muster::wire::message::{Ping, ToAgent, ToServer};
use rustix::process::{Pid, Signal, kill_process};

/// A process that is ended with the test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.0.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait_for("the process to end", || self.0.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    process: Process,
    address: SocketAddr,
    data: PathBuf,
}

impl Server {
    fn start(
        directory: &Path,
        configuration: &str,
        environment: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> Self {
        let file = directory.join("musterd.toml");
        std::fs::write(&file, configuration).unwrap();
        let data = directory.join("data");
        let mut child = Command::new(env!("CARGO_BIN_EXE_musterd"))
            .args(["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
            .args([Path::new("--config"), &file, Path::new("--data"), &data])
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("devices connect to ").nth(1).unwrap().split(',').next().unwrap();
        Self { address: address.parse().unwrap(), process: Process(child), data }
    }

    fn client(&self) -> Client {
        Client::new(Address { socket: self.data.join("admin.sock") }).unwrap()
    }

    fn status(&self) -> Status {
        self.client().status().unwrap()
    }

    fn enrol(&self, name: &str) -> Device {
        let token = self.client().create_token(&NewToken::default()).unwrap().token;
        Device::enrol(self.address, &token.parse().unwrap(), name).unwrap()
    }

    /// Strangers that come and go, some of them with a request that is not TLS.
    fn flood(&self, count: usize) {
        for number in 0..count {
            let mut stranger = TcpStream::connect_timeout(&self.address, TIMEOUT).unwrap();
            if number % 3 == 0 {
                // The server may have closed already.
                let _ = stranger.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            }
        }
    }
}

fn ping(connection: &mut Connection) {
    connection.send(&ToServer::Ping(Ping::default()));
}

fn ping_is_answered(connection: &mut Connection) {
    ping(connection);
    assert_eq!(connection.receive().unwrap(), ToAgent::Pong);
}

/// A pipe that takes nothing more, and whose reader doesn't read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn a_log_that_nobody_reads_stops_neither_devices_nor_administrators_nor_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (_reader, log) = full_pipe();
    let mut server = Server::start(directory.path(), "", &[("RUST_LOG", "debug")], log);
    wait_for("lines to be dropped", || {
        server.flood(500);
        (server.status().log.lines_dropped > 0).then_some(())
    });
    let device = server.enrol("kiosk-17");
    ping_is_answered(&mut Connection::open(server.address, &device.tls));
    assert!(server.status().log.lines_dropped > 0);
    assert_eq!(server.process.end().code(), Some(0));
}

#[test]
fn an_agent_serves_on_though_nobody_reads_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let server = crate::common::server(&directory.path().join("server"));
    let token = crate::common::token(&server, 1).to_string();
    let agent = |command: &str| {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_muster-agent"));
        agent
            .arg(command)
            .args([Path::new("--data"), &directory.path().join("agent")])
            .env_remove("RUST_LOG");
        agent
    };
    let address = server.addresses()[0].to_string();
    let enrolled = agent("enroll").args(["--server", &address, "--token", &token]).output().unwrap();
    assert!(enrolled.status.success(), "{}", String::from_utf8_lossy(&enrolled.stderr));
    let (_reader, log) = full_pipe();
    let mut running = Process(agent("run").stdin(Stdio::null()).stderr(log).spawn().unwrap());
    wait_for("a sync", || (server.counters().syncs.get() > 0).then_some(()));
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn strangers_are_counted_in_the_log_and_have_no_lines_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut server = Server::start(directory.path(), "", &[], File::create(&log).unwrap());
    let begun = Instant::now();
    server.flood(3_000);
    let links = wait_for("the last stranger to go", || {
        Some(server.status().links).filter(|links| links.open == 0 && links.accepted >= 3_000)
    });
    assert_eq!(links.strangers, links.accepted);
    assert_eq!(server.process.end().code(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    let summaries: Vec<&str> = log.lines().filter(|line| line.contains("without a valid identity")).collect();
    let counted = |line: &&str| -> u64 {
        let count = line.split("] ").nth(1).unwrap().split(' ').next().unwrap();
        count.parse().unwrap()
    };
    assert_eq!(summaries.iter().map(counted).sum::<u64>(), links.strangers, "{log}");
    assert!(summaries.len() as u64 <= begun.elapsed().as_secs() + 2, "{log}");
    assert!(log.contains("not_tls ") && log.contains("(such as 127.0.0.1:"), "{log}");
    assert!(log.lines().count() < 30, "{log}");
}

#[test]
fn under_systemd_lines_have_priorities_and_no_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = File::create(&path).unwrap();
    let metadata = log.metadata().unwrap();
    let stream = format!("{}:{}", metadata.dev(), metadata.ino());
    let environment = [("JOURNAL_STREAM", stream.as_str())];
    let mut server = Server::start(directory.path(), "", &environment, log.try_clone().unwrap());
    assert_eq!(server.process.end().code(), Some(0));
    let failed = Command::new(env!("CARGO_BIN_EXE_musterd"))
        .args(["run", "--listen", "192.0.2.1:1"])
        .args([Path::new("--data"), &directory.path().join("other")])
        .env_remove("RUST_LOG")
        .envs(environment)
        .stderr(log)
        .status()
        .unwrap();
    assert_eq!(failed.code(), Some(1));
    let log = std::fs::read_to_string(path).unwrap();
    assert!(log.contains("\n<6>musterd::run: stopped\n"), "{log}");
    assert!(log.lines().last().unwrap().starts_with("<3>musterd: can't listen on TCP 192.0.2.1:1"), "{log}");
    for line in log.lines() {
        assert!(line.starts_with('<') && line.get(2..3) == Some(">") && !line.contains("[20"), "{line}");
    }
}

/// Its name stands in the test below.
#[test]
fn panics_come_out_as_a_child() {
    if std::env::var_os("PANICS_AS_A_CHILD").is_none() {
        return;
    }
    logging::start(log::LevelFilter::Info).unwrap();
    log::info!("before");
    for _ in 0..200 {
        log::info!("again");
    }
    assert!(
        std::thread::Builder::new()
            .name("worker-7".into())
            .spawn(|| panic!("it\nhurts"))
            .unwrap()
            .join()
            .is_err()
    );
    logging::last_line("musterd: this is the end");
    std::process::exit(1);
}

#[test]
fn panics_come_out_and_a_line_that_comes_again_and_again_is_cut_short() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["trouble::panics_come_out_as_a_child", "--exact", "--nocapture"])
        .env("PANICS_AS_A_CHILD", "yes")
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = log.lines().map(|line| line.rsplit("] ").next().unwrap()).collect();
    let again = lines.iter().filter(|line| **line == "again").count();
    let left_out =
        |line: &&str| line.strip_suffix(" more lines like these were left out")?.parse::<usize>().ok();
    // Fifty a second; another second may have begun, and a slow machine may have said so twice.
    assert!((50..200).contains(&again), "{log}");
    assert_eq!(again + lines.iter().filter_map(left_out).sum::<usize>(), 200, "{log}");
    let others: Vec<&str> =
        lines.into_iter().filter(|line| *line != "again" && left_out(line).is_none()).collect();
    let [before, panic, more, end] = others[..] else { panic!("{log}") };
    assert_eq!((before, more, end), ("before", "    hurts", "musterd: this is the end"));
    assert!(panic.starts_with("thread 'worker-7' panicked at tests/server/trouble.rs:"), "{log}");
    assert!(panic.ends_with(": it"), "{log}");
}

#[test]
fn a_pause_of_the_process_closes_no_link_that_was_well() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = "[links]\nidle_deadline = \"5s\"\nhandshake_deadline = \"8s\"\n";
    let server = Server::start(directory.path(), configuration, &[], Stdio::null());
    let device = server.enrol("kiosk-17");
    let handshaking = TcpStream::connect(server.address).unwrap();
    wait_for("the handshake to be under way", || {
        (server.status().links.handshakes_under_way == 1).then_some(())
    });
    let mut link = Connection::open(server.address, &device.tls);
    ping_is_answered(&mut link);
    server.process.signal(Signal::STOP);
    ping(&mut link);
    // Longer than either deadline: this is the pause, and nothing is waited for.
    std::thread::sleep(Duration::from_secs(10));
    server.process.signal(Signal::CONT);
    assert_eq!(link.receive().unwrap(), ToAgent::Pong);
    ping_is_answered(&mut link);
    ping_is_answered(&mut Connection::over(handshaking, &device.tls));
    let closes = server.status().links.closes;
    let is_late = |reason: &str| ["idle", "handshake_timeout"].contains(&reason);
    assert!(!closes.iter().any(|close| is_late(&close.reason)), "{closes:?}");
}
