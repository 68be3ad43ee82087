//! `musterd` and `muster-agent` as processes in trouble: a log that nobody reads, floods of strangers, a
//! pause.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use muster::logging;
use muster::wire::message::{Ping, ToAgent, ToServer};

use crate::kit::{Connection, Fixture, Musterd, Running, Site, TIMEOUT, eventually, musterd, wait_for};

/// Strangers that come and go, some of them with a request that is not TLS.
fn flood(server: &Musterd, count: usize) {
    for number in 0..count {
        let mut stranger = TcpStream::connect_timeout(&server.address, TIMEOUT).unwrap();
        if number % 3 == 0 {
            // The server may have closed already.
            let _ = stranger.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        }
    }
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
    let server = Musterd::start_with(directory.path(), &[("RUST_LOG", "debug")], log);
    eventually("lines are dropped", || {
        flood(&server, 500);
        server.status().log.lines_dropped > 0
    });
    let device = server.enrol("kiosk-17");
    device.connect(&server).greet();
    assert!(server.status().log.lines_dropped > 0);
    server.stop();
}

#[test]
fn an_agent_serves_on_though_nobody_reads_its_log() {
    let fixture = Fixture::start();
    let site = Site::at(fixture.address());
    assert!(site.enroll(&fixture.token(1).to_string()).status.success());
    let (_reader, log) = full_pipe();
    let agent = Running::start_with(&mut site.agent_command(&["run"]), &site.path("agent.log"), log);
    eventually("a sync", || fixture.server.counters().syncs.get() > 0);
    assert_eq!(agent.end().code(), Some(0));
}

#[test]
fn strangers_are_counted_in_the_log_and_have_no_lines_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let server = Musterd::start_with(directory.path(), &[], File::create(&log).unwrap());
    let begun = Instant::now();
    flood(&server, 3_000);
    let links = wait_for("the last stranger to go", || {
        Some(server.status().links).filter(|links| links.open == 0 && links.accepted >= 3_000)
    });
    assert_eq!(links.strangers, links.accepted);
    server.stop();
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
    let server = Musterd::start_with(directory.path(), &environment, log.try_clone().unwrap());
    server.stop();
    let failed = musterd(&["run", "--listen", "192.0.2.1:1"])
        .args([Path::new("--data"), &directory.path().join("other")])
        .envs(environment)
        .stderr(log)
        .status()
        .unwrap();
    assert_eq!(failed.code(), Some(1));
    let log = std::fs::read_to_string(path).unwrap();
    assert!(log.contains("\n<6>muster::musterd::run: stopped\n"), "{log}");
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
    let server = Musterd::start(directory.path(), configuration);
    let device = server.enrol("kiosk-17");
    let handshaking = TcpStream::connect(server.address).unwrap();
    eventually("the handshake is under way", || server.status().links.handshakes_under_way == 1);
    let mut link = device.connect(&server);
    link.greet();
    server.pause();
    link.send(&ToServer::Ping(Ping::default()));
    // Longer than either deadline: this is the pause, and nothing is waited for.
    std::thread::sleep(Duration::from_secs(10));
    server.go_on();
    assert_eq!(link.read(), ToAgent::Pong);
    link.greet();
    Connection::over(handshaking, &device.tls).greet();
    let closes = server.status().links.closes;
    let is_late = |reason: &str| ["idle", "handshake_timeout"].contains(&reason);
    assert!(!closes.iter().any(|close| is_late(&close.reason)), "{closes:?}");
}
