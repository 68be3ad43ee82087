//! Backup and restore of a real server under load, and kills in the middle of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::kit::{Connection, Device, Musterd, TIMEOUT, event, fail, musterd, succeed, wait_for};
use muster::wire::event::Severity;
use muster::wire::id::Epoch;
use serde_json::Value;

/// Devices that send events.
const DEVICES: usize = 4;

/// Events that each sends in a second: a thousand together.
const EVENTS_PER_SECOND: u64 = 250;

/// Events in one message.
const EVENTS_PER_MESSAGE: u64 = 25;

/// Attempts to kill something in the middle of its work.
const ATTEMPTS: usize = 20;

/// A server with a small journal.
fn serve(directory: &Path, data: &Path, configuration: &str) -> Musterd {
    Musterd::start_on(directory, data, &configured(configuration))
}

fn configured(more: &str) -> String {
    format!("[journal]\nsegment_size = \"1MiB\"\nretention_size = \"64MiB\"\n{more}")
}

fn backup(file: &Path, data: &Path) -> Command {
    let mut backup = musterd(&["backup"]);
    backup.arg(file).arg("--data").arg(data);
    backup
}

fn restore(file: &Path, data: &Path) -> Command {
    let mut restore = musterd(&["restore"]);
    restore.arg(file).arg("--data").arg(data);
    restore
}

/// Devices that send events all the time, and what each of them was told is durable.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, devices: &[Device]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut acknowledged, mut threads) = (Vec::new(), Vec::new());
        for device in devices {
            let (tls, stop, through) = (device.fresh_tls(), stop.clone(), Arc::new(AtomicU64::new(0)));
            acknowledged.push(through.clone());
            threads.push(std::thread::spawn(move || {
                let mut connection = Connection::open(address, &tls);
                let begun = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let sent = through.load(Ordering::Relaxed);
                    // At the given rate, as far as the machine keeps up.
                    while begun.elapsed() < Duration::from_millis(sent * 1_000 / EVENTS_PER_SECOND) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let to = sent + EVENTS_PER_MESSAGE;
                    match send_and_wait(&mut connection, sent + 1, to) {
                        Some(reached) => through.store(reached, Ordering::Relaxed),
                        // The server is behind, or has gone.
                        None => match Connection::try_open(address, &tls) {
                            Ok(again) => connection = again,
                            Err(_) => return,
                        },
                    }
                }
            }));
        }
        Self { stop, acknowledged, threads }
    }

    fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|through| through.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every device was told of this many more.
    fn wait_for_more(&self, more: u64) {
        let before = self.acknowledged();
        wait_for("events to be acknowledged", || {
            let now = self.acknowledged();
            now.iter().zip(&before).all(|(now, before)| *now >= before + more).then_some(())
        });
    }

    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged = self.acknowledged.clone();
        for thread in self.threads {
            thread.join().unwrap();
        }
        acknowledged.iter().map(|through| through.load(Ordering::Relaxed)).collect()
    }
}

/// The history that the devices' numbers count in.
const SPOOL_EPOCH: Epoch = Epoch(5);

/// Sends events and waits until they are acknowledged; `None`: the server has gone, or has too much to do.
fn send_and_wait(connection: &mut Connection, from: u64, to: u64) -> Option<u64> {
    connection.send_events(SPOOL_EPOCH, from..=to);
    connection.acknowledged(to)
}

/// The events of each device in a stopped server's journal; damage fails.
fn stored(data: &Path) -> BTreeMap<String, BTreeSet<u64>> {
    let verified = succeed(musterd(&["journal", "verify", "--json", "--data"]).arg(data));
    assert_eq!(serde_json::from_str::<Value>(&verified).unwrap()["damages"], serde_json::json!([]));
    let dumped = succeed(musterd(&["journal", "dump", "--json", "--data"]).arg(data));
    let mut stored: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for record in serde_json::from_str::<Vec<Value>>(&dumped).unwrap() {
        let sequence = record["sequence"].as_u64().unwrap();
        // Number 0 is the server's own.
        if sequence != 0 {
            let is_new =
                stored.entry(record["device"].as_str().unwrap().into()).or_default().insert(sequence);
            assert!(is_new, "twice: {record}");
        }
    }
    stored
}

fn check_stored(data: &Path, devices: &[Device], acknowledged: &[u64]) {
    let stored = stored(data);
    for (device, through) in devices.iter().zip(acknowledged) {
        let of_device = &stored[&device.enrolled.device.to_string()];
        let missing: Vec<u64> = (1..=*through).filter(|number| !of_device.contains(number)).collect();
        assert!(missing.is_empty(), "acknowledged and not there: {missing:?}");
    }
}

/// A server on `data` below the directory, with devices that have brought 500 events at least and go on.
fn loaded(directory: &Path) -> (Musterd, Vec<Device>, Load) {
    let server = serve(directory, &directory.join("data"), "");
    let devices = server.enrol_many(DEVICES);
    let load = Load::start(server.address, &devices);
    load.wait_for_more(500);
    (server, devices, load)
}

#[test]
fn a_backup_under_load_is_whole_and_is_served_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (server, devices, load) = loaded(directory.path());
    let before = load.acknowledged();
    let said = succeed(&mut backup(&at("backup.tar"), &at("data")));
    assert!(said.contains("of a running server") && said.contains("4 devices"), "{said}");
    assert_eq!(std::fs::metadata(at("backup.tar")).unwrap().permissions().mode() & 0o777, 0o600);
    let rows = server.ctl(&["audit", "list"]);
    assert_eq!(rows.as_array().unwrap().last().unwrap()["action"], "GET /v1/backup", "all keys are in it");
    load.wait_for_more(1);
    let epoch = server.ctl(&["status"])["server_epoch"].clone();

    server.kill();
    let acknowledged = load.end();
    succeed(&mut restore(&at("backup.tar"), &at("restored")));
    check_stored(&at("restored"), &devices, &before);
    check_stored(&at("data"), &devices, &acknowledged);
    let refused = fail(&mut restore(&at("backup.tar"), &at("restored")));
    assert!(refused.contains("is not empty"), "{refused}");

    let server = serve(directory.path(), &at("restored"), "");
    let status = server.ctl(&["status"]);
    assert_eq!(status["devices"]["known"], DEVICES);
    assert_ne!(status["server_epoch"], epoch, "it is another one");
    // Devices know it again, and what they send is stored.
    for (device, through) in devices.iter().zip(&acknowledged) {
        let mut connection = Connection::open(server.address, &device.fresh_tls());
        assert_eq!(send_all(&mut connection, *through + 10), *through + 10);
    }
    server.kill();
    let all: Vec<u64> = acknowledged.iter().map(|through| through + 10).collect();
    check_stored(&at("restored"), &devices, &all);

    // That of a stopped server holds all of it.
    let said = succeed(&mut backup(&at("backup.tar"), &at("restored")));
    assert!(said.contains("of a stopped server"), "{said}");
    succeed(&mut restore(&at("backup.tar"), &at("again")));
    check_stored(&at("again"), &devices, &all);
}

/// A device that has all of its events still sends them from the first one on.
fn send_all(connection: &mut Connection, to: u64) -> u64 {
    let mut sent = 0;
    while sent < to {
        let through = (sent + EVENTS_PER_MESSAGE).min(to);
        let events = (sent + 1..=through).map(|number| (number, event(Severity::Info, "an event")));
        connection.send_numbered(SPOOL_EPOCH, to, events);
        sent = through;
    }
    connection.acknowledged(to).unwrap()
}

/// Kills a process once `is_at_it`; whether it was in the middle.
fn kill_in_the_middle(child: &mut Child, is_at_it: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if is_at_it() {
            child.kill().unwrap();
            return !child.wait().unwrap().success();
        }
        assert!(started.elapsed() < TIMEOUT);
        std::thread::yield_now();
    }
}

#[test]
fn kills_in_the_middle_leave_the_old_backup_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (mut server, _, load) = loaded(directory.path());
    succeed(&mut backup(&at("backup.tar"), &at("data")));
    let old = std::fs::read(at("backup.tar")).unwrap();

    // The command. Its rest looks like nothing, unless all of it was written just before.
    let mut was_killed = false;
    for _ in 0..ATTEMPTS {
        let mut killed = backup(&at("backup.tar"), &at("data")).stdout(Stdio::null()).spawn().unwrap();
        if kill_in_the_middle(&mut killed, || at("backup.tar.partial").exists()) {
            let looked_at = restore(&at("backup.tar.partial"), &at("nothing")).output().unwrap();
            was_killed = String::from_utf8(looked_at.stderr).unwrap().contains("is no whole backup");
        }
        if was_killed {
            break;
        }
        std::fs::write(at("backup.tar"), &old).unwrap();
        let _ = std::fs::remove_dir_all(at("nothing"));
    }
    assert!(was_killed, "it was always done before it could be killed");
    assert_eq!(std::fs::read(at("backup.tar")).unwrap(), old);
    assert_eq!(std::fs::read_dir(at("nothing")).unwrap().count(), 0);
    // The next one is made as if nothing had been, once the server has noticed that nobody reads the last.
    wait_for("another backup", || {
        backup(&at("backup.tar"), &at("data")).output().unwrap().status.success().then_some(())
    });
    assert!(!at("backup.tar.partial").exists());
    load.wait_for_more(1);
    load.end();

    // The server.
    let old = std::fs::read(at("backup.tar")).unwrap();
    let mut has_failed = false;
    for _ in 0..ATTEMPTS {
        let mut cut_off = backup(&at("backup.tar"), &at("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        kill_in_the_middle(&mut server.process().child, || at("backup.tar.partial").exists());
        let status = cut_off.wait().unwrap();
        has_failed = status.code() == Some(1);
        if has_failed {
            break;
        }
        std::fs::write(at("backup.tar"), &old).unwrap();
        server = serve(directory.path(), &at("data"), "");
    }
    assert!(has_failed, "it was always done before the server could be killed");
    assert_eq!(std::fs::read(at("backup.tar")).unwrap(), old);
    assert!(!at("backup.tar.partial").exists());
}

#[test]
fn a_half_restored_directory_is_no_server() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (server, devices, load) = loaded(directory.path());
    succeed(&mut backup(&at("backup.tar"), &at("data")));
    load.end();
    server.kill();
    let half = at("half");
    let mark = half.join("restore.unfinished");
    let mut was_killed = false;
    for _ in 0..ATTEMPTS {
        let mut killed = restore(&at("backup.tar"), &half).stdout(Stdio::null()).spawn().unwrap();
        kill_in_the_middle(&mut killed, || mark.exists());
        was_killed = mark.exists();
        if was_killed {
            break;
        }
        std::fs::remove_dir_all(&half).unwrap();
    }
    assert!(was_killed, "it was always done before it could be killed");
    let refused = fail(musterd(&["run", "--listen", "127.0.0.1:0", "--data"]).arg(&half));
    assert!(refused.contains("half is only half restored: delete it and restore again"), "{refused}");
    let refused = fail(&mut restore(&at("backup.tar"), &half));
    assert!(refused.contains("is not empty"), "{refused}");
    std::fs::remove_dir_all(&half).unwrap();
    succeed(&mut restore(&at("backup.tar"), &half));
    check_stored(&half, &devices, &[500; DEVICES]);
    let server = serve(directory.path(), &half, "");
    assert_eq!(server.ctl(&["status"])["devices"]["known"], DEVICES);
}

#[test]
fn what_is_no_whole_backup_is_refused_and_makes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let server = serve(directory.path(), &at("data"), "");
    succeed(&mut backup(&at("backup.tar"), &at("data")));
    server.kill();
    let whole = std::fs::read(at("backup.tar")).unwrap();
    let mut flipped = whole.clone();
    // In the database, behind its header.
    let database = whole.windows(16).position(|bytes| bytes == b"SQLite format 3\0").unwrap();
    flipped[database + 20_000] ^= 1;
    for (bytes, what) in [
        (&whole[..whole.len() / 2], "is no whole backup"),
        (&whole[..whole.len() - 3_000], "is no whole backup"),
        (&flipped[..], "the hash of a part is not what it was"),
        (b"something else".as_slice(), "is no whole backup"),
        (b"".as_slice(), "there is nothing in it"),
    ] {
        std::fs::write(at("bad.tar"), bytes).unwrap();
        let refused = fail(&mut restore(&at("bad.tar"), &at("new")));
        assert!(refused.contains(what), "{what}: {refused}");
        assert_eq!(std::fs::read_dir(at("new")).unwrap().count(), 0, "{what}");
    }
    let refused = fail(&mut restore(&at("nowhere.tar"), &at("new")));
    assert!(refused.contains("can't read") && refused.contains("nowhere.tar"), "{refused}");
    let refused = fail(&mut backup(&at("data"), &at("data")));
    assert!(refused.contains("is no file"), "{refused}");
}

#[test]
fn scheduled_backups_are_made_kept_and_their_failures_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let kept = at("backups");
    std::fs::create_dir(&kept).unwrap();
    for old in [
        "muster-20240101T000000Z.tar",
        "muster-20240102T000000Z.tar",
        "muster-20240103T000000Z.tar",
        "mine.tar",
    ] {
        std::fs::write(kept.join(old), b"old").unwrap();
    }
    std::fs::write(kept.join("muster-20240104T000000Z.tar.partial"), b"killed").unwrap();
    let settings =
        |directory: &Path| format!("[backup]\ndirectory = \"{}\"\nkeep = 2\n", directory.display());
    let server = serve(directory.path(), &at("data"), &settings(&kept));
    let made = wait_for("a scheduled backup", || {
        let status = server.ctl(&["status"])["backup"].clone();
        let last = status["last_file"].as_str().filter(|file| !file.contains("/muster-2024"))?.to_owned();
        assert_eq!(status["failing_since"], Value::Null);
        assert!(status["next_at"].is_string());
        Some(last)
    });
    let names = || -> BTreeSet<String> {
        std::fs::read_dir(&kept)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let name = Path::new(&made).file_name().unwrap().to_str().unwrap().to_owned();
    let expected: BTreeSet<String> =
        [name.as_str(), "muster-20240103T000000Z.tar", "mine.tar"].map(String::from).into();
    wait_for("old backups to be deleted", || (names() == expected).then_some(()));
    succeed(&mut restore(Path::new(&made), &at("restored")));

    // A failure is told.
    std::fs::write(at("no-directory"), b"").unwrap();
    std::fs::write(at("musterd.toml"), configured(&settings(&at("no-directory")))).unwrap();
    server.signal(rustix::process::Signal::HUP);
    let status = wait_for("a failure", || {
        let status = server.ctl(&["status"])["backup"].clone();
        status["failing_since"].is_string().then_some(status)
    });
    assert!(status["reason"].as_str().unwrap().contains("no-directory"), "{status}");
    wait_for("an event", || {
        let events = server.ctl(&["event", "list"]);
        events
            .as_array()
            .unwrap()
            .iter()
            .any(|event| event["kind"] == "backup" && event["severity"] == "error")
            .then_some(())
    });
    assert_eq!(names(), expected, "nothing is deleted for one that was not made");
}
