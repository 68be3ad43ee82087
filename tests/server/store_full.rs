//! A database whose disk is really full, of a real server.

use crate::skip::skipped;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time before the test gives up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A small file system in memory. Unmounted when dropped.
struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    /// `None` where this user may not mount.
    fn mount(at: &'p Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"]).arg(at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ctl(data: &Path, arguments: &[&str]) -> Output {
    let server = format!("unix:{}", data.join("admin.sock").display());
    Command::new(env!("CARGO_BIN_EXE_musterctl"))
        .args(["--server", &server])
        .args(arguments)
        .output()
        .unwrap()
}

fn store_of(data: &Path) -> serde_json::Value {
    let output = ctl(data, &["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["journal"]["condition"], "ok");
    status["store"].clone()
}

#[test]
fn status_tells_of_a_store_without_room_and_of_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let store = data.join("store");
    std::fs::create_dir(&store).unwrap();
    let Some(_disk) = SmallDisk::mount(&store) else {
        skipped("a file system can't be mounted here (only root may)");
        return;
    };
    let config = data.join("musterd.toml");
    std::fs::write(&config, "[journal]\nsegment_size = \"1MiB\"\nretention_size = \"4MiB\"\n").unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_musterd"))
        .args(["run", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--config"])
        .arg(&config)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first_line = String::new();
    // Kept open: it prints more than the first line.
    let mut out = BufReader::new(server.stdout.take().unwrap());
    out.read_line(&mut first_line).unwrap();
    let _running = Running(server);
    assert!(first_line.contains("devices connect to"), "{first_line}");
    assert_eq!(store_of(data)["condition"], "ok");

    let filler = store.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let started = Instant::now();
    let refused = loop {
        let output = ctl(data, &["token", "create"]);
        if !output.status.success() {
            break output;
        }
        assert!(started.elapsed() < TIMEOUT, "tokens are stored on a full disk");
    };
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("disk is full: make room"), "{said}");
    let full = store_of(data);
    assert_eq!(full["condition"], "full", "{full}");
    assert_eq!(store_of(data)["condition"], "full", "to ask for it changes nothing");
    assert!(full["since"].is_string() && full["reason"].as_str().unwrap().contains("disk is full"), "{full}");
    let shown = String::from_utf8(ctl(data, &["status"]).stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with("store") && line.contains("NO ROOM since")), "{shown}");

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    while store_of(data)["condition"] != "ok" {
        assert!(started.elapsed() < 2 * TIMEOUT, "there is room again, and nobody says so");
    }
    let output = ctl(data, &["token", "create"]);
    assert!(output.status.success(), "{output:?}");
}
