//! `musterd run --wait`: a server that takes the place of one that is gone.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use muster::wire::id::Epoch;
use serde_json::{Value, json};

use crate::kit::{Musterd, Running, TIMEOUT, fail, musterd};

/// After this a lease that was not renewed is free.
const LEASE_SECONDS: u64 = 10;

/// A standby on this data directory; what it says is what it prints.
fn standby(data: &Path, log: &Path) -> Running {
    let listen = ["run", "--wait", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"];
    Running::start(musterd(&listen).arg("--data").arg(data), log)
}

#[test]
fn a_standby_waits_says_so_and_serves_what_was_acknowledged_when_the_other_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let server = Musterd::start(directory.path(), "");
    let data = server.data.clone();
    let device = server.enrol("kiosk");
    let mut connection = device.connect(server.address);
    connection.send_events(Epoch(5), 1..=3);
    connection.acknowledged(3).unwrap();

    let notify = directory.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let hear = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut command = musterd(&["run", "--wait", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    command.arg("--data").arg(&data).env("NOTIFY_SOCKET", &notify);
    let mut next = Running::start(&mut command, &directory.path().join("next.log"));
    let line = next.wait_for_line("standby: ");
    assert!(line.contains(&format!("is held by process {} (musterd)", server.id())), "{line}");
    assert_eq!(hear(), "READY=1", "a unit that waits has started");
    assert!(hear().starts_with("STATUS=standby: "));
    // Another is told to read its configuration, and to end.
    let mut last = standby(&data, &directory.path().join("last.log"));
    last.wait_for_line("standby: ");
    last.hang_up();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!last.ended(), "{}", last.said());
    assert!(last.end().success());

    server.kill();
    let next = Musterd::of(next, &data);
    let mut connection = device.connect(next.address);
    connection.send_events(Epoch(5), 4..=4);
    connection.acknowledged(4).unwrap();
    let events = next.ctl(&["event", "list"]);
    let sequences: Vec<_> =
        events.as_array().unwrap().iter().filter_map(|event| event["sequence"].as_u64()).collect();
    let mut ours: Vec<_> = sequences.into_iter().filter(|sequence| (1..=4).contains(sequence)).collect();
    ours.sort_unstable();
    assert_eq!(ours, [1, 2, 3, 4], "{events}");
    assert_eq!(hear(), "READY=1");
    assert!(hear().starts_with("STATUS=devices connect to "));
    next.stop();
}

#[test]
fn a_standby_makes_no_server_and_takes_a_disk_that_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("mounted");
    let mut waiting = standby(&data, &directory.path().join("standby.log"));
    let line = waiting.wait_for_line("standby: ");
    assert!(line.contains("there is no server's data in"), "{line}");
    assert!(!data.exists(), "it made a directory");
    let server = Musterd::start(directory.path(), "");
    let device = server.enrol("kiosk");
    let made = server.data.clone();
    server.stop();
    std::fs::rename(&made, &data).unwrap();
    let server = Musterd::of(waiting, &data);
    device.connect(server.address).greet();
    server.stop();
}

/// Another machine that shares the disk, whose locks do not reach this one: all that is seen of it is its
/// lease.
struct Neighbour {
    is_over: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Neighbour {
    fn new(lease: PathBuf) -> Self {
        let is_over = std::sync::Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let renew = move || {
            let mut renewals = 0;
            while !stop.load(Ordering::SeqCst) {
                renewals += 1;
                let entry =
                    json!({"holder": 7, "machine": "b", "place": "", "process": 9, "renewals": renewals});
                std::fs::write(&lease, format!("{entry:<512}")).unwrap();
                std::thread::sleep(Duration::from_millis(500));
            }
        };
        Self { is_over, thread: Some(std::thread::spawn(renew)) }
    }

    fn die(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.die();
    }
}

#[test]
fn on_a_shared_disk_a_lease_says_which_machine_serves() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = "[server]\nlease = true\n";
    let mut server = Musterd::start(directory.path(), configuration);
    let (data, lease) = (server.data.clone(), server.data.join("lease"));
    let entry: Value = serde_json::from_slice(&std::fs::read(&lease).unwrap()).unwrap();
    assert_eq!(entry["process"], server.id());

    // Another has it: nothing may be written any more, not even at the end.
    let mut neighbour = Neighbour::new(lease.clone());
    let line = server.process().wait_for_line("is lost");
    assert!(line.contains("process 9 on b has it"), "{line}");
    assert_eq!(server.process().wait().code(), Some(1));
    assert!(!server.said().contains("draining"), "{}", server.said());

    let refused = fail(musterd(&["run", "--listen", "127.0.0.1:0", "--data"]).arg(&data));
    assert!(refused.contains("in use by another musterd, process 9 on b"), "{refused}");
    let mut waiting = standby(&data, &directory.path().join("standby.log"));
    waiting.wait_for_line("is held by process 9 on b");
    neighbour.die();
    let died = Instant::now();
    let next = Musterd::of(waiting, &data);
    assert!(
        died.elapsed() + Duration::from_secs(1) > Duration::from_secs(LEASE_SECONDS),
        "it may have lived"
    );
    next.stop();

    // One that ends in order frees it.
    let server = Musterd::start(directory.path(), configuration);
    assert_ne!(std::fs::metadata(&lease).unwrap().len(), 0);
    server.stop();
    assert_eq!(std::fs::metadata(&lease).unwrap().len(), 0);
}
